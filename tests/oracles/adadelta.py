"""Adadelta.

Source: M. D. Zeiler, "ADADELTA: An Adaptive Learning Rate Method", arXiv:1212.5701, algorithm 1.

With g the gradient, γ the rate, t = 1, 2, ... the parameter's own steps and weights w_i = (1-ρ) ρ^(t-i):

    v_t = Σ_{i=1..t} w_i g_i²
    D_{t-1} = Σ_{i=1..t-1} (1-ρ) ρ^(t-1-i) Δ_i²
    Δ_t = √(D_{t-1} + ε) / √(v_t + ε) · g_t
    θ_t = θ_{t-1} - γ Δ_t

Where PyTorch differs from the paper:
- there is a rate γ outside Δ (the paper has none: γ = 1); D averages Δ without it;
- weight decay λ is L2: g_i is the raw gradient + λ θ_{i-1}; under ``maximize`` only the raw gradient
  changes its sign.
"""

from collections.abc import Sequence

import numpy as np


def run(
    theta0: np.ndarray,
    gradients: Sequence[np.ndarray | None],
    *,
    factors: Sequence[float] | None = None,
    lr: float = 1.0,
    rho: float = 0.9,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> list[np.ndarray]:
    """Return θ after each gradient.

    With ρ = 3/4 and ε = 4, v = 48/4 = 12, so that Δ = √4/√16 · √48 = √12:

    >>> path = run(np.array(10.0), [np.sqrt(48.0)], rho=0.75, eps=4.0)
    >>> round(float((10 - path[0]) ** 2), 12)
    12.0
    """
    theta = np.array(theta0, dtype=np.float64)
    history: list[np.ndarray] = []  # g_1 ... g_t
    deltas: list[np.ndarray] = []  # Δ_1 ... Δ_t
    path = []
    for gradient, factor in zip(
        gradients, [1.0] * len(gradients) if factors is None else factors, strict=True
    ):
        if gradient is not None:
            raw = np.asarray(gradient, dtype=np.float64)
            history.append((-raw if maximize else raw) + weight_decay * theta)
            t = len(history)
            second = sum((1 - rho) * rho ** (t - i) * g**2 for i, g in enumerate(history, start=1))
            earlier = sum((1 - rho) * rho ** (t - 1 - i) * d**2 for i, d in enumerate(deltas, start=1))
            deltas.append(np.sqrt(earlier + eps) / np.sqrt(second + eps) * history[-1])
            theta = theta - lr * factor * deltas[-1]
        path.append(np.array(theta))
    return path

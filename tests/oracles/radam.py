"""RAdam: Adam with the variance of its adaptive rate rectified.

Source: L. Liu, H. Jiang, P. He, W. Chen, X. Liu, J. Gao, J. Han, "On the Variance of the Adaptive Learning
Rate and Beyond", arXiv:1908.03265, algorithm 2.

With g the gradient, γ the rate and t = 1, 2, ... the parameter's own steps:

    m̂_t = Σ_{i=1..t} (1-β₁) β₁^(t-i) g_i  / (1-β₁^t)
    v_t = Σ_{i=1..t} (1-β₂) β₂^(t-i) g_i²
    ρ_∞ = 2/(1-β₂) - 1,    ρ_t = ρ_∞ - 2tβ₂^t/(1-β₂^t)
    r_t = √[(ρ_t-4)(ρ_t-2)ρ_∞ / ((ρ_∞-4)(ρ_∞-2)ρ_t)]
    θ_t = θ_{t-1} - γ r_t m̂_t √(1-β₂^t) / (√v_t + ε)     where ρ_t > 5, else  θ_{t-1} - γ m̂_t

Where PyTorch differs from the paper:
- the bound on ρ_t is 5 (4 in the paper: there r_t is 0, and the first steps beyond it are tiny);
- ε (absent from the paper) is added to √v_t before the correction for bias, not after;
- weight decay λ is L2: g_i is the raw gradient + λ θ_{i-1}, and under ``maximize`` only the raw gradient
  changes its sign; with ``decoupled_weight_decay`` the step starts from (1-γλ) θ_{t-1} instead.

ρ_t is a difference of two numbers near ρ_∞: for β₂ = 0.999 four to five digits are lost at the first steps
that are rectified, so that another way to compute ρ_t may differ by some 1e-12 there.
"""

from collections.abc import Sequence

import numpy as np


def run(
    theta0: np.ndarray,
    gradients: Sequence[np.ndarray | None],
    *,
    factors: Sequence[float] | None = None,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
) -> list[np.ndarray]:
    """Return θ after each gradient.

    The first step has ρ_1 = 1 whatever β₂, and is plain descent:

    >>> [float(theta) for theta in run(np.array(10.0), [np.array(4.0)], lr=0.5, betas=(0.5, 0.75))]
    [8.0]
    """
    beta1, beta2 = betas
    longest = 2 / (1 - beta2) - 1
    theta = np.array(theta0, dtype=np.float64)
    history: list[np.ndarray] = []  # g_1 ... g_t
    path = []
    for gradient, factor in zip(
        gradients, [1.0] * len(gradients) if factors is None else factors, strict=True
    ):
        if gradient is not None:
            rate = lr * factor
            raw = np.asarray(gradient, dtype=np.float64)
            raw = -raw if maximize else raw
            history.append(raw if decoupled_weight_decay else raw + weight_decay * theta)
            t = len(history)
            first = sum((1 - beta1) * beta1 ** (t - i) * g for i, g in enumerate(history, start=1))
            second = sum((1 - beta2) * beta2 ** (t - i) * g**2 for i, g in enumerate(history, start=1))
            direction = first / (1 - beta1**t)
            length = longest - 2 * t * beta2**t / (1 - beta2**t)
            if length > 5:
                square = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
                adapted = np.sqrt(1 - beta2**t) / (np.sqrt(second) + eps)
                direction = np.sqrt(square) * adapted * direction
            shrink = 1 - rate * weight_decay if decoupled_weight_decay else 1.0
            theta = shrink * theta - rate * direction
        path.append(np.array(theta))
    return path

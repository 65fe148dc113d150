"""Gradient descent with momentum.

Sources: B. T. Polyak, "Some methods of speeding up the convergence of iteration methods", 1964 (heavy ball);
I. Sutskever, J. Martens, G. Dahl, G. Hinton, "On the importance of initialization and momentum in deep
learning", ICML 2013 (Nesterov's momentum in the form used in training).

With g the gradient, μ the momentum, τ the dampening, γ the rate and t = 1, 2, ... the parameter's own steps:

    b_t = μ^(t-1) g_1 + (1-τ) Σ_{i=2..t} μ^(t-i) g_i
    θ_t = θ_{t-1} - γ b_t                  (Nesterov: θ_{t-1} - γ (g_t + μ b_t))

``buffer="mean"`` is the exponential average instead, without a special first step and without dampening:

    b_t = Σ_{i=1..t} (1-μ) μ^(t-i) g_i
    θ_t = θ_{t-1} - γ b_t                  (Nesterov: θ_{t-1} - γ ((1-μ) g_t + μ b_t))

Where PyTorch differs from the papers:
- γ stands outside the sum (in both papers inside: the same only while γ is constant);
- dampening is PyTorch's own: it spares the first gradient, and does nothing when μ = 0;
- Nesterov's step is evaluated at the shifted point, which PyTorch calls θ;
- weight decay λ is L2: g_i is the raw gradient + λ θ_{i-1}; under ``maximize`` only the raw gradient
  changes its sign, so that the decay still shrinks θ.
"""

from collections.abc import Sequence

import numpy as np


def run(
    theta0: np.ndarray,
    gradients: Sequence[np.ndarray | None],
    *,
    factors: Sequence[float] | None = None,
    lr: float = 1e-3,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    buffer: str = "sum",
    maximize: bool = False,
) -> list[np.ndarray]:
    """Return θ after each gradient.

    >>> [float(theta) for theta in run(np.array(10.0), [np.array(2.0), np.array(2.0)], lr=0.5, momentum=0.5)]
    [9.0, 7.5]
    """
    if buffer not in ("sum", "mean") or (buffer == "mean" and dampening != 0):
        raise ValueError(f"no buffer {buffer!r} with dampening {dampening}")
    theta = np.array(theta0, dtype=np.float64)
    history: list[np.ndarray] = []  # g_1 ... g_t
    path = []
    for gradient, factor in zip(
        gradients, [1.0] * len(gradients) if factors is None else factors, strict=True
    ):
        if gradient is not None:
            raw = np.asarray(gradient, dtype=np.float64)
            history.append((-raw if maximize else raw) + weight_decay * theta)
            t = len(history)
            if buffer == "mean":
                new = (1 - momentum) * history[-1]
                b = sum((1 - momentum) * momentum ** (t - i) * g for i, g in enumerate(history, start=1))
            elif momentum == 0:
                new = b = history[-1]
            else:
                new = history[-1]
                b = momentum ** (t - 1) * history[0]
                for i in range(2, t + 1):
                    b = b + (1 - dampening) * momentum ** (t - i) * history[i - 1]
            direction = new + momentum * b if nesterov else b
            theta = theta - lr * factor * direction
        path.append(np.array(theta))
    return path

"""AdaMax: Adam with the largest instead of the mean square.

Source: D. P. Kingma, J. Ba, "Adam: A Method for Stochastic Optimization", arXiv:1412.6980, algorithm 2
(section 7.1).

With g the gradient, γ the rate and t = 1, 2, ... the parameter's own steps:

    m̂_t = Σ_{i=1..t} (1-β₁) β₁^(t-i) g_i  / (1-β₁^t)
    u_t = max_{i=1..t} β₂^(t-i) (|g_i| + ε)
    θ_t = θ_{t-1} - γ m̂_t / u_t

Where PyTorch differs from the paper:
- ε is added to each |g_i|, so that u_t is not 0 (the paper has u_t = max(β₂ u_{t-1}, |g_t|) without ε);
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
    lr: float = 2e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> list[np.ndarray]:
    """Return θ after each gradient.

    A gradient of 8, then none of it: m̂ = 8 and 2/(3/4), u = 8 and 4.

    >>> gradients = [np.array(8.0), np.array(0.0)]
    >>> path = run(np.array(10.0), gradients, lr=1.5, betas=(0.5, 0.5), eps=0.0)
    >>> [float(theta) for theta in path]
    [8.5, 7.5]
    """
    beta1, beta2 = betas
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
            first = sum((1 - beta1) * beta1 ** (t - i) * g for i, g in enumerate(history, start=1))
            m_hat = first / (1 - beta1**t)
            largest = np.max(
                [beta2 ** (t - i) * (np.abs(g) + eps) for i, g in enumerate(history, start=1)], axis=0
            )
            theta = theta - lr * factor * m_hat / largest
        path.append(np.array(theta))
    return path

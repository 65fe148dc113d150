"""LAMB: Adam's direction with a rate for each tensor.

Source: Y. You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes",
arXiv:1904.00962, algorithm 2 with φ(x) = x.

With g the raw gradient, γ the rate, λ the decay, t = 1, 2, ... the parameter's own steps, and ‖·‖ the
Euclidean norm of the whole tensor:

    m̂_t = Σ_{i=1..t} (1-β₁) β₁^(t-i) g_i  / (1-β₁^t)
    v̂_t = Σ_{i=1..t} (1-β₂) β₂^(t-i) g_i² / (1-β₂^t)
    r_t = m̂_t / (√v̂_t + ε) + λ θ_{t-1}
    θ_t = θ_{t-1} - γ (‖θ_{t-1}‖ / ‖r_t‖) r_t,  the ratio being 1 if either norm is 0

Departures from the paper: the ratio of 1 for a norm of 0 is not in it; ``maximize`` turns the sign of g and
leaves the decay alone.
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
    eps: float = 1e-6,
    weight_decay: float = 0.01,
    maximize: bool = False,
) -> list[np.ndarray]:
    """Return θ after each gradient.

    r = (1, 1, -1, 1) has norm 2 and θ has norm 10, so that with γ = 1/10 each entry moves by ½:

    >>> theta0, gradient = np.array([1.0, 1.0, 7.0, 7.0]), np.array([4.0, 5.0, -6.0, 7.0])
    >>> run(theta0, [gradient], lr=0.1, betas=(0.5, 0.75), eps=0.0, weight_decay=0.0)[0].tolist()
    [0.5, 0.5, 7.5, 6.5]
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
            history.append(-raw if maximize else raw)
            t = len(history)
            first = sum((1 - beta1) * beta1 ** (t - i) * g for i, g in enumerate(history, start=1))
            second = sum((1 - beta2) * beta2 ** (t - i) * g**2 for i, g in enumerate(history, start=1))
            m_hat = first / (1 - beta1**t)
            v_hat = second / (1 - beta2**t)
            direction = m_hat / (np.sqrt(v_hat) + eps) + weight_decay * theta
            theta_norm, direction_norm = np.sqrt(np.sum(theta**2)), np.sqrt(np.sum(direction**2))
            trust = theta_norm / direction_norm if theta_norm > 0 and direction_norm > 0 else 1.0
            theta = theta - lr * factor * trust * direction
        path.append(np.array(theta))
    return path

"""LARS: momentum with a rate for each tensor.

Source: Y. You, I. Gitman, B. Ginsburg, "Large Batch Training of Convolutional Networks", arXiv:1708.03888,
algorithm 1.

With g the raw gradient, γ_t the rate at step t, λ the decay, μ the momentum, η ``trust_coefficient``,
t = 1, 2, ... the parameter's own steps, and ‖·‖ the Euclidean norm of the whole tensor:

    q_i = η ‖θ_{i-1}‖ / (‖g_i‖ + λ ‖θ_{i-1}‖ + ε),  1 if ‖θ_{i-1}‖ or ‖g_i‖ is 0
    d_i = γ_i q_i (g_i + λ θ_{i-1})
    b_t = Σ_{i=1..t} μ^(t-i) d_i
    θ_t = θ_{t-1} - b_t                  (Nesterov: θ_{t-1} - (d_t + μ b_t))

Departures from the paper: ε, the ratio of 1 for a norm of 0, and Nesterov's form are not in it; ``maximize``
turns the sign of g and leaves the decay alone. The rate is inside the sum, as in the paper.
"""

from collections.abc import Sequence

import numpy as np


def run(
    theta0: np.ndarray,
    gradients: Sequence[np.ndarray | None],
    *,
    factors: Sequence[float] | None = None,
    lr: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    trust_coefficient: float = 0.001,
    eps: float = 1e-8,
    nesterov: bool = False,
    maximize: bool = False,
) -> list[np.ndarray]:
    """Return θ after each gradient.

    ‖θ‖ = 10 over ‖g‖ = 5 gives q = ½ · 2 = 1, so that θ moves by ½ g:

    >>> theta0, gradient = np.array([6.0, 8.0]), np.array([3.0, 4.0])
    >>> run(theta0, [gradient], lr=0.5, trust_coefficient=0.5, eps=0.0)[0].tolist()
    [4.5, 6.0]
    """
    theta = np.array(theta0, dtype=np.float64)
    scaled: list[np.ndarray] = []  # d_1 ... d_t
    path = []
    for gradient, factor in zip(
        gradients, [1.0] * len(gradients) if factors is None else factors, strict=True
    ):
        if gradient is not None:
            raw = np.asarray(gradient, dtype=np.float64)
            raw = -raw if maximize else raw
            theta_norm, raw_norm = np.sqrt(np.sum(theta**2)), np.sqrt(np.sum(raw**2))
            trust = 1.0
            if theta_norm > 0 and raw_norm > 0:
                trust = trust_coefficient * theta_norm / (raw_norm + weight_decay * theta_norm + eps)
            scaled.append(lr * factor * trust * (raw + weight_decay * theta))
            t = len(scaled)
            buffer = sum(momentum ** (t - i) * d for i, d in enumerate(scaled, start=1))
            theta = theta - (scaled[-1] + momentum * buffer if nesterov else buffer)
        path.append(np.array(theta))
    return path

"""Adagrad, diagonal form.

Source: J. Duchi, E. Hazan, Y. Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic
Optimization", JMLR 12 (2011), 2121-2159.

With g the gradient, γ the rate and t = 1, 2, ... the parameter's own steps:

    θ_t = θ_{t-1} - γ / (1 + (t-1) decay) · g_t / (√(s_0 + Σ_{i=1..t} g_i²) + ε)

Where PyTorch differs from the paper:
- the constant outside the root (δ in the paper) is ε = 1e-10;
- the sum may start at s_0 (``initial_accumulator_value``), inside the root;
- the rate may decay as 1/(1 + (t-1) ``lr_decay``); the first step is taken at the full rate;
- weight decay λ is L2: g_i is the raw gradient + λ θ_{i-1}, and so enters the sum of squares; under
  ``maximize`` only the raw gradient changes its sign.
"""

from collections.abc import Sequence

import numpy as np


def run(
    theta0: np.ndarray,
    gradients: Sequence[np.ndarray | None],
    *,
    factors: Sequence[float] | None = None,
    lr: float = 1e-2,
    lr_decay: float = 0.0,
    weight_decay: float = 0.0,
    initial_accumulator_value: float = 0.0,
    eps: float = 1e-10,
    maximize: bool = False,
) -> list[np.ndarray]:
    """Return θ after each gradient.

    >>> [float(theta) for theta in run(np.array(10.0), [np.array(3.0), np.array(4.0)], lr=1.0, eps=0.0)]
    [9.0, 8.2]
    """
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
            sum_of_squares = initial_accumulator_value + sum(g**2 for g in history)
            rate = lr * factor / (1 + (t - 1) * lr_decay)
            theta = theta - rate * history[-1] / (np.sqrt(sum_of_squares) + eps)
        path.append(np.array(theta))
    return path

"""Lion: the sign of an interpolation between momentum and gradient.

Source: X. Chen et al., "Symbolic Discovery of Optimization Algorithms", arXiv:2302.06675, algorithm 2.

With g the raw gradient, γ the rate, λ the decay and t = 1, 2, ... the parameter's own steps:

    m_{t-1} = Σ_{i=1..t-1} (1-β₂) β₂^(t-1-i) g_i
    θ_t = (1-γλ) θ_{t-1} - γ sign(β₁ m_{t-1} + (1-β₁) g_t)

No bias is corrected, and there is no ε; sign(0) = 0. Departures: none; ``maximize`` turns the sign of g and
leaves the decay alone.
"""

from collections.abc import Sequence

import numpy as np


def run(
    theta0: np.ndarray,
    gradients: Sequence[np.ndarray | None],
    *,
    factors: Sequence[float] | None = None,
    lr: float = 1e-4,
    betas: tuple[float, float] = (0.9, 0.99),
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> list[np.ndarray]:
    """Return θ after each gradient.

    The second gradient has the other sign; m = ½ · 8 = 4 and ½ · 4 - ½ · 3 is still above 0:

    >>> gradients = [np.array(8.0), np.array(-3.0)]
    >>> [float(theta) for theta in run(np.array(10.0), gradients, lr=1.0, betas=(0.5, 0.5))]
    [9.0, 8.0]
    """
    beta1, beta2 = betas
    theta = np.array(theta0, dtype=np.float64)
    history: list[np.ndarray] = []  # g_1 ... g_{t-1}
    path = []
    for gradient, factor in zip(
        gradients, [1.0] * len(gradients) if factors is None else factors, strict=True
    ):
        if gradient is not None:
            rate = lr * factor
            raw = np.asarray(gradient, dtype=np.float64)
            raw = -raw if maximize else raw
            t = len(history) + 1
            earlier = sum((1 - beta2) * beta2 ** (t - 1 - i) * g for i, g in enumerate(history, start=1))
            theta = (1 - rate * weight_decay) * theta - rate * np.sign(beta1 * earlier + (1 - beta1) * raw)
            history.append(raw)
        path.append(np.array(theta))
    return path

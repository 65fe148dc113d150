"""Rprop: a step size for each coordinate, changed by the signs of the gradient alone.

Sources: M. Riedmiller, H. Braun, "A direct adaptive method for faster backpropagation learning: the RPROP
algorithm", ICNN 1993; C. Igel, M. Hüsken, "Improving the Rprop Learning Algorithm", NC 2000 (iRprop-).

Each coordinate by itself, with g_t its gradient, t = 1, 2, ... the parameter's own steps, p_0 = 0 and
s_0 = γ, the rate:

    s_t = s_{t-1} × η⁺ where g_t p_{t-1} > 0,  × η⁻ where < 0,  × 1 where = 0;  then clamped to the bounds
    p_t = 0 where g_t p_{t-1} < 0, else g_t
    θ_t = θ_{t-1} - s_t sign(p_t)

A coordinate whose gradient turned its sign therefore rests for one step, and its step size for two.

Where PyTorch differs from the sources:
- this is iRprop-; Rprop of 1993 takes the last step back where the sign turned;
- the first step size is the rate, 0.01 (0.1 in 1993), clamped to the bounds before it is used.

The rate is used at the parameter's first step and never again.
"""

from collections.abc import Sequence

import numpy as np


def run(
    theta0: np.ndarray,
    gradients: Sequence[np.ndarray | None],
    *,
    factors: Sequence[float] | None = None,
    lr: float = 1e-2,
    etas: tuple[float, float] = (0.5, 1.2),
    step_sizes: tuple[float, float] = (1e-6, 50.0),
    maximize: bool = False,
) -> list[np.ndarray]:
    """Return θ after each gradient.

    Steps 1, 2, none (the sign turned: half of 2), 1 back, 2 back:

    >>> gradients = [np.array(g) for g in (5.0, 0.1, -3.0, -3.0, -7.0)]
    >>> [float(theta) for theta in run(np.array(10.0), gradients, lr=1.0, etas=(0.5, 2.0))]
    [9.0, 7.0, 7.0, 8.0, 10.0]
    """
    etaminus, etaplus = etas
    smallest, largest = step_sizes
    theta = np.array(theta0, dtype=np.float64)
    sizes: dict[tuple[int, ...], float] = {}
    signs: dict[tuple[int, ...], float] = {}
    path = []
    for gradient, factor in zip(
        gradients, [1.0] * len(gradients) if factors is None else factors, strict=True
    ):
        if gradient is not None:
            raw = np.asarray(gradient, dtype=np.float64)
            for place in np.ndindex(theta.shape):
                sign = float(np.sign(-raw[place] if maximize else raw[place]))
                turn = sign * signs.get(place, 0.0)
                change = etaplus if turn > 0 else etaminus if turn < 0 else 1.0
                sizes[place] = min(max(sizes.get(place, lr * factor) * change, smallest), largest)
                signs[place] = 0.0 if turn < 0 else sign
                theta[place] -= sizes[place] * signs[place]
        path.append(np.array(theta))
    return path

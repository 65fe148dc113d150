"""RMSprop, plain, centred, and with momentum.

Sources: T. Tieleman, G. Hinton, "Lecture 6.5 - rmsprop", Neural Networks for Machine Learning, 2012 (plain);
A. Graves, "Generating Sequences With Recurrent Neural Networks", arXiv:1308.0850, 2013 (centred, momentum).

With g the gradient, γ the rate, t = 1, 2, ... the parameter's own steps and weights w_i = (1-α) α^(t-i):

    v_t = Σ_{i=1..t} w_i g_i²
    centred:  ḡ_t = Σ_{i=1..t} w_i g_i,   v_t - ḡ_t² = Σ_{i=1..t} w_i (g_i - ḡ_t)² + α^t ḡ_t²
    r_t = g_t / (√v_t + ε)
    θ_t = θ_{t-1} - γ Σ_{i=1..t} μ^(t-i) r_i

The right side of the centred line follows from Σ w_i = 1 - α^t. It cannot be negative, whereas the difference
on the left can be, by rounding, for gradients that hardly vary; there PyTorch returns NaN and this does not.

Where PyTorch differs from the sources:
- α = 0.99 (0.9 in the lecture, 0.95 in Graves); v starts at 0 and is not corrected for it;
- ε = 1e-8 stands outside the root (Graves: 1e-4 inside; the lecture has none);
- γ stands outside the momentum sum (Graves: inside; the same only while γ is constant);
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
    lr: float = 1e-2,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    centered: bool = False,
    maximize: bool = False,
) -> list[np.ndarray]:
    """Return θ after each gradient.

    >>> [float(theta) for theta in run(np.array(10.0), [np.array(6.0)], lr=1.0, alpha=0.75, eps=0.0)]
    [8.0]
    """
    theta = np.array(theta0, dtype=np.float64)
    history: list[np.ndarray] = []  # g_1 ... g_t
    scaled: list[np.ndarray] = []  # r_1 ... r_t
    path = []
    for gradient, factor in zip(
        gradients, [1.0] * len(gradients) if factors is None else factors, strict=True
    ):
        if gradient is not None:
            raw = np.asarray(gradient, dtype=np.float64)
            history.append((-raw if maximize else raw) + weight_decay * theta)
            t = len(history)
            weights = [(1 - alpha) * alpha ** (t - i) for i in range(1, t + 1)]
            if centered:
                mean = sum(w * g for w, g in zip(weights, history, strict=True))
                spread = sum(w * (g - mean) ** 2 for w, g in zip(weights, history, strict=True))
                second = spread + alpha**t * mean**2
            else:
                second = sum(w * g**2 for w, g in zip(weights, history, strict=True))
            scaled.append(history[-1] / (np.sqrt(second) + eps))
            theta = theta - lr * factor * sum(momentum ** (t - i) * scaled[i - 1] for i in range(1, t + 1))
        path.append(np.array(theta))
    return path

"""AdamW: Adam with decoupled weight decay.

Source: I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization", arXiv:1711.05101, algorithm 2.

With g the raw gradient, γ the rate, λ the decay and t = 1, 2, ... the parameter's own steps:

    m̂_t = Σ_{i=1..t} (1-β₁) β₁^(t-i) g_i  / (1-β₁^t)
    v_t = Σ_{i=1..t} (1-β₂) β₂^(t-i) g_i²,    v̂_t = v_t / (1-β₂^t)
    u_t = m̂_t / (√v̂_t + ε)
    θ_t = (1-γλ)^t θ_0 - γ Σ_{i=1..t} (1-γλ)^(t-i) u_i

the last line being θ_t = (1-γλ) θ_{t-1} - γ u_t written out. A step without gradient does not decay θ either.

Where PyTorch differs from the paper:
- the decay of a step is γλ, with the rate; in the paper it is η_t λ, with the schedule's multiplier only
  (λ_paper = γ_max λ);
- ``amsgrad`` as in Adam: v̂_t = max(v_1, ..., v_t) / (1-β₂^t);
- ``maximize`` turns the sign of g and leaves the decay alone.
"""

from collections.abc import Sequence

import numpy as np


def run(
    theta0: np.ndarray,
    gradients: Sequence[np.ndarray | None],
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    amsgrad: bool = False,
    maximize: bool = False,
) -> list[np.ndarray]:
    """Return θ after each gradient.

    With γλ = 1/4, θ shrinks by a quarter of itself and moves by γ = 1/2:

    >>> hyper = dict(lr=0.5, betas=(0.5, 0.75), eps=0.0, weight_decay=0.5)
    >>> [float(theta) for theta in run(np.array(8.0), [np.array(7.0)], **hyper)]
    [5.5]
    """
    beta1, beta2 = betas
    start = np.array(theta0, dtype=np.float64)
    theta = start
    history: list[np.ndarray] = []  # g_1 ... g_t
    seconds: list[np.ndarray] = []  # v_1 ... v_t
    directions: list[np.ndarray] = []  # u_1 ... u_t
    path = []
    for gradient in gradients:
        if gradient is not None:
            raw = np.asarray(gradient, dtype=np.float64)
            history.append(-raw if maximize else raw)
            t = len(history)
            first = sum((1 - beta1) * beta1 ** (t - i) * g for i, g in enumerate(history, start=1))
            seconds.append(sum((1 - beta2) * beta2 ** (t - i) * g**2 for i, g in enumerate(history, start=1)))
            second = np.max(seconds, axis=0) if amsgrad else seconds[-1]
            m_hat = first / (1 - beta1**t)
            v_hat = second / (1 - beta2**t)
            directions.append(m_hat / (np.sqrt(v_hat) + eps))
            shrink = 1 - lr * weight_decay
            moved = sum(shrink ** (t - i) * u for i, u in enumerate(directions, start=1))
            theta = shrink**t * start - lr * moved
        path.append(np.array(theta))
    return path

"""AdamW: Adam with decoupled weight decay.

Source: I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization", arXiv:1711.05101, algorithm 2.

With g the raw gradient, γ_t = γ f_t the rate, f_t the schedule's factor, λ the decay and t = 1, 2, ... the
parameter's own steps:

    m̂_t = Σ_{i=1..t} (1-β₁) β₁^(t-i) g_i  / (1-β₁^t)
    v_t = Σ_{i=1..t} (1-β₂) β₂^(t-i) g_i²,    v̂_t = v_t / (1-β₂^t)
    u_t = m̂_t / (√v̂_t + ε)
    s_t = 1 - γ_t λ    (with ``decay_by="schedule"``, as in the paper: 1 - f_t λ)
    θ_t = s_1 ... s_t θ_0 - Σ_{i=1..t} s_{i+1} ... s_t γ_i u_i

the last line being θ_t = s_t θ_{t-1} - γ_t u_t written out. A step without gradient does not decay θ either.
``epsilon`` says where ε stands in u, as in ``adam``.

Where PyTorch differs from the paper:
- the decay of a step is γ_t λ, with the rate; in the paper it is f_t λ, with the schedule's multiplier only
  (λ_paper = γλ);
- ``amsgrad`` as in Adam: v̂_t = max(v_1, ..., v_t) / (1-β₂^t);
- ``maximize`` turns the sign of g and leaves the decay alone.
"""

import math
from collections.abc import Sequence

import numpy as np

from oracles.adam import direction


def run(
    theta0: np.ndarray,
    gradients: Sequence[np.ndarray | None],
    *,
    factors: Sequence[float] | None = None,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    amsgrad: bool = False,
    epsilon: str = "outside",
    decay_by: str = "rate",
    maximize: bool = False,
) -> list[np.ndarray]:
    """Return θ after each gradient.

    With γλ = 1/4, θ shrinks by a quarter of itself and moves by γ = 1/2:

    >>> hyper = dict(lr=0.5, betas=(0.5, 0.75), eps=0.0, weight_decay=0.5)
    >>> [float(theta) for theta in run(np.array(8.0), [np.array(7.0)], **hyper)]
    [5.5]
    """
    if decay_by not in ("rate", "schedule"):
        raise ValueError(f"no decay by {decay_by!r}")
    beta1, beta2 = betas
    start = np.array(theta0, dtype=np.float64)
    theta = start
    history: list[np.ndarray] = []  # g_1 ... g_t
    seconds: list[np.ndarray] = []  # v_1 ... v_t
    steps: list[np.ndarray] = []  # γ_1 u_1 ... γ_t u_t
    shrinks: list[float] = []  # s_1 ... s_t
    path = []
    for gradient, factor in zip(
        gradients, [1.0] * len(gradients) if factors is None else factors, strict=True
    ):
        if gradient is not None:
            raw = np.asarray(gradient, dtype=np.float64)
            history.append(-raw if maximize else raw)
            t = len(history)
            first = sum((1 - beta1) * beta1 ** (t - i) * g for i, g in enumerate(history, start=1))
            seconds.append(sum((1 - beta2) * beta2 ** (t - i) * g**2 for i, g in enumerate(history, start=1)))
            second = np.max(seconds, axis=0) if amsgrad else seconds[-1]
            steps.append(lr * factor * direction(first, second, t, betas, eps, epsilon))
            shrinks.append(1 - (lr * factor if decay_by == "rate" else factor) * weight_decay)
            moved = sum(math.prod(shrinks[i:]) * step for i, step in enumerate(steps, start=1))
            theta = math.prod(shrinks) * start - moved
        path.append(np.array(theta))
    return path

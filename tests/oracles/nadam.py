"""NAdam: Adam with Nesterov's momentum.

Source: T. Dozat, "Incorporating Nesterov Momentum into Adam", ICLR 2016 workshop; the schedule of μ from the
longer report of the same title (Stanford CS 229, 2015).

With g the gradient, γ the rate, t = 1, 2, ... the parameter's own steps and ψ ``momentum_decay``:

    μ_t = β₁ (1 - ½ 0.96^(tψ)),    P_t = μ_1 μ_2 ... μ_t
    m_t = Σ_{i=1..t} (1-β₁) β₁^(t-i) g_i
    v̂_t = Σ_{i=1..t} (1-β₂) β₂^(t-i) g_i²  / (1-β₂^t)
    θ_t = θ_{t-1} - γ [(1-μ_t) g_t / (1-P_t) + μ_{t+1} m_t / (1-P_{t+1})] / (√v̂_t + ε)

Where PyTorch differs from the source:
- m is averaged with the constant β₁ (in the report with μ_t: m_t = μ_t m_{t-1} + (1-μ_t) g_t);
- weight decay λ is L2: g_i is the raw gradient + λ θ_{i-1}, and under ``maximize`` only the raw gradient
  changes its sign; with ``decoupled_weight_decay`` the step starts from (1-γλ) θ_{t-1} instead.
"""

import math
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
    momentum_decay: float = 4e-3,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
) -> list[np.ndarray]:
    """Return θ after each gradient.

    With ψ = 0 and β₁ = ½ every μ is ¼. From g = 3, m = 3/2, the bracket is 3 + (¼ · 3/2)/(15/16) = 3.4
    and √v̂ = 3:

    >>> path = run(np.array(10.0), [np.array(3.0)], lr=3.0, betas=(0.5, 0.75), eps=0.0, momentum_decay=0.0)
    >>> round(float(path[0]), 12)
    6.6
    """
    beta1, beta2 = betas
    theta = np.array(theta0, dtype=np.float64)
    history: list[np.ndarray] = []  # g_1 ... g_t
    path = []
    for gradient, factor in zip(
        gradients, [1.0] * len(gradients) if factors is None else factors, strict=True
    ):
        if gradient is not None:
            rate = lr * factor
            raw = np.asarray(gradient, dtype=np.float64)
            raw = -raw if maximize else raw
            history.append(raw if decoupled_weight_decay else raw + weight_decay * theta)
            t = len(history)
            # μ_1 ... μ_{t+1}
            mu = [beta1 * (1 - 0.5 * 0.96 ** (i * momentum_decay)) for i in range(1, t + 2)]
            first = sum((1 - beta1) * beta1 ** (t - i) * g for i, g in enumerate(history, start=1))
            second = sum((1 - beta2) * beta2 ** (t - i) * g**2 for i, g in enumerate(history, start=1))
            v_hat = second / (1 - beta2**t)
            now = (1 - mu[t - 1]) * history[-1] / (1 - math.prod(mu[:t]))
            ahead = mu[t] * first / (1 - math.prod(mu))
            shrink = 1 - rate * weight_decay if decoupled_weight_decay else 1.0
            theta = shrink * theta - rate * (now + ahead) / (np.sqrt(v_hat) + eps)
        path.append(np.array(theta))
    return path

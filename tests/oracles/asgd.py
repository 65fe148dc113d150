"""Averaged stochastic gradient descent.

Sources: B. T. Polyak, A. B. Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM J.
Control Optim. 30 (1992), 838-855; the rate as in W. Xu, "Towards Optimal One Pass Large Scale Learning with
Averaged Stochastic Gradient Descent", arXiv:1107.2490.

With g the gradient, γ_t the rate at step t, t = 1, 2, ... the parameter's own steps and λ ``lambd``:

    η_1 = γ_1,    η_{t+1} = γ_t / (1 + λ γ_t t)^α
    θ_t = θ_0 Π_{j=1..t} (1-λη_j) - Σ_{i=1..t} η_i g_i Π_{j=i+1..t} (1-λη_j)
    μ_1 = 1,      μ_{t+1} = 1 / max(1, t - t₀)
    a_t = Σ_{i=1..t} μ_i θ_i Π_{j=i+1..t} (1-μ_j)

θ is trained, a is what to evaluate with: the last θ up to step t₀ + 2, then (for whole t₀ ≥ 0) the mean of
θ_{t₀+2}, ..., θ_t.

Where PyTorch differs from the sources:
- η_t follows the rate of the step before, since it is computed at the end of that step, and lags one in t
  (Xu: γ / (1 + λ γ t)^α at step t); the averaging starts one step later for the same reason;
- t₀ = 1e6, so that few trainings average anything unless asked to;
- weight decay is L2 on top of the decay by λ: g_i is the raw gradient + weight_decay θ_{i-1}; under
  ``maximize`` only the raw gradient changes its sign.
Before the first gradient PyTorch has no a; here it is θ_0.
"""

import math
from collections.abc import Sequence

import numpy as np


def run(
    theta0: np.ndarray,
    gradients: Sequence[np.ndarray | None],
    *,
    factors: Sequence[float] | None = None,
    lr: float = 1e-2,
    lambd: float = 1e-4,
    alpha: float = 0.75,
    t0: float = 1e6,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> list[np.ndarray]:
    """Return θ, which is trained, after each gradient; ``t0`` does not matter to it.

    With λ = 1, α = 1 and γ = ½ the steps are η = ½ and ½/(1 + ½) = ⅓: 8 → 8/2 - 3/2 → 2.5 · ⅔ - 3/3.

    >>> path = run(np.array(8.0), [np.array(3.0)] * 2, lr=0.5, lambd=1.0, alpha=1.0)
    >>> [round(float(theta), 12) for theta in path]
    [2.5, 0.666666666667]
    """
    start = np.array(theta0, dtype=np.float64)
    theta = start
    history: list[np.ndarray] = []  # g_1 ... g_t
    rates: list[float] = []  # γ_1 ... γ_t
    path = []
    for gradient, factor in zip(
        gradients, [1.0] * len(gradients) if factors is None else factors, strict=True
    ):
        if gradient is not None:
            raw = np.asarray(gradient, dtype=np.float64)
            history.append((-raw if maximize else raw) + weight_decay * theta)
            rates.append(lr * factor)
            t = len(history)
            eta = [rates[0]] + [rates[i - 1] / (1 + lambd * rates[i - 1] * i) ** alpha for i in range(1, t)]
            shrink = [1 - lambd * step for step in eta]
            moved = sum(eta[i] * g * math.prod(shrink[i + 1 :]) for i, g in enumerate(history))
            theta = math.prod(shrink) * start - moved
        path.append(np.array(theta))
    return path


def evaluated(
    theta0: np.ndarray,
    gradients: Sequence[np.ndarray | None],
    *,
    factors: Sequence[float] | None = None,
    lr: float = 1e-2,
    lambd: float = 1e-4,
    alpha: float = 0.75,
    t0: float = 1e6,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> list[np.ndarray]:
    """Return a, the average to evaluate with, after each gradient.

    From 10 by steps of 1, 2 and 3, θ = 9, 7, 4; with t₀ = 0 the mean starts at the second:

    >>> gradients = [np.array(1.0), np.array(2.0), np.array(3.0)]
    >>> [float(a) for a in evaluated(np.array(10.0), gradients, lr=1.0, lambd=0.0, t0=0.0)]
    [9.0, 7.0, 5.5]
    """
    trained = run(
        theta0,
        gradients,
        factors=factors,
        lr=lr,
        lambd=lambd,
        alpha=alpha,
        weight_decay=weight_decay,
        maximize=maximize,
    )
    average = np.array(theta0, dtype=np.float64)
    thetas: list[np.ndarray] = []  # θ_1 ... θ_t
    path = []
    for gradient, theta in zip(gradients, trained, strict=True):
        if gradient is not None:
            thetas.append(theta)
            mu = [1.0] + [1 / max(1.0, i - t0) for i in range(1, len(thetas))]
            average = sum(
                mu[i] * earlier * math.prod(1 - later for later in mu[i + 1 :])
                for i, earlier in enumerate(thetas)
            )
        path.append(np.array(average))
    return path

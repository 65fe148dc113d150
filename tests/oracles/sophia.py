"""Sophia: momentum over a clipped diagonal of the Hessian.

Source: H. Liu, Z. Li, D. Hall, P. Liang, T. Ma, "Sophia: A Scalable Stochastic Second-order Optimizer for
Language Model Pre-training", arXiv:2305.14342, algorithm 3.

With g the gradient, γ the rate times the schedule's factor, λ the decay, ρ the scale of the curvature (γ in
the paper), t = 1, 2, ... the parameter's own steps, and H_1 ... H_n the estimates of the Hessian's diagonal
handed over so far:

    h = Σ_{j=1..n} (1-β₂) β₂^(n-j) H_j                     (0 before the first)
    m_t = Σ_{i=1..t} (1-β₁) β₁^(t-i) g_i
    d_t = sign(m_t) min(|m_t| / max(ρ h, ε), 1)
    θ_t = (1 - γ_t λ) θ_{t-1} - γ_t d_t

No bias is corrected. Where curvature is negative, nothing or not yet known, the step is γ sign(m).

Departures:
- an estimate H is handed over from outside, and enters h in a step without gradient too;
- the defaults are those of the authors' code (github.com/Liuhong99/Sophia), but for ε, which is the paper's;
  that code divides by ρ·(batch size)·h + 1e-15, with h the average of squared gradients of sampled labels:
  the batch size belongs to H here, and ε bounds from below instead of being added;
- ``maximize`` turns the sign of g; the curvature is taken as handed over.
"""

from collections.abc import Sequence

import numpy as np


def run(
    theta0: np.ndarray,
    gradients: Sequence[np.ndarray | None],
    *,
    hessians: Sequence[np.ndarray | None],
    factors: Sequence[float] | None = None,
    lr: float = 1e-4,
    betas: tuple[float, float] = (0.965, 0.99),
    rho: float = 0.04,
    eps: float = 1e-12,
    weight_decay: float = 0.1,
    maximize: bool = False,
) -> list[np.ndarray]:
    """Return θ after each gradient; hessians[i] is handed over before gradients[i].

    Without curvature a step of length γ; with h = 8, a Newton step of 2/8:

    >>> hyper = dict(lr=1.0, betas=(0.0, 0.0), rho=1.0, weight_decay=0.0)
    >>> gradients, hessians = [np.array(2.0)] * 2, [None, np.array(8.0)]
    >>> [float(theta) for theta in run(np.array(10.0), gradients, hessians=hessians, **hyper)]
    [9.0, 8.75]
    """
    beta1, beta2 = betas
    theta = np.array(theta0, dtype=np.float64)
    estimates: list[np.ndarray] = []  # H_1 ... H_n
    history: list[np.ndarray] = []  # g_1 ... g_t
    path = []
    for gradient, hessian, factor in zip(gradients, hessians, factors or [1.0] * len(gradients), strict=True):
        if hessian is not None:
            estimates.append(np.asarray(hessian, dtype=np.float64))
        if gradient is not None:
            raw = np.asarray(gradient, dtype=np.float64)
            history.append(-raw if maximize else raw)
            t, n = len(history), len(estimates)
            m = sum((1 - beta1) * beta1 ** (t - i) * g for i, g in enumerate(history, start=1))
            h = sum((1 - beta2) * beta2 ** (n - j) * e for j, e in enumerate(estimates, start=1))
            direction = np.sign(m) * np.minimum(np.abs(m) / np.maximum(rho * h, eps), 1.0)
            theta = (1 - lr * factor * weight_decay) * theta - lr * factor * direction
        path.append(np.array(theta))
    return path

"""Muon: momentum, orthogonalised.

Sources: K. Jordan and others, "Muon: An optimizer for hidden layers in neural networks", 2024
(kellerjordan.github.io/posts/muon); J. Liu and others, "Muon is Scalable for LLM Training", arXiv:2502.16982
(scale "match_rms_adamw", decay).

With G the gradient as a matrix (rows: the first axis; columns: all others), γ the rate times the schedule's
factor, λ the decay, μ the momentum, t = 1, 2, ... the parameter's own steps, and u = P diag(σ) Qᵀ the
singular value decomposition:

    m_t = Σ_{i=1..t} (1-μ) μ^(t-i) G_i
    u_t = (1-μ) G_t + μ m_t                  (m_t without ``nesterov``)
    f(σ) = aσ + bσ³ + cσ⁵
    X_t = P diag(f(f(...f(σ / max(‖u_t‖_F, ε))))) Qᵀ           (f applied ``ns_steps`` times)
    θ_t = (1-γ_t λ) θ_{t-1} - γ_t q X_t
    q = √max(1, rows/columns)  ("original"),    0.2 √max(rows, columns)  ("match_rms_adamw")

The Newton-Schulz iteration X ← aX + (bA + cA²) X with A = XXᵀ leaves the singular vectors alone and does f to
each singular value, so X is what it computes in exact arithmetic.

Where PyTorch differs from the sources, this follows PyTorch:
- u is divided by max(‖u‖, ε), Jordan by ‖u‖ + ε;
- m is the average above; in Jordan's text a sum, 1/(1-μ) times as long, which the division by ‖u‖ cancels
  (but for ε);
- γ = 1e-3 and λ = 0.1 by default (Jordan: 0.02 and 0).

Where this differs from PyTorch: double precision throughout (PyTorch iterates in bfloat16, and where the
gradient itself is bfloat16 and nesterov off, normalises its momentum in place); tensors of more than two
axes are taken as matrices, q too (PyTorch refuses them; Jordan's code flattens them for X but takes q from
the last two axes); ``maximize`` turns the sign of G.
"""

from collections.abc import Sequence

import numpy as np


def run(
    theta0: np.ndarray,
    gradients: Sequence[np.ndarray | None],
    *,
    factors: Sequence[float] | None = None,
    lr: float = 1e-3,
    weight_decay: float = 0.1,
    momentum: float = 0.95,
    nesterov: bool = True,
    ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
    eps: float = 1e-7,
    ns_steps: int = 5,
    scale: str = "original",
    maximize: bool = False,
) -> list[np.ndarray]:
    """Return θ after each gradient.

    A column of length 5 becomes a unit vector, which f = 2σ doubles and q = √(2/1) lengthens:

    >>> hyper = dict(lr=1.0, weight_decay=0.0, ns_coefficients=(2.0, 0.0, 0.0), ns_steps=1)
    >>> theta = run(np.zeros((2, 1)), [np.array([[3.0], [4.0]])], **hyper)[0]
    >>> [round(float(value) / 2**0.5, 12) for value in theta.ravel()]
    [-1.2, -1.6]
    """
    theta = np.array(theta0, dtype=np.float64)
    if theta.ndim < 2:
        raise ValueError(f"theta0 must have two axes or more; got shape {theta.shape}")
    rows, columns = theta.reshape(theta.shape[0], -1).shape
    scales = {"original": max(1.0, rows / columns) ** 0.5, "match_rms_adamw": 0.2 * max(rows, columns) ** 0.5}
    history: list[np.ndarray] = []  # G_1 ... G_t
    path = []
    for gradient, factor in zip(gradients, factors or [1.0] * len(gradients), strict=True):
        if gradient is not None:
            raw = np.asarray(gradient, dtype=np.float64).reshape(rows, columns)
            history.append(-raw if maximize else raw)
            t = len(history)
            m = sum((1 - momentum) * momentum ** (t - i) * g for i, g in enumerate(history, start=1))
            u = (1 - momentum) * history[-1] + momentum * m if nesterov else m
            direction = scales[scale] * _orthogonalised(u, ns_coefficients, ns_steps, eps)
            rate = lr * factor
            theta = (1 - rate * weight_decay) * theta - rate * direction.reshape(theta.shape)
        path.append(np.array(theta))
    return path


def _orthogonalised(
    u: np.ndarray, coefficients: tuple[float, float, float], steps: int, eps: float
) -> np.ndarray:
    a, b, c = coefficients
    left, sigma, right = np.linalg.svd(u, full_matrices=False)
    sigma = sigma / max(float(np.sqrt(np.sum(u**2))), eps)
    for _ in range(steps):
        sigma = a * sigma + b * sigma**3 + c * sigma**5
    return (left * sigma) @ right

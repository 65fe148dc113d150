"""Shampoo, for matrices.

Source: V. Gupta, T. Koren, Y. Singer, "Shampoo: Preconditioned Stochastic Tensor Optimization",
arXiv:1802.09568, algorithm 1.

With G the gradient + λθ as a matrix (rows: the first axis; columns: all others), γ the rate times the
schedule's factor, μ the momentum, t = 1, 2, ... the parameter's own steps, and k ≤ t the last step at which
the roots were computed (1, 1 + n, 1 + 2n, ... with n = ``update_every``):

    L_t = εI + Σ_{i=1..t} G_i G_iᵀ,    R_t = εI + Σ_{i=1..t} G_iᵀ G_i
    d_t = L_k^(-1/4) G_t R_k^(-1/4)
    θ_t = θ_{t-1} - γ_t Σ_{i=1..t} μ^(t-i) d_i

The sum of L is HHᵀ with H = [G_1 ... G_t] side by side. From H = U diag(σ) Vᵀ

    L^(-1/4) = U diag((ε + σ²)^(-1/4)) Uᵀ + ε^(-1/4) (I - UUᵀ)

so that no matrix is ever squared; R from the transposed gradients in the same way.

Departures from the paper:
- tensors of more than two axes are taken as matrices (the paper: a factor for each axis, roots of 2·axes);
- momentum is a heavy ball on d, outside the rate (algorithm 1 has none; the paper's experiments average the
  gradient); the paper too computes the roots now and then only, without giving the steps;
- weight decay λ is L2: it enters L and R; under ``maximize`` only the raw gradient changes its sign.
"""

from collections.abc import Sequence

import numpy as np


def run(
    theta0: np.ndarray,
    gradients: Sequence[np.ndarray | None],
    *,
    factors: Sequence[float] | None = None,
    lr: float = 0.1,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    eps: float = 1e-4,
    update_every: int = 1,
    maximize: bool = False,
) -> list[np.ndarray]:
    """Return θ after each gradient.

    For a single entry the two quarter roots make one square root: steps 3/√(7 + 3²) and 3/√(7 + 3² + 3²).

    >>> path = run(np.array([[10.0]]), [np.array([[3.0]]), np.array([[3.0]])], lr=1.0, eps=7.0)
    >>> [round(float(theta[0, 0]), 12) for theta in path]
    [9.25, 8.65]
    """
    theta = np.array(theta0, dtype=np.float64)
    if theta.ndim < 2:
        raise ValueError(f"theta0 must have two axes or more; got shape {theta.shape}")
    history: list[np.ndarray] = []  # G_1 ... G_t
    directions: list[np.ndarray] = []  # d_1 ... d_t
    path = []
    for gradient, factor in zip(gradients, factors or [1.0] * len(gradients), strict=True):
        if gradient is not None:
            raw = np.asarray(gradient, dtype=np.float64)
            decayed = (-raw if maximize else raw) + weight_decay * theta
            history.append(decayed.reshape(theta.shape[0], -1))
            t = len(history)
            known = history[: t - (t - 1) % update_every]  # G_1 ... G_k
            left = _inverse_fourth_root(np.hstack(known), eps)
            right = _inverse_fourth_root(np.hstack([g.T for g in known]), eps)
            directions.append(left @ history[-1] @ right)
            ball = sum(momentum ** (t - i) * d for i, d in enumerate(directions, start=1))
            theta = theta - lr * factor * ball.reshape(theta.shape)
        path.append(np.array(theta))
    return path


def _inverse_fourth_root(beside: np.ndarray, eps: float) -> np.ndarray:
    """(εI + HHᵀ)^(-1/4) for H = ``beside``."""
    u, sigma, _ = np.linalg.svd(beside, full_matrices=False)
    rest = np.eye(len(u)) - u @ u.T if u.shape[1] < len(u) else 0.0
    return (u * (eps + sigma**2) ** -0.25) @ u.T + eps**-0.25 * rest

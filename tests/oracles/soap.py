"""SOAP: Adam in the eigenbases of Shampoo.

Sources: N. Vyas and others, "SOAP: Improving and Stabilizing Shampoo using Adam", arXiv:2409.11321,
algorithms 3 and 4; the authors' code, github.com/nikhilvyas/SOAP.

With G the gradient as a matrix (rows: the first axis; columns: all others), γ the rate times the schedule's
factor, λ the decay, β = ``shampoo_beta`` (β₂ unless given), and t = 0, 1, 2, ... counting the parameter's own
gradients from 0:

    L_t = Σ_{i=0..t} (1-β) β^(t-i) G_i G_iᵀ,    R_t = Σ_{i=0..t} (1-β) β^(t-i) G_iᵀ G_i

t = 0: P and Q become the eigenvectors of L_0 and R_0, largest eigenvalue first; θ does not move, and G_0
enters neither m nor v. From t = 1 on, with the bases of the step before:

    m_t = Σ_{i=1..t} (1-β₁) β₁^(t-i) G_i                                  (in the original space)
    v_t = Σ_{i=1..t} (1-β₂) β₂^(t-i) (PᵀG_iQ)²                            (P, Q those of step i)
    N_t = P [(Pᵀ m_t Q) / (√v_t + ε)] Qᵀ
    θ_t = (1 - γ_t λ) (θ_{t-1} - γ_t √(1-β₂^t) / (1-β₁^t) N_t)

and after the move, where t is a multiple of ``update_every``: the columns of P are put in order of
diag(PᵀL_tP), largest first, the rows of v (of every term of it) with them, and P becomes the orthogonal
factor of the QR decomposition of L_t P; Q and the columns of v likewise with R_t. v is not rotated.

Conventions of the authors' code, where the paper is silent or differs:
- the first gradient makes the bases and nothing else; bias correction counts from the second;
- ε is added to √v before its bias correction;
- decay is γλ and applied to θ *after* the move, so that it takes γ²λN back as well (AdamW decays before);
- a side longer than ``max_dimension`` has no basis (P or Q is left out); a tensor of one axis or none has
  neither, and so is Adam's, but for the skipped gradient and the place of ε;
- m is kept rotated there, and turned from the old basis to the new at each update: the same as above.

Departures from the authors' code: tensors of more than two axes are taken as matrices (there: a basis for
each axis, or axes merged); everything is in double precision (there the bases are float32), L_0 without
1e-30 I; ``maximize`` turns the sign of G.

The sign of a basis vector does not matter: with D a diagonal of signs, PD in the place of P turns PᵀGQ into
DPᵀGQ, whose squares, hence v, are the same; N has PD·D[...] = P[...]; and the columns of L(PD) are those of
LP up to sign, so those of the next P too. Nor does the order of the first basis matter: v is permuted with
it, and the first update sorts both. But the basis within an eigenspace of several dimensions does matter and
is arbitrary: such is the null space of a G_0 that is not square or not of full rank. So compare paths on
square gradients of full rank, or hand the first (P, Q) over as ``bases``.
"""

from collections.abc import Sequence

import numpy as np


def run(
    theta0: np.ndarray,
    gradients: Sequence[np.ndarray | None],
    *,
    factors: Sequence[float] | None = None,
    lr: float = 3e-3,
    betas: tuple[float, float] = (0.95, 0.95),
    shampoo_beta: float | None = None,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    update_every: int = 10,
    max_dimension: int = 10000,
    maximize: bool = False,
    bases: tuple[np.ndarray | None, np.ndarray | None] | None = None,
) -> list[np.ndarray]:
    """Return θ after each gradient; ``bases`` takes the place of the eigenvectors at the first.

    The first gradient makes the bases only. The second, a multiple of it, has one entry in them, of
    size √2·3, which becomes 1; turned back it is half of it everywhere:

    >>> ones = np.ones((2, 2))
    >>> path = run(np.zeros((2, 2)), [ones, 3 * ones], lr=1.0, weight_decay=0.0)
    >>> path[0].tolist(), path[1].round(6).tolist()
    ([[0.0, 0.0], [0.0, 0.0]], [[-0.5, -0.5], [-0.5, -0.5]])
    """
    beta1, beta2 = betas
    beta = beta2 if shampoo_beta is None else shampoo_beta
    theta = np.array(theta0, dtype=np.float64)
    rows = theta.shape[0] if theta.ndim > 1 else 1
    left = right = None
    history: list[np.ndarray] = []  # G_0 ... G_t
    squares: list[np.ndarray] = []  # (PᵀG_1Q)² ... (PᵀG_tQ)², in the order of the present bases
    path = []
    for gradient, factor in zip(gradients, factors or [1.0] * len(gradients), strict=True):
        if gradient is not None:
            raw = np.asarray(gradient, dtype=np.float64).reshape(rows, -1)
            history.append(-raw if maximize else raw)
            t = len(history) - 1
            if t == 0 and bases is not None:
                left, right = bases
            elif t == 0 and theta.ndim > 1:
                left = _left_singular_vectors(history[0]) if rows <= max_dimension else None
                right = _left_singular_vectors(history[0].T) if raw.shape[1] <= max_dimension else None
            elif t > 0:
                squares.append(_rotated(history[-1], left, right) ** 2)
                m = sum((1 - beta1) * beta1 ** (t - i) * history[i] for i in range(1, t + 1))
                v = sum((1 - beta2) * beta2 ** (t - i) * squares[i - 1] for i in range(1, t + 1))
                correction = np.sqrt(1 - beta2**t) / (1 - beta1**t)
                move = correction * _turned_back(_rotated(m, left, right) / (np.sqrt(v) + eps), left, right)
                rate = lr * factor
                theta = (1 - rate * weight_decay) * (theta - rate * move.reshape(theta.shape))
                if t % update_every == 0:
                    weights = [(1 - beta) * beta ** (t - i) for i in range(t + 1)]
                    if left is not None:
                        total = sum(w * g @ g.T for w, g in zip(weights, history, strict=True))
                        left, order = _next_basis(total, left)
                        squares = [square[order] for square in squares]
                    if right is not None:
                        total = sum(w * g.T @ g for w, g in zip(weights, history, strict=True))
                        right, order = _next_basis(total, right)
                        squares = [square[:, order] for square in squares]
        path.append(np.array(theta))
    return path


def _left_singular_vectors(g: np.ndarray) -> np.ndarray:
    """The eigenvectors of ggᵀ, largest eigenvalue first, without squaring g."""
    return np.linalg.svd(g, full_matrices=g.shape[0] > g.shape[1])[0]


def _rotated(g: np.ndarray, left: np.ndarray | None, right: np.ndarray | None) -> np.ndarray:
    g = g if left is None else left.T @ g
    return g if right is None else g @ right


def _turned_back(g: np.ndarray, left: np.ndarray | None, right: np.ndarray | None) -> np.ndarray:
    g = g if left is None else left @ g
    return g if right is None else g @ right.T


def _next_basis(total: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One step of power iteration from the sorted basis, and the order in which it was sorted."""
    order = np.argsort(-np.diag(basis.T @ total @ basis), kind="stable")
    return np.linalg.qr(total @ basis[:, order])[0], order

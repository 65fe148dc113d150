"""Adafactor: the second moment of a matrix kept as one number a row and one a column.

Source: N. Shazeer, M. Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost",
arXiv:1804.04235, algorithms 4 and 5.

With G the gradient, γ the rate, t = 1, 2, ... the parameter's own steps, β_j = 1 - j^τ (τ = ``beta2_decay``),
weights w_i = (1-β_i) β_{i+1} ... β_t, and RMS the root of the mean square of a tensor:

    matrices (the last two axes of a tensor; the others are a stack of matrices):
        R_t = Σ_{i=1..t} w_i (mean of G_i² along each row),  C_t likewise along each column
        V_t = R_t C_tᵀ / max(mean of R_t, ε₁)
    vectors and scalars:
        V_t = Σ_{i=1..t} w_i G_i²
    U_t = G_t / max(√V_t, ε₁)
    α_t = max(ε₂, RMS(θ_{t-1})) · min(γ, 1/√t)
    θ_t = (1-γλ) θ_{t-1} - α_t U_t / max(1, RMS(U_t)/d)

Since β_1 = 0 the weights sum to one, and there is no bias to correct. RMS(U_t) and RMS(θ) are those of the
whole tensor.

Where PyTorch differs from the paper:
- γ is the bound of the relative step, and has the paper's 0.01 as its default only;
- ε₁ guards the two divisions (the paper adds 1e-30 to G² instead); None stands for the spacing of floats
  at 1, here 2^-52;
- means instead of sums along rows and columns, which cancels but for ε₁;
- decoupled weight decay γλ, of which the paper has none; RMS(θ) is taken before it. ``maximize`` turns the
  sign of the gradient and leaves the decay alone.
"""

import math
from collections.abc import Sequence

import numpy as np


def _rms(tensor: np.ndarray) -> float:
    return math.sqrt(float(np.sum(tensor**2)) / max(tensor.size, 1))


def run(
    theta0: np.ndarray,
    gradients: Sequence[np.ndarray | None],
    *,
    factors: Sequence[float] | None = None,
    lr: float = 1e-2,
    beta2_decay: float = -0.8,
    eps: tuple[float | None, float] = (None, 1e-3),
    d: float = 1.0,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> list[np.ndarray]:
    """Return θ after each gradient.

    G = [1 2] as a matrix of one row: R = 5/2, C = [1 4], V = C, U = [1 1]. RMS(θ) = 10, so that α = 1:

    >>> path = run(np.array([[10.0, -10.0]]), [np.array([[1.0, 2.0]])], lr=0.1)
    >>> path[0].tolist()
    [[9.0, -11.0]]
    """
    eps1 = float(np.finfo(np.float64).eps) if eps[0] is None else eps[0]
    theta = np.array(theta0, dtype=np.float64)
    history: list[np.ndarray] = []  # G_1 ... G_t
    path = []
    for gradient, factor in zip(
        gradients, [1.0] * len(gradients) if factors is None else factors, strict=True
    ):
        if gradient is not None:
            rate = lr * factor
            raw = np.asarray(gradient, dtype=np.float64)
            history.append(-raw if maximize else raw)
            t = len(history)
            beta2 = [1 - j**beta2_decay for j in range(1, t + 1)]
            weights = [(1 - beta2[i]) * math.prod(beta2[i + 1 :]) for i in range(t)]
            # The factors are linear in the squares: those of the average are the averages of the factors.
            second = sum(w * g**2 for w, g in zip(weights, history, strict=True))
            if theta.ndim > 1 and theta.size > 0:
                rows = np.mean(second, axis=-1, keepdims=True)
                columns = np.mean(second, axis=-2, keepdims=True)
                second = rows * columns / np.maximum(np.mean(rows, axis=-2, keepdims=True), eps1)
            update = history[-1] / np.maximum(np.sqrt(second), eps1)
            clipped = update / max(1.0, _rms(update) / d)
            step = max(eps[1], _rms(theta)) * min(rate, 1 / math.sqrt(t))
            theta = (1 - rate * weight_decay) * theta - step * clipped
        path.append(np.array(theta))
    return path

"""Lazy forms for the gradients of embeddings, which name the rows that they touch.

Source: PyTorch, torch.optim.SGD and Adagrad on sparse gradients, and SparseAdam; the rules themselves as in
``sgd``, ``adagrad`` and ``adam`` here.

A gradient is None or a pair (rows, values): whole numbers of shape (k,), possibly repeated, and an array of
shape (k, *rest) for θ of shape (number of rows, *rest). The values of a repeated row are summed first. Then
each row r that occurs moves; with g_1, ..., g_n the row's own gradients so far (of the steps at which it
occurred), t the parameter's own steps (those with a pair, even of no rows) and γ_t the rate:

    sgd:      θ_r -= γ_t Σ_{i=1..n} μ^(n-i) g_i
    adagrad:  θ_r -= γ_t / (1 + (t-1) decay) · g_n / (√(s_0 + Σ_{i=1..n} g_i²) + ε)
    adam:     m = Σ_{i=1..n} (1-β₁) β₁^(n-i) g_i,  v = Σ_{i=1..n} (1-β₂) β₂^(n-i) g_i²
              θ_r -= γ_t √(1-β₂^t)/(1-β₁^t) · m / (√v + ε)
    adam_corrected:  θ_r -= γ_t m̂ / (√v̂ + ε),  m̂ = m/(1-β₁^t),  v̂ = v/(1-β₂^t)

A row that does not occur neither moves nor has its averages decayed; a row that occurs with values of zero
does both. Note that the corrections for bias count t, not n.

Departures: with momentum PyTorch's SGD decays the buffers of all rows and moves all that ever occurred; here,
as in the others, only those that occur now. PyTorch has no ``adam_corrected``.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

Pair = tuple[np.ndarray, np.ndarray]


def _coalesce(pair: Pair, maximize: bool) -> dict[int, np.ndarray]:
    """Return the sum of the values of each row that occurs."""
    summed: dict[int, np.ndarray] = {}
    for row, values in zip(*pair, strict=True):
        value = np.asarray(values, dtype=np.float64)
        summed[int(row)] = summed.get(int(row), 0.0) + (-value if maximize else value)
    return summed


def _walk(
    theta0: np.ndarray,
    gradients: Sequence[Pair | None],
    factors: Sequence[float] | None,
    maximize: bool,
    move: Callable[[list[np.ndarray], int], np.ndarray],
) -> list[np.ndarray]:
    """Subtract ``factor * move(the row's history, t)`` from every row that occurs."""
    theta = np.array(theta0, dtype=np.float64)
    histories: list[list[np.ndarray]] = [[] for _ in theta]
    t = 0
    path = []
    for gradient, factor in zip(
        gradients, [1.0] * len(gradients) if factors is None else factors, strict=True
    ):
        if gradient is not None:
            t += 1
            for row, value in _coalesce(gradient, maximize).items():
                histories[row].append(value)
                theta[row] = theta[row] - factor * move(histories[row], t)
        path.append(np.array(theta))
    return path


def sgd(
    theta0: np.ndarray,
    gradients: Sequence[Pair | None],
    *,
    factors: Sequence[float] | None = None,
    lr: float = 1e-3,
    momentum: float = 0.0,
    maximize: bool = False,
) -> list[np.ndarray]:
    """Return θ after each gradient.

    Row 1 occurs twice in the first gradient (2 + 2), not in the second, once in the third (½ · 4 + 1):

    >>> gradients = [(np.array([1, 1]), np.array([2.0, 2.0])), (np.array([0]), np.array([6.0]))]
    >>> gradients += [(np.array([1]), np.array([1.0]))]
    >>> [theta.tolist() for theta in sgd(np.array([10.0, 10.0]), gradients, lr=1.0, momentum=0.5)]
    [[10.0, 6.0], [4.0, 6.0], [4.0, 3.0]]
    """

    def move(history: list[np.ndarray], t: int) -> np.ndarray:
        n = len(history)
        return lr * sum(momentum ** (n - i) * g for i, g in enumerate(history, start=1))

    return _walk(theta0, gradients, factors, maximize, move)


def adagrad(
    theta0: np.ndarray,
    gradients: Sequence[Pair | None],
    *,
    factors: Sequence[float] | None = None,
    lr: float = 1e-2,
    lr_decay: float = 0.0,
    initial_accumulator_value: float = 0.0,
    eps: float = 1e-10,
    maximize: bool = False,
) -> list[np.ndarray]:
    """Return θ after each gradient.

    Gradients 1 + 2 and then 4 of the same row, under roots 3 and 5:

    >>> gradients = [(np.array([0, 0]), np.array([1.0, 2.0])), (np.array([0]), np.array([4.0]))]
    >>> [theta.tolist() for theta in adagrad(np.array([10.0, 10.0]), gradients, lr=1.0, eps=0.0)]
    [[9.0, 10.0], [8.2, 10.0]]
    """

    def move(history: list[np.ndarray], t: int) -> np.ndarray:
        sum_of_squares = initial_accumulator_value + sum(g**2 for g in history)
        return lr / (1 + (t - 1) * lr_decay) * history[-1] / (np.sqrt(sum_of_squares) + eps)

    return _walk(theta0, gradients, factors, maximize, move)


def _moments(history: list[np.ndarray], beta1: float, beta2: float) -> tuple[np.ndarray, np.ndarray]:
    n = len(history)
    first = sum((1 - beta1) * beta1 ** (n - i) * g for i, g in enumerate(history, start=1))
    second = sum((1 - beta2) * beta2 ** (n - i) * g**2 for i, g in enumerate(history, start=1))
    return first, second


def adam(
    theta0: np.ndarray,
    gradients: Sequence[Pair | None],
    *,
    factors: Sequence[float] | None = None,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    maximize: bool = False,
) -> list[np.ndarray]:
    """Return θ after each gradient, with ε beside the uncorrected √v.

    With β₂ = 0, √v = 4; ε = 4 halves the step:

    >>> gradients = [(np.array([1]), np.array([4.0]))]
    >>> adam(np.array([10.0, 10.0]), gradients, lr=1.0, betas=(0.5, 0.0), eps=4.0)[0].tolist()
    [10.0, 9.5]
    """
    beta1, beta2 = betas

    def move(history: list[np.ndarray], t: int) -> np.ndarray:
        first, second = _moments(history, beta1, beta2)
        return lr * math.sqrt(1 - beta2**t) / (1 - beta1**t) * first / (np.sqrt(second) + eps)

    return _walk(theta0, gradients, factors, maximize, move)


def adam_corrected(
    theta0: np.ndarray,
    gradients: Sequence[Pair | None],
    *,
    factors: Sequence[float] | None = None,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    maximize: bool = False,
) -> list[np.ndarray]:
    """Return θ after each gradient, with ε beside the corrected √v̂.

    m̂ = 4 and √v̂ = 4 whatever the averages; ε = 4 halves the step:

    >>> gradients = [(np.array([1]), np.array([4.0]))]
    >>> adam_corrected(np.array([10.0, 10.0]), gradients, lr=1.0, betas=(0.5, 0.75), eps=4.0)[0].tolist()
    [10.0, 9.5]
    """
    beta1, beta2 = betas

    def move(history: list[np.ndarray], t: int) -> np.ndarray:
        first, second = _moments(history, beta1, beta2)
        return lr * (first / (1 - beta1**t)) / (np.sqrt(second / (1 - beta2**t)) + eps)

    return _walk(theta0, gradients, factors, maximize, move)

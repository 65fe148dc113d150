"""Shampoo: Adagrad for matrices, with one preconditioner for the rows and one for the columns."""

from typing import NamedTuple

from thalweg.hyper import ABOVE_0, AT_LEAST_0, UNIT, Integer, Interval, Real
from thalweg.rules.about import About
from thalweg.rules.base import MAXIMIZE, Clock, Rule, Scope, State, Surroundings, Values, nonzero
from thalweg.rules.ops import (
    Array,
    as_matrix,
    due,
    eigh,
    identity,
    maximum,
    spread,
    where,
    zeros_like,
)
from thalweg.rules.products import product, symmetric_addmm, symmetric_product


class ShampooState(NamedTuple):
    """The sums of GGᵀ and GᵀG, and their inverse fourth roots."""

    precond_0: Array
    precond_1: Array
    inv_precond_0: Array
    inv_precond_1: Array


class ShampooMomentumState(NamedTuple):
    """The same, and the accumulated directions."""

    precond_0: Array
    precond_1: Array
    inv_precond_0: Array
    inv_precond_1: Array
    momentum_buffer: Array


class ShampooClock(NamedTuple):
    """Whether the roots are taken anew, and the axes of the parameter."""

    due: Array
    axes: tuple[int, ...]


def _state(h: Values, shape: tuple[int, ...]) -> type:
    del shape
    return ShampooMomentumState if nonzero(h.momentum) else ShampooState


def _start(p: Array, h: Values, axes: tuple[int, ...]) -> State:
    none = as_matrix(zeros_like(p), axes)
    rows, columns = none @ none.mT, none.mT @ none
    left = rows + spread(h.eps, rows) * identity(rows)
    right = columns + spread(h.eps, columns) * identity(columns)
    if nonzero(h.momentum):
        return ShampooMomentumState(left, right, rows, columns, zeros_like(p))
    return ShampooState(left, right, rows, columns)


def _clock(t: Array, h: Values, around: Surroundings) -> Clock:
    return ShampooClock((t - 1) % h.update_every == 0, around.axes)


def _direction(p: Array, g: Array, s: State, h: Values, c: Clock) -> tuple[Array, State]:
    shape, momentum = p.shape, h.momentum
    g, h, c = as_matrix((g, h, c), c.axes)
    left = symmetric_addmm(s.precond_0, g, g.mT, 1.0, 1.0)
    right = symmetric_addmm(s.precond_1, g.mT, g, 1.0, 1.0)
    left_root, right_root = s.inv_precond_0, s.inv_precond_1
    if due(c.due):
        left_root = where(c.due > 0, _inverse_fourth_root(left, h.eps), left_root)
        right_root = where(c.due > 0, _inverse_fourth_root(right, h.eps), right_root)
    d = product(product(left_root, g), right_root).reshape(shape)
    kept: tuple[Array, ...] = (left, right, left_root, right_root)
    if isinstance(s, ShampooMomentumState):
        d = momentum * s.momentum_buffer + d
        kept = (*kept, d)
    return d, type(s)(*kept)


def _inverse_fourth_root(x: Array, least: Array) -> Array:
    values, vectors = eigh(x)
    values = maximum(values, least)  # as they are, but for rounding
    return symmetric_product(vectors * values**-0.25, vectors.mT)


SHAMPOO = Rule(
    name="shampoo",
    title="Shampoo",
    formula="""
G ← G + λθ                            a filter is a matrix (out, everything else)
L ← L + GGᵀ,  R ← R + GᵀG             (εI before the first step)
D = L^(−¼) G R^(−¼)                   (roots taken anew at steps 1, 1 + k, 1 + 2k, …, k = update_every)
B ← μB + D, and D = B                 (with momentum)
θ ← θ − γD""",
    source=(
        "Gupta, Koren and Singer 2018 (arXiv 1802.09568), Algorithm 1, with roots from eigenvalues. Added, "
        "and off by default: roots older than L and R, decay, and momentum, which collects preconditioned "
        "directions as PyTorch's SGD collects gradients. Neither grafting nor blocks, as later versions have."
    ),
    hyper={
        "lr": Real(0.1, "rate γ", AT_LEAST_0),
        "momentum": Real(0.0, "momentum μ: the share of the buffer that is kept", UNIT),
        "weight_decay": Real(0.0, "L2 penalty λ, added to the gradient", AT_LEAST_0),
        "eps": Real(1e-4, "ε: the preconditioners before the first step are εI", ABOVE_0),
        "update_every": Integer(1, "steps from one taking of the roots to the next", Interval(1)),
        "maximize": MAXIMIZE,
    },
    state=_state,
    start=_start,
    clock=_clock,
    direction=_direction,
    scope=Scope.TENSOR,
    least_axes=2,
    rate_beside=lambda h: 0.01,  # Adagrad's rates, of which Shampoo's are, are not AdamW's
    about=About(
        family="matrix",
        year=2018,
        paper=(
            "Gupta, Koren and Singer: Shampoo: Preconditioned Stochastic Tensor Optimization, arXiv "
            "1802.09568"
        ),
        cost="4 products of matrices a step; eigenvectors of two square matrices every update_every steps; "
        "two square matrices and two roots as buffers",
        take="Matrices of some hundred rows and columns, where rows and columns are strongly correlated.",
        avoid="Matrices with a side of many thousands, such as embeddings; SOAP can leave such a side alone.",
        differs=(
            "Some libraries raise L and R to −1/2 (one over the number of axes) instead of the paper's −1/4.",
            "Distributed Shampoo can average L and R, and take over the length of another method's step.",
        ),
        wrong=("L and R are sums, not averages: as with Adagrad, the same gradient moves less and less.",),
    ),
)

"""Muon: momentum, made orthogonal as a matrix."""

import math
from typing import NamedTuple

from thalweg.hyper import ANY, AT_LEAST_0, UNIT, Choice, Flag, Integer, Interval, Real, Reals
from thalweg.rules.about import About
from thalweg.rules.base import MAXIMIZE, Clock, Decay, Rule, Scope, State, Surroundings, Values
from thalweg.rules.ops import Array, as_matrix, bfloat16, cast, lerp, maximum, norm_over
from thalweg.rules.products import addmm, plus_identity, product, symmetric_addmm, symmetric_product

# On one Gram matrix rounding errors grow by up to a² a step: after three steps a new one is computed. In
# bfloat16 X is then up to twice as far from the exact polynomial as with one for every step; five steps on
# one can miss it altogether.
TOGETHER = 3
GRAM_FROM = 256  # the shorter side from which the products, and not their number, cost most


class MuonState(NamedTuple):
    """The mean gradient."""

    momentum_buffer: Array


class MuonClock(NamedTuple):
    """The weight of a new gradient, 1 − μ, and the axes of the parameter."""

    new: Array
    axes: tuple[int, ...]


def _clock(t: Array, h: Values, around: Surroundings) -> Clock:
    del t
    return MuonClock(1 - h.momentum, around.axes)


def _direction(p: Array, g: Array, s: State, h: Values, c: Clock) -> tuple[Array, State]:
    m = lerp(s.momentum_buffer, g, c.new)
    u = lerp(g, m, h.momentum) if h.nesterov else m
    x = bfloat16(u) if h.precision == "bfloat16" else u
    x = as_matrix(x / maximum(norm_over(x, c.axes), h.eps), c.axes)
    rows, columns = x.shape[-2:]
    for together in _grouped(h.ns_steps, min(rows, columns), max(rows, columns)):
        x = _moved(x, as_matrix(h.ns_coefficients, c.axes), together)
    d, scale = cast(x, p).reshape(p.shape), _scale(h.adjust_lr_fn, rows, columns)
    return d if scale == 1 else scale * d, MuonState(m)


def _grouped(steps: int, short: int, long: int) -> list[int]:
    """Return how many steps are taken at a time: one, or up to three where the matrix is long enough."""
    if short < GRAM_FROM or 2 * long < 3 * short:
        return [1] * steps
    groups = -(-steps // TOGETHER)
    return [steps // groups + (place < steps % groups) for place in range(groups)]


def _moved(x: Array, coefficients: tuple[Array, ...], steps: int) -> Array:
    """Return X after some Newton–Schulz steps: QX, or XQ for a tall X, Q a polynomial of its Gram matrix."""
    first, third, fifth = coefficients
    tall = x.shape[-2] > x.shape[-1]
    gram = symmetric_product(x.mT, x) if tall else symmetric_product(x, x.mT)
    factor = symmetric_addmm(gram, gram, gram, third, fifth)
    if steps == 1:
        return addmm(x, x, factor, first, 1.0) if tall else addmm(x, factor, x, first, 1.0)
    q = factor = plus_identity(factor, first)
    for _ in range(steps - 1):  # A ← PAP, P ← aI + bA + cA², Q ← PQ; all are symmetric and commute
        gram = symmetric_product(symmetric_product(factor, gram), factor)
        factor = plus_identity(symmetric_addmm(gram, gram, gram, third, fifth), first)
        q = symmetric_product(factor, q)
    return product(x, q) if tall else product(q, x)


def _scale(adjust_lr_fn: str | None, rows: int, columns: int) -> float:
    if adjust_lr_fn == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1.0, rows / (columns or 1)))


MUON = Rule(
    name="muon",
    title="Muon",
    formula="""
m ← μm + (1 − μ)g
u = (1 − μ)g + μm with nesterov, else m; a filter as a matrix (out, everything else), transposed if it is tall
X = u / max(‖u‖, ε)
ns_steps times: A = XXᵀ,  X ← aX + (bA + cA²)X
θ ← (1 − γλ)θ
θ ← θ − γ·√max(1, rows/columns)·X, or 0.2√max(rows, columns) with match_rms_adamw""",
    source=(
        "Jordan et al. 2024 (kellerjordan.github.io/posts/muon); match_rms_adamw: Liu et al. 2025 "
        "(arXiv 2502.16982). As PyTorch, in its order of operations. Departures: filters are taken, as "
        "Jordan does, and not refused; with precision 'parameter' nothing is rounded to bfloat16. NumPy has "
        "no bfloat16 and always computes in the parameter's type. Where a matrix has sides of 256 or more, "
        "and one is at least 1.5 times the other, up to three steps are taken on one Gram matrix (Gram "
        "Newton–Schulz, dao-lab.ai/blog/2026/gram-newton-schulz): the same polynomial, rounded elsewhere."
    ),
    hyper={
        "lr": Real(1e-3, "rate γ", AT_LEAST_0),
        "weight_decay": Real(0.1, "decay λ, apart from the gradient", AT_LEAST_0),
        "momentum": Real(0.95, "momentum μ: memory of the mean", UNIT),
        "nesterov": Flag(True, "look one step ahead along the mean"),
        "ns_coefficients": Reals((3.4445, -4.775, 2.0315), "a, b, c of the Newton–Schulz steps", ANY),
        "eps": Real(1e-7, "ε: the least norm that is divided by", AT_LEAST_0),
        "ns_steps": Integer(5, "how many Newton–Schulz steps", Interval(1, 99)),
        "adjust_lr_fn": Choice(
            None,
            "how the rate follows the shape; None is original",
            ("original", "match_rms_adamw"),
            optional=True,
        ),
        "maximize": MAXIMIZE,
        "precision": Choice(
            "bfloat16", "of the Newton–Schulz products; parameter: its own type", ("bfloat16", "parameter")
        ),
    },
    state=lambda h, shape: MuonState,
    clock=_clock,
    direction=_direction,
    scope=Scope.TENSOR,
    decay=Decay.DECOUPLED,
    least_axes=2,
    # Jordan's rates are 0.02 and 3e-4; those that match AdamW's are one.
    rate_beside=lambda h: 1.0 if h.adjust_lr_fn == "match_rms_adamw" else 0.015,
    about=About(
        family="matrix",
        year=2024,
        paper=(
            "Jordan et al.: Muon: An optimizer for hidden layers in neural networks, "
            "kellerjordan.github.io/posts/muon"
        ),
        cost="15 products of matrices a step, 3 for each Newton–Schulz step (of long matrices the work of "
        "half as many); one buffer",
        take="The hidden matrices and filters of networks, with AdamW for everything else.",
        avoid="Embeddings, heads and vectors, which the AdamW beside it takes.",
        differs=(
            "With adjust_lr_fn None the step has spectral norm near √max(1, rows/columns) × the rate, and "
            "AdamW's rate does not carry over; with match_rms_adamw it does.",
            "timm has other coefficients at each of its five steps, and scales by match_rms_adamw.",
        ),
        wrong=(
            "Five steps with these coefficients do not give an orthogonal matrix: its singular values end "
            "between about 0.7 and 1.2, and small ones below.",
        ),
    ),
)

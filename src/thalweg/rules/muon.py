"""Muon: momentum, made orthogonal as a matrix."""

import math
from typing import NamedTuple

from thalweg.hyper import ANY, AT_LEAST_0, UNIT, Choice, Flag, Integer, Interval, Real, Reals
from thalweg.rules.about import About
from thalweg.rules.base import MAXIMIZE, Clock, Decay, Rule, Scope, State, Surroundings, Values
from thalweg.rules.ops import Array, addmm, as_matrix, bfloat16, cast, lerp, maximum, norm_over


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
    x = x.mT if rows > columns else x
    first, third, fifth = as_matrix(h.ns_coefficients, c.axes)
    for _ in range(h.ns_steps):
        gram = x @ x.mT
        x = addmm(x, addmm(gram, gram, gram, third, fifth), x, first, 1.0)
    x = x.mT if rows > columns else x
    d = _scale(h.adjust_lr_fn, rows, columns) * cast(x, p).reshape(p.shape)
    return d, MuonState(m)


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
        "no bfloat16 and always computes in the parameter's type."
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
        cost="15 products of matrices a step, 3 for each Newton–Schulz step; one buffer",
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

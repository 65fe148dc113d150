"""Adafactor: the mean square of a matrix kept as its row means and column means."""

from typing import NamedTuple

from thalweg.hyper import AT_LEAST_0, Interval, Real, Reals
from thalweg.rules.about import About
from thalweg.rules.base import MAXIMIZE, Clock, Decay, Rule, Scope, State, Surroundings, Values
from thalweg.rules.ops import Array, machine_epsilon, maximum, mean_over, sqrt, sum_over, zeros_like


class FactoredState(NamedTuple):
    """The mean squares R of rows and C of columns, with length 1 along the other of the last two axes."""

    row_var: Array
    col_var: Array


class WholeState(NamedTuple):
    """The mean square v of a vector or a number."""

    variance: Array


class AdafactorClock(NamedTuple):
    """The weight of a new gradient, min(γ, 1/√t) as a share of γ, and the axes of a mean."""

    new: Array
    share: Array
    axes: tuple[int, ...]


def _state(h: Values, shape: tuple[int, ...]) -> type:
    del h
    return FactoredState if len(shape) > 1 else WholeState


def _start(p: Array, h: Values, axes: tuple[int, ...]) -> State:
    del h
    if len(axes) < 2:
        return WholeState(zeros_like(p))
    return FactoredState(sum_over(zeros_like(p), (-1,)), sum_over(zeros_like(p), (-2,)))


def _clock(t: Array, h: Values, around: Surroundings) -> Clock:
    return AdafactorClock(t**h.beta2_decay, 1 / maximum(around.rate * t**0.5, 1.0), around.axes)


def _direction(p: Array, g: Array, s: State, h: Values, c: Clock) -> tuple[Array, State]:
    eps1 = machine_epsilon(p) if h.eps[0] is None else h.eps[0]
    if isinstance(s, FactoredState):
        squares = g * g
        r = s.row_var + c.new * (mean_over(squares, (-1,)) - s.row_var)
        k = s.col_var + c.new * (mean_over(squares, (-2,)) - s.col_var)
        v_root = sqrt(r / maximum(mean_over(r, (-2,)), eps1)) * sqrt(k)
        kept: State = FactoredState(r, k)
    else:
        v = s.variance + c.new * (g * g - s.variance)
        v_root, kept = sqrt(v), WholeState(v)
    u = g / maximum(v_root, eps1)
    p_rms, u_rms = sqrt(mean_over(p * p, c.axes)), sqrt(mean_over(u * u, c.axes))
    d = c.share * maximum(p_rms, h.eps[1]) / maximum(u_rms / h.d, 1.0) * u
    return d, kept


ADAFACTOR = Rule(
    name="adafactor",
    title="Adafactor",
    formula="""
θ ← (1 − γλ)θ
w = t^beta2_decay
R ← (1 − w)R + w·(row means of g²),  C likewise by column,  v = RC / max(mean R, ε₁)
v ← (1 − w)v + w·g²                                          (vectors and numbers)
u = g / max(√v, ε₁)
α = max(ε₂, RMS θ)·min(γ, 1/√t)
θ ← θ − α·u / max(1, RMS u / d)""",
    source=(
        "Shazeer and Stern 2018 (arXiv 1804.04235). As PyTorch: no momentum; ε₁ bounds √v and the mean of "
        "R, and is the machine epsilon where it is None, where the paper adds 1e-30 to g²; the bound γ on "
        "the relative step; decay by γλ. RMS θ is taken before the decay."
    ),
    about=About(
        family="low memory",
        year=2018,
        paper=(
            "Shazeer and Stern: Adafactor: Adaptive Learning Rates with Sublinear Memory Cost, arXiv "
            "1804.04235"
        ),
        cost="a row and a column of numbers for a matrix, in place of two buffers; three means a parameter",
        take="Large matrices where memory for the states is short.",
        avoid="Networks of vectors and small filters, where there is nothing to save.",
        differs=(
            "optax adds ε = 1e-30 to g², and factors only where both axes have at least 128 entries.",
            "optax takes the two longest axes of a filter; PyTorch, and so this, the last two, which are "
            "mostly the few pixels of its window.",
        ),
        wrong=(
            "Its rate is relative: a step is γ × RMS θ, and γ is bounded by 1/√t, so that a large rate falls "
            "on its own.",
        ),
    ),
    hyper={
        "lr": Real(1e-2, "rate γ: bound on the step as a share of RMS θ", AT_LEAST_0),
        "beta2_decay": Real(-0.8, "power of t that is the weight of a new g²", Interval(high=0.0)),
        "eps": Reals(
            (None, 1e-3), "ε₁, least √v (None: the machine epsilon), and ε₂, least RMS θ", AT_LEAST_0
        ),
        "d": Real(1.0, "largest RMS of u", Interval(1.0)),
        "weight_decay": Real(0.0, "decay λ, apart from the gradient", AT_LEAST_0),
        "maximize": MAXIMIZE,
    },
    state=_state,
    start=_start,
    clock=_clock,
    direction=_direction,
    scope=Scope.TENSOR,
    decay=Decay.DECOUPLED,
)

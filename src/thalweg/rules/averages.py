"""Averages of the parameters, with which one evaluates: Lookahead, exponential and plain.

Every parameter counts its own steps, t from 1: one without a gradient enters no average. A recursion whose
weight follows from t needs no count of its own::

    >>> from thalweg.rules.base import Surroundings
    >>> from thalweg.rules.sgd import SGD
    >>> from thalweg.rules.wrap import wrapped
    >>> rule = wrapped(SGD, [SWA(start=2, every=3)])
    >>> h, around = rule.values(rule.defaults()), Surroundings((), None, 0.1, 1.0)
    >>> [round(rule.clock(t, h, around).wrappers[0].share, 3) for t in range(1, 10)]
    [1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.5, 0.0]
"""

import math
from typing import NamedTuple

from thalweg.hyper import UNIT, Flag, Integer, Interval, Real
from thalweg.rules.base import Clock, Surroundings, Values
from thalweg.rules.ops import Array, lerp, where, zeros_like
from thalweg.rules.wrap import Own, Wrapper

FROM_1 = Interval(1, math.inf)


class LookaheadClock(NamedTuple):
    """Whether slow and fast weights meet at this step: 1 or 0."""

    meets: Array


class AverageClock(NamedTuple):
    """The weight of the new parameter in the average."""

    share: Array


def _copy(p: Array, h: Values, axes: tuple[int, ...]) -> Own:
    del h, axes
    return (p + zeros_like(p),)


def _average(p: Array, own: Own, h: Values) -> Array:
    del p, h
    return own[0]


def _mixed(p: Array, own: Own, h: Values, c: Clock) -> tuple[Array, Own]:
    del h
    return p, (lerp(own[0], p, c.share),)


def _lookahead_clock(t: Array, h: Values, around: Surroundings) -> Clock:
    del around
    return LookaheadClock(1.0 * (t % h.lookahead_every == 0))


def _lookahead(p: Array, own: Own, h: Values, c: Clock) -> tuple[Array, Own]:
    slow = lerp(own[0], p, c.meets * h.lookahead_alpha)
    return where(c.meets > 0, slow, p), (slow,)


def _ema_clock(t: Array, h: Values, around: Surroundings) -> Clock:
    del around
    share = 1 - h.ema_memory
    return AverageClock(share / (1 - h.ema_memory**t) if h.ema_corrected else share)


def _swa_clock(t: Array, h: Values, around: Surroundings) -> Clock:
    del around
    past = (t - h.swa_start) * (t > h.swa_start)
    number = past // h.swa_every  # how many parameters are in the average after this step
    none_yet = 1.0 * (number == 0)  # then it follows the parameter
    enters = 1.0 * (past % h.swa_every == 0)
    return AverageClock(none_yet + (1 - none_yet) * enters / (number + none_yet))


LOOKAHEAD = Wrapper(
    name="lookahead",
    title="Lookahead",
    formula="every k-th step, after it:  φ ← φ + α(θ − φ), θ ← φ        (φ = θ before the first step)",
    source=(
        "Zhang, Lucas, Hinton and Ba 2019 (arXiv 1907.08610), algorithm 1. The method's state goes on "
        "unchanged when slow and fast weights meet. One evaluates with φ, which between the meetings is not "
        "θ."
    ),
    use="To calm a method with a high rate, at the cost of one copy of the parameters.",
    hyper={
        "lookahead_every": Integer(5, "steps k of the fast weights between two of the slow ones", FROM_1),
        "lookahead_alpha": Real(0.5, "step α of the slow weights", Interval(0.0, 1.0, closed="right")),
    },
    clock=_lookahead_clock,
    after=_lookahead,
    fields=("slow",),
    start=_copy,
    evaluated=_average,
)

EMA = Wrapper(
    name="ema",
    title="Exponential average of the weights",
    formula="""
after each step:  e ← μe + (1 − μ)θ        (e = θ before the first step)
corrected: e is divided by 1 − μᵗ as Adam's means are, and forgets the start""",
    source=(
        "Polyak and Juditsky 1992 for averaging; the form of PyTorch's get_ema_avg_fn, which copies θ at the "
        "first update and has no correction. The correction is kept in e itself, as (1 − μ)/(1 − μᵗ) for 1 − "
        "μ."
    ),
    use=(
        "Evaluation and saving, at a constant rate above all: the average has less noise than the last "
        "weights."
    ),
    hyper={
        "ema_memory": Real(0.999, "memory μ of the average", UNIT),
        "ema_corrected": Flag(False, "leave the weights before the first step out"),
    },
    clock=_ema_clock,
    after=_mixed,
    fields=("average",),
    start=_copy,
    evaluated=_average,
)

SWA = Wrapper(
    name="swa",
    title="Stochastic weight averaging",
    formula=(
        "a = mean of the θ after steps t > start with t − start divisible by every; θ while there is none"
    ),
    source=(
        "Izmailov, Podoprikhin, Garipov, Vetrov and Wilson 2018 (arXiv 1803.05407). In the paper the weights "
        "at the start enter the mean; here, as in PyTorch's AveragedModel, they do not. The rate's schedule "
        "is yours to choose, and statistics of batch normalisation must be computed anew for the average."
    ),
    use="The last quarter of a run, at a constant or cyclic rate; every = the steps of an epoch.",
    hyper={
        "swa_start": Integer(0, "steps before the first one that may enter", Interval(0, math.inf)),
        "swa_every": Integer(1, "steps from one that enters to the next", FROM_1),
    },
    clock=_swa_clock,
    after=_mixed,
    fields=("average",),
    start=_copy,
    evaluated=_average,
)

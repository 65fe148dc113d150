"""ASGD: gradient descent with a falling rate, and the average of its path to evaluate with."""

from typing import NamedTuple

from thalweg.hyper import ANY, AT_LEAST_0, Real
from thalweg.rules.about import About
from thalweg.rules.base import MAXIMIZE, Clock, Rule, State, Surroundings, Values
from thalweg.rules.ops import Array, maximum, spread, sum_over, where, zeros_like


class ASGDState(NamedTuple):
    """The average of the path, its weight μ for the next point, and the next step size: one number each."""

    ax: Array
    mu: Array
    eta: Array


class ASGDClock(NamedTuple):
    """The step size at the first step, which later is the state's; and μ and η for the next step."""

    given: Array
    kept: Array
    mu: Array
    eta: Array


def _state(h: Values, shape: tuple[int, ...]) -> type:
    del h, shape
    return ASGDState


def _start(p: Array, h: Values, axes: tuple[int, ...]) -> State:
    nothing = sum_over(zeros_like(p), axes)
    return ASGDState(p + 0, nothing + 1, nothing + spread(h.lr, p))


def _clock(t: Array, h: Values, around: Surroundings) -> Clock:
    first = (t == 1) * 1.0  # the first rate may be a schedule's, of which the start does not know
    return ASGDClock(
        given=first * around.rate,
        kept=1 - first,
        mu=1 / maximum(t - h.t0, 1.0),
        eta=around.rate / (1 + h.lambd * around.rate * t) ** h.alpha,
    )


def _direction(p: Array, g: Array, s: State, h: Values, c: Clock) -> tuple[Array, State]:
    del c
    return g + h.lambd * p, s


def _tail(p: Array, d: Array, s: State, h: Values, c: Clock, rate: Array) -> tuple[Array, State]:
    del h, rate
    p = p - (c.given + c.kept * s.eta) * d
    ax = where(s.mu == 1, p, s.ax + s.mu * (p - s.ax))  # a copy has no rounding
    return p, ASGDState(ax, zeros_like(s.mu) + c.mu, zeros_like(s.eta) + c.eta)


def _evaluated(p: Array, s: State, h: Values) -> Array:
    del p, h
    return s.ax


ASGD = Rule(
    name="asgd",
    title="ASGD",
    formula="""
g ← g + weight_decay·θ
θ ← (1 − λη)θ − ηg           η = γ at the first step
ā ← ā + μ(θ − ā)             μ = 1 at the first step
η ← γ / (1 + λγt)^α          for the next step
μ ← 1 / max(1, t − t₀)
evaluated: ā""",
    source=(
        "Polyak and Juditsky 1992; the falling rate: Xu 2011, Towards Optimal One Pass Large Scale Learning "
        "with Averaged Stochastic Gradient Descent. As PyTorch: η and μ are those that the step before has "
        "left, so that a rate changed in mid-run acts one step later."
    ),
    about=About(
        family="gradient descent",
        year=1992,
        paper=(
            "Polyak and Juditsky: Acceleration of Stochastic Approximation by Averaging, SIAM J. Control "
            "Optim. 30"
        ),
        cost="one buffer of the parameter's size and two numbers",
        take="Convex problems with noisy gradients: the average settles where the path keeps wandering.",
        avoid="With the default t₀ = 10⁶ in shorter runs: the average is then the last point.",
        wrong=(
            "PyTorch's class trains θ and leaves the average ā in its state: whoever does not read it there "
            "has plain descent. Here `evaluated` is ā.",
            "λ (lambd) is no mere decay: it also sets how fast the rate falls.",
        ),
    ),
    hyper={
        "lr": Real(1e-2, "rate γ", AT_LEAST_0),
        "lambd": Real(1e-4, "λ: decay, and how fast the rate falls", AT_LEAST_0),
        "alpha": Real(0.75, "power α with which the rate falls", AT_LEAST_0),
        "t0": Real(1e6, "step t₀ from which on points are averaged", ANY),
        "weight_decay": Real(0.0, "L2 penalty, added to the gradient", AT_LEAST_0),
        "maximize": MAXIMIZE,
    },
    state=_state,
    start=_start,
    clock=_clock,
    direction=_direction,
    tail=_tail,
    evaluated=_evaluated,
)

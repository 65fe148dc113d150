"""Adadelta: the rate of each coordinate is the size of its own past steps."""

from typing import NamedTuple

from thalweg.hyper import AT_LEAST_0, Interval, Real
from thalweg.rules.about import About
from thalweg.rules.base import MAXIMIZE, Clock, Rule, State, Surroundings, Values
from thalweg.rules.ops import Array, sqrt


class AdadeltaState(NamedTuple):
    """The mean square v of gradients and the mean square D of directions."""

    square_avg: Array
    acc_delta: Array


class AdadeltaClock(NamedTuple):
    """The weight of what is new: 1 − ρ, in float64."""

    new: Array


def _state(h: Values, shape: tuple[int, ...]) -> type:
    del h, shape
    return AdadeltaState


def _clock(t: Array, h: Values, around: Surroundings) -> Clock:
    del t, around
    return AdadeltaClock(new=1 - h.rho)


def _direction(p: Array, g: Array, s: State, h: Values, c: Clock) -> tuple[Array, State]:
    del p
    v = h.rho * s.square_avg + c.new * g * g
    d = sqrt(s.acc_delta + h.eps) / sqrt(v + h.eps) * g
    return d, AdadeltaState(v, h.rho * s.acc_delta + c.new * d * d)


ADADELTA = Rule(
    name="adadelta",
    title="Adadelta",
    formula="""
g ← g + λθ
v ← ρv + (1 − ρ)g²
d = √(D + ε) / √(v + ε) · g
D ← ρD + (1 − ρ)d²
θ ← θ − γd""",
    source=(
        "Zeiler 2012 (arXiv 1212.5701). As PyTorch: a rate γ in front, which the paper does not have; at its "
        "default of 1 it is the paper's method."
    ),
    about=About(
        family="adaptive",
        year=2012,
        paper="Zeiler: ADADELTA: An Adaptive Learning Rate Method, arXiv 1212.5701",
        cost="two buffers of the parameter's size, two square roots an element",
        take="Where no rate can be searched for.",
        avoid="Where there is time to tune Adam: the start is slow, with steps of about √(ε/(1 − ρ)).",
        wrong=(
            "It is not free of a scale: ε sets the size of the first steps, about √(ε/(1 − ρ)).",
            "ε stands inside both roots here, unlike Adam's.",
        ),
    ),
    hyper={
        "lr": Real(1.0, "rate γ", AT_LEAST_0),
        "rho": Real(0.9, "memory ρ of both mean squares", Interval(0.0, 1.0)),
        "eps": Real(1e-6, "ε, keeps the division finite and starts the motion", AT_LEAST_0),
        "weight_decay": Real(0.0, "L2 penalty λ, added to the gradient", AT_LEAST_0),
        "maximize": MAXIMIZE,
    },
    state=_state,
    clock=_clock,
    direction=_direction,
)

"""Rprop: every coordinate has a step size of its own, and only the gradient's sign counts."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from thalweg.hyper import ABOVE_0, AT_LEAST_0, Real, Reals
from thalweg.rules.about import About
from thalweg.rules.base import (
    MAXIMIZE,
    Clock,
    Decay,
    Rule,
    State,
    Surroundings,
    Values,
    refuse_together,
    whole_step,
)
from thalweg.rules.ops import Array, maximum, minimum, sign, spread, where, zeros_like


class RpropState(NamedTuple):
    """The last gradient, 0 after a turn, and the step size of each coordinate."""

    prev: Array
    step_size: Array


class RpropClock(NamedTuple):
    """At the first step the rate and 0, later 0 and 1: where the step size comes from."""

    given: Array
    kept: Array


def _state(h: Values, shape: tuple[int, ...]) -> type:
    del h, shape
    return RpropState


def _start(p: Array, h: Values, axes: tuple[int, ...]) -> State:
    del axes
    return RpropState(zeros_like(p), zeros_like(p) + spread(h.lr, p))


def _clock(t: Array, h: Values, around: Surroundings) -> Clock:
    del h
    first = (t == 1) * 1.0  # the first rate may be a schedule's, of which the start does not know
    return RpropClock(given=first * around.rate, kept=1 - first)


def _direction(p: Array, g: Array, s: State, h: Values, c: Clock) -> tuple[Array, State]:
    del p
    shrink, grow = h.etas
    agreement = g * sign(s.prev)  # g · g_prev may leave the range of its type
    size = c.given + c.kept * s.step_size
    size = where(agreement > 0, size * grow, where(agreement < 0, size * shrink, size))
    size = minimum(maximum(size, h.step_sizes[0]), h.step_sizes[1])
    g = where(agreement < 0, zeros_like(g), g)
    return size * sign(g), RpropState(g, size)


def _conflict(values: Mapping[str, Any]) -> None:
    shrink, grow = values["etas"]
    if not shrink < 1 < grow:
        refuse_together(
            "etas of Rprop", "be a number below 1 and one above 1", f"{shrink}, {grow}", "Pass (0.5, 1.2)."
        )
    low, high = values["step_sizes"]
    if low > high:
        refuse_together(
            "step_sizes of Rprop", "be the smallest and the largest", f"{low}, {high}", "Turn them around."
        )


RPROP = Rule(
    name="rprop",
    title="Rprop",
    formula="""
Δ = γ before the first step
Δ ← Δη₊ where g·g_prev > 0, Δη₋ where g·g_prev < 0, within [Δ_min, Δ_max]
g ← 0 where g·g_prev < 0
θ ← θ − Δ·sign(g)
g_prev ← g""",
    source=(
        "Riedmiller and Braun 1993. As PyTorch: after a change of sign the coordinate rests for one step, "
        "and is not moved back; Igel and Hüsken 2000 call this iRprop−. The rate γ is the first step size "
        "and nothing else: a schedule has no effect after the first step. No weight decay."
    ),
    about=About(
        family="sign",
        year=1993,
        paper=(
            "Riedmiller and Braun: A direct adaptive method for faster backpropagation learning: the RPROP "
            "algorithm, IEEE ICNN 1993"
        ),
        cost="two buffers of the parameter's size; no square root",
        take="The full batch: small networks and functions with badly scaled coordinates.",
        avoid="Mini-batches: noise turns signs, and step sizes shrink where nothing is wrong.",
        wrong=(
            "The rate is no rate here: lowering it in mid-run changes nothing.",
            "RMSprop is not Rprop with an average: it does divide by the gradient's size, but a coordinate "
            "has no step size that remembers agreement of signs.",
        ),
    ),
    hyper={
        "lr": Real(1e-2, "first step size γ of every coordinate", AT_LEAST_0),
        "etas": Reals((0.5, 1.2), "factors η₋ after a change of sign and η₊ after none", ABOVE_0),
        "step_sizes": Reals((1e-6, 50.0), "smallest and largest step size", AT_LEAST_0),
        "maximize": MAXIMIZE,
    },
    state=_state,
    start=_start,
    clock=_clock,
    direction=_direction,
    conflict=_conflict,
    decay=Decay.OWN,
    tail=whole_step,
)

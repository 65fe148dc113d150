"""Gradient descent with and without momentum."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from thalweg.hyper import ANY, AT_LEAST_0, UNIT, Flag, Real
from thalweg.rules.base import (
    MAXIMIZE,
    Clock,
    Nothing,
    Rule,
    State,
    Surroundings,
    Values,
    nonzero,
    refuse_together,
)
from thalweg.rules.ops import Array


class MomentumState(NamedTuple):
    """The accumulated gradients."""

    momentum_buffer: Array


class SGDClock(NamedTuple):
    """How much of the new gradient enters the buffer."""

    gain: Array


def _state(h: Values) -> type:
    return MomentumState if nonzero(h.momentum) else Nothing


def _clock(t: Array, h: Values, around: Surroundings) -> Clock:
    del around
    dampened = (t > 1) * (h.momentum != 0)  # neither the first gradient nor, among replicas, plain descent
    return SGDClock(gain=1 - h.dampening * dampened)


def _direction(p: Array, g: Array, s: State, h: Values, c: Clock) -> tuple[Array, State]:
    del p
    if isinstance(s, Nothing):
        return g, s
    b = h.momentum * s.momentum_buffer + c.gain * g
    d = g + h.momentum * b if h.nesterov else b
    return d, MomentumState(b)


def _conflict(values: Mapping[str, Any]) -> None:
    if values["nesterov"] and (values["momentum"] <= 0 or values["dampening"] != 0):
        refuse_together(
            "nesterov of SGD",
            "come with a momentum above 0 and no dampening",
            f"momentum={values['momentum']}, dampening={values['dampening']}",
            "Pass momentum=0.9, dampening=0.",
        )


SGD = Rule(
    name="sgd",
    title="SGD",
    formula="""
g ← g + λθ
b ← μb + (1 − τ)g        (b = g at the first step)
d = b, or g + μb with nesterov; without momentum d = g
θ ← θ − γd""",
    source=(
        "Robbins and Monro 1951; momentum: Polyak 1964; Nesterov's form: Sutskever et al. 2013. As PyTorch: "
        "the rate γ stands outside the buffer, so that it acts on old gradients too when it changes; "
        "Sutskever et al. have it inside, b ← μb − γg."
    ),
    hyper={
        "lr": Real(1e-3, "rate γ", AT_LEAST_0),
        "momentum": Real(0.0, "momentum μ: the share of the buffer that is kept", UNIT),
        "dampening": Real(0.0, "dampening τ: the share of a new gradient that is left out", ANY),
        "weight_decay": Real(0.0, "L2 penalty λ, added to the gradient", AT_LEAST_0),
        "nesterov": Flag(False, "look one step ahead along the buffer"),
        "maximize": MAXIMIZE,
    },
    state=_state,
    clock=_clock,
    direction=_direction,
    conflict=_conflict,
)

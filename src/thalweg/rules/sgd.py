"""Gradient descent with and without momentum."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from thalweg.hyper import ANY, AT_LEAST_0, UNIT, Choice, Flag, Real
from thalweg.rules.about import About
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


def _state(h: Values, shape: tuple[int, ...]) -> type:
    del shape
    return MomentumState if nonzero(h.momentum) else Nothing


def _clock(t: Array, h: Values, around: Surroundings) -> Clock:
    del around
    dampened = (t > 1) * (h.momentum != 0)  # neither the first gradient nor, among replicas, plain descent
    return SGDClock(gain=1 - (h.momentum if h.buffer == "mean" else h.dampening * dampened))


def _direction(p: Array, g: Array, s: State, h: Values, c: Clock) -> tuple[Array, State]:
    del p
    if isinstance(s, Nothing):
        return g, s
    velocity = h.momentum * s.momentum_buffer + c.gain * g
    d = c.gain * g + h.momentum * velocity if h.nesterov else velocity
    return d, MomentumState(velocity)


def _conflict(values: Mapping[str, Any]) -> None:
    if values["nesterov"] and (values["momentum"] <= 0 or values["dampening"] != 0):
        refuse_together(
            "nesterov of SGD",
            "come with a momentum above 0 and no dampening",
            f"momentum={values['momentum']}, dampening={values['dampening']}",
            "Pass momentum=0.9, dampening=0.",
        )
    if values["buffer"] == "mean" and values["dampening"] != 0:
        refuse_together(
            "buffer of SGD",
            "be sum where there is dampening",
            f"buffer=mean, dampening={values['dampening']}",
            "Pass dampening=0: a mean leaves out a share of the gradient as it is.",
        )


SGD = Rule(
    name="sgd",
    title="SGD",
    formula="""
g ← g + λθ
b ← μb + (1 − τ)g        (b = g at the first step)
d = b, or g + μb with nesterov; without momentum d = g
θ ← θ − γd
buffer="mean": b ← μb + (1 − μ)g from b = 0, and (1 − μ)g + μb with nesterov""",
    source=(
        "Robbins and Monro 1951; momentum: Polyak 1964; Nesterov's form: Sutskever et al. 2013. As PyTorch: "
        "the rate γ stands outside the buffer, so that it acts on old gradients too when it changes; "
        "Sutskever et al. have it inside, b ← μb − γg. The mean is Thalweg's addition: at a constant rate "
        "the sum with γ is the mean with γ/(1 − μ)."
    ),
    about=About(
        family="gradient descent",
        year=1951,
        paper=(
            "Robbins and Monro: A Stochastic Approximation Method, Ann. Math. Statist. 22; momentum: "
            "Polyak: Some methods of speeding up the convergence of iteration methods, 1964; Sutskever et "
            "al.: On the importance of initialization and momentum in deep learning, ICML 2013"
        ),
        cost="no buffer; one of the parameter's size with momentum",
        take="Convolutional networks with momentum and a falling rate; wherever a baseline is needed.",
        avoid="Coordinates of very different scales, and transformers, where Adam takes far fewer steps.",
        differs=(
            "TensorFlow has the rate inside the buffer, b ← μb − γg.",
            "optax's trace is this buffer without dampening.",
        ),
        wrong=(
            "b ← βb + g with θ ← θ − γb is PyTorch's; b ← βb − γg is another method as soon as γ changes.",
            "The buffer is a sum and not an average: at a constant gradient it is g/(1 − μ), so that μ = 0.9 "
            "multiplies the rate by 10.",
            "Momentum as friction: more friction is a smaller μ.",
            "At a constant rate it reaches a neighbourhood of the minimum, whose size grows with the rate.",
            "It may stop at a saddle, or at a maximum: a gradient of zero is no proof of a minimum.",
        ),
    ),
    hyper={
        "lr": Real(1e-3, "rate γ", AT_LEAST_0),
        "momentum": Real(0.0, "momentum μ: the share of the buffer that is kept", UNIT),
        "dampening": Real(0.0, "dampening τ: the share of a new gradient that is left out", ANY),
        "weight_decay": Real(0.0, "L2 penalty λ, added to the gradient", AT_LEAST_0),
        "nesterov": Flag(False, "look one step ahead along the buffer"),
        "maximize": MAXIMIZE,
        "buffer": Choice("sum", "whether the buffer adds gradients up or is their mean", ("sum", "mean")),
    },
    state=_state,
    clock=_clock,
    direction=_direction,
    conflict=_conflict,
    lazy=True,
)

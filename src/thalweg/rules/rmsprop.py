"""RMSprop: the gradient divided by the root of its own mean square."""

from typing import NamedTuple

from thalweg.hyper import AT_LEAST_0, Flag, Interval, Real
from thalweg.rules.about import About
from thalweg.rules.base import MAXIMIZE, Clock, Rule, State, Surroundings, Values, nonzero
from thalweg.rules.ops import Array, maximum, sqrt


class RMSpropState(NamedTuple):
    """The mean square."""

    square_avg: Array


class MomentumState(NamedTuple):
    """The mean square, and the accumulated directions."""

    square_avg: Array
    momentum_buffer: Array


class CentredState(NamedTuple):
    """The mean square, and the mean."""

    square_avg: Array
    grad_avg: Array


class CentredMomentumState(NamedTuple):
    """The mean square, the accumulated directions, and the mean."""

    square_avg: Array
    momentum_buffer: Array
    grad_avg: Array


class RMSpropClock(NamedTuple):
    """The weight of a new gradient: 1 − α, in float64."""

    new: Array


def _state(h: Values, shape: tuple[int, ...]) -> type:
    del shape
    if nonzero(h.momentum):
        return CentredMomentumState if h.centered else MomentumState
    return CentredState if h.centered else RMSpropState


def _clock(t: Array, h: Values, around: Surroundings) -> Clock:
    del t, around
    return RMSpropClock(new=1 - h.alpha)


def _direction(p: Array, g: Array, s: State, h: Values, c: Clock) -> tuple[Array, State]:
    del p
    v = h.alpha * s.square_avg + c.new * g * g
    new = {"square_avg": v}
    if h.centered:
        g_mean = h.alpha * s.grad_avg + c.new * g
        new["grad_avg"] = g_mean
        variance = maximum(v - g_mean * g_mean, 0.0)  # rounding may leave less
        d = g / (sqrt(variance) + h.eps)
    else:
        d = g / (sqrt(v) + h.eps)
    if hasattr(s, "momentum_buffer"):
        d = velocity = h.momentum * s.momentum_buffer + d
        new["momentum_buffer"] = velocity
    return d, type(s)(**new)


RMSPROP = Rule(
    name="rmsprop",
    title="RMSprop",
    formula="""
g ← g + λθ
v ← αv + (1 − α)g²
ḡ ← αḡ + (1 − α)g, and v − ḡ² in place of v below      (centered)
d = g / (√v + ε)
b ← μb + d, and d = b                                  (with momentum)
θ ← θ − γd""",
    source=(
        "Tieleman and Hinton 2012 (lecture 6e, α = 0.9, no momentum); centred: Graves 2013. As PyTorch: "
        "α = 0.99, ε outside the root, no bias correction (the first step is 1/√(1 − α) × the rate), "
        "and the rate outside the momentum buffer. Departure: v − ḡ² is never taken to be below 0, where "
        "rounding makes PyTorch's NaN."
    ),
    about=About(
        family="adaptive",
        year=2012,
        paper=(
            "Tieleman and Hinton: Neural Networks for Machine Learning, lecture 6e, 2012; centred: Graves: "
            "Generating Sequences With Recurrent Neural Networks, arXiv 1308.0850"
        ),
        cost="one buffer of the parameter's size; one more when centred, one more with momentum",
        take="Recurrent networks and reinforcement learning, where objectives move.",
        avoid="Where the first steps must be small: nothing corrects v for starting at zero.",
        differs=(
            "optax has α = 0.9, and ε inside the root: √(v + ε).",
            "timm's is TensorFlow's: α = 0.9, √(v + 1e-10), v from 1, and the rate inside the momentum "
            "buffer.",
        ),
        wrong=(
            "Its memory is 0.9 in the lecture and 0.99 in PyTorch; with 0.999 the first step is 31.6 times "
            "the rate.",
            "It has no momentum of its own; PyTorch's option adds a buffer of directions.",
            "ε stands outside the root: √v + ε.",
        ),
    ),
    hyper={
        "lr": Real(1e-2, "rate γ", AT_LEAST_0),
        "alpha": Real(0.99, "memory α of the mean square", Interval(0.0, 1.0)),
        "eps": Real(1e-8, "ε, keeps the division finite", AT_LEAST_0),
        "weight_decay": Real(0.0, "L2 penalty λ, added to the gradient", AT_LEAST_0),
        "momentum": Real(0.0, "momentum μ: the share of the buffer that is kept", AT_LEAST_0),
        "centered": Flag(False, "divide by the standard deviation instead of the root mean square"),
        "maximize": MAXIMIZE,
    },
    state=_state,
    clock=_clock,
    direction=_direction,
)

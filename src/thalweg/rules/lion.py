"""Lion: the sign of a momentum that is looked at before it is stored."""

from typing import NamedTuple

from thalweg.hyper import AT_LEAST_0, UNIT, Real, Reals
from thalweg.rules.about import About
from thalweg.rules.base import MAXIMIZE, Clock, Decay, Rule, State, Surroundings, Values
from thalweg.rules.ops import Array, sign


class LionState(NamedTuple):
    """The mean gradient m."""

    exp_avg: Array


class LionClock(NamedTuple):
    """The weights of a new gradient in the direction and in m: 1 − β₁ and 1 − β₂, in float64."""

    new1: Array
    new2: Array


def _state(h: Values, shape: tuple[int, ...]) -> type:
    del h, shape
    return LionState


def _clock(t: Array, h: Values, around: Surroundings) -> Clock:
    del t, around
    return LionClock(1 - h.betas[0], 1 - h.betas[1])


def _direction(p: Array, g: Array, s: State, h: Values, c: Clock) -> tuple[Array, State]:
    del p
    d = sign(h.betas[0] * s.exp_avg + c.new1 * g)
    m = h.betas[1] * s.exp_avg + c.new2 * g
    return d, LionState(m)


LION = Rule(
    name="lion",
    title="Lion",
    formula="""
θ ← (1 − γλ)θ
d = sign(β₁m + (1 − β₁)g)
m ← β₂m + (1 − β₂)g
θ ← θ − γd""",
    source=(
        "Chen et al. 2023 (arXiv 2302.06675). As the paper: decay is multiplied by the rate γ. No departure."
    ),
    about=About(
        family="sign",
        year=2023,
        paper="Chen et al.: Symbolic Discovery of Optimization Algorithms, arXiv 2302.06675",
        cost="one buffer of the parameter's size, half of Adam's; no square root, no division",
        take="Large batches, transformers and vision networks where memory for the states is short.",
        avoid="Small batches: every coordinate moves by ±γ however noisy its gradient is.",
        differs=("optax has λ = 1e-3, timm 0, as here.",),
        wrong=(
            "AdamW's rate does not carry over: the paper takes a rate 3 to 10 times smaller and a decay 3 "
            "to 10 times larger.",
            "m is stored with β₂ after the direction has used β₁: it is not the sign of a momentum buffer.",
            "Its paper is “Symbolic Discovery of Optimization Algorithms”, 2023; there is no ε and no bias "
            "correction in it.",
        ),
    ),
    hyper={
        "lr": Real(1e-4, "rate γ: what every coordinate moves by", AT_LEAST_0),
        "betas": Reals((0.9, 0.99), "share β₁ of the old mean in the direction, memory β₂ of the mean", UNIT),
        "weight_decay": Real(0.0, "decay λ, apart from the gradient", AT_LEAST_0),
        "maximize": MAXIMIZE,
    },
    state=_state,
    clock=_clock,
    direction=_direction,
    decay=Decay.DECOUPLED,
)

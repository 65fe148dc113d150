"""Adam and AdamW: momentum, divided by the root mean square, both corrected for starting at zero."""

from dataclasses import replace
from typing import NamedTuple

from thalweg.hyper import AT_LEAST_0, UNIT, Flag, Real, Reals
from thalweg.rules.base import MAXIMIZE, Clock, Decay, Rule, State, Surroundings, Values
from thalweg.rules.ops import Array, maximum, sqrt


class AdamState(NamedTuple):
    """The mean gradient m and the mean square v."""

    exp_avg: Array
    exp_avg_sq: Array


class AMSGradState(NamedTuple):
    """m, v, and the largest v so far."""

    exp_avg: Array
    exp_avg_sq: Array
    max_exp_avg_sq: Array


class AdamClock(NamedTuple):
    """The weights of a new gradient, 1 − β, and the corrections, 1/(1 − βᵗ)."""

    new1: Array
    new2: Array
    correct1: Array
    correct2: Array


def _state(h: Values) -> type:
    return AMSGradState if h.amsgrad else AdamState


def _clock(t: Array, h: Values, around: Surroundings) -> Clock:
    del around
    beta1, beta2 = h.betas
    return AdamClock(
        new1=1 - beta1,
        new2=1 - beta2,
        correct1=1 / (1 - beta1**t),
        correct2=1 / (1 - beta2**t),
    )


def _direction(p: Array, g: Array, s: State, h: Values, c: Clock) -> tuple[Array, State]:
    del p
    beta1, beta2 = h.betas
    m = beta1 * s.exp_avg + c.new1 * g
    v = beta2 * s.exp_avg_sq + c.new2 * g * g
    m_hat = m * c.correct1
    if h.amsgrad:
        v_max = maximum(s.max_exp_avg_sq, v)
        v_hat = v_max * c.correct2
        kept: tuple[Array, ...] = (m, v, v_max)
    else:
        v_hat = v * c.correct2
        kept = (m, v)
    d = m_hat / (sqrt(v_hat) + h.eps)
    return d, type(s)(*kept)


ADAM = Rule(
    name="adam",
    title="Adam",
    formula="""
g ← g + λθ
m ← β₁m + (1 − β₁)g          m̂ = m / (1 − β₁ᵗ)
v ← β₂v + (1 − β₂)g²         v̂ = v / (1 − β₂ᵗ), or max v / (1 − β₂ᵗ) with amsgrad
d = m̂ / (√v̂ + ε)
θ ← θ − γd""",
    source=(
        "Kingma and Ba 2015 (arXiv 1412.6980); AMSGrad: Reddi, Kale and Kumar 2018. As PyTorch: ε outside "
        "the root, and AMSGrad takes the maximum of the uncorrected v."
    ),
    hyper={
        "lr": Real(1e-3, "rate γ", AT_LEAST_0),
        "betas": Reals((0.9, 0.999), "memories β₁ of the mean and β₂ of the mean square", UNIT),
        "eps": Real(1e-8, "ε, keeps the division finite", AT_LEAST_0),
        "weight_decay": Real(0.0, "L2 penalty λ, added to the gradient", AT_LEAST_0),
        "amsgrad": Flag(False, "never let the divisor fall"),
        "maximize": MAXIMIZE,
    },
    state=_state,
    clock=_clock,
    direction=_direction,
)

ADAMW = replace(
    ADAM,
    name="adamw",
    title="AdamW",
    formula=ADAM.formula.replace("g ← g + λθ", "θ ← (1 − γλ)θ"),
    source=(
        "Loshchilov and Hutter 2019 (arXiv 1711.05101). As PyTorch: decay is multiplied by the rate γ; the "
        "paper multiplies it by the schedule's factor only, so that λ(paper) = γλ(here) at a constant rate."
    ),
    hyper={**ADAM.hyper, "weight_decay": Real(1e-2, "decay λ, apart from the gradient", AT_LEAST_0)},
    decay=Decay.DECOUPLED,
)

"""LARS and LAMB: steps in proportion to the norm of the parameter that they move."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from thalweg.hyper import AT_LEAST_0, UNIT, Flag, Real, Reals
from thalweg.rules.about import About
from thalweg.rules.adam import AdamState
from thalweg.rules.base import (
    MAXIMIZE,
    Clock,
    Decay,
    Nothing,
    Rule,
    Scope,
    State,
    Surroundings,
    Values,
    nonzero,
    refuse_together,
    whole_step,
)
from thalweg.rules.ops import Array, norm_over, sqrt, where


class LARSState(NamedTuple):
    """The accumulated steps."""

    momentum_buffer: Array


class LARSClock(NamedTuple):
    """The scheduled rate, and the axes of a norm."""

    rate: Array
    axes: tuple[int, ...]


def _lars_state(h: Values, shape: tuple[int, ...]) -> type:
    del shape
    return LARSState if nonzero(h.momentum) else Nothing


def _lars_clock(t: Array, h: Values, around: Surroundings) -> Clock:
    del t, h
    return LARSClock(around.rate, around.axes)


def _lars_direction(p: Array, g: Array, s: State, h: Values, c: Clock) -> tuple[Array, State]:
    p_norm, g_norm = norm_over(p, c.axes), norm_over(g, c.axes)
    both = (p_norm > 0) & (g_norm > 0)
    total = where(both, g_norm + h.weight_decay * p_norm + h.eps, 1.0)
    q = where(both, h.trust_coefficient * p_norm / total, 1.0)
    own = c.rate * q * (g + h.weight_decay * p)  # what this gradient alone moves
    if isinstance(s, Nothing):
        return own, s
    velocity = h.momentum * s.momentum_buffer + own
    d = own + h.momentum * velocity if h.nesterov else velocity
    return d, LARSState(velocity)


def _lars_conflict(values: Mapping[str, Any]) -> None:
    if values["nesterov"] and values["momentum"] == 0:
        refuse_together(
            "nesterov of LARS", "come with a momentum above 0", "momentum=0", "Pass momentum=0.9."
        )


LARS = Rule(
    name="lars",
    title="LARS",
    formula="""
q = trust_coefficient·‖θ‖ / (‖g‖ + λ‖θ‖ + ε), or 1 where ‖θ‖ or ‖g‖ is 0
b ← μb + γq(g + λθ)
θ ← θ − b, or θ − (γq(g + λθ) + μb) with nesterov""",
    source=(
        "You, Gitman and Ginsburg 2017 (arXiv 1708.03888). As the paper: the rate γ is inside the buffer. "
        "Departures: ε, the ratio 1 where a norm is 0, and Nesterov's form, which the paper does not have."
    ),
    about=About(
        family="large batch",
        year=2017,
        paper="You, Gitman and Ginsburg: Large Batch Training of Convolutional Networks, arXiv 1708.03888",
        cost="one buffer of the parameter's size, and two norms a parameter",
        take="Convolutional networks at batches of thousands, with warm-up.",
        avoid=(
            "Small batches, where momentum does as well. Biases and normalisation want a group of their own."
        ),
        differs=(
            "optax divides by ‖g + λθ‖, and not by ‖g‖ + λ‖θ‖.",
            "Implementations on top of PyTorch's SGD keep the rate outside the buffer, which differs once "
            "the rate changes.",
        ),
        wrong=("Its rates are not SGD's: a step is about trust_coefficient·γ of the parameter's norm.",),
    ),
    hyper={
        "lr": Real(0.1, "rate γ", AT_LEAST_0),
        "momentum": Real(0.9, "momentum μ: the share of the buffer that is kept", UNIT),
        "weight_decay": Real(0.0, "decay λ, part of the step and of its norm", AT_LEAST_0),
        "trust_coefficient": Real(1e-3, "size of a step at γ = 1, as a share of ‖θ‖", AT_LEAST_0),
        "eps": Real(1e-8, "ε, keeps the division finite", AT_LEAST_0),
        "nesterov": Flag(False, "look one step ahead along the buffer"),
        "maximize": MAXIMIZE,
    },
    state=_lars_state,
    clock=_lars_clock,
    direction=_lars_direction,
    conflict=_lars_conflict,
    scope=Scope.TENSOR,
    decay=Decay.OWN,
    tail=whole_step,
)


class LAMBClock(NamedTuple):
    """The weights of a new gradient, 1 − β, the corrections, 1/(1 − βᵗ), and the axes of a norm."""

    new1: Array
    new2: Array
    correct1: Array
    correct2: Array
    axes: tuple[int, ...]


def _lamb_state(h: Values, shape: tuple[int, ...]) -> type:
    del h, shape
    return AdamState


def _lamb_clock(t: Array, h: Values, around: Surroundings) -> Clock:
    beta1, beta2 = h.betas
    return LAMBClock(1 - beta1, 1 - beta2, 1 / (1 - beta1**t), 1 / (1 - beta2**t), around.axes)


def _lamb_direction(p: Array, g: Array, s: State, h: Values, c: Clock) -> tuple[Array, State]:
    beta1, beta2 = h.betas
    m = beta1 * s.exp_avg + c.new1 * g
    v = beta2 * s.exp_avg_sq + c.new2 * g * g
    m_hat, v_hat = m * c.correct1, v * c.correct2
    r = m_hat / (sqrt(v_hat) + h.eps) + h.weight_decay * p
    p_norm, r_norm = norm_over(p, c.axes), norm_over(r, c.axes)
    both = (p_norm > 0) & (r_norm > 0)
    ratio = where(both, p_norm / where(both, r_norm, 1.0), 1.0)
    return ratio * r, AdamState(m, v)


LAMB = Rule(
    name="lamb",
    title="LAMB",
    formula="""
m ← β₁m + (1 − β₁)g          m̂ = m / (1 − β₁ᵗ)
v ← β₂v + (1 − β₂)g²         v̂ = v / (1 − β₂ᵗ)
r = m̂ / (√v̂ + ε) + λθ
d = r·‖θ‖/‖r‖, or r where ‖θ‖ or ‖r‖ is 0
θ ← θ − γd""",
    source=(
        "You et al. 2019 (arXiv 1904.00962), with φ(x) = x: the norm of θ is not bounded. The ratio is 1 "
        "where a norm is 0."
    ),
    about=About(
        family="large batch",
        year=2019,
        paper=(
            "You et al.: Large Batch Optimization for Deep Learning: Training BERT in 76 minutes, arXiv "
            "1904.00962"
        ),
        cost="two buffers of the parameter's size, as Adam, and two norms a parameter",
        take="Transformers at batches of thousands, with warm-up.",
        avoid="Small batches, where AdamW does as well. Biases and normalisation want a group of their own.",
        differs=(
            "timm's is NVIDIA's: it first clips all gradients to a global norm of 1, and leaves the ratio "
            "out where λ is 0.",
        ),
        wrong=("A step has the norm γ‖θ‖, whatever the gradient: AdamW's rates do not carry over.",),
    ),
    hyper={
        "lr": Real(1e-3, "rate γ: the size of a step as a share of ‖θ‖", AT_LEAST_0),
        "betas": Reals((0.9, 0.999), "memories β₁ of the mean and β₂ of the mean square", UNIT),
        "eps": Real(1e-6, "ε, keeps the division finite", AT_LEAST_0),
        "weight_decay": Real(0.01, "decay λ, part of the vector whose norm is taken", AT_LEAST_0),
        "maximize": MAXIMIZE,
    },
    state=_lamb_state,
    clock=_lamb_clock,
    direction=_lamb_direction,
    scope=Scope.TENSOR,
    decay=Decay.OWN,
)

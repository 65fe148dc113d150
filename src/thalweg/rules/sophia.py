"""Sophia: momentum, divided by a measured curvature and clipped where that is small."""

from dataclasses import replace
from typing import NamedTuple

from thalweg.hyper import ABOVE_0, AT_LEAST_0, UNIT, Integer, Interval, Real, Reals
from thalweg.rules.about import About
from thalweg.rules.base import MAXIMIZE, Clock, Curvature, Decay, Rule, State, Surroundings, Values
from thalweg.rules.ops import Array, maximum, minimum


class SophiaState(NamedTuple):
    """The mean gradient m, and the mean of the measured curvature h."""

    exp_avg: Array
    hessian: Array


class SophiaClock(NamedTuple):
    """The weights of a new gradient and of a new measurement, 1 − β."""

    new1: Array
    new2: Array


def _clock(t: Array, h: Values, around: Surroundings) -> Clock:
    del t, around
    return SophiaClock(1 - h.betas[0], 1 - h.betas[1])


def _direction(p: Array, g: Array, s: State, h: Values, c: Clock) -> tuple[Array, State]:
    del p
    m = h.betas[0] * s.exp_avg + c.new1 * g
    divisor = maximum(h.rho * s.hessian, h.eps)
    d = minimum(maximum(m, -divisor), divisor) / divisor  # m / divisor itself may overflow
    return d, SophiaState(m, s.hessian)


def _refresh(s: State, diagonal: Array, h: Values, c: Clock) -> State:
    hessian = h.betas[1] * s.hessian + c.new2 * diagonal
    return s._replace(hessian=hessian)


_FORMULA = """
m ← β₁m + (1 − β₁)g
every update_every steps, from the first on:  h ← β₂h + (1 − β₂)·{measured}
d = clip(m / max(ρh, ε), −1, 1)
θ ← (1 − γλ)θ
θ ← θ − γd
{meaning}"""
_SOURCE = (
    "Liu et al. 2023 (arXiv 2305.14342), with the defaults of the authors' code. The divisor is the paper's "
    "max(ρh, ε); the code has ρh + ε with ε = 1e-15. "
)
_ABOUT = About(
    family="curvature",
    year=2023,
    paper=(
        "Liu et al.: Sophia: A Scalable Stochastic Second-order Optimizer for Language Model Pre-training, "
        "arXiv 2305.14342"
    ),
    take="Language models, with ρ such that 10–50 % of the entries are not clipped.",
    avoid="Without something that measures the curvature: h stays 0, and every entry of the step is ±rate.",
    wrong=(
        "ρ stands beside h and not beside the rate: where the clip holds, the step does not depend on it.",
        "There is no bias correction: neither m nor h is divided by 1 − βᵗ.",
    ),
)

SOPHIA_H = Rule(
    name="sophia-h",
    title="Sophia-H",
    formula=_FORMULA.format(
        measured="u ⊙ Hu", meaning="H the Hessian of the loss of the batch, u random signs (Hutchinson)"
    ),
    source=_SOURCE,
    hyper={
        "lr": Real(1e-4, "rate γ", AT_LEAST_0),
        "betas": Reals((0.965, 0.99), "memories β₁ of the mean and β₂ of the curvature", UNIT),
        "rho": Real(0.04, "ρ: how much of the curvature counts; small: more entries are clipped", ABOVE_0),
        "eps": Real(1e-12, "ε: the least that is divided by", ABOVE_0),
        "weight_decay": Real(0.1, "decay λ, apart from the gradient", AT_LEAST_0),
        "maximize": MAXIMIZE,
        "update_every": Integer(10, "steps from one measurement of the curvature to the next", Interval(1)),
    },
    state=lambda h, shape: SophiaState,
    clock=_clock,
    direction=_direction,
    decay=Decay.DECOUPLED,
    refresh=_refresh,
    curvature=Curvature.HUTCHINSON,
    about=_ABOUT._replace(
        cost="two buffers; every update_every steps a product of the Hessian with a vector",
        differs=("optax corrects m for starting at 0, and divides by max(0.01h, 1e-8).",),
    ),
)

SOPHIA_G = replace(
    SOPHIA_H,
    curvature=Curvature.SAMPLED,
    name="sophia-g",
    title="Sophia-G",
    formula=_FORMULA.format(
        measured="B·ĝ²",
        meaning="ĝ the gradient of the batch of B with labels drawn from the model (Gauss–Newton–Bartlett)",
    ),
    source=_SOURCE + "The code multiplies by B in the divisor, here it is part of what is measured.",
    about=_ABOUT._replace(
        cost="two buffers; every update_every steps a gradient with labels drawn from the model",
        avoid=_ABOUT.avoid + " Losses that are no likelihood, from which no labels can be drawn.",
        wrong=(
            *_ABOUT.wrong,
            "ĝ is not the gradient of the step: with the labels of the data, ĝ² is the empirical Fisher.",
        ),
    ),
)

"""Adagrad: each coordinate's rate falls with the gradients that it has seen."""

from typing import NamedTuple

from thalweg.hyper import AT_LEAST_0, Real
from thalweg.rules.about import About
from thalweg.rules.base import MAXIMIZE, Clock, Rule, State, Surroundings, Values
from thalweg.rules.ops import Array, spread, sqrt, zeros_like


class AdagradState(NamedTuple):
    """The sum of squared gradients."""

    sum: Array


class AdagradClock(NamedTuple):
    """What is left of the rate at this step."""

    factor: Array


def _state(h: Values, shape: tuple[int, ...]) -> type:
    del h, shape
    return AdagradState


def _start(p: Array, h: Values, axes: tuple[int, ...]) -> State:
    del axes
    return AdagradState(zeros_like(p) + spread(h.initial_accumulator_value, p))


def _clock(t: Array, h: Values, around: Surroundings) -> Clock:
    del around
    return AdagradClock(factor=1 / (1 + (t - 1) * h.lr_decay))


def _direction(p: Array, g: Array, s: State, h: Values, c: Clock) -> tuple[Array, State]:
    del p
    v = s.sum + g * g
    d = c.factor * g / (sqrt(v) + h.eps)
    return d, AdagradState(v)


ADAGRAD = Rule(
    name="adagrad",
    title="Adagrad",
    formula="""
g ← g + λθ
v ← v + g²               (v = initial_accumulator_value before the first step)
d = g / (√v + ε) / (1 + (t − 1)·lr_decay)
θ ← θ − γd""",
    source="Duchi, Hazan and Singer 2011 (the diagonal form). As PyTorch: ε outside the root.",
    about=About(
        family="adaptive",
        year=2011,
        paper=(
            "Duchi, Hazan and Singer: Adaptive Subgradient Methods for Online Learning and Stochastic "
            "Optimization, JMLR 12"
        ),
        cost="one buffer of the parameter's size, one square root an element",
        take=(
            "Sparse features: words, clicks; convex problems. Sparse gradients move only the rows that occur."
        ),
        avoid="Long training of deep networks: v only grows, so that the rate falls to nothing.",
        differs=("optax starts v at 0.1 and has ε = 1e-7 inside the root.",),
        wrong=(
            "ε stands outside the root: √v + ε.",
            "A falling schedule is not needed: while gradients keep their size, the rate falls like 1/√t on "
            "its own.",
        ),
    ),
    hyper={
        "lr": Real(1e-2, "rate γ", AT_LEAST_0),
        "lr_decay": Real(0.0, "how fast the rate falls with the step, beside v", AT_LEAST_0),
        "weight_decay": Real(0.0, "L2 penalty λ, added to the gradient", AT_LEAST_0),
        "initial_accumulator_value": Real(0.0, "what v starts from", AT_LEAST_0),
        "eps": Real(1e-10, "ε, keeps the division finite", AT_LEAST_0),
        "maximize": MAXIMIZE,
    },
    state=_state,
    clock=_clock,
    direction=_direction,
    start=_start,
    lazy=True,
    state_at_once=True,
)

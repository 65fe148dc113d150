"""Adamax: Adam with the largest recent gradient in place of the root mean square."""

from typing import NamedTuple

from thalweg.hyper import AT_LEAST_0, UNIT, Real, Reals
from thalweg.rules.about import About
from thalweg.rules.base import MAXIMIZE, Clock, Rule, State, Surroundings, Values
from thalweg.rules.ops import Array, abs, maximum


class AdamaxState(NamedTuple):
    """The mean gradient m and the fading maximum u."""

    exp_avg: Array
    exp_inf: Array


class AdamaxClock(NamedTuple):
    """The weight of a new gradient, 1 − β₁, and the correction, 1/(1 − β₁ᵗ)."""

    new1: Array
    correct1: Array


def _state(h: Values, shape: tuple[int, ...]) -> type:
    del h, shape
    return AdamaxState


def _clock(t: Array, h: Values, around: Surroundings) -> Clock:
    del around
    beta1 = h.betas[0]
    return AdamaxClock(new1=1 - beta1, correct1=1 / (1 - beta1**t))


def _direction(p: Array, g: Array, s: State, h: Values, c: Clock) -> tuple[Array, State]:
    del p
    beta1, beta2 = h.betas
    m = beta1 * s.exp_avg + c.new1 * g
    u = maximum(beta2 * s.exp_inf, abs(g) + h.eps)
    m_hat = m * c.correct1
    return m_hat / u, AdamaxState(m, u)


ADAMAX = Rule(
    name="adamax",
    title="Adamax",
    formula="""
g ← g + λθ
m ← β₁m + (1 − β₁)g          m̂ = m / (1 − β₁ᵗ)
u ← max(β₂u, |g| + ε)
d = m̂ / u
θ ← θ − γd""",
    source=(
        "Kingma and Ba 2015, section 7.1 (arXiv 1412.6980). As PyTorch: ε is added to |g| before the "
        "maximum; the paper has none."
    ),
    about=About(
        family="adaptive",
        year=2015,
        paper="Kingma and Ba: Adam: A Method for Stochastic Optimization, section 7.1, arXiv 1412.6980",
        cost="two buffers of the parameter's size; no square root",
        take="Rare, large gradients, as of embeddings: the divisor follows the largest one at once.",
        avoid="Gradients with outliers: one of them slows a coordinate for about 1/(1 − β₂) steps.",
        differs=("Keras adds ε to u when it divides, and not to |g| before the maximum.",),
        wrong=("u needs no bias correction: a maximum does not start too small.",),
    ),
    hyper={
        "lr": Real(2e-3, "rate γ", AT_LEAST_0),
        "betas": Reals((0.9, 0.999), "memories β₁ of the mean and β₂ of the maximum", UNIT),
        "eps": Real(1e-8, "ε, keeps the division finite", AT_LEAST_0),
        "weight_decay": Real(0.0, "L2 penalty λ, added to the gradient", AT_LEAST_0),
        "maximize": MAXIMIZE,
    },
    state=_state,
    clock=_clock,
    direction=_direction,
)

"""NAdam: Adam that looks one step ahead along its momentum."""

from typing import NamedTuple

from thalweg.hyper import AT_LEAST_0, UNIT, Flag, Real, Reals
from thalweg.rules.about import About
from thalweg.rules.base import MAXIMIZE, Clock, Rule, State, Surroundings, Values
from thalweg.rules.ops import Array, sqrt, sum_over, zeros_like


class NAdamState(NamedTuple):
    """The mean gradient m, the mean square v, and the product of all μ so far, one number a parameter."""

    exp_avg: Array
    exp_avg_sq: Array
    mu_product: Array


class NAdamClock(NamedTuple):
    """The weights of a new gradient, the correction of v, and μ of this step and of the next."""

    new1: Array
    new2: Array
    correct2: Array
    mu: Array
    mu_next: Array


def _state(h: Values, shape: tuple[int, ...]) -> type:
    del h, shape
    return NAdamState


def _start(p: Array, h: Values, axes: tuple[int, ...]) -> State:
    del h
    return NAdamState(zeros_like(p), zeros_like(p), sum_over(zeros_like(p), axes) + 1)


def _clock(t: Array, h: Values, around: Surroundings) -> Clock:
    del around
    beta1, beta2 = h.betas
    return NAdamClock(
        new1=1 - beta1,
        new2=1 - beta2,
        correct2=1 / (1 - beta2**t),
        mu=beta1 * (1 - 0.5 * 0.96 ** (t * h.momentum_decay)),
        mu_next=beta1 * (1 - 0.5 * 0.96 ** ((t + 1) * h.momentum_decay)),
    )


def _direction(p: Array, g: Array, s: State, h: Values, c: Clock) -> tuple[Array, State]:
    del p
    beta1, beta2 = h.betas
    m = beta1 * s.exp_avg + c.new1 * g
    v = beta2 * s.exp_avg_sq + c.new2 * g * g
    product = s.mu_product * c.mu
    m_hat = c.mu_next / (1 - product * c.mu_next) * m + (1 - c.mu) / (1 - product) * g
    v_hat = v * c.correct2
    d = m_hat / (sqrt(v_hat) + h.eps)
    return d, NAdamState(m, v, product)


NADAM = Rule(
    name="nadam",
    title="NAdam",
    formula="""
g ← g + λθ, or θ ← (1 − γλ)θ with decoupled_weight_decay
μₜ = β₁(1 − ½·0.96^(tψ)),  Πₜ = μ₁μ₂…μₜ
m ← β₁m + (1 − β₁)g
v ← β₂v + (1 − β₂)g²         v̂ = v / (1 − β₂ᵗ)
m̂ = μₜ₊₁m / (1 − Πₜ₊₁) + (1 − μₜ)g / (1 − Πₜ)
d = m̂ / (√v̂ + ε)
θ ← θ − γd""",
    source=(
        "Dozat 2016 (ICLR workshop). As PyTorch: m is averaged with the constant β₁ and only m̂ follows the "
        "schedule μₜ; ψ = 0.004 stands for the paper's t/250."
    ),
    about=About(
        family="adaptive",
        year=2016,
        paper="Dozat: Incorporating Nesterov Momentum into Adam, ICLR workshop 2016",
        cost="two buffers of the parameter's size and one number, as Adam",
        take="Where Adam does well; it reacts to a new gradient a little earlier.",
        avoid="Where results must be comparable with other libraries: they disagree on μₜ.",
        differs=(
            "optax keeps μ = β₁ at all steps: m̂ = β₁m / (1 − β₁ᵗ⁺¹) + (1 − β₁)g / (1 − β₁ᵗ).",
            "Keras has μₜ = β₁(1 − ½·0.96ᵗ), which is ψ = 1.",
        ),
        wrong=("It is not Adam with PyTorch's Nesterov step: its two parts are corrected differently.",),
    ),
    hyper={
        "lr": Real(2e-3, "rate γ", AT_LEAST_0),
        "betas": Reals((0.9, 0.999), "memories β₁ of the mean and β₂ of the mean square", UNIT),
        "eps": Real(1e-8, "ε, keeps the division finite", AT_LEAST_0),
        "weight_decay": Real(0.0, "decay λ: L2, or apart from the gradient", AT_LEAST_0),
        "momentum_decay": Real(4e-3, "ψ: how fast μₜ grows from β₁/2 to β₁", AT_LEAST_0),
        "decoupled_weight_decay": Flag(False, "decay apart from the gradient, as AdamW"),
        "maximize": MAXIMIZE,
    },
    state=_state,
    start=_start,
    clock=_clock,
    direction=_direction,
)

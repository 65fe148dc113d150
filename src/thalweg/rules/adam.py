"""Adam, AdamW and SparseAdam: momentum over the root mean square, both corrected for starting at zero."""

from dataclasses import replace
from typing import NamedTuple

from thalweg.hyper import AT_LEAST_0, UNIT, Choice, Flag, Real, Reals
from thalweg.rules.about import About
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
    """The weights of a new gradient, 1 − β, the corrections, 1/(1 − βᵗ), and what ε adds to which side."""

    new1: Array
    new2: Array
    correct1: Array
    correct2: Array
    inside: Array  # None where ε stands outside the root, so that nothing is added in it
    outside: Array


def _state(h: Values, shape: tuple[int, ...]) -> type:
    del shape
    return AMSGradState if h.amsgrad else AdamState


def _corrections(t: Array, h: Values, epsilon: str) -> Clock:
    beta1, beta2 = h.betas
    correct2 = 1 / (1 - beta2**t)
    return AdamClock(
        new1=1 - beta1,
        new2=1 - beta2,
        correct1=1 / (1 - beta1**t),
        correct2=correct2,
        inside=h.eps if epsilon == "inside" else None,
        outside={"outside": h.eps, "inside": 0 * h.eps, "uncorrected": h.eps * correct2**0.5}[epsilon],
    )


def _clock(t: Array, h: Values, around: Surroundings) -> Clock:
    del around
    return _corrections(t, h, h.epsilon)


def _direction(p: Array, g: Array, s: State, h: Values, c: Clock) -> tuple[Array, State]:
    del p
    beta1, beta2 = h.betas
    m = beta1 * s.exp_avg + c.new1 * g
    v = beta2 * s.exp_avg_sq + c.new2 * g * g
    m_hat = m * c.correct1
    if isinstance(s, AMSGradState):
        v_max = maximum(s.max_exp_avg_sq, v)
        v_hat = v_max * c.correct2
        kept: State = AMSGradState(m, v, v_max)
    else:
        v_hat = v * c.correct2
        kept = AdamState(m, v)
    root = sqrt(v_hat) if c.inside is None else sqrt(v_hat + c.inside)
    d = m_hat / (root + c.outside)
    return d, kept


ADAM = Rule(
    name="adam",
    title="Adam",
    formula="""
g ← g + λθ
m ← β₁m + (1 − β₁)g          m̂ = m / (1 − β₁ᵗ)
v ← β₂v + (1 − β₂)g²         v̂ = v / (1 − β₂ᵗ), or max v / (1 − β₂ᵗ) with amsgrad
d = m̂ / (√v̂ + ε)
θ ← θ − γd
epsilon="inside": d = m̂ / √(v̂ + ε);  "uncorrected": d = √(1 − β₂ᵗ)/(1 − β₁ᵗ) · m / (√v + ε)""",
    source=(
        "Kingma and Ba 2015 (arXiv 1412.6980); AMSGrad: Reddi, Kale and Kumar 2018. As PyTorch: ε outside "
        "the root, and AMSGrad takes the maximum of the uncorrected v. The paper's section 2 names the "
        "uncorrected form too, with ε̂ for ε."
    ),
    about=About(
        family="adaptive",
        year=2015,
        paper=(
            "Kingma and Ba: Adam: A Method for Stochastic Optimization, arXiv 1412.6980; AMSGrad: Reddi, "
            "Kale and Kumar: On the Convergence of Adam and Beyond, arXiv 1904.09237"
        ),
        cost="two buffers of the parameter's size (three with amsgrad), one square root an element",
        take="Nearly everywhere: transformers, recurrent networks, badly scaled coordinates.",
        avoid="With weight decay, which here is L2 and acts least where gradients are large: take AdamW.",
        differs=(
            'TensorFlow computes what epsilon="uncorrected" does.',
            "optax has a second ε inside the root, eps_root, 0 by default.",
            "HeavyBall divides by max(√v̂, ε), with β₂ = 0.99.",
        ),
        wrong=(
            "Without the bias correction the first steps are too large, not too small: × 3.16 at t = 1, at "
            "most × 6.57 at t = 12, still × 1.26 at t = 1000.",
            "That first uncorrected step, 3.16·sign(g), does not depend on the gradient's scale.",
            "ε stands outside the root: √v̂ + ε.",
            "1/(1 − β) is the memory in steps: 10 at 0.9, 1000 at 0.999.",
        ),
    ),
    hyper={
        "lr": Real(1e-3, "rate γ", AT_LEAST_0),
        "betas": Reals((0.9, 0.999), "memories β₁ of the mean and β₂ of the mean square", UNIT),
        "eps": Real(1e-8, "ε, keeps the division finite", AT_LEAST_0),
        "weight_decay": Real(0.0, "L2 penalty λ, added to the gradient", AT_LEAST_0),
        "amsgrad": Flag(False, "never let the divisor fall"),
        "maximize": MAXIMIZE,
        "epsilon": Choice(
            "outside", "where ε stands: √v̂ + ε, √(v̂ + ε), or √v + ε", ("outside", "inside", "uncorrected")
        ),
    },
    state=_state,
    clock=_clock,
    direction=_direction,
    lazy=True,
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
    about=ADAM.about._replace(
        year=2019,
        paper="Loshchilov and Hutter: Decoupled Weight Decay Regularization, arXiv 1711.05101",
        take="Transformers, and wherever Adam comes with weight decay.",
        avoid="Where a rate is swept at a fixed λ: the decay of a step is γλ, and changes with the rate.",
        differs=("optax has λ = 1e-4 by default, HeavyBall 0.", *ADAM.about.differs),
        wrong=(
            "Decoupled decay is no L2 penalty: with Adam the two differ, with plain SGD they are the same.",
            "It gives no exact zeros.",
            *ADAM.about.wrong,
        ),
    ),
    hyper={**ADAM.hyper, "weight_decay": Real(1e-2, "decay λ, apart from the gradient", AT_LEAST_0)},
    decay=Decay.DECOUPLED,
)


def _sparse_state(h: Values, shape: tuple[int, ...]) -> type:
    del h, shape
    return AdamState


def _sparse_clock(t: Array, h: Values, around: Surroundings) -> Clock:
    del around
    return _corrections(t, h, "uncorrected")


SPARSE_ADAM = replace(
    ADAM,
    name="sparse-adam",
    title="SparseAdam",
    formula="""
in the rows of which the gradient has one:
m ← β₁m + (1 − β₁)g
v ← β₂v + (1 − β₂)g²
d = √(1 − β₂ᵗ)/(1 − β₁ᵗ) · m / (√v + ε)
θ ← θ − γd""",
    source=(
        "Kingma and Ba 2015 (arXiv 1412.6980), on the rows that occur. As PyTorch: ε is added to the "
        "uncorrected √v, t counts steps and not the occurrences of a row, no weight decay. Departure: a "
        "dense gradient moves all rows, where PyTorch's class refuses it."
    ),
    about=ADAM.about._replace(
        paper=(
            "Kingma and Ba: Adam: A Method for Stochastic Optimization, arXiv 1412.6980; lazily, as PyTorch"
        ),
        cost="two buffers of the parameter's size; time only for the rows that occur",
        take="Large embeddings with sparse=True, of which a batch meets few rows.",
        avoid="Dense gradients, and where decay is wanted.",
        differs=(),
        wrong=(
            "It is not Adam made faster: in Adam a row without a gradient moves on along its momentum, and "
            "its averages fade; here it rests.",
        ),
    ),
    hyper={name: ADAM.hyper[name] for name in ("lr", "betas", "eps", "maximize")},
    state=_sparse_state,
    clock=_sparse_clock,
    decay=Decay.OWN,
)

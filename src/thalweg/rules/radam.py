"""RAdam: Adam that waits until its mean square is worth dividing by."""

from typing import NamedTuple

from thalweg.hyper import AT_LEAST_0, UNIT, Flag, Real, Reals
from thalweg.rules.about import About
from thalweg.rules.adam import AdamState
from thalweg.rules.base import MAXIMIZE, Clock, Rule, State, Surroundings, Values
from thalweg.rules.ops import Array, sqrt, where


class RAdamClock(NamedTuple):
    """The weights of a new gradient, the correction of m, and r·√(1 − β₂ᵗ), which is 0 while ρ ≤ 5."""

    new1: Array
    new2: Array
    correct1: Array
    rectified: Array


def _state(h: Values, shape: tuple[int, ...]) -> type:
    del h, shape
    return AdamState


def _clock(t: Array, h: Values, around: Surroundings) -> Clock:
    del around
    beta1, beta2 = h.betas
    end = 2 / (1 - beta2) - 1
    rho = end - 2 * t * beta2**t / (1 - beta2**t)
    enough = rho > 5
    end, rho = where(enough, end, 6.0), where(enough, rho, 6.0)  # any number, so that the root is real
    r = sqrt((rho - 4) * (rho - 2) * end / ((end - 4) * (end - 2) * rho))
    return RAdamClock(1 - beta1, 1 - beta2, 1 / (1 - beta1**t), enough * r * sqrt(1 - beta2**t))


def _direction(p: Array, g: Array, s: State, h: Values, c: Clock) -> tuple[Array, State]:
    del p
    beta1, beta2 = h.betas
    m = beta1 * s.exp_avg + c.new1 * g
    v = beta2 * s.exp_avg_sq + c.new2 * g * g
    m_hat = m * c.correct1
    d = m_hat * where(c.rectified > 0, c.rectified / (sqrt(v) + h.eps), 1.0)
    return d, AdamState(m, v)


RADAM = Rule(
    name="radam",
    title="RAdam",
    formula="""
g ← g + λθ, or θ ← (1 − γλ)θ with decoupled_weight_decay
m ← β₁m + (1 − β₁)g          m̂ = m / (1 − β₁ᵗ)
v ← β₂v + (1 − β₂)g²
ρ∞ = 2/(1 − β₂) − 1,  ρ = ρ∞ − 2tβ₂ᵗ/(1 − β₂ᵗ)
r = √((ρ − 4)(ρ − 2)ρ∞ / ((ρ∞ − 4)(ρ∞ − 2)ρ))
d = m̂·r·√(1 − β₂ᵗ) / (√v + ε) if ρ > 5, else m̂
θ ← θ − γd""",
    source=(
        "Liu et al. 2019 (arXiv 1908.03265). As PyTorch: ρ > 5, where the paper has ρ > 4; and ε is added to "
        "the uncorrected √v."
    ),
    about=About(
        family="adaptive",
        year=2019,
        paper="Liu et al.: On the Variance of the Adaptive Learning Rate and Beyond, arXiv 1908.03265",
        cost="two buffers of the parameter's size, as Adam",
        take="In place of Adam with warm-up, where the length of a warm-up is not to be tuned.",
        avoid="Gradients far from size 1: the first steps are plain momentum descent at Adam's rate.",
        differs=("optax tests ρ ≥ 5, and adds ε to the corrected √v̂.",),
        wrong=(
            "The first steps (five at β₂ = 0.999) are not small Adam steps: they are not divided at all, and "
            "depend on the scale of the gradient.",
            "With β₂ ≤ ⅔ it never divides, because ρ∞ ≤ 5.",
        ),
    ),
    hyper={
        "lr": Real(1e-3, "rate γ", AT_LEAST_0),
        "betas": Reals((0.9, 0.999), "memories β₁ of the mean and β₂ of the mean square", UNIT),
        "eps": Real(1e-8, "ε, keeps the division finite", AT_LEAST_0),
        "weight_decay": Real(0.0, "decay λ: L2, or apart from the gradient", AT_LEAST_0),
        "decoupled_weight_decay": Flag(False, "decay apart from the gradient, as AdamW"),
        "maximize": MAXIMIZE,
    },
    state=_state,
    clock=_clock,
    direction=_direction,
)

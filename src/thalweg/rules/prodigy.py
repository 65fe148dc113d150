"""Prodigy: Adam that estimates its own rate, from how far the parameters have come."""

from typing import NamedTuple

from thalweg.hyper import ABOVE_0, AT_LEAST_0, UNIT, Flag, Interval, Real, Reals
from thalweg.rules.about import About
from thalweg.rules.base import MAXIMIZE, Clock, Decay, Rule, Scope, State, Surroundings, Values
from thalweg.rules.ops import Array, abs, maximum, minimum, sqrt, sum_over, where, zeros_like


class ProdigyState(NamedTuple):
    """The mean gradient and mean square, both times d; the sum of gradients, and where it began."""

    exp_avg: Array
    exp_avg_sq: Array
    s: Array
    p0: Array


class ProdigyShared(NamedTuple):
    """What all parameters have in common."""

    d: Array
    d_max: Array
    d_numerator: Array
    d_step: Array  # the d of this step, the one before; 0 before any gradient
    k: Array  # how many steps were taken


class ProdigySums(NamedTuple):
    """What is added up over all parameters."""

    numerator: Array
    denominator: Array


class ProdigyClock(NamedTuple):
    """Numbers of this step; those of `partial` have the old d, those of the body the new one."""

    axes: tuple[int, ...]
    new1: Array  # (1 − β₁)d
    new2: Array  # (1 − β₂)d²
    beta3: Array
    gain: Array  # (d/d₀)·d·rate, corrected: of the numerator
    gain_s: Array  # of s
    scale: Array  # what the rate is multiplied by
    eps: Array  # dε


def bias_correction(k: Array, h: Values) -> Array:
    """Return √(1 − β₂ᵏ)/(1 − β₁ᵏ), or 1 where the hyperparameters leave it off."""
    beta1, beta2 = h.betas
    return (1 - beta2**k) ** 0.5 / (1 - beta1**k) if h.use_bias_correction else 1.0


def kept_unless(known: Array, new: NamedTuple, old: NamedTuple) -> NamedTuple:
    """Return the new shared scalars, and the old ones for replicas that have seen no gradient yet."""
    return type(new)(*(where(known, x, y) for x, y in zip(new, old, strict=True)))


def _beta3(h: Values) -> Array:
    return h.betas[1] ** 0.5 if h.beta3 is None else h.beta3


def _start(p: Array, h: Values, axes: tuple[int, ...]) -> State:
    del h, axes
    return ProdigyState(zeros_like(p), zeros_like(p), zeros_like(p), p + 0)


def _clock(t: Array, h: Values, around: Surroundings) -> Clock:
    del t  # each parameter's; the method counts steps of the whole
    d, k = around.shared.d, around.shared.k
    beta1, beta2 = h.betas
    gain = d / h.d0 * d
    gain_rate = gain * around.rate * bias_correction(k + 1, h)
    return ProdigyClock(
        axes=around.axes,
        new1=(1 - beta1) * d,
        new2=(1 - beta2) * d * d,
        beta3=_beta3(h),
        gain=gain_rate,
        gain_s=gain if h.safeguard_warmup else gain_rate,
        scale=around.shared.d_step * bias_correction(maximum(k, 1.0), h),
        eps=d * h.eps,
    )


def _partial(p: Array, g: Array, s: State, h: Values, c: Clock) -> tuple[ProdigySums, State]:
    beta1, beta2 = h.betas
    m = beta1 * s.exp_avg + c.new1 * g
    v = beta2 * s.exp_avg_sq + c.new2 * g * g
    s_new = c.beta3 * s.s + c.gain_s * g
    numerator = c.gain * sum_over(g * (s.p0 - p), c.axes)
    return ProdigySums(numerator, sum_over(abs(s_new), c.axes)), ProdigyState(m, v, s_new, s.p0)


def _combine(shared: ProdigyShared, sums: ProdigySums, h: Values) -> ProdigyShared:
    known = sums.denominator > 0
    d_numerator = _beta3(h) * shared.d_numerator + sums.numerator
    d_hat = h.d_coef * d_numerator / where(known, sums.denominator, 1.0)
    d_max = maximum(shared.d_max, d_hat)
    d = where(shared.d == h.d0, maximum(shared.d, d_hat), shared.d)
    d = minimum(d_max, d * h.growth_rate)
    new = ProdigyShared(d, d_max, d_numerator, shared.d, shared.k + 1)
    return kept_unless(known, new, shared)  # type: ignore[return-value]


def _direction(p: Array, g: Array, s: State, h: Values, c: Clock) -> tuple[Array, State]:
    del g  # the state has moved in `partial`
    d = c.scale * (s.exp_avg / (sqrt(s.exp_avg_sq) + c.eps) + h.weight_decay * p)
    return d, s


# The declarations that D-Adaptation has in common with Prodigy.
GROWTH_RATE = Real(float("inf"), "the most by which d may grow in a step", Interval(1.0, infinite=True))
BIAS_CORRECTION = Flag(False, "multiply the rate by Adam's bias corrections √(1 − β₂ᵏ)/(1 − β₁ᵏ)")

PRODIGY = Rule(
    name="prodigy",
    title="Prodigy",
    formula="""
one d for all parameters, d₀ = d0; d' is the d after this step; η = dγ, times √(1 − β₂ᵏ)/(1 − β₁ᵏ) on request
m ← β₁m + (1 − β₁)dg
v ← β₂v + (1 − β₂)d²g²
s ← β₃s + (d/d₀)ηg                    (d instead of η with safeguard_warmup)
r ← β₃r + (d/d₀)Σ⟨g, θ₀ − θ⟩η
d̂ = d_coef·r / Σ‖s‖₁
d_max ← max(d_max, d̂),  d' = min(d_max, d·growth_rate), where d = d₀: min(d_max, max(d, d̂)·growth_rate)
θ ← θ − η(m / (√v + d'ε) + λθ)""",
    source=(
        "Mishchenko and Defazio 2023 (arXiv 2306.06101). As the authors' package prodigyopt 1.1 with "
        "decouple=True and slice_p=1: β₃ = √β₂, d grows without bound, η has the old d and ε the new one. "
        "Departures: a step at rate 0 is counted, where the package leaves everything as it is; with β₁ = 0 "
        "the step has the old d, there the new one."
    ),
    hyper={
        "lr": Real(1.0, "what d is multiplied by: rate γ", AT_LEAST_0),
        "betas": Reals((0.9, 0.999), "memories β₁ of the mean and β₂ of the mean square", UNIT),
        "beta3": Real(None, "memory β₃ of what d is estimated from; None: √β₂", UNIT, optional=True),
        "eps": Real(1e-8, "ε, keeps the division finite", ABOVE_0),
        "weight_decay": Real(0.0, "decay λ, apart from the gradient", AT_LEAST_0),
        "use_bias_correction": BIAS_CORRECTION,
        "safeguard_warmup": Flag(False, "leave the rate out of s, for schedules that start near 0"),
        "d0": Real(1e-6, "the d to begin with; far below what is right", ABOVE_0),
        "d_coef": Real(1.0, "what the estimate of d is multiplied by: the knob to turn", ABOVE_0),
        "growth_rate": GROWTH_RATE,
        "maximize": MAXIMIZE,
    },
    state=lambda h, shape: ProdigyState,
    start=_start,
    clock=_clock,
    direction=_direction,
    scope=Scope.GLOBAL,
    decay=Decay.OWN,
    initial_shared=lambda h: ProdigyShared(h.d0, h.d0, 0 * h.d0, 0 * h.d0, 0 * h.d0),
    partial=_partial,
    combine=_combine,
    about=About(
        family="rate-free",
        year=2023,
        paper=(
            "Mishchenko and Defazio: Prodigy: An Expeditiously Adaptive Parameter-Free Learner, arXiv "
            "2306.06101"
        ),
        cost="four buffers and two sums over all parameters",
        take="Where no rate is known and a search is too dear; with a schedule that falls from 1.",
        avoid="Where a few runs can be spent on a search, or rates differ between parameters.",
        differs=(
            "optax always multiplies by the bias corrections.",
            "The package skips a step in which the rate is 0; here the averages move.",
        ),
        wrong=(
            "What adapts is one number for all parameters, and never falls: a schedule is still needed.",
            "lr is no learning rate: it stays at 1, and d_coef is what is tuned.",
        ),
    ),
)

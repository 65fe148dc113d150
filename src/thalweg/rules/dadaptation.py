"""D-Adaptation: Adam and SGD that estimate their own rate, from a bound on how far the minimum is."""

from typing import NamedTuple

from thalweg.hyper import ABOVE_0, AT_LEAST_0, UNIT, Flag, Real, Reals
from thalweg.rules.about import About
from thalweg.rules.base import MAXIMIZE, Clock, Decay, Rule, Scope, State, Surroundings, Values, whole_step
from thalweg.rules.ops import Array, abs, maximum, minimum, sqrt, sum_over, where, zeros_like
from thalweg.rules.prodigy import BIAS_CORRECTION, GROWTH_RATE, bias_correction, kept_unless


class DAdaptationAdamSums(NamedTuple):
    """What is added up over all parameters: how gradients agree with s, and Σ|s|."""

    agreement: Array
    size: Array


class DAdaptationSGDSums(NamedTuple):
    """What is added up over all parameters: how gradients agree with s, Σs² and Σg²."""

    agreement: Array
    size: Array
    energy: Array


class DAdaptationAdamState(NamedTuple):
    """The sum of gradients; the mean gradient with the rate in it, and the mean square."""

    s: Array
    exp_avg: Array
    exp_avg_sq: Array


class DAdaptationAdamShared(NamedTuple):
    """What all parameters have in common."""

    d: Array
    numerator_weighted: Array
    d_step: Array  # the d of this step, the one before; 0 before any gradient
    k: Array  # how many steps were taken


class DAdaptationAdamClock(NamedTuple):
    """Numbers of this step; `rate` has the old d in `partial`, and `decay` the same one in the body."""

    axes: tuple[int, ...]
    rate: Array  # dγ, corrected
    new1: Array  # (1 − β₁)·rate
    new2: Array
    root: Array  # √β₂
    new_s: Array  # (1 − √β₂)·rate
    decay: Array  # rate × λ, where decoupled


def _adam_clock(t: Array, h: Values, around: Surroundings) -> Clock:
    del t  # each parameter's; the method counts steps of the whole
    beta1, beta2 = h.betas
    rate = around.shared.d * around.rate * bias_correction(around.shared.k + 1, h)
    now = around.shared.d_step * around.rate * bias_correction(maximum(around.shared.k, 1.0), h)
    return DAdaptationAdamClock(
        axes=around.axes,
        rate=rate,
        new1=(1 - beta1) * rate,
        new2=1 - beta2,
        root=beta2**0.5,
        new_s=(1 - beta2**0.5) * rate,
        decay=now * h.weight_decay if h.decouple else 0.0,
    )


def _adam_partial(p: Array, g: Array, s: State, h: Values, c: Clock) -> tuple[DAdaptationAdamSums, State]:
    g = g if h.decouple else g + h.weight_decay * p
    agreement = c.rate * sum_over(g * (s.s / (sqrt(s.exp_avg_sq) + h.eps)), c.axes)
    m = h.betas[0] * s.exp_avg + c.new1 * g
    v = h.betas[1] * s.exp_avg_sq + c.new2 * g * g
    s_new = c.root * s.s + c.new_s * g
    sums = DAdaptationAdamSums(agreement, sum_over(abs(s_new), c.axes))
    return sums, DAdaptationAdamState(s_new, m, v)


def _adam_combine(
    shared: DAdaptationAdamShared, sums: DAdaptationAdamSums, h: Values
) -> DAdaptationAdamShared:
    known = sums.size > 0
    root = h.betas[1] ** 0.5
    numerator = root * shared.numerator_weighted + (1 - root) * sums.agreement
    d_hat = numerator / ((1 - root) * where(known, sums.size, 1.0))
    d = maximum(shared.d, minimum(d_hat, shared.d * h.growth_rate))
    new = DAdaptationAdamShared(d, numerator, shared.d, shared.k + 1)
    return kept_unless(known, new, shared)  # type: ignore[return-value]


def _adam_direction(p: Array, g: Array, s: State, h: Values, c: Clock) -> tuple[Array, State]:
    del g  # the state has moved in `partial`
    return s.exp_avg / (sqrt(s.exp_avg_sq) + h.eps) + c.decay * p, s


class DAdaptationSGDState(NamedTuple):
    """The sum of gradients with the rate in it, and where the parameter began."""

    s: Array
    x0: Array


class DAdaptationSGDShared(NamedTuple):
    """What all parameters have in common."""

    d: Array
    numerator_weighted: Array
    g0_norm: Array  # the norm of the first gradient
    d_step: Array  # the d of this step, the one before; 0 before any gradient
    k: Array  # how many steps were taken


class DAdaptationSGDClock(NamedTuple):
    """The rate with the d before this step, as `partial` and as the body know it; and 1 − momentum."""

    axes: tuple[int, ...]
    rate: Array
    rate_now: Array
    new: Array


def _sgd_start(p: Array, h: Values, axes: tuple[int, ...]) -> State:
    del h, axes
    return DAdaptationSGDState(zeros_like(p), p + 0)


def _sgd_clock(t: Array, h: Values, around: Surroundings) -> Clock:
    del t
    shared = around.shared
    known = shared.g0_norm > 0
    unit = where(known, around.rate / where(known, shared.g0_norm, 1.0), 0.0)
    return DAdaptationSGDClock(around.axes, shared.d * unit, shared.d_step * unit, 1 - h.momentum)


def _sgd_partial(p: Array, g: Array, s: State, h: Values, c: Clock) -> tuple[DAdaptationSGDSums, State]:
    energy = sum_over(g * g, c.axes)  # without decay, as in the package
    g = g + h.weight_decay * p
    s_new = s.s + c.rate * g  # the rate is not known yet at the first step, where s = 0 leaves d as it is
    agreement = c.rate * sum_over(g * s.s, c.axes)
    return DAdaptationSGDSums(agreement, sum_over(s_new * s_new, c.axes), energy), s


def _sgd_combine(shared: DAdaptationSGDShared, sums: DAdaptationSGDSums, h: Values) -> DAdaptationSGDShared:
    g0_norm = where(shared.k > 0, shared.g0_norm, sqrt(sums.energy))
    numerator = shared.numerator_weighted + sums.agreement
    d_hat = where(sums.size > 0, 2 * numerator / sqrt(where(sums.size > 0, sums.size, 1.0)), 0.0)
    d = maximum(shared.d, minimum(d_hat, shared.d * h.growth_rate))
    new = DAdaptationSGDShared(d, numerator, g0_norm, shared.d, shared.k + 1)
    return kept_unless(g0_norm > 0, new, shared)  # type: ignore[return-value]


def _sgd_direction(p: Array, g: Array, s: State, h: Values, c: Clock) -> tuple[Array, State]:
    s_new = s.s + c.rate_now * (g + h.weight_decay * p)
    z = s.x0 - s_new
    return c.new * (p - z), s._replace(s=s_new)


def _sgd_tail(p: Array, d: Array, s: State, h: Values, c: Clock, rate: Array) -> tuple[Array, State]:
    del h, c, rate  # which is in s
    return p - d, s


_D0 = Real(1e-6, "the d to begin with; far below what is right", ABOVE_0)
_ABOUT = About(
    family="rate-free",
    year=2023,
    paper="Defazio and Mishchenko: Learning-Rate-Free Learning by D-Adaptation, arXiv 2301.07733",
    take="Where no rate is known and a search is too dear; Prodigy is its successor.",
    avoid="Where a few runs can be spent on a search, or rates differ between parameters.",
    wrong=("d never falls: it replaces the search for the rate, and not the schedule.",),
)

DADAPTATION_ADAM = Rule(
    name="dadapt-adam",
    title="D-Adaptation Adam",
    formula="""
one d for all parameters; d' is the d after this step; η = dγ, times √(1 − β₂ᵏ)/(1 − β₁ᵏ) on request
g ← g + λθ                            (unless decouple)
r ← √β₂r + (1 − √β₂)ηΣ⟨g, s / (√v + ε)⟩
m ← β₁m + (1 − β₁)ηg
v ← β₂v + (1 − β₂)g²
s ← √β₂s + (1 − √β₂)ηg
d' = max(d, min(r / ((1 − √β₂)Σ‖s‖₁), d·growth_rate))
θ ← θ − m / (√v + ε)                  (− ηλθ with decouple)""",
    source=(
        "Defazio and Mishchenko 2023 (arXiv 2301.07733). As the authors' package dadaptation 3.2, without "
        "layer_scale: s and v of the sum r are those before the step. Departure: a step at rate 0 is counted."
    ),
    hyper={
        "lr": Real(1.0, "what d is multiplied by: rate γ", AT_LEAST_0),
        "betas": Reals((0.9, 0.999), "memories β₁ of the mean and β₂ of the mean square", UNIT),
        "eps": Real(1e-8, "ε, keeps the division finite", ABOVE_0),
        "weight_decay": Real(0.0, "L2 penalty λ, or decay apart from the gradient with decouple", AT_LEAST_0),
        "decouple": Flag(False, "keep decay apart from the gradient"),
        "use_bias_correction": BIAS_CORRECTION,
        "d0": _D0,
        "growth_rate": GROWTH_RATE,
        "maximize": MAXIMIZE,
    },
    state=lambda h, shape: DAdaptationAdamState,
    clock=_adam_clock,
    direction=_adam_direction,
    tail=whole_step,
    scope=Scope.GLOBAL,
    decay=Decay.OWN,
    initial_shared=lambda h: DAdaptationAdamShared(h.d0, 0 * h.d0, 0 * h.d0, 0 * h.d0),
    partial=_adam_partial,
    combine=_adam_combine,
    about=_ABOUT._replace(
        cost="three buffers and two sums over all parameters",
        differs=("An earlier form of the method sums g² divided by the root, and finds another d.",),
    ),
)

DADAPTATION_SGD = Rule(
    name="dadapt-sgd",
    title="D-Adaptation SGD",
    formula="""
one d for all parameters; d' is the d after this step; G = norm of the first gradient; η = dγ/G
g ← g + λθ
r ← r + ηΣ⟨g, s⟩
s ← s + ηg
d' = max(d, min(2r / √Σ‖s‖², d·growth_rate))
θ ← μθ + (1 − μ)(θ₀ − s)""",
    source=(
        "Defazio and Mishchenko 2023 (arXiv 2301.07733). As the authors' package dadaptation 3.2: G is taken "
        "without decay. Departures: z = θ₀ − s is not kept; a first gradient of 0 is passed over, where the "
        "package divides by 0."
    ),
    hyper={
        "lr": Real(1.0, "what d is multiplied by: rate γ", AT_LEAST_0),
        "momentum": Real(0.0, "momentum μ: the share of the old parameter", UNIT),
        "weight_decay": Real(0.0, "L2 penalty λ, added to the gradient", AT_LEAST_0),
        "d0": _D0,
        "growth_rate": GROWTH_RATE,
        "maximize": MAXIMIZE,
    },
    state=lambda h, shape: DAdaptationSGDState,
    start=_sgd_start,
    clock=_sgd_clock,
    direction=_sgd_direction,
    tail=_sgd_tail,
    scope=Scope.GLOBAL,
    decay=Decay.OWN,
    initial_shared=lambda h: DAdaptationSGDShared(h.d0, *(0 * h.d0 for _ in range(4))),
    partial=_sgd_partial,
    combine=_sgd_combine,
    about=_ABOUT._replace(cost="two buffers and three sums over all parameters"),
)

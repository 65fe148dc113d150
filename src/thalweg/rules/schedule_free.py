"""Schedule-Free descent: gradients are taken between the newest point and the average of all of them."""

from typing import NamedTuple

from thalweg.hyper import ANY, AT_LEAST_0, Integer, Interval, Real, Reals
from thalweg.rules.about import About
from thalweg.rules.base import MAXIMIZE, Clock, Decay, Rule, State, Surroundings, Values
from thalweg.rules.ops import Array, lerp, maximum, minimum, sqrt, sum_over, where, zeros_like


class ScheduleFreeSGDState(NamedTuple):
    """The newest point z; the sum of the weights and the largest rate so far, one number a parameter."""

    z: Array
    weight_sum: Array
    lr_max: Array


class ScheduleFreeAdamWState(NamedTuple):
    """z, the mean square v; the sum of the weights and the largest rate so far, one number a parameter."""

    z: Array
    exp_avg_sq: Array
    weight_sum: Array
    lr_max: Array


class ScheduleFreeClock(NamedTuple):
    """The rate after warm-up, what age adds to the weight, the share of x in y; 1 − β₂ and 1/(1 − β₂ᵗ)."""

    rate: Array
    age: Array
    beta: Array
    new2: Array = 0.0
    correct2: Array = 0.0


def _start_sgd(p: Array, h: Values, axes: tuple[int, ...]) -> State:
    del h
    nothing = sum_over(zeros_like(p), axes)
    return ScheduleFreeSGDState(p + 0, nothing, nothing + 0)


def _start_adamw(p: Array, h: Values, axes: tuple[int, ...]) -> State:
    z, weight_sum, lr_max = _start_sgd(p, h, axes)
    return ScheduleFreeAdamWState(z, zeros_like(p), weight_sum, lr_max)


def _warmed_up(t: Array, h: Values, rate: Array) -> Array:
    return rate * minimum(t / max(1, h.warmup_steps), 1.0)


def _clock_sgd(t: Array, h: Values, around: Surroundings) -> Clock:
    return ScheduleFreeClock(_warmed_up(t, h, around.rate), t**h.r, h.momentum)


def _clock_adamw(t: Array, h: Values, around: Surroundings) -> Clock:
    beta1, beta2 = h.betas
    rate = _warmed_up(t, h, around.rate)
    return ScheduleFreeClock(rate, t**h.r, beta1, 1 - beta2, 1 / (1 - beta2**t))


def _direction_sgd(p: Array, g: Array, s: State, h: Values, c: Clock) -> tuple[Array, State]:
    del c
    return g + h.weight_decay * p, s


def _direction_adamw(p: Array, g: Array, s: State, h: Values, c: Clock) -> tuple[Array, State]:
    v = h.betas[1] * s.exp_avg_sq + c.new2 * g * g
    v_hat = v * c.correct2
    d = g / (sqrt(v_hat) + h.eps) + h.weight_decay * p
    return d, s._replace(exp_avg_sq=v)


def _tail(y: Array, d: Array, s: State, h: Values, c: Clock, rate: Array) -> tuple[Array, State]:
    rate = c.rate  # after warm-up
    lr_max = maximum(s.lr_max, rate)
    weight = c.age * lr_max**h.weight_lr_power
    weight_sum = s.weight_sum + weight
    share = where(weight_sum > 0, weight / where(weight_sum > 0, weight_sum, 1.0), 0.0)
    y = lerp(y, s.z, share) - rate * (1 - c.beta * (1 - share)) * d
    z = s.z - rate * d
    return y, s._replace(z=z, weight_sum=weight_sum, lr_max=lr_max)


def _averaged(y: Array, z: Array, beta: Array) -> Array:
    return y + (1 - 1 / beta) * (z - y)


_INSIDE = Interval(0.0, 1.0, closed="neither")
_WARM_UP = {
    "warmup_steps": Integer(0, "steps until the whole rate, in a straight line", Interval(0)),
    "r": Real(0.0, "power of the step count in the weights of the average", ANY),
    "weight_lr_power": Real(2.0, "power of the largest rate so far in the weights", AT_LEAST_0),
    "maximize": MAXIMIZE,
}
_STEP = """
γ ← γ·min(1, t/warmup_steps)
w = tʳ·(largest γ so far)^weight_lr_power,  a = w / Σw
y ← y + a(z − y) − γ(1 − β(1 − a))d
z ← z − γd
evaluate with x = y + (1 − 1/β)(z − y)"""
_ABOUT = About(
    family="schedule-free",
    year=2024,
    paper="Defazio et al.: The Road Less Scheduled, arXiv 2405.15682",
    take="Where the length of the run is not known, so that no schedule can be laid out.",
    avoid=(
        "Together with a falling schedule, which the average replaces. Batch normalisation needs its running "
        "statistics taken anew at the averaged weights."
    ),
    differs=("optax leaves tʳ out of the weights of the average.",),
    wrong=(
        "The trained weights y are not the ones to evaluate or to save: those are x.",
        "Schedule-free is not rate-free: the rate must still be searched.",
    ),
)
_SOURCE = (
    "Defazio et al. 2024 (arXiv 2405.15682). As the authors' package schedulefree 1.4, except that the "
    "weights of the average are kept for each parameter, so that one without a gradient is not touched; "
)

SCHEDULE_FREE_SGD = Rule(
    name="schedule-free-sgd",
    title="Schedule-Free SGD",
    formula="\ny is trained, β = momentum\nd = g + λy" + _STEP,
    source=_SOURCE + "decay is taken at y.",
    hyper={
        "lr": Real(1.0, "rate γ", AT_LEAST_0),
        "momentum": Real(0.9, "β: how near to the average gradients are taken", _INSIDE),
        "weight_decay": Real(0.0, "decay λ, taken at y", AT_LEAST_0),
        **_WARM_UP,
    },
    state=lambda h, shape: ScheduleFreeSGDState,
    start=_start_sgd,
    clock=_clock_sgd,
    direction=_direction_sgd,
    tail=_tail,
    evaluated=lambda y, s, h: _averaged(y, s.z, h.momentum),
    decay=Decay.OWN,
    about=_ABOUT._replace(cost="one buffer of the parameter's size and two numbers, as SGD with momentum"),
)

SCHEDULE_FREE_ADAMW = Rule(
    name="schedule-free-adamw",
    title="Schedule-Free AdamW",
    formula="""
y is trained, β = β₁
v ← β₂v + (1 − β₂)g²         v̂ = v / (1 − β₂ᵗ)
d = g / (√v̂ + ε) + λy"""
    + _STEP,
    source=_SOURCE + "decay is taken at y, beside the divided gradient, as there.",
    hyper={
        "lr": Real(2.5e-3, "rate γ", AT_LEAST_0),
        "betas": Reals(
            (0.9, 0.999), "β₁: how near to the average gradients are taken; β₂: memory of v", _INSIDE
        ),
        "eps": Real(1e-8, "ε, keeps the division finite", AT_LEAST_0),
        "weight_decay": Real(0.0, "decay λ, taken at y", AT_LEAST_0),
        **_WARM_UP,
    },
    state=lambda h, shape: ScheduleFreeAdamWState,
    start=_start_adamw,
    clock=_clock_adamw,
    direction=_direction_adamw,
    tail=_tail,
    evaluated=lambda y, s, h: _averaged(y, s.z, h.betas[0]),
    decay=Decay.OWN,
    about=_ABOUT._replace(cost="two buffers of the parameter's size and two numbers, as Adam"),
)

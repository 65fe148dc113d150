"""Six methods that Thalweg does not offer, written as rules to try the contract on.

Each uses another part of it. docs/rule-contract.md shows the same bodies.
"""

from typing import NamedTuple

from thalweg.hyper import ABOVE_0, AT_LEAST_0, UNIT, Real, Reals
from thalweg.rules.adam import AdamState
from thalweg.rules.base import MAXIMIZE, Clock, Decay, Rule, Scope, State, Surroundings, Values
from thalweg.rules.ops import Array, abs, maximum, sign, sqrt, sum_over, where, zeros_like

RATE = Real(0.1, "rate γ", AT_LEAST_0)
DECAY = Real(0.0, "decay λ", AT_LEAST_0)
BETAS = Reals((0.9, 0.99), "memories β₁ and β₂", UNIT)


# LAMB (arXiv 1904.00962): tensor scope, norms over the parameter's own axes, decay in the body.


class LambClock(NamedTuple):
    new1: Array
    new2: Array
    correct1: Array
    correct2: Array
    axes: tuple[int, ...]


def lamb_clock(t: Array, h: Values, around: Surroundings) -> Clock:
    beta1, beta2 = h.betas
    return LambClock(1 - beta1, 1 - beta2, 1 / (1 - beta1**t), 1 / (1 - beta2**t), around.axes)


def lamb_direction(p: Array, g: Array, s: State, h: Values, c: Clock) -> tuple[Array, State]:
    m = h.betas[0] * s.exp_avg + c.new1 * g
    v = h.betas[1] * s.exp_avg_sq + c.new2 * g * g
    r = m * c.correct1 / (sqrt(v * c.correct2) + h.eps) + h.weight_decay * p
    p_norm, r_norm = sqrt(sum_over(p * p, c.axes)), sqrt(sum_over(r * r, c.axes))
    ratio = where((p_norm > 0) & (r_norm > 0), p_norm / where(r_norm > 0, r_norm, 1.0), 1.0)
    return ratio * r, AdamState(m, v)


LAMB = Rule(
    name="lamb",
    title="LAMB",
    formula="r = m̂ / (√v̂ + ε) + λθ,  d = r·‖θ‖/‖r‖",
    source="You et al. 2020",
    hyper={
        "lr": RATE,
        "betas": BETAS,
        "eps": Real(1e-6, "ε", AT_LEAST_0),
        "weight_decay": DECAY,
        "maximize": MAXIMIZE,
    },
    state=lambda h: AdamState,
    clock=lamb_clock,
    direction=lamb_direction,
    scope=Scope.TENSOR,
    decay=Decay.OWN,
)


# Muon (Jordan 2024): tensor scope, matrix products.


class MuonState(NamedTuple):
    momentum_buffer: Array


class MuonClock(NamedTuple):
    new: Array
    axes: tuple[int, ...]


def muon_direction(p: Array, g: Array, s: State, h: Values, c: Clock) -> tuple[Array, State]:
    m = h.momentum * s.momentum_buffer + c.new * g
    u = h.momentum * m + c.new * g
    u = u / (sqrt(sum_over(u * u, c.axes)) + h.eps)
    replicas = u.shape[: u.ndim - len(c.axes)]
    x = u.reshape(*replicas, u.shape[len(replicas)], -1)  # a filter is a matrix: (out, everything else)
    wide = x.shape[-2] <= x.shape[-1]
    x = x if wide else x.mT
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    x = x if wide else x.mT
    d = max(1.0, x.shape[-2] / x.shape[-1]) ** 0.5 * x
    return d.reshape(p.shape), MuonState(m)


MUON = Rule(
    name="muon",
    title="Muon",
    formula="m ← μm + (1 − μ)g,  d = √max(1, rows/columns) · NewtonSchulz(μm + (1 − μ)g)",
    source="Jordan et al. 2024",
    hyper={
        "lr": RATE,
        "momentum": Real(0.95, "momentum μ", UNIT),
        "eps": Real(1e-7, "ε", AT_LEAST_0),
        "weight_decay": DECAY,
        "maximize": MAXIMIZE,
    },
    state=lambda h: MuonState,
    clock=lambda t, h, around: MuonClock(1 - h.momentum, around.axes),
    direction=muon_direction,
    scope=Scope.TENSOR,
    decay=Decay.DECOUPLED,
)


# Prodigy (arXiv 2306.06101): global scope. One estimate d of the distance to the minimum, for all parameters.


class ProdigyState(NamedTuple):
    exp_avg: Array
    exp_avg_sq: Array
    s: Array
    p0: Array  # where the parameter started


class ProdigyShared(NamedTuple):
    d: Array
    d_before: Array
    numerator: Array


class ProdigySums(NamedTuple):
    alignment: Array
    length: Array


class ProdigyClock(NamedTuple):
    new1: Array
    new2: Array
    beta3: Array
    d: Array
    d_before: Array
    gain: Array  # d/d₀ · dγ
    axes: tuple[int, ...]


def prodigy_clock(t: Array, h: Values, around: Surroundings) -> Clock:
    d, d_before, _ = around.shared
    beta1, beta2 = h.betas
    return ProdigyClock(
        1 - beta1, 1 - beta2, beta2**0.5, d, d_before, d / h.d0 * d * around.rate, around.axes
    )


def prodigy_partial(p: Array, g: Array, s: State, h: Values, c: Clock) -> tuple[ProdigySums, State]:
    m = h.betas[0] * s.exp_avg + c.new1 * c.d * g
    v = h.betas[1] * s.exp_avg_sq + c.new2 * c.d * c.d * g * g
    s_new = c.beta3 * s.s + c.gain * g
    sums = ProdigySums(sum_over(c.gain * g * (s.p0 - p), c.axes), sum_over(abs(s_new), c.axes))
    return sums, ProdigyState(m, v, s_new, s.p0)


def prodigy_combine(shared: ProdigyShared, sums: ProdigySums, h: Values) -> ProdigyShared:
    numerator = h.betas[1] ** 0.5 * shared.numerator + sums.alignment
    estimate = where(sums.length > 0, numerator / where(sums.length > 0, sums.length, 1.0), 0.0)
    return ProdigyShared(maximum(shared.d, estimate), shared.d, numerator)


def prodigy_direction(p: Array, g: Array, s: State, h: Values, c: Clock) -> tuple[Array, State]:
    d = c.d_before * (s.exp_avg / (sqrt(s.exp_avg_sq) + c.d * h.eps) + h.weight_decay * p)
    return d, s  # the state has moved in `partial`


PRODIGY = Rule(
    name="prodigy",
    title="Prodigy",
    formula="d ← max(d, ⟨…⟩/‖s‖₁),  θ ← θ − dγ(m / (√v + dε) + λθ)",
    source="Mishchenko and Defazio 2023",
    hyper={
        "lr": Real(1.0, "rate γ", AT_LEAST_0),
        "betas": Reals((0.9, 0.999), "memories β₁ and β₂", UNIT),
        "eps": Real(1e-8, "ε", AT_LEAST_0),
        "weight_decay": DECAY,
        "d0": Real(1e-6, "first d", ABOVE_0),
        "maximize": MAXIMIZE,
    },
    state=lambda h: ProdigyState,
    start=lambda p, h, axes: ProdigyState(zeros_like(p), zeros_like(p), zeros_like(p), p + 0),
    clock=prodigy_clock,
    direction=prodigy_direction,
    scope=Scope.GLOBAL,
    decay=Decay.OWN,
    initial_shared=lambda h: ProdigyShared(h.d0, h.d0, 0 * h.d0),
    partial=prodigy_partial,
    combine=prodigy_combine,
)


# Schedule-Free SGD (arXiv 2405.15682): a tail of its own, and other parameters to evaluate with.


class ScheduleFreeState(NamedTuple):
    z: Array
    top: Array  # the largest rate so far: one number a parameter
    total: Array  # the sum of the weights so far: one number a parameter


class ScheduleFreeClock(NamedTuple):
    warm: Array


def schedule_free_start(p: Array, h: Values, axes: tuple[int, ...]) -> State:
    nothing = sum_over(zeros_like(p), axes)
    return ScheduleFreeState(p + 0, nothing, nothing + 0)


def schedule_free_clock(t: Array, h: Values, around: Surroundings) -> Clock:
    return ScheduleFreeClock(-maximum(-t / h.warmup, -1.0))


def schedule_free_tail(y: Array, d: Array, s: State, h: Values, c: Clock, rate: Array) -> tuple[Array, State]:
    rate = rate * c.warm
    top = maximum(s.top, rate)
    total = s.total + top * top
    mix = where(total > 0, top * top / where(total > 0, total, 1.0), 0.0)
    moved = y + mix * (s.z - y) + rate * (h.beta * (1 - mix) - 1) * d
    return moved, ScheduleFreeState(s.z - rate * d, top, total)


SCHEDULE_FREE = Rule(
    name="schedule-free",
    title="Schedule-Free SGD",
    formula="y = (1 − β)z + βx,  z ← z − γg(y),  x ← (1 − c)x + cz",
    source="Defazio et al. 2024",
    hyper={
        "lr": Real(1.0, "rate γ", AT_LEAST_0),
        "beta": Real(0.9, "β: how near to the average gradients are taken", ABOVE_0),
        "warmup": Real(1.0, "steps until the whole rate", ABOVE_0),
        "weight_decay": DECAY,
        "maximize": MAXIMIZE,
    },
    state=lambda h: ScheduleFreeState,
    start=schedule_free_start,
    clock=schedule_free_clock,
    direction=lambda p, g, s, h, c: (g, s),
    tail=schedule_free_tail,
    evaluated=lambda y, s, h: y + (1 - 1 / h.beta) * (s.z - y),
)


# Sophia-H (arXiv 2305.14342): a driver hands over the diagonal of the Hessian every few steps.


class SophiaState(NamedTuple):
    exp_avg: Array
    hessian: Array


class SophiaClock(NamedTuple):
    new1: Array
    new2: Array


def sophia_direction(p: Array, g: Array, s: State, h: Values, c: Clock) -> tuple[Array, State]:
    m = h.betas[0] * s.exp_avg + c.new1 * g
    ratio = abs(m) / maximum(h.rho * s.hessian, h.eps)
    return sign(m) * -maximum(-ratio, -1.0), SophiaState(m, s.hessian)


SOPHIA = Rule(
    name="sophia",
    title="Sophia-H",
    formula="d = clip(m / max(ρh, ε), 1)",
    source="Liu et al. 2023",
    hyper={
        "lr": RATE,
        "betas": BETAS,
        "rho": Real(0.04, "ρ", ABOVE_0),
        "eps": Real(1e-12, "ε", AT_LEAST_0),
        "weight_decay": DECAY,
        "maximize": MAXIMIZE,
    },
    state=lambda h: SophiaState,
    clock=lambda t, h, around: SophiaClock(1 - h.betas[0], 1 - h.betas[1]),
    direction=sophia_direction,
    decay=Decay.DECOUPLED,
    refresh=lambda s, diagonal, h, c: s._replace(hessian=h.betas[1] * s.hessian + c.new2 * diagonal),
)

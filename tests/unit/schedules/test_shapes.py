"""The formulas: numbers that can be checked by hand, slow loops, and PyTorch's schedulers."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

from thalweg.errors import InputError
from thalweg.schedules import (
    Constant,
    Cosine,
    Custom,
    Exponential,
    InverseSquareRoot,
    InverseTime,
    Linear,
    Multistep,
    OneCycle,
    Polynomial,
    Schedule,
    Step,
    Trapezoid,
    WarmRestarts,
    Warmup,
    WarmupCosine,
    WarmupLinear,
    WarmupRestarts,
    to_data,
)


@pytest.mark.parametrize(("t", "factor"), [(5, 0.5), (15, 0.853553), (35, 0.961940)])
def test_warm_restarts_pass_through_the_three_numbers_of_the_check(t: int, factor: float) -> None:
    assert WarmRestarts(first=10, multiplier=2, floor=0.0)(t) == pytest.approx(factor, abs=5e-7)


@pytest.mark.parametrize("multiplier", [1, 2, 3, 10])
@pytest.mark.parametrize("first", [1, 3, 7, 10])
def test_warm_restarts_equal_a_loop_over_the_cycles(first: int, multiplier: int) -> None:
    expected, begin, length = [], 0, first
    for t in range(10_001):
        if t == begin + length:
            begin, length = t, length * multiplier
        expected.append((1 + math.cos(math.pi * (t - begin) / length)) / 2)

    factors = WarmRestarts(first=first, multiplier=multiplier)(np.arange(10_001))

    np.testing.assert_allclose(factors, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("multiplier", [2, 3, 7])
def test_warm_restarts_begin_anew_exactly_at_far_boundaries(multiplier: int) -> None:
    schedule = WarmRestarts(first=375, multiplier=multiplier)
    begins = [375 * (multiplier**n - 1) // (multiplier - 1) for n in range(1, 40)]
    exact = [begin for begin in begins if begin < 2**52]

    assert len(exact) > 10
    for begin in exact:
        assert schedule(begin) == 1.0
        assert schedule(begin - 1) < 1e-4  # the end of the cycle before


def torch_factors(make: Callable[[torch.optim.Optimizer], Any], count: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler, rates = make(optimizer), []
    for _ in range(count):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


# (ours, PyTorch's, ticks on which the method is the same)
ORACLES: list[tuple[Schedule, Callable[[torch.optim.Optimizer], Any], int]] = [
    (Constant(), lambda o: lr_scheduler.LambdaLR(o, lambda t: 1.0), 20),
    (Step(every=7, ratio=0.3), lambda o: lr_scheduler.StepLR(o, 7, 0.3), 60),
    (Multistep(milestones=(5, 6, 40), ratio=0.3), lambda o: lr_scheduler.MultiStepLR(o, [5, 6, 40], 0.3), 60),
    (Exponential(decay=-math.log(0.97)), lambda o: lr_scheduler.ExponentialLR(o, 0.97), 100),
    (Polynomial(length=50, power=0.9), lambda o: lr_scheduler.PolynomialLR(o, 50, 0.9), 60),
    (Polynomial(length=50, power=2.0), lambda o: lr_scheduler.PolynomialLR(o, 50, 2.0), 60),
    (Linear(length=40, start=1.0, stop=0.0), lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, 40), 60),
    (Linear(length=5, start=1 / 3, stop=1.0), lambda o: lr_scheduler.LinearLR(o, 1 / 3, 1.0, 5), 20),
    # PyTorch's cosine climbs again after its length, ours stays at the floor
    (Cosine(length=50, floor=0.1), lambda o: lr_scheduler.CosineAnnealingLR(o, 50, 0.1), 51),
    (
        WarmRestarts(first=10, multiplier=2, floor=0.1),
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 10, 2, 0.1),
        200,
    ),
    (
        WarmRestarts(first=9, multiplier=1),
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 9, 1),
        100,
    ),
    (
        OneCycle(length=77, rise=0.3, start=1 / 25, stop=1 / 25e4),
        lambda o: lr_scheduler.OneCycleLR(o, 1.0, total_steps=77, pct_start=0.3, cycle_momentum=False),
        77,
    ),
    (
        # PyTorch's rate of the first update is start_factor; ours of N updates is 1/N
        Warmup(length=10),
        lambda o: lr_scheduler.LinearLR(o, 0.1, 1.0, 9),
        30,
    ),
    (
        Warmup(length=10).then(Cosine(length=30)),
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.LinearLR(o, 0.1, 1.0, 9), lr_scheduler.CosineAnnealingLR(o, 30)], [10]
        ),
        41,
    ),
    (
        Step(every=5, ratio=0.5) * Exponential(decay=0.01),
        lambda o: lr_scheduler.ChainedScheduler(
            [lr_scheduler.StepLR(o, 5, 0.5), lr_scheduler.ExponentialLR(o, math.exp(-0.01))]
        ),
        40,
    ),
]


@pytest.mark.parametrize(("schedule", "make", "count"), ORACLES)
@pytest.mark.filterwarnings("ignore:The epoch parameter in:UserWarning")  # SequentialLR's own
def test_a_schedule_equals_pytorch_where_the_method_is_the_same(
    schedule: Schedule, make: Callable[[torch.optim.Optimizer], Any], count: int
) -> None:
    np.testing.assert_allclose(schedule(np.arange(count)), torch_factors(make, count), rtol=0, atol=1e-12)


def test_the_transformers_rate_is_a_warm_up_and_then_the_inverse_square_root() -> None:
    schedule = Warmup(length=4000).then(InverseSquareRoot(scale=4000.0), after=4000)
    s = np.arange(4000, 100_000, 77)  # the paper's step, from the start of the run

    np.testing.assert_allclose(schedule(s), np.sqrt(4000 / s), rtol=1e-14)


def test_the_inverse_time_schedule_halves_at_its_scale() -> None:
    schedule = InverseTime(scale=20.0)

    assert [schedule(t) for t in (0, 20, 60)] == [1.0, 0.5, 0.25]


def test_a_warm_up_of_n_wastes_no_update_at_zero_and_is_whole_at_the_nth() -> None:
    assert Warmup(length=5)(np.arange(7)).tolist() == [0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0]
    assert [Warmup(length=0)(0), Warmup(length=1)(0)] == [1.0, 1.0]


def test_a_warm_up_in_examples_equals_one_in_updates_when_the_last_tick_is_given() -> None:
    in_updates, in_examples = Warmup(length=10), Warmup(length=640, clock="examples")

    for update in range(15):
        assert in_examples(64 * (update + 1) - 1) == pytest.approx(in_updates(update), rel=1e-15)


def test_the_composed_shapes_are_their_parts() -> None:
    t = np.arange(0, 130)
    expected = {
        WarmupCosine(warmup=10, length=100, floor=0.1): Warmup(length=10).then(Cosine(length=90, floor=0.1)),
        WarmupLinear(warmup=10, length=100, floor=0.1): Warmup(length=10).then(Linear(length=90, stop=0.1)),
        WarmupRestarts(warmup=10, first=8): Warmup(length=10).then(WarmRestarts(first=8)),
        Trapezoid(warmup=10, length=100, decay=30, floor=0.2): Warmup(length=10)
        .then(Constant(), after=70)
        .then(Linear(length=30, stop=0.2), after=70),
    }
    for composed, parts in expected.items():
        np.testing.assert_array_equal(composed(t), parts(t))


def test_the_gpt_3_schedule_falls_to_a_tenth_after_260_billion_tokens() -> None:
    schedule = WarmupCosine(warmup=375_000_000, length=260_000_000_000, floor=0.1, clock="tokens")

    assert schedule(375_000_000 // 2 - 1) == pytest.approx(0.5)
    assert schedule(375_000_000) == 1.0
    assert schedule((375_000_000 + 260_000_000_000) // 2) == pytest.approx(0.55)
    assert schedule(260_000_000_000) == schedule(300_000_000_000) == pytest.approx(0.1)


def test_what_is_left_open_is_filled_from_the_length_of_the_run() -> None:
    assert Cosine().resolve(500) == Cosine(length=500)
    assert WarmupCosine().resolve(500) == WarmupCosine(length=500, warmup=25)
    assert Trapezoid(floor=0.1).resolve(500) == Trapezoid(length=500, warmup=25, decay=100, floor=0.1)
    assert Multistep().resolve(64_000) == Multistep(milestones=(32_000, 48_000))
    assert WarmRestarts().resolve(70) == WarmRestarts(first=10)
    assert WarmupRestarts(warmup=7).resolve(77) == WarmupRestarts(warmup=7, first=10)
    assert Exponential().resolve(50)(50) == pytest.approx(0.01)


def test_what_is_given_is_kept_and_shares_are_of_the_length_that_was_given() -> None:
    assert WarmupCosine(length=100).resolve(500) == WarmupCosine(length=100, warmup=5)
    assert Cosine(length=7).resolve(500) == Cosine(length=7)


@pytest.mark.parametrize("total", range(1, 200))
def test_the_last_of_the_default_cycles_is_not_followed_by_a_restart(total: int) -> None:
    factors = WarmRestarts().resolve(total)(np.arange(total))

    assert (factors == 1.0).sum() <= 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: WarmupCosine(warmup=100, length=100),
            "length of the schedule warmup-cosine must be at least 101",
        ),
        (
            lambda: WarmupLinear(warmup=100).resolve(50),
            "length of the schedule warmup-linear must be at least 101",
        ),
        (
            lambda: WarmupRestarts(warmup=100).resolve(50),
            "length of the schedule warmup-restarts must be at least",
        ),
        (
            lambda: Trapezoid(warmup=60, decay=50, length=100),
            "at least 110, because warm-up and decay takes 110",
        ),
        (lambda: Trapezoid(decay=500).resolve(100), "at least 500, because the decay takes 500; got 100"),
    ],
)
def test_parts_that_do_not_fit_into_the_whole_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_a_trapezoid_may_have_no_stable_part() -> None:
    assert Trapezoid(warmup=2, decay=2, length=4)(np.arange(5)).tolist() == [0.5, 1.0, 1.0, 0.5, 0.0]


def test_a_custom_schedule_is_its_function_of_the_clock() -> None:
    schedule = Custom(lambda t: 1.0 if t < 3 else 0.5)

    assert schedule(np.arange(5)).tolist() == [1.0, 1.0, 1.0, 0.5, 0.5]
    assert schedule.resolve(10) is schedule
    assert (schedule * Constant(factor=0.5))(4) == 0.25


@pytest.mark.parametrize("schedule", [Custom(abs), Custom(abs) * Constant(), Warmup().then(Custom(abs))])
def test_a_python_function_cannot_be_written_to_a_file(schedule: Schedule) -> None:
    with pytest.raises(InputError, match="must be made of known shapes; got a Python function"):
        to_data(schedule)


@pytest.mark.parametrize("bad", [-1.0, float("nan"), "fast", None])
def test_a_custom_schedule_whose_function_returns_no_factor_is_refused(bad: Any) -> None:
    with pytest.raises(InputError, match="what the function returns at tick 7 of custom must be"):
        Custom(lambda t: bad)(7)


def test_a_custom_schedule_needs_a_function_and_a_known_clock() -> None:
    with pytest.raises(InputError, match="function of the schedule custom must be callable"):
        Custom(0.5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="clock of the schedule custom must be one of steps"):
        Custom(abs, clock="hours")


def test_equal_fields_make_equal_schedules_whatever_type_they_came_as() -> None:
    assert Multistep(milestones=[3, 5]) == Multistep(milestones=(np.int64(3), 5))  # type: ignore[arg-type]
    assert hash(Multistep(milestones=[3, 5])) == hash(Multistep(milestones=(3, 5)))  # type: ignore[arg-type]
    assert repr(Cosine(length=np.int64(7), floor=np.float64(0.5))) == repr(Cosine(length=7, floor=0.5))

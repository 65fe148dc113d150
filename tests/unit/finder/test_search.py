"""The search, round by round: what it asks for, and what it makes of whatever comes back."""

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from thalweg.finder.search import EQUAL, POINTS, SHIFTS, Ran, Run, Search, plan_finder
from thalweg.records import Answer, Finding, Stage, from_data, to_data

Array = NDArray[np.float64]
Runner = Callable[[Run, Array], Ran]

STEPS = 400


def search(runner: Runner, steps: int = STEPS, low: float = -6, high: float = 2) -> tuple[Finding, list[Run]]:
    """Let a search ask until it is over; return its answer and all that it asked for."""
    plan = plan_finder(steps)
    rates = np.logspace(low, high, plan.sweep_steps)
    found, asked, rounds = Search("made up", rates, plan, steps), list[Run](), 0
    while runs := found.asks():
        rounds += 1
        asked += runs
        found.takes(runs, [runner(run, rates) for run in runs])
    assert rounds <= 3 + SHIFTS
    assert found.asks() == []
    return found.finding(), asked


def measured(run: Run, loss: Callable[[float, int], float | None]) -> Ran:
    """Return a short training whose loss is a function of rate and updates; None: it diverges there."""
    points: list[tuple[int, float | None]] = []
    for step in range(run.steps // POINTS, run.steps + 1, run.steps // POINTS):
        value = loss(run.rate, step)
        if value is None:
            return Ran(step, [None], points)
        points.append((step, value))
    return Ran(run.steps, [0.0] * run.steps, points)


def lowest_at(rate: float, seed: int = 0, noise: float = 0.01) -> Callable[[Run, Array], Ran]:
    """Return what runs sweeps whose loss falls by 1 in the decade below a rate and explodes above it."""

    def swept(run: Run, rates: Array) -> Ran:
        x = np.log10(rates / rate)
        after = 1 / (1 + 10 ** (2 * x + 1)) + 10 ** np.minimum(3 * x - 3, 3)
        draws = np.random.default_rng([seed, run.seed]).normal(scale=noise, size=len(x))
        return Ran(run.steps, [1.0, *(after + draws)[:-1].tolist()], [])

    return swept


def quadratic(best: float) -> Callable[[float, int], float]:
    """Return ½w² from w = √2 in closed form. With the curvature 1/(2·best), rates above 4·best diverge."""

    def loss(rate: float, step: int) -> float:
        shrink = abs(1 - 0.5 * rate / best)
        # The noise of the steps raises a floor that grows with the rate.
        return min(float(shrink ** (2 * step)) + 0.02 * rate / best, 1e6)

    return loss


def both(sweeps: Runner, loss: Callable[[float, int], float | None]) -> Runner:
    return lambda run, rates: sweeps(run, rates) if run.stage is Stage.SWEEP else measured(run, loss)


# Whatever comes back.


numbers = st.one_of(st.none(), st.floats(-1e3, 1e3), st.sampled_from([0.0, 1.0, 1e30]))


@given(st.randoms(use_true_random=False), st.floats(0, 1), st.sampled_from([100, 400, 1000]))
@settings(max_examples=20)
def test_whatever_comes_back_the_answer_is_whole(random: object, lost: float, steps: int) -> None:
    def anything(run: Run, rates: Array) -> Ran:
        draw = random.random  # type: ignore[attr-defined]
        done = run.steps if draw() > lost else int(draw() * run.steps)
        losses = [10 ** (4 * draw() - 2) if draw() > 0.1 * lost else None for _ in range(done)]
        if run.stage is Stage.SWEEP:
            return Ran(done, losses, [])
        every = run.steps // POINTS
        points = [(step, 10 ** (2 * draw() - 1)) for step in range(every, done + 1, every)]
        return Ran(done, losses, [(step, loss if draw() > 0.1 * lost else None) for step, loss in points])

    found, asked = search(anything, steps)

    assert (found.outcome is Answer.FOUND) == (found.suggestion is not None)
    assert (found.suggestion is None) == (found.low is None) == (found.high is None)
    if found.suggestion is not None:
        assert found.low is not None
        assert found.high is not None
        assert 0 < found.low <= found.suggestion <= found.high
    assert found.steps <= sum(run.steps for run in asked)
    assert all(run.rate > 0 for run in asked)
    rates = [short.rate for short in found.short]
    assert rates == sorted(set(rates))
    # No number is NaN, so that it is stored and drawn as it is.
    assert from_data(Finding, json.loads(json.dumps(to_data(found), allow_nan=False))) == found


# Rounds.


def test_every_round_has_the_lengths_of_the_plan_and_all_of_it_is_paid_for() -> None:
    found, asked = search(both(lowest_at(0.1), quadratic(0.05)))
    plan = plan_finder(STEPS)

    first = asked[: len(plan.sweep_seeds)]
    assert [(run.stage, run.seed, run.steps) for run in first] == [
        (Stage.SWEEP, seed, plan.sweep_steps) for seed in plan.sweep_seeds
    ]
    assert {run.rate for run in first} == {100.0}
    begun, *short = asked[len(first) :]
    # Where trainings begin is measured at the lowest rate of the sweeps.
    assert (begun.stage, begun.rate, begun.steps) == (Stage.SHORT, 1e-6, POINTS)
    assert [run.steps for run in short] == [20] * (len(short) - 2) + [plan.short_steps] * 2
    assert len(short) >= plan.short_rates + 2
    assert found.steps == sum(run.steps for run in asked)
    assert (found.sweeps, found.horizon) == (3, plan.short_steps)
    assert found.sentences[-1] == f"This cost {found.steps:,} updates."


def test_rates_are_rounded_as_they_are_printed_before_they_are_run() -> None:
    found, asked = search(both(lowest_at(0.0314159), quadratic(0.02)))

    assert all(float(f"{run.rate:.3g}") == run.rate for run in asked)
    assert found.suggestion == float(f"{found.suggestion:.3g}")


@pytest.mark.parametrize("best", [0.0005, 0.005, 0.05, 0.5, 5.0])
def test_short_trainings_correct_sweeps_that_mislead(best: float) -> None:
    # The sweeps point to 0.05. Above 4 times the best rate trainings explode.
    found, asked = search(both(lowest_at(0.05), quadratic(best)))

    grid = np.geomspace(best / 300, 3.9 * best, 500)
    losses = np.array([quadratic(best)(rate, STEPS) for rate in grid])
    assert found.outcome is Answer.FOUND
    assert found.suggestion is not None
    assert found.suggestion < 4 * best
    # What is at stake between low and high is at most what the finder calls equal: once more for where the
    # fit puts the lowest place.
    assert quadratic(best)(found.suggestion, STEPS) < losses.min() + 2 * EQUAL
    tried = [run.rate for run in asked if run.stage is Stage.SHORT][1:]
    assert min(tried) / 2 < best < 2 * max(tried)


def test_a_rate_that_is_not_reached_after_all_shifts_is_still_the_best_of_those_tried() -> None:
    found, asked = search(both(lowest_at(0.05), quadratic(500)))

    tried = sorted({run.rate for run in asked if run.stage is Stage.SHORT})
    assert found.outcome is Answer.FOUND
    assert found.suggestion is not None
    assert found.suggestion >= tried[-4]
    assert found.high is not None
    assert found.high >= found.suggestion


@pytest.mark.parametrize("offset", [-0.8, -0.3, 0.3, 50.0])
def test_what_is_measured_may_begin_elsewhere_than_what_is_trained_on(offset: float) -> None:
    # With dropout the validation loss is lower from the start; that is nothing that a rate has gained.
    plain, _ = search(both(lowest_at(0.1), quadratic(0.05)))
    moved, _ = search(both(lowest_at(0.1), lambda rate, step: quadratic(0.05)(rate, step) + offset))

    assert moved.outcome is plain.outcome is Answer.FOUND
    assert moved.suggestion == pytest.approx(plain.suggestion, rel=0.02)


@pytest.mark.parametrize("offset", [-0.8, -0.3, 0.0, 0.3])
def test_nothing_is_found_where_every_rate_ends_where_it_began(offset: float) -> None:
    found, _ = search(both(lowest_at(0.1), lambda rate, step: 1.0 + offset))

    assert (found.outcome, found.suggestion) == (Answer.NOISY, None)
    assert "no short training ended clearly below where it began" in found.sentences[0]


@pytest.mark.parametrize("offset", [-0.8, 0.0])
def test_nothing_is_found_where_training_is_at_its_best_already(offset: float) -> None:
    def risen(run: Run, rates: Array) -> Ran:
        if run.stage is Stage.SWEEP:
            after = 1 + rates**2 + np.random.default_rng(run.seed).normal(scale=0.02, size=len(rates))
            return Ran(run.steps, [1.0, *np.minimum(after, 1e6)[:-1].tolist()], [])
        return measured(run, lambda rate, step: min(1 + offset + rate**2 * step / STEPS, 1e6))

    found, _ = search(risen)

    assert (found.outcome, found.suggestion) == (Answer.RISING, None)
    assert found.sentences[0].startswith(
        "made up: no answer; every rate from 1e-06 to 55 that moved the loss"
    )
    assert found.sentences[1].startswith("Sweeps do not come back from ")


def test_a_sweep_that_breaks_before_it_falls_leaves_the_answer_to_the_short_race() -> None:
    def broken(run: Run, rates: Array) -> Ran:
        done = int(np.searchsorted(rates, 1.0))
        return Ran(done, [2.0 + 0.01 * (i % 2) for i in range(done)], [])

    found, _ = search(both(broken, lambda rate, step: 1 + quadratic(0.05)(rate, step)))

    assert found.outcome is Answer.FOUND
    assert found.suggestion is not None
    least = min(quadratic(0.05)(rate, STEPS) for rate in np.geomspace(1e-4, 0.1, 300))
    assert quadratic(0.05)(found.suggestion, STEPS) < least + EQUAL
    assert found.diverges_at == pytest.approx(1.0, rel=0.7)


def flat(run: Run, rates: Array) -> Ran:
    return Ran(run.steps, (1 + np.random.default_rng(run.seed).normal(size=run.steps) / 50).tolist(), [])


@pytest.mark.parametrize("best", [0.02, 0.5, 50.0])
def test_where_sweeps_show_nothing_the_short_race_below_their_end_has_the_last_word(best: float) -> None:
    # As with Rprop: a rate that counts at the first step only is not seen while it climbs.
    found, asked = search(both(flat, quadratic(best)))

    assert found.outcome is Answer.FOUND
    assert found.suggestion is not None
    least = min(quadratic(best)(rate, STEPS) for rate in np.geomspace(best / 300, 3.9 * best, 300))
    assert quadratic(best)(found.suggestion, STEPS) < least + 2 * EQUAL
    assert found.diverges_at is None
    first = [run.rate for run in asked[4:9]]
    assert first[-1] == pytest.approx(100 / 10 * 10**0.25, rel=0.01)


def test_where_short_trainings_show_nothing_either_it_is_flat_and_nothing_more_is_tried() -> None:
    found, asked = search(both(flat, lambda rate, step: 0.7))

    assert (found.outcome, found.suggestion) == (Answer.FLAT, None)
    assert len(asked) == 3 + 1 + plan_finder(STEPS).short_rates


def test_where_every_short_training_diverges_that_is_the_answer() -> None:
    # But for the lowest rate of the sweeps, at which it is measured where they begin.
    found, _ = search(both(lowest_at(0.1), lambda rate, step: 1.0 if rate <= 1e-6 else None))

    assert (found.outcome, found.suggestion) == (Answer.DIVERGED, None)
    assert all(loss is None for short in found.short for loss in short.losses)


def test_a_loss_that_was_lower_on_the_way_only_is_no_answer() -> None:
    def dipping(rate: float, step: int) -> float:
        return 0.5 if step in (5, 33) else 1.0

    found, _ = search(both(lowest_at(0.1), dipping))

    assert (found.outcome, found.suggestion) == (Answer.NOISY, None)


def test_what_diverges_late_is_not_suggested() -> None:
    # At 0.1 and above trainings are lost after 100 updates: the first round does not see it.
    def late(rate: float, step: int) -> float | None:
        return None if rate >= 0.1 and step > 100 else quadratic(0.2)(rate, step)

    found, asked = search(both(lowest_at(0.4), late))

    assert {run.rate for run in asked if run.steps == 132} & {short.rate for short in found.short}
    assert found.suggestion is not None
    assert found.suggestion < 0.1


def test_the_same_runs_leave_the_same_answer() -> None:
    first, second = (search(both(lowest_at(0.1, noise=0.1), quadratic(0.05)))[0] for _ in range(2))

    assert first == second


def test_an_answer_in_words_has_the_numbers_of_the_answer() -> None:
    found, _ = search(both(lowest_at(0.1), quadratic(0.05)))

    first, edge, cost = found.sentences
    for number in (found.suggestion, found.low, found.high):
        assert f"{number:.3g}" in first
    assert "made up: " in first
    assert "over 400 updates" in first
    assert "up to 132 tell" in first
    assert f"{found.diverges_at:.2g}" in edge
    assert f"{found.steps:,}" in cost


# Plans.


@given(st.integers(1, 10**7))
def test_a_plan_costs_what_it_says_and_is_measured_evenly(steps: int) -> None:
    plan = plan_finder(steps)

    assert 24 <= plan.sweep_steps <= 100
    assert plan.short_steps % POINTS == 0
    assert plan.short_steps >= POINTS
    if steps >= 400:  # shorter ones are rounded up
        most = plan.short_rates + 2 * SHIFTS
        cost = len(plan.sweep_seeds) * plan.sweep_steps + POINTS + most * (steps // 20) + 2 * plan.short_steps
        assert cost <= 0.0505 * 27 * steps


def test_numbers_of_the_answer_are_plain() -> None:
    found, _ = search(both(lowest_at(0.1), quadratic(0.05)))

    assert all(type(rate) is float for rate in found.rates)
    assert all(loss is None or (type(loss) is float and math.isfinite(loss)) for loss in found.losses)
    assert set(found.picks) == {"steepest", "valley", "slide", "minimum/10"}

"""From a time to updates: what waves, rounds and races are expected to cost, by hand."""

from dataclasses import replace
from typing import Any

import pytest

from small_tasks import EXECUTION, linear, network, recipe, trial, workload
from thalweg.api.budgeting import KEEPING, Cost, Costs, expected, length_of, measured, most
from thalweg.errors import InputError
from thalweg.executors import processes
from thalweg.executors.auto import BESIDE, START
from thalweg.racing import Entry, largest_round, make_plan
from thalweg.records import Stage
from thalweg.training.trial import Budget

# An update takes 1 s with two replicas, 3 s with ten; nothing else takes any time, but for keeping trials.
UPDATES = Costs(Cost(2, 0.0, 1.0, 0.0, 0.0), Cost(10, 0.0, 3.0, 0.0, 0.0))
ALONE = Costs(*[Cost(1, 0.0, 1.0, 0.0, 0.0)] * 2)
FLEET = replace(EXECUTION, executor="fleet", wave=10)


def trials(count: int, steps: int, stage: Stage = Stage.TUNING, evaluations: int = 20) -> Any:
    return [replace(trial(recipe(), steps, seed, stage), evaluations=evaluations) for seed in range(count)]


@pytest.mark.parametrize(("replicas", "update"), [(2, 1.0), (6, 2.0), (10, 3.0), (1, 0.75)])
def test_a_wave_costs_what_lies_between_a_small_and_a_large_one(replicas: int, update: float) -> None:
    found = UPDATES.of(trials(replicas, 7), workload(network()))
    assert found == pytest.approx(7 * update + KEEPING * replicas)


@pytest.mark.parametrize(
    ("steps", "evaluations", "stage", "expected_cost"),
    [
        (10, 1, Stage.SWEEP, 100.0),  # the one evaluation is part of making it
        (10, 20, Stage.TUNING, 100.0 + 9.0),
        (12, 4, Stage.TUNING, 100.0 + 3.0),
        (50, 4, Stage.TUNING, 100.0 + 9.0),  # ten epochs of five updates, one evaluation each
        (10, 1, Stage.FINAL, 100.0 + 1000.0),
    ],
)
def test_evaluations_and_the_last_measurement_are_counted(
    steps: int, evaluations: int, stage: Stage, expected_cost: float
) -> None:
    costs = Costs(*[Cost(1, 100.0, 0.0, 1.0, 1000.0)] * 2)
    found = costs.of(trials(1, steps, stage, evaluations), workload(network()))
    assert found == pytest.approx(expected_cost + KEEPING)


def test_a_race_costs_its_rounds_and_half_of_what_comes_after_a_look() -> None:
    work = workload(linear())
    entries = [Entry("a", recipe(), (0.1,)), Entry("b", recipe(), (0.1,))]
    plan = make_plan(work, entries, EXECUTION, 5, 1.0, seeds=(6, 10))
    costs = dict.fromkeys("ab", ALONE)

    found = expected(plan, costs, work, EXECUTION)
    assert found == pytest.approx((2 * 6 + 2 * 4 / 2) * (5 + KEEPING))
    # waves of two trials cost 1 s an update, those of six 2
    in_waves = dict.fromkeys("ab", UPDATES)
    wave = replace(FLEET, wave=6)
    assert expected(plan, in_waves, work, wave) == pytest.approx(
        2 * (5 * 2 + 6 * KEEPING) + (2 * (5 * 1.5 + 4 * KEEPING)) / 2
    )


def test_processes_take_their_time_to_start_once_and_share_the_trials_of_every_round() -> None:
    work = workload(linear())
    plan = make_plan(work, [Entry("a", recipe(), (0.1,))], EXECUTION, 5, 1.0, seeds=(6, 7))
    how = replace(EXECUTION, executor="processes")

    each, at_once = 5 + KEEPING, max(1, BESIDE * processes.workers())
    assert expected(plan, {"a": ALONE}, work, how) == pytest.approx(
        START + 6 * each / min(6, at_once) + each / 2
    )


def test_a_tuned_race_with_a_finder_costs_more_than_its_final_trials() -> None:
    work = workload(linear())
    plan = make_plan(work, [Entry("a", recipe())], EXECUTION, 100, 1.0, seeds=6)
    costs = {"a": ALONE}

    # 9 + 5 + 3 trials of tuning and 6 final ones
    assert expected(plan, costs, work, EXECUTION) == pytest.approx(23 * (100 + KEEPING))


def test_the_most_updates_that_fit_are_found() -> None:
    assert most(lambda steps: 1.0 + 0.5 * steps, 11.0) == 20
    assert most(lambda steps: float(steps), 1.0) == 1
    assert 995 <= most(lambda steps: float(steps), 1000.0) <= 1000
    with pytest.raises(InputError) as refusal:
        most(lambda steps: 2.0 * steps, 1.9)
    assert str(refusal.value) == (
        "the budget must leave at least 2.0 seconds, which trials of one update take; got 1.9 seconds. "
        "Give more time, or let fewer optimizers race."
    )


def test_the_length_of_a_trial_is_what_was_asked_for_or_what_the_task_suggests() -> None:
    work = workload(network())

    assert length_of(None, None, None, work) == Budget(epochs=10)
    assert length_of(3, None, None, work) == Budget(epochs=3)
    assert length_of(None, 7, None, work) == Budget(steps=7)
    assert length_of(None, None, 60.0, work) == Budget(epochs=10)


@pytest.mark.parametrize(
    "how", [EXECUTION, replace(EXECUTION, executor="fleet", wave=4)], ids=["alone", "fleet"]
)
def test_what_is_measured_is_positive_and_for_every_contender(how: Any) -> None:
    work = workload(network())
    entries = [Entry("a", recipe()), Entry("b", recipe("adam")), Entry("c", recipe(batch_size=11), steps=4)]
    plan = make_plan(work, entries, how, 10, 1.0, seeds=3)

    found = measured(largest_round(plan), work, how, seconds=0.05)

    assert sorted(found) == ["a", "b", "c"]
    for costs in found.values():
        for cost in costs:
            assert cost.update > 0
            assert cost.evaluation > 0
            assert cost.last > 0
            assert cost.made >= 0
    if how.wave:
        assert found["a"] is found["b"]  # one kind
        assert found["a"] is not found["c"]  # batches of another size
        assert (found["a"].small.replicas, found["a"].large.replicas) == (2, 4)

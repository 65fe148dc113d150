"""A race of real trials: how tuning goes on, what runs, and what is not run again."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from small_tasks import EXECUTION, linear, logistic, network, numbers, recipe, workload
from thalweg.evidence import race as evidence
from thalweg.executors import fleet, serial
from thalweg.racing import Entry, Workloads, make_plan, run
from thalweg.racing.rounds import largest_round, rounds_at_most, updates_at_most
from thalweg.records import Outcome, Plan, Stage, Trace
from thalweg.training.trial import Execution, Trial, Workload

STEPS = 10


class Counting:
    """The serial executor, which also notes what it was asked to run."""

    def __init__(self) -> None:
        self.asked: list[Trial] = []

    def __call__(
        self, work: Workload, trials: Sequence[Trial], how: Execution, skip: Callable[[Trial], bool]
    ) -> Iterator[Trace]:
        self.asked += [trial for trial in trials if not skip(trial)]
        return serial.run(work, trials, how, skip)


def race(
    work: Workloads, entries: list[Entry], done: dict[str, Trace] | None = None, **options: Any
) -> tuple[Plan, tuple[Trace, ...], Counting]:
    plan = make_plan(work, entries, EXECUTION, STEPS, 1.0, **{"seeds": 2, **options})
    runner = Counting()
    finished = done or {}
    traces, _ = run(plan, work, EXECUTION, runner, finished.get, lambda trace, before: None)
    return plan, traces, runner


def seeds_run(traces: Iterable[Trace], name: str = "sgd") -> dict[float, list[int]]:
    """The tuning seeds of each rate, in the order in which rates were tried first."""
    found: dict[float, list[int]] = {}
    for t in traces:
        if t.contender == name and t.stage is Stage.TUNING:
            found.setdefault(t.rate, []).append(t.seed)
    return found


def rates_tried(traces: Iterable[Trace], name: str = "sgd") -> list[float]:
    """The rates of tuning in the order in which they were tried."""
    return list(dict.fromkeys(t.rate for t in traces if t.contender == name and t.stage is Stage.TUNING))


def test_every_rate_runs_on_one_seed_the_better_ones_on_more_and_the_best_on_every_final_seed() -> None:
    plan, traces, runner = race(workload(logistic()), [Entry("sgd", recipe()), Entry("adam", recipe("adam"))])

    assert len(traces) == len(runner.asked) == 2 * (9 + 5 + 3) + 2 * 2
    for contender in plan.contenders:
        own = [t for t in traces if t.contender == contender.name]
        seeds = seeds_run(own, contender.name)
        assert sorted(seeds.values(), key=len) == [[0]] * 4 + [[0, 1]] * 2 + [[0, 1, 2]] * 3
        best, _ = evidence.chosen_rate(plan, traces, contender)
        assert [(t.rate, t.seed) for t in own if t.stage is Stage.FINAL] == [(best, 3), (best, 4)]
        assert best in [rate for rate, own_seeds in seeds.items() if len(own_seeds) == 3]
    assert all((t.test is None) == (t.stage is Stage.TUNING) for t in traces)
    assert {(t.budget_steps, t.outcome) for t in traces if t.outcome is Outcome.COMPLETED} == {
        (STEPS, Outcome.COMPLETED)
    }


def test_no_rate_that_is_given_up_was_better_than_one_that_went_on() -> None:
    _, traces, _ = race(workload(logistic()), [Entry("sgd", recipe())])
    tuning = [t for t in traces if t.stage is Stage.TUNING]
    seeds = seeds_run(tuning)

    for done in (1, 2):
        first = [t for t in tuning if t.seed < done and len(seeds[t.rate]) >= done]
        means = {
            s.rate: (s.score, -(s.loss or 0)) for s in evidence.tuned(first, "sgd") if s.score is not None
        }
        given_up = [means[r] for r, own in seeds.items() if len(own) == done and r in means]
        assert max(given_up) <= min(means[r] for r, own in seeds.items() if len(own) > done)


def test_a_plan_without_halving_runs_every_rate_on_every_tuning_seed() -> None:
    """As races did before they knew halving: one that was begun so goes on so."""
    plan = replace(
        make_plan(workload(logistic()), [Entry("sgd", recipe())], EXECUTION, STEPS, 1.0, seeds=2),
        halving=False,
    )
    traces, _ = run(plan, workload(logistic()), EXECUTION, serial.run, {}.get, lambda trace, before: None)

    assert list(seeds_run(traces).values()) == [[0, 1, 2]] * 9
    assert len(traces) == plan.trials_at_most == 9 * 3 + 2


def test_where_the_best_rate_lies_at_the_upper_edge_the_grid_is_extended_upwards() -> None:
    # In ten updates Adam goes ten times its rate: with 0.0316, the highest of its grid, not far enough.
    plan, traces, _ = race(workload(linear()), [Entry("adam", recipe("adam"))])
    tried = rates_tried(traces, "adam")

    assert tried[:7] == [3.16e-5, 1e-4, 3.16e-4, 1e-3, 3.16e-3, 1e-2, 3.16e-2]
    assert tried[7:] == [0.1, 0.316]
    assert evidence.chosen_rate(plan, traces, plan.contenders[0])[1] == "highest"


def test_where_the_best_rate_lies_inside_the_quota_refines_around_it() -> None:
    plan, traces, _ = race(workload(linear()), [Entry("sgd", recipe())])
    tried = rates_tried(traces)
    best, edge = evidence.chosen_rate(plan, traces, plan.contenders[0])

    assert len(tried) == 9
    assert min(tried[:7]) < min(tried[7:]) <= max(tried[7:]) < max(tried[:7])
    assert best is not None
    assert edge is None
    grid = [s for s in evidence.tuned(traces, "sgd") if s.rate in tried[:7]]
    leader = evidence.best(grid, plan.direction)
    assert leader is not None
    assert grid[leader - 1].rate < tried[7] < grid[leader + 1].rate


def test_where_every_rate_diverges_smaller_ones_are_tried_and_there_are_no_finals() -> None:
    work = workload(linear(1e9))  # even a rate of 1e-5 leaves all bounds at once
    plan, traces, _ = race(work, [Entry("sgd", recipe()), Entry("given", recipe("adam"), (0.1,))])

    assert rates_tried(traces)[7:] == [0.001, 0.000316]
    assert all(t.outcome is Outcome.DIVERGED for t in traces if t.contender == "sgd")
    assert [t.contender for t in traces if t.stage is Stage.FINAL] == ["given", "given"]
    verdict = evidence.verdict(plan, traces)
    assert [(s.optimizer, s.rate) for s in verdict.ranking] == [("given", 0.1), ("sgd", None)]


def test_a_given_rate_is_not_tuned() -> None:
    _, traces, runner = race(workload(linear()), [Entry("sgd", recipe(), (0.05,))], seeds=3)

    assert [(t.stage, t.rate, t.seed) for t in traces] == [(Stage.FINAL, 0.05, seed) for seed in (0, 1, 2)]
    assert len(runner.asked) == 3


def test_several_given_rates_are_tuned_and_none_is_added() -> None:
    plan, traces, _ = race(workload(linear()), [Entry("sgd", recipe(), (1e-4, 1e-3))])

    assert rates_tried(traces) == [1e-4, 1e-3]
    assert evidence.chosen_rate(plan, traces, plan.contenders[0]) == (1e-3, "highest")
    assert {t.rate for t in traces if t.stage is Stage.FINAL} == {1e-3}


def test_what_is_finished_is_not_run_again_and_is_reported_as_such() -> None:
    work, entries = workload(linear()), [Entry("sgd", recipe()), Entry("adam", recipe("adam"))]
    plan, traces, _ = race(work, entries)
    runner, reported = Counting(), []
    kept = {t.key: t for t in traces}
    again, _ = run(
        plan, work, EXECUTION, runner, kept.get, lambda t, before: reported.append((t.key, before))
    )

    assert runner.asked == []
    assert again == traces
    assert sorted(reported) == sorted((key, True) for key in kept)


@pytest.fixture(scope="module")
def undisturbed() -> tuple[Plan, tuple[Trace, ...], Counting]:
    return race(workload(linear()), [Entry("sgd", recipe()), Entry("adam", recipe("adam"))])


# after nothing; within the grid of 14 trials; within its extension by 2 + 2; on the second and third seeds of
# 10 + 6; within the 4 finals
@pytest.mark.parametrize("stop", [0, 9, 15, 17, 21, 30, 35])
def test_a_race_interrupted_after_any_trial_goes_on_to_the_same_end(
    stop: int, undisturbed: tuple[Plan, tuple[Trace, ...], Counting]
) -> None:
    plan, expected, whole = undisturbed
    kept: dict[str, Trace] = {}
    runner = Counting()

    def keep(trace: Trace, before: bool) -> None:
        if len(kept) == stop:
            raise KeyboardInterrupt
        kept[trace.key] = trace

    with pytest.raises(KeyboardInterrupt):
        run(plan, workload(linear()), EXECUTION, serial.run, kept.get, keep)
    finished = dict(kept)
    traces, _ = run(plan, workload(linear()), EXECUTION, runner, finished.get, lambda trace, before: None)

    assert len(finished) == stop
    assert [numbers(t) for t in traces] == [numbers(t) for t in expected]
    assert len(runner.asked) == len(whole.asked) - stop
    assert evidence.verdict(plan, traces) == evidence.verdict(plan, expected)


# Looks.


def named_after_their_rates(*rates: float) -> list[Entry]:
    return [Entry(f"{rate:g}", recipe(), (rate,)) for rate in rates]


def test_a_race_ends_at_the_first_look_that_decides() -> None:
    entries = named_after_their_rates(0.1, 1e-6)
    plan, traces, runner = race(workload(linear()), entries, seeds=(8, 16))

    assert Counter(t.contender for t in traces) == {"0.1": 8, "1e-06": 8}
    assert len(runner.asked) == 16
    verdict = evidence.verdict(plan, traces)
    assert (verdict.winner, verdict.seeds) == ("0.1", 8)


def test_a_race_that_no_look_decides_runs_all_its_seeds() -> None:
    twins = [Entry("one", recipe(), (0.1,)), Entry("other", recipe(), (0.1,))]
    plan, traces, _ = race(workload(linear()), twins, seeds=(8, 9, 12))

    assert Counter(t.contender for t in traces) == {"one": 12, "other": 12}
    assert [t.seed for t in traces][:16] == [*range(8)] * 2  # a look is a round of its own
    verdict = evidence.verdict(plan, traces)
    assert (verdict.winner, verdict.tie, verdict.seeds) == (None, ("one", "other"), 12)


@pytest.mark.parametrize("stop", [3, 16, 18, 25])
def test_a_race_interrupted_between_looks_ends_at_the_same_one(stop: int) -> None:
    twins = [Entry("one", recipe(), (0.1,)), Entry("other", recipe(), (0.1,))]
    work = workload(linear())
    plan, expected, _ = race(work, twins, seeds=(8, 16))
    kept = {t.key: t for t in expected[:stop]}

    traces, _ = run(plan, work, EXECUTION, serial.run, kept.get, lambda trace, before: None)

    assert [numbers(t) for t in traces] == [numbers(t) for t in expected]


# Batches and tasks that differ.


def test_trials_of_contenders_with_other_batches_have_their_own_length() -> None:
    entries = [
        Entry("small", recipe(batch_size=5), (0.1,)),
        Entry("large", recipe(batch_size=11), (0.1,), steps=4),
    ]
    plan, traces, _ = race(workload(logistic()), entries, seeds=3)

    assert {(t.contender, t.budget_steps, t.steps) for t in traces} == {("small", 10, 10), ("large", 4, 4)}
    assert {t.evaluations[-1].epoch for t in traces} == {2.0}
    rows = evidence.ledger(plan, traces).rows
    assert [row.gradient_examples for row in rows] == [3 * 2 * 22] * 2


@pytest.mark.parametrize("executor", [serial.run, fleet.run])
def test_each_contender_may_have_a_task_of_its_own(executor: Any) -> None:
    wide, narrow = network(), replace(logistic(), loss_weight=None)
    works = {"wide": workload(wide), "narrow": workload(narrow)}
    how = replace(EXECUTION, wave=8 if executor is fleet.run else 0)
    plan = make_plan(works, [Entry(n, recipe(), (0.1,)) for n in works], how, STEPS, 1.0, seeds=6)

    traces, _ = run(plan, works, how, executor, {}.get, lambda trace, before: None)

    assert [(t.contender, t.seed) for t in traces] == [(n, s) for n in works for s in range(6)]
    assert {(t.contender, t.task, t.parameters) for t in traces} == {
        ("wide", "network", 3 * 8 + 8 + 8 * 3 + 3),
        ("narrow", "logistic", 3 * 3 + 3),
    }
    alone = make_plan(works["narrow"], [Entry("narrow", recipe(), (0.1,))], how, STEPS, 1.0, seeds=6)
    again, _ = run(alone, works["narrow"], how, executor, {}.get, lambda trace, before: None)
    assert [numbers(t) for t in again] == [numbers(t) for t in traces[6:]]


# The rounds.


def test_the_rounds_of_a_plan_are_those_that_are_run() -> None:
    given = Entry("given", recipe("adam"), (0.01, 0.1))
    plan, traces, runner = race(workload(linear()), [Entry("sgd", recipe()), given], seeds=(6, 9))

    rounds = rounds_at_most(plan)
    assert [len(r) for r in rounds] == [7 + 2, 1 + 1, 1 + 1, 5, 3, 12, 6]
    assert sum(map(len, rounds[:5])) == sum(t.stage is Stage.TUNING for t in runner.asked)
    assert updates_at_most(plan) == STEPS * sum(map(len, rounds))
    assert len(largest_round(plan)) == 12
    assert {(t.contender, t.steps) for r in rounds for t in r} == {("sgd", STEPS), ("given", STEPS)}
    assert len(traces) in (sum(map(len, rounds)), sum(map(len, rounds[:-1])))

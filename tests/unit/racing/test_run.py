"""A race of real trials: how tuning goes on, what runs, and what is not run again."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from small_tasks import EXECUTION, linear, logistic, numbers, recipe, workload
from thalweg.evidence import race as evidence
from thalweg.evidence.race import RateScore
from thalweg.executors import serial
from thalweg.racing import Entry, make_plan, run
from thalweg.racing.run import next_rate
from thalweg.records import Direction, Outcome, Plan, Stage, Trace
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
    work: Workload, entries: list[Entry], done: dict[str, Trace] | None = None, **options: Any
) -> tuple[Plan, tuple[Trace, ...], Counting]:
    plan = make_plan(work, entries, EXECUTION, STEPS, 1.0, **{"seeds": 2, **options})
    runner = Counting()
    finished = done or {}
    traces = run(plan, work, EXECUTION, runner, finished.get, lambda trace, before: None)
    return plan, traces, runner


def rates_tried(traces: Iterable[Trace], name: str = "sgd") -> list[float]:
    """The rates of tuning in the order in which they were tried."""
    return list(dict.fromkeys(t.rate for t in traces if t.contender == name and t.stage is Stage.TUNING))


def test_every_rate_runs_on_every_tuning_seed_and_the_best_on_every_final_seed() -> None:
    plan, traces, runner = race(workload(logistic()), [Entry("sgd", recipe()), Entry("adam", recipe("adam"))])

    assert len(traces) == len(runner.asked) == plan.trials_at_most == 2 * 9 * 3 + 2 * 2
    for contender in plan.contenders:
        own = [t for t in traces if t.contender == contender.name]
        tuning = Counter(t.rate for t in own if t.stage is Stage.TUNING)
        assert list(tuning.values()) == [3] * 9
        best, _ = evidence.chosen_rate(plan, traces, contender)
        assert [(t.rate, t.seed) for t in own if t.stage is Stage.FINAL] == [(best, 3), (best, 4)]
        assert {t.seed for t in own if t.stage is Stage.TUNING} == {0, 1, 2}
    assert all((t.test is None) == (t.stage is Stage.TUNING) for t in traces)
    assert {(t.budget_steps, t.outcome) for t in traces if t.outcome is Outcome.COMPLETED} == {
        (STEPS, Outcome.COMPLETED)
    }


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
    again = run(plan, work, EXECUTION, runner, kept.get, lambda t, before: reported.append((t.key, before)))

    assert runner.asked == []
    assert again == traces
    assert sorted(reported) == sorted((key, True) for key in kept)


@pytest.fixture(scope="module")
def undisturbed() -> tuple[Plan, tuple[Trace, ...], Counting]:
    return race(workload(linear()), [Entry("sgd", recipe()), Entry("adam", recipe("adam"))])


# after nothing; within the grid of 42 trials; within its extension by 6 + 6; within the 4 finals
@pytest.mark.parametrize("stop", [0, 20, 43, 56])
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
    traces = run(plan, workload(linear()), EXECUTION, runner, finished.get, lambda trace, before: None)

    assert len(finished) == stop
    assert [numbers(t) for t in traces] == [numbers(t) for t in expected]
    assert len(runner.asked) == len(whole.asked) - stop
    assert evidence.verdict(plan, traces) == evidence.verdict(plan, expected)


def scores(*losses: float | None, start: float = 0.01) -> list[RateScore]:
    """Scores of rates half a decade apart, from `start` upwards."""
    rates = (float(f"{start * 10 ** (i / 2):.3g}") for i in range(len(losses)))
    return [RateScore(rate, loss, loss) for rate, loss in zip(rates, losses, strict=True)]


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(workload(linear()), [Entry("sgd", recipe())], EXECUTION, STEPS, 1.0)


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ((1.0, 2.0, 3.0), 0.00316),  # best at the lower edge
        ((3.0, 2.0, 1.0), 0.316),  # at the upper one
        ((None, None, None), 0.00316),
        ((3.0, 1.0, 2.0), 0.0562),  # 0.0316 and its better neighbour 0.1: √(0.0316 · 0.1)
        ((2.0, 1.0, 3.0), 0.0178),
        ((2.0, 1.0, None), 0.0178),  # a neighbour that diverged is never the better one
        ((None, 1.0, 2.0), 0.0562),
    ],
)
def test_the_next_rate_by_hand(plan: Plan, losses: tuple[float | None, ...], expected: float) -> None:
    assert next_rate(scores(*losses), plan) == expected


def test_the_next_rate_follows_the_direction_of_the_metric(plan: Plan) -> None:
    higher = replace(plan, direction=Direction.HIGHER)

    assert next_rate(scores(1.0, 3.0, 2.0), higher) == 0.0562


def test_extending_often_stays_on_the_decades(plan: Plan) -> None:
    """Rounding to three digits does not add up: 1, 3.16, 10, not 9.99."""
    rising, falling = [3.0, 2.0, 1.0], [1.0, 2.0, 3.0]
    up, down = scores(*rising), scores(*falling)
    for _ in range(4):
        higher, lower = next_rate(up, plan), next_rate(down, plan)
        assert higher is not None
        assert lower is not None
        up.append(RateScore(higher, up[-1].score / 2, None))  # type: ignore[operator]
        down.insert(0, RateScore(lower, down[0].score / 2, None))  # type: ignore[operator]

    assert [s.rate for s in up[3:]] == [0.316, 1.0, 3.16, 10.0]
    assert [s.rate for s in down[:4]] == [0.0001, 0.000316, 0.001, 0.00316]


def test_refining_ends_where_rates_lie_within_five_per_cent(plan: Plan) -> None:
    tried = {0.01: 2.0, 0.1: 1.0, 1.0: 2.0}
    for _ in range(30):
        found = [RateScore(rate, loss, loss) for rate, loss in sorted(tried.items())]
        rate = next_rate(found, plan)
        if rate is None:
            break
        assert min(max(rate / r, r / rate) for r in tried) >= 1.05
        tried[rate] = 1.0 + abs(math.log(rate / 0.1))

    assert rate is None
    assert len(tried) < 30

"""Trials as a fleet: how waves are cut, and that a trial's numbers are its own, whatever ran beside it."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from small_tasks import (
    EXECUTION,
    ROOT,
    batch_norm,
    dataset,
    dropout,
    linear,
    network,
    numbers,
    recipe,
    trial,
    workload,
)
from thalweg.backends import machine
from thalweg.executors import fleet
from thalweg.executors.fleet import run_wave, waves
from thalweg.records import Outcome, Stage, Trace
from thalweg.tasks import Task
from thalweg.tasks.user_code import isolated_random
from thalweg.training.control import Control
from thalweg.training.engine import Updated, Updates
from thalweg.training.fleet.engine import KEPT, FleetEngine
from thalweg.training.loop import Begun, conclude, run_trial, train
from thalweg.training.trial import Execution, Trial, Workload, trial_key


def in_waves(size: int, threads: int = 1) -> Execution:
    return replace(EXECUTION, executor="fleet", wave=size, threads=threads)


def trials(optimizer: str, rates: Sequence[float], seeds: int, steps: int = 30, **fields: Any) -> list[Trial]:
    """Trials in the order of a race: rate after rate, each on all seeds."""
    given_rates = [recipe(optimizer, rate, **fields) for rate in rates]
    return [trial(how, steps, seed, Stage.TUNING) for how in given_rates for seed in range(seeds)]


def never(trial: Trial) -> bool:
    return False


def kind(one: Trial) -> Any:
    how = one.recipe
    return how.batch_size, how.micro_batch, how.precision, how.sampling, one.steps


KINDS = st.tuples(
    st.sampled_from([5, 10, "all"]),
    st.sampled_from([None, 2]),
    st.sampled_from(["float32", "float64"]),
    st.sampled_from(["shuffled", "in order"]),
    st.sampled_from([10, 20]),
)


@given(
    asked=st.lists(st.tuples(st.sampled_from(["sgd", "adam"]), st.integers(0, 5), KINDS), max_size=60),
    size=st.integers(1, 25),
)
def test_waves_hold_every_trial_once_and_only_what_can_be_stacked(asked: list[Any], size: int) -> None:
    given_trials = [
        trial(recipe(name, 0.1, batch_size=b, micro_batch=m, precision=p, sampling=s), steps, seed)
        for name, seed, (b, m, p, s, steps) in asked
    ]

    cut = waves(given_trials, size)

    assert sorted(id(t) for wave in cut for t in wave) == sorted(map(id, given_trials))
    own: dict[Any, list[list[Trial]]] = {}
    for wave in cut:
        (alike,) = {kind(t) for t in wave}
        own.setdefault(alike, []).append(wave)
    for alike, parts in own.items():
        count = sum(kind(t) == alike for t in given_trials)
        sizes = [len(part) for part in parts]
        assert len(parts) == -(-count // size)  # as few as there can be
        assert max(sizes) <= size
        assert max(sizes) - min(sizes) <= 1
        # All of one seed come one after the other: at most one wave's edge lies between any two of a seed
        # that fit into one wave. Those of one seed keep their order.
        together = [t for part in parts for t in part]
        place = {id(t): at for at, t in enumerate(given_trials)}
        assert [(t.seed, place[id(t)]) for t in together] == sorted((t.seed, place[id(t)]) for t in together)


def test_only_what_is_not_to_be_skipped_is_yielded_and_a_wave_of_others_is_not_run() -> None:
    work, asked, calls = workload(network()), trials("sgd", (0.1, 0.01), 4), []

    def skip(one: Trial) -> bool:
        calls.append(one)
        return one.seed < 2 or one is asked[-1]

    found = list(fleet.run(work, asked, in_waves(4), skip))

    assert [(t.rate, t.seed) for t in found] == [(0.1, 2), (0.01, 2), (0.1, 3)]
    assert list(fleet.run(work, asked, in_waves(4), lambda one: True)) == []
    nothing = replace(work, task=replace(work.task, make_model=lambda: 1 / 0))
    assert list(fleet.run(nothing, asked, in_waves(4), lambda one: True)) == []


def test_traces_are_those_of_their_trials_with_the_keys_that_a_race_looks_for() -> None:
    work, asked, how = workload(network()), trials("adam", (0.1, 0.01), 3), in_waves(4)

    found = list(fleet.run(work, asked, how, never))

    assert {t.key for t in found} == {trial_key(work, one, how) for one in asked}
    by_key = {t.key: t for t in found}
    for one in asked:
        trace = by_key[trial_key(work, one, how)]
        assert (trace.contender, trace.rate, trace.seed, trace.steps) == (
            "adam",
            one.recipe.rate,
            one.seed,
            30,
        )


TASKS: dict[str, Callable[[], Task]] = {
    "network": network,
    "items": dataset,
    "dropout": dropout,
    "batch norm": batch_norm,
}


@pytest.mark.parametrize(
    ("task", "threads", "rate"),
    [
        ("network", 1, 1e30),
        ("network", 2, 1e30),
        ("items", 1, 1e30),
        # Torch computes these, by one trace for each number of replicas: here are few numbers.
        ("dropout", 1, 0.1),
        pytest.param("dropout", 2, 1e30, marks=pytest.mark.slow),
        ("batch norm", 1, 0.1),
        pytest.param("batch norm", 2, 1e30, marks=pytest.mark.slow),
    ],
)
def test_the_same_plan_gives_the_same_bits_and_so_does_what_was_interrupted_in_a_wave(
    task: str, threads: int, rate: float
) -> None:
    how = in_waves(4, threads)
    asked = [*trials("adam", (0.05, 0.01), 4, 12), *trials("momentum", (rate,), 4, 12, patience=30)]
    whole = [numbers(t) for t in fleet.run(workload(TASKS[task]()), asked, how, never)]
    work = workload(TASKS[task]())

    # Interrupted after the first two traces of the second wave: the third of them was never written down.
    with closing(fleet.run(work, asked, how, never)) as running:
        first = [next(running) for _ in range(6)]
    done = {t.key for t in first}
    rest = list(fleet.run(work, asked, how, lambda one: trial_key(work, one, how) in done))
    again = [numbers(t) for t in fleet.run(work, asked, how, never)]

    assert [len(wave) for wave in waves(asked, 4)] == [4, 4, 4]
    assert [numbers(t) for t in (*first, *rest)] == whole
    assert again == whole
    assert len(rest) == 6


def test_other_waves_are_another_plan_and_have_other_keys() -> None:
    work, (one, *_) = workload(network()), trials("sgd", (0.1,), 1)

    assert len({trial_key(work, one, how) for how in (EXECUTION, in_waves(2), in_waves(3))}) == 3


class Watched(FleetEngine):
    """A fleet that notes how many replicas it trained at once, and for how many it was asked."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.sizes: list[tuple[int, int]] = []

    def update(self, updates: Sequence[Updates]) -> Sequence[Updated]:
        done = super().update(updates)
        assert {len(x) for x in self.stack.weights.values()} == {len(self.rows)}
        assert sum(squad.size for squad in self.squads) == len(self.rows)
        self.sizes.append((len(updates), len(self.rows)))
        return done


def watched(work: Workload, asked: Sequence[Trial]) -> tuple[Watched, list[Trace], list[int]]:
    """Run trials as one fleet; return it, the traces, and the rows in the order in which they finished."""
    found: dict[int, Trace] = {}
    how, begun = in_waves(len(asked)), Begun.now(len(asked))
    with isolated_random(0):
        engine = Watched(work, asked, ROOT)
        controls = [Control(one.recipe, work.limits(one)) for one in asked]

        def on_finished(rows: Sequence[int]) -> None:
            assert set(rows) <= set(engine.rows)
            found.update(zip(rows, conclude(engine, rows, controls, work, asked, how, begun), strict=True))

        train(engine, controls, work, on_finished=on_finished)
    return engine, [found[row] for row in range(len(asked))], list(found)


needs_compiler = pytest.mark.skipif(
    not machine.available(), reason="torch's products of stacks round by how many there are"
)


@needs_compiler
def test_of_500_replicas_half_diverge_and_the_others_do_not_notice() -> None:
    work = workload(linear())
    good = [
        *trials("sgd", (0.1, 0.03, 0.01, 0.003), 25, 60),
        *trials("adam", (0.1, 0.01, 0.001), 25, 60),
        *trials("momentum", (0.03, 0.01, 0.003), 25, 60),
    ]
    lost = [
        *trials("sgd", (3.0, 10.0, 1e4, 1e20), 25, 60),
        *trials("momentum", (3.0, 1e2, 1e6, 1e35), 25, 60),
        *trials("nesterov", (10.0, 1e30), 25, 60),
    ]
    asked = [one for pair in zip(good, lost, strict=True) for one in pair]

    engine, together, order = watched(work, asked)
    survivors, diverged = together[0::2], together[1::2]

    assert len(asked) == 500
    assert {t.outcome for t in survivors} == {Outcome.COMPLETED}
    assert {t.outcome for t in diverged} == {Outcome.DIVERGED}
    assert sorted(order) == list(range(500))

    # Replicas are computed one after the other, by code that does not know how many there are: to the bit.
    how = in_waves(500)
    assert [numbers(t) for t in survivors] == [numbers(t) for t in run_wave(work, good, how)]
    for trace, one in list(zip(diverged, lost, strict=True))[::7]:
        alone = run_trial(work, one, how)
        assert (trace.outcome, trace.steps) == (alone.outcome, alone.steps)
        assert (trace.score, trace.validation) == (alone.score, alone.validation) == (None, {})
        assert trace.loss_steps == alone.loss_steps

    # Those that are over leave: of those that a call trains, never more than an eighth is for nothing.
    live, held = zip(*engine.sizes, strict=True)
    assert all(asked_for > KEPT * stacked for asked_for, stacked in engine.sizes)
    assert list(live) == sorted(live, reverse=True)
    assert (held[0], live[0]) == (500, 500)
    assert live[-1] == 250 <= held[-1] < 250 / KEPT


@needs_compiler
def test_what_stops_early_leaves_the_stack_with_what_it_has_alone() -> None:
    work = workload(linear())
    asked = [
        *trials("momentum", (0.9, 0.5, 0.3), 4, 200, patience=2),
        *trials("sgd", (0.01,), 4, 200),
        *trials("sgd", (1e4,), 4, 200, patience=2),
    ]

    engine, traces, order = watched(work, asked)

    stopped = [row for row, t in enumerate(traces) if t.outcome is Outcome.STOPPED_EARLY]
    assert len(stopped) >= 6
    assert [t.outcome for t in traces[12:]] == [Outcome.COMPLETED] * 4 + [Outcome.DIVERGED] * 4
    for row, one in enumerate(asked):
        alone = run_trial(work, one, EXECUTION)
        assert (traces[row].outcome, traces[row].steps) == (alone.outcome, alone.steps)
        # float32: rounding of a convex problem, which does not grow
        assert traces[row].validation == pytest.approx(alone.validation, rel=1e-4)
    assert [traces[row].steps for row in order] == sorted(t.steps for t in traces)
    assert engine.sizes[0] == (20, 20)
    assert engine.sizes[-1][1] <= 20 - len(stopped) - 4

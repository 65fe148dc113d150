"""A race under every executor: the same verdict, a plan that is kept, and an answer of the same shape."""

import dataclasses
import json
import os
import re
import signal
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import thalweg
from end_to_end.program import Call, Done, finish, start, timeless, traces
from small_tasks import dropout, network, numbers
from thalweg.api.race import Showdown
from thalweg.executors import auto
from thalweg.records import Race, Trace
from thalweg.store import Store
from thalweg.tasks import Task

RACE = (
    *("showdown", "digits", "--optimizers", "sgd,adam", "--rates", "sgd=0.1,adam=0.01"),
    *("--steps", "5", "--seeds", "2", "--schedules", "none"),
)
# 2 × (3 + 1 rates) × 3 seeds in two rounds of tuning, and 2 × 6 final ones; an evaluation each epoch.
LONG_RACE = (
    *("showdown", "digits", "--optimizers", "sgd,adam", "--rates", "4", "--epochs", "40"),
    *("--seeds", "6", "--executor", "fleet", "--threads", "1", "--json", "--out", "runs"),
    *("--schedules", "none"),
)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def judged(result: Showdown) -> Any:
    """What a person would do after reading the result."""
    verdict = result.verdict
    return verdict.winner, sorted(verdict.tie), [s.optimizer for s in verdict.ranking]


# The verdict.


def clear_case(executor: str) -> Showdown:
    return thalweg.showdown(
        "digits",
        rates={"sgd": 0.3, "adam": 1e-6},
        optimizers=["sgd", "adam"],
        steps=40,
        seeds=6,
        schedules=(),
        executor=executor,
        threads=1,
        out=executor,
    )


@pytest.mark.slow
def test_where_one_is_clearly_better_it_is_so_under_every_executor() -> None:
    results = {name: clear_case(name) for name in auto.NAMES}

    assert {name: judged(r) for name, r in results.items()} == dict.fromkeys(
        auto.NAMES, ("sgd", [], ["sgd", "adam"])
    )
    assert [results[name].race.plan.executor for name in auto.NAMES[1:]] == [*auto.NAMES[1:]]
    # Float32, forty stable updates: rounding. A single example of 179 is 0.0056.
    scores = [[s.score for s in r.verdict.ranking] for r in results.values()]
    assert all(row == pytest.approx(scores[0], abs=0.002) for row in scores)
    assert [t.losses for t in results["serial"].race.traces] == [
        pytest.approx(t.losses, rel=1e-4) for t in in_turn(results["fleet"].race, results["serial"].race)
    ]


def in_turn(race: Race, like: Race) -> list[Trace]:
    """The traces of a race in the order of those of another."""
    found = {(t.contender, t.stage, t.rate, t.seed): t for t in race.traces}
    return [found[t.contender, t.stage, t.rate, t.seed] for t in like.traces]


@pytest.mark.slow
def test_on_mnist_one_is_clearly_better_under_every_executor(data_folder: Path) -> None:
    def run(executor: str) -> Showdown:
        return thalweg.showdown(
            "mnist",
            rates={"sgd": 0.1, "adam": 1e-7},
            optimizers=["sgd", "adam"],
            steps=60,
            seeds=6,
            schedules=(),
            executor=executor,
            data=data_folder,
            out=executor,
        )

    found = {name: judged(run(name)) for name in ("fleet", "processes", "serial")}

    assert found == dict.fromkeys(found, ("sgd", [], ["sgd", "adam"]))


def test_where_the_evidence_does_not_decide_a_fleet_does_not_either() -> None:
    given: dict[str, Any] = {"optimizers": ["sgd", "adam"], "steps": 30, "seeds": 6, "batch_size": 5}
    given["rates"] = {"sgd": 0.1, "adam": 0.01}
    serial, fleet = (
        thalweg.showdown(network(), executor=name, out=name, **given) for name in ("serial", "fleet")
    )

    assert judged(serial) == judged(fleet)
    assert [s.score for s in fleet.verdict.ranking] == pytest.approx(
        [s.score for s in serial.verdict.ranking], abs=0.03
    )


# The plan.


def test_the_plan_and_the_report_say_how_it_ran_and_why() -> None:
    result = thalweg.showdown(
        network(), ["sgd", "adam"], rates={"sgd": 0.1, "adam": 0.01}, epochs=4, seeds=3, batch_size=5,
        executor="fleet", threads=1,
    )  # fmt: skip

    plan = result.race.plan
    assert (plan.executor, plan.wave, plan.threads) == ("fleet", 6, 1)
    assert re.fullmatch(r"fleet in waves of 6 [\d.]+ (µs|ms) an update, as asked", plan.why)
    page = result.report.read_text()
    assert "How the race was run" in page
    assert "fleet, 1 thread" in page
    assert plan.why in page


def test_a_serial_race_has_no_wave_and_says_that_it_was_asked_for() -> None:
    plan = thalweg.showdown(
        network(), ["sgd"], rates={"sgd": 0.1}, epochs=1, seeds=1, batch_size=5, executor="serial"
    ).race.plan

    assert (plan.executor, plan.wave, plan.why) == ("serial", 0, "as asked")


class Stop(Exception):
    """The disk is full, say."""


@contextmanager
def stopping(after: int) -> Iterator[None]:
    """Let the store of a race fail right after it has kept so many traces."""
    keep, left = Store.keep, after

    def some(store: Store, race: str, traces: Sequence[Trace], known: Container[str] = ()) -> None:
        nonlocal left
        keep(store, race, traces[:left], known)
        left -= len(traces)
        if left <= 0:
            raise Stop

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Store, "keep", some)
        with pytest.raises(Stop):
            yield


def raced(task: Task, executor: str, out: str, **more: Any) -> Race:
    given: dict[str, Any] = {"rates": 4, "steps": 60, "seeds": 4, "batch_size": 5, "schedules": (), **more}
    return thalweg.showdown(task, ["sgd", "adam"], executor=executor, out=out, **given).race


def by_key(race: Race) -> dict[str, Any]:
    return {t.key: numbers(t) for t in race.traces}


@pytest.mark.parametrize(
    ("task", "after"),  # in the first wave, and in later rounds
    [(network, 1), (network, 5), (network, 14), (network, 21), (dropout, 5)],
    ids=lambda x: x.__name__ if callable(x) else str(x),
)
def test_a_fleet_that_is_interrupted_in_a_wave_goes_on_as_it_was_planned_to_the_same_bits(
    task: Callable[[], Task], after: int
) -> None:
    with stopping(after):
        raced(task(), "fleet", "broken", threads=1)
    with Store.open(Path("broken")) as store:
        (summary,) = store.races()
        assert (len(store.race(summary.key).traces), summary.finished_at) == (after, None)
    whole = raced(task(), "fleet", "whole", threads=1)

    ended = raced(task(), "fleet", "broken", threads=1)

    assert ended.plan == dataclasses.replace(whole.plan, why=ended.plan.why)
    assert by_key(ended) == by_key(whole)
    assert ended.verdict == whole.verdict


def test_what_was_chosen_is_kept_when_a_race_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with stopping(3):
        raced(network(), "auto", "broken", steps=200)
    with Store.open(Path("broken")) as store:
        (summary,) = store.races()
        begun = store.latest_unfinished(summary.key)
    assert begun is not None

    def never(*given: Any, **more: Any) -> Any:
        raise AssertionError("chosen again")

    with monkeypatch.context() as patched:
        patched.setattr(auto, "choose", never)
        ended = raced(network(), "auto", "broken", steps=200)

    assert ended.plan == begun.plan
    assert ended.plan.executor in ("serial", "processes", "fleet")
    assert ended.plan.why
    whole = raced(network(), ended.plan.executor, "whole", steps=200, threads=ended.plan.threads)
    if whole.plan.wave == ended.plan.wave:  # else another plan
        assert by_key(whole) == by_key(ended)


# The commands.


def shape(x: Any) -> Any:
    """The names in an answer, and the kinds of its values."""
    if isinstance(x, Mapping):
        return {name: shape(value) for name, value in x.items()}
    if isinstance(x, list):
        return [shape(entry) for entry in x]
    return "number" if isinstance(x, int | float) else type(x).__name__


@pytest.mark.parametrize(
    "more",
    [
        ("fleet",),
        ("fleet", "--memory", "2GB"),
        ("auto",),
        pytest.param(("processes",), marks=pytest.mark.slow),
    ],
)
def test_the_answer_for_a_program_has_the_same_shape_under_every_executor(
    call: Call, more: tuple[str, ...]
) -> None:
    serial = call(*RACE, "--json", "--executor", "serial", "--out", "serial")
    other = call(*RACE, "--json", "--executor", *more)

    assert [(d.code, d.err) for d in (serial, other)] == [(0, ""), (0, "")]
    mine, theirs = json.loads(other.out), json.loads(serial.out)
    assert shape(mine) == shape(theirs)
    assert mine["ranking"][0]["score"] == pytest.approx(theirs["ranking"][0]["score"], abs=0.01)


def test_another_executor_is_another_race_and_the_same_one_is_shown_again(call: Call) -> None:
    serial, fleet = (call(*RACE, "--json", "--executor", name) for name in ("serial", "fleet"))

    assert json.loads(serial.out)["finished_at"] is not None
    assert len(json.loads(call("runs", "--json").out)["races"]) == 2
    assert call(*RACE, "--json", "--executor", "fleet").out == fleet.out


def test_the_answer_for_a_person_is_the_same_under_a_fleet(call: Call) -> None:
    serial, fleet = (call(*RACE, "--executor", name, "--out", name) for name in ("serial", "fleet"))

    def said(done: Done) -> list[str]:
        return [re.sub(r"[\d.]+", "0", line.split(":")[0]) for line in done.out.splitlines()]

    assert (fleet.code, fleet.err) == (0, "")
    assert said(fleet)[0] == said(serial)[0]
    assert said(fleet)[-1] == said(serial)[-1] == "Report"


@pytest.mark.slow
def test_ctrl_c_in_a_fleet_leaves_what_was_done_and_the_same_command_goes_on(
    tmp_path: Path, call: Call
) -> None:
    folder = tmp_path / "interrupted"
    folder.mkdir()
    process = start(folder, *LONG_RACE)
    while process.poll() is None and not traces(folder / "runs"):
        time.sleep(0.002)
    time.sleep(0.05)  # into the next round
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
    stopped = finish(process)
    done = traces(folder / "runs")

    assert (stopped.code, stopped.out) == (130, "")
    assert "thalweg: interrupted. What was finished is kept; the same command goes on" in stopped.err
    assert "Traceback" not in stopped.err
    assert 0 < len(done) < 36
    with Store.open(folder / "runs") as store:
        assert len(store.traces(done)) == len(done)

    ended = finish(start(folder, *LONG_RACE))
    assert (ended.code, ended.err) == (0, "")
    assert done.items() <= traces(folder / "runs").items()
    undisturbed = call(*LONG_RACE)
    assert timeless(json.loads(ended.out)) == timeless(json.loads(undisturbed.out))


@pytest.mark.slow
def test_a_fleet_that_is_killed_leaves_a_store_that_goes_on(tmp_path: Path, call: Call) -> None:
    folder = tmp_path / "killed"
    folder.mkdir()
    process = start(folder, *LONG_RACE)
    while process.poll() is None and not traces(folder / "runs"):
        time.sleep(0.002)
    process.kill()
    assert finish(process).code == -signal.SIGKILL
    done = traces(folder / "runs")

    ended = finish(start(folder, *LONG_RACE))
    assert (ended.code, ended.err) == (0, "")
    assert done.items() <= traces(folder / "runs").items()
    assert timeless(json.loads(ended.out)) == timeless(json.loads(call(*LONG_RACE).out))

"""What is put into a store comes out of it, and only that."""

import math
import sqlite3
import tempfile
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import fields, is_dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.errors import InputError, StoreError
from thalweg.records import Ledger, Plan, Race, Stage, Trace, Verdict
from thalweg.store import FILE_NAME, RaceSummary, Store

Put = Callable[[Store, Race], None]

# A key or a date is a column of its own. All other texts are inside JSON, where even a lone surrogate may
# stand: a command has one when it names a file whose name is not UTF-8.
COLUMNS = {"key", "started_at", "finished_at"}
KEY = st.text(max_size=5)
TEXT = st.text(st.characters(exclude_categories=()), max_size=5)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
TOML = st.recursive(
    st.booleans() | st.integers() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=3,
)
PLAIN = {Any: TOML, str: TEXT, float: NUMBER, int: st.integers(), bool: st.booleans(), type(None): st.none()}


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of a type that records are made of."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*map(values, arguments))
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(values(arguments[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values, arguments))
    if origin is Mapping:
        return st.dictionaries(TEXT, values(arguments[1]), max_size=2)
    if is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        names = [field.name for field in fields(hint)]
        return st.builds(hint, **{name: KEY if name in COLUMNS else values(hints[name]) for name in names})
    if hint in PLAIN:
        return PLAIN[hint]
    assert issubclass(hint, StrEnum)
    return st.sampled_from(hint)


@settings(max_examples=25)
@given(
    race=values(Race),
    traces=st.lists(values(Trace), max_size=3, unique_by=lambda trace: trace.key),
    verdict=values(Verdict),
    ledger=values(Ledger),
)
def test_every_record_comes_back_as_it_was(
    race: Race, traces: Sequence[Trace], verdict: Verdict, ledger: Ledger
) -> None:
    begun = replace(race, traces=tuple(traces), verdict=None, ledger=None, finished_at=None, findings=())
    finished = replace(
        begun,
        traces=tuple(traces[::-1]),
        verdict=verdict,
        ledger=ledger,
        finished_at="now",
        findings=race.findings,
    )
    with tempfile.TemporaryDirectory() as folder:
        with Store.open(folder) as store:
            store.save_race(
                begun.key, begun.plan, begun.command, begun.environment, begun.started_at, begun.follows
            )
            for trace in traces:
                store.save_trace(trace)
                store.attach(begun.key, trace.key)
            assert store.race(begun.key) == store.latest_unfinished(begun.key) == begun
        with Store.open(folder, create=False) as store:
            assert store.race(begun.key) == begun
            keys = [trace.key for trace in finished.traces]
            store.finish_race(begun.key, keys, verdict, ledger, "now", race.findings)
            assert store.race(begun.key) == store.finished_race(begun.key) == finished
            assert store.latest_unfinished(begun.key) is None
            assert store.traces(trace.key for trace in traces) == {trace.key: trace for trace in traces}


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_does_not_know_is_refused_and_nothing_is_kept(
    folder: Path, race: Race, number: float
) -> None:
    with Store.open(folder) as store:
        with pytest.raises(ValueError, match="not JSON compliant"):
            store.save_trace(replace(race.traces[0], losses=(number,)))

        assert store.race(race.key) == race


def test_only_kept_traces_are_found_in_the_order_wanted(folder: Path, race: Race) -> None:
    first, second = race.traces[:2]
    with Store.open(folder) as store:
        found = store.traces([second.key, "not kept", first.key, second.key])

    assert list(found.items()) == [(second.key, second), (first.key, first)]


def test_a_trace_that_is_saved_again_replaces_the_old_one_in_every_race(folder: Path, race: Race) -> None:
    again = replace(race.traces[0], total_seconds=123.0)
    with Store.open(folder) as store:
        store.save_trace(again)
        store.save_trace(again)

        assert store.race(race.key).traces == (again, *race.traces[1:])


def test_trainings_that_belong_to_no_race_are_listed_newest_first(folder: Path, race: Race) -> None:
    dates = ["2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z", "2026-01-01T00:00:00Z"]
    singles = [
        replace(race.traces[0], key=date, stage=Stage.SINGLE, contender="a run", started_at=date)
        for date in dates
    ]
    with Store.open(folder) as store:
        for trace in singles:
            store.save_trace(trace)

        assert store.single_traces() == (singles[1], singles[0], singles[2])


def test_attaching_a_trace_twice_changes_nothing(tmp_path: Path, race: Race, begin: Put) -> None:
    with Store.open(tmp_path) as store:
        begin(store, race)
        store.attach(race.key, race.traces[0].key)

        assert store.race(race.key).traces == race.traces


def test_a_race_that_is_begun_again_keeps_what_it_has(tmp_path: Path, race: Race, begin: Put) -> None:
    with Store.open(tmp_path) as store:
        begin(store, race)
        store.save_race(race.key, race.plan, "another command", {}, "later")
        found = store.latest_unfinished(race.key)

    assert found == replace(race, verdict=None, ledger=None, finished_at=None)


def test_a_race_that_is_run_anew_replaces_its_result_only_when_it_has_a_new_one(
    folder: Path, race: Race, finish: Put
) -> None:
    new = replace(race, traces=race.traces[:2], started_at="2027", finished_at="2028", command="--fresh")
    with Store.open(folder) as store:
        store.save_race(new.key, new.plan, new.command, new.environment, new.started_at)
        store.attach(new.key, new.traces[0].key)
        assert store.race(race.key) == store.finished_race(race.key) == race
        unfinished = store.latest_unfinished(race.key)
        assert unfinished is not None
        assert (unfinished.traces, unfinished.command) == (new.traces[:1], "--fresh")
        assert [(r.started_at, r.finished_at) for r in store.races()] == [
            ("2027", None),
            (race.started_at, race.finished_at),
        ]
        finish(store, new)
        assert store.race(race.key) == new
        assert len(store.races()) == 1
        assert store.latest_unfinished(race.key) is None
        # The traces that only the old result had are still there for other races.
        assert list(store.traces(trace.key for trace in race.traces).values()) == list(race.traces)


def test_the_list_of_races_tells_how_far_each_is_newest_first(folder: Path, race: Race) -> None:
    with Store.open(folder) as store:
        store.save_race("newer", race.plan, race.command, race.environment, "2027-01-01T00:00:00Z")
        store.save_race("older", race.plan, race.command, race.environment, "2025-01-01T00:00:00Z")
        store.attach("newer", race.traces[3].key)
        newer, finished, older = store.races()

    assert race.verdict is not None
    # Two optimizers, each with three rates on one tuning seed and one rate on two final seeds.
    assert newer == RaceSummary(
        "newer", "mnist", ("sgd", "adam"), "2027-01-01T00:00:00Z", None, None, (), False, 1, 10
    )
    assert finished == RaceSummary(
        key=race.key,
        task="mnist",
        optimizers=("sgd", "adam"),
        started_at=race.started_at,
        finished_at=race.finished_at,
        winner=race.verdict.winner,
        tie=race.verdict.tie,
        undecided=True,  # two seeds, where telling two optimizers apart takes six
        trials_done=10,
        trials_planned=10,
    )
    assert (older.key, older.trials_done) == ("older", 0)


def test_trials_of_the_finder_are_not_counted_and_what_follows_another_race_says_so(
    tmp_path: Path, race: Race
) -> None:
    sweep = replace(race.traces[0], key="sweep", stage=Stage.SWEEP)
    plan = replace(race.plan, vary="schedule")
    with Store.open(tmp_path) as store:
        store.save_race("after", plan, "", {}, "2027-01-01T00:00:00Z", follows=race.key)
        for trace in (sweep, race.traces[0]):
            store.save_trace(trace)
            store.attach("after", trace.key)
        (summary,) = store.races()
        kept = store.race("after")

    assert (summary.trials_done, summary.vary, summary.follows) == (1, "schedule", race.key)
    assert [t.key for t in kept.traces] == ["sweep", race.traces[0].key]
    assert kept.follows == race.key


def test_several_trials_are_kept_as_part_of_a_race_or_none_of_them(tmp_path: Path, race: Race) -> None:
    first, second, third, *_ = race.traces
    with Store.open(tmp_path) as store:
        store.save_race(race.key, race.plan, "", {}, race.started_at)
        store.save_trace(second)
        slower = replace(second, total_seconds=99.0)
        store.keep(race.key, [first, slower], known={second.key})
        assert store.race(race.key).traces == (first, second)  # what is known is not written again
        with pytest.raises(sqlite3.IntegrityError):
            store.keep(race.key, [third, race.traces[3]], known={race.traces[3].key})
        assert store.race(race.key).traces == (first, second)
        assert store.traces([third.key]) == {}
        store.keep(race.key, [slower])
        assert store.race(race.key).traces == (first, slower)
        with pytest.raises(StoreError, match="be under way"):
            store.keep("no such race", [third])
        assert store.traces([third.key]) == {}


def test_given_rates_are_planned_without_tuning(tmp_path: Path, race: Race) -> None:
    given_one = replace(race.plan.contenders[0], tuned=False, quota=1)
    plan: Plan = replace(race.plan, contenders=(given_one, race.plan.contenders[1]))
    with Store.open(tmp_path) as store:
        store.save_race("key", plan, "", {}, "2027")

        assert store.races()[0].trials_planned == 2 + 3 + 2


def test_an_unknown_race_is_refused_in_words(folder: Path) -> None:
    with Store.open(folder) as store:
        assert store.finished_race("xyz") is None
        assert store.latest_unfinished("xyz") is None
        with pytest.raises(InputError) as caught:
            store.race("xyz")

    assert str(caught.value) == (
        f"race must be kept in {folder / FILE_NAME}; got 'xyz'. List what it holds with: thalweg runs."
    )


def test_what_refers_to_nothing_is_refused_and_changes_nothing(folder: Path, race: Race) -> None:
    assert race.verdict is not None
    assert race.ledger is not None
    with Store.open(folder) as store:
        with pytest.raises(StoreError, match="must be under way; got one that another process has finished"):
            store.attach(race.key, race.traces[0].key)  # it is finished
        store.save_race(race.key, race.plan, race.command, race.environment, race.started_at)
        with pytest.raises(sqlite3.IntegrityError):
            store.attach(race.key, "not kept")
        with pytest.raises(sqlite3.IntegrityError):
            store.finish_race(race.key, ["not kept"], race.verdict, race.ledger, "2027")

        assert store.finished_race(race.key) == race
        assert store.latest_unfinished(race.key) is not None


@pytest.mark.parametrize(
    "change",
    [
        "'{'",
        "'[]'",
        "'{}'",
        "x'ff'",
        'replace(record, \'"seed":\', \'"surprise":1,"seed":\')',
        "replace(record, '\"clipped_fraction\":0.0', '\"clipped_fraction\":NaN')",
        "replace(hex(zeroblob(50000)), '0', '[')",  # too deep
    ],
)
def test_a_record_that_cannot_be_read_is_told_in_words(folder: Path, race: Race, change: str) -> None:
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection, connection:
        connection.execute(f"UPDATE traces SET record = {change}")
    with Store.open(folder) as store, pytest.raises(StoreError) as caught:
        store.race(race.key)

    assert str(caught.value) == (
        f"store {folder / FILE_NAME} must be an undamaged database; got a trace that cannot be read. "
        "Put a copy of it in its place, or use another folder (--out)."
    )


def test_the_view_for_people_shows_what_each_trial_was(folder: Path, race: Race) -> None:
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection:
        shown = connection.execute("SELECT key, contender, stage, seed, rate, outcome, score FROM trials")

        assert shown.fetchall() == [
            (t.key, t.contender, str(t.stage), t.seed, t.rate, str(t.outcome), t.score) for t in race.traces
        ]

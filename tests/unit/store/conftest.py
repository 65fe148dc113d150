"""A small race, and a store that holds it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from made_up import race as make_race
from thalweg.records import Race
from thalweg.store import Store

Put = Callable[[Store, Race], None]


@pytest.fixture(scope="session")
def race() -> Race:
    return make_race(optimizers=("sgd", "adam"), rates=3, tuning_seeds=1, final_seeds=2, epochs=1)


@pytest.fixture(scope="session")
def begin() -> Put:
    """Begin a race and keep its traces, as a race does that was stopped before its verdict."""

    def put(store: Store, race: Race) -> None:
        store.save_race(race.key, race.plan, race.command, race.environment, race.started_at)
        for trace in race.traces:
            store.save_trace(trace)
            store.attach(race.key, trace.key)

    return put


@pytest.fixture(scope="session")
def finish() -> Put:
    """Give a begun race its result."""

    def put(store: Store, race: Race) -> None:
        assert race.verdict is not None
        assert race.ledger is not None
        assert race.finished_at is not None
        keys = [trace.key for trace in race.traces]
        store.finish_race(race.key, keys, race.verdict, race.ledger, race.finished_at)

    return put


@pytest.fixture
def folder(tmp_path: Path, race: Race, begin: Put, finish: Put) -> Path:
    """A folder whose store holds the race, finished."""
    with Store.open(tmp_path / "runs") as store:
        begin(store, race)
        finish(store, race)
    return tmp_path / "runs"

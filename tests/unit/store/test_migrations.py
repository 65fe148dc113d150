"""An older store is brought up to date, wholly or not at all."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from thalweg.records import Outcome, Race
from thalweg.store import FILE_NAME, Store
from thalweg.store.migrations import MIGRATIONS, migrate, schema_version

VERSION_1 = Path(__file__).parent / "version_1.sql"


def note_for_races(connection: sqlite3.Connection) -> None:
    """A made-up migration: a column, and a change of the stored records."""
    connection.execute("ALTER TABLE races ADD COLUMN note TEXT NOT NULL DEFAULT 'none'")
    for race_id, text in connection.execute("SELECT id, record FROM races").fetchall():
        record = json.dumps({**json.loads(text), "command": "rewritten"})
        connection.execute("UPDATE races SET record = ? WHERE id = ?", (record, race_id))


def broken(connection: sqlite3.Connection) -> None:
    """A made-up migration that fails when it is half done."""
    connection.execute("DROP TABLE race_traces")
    connection.execute("UPDATE races SET record = 'lost'")
    raise RuntimeError("half-way")


@pytest.fixture
def connection(folder: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(folder / FILE_NAME, isolation_level=None)) as connection:
        yield connection


def test_a_new_migration_is_applied_to_an_older_store_once(
    folder: Path, race: Race, connection: sqlite3.Connection
) -> None:
    steps = (*MIGRATIONS, note_for_races)
    migrate(connection, steps)
    migrate(connection, steps)  # a second ALTER TABLE would fail

    assert schema_version(connection) == len(MIGRATIONS) + 1
    (note, text), *_ = connection.execute("SELECT note, record FROM races").fetchall()
    assert (note, json.loads(text)["command"]) == ("none", "rewritten")
    kept = connection.execute("SELECT key FROM traces JOIN race_traces ON trace_key = key ORDER BY position")
    assert [key for (key,) in kept] == [trace.key for trace in race.traces]


def test_a_migration_that_fails_leaves_the_last_whole_version(
    folder: Path, race: Race, connection: sqlite3.Connection
) -> None:
    before = list(connection.iterdump())
    with pytest.raises(RuntimeError, match="half-way"):
        migrate(connection, (*MIGRATIONS, broken))

    assert schema_version(connection) == len(MIGRATIONS)
    assert list(connection.iterdump()) == before
    with Store.open(folder) as store:
        assert store.race(race.key) == race


def test_the_migrations_before_the_one_that_fails_stay(folder: Path, connection: sqlite3.Connection) -> None:
    with pytest.raises(RuntimeError, match="half-way"):
        migrate(connection, (*MIGRATIONS, note_for_races, broken))

    assert schema_version(connection) == len(MIGRATIONS) + 1
    assert connection.execute("SELECT note FROM races").fetchall() == [("none",)]


def test_a_store_of_version_1_is_read(tmp_path: Path) -> None:
    """Fails when a stored record was changed without a migration. The file is never written anew."""
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.executescript(VERSION_1.read_text())
    with Store.open(tmp_path, create=False) as store:
        (summary,) = store.races()
        race = store.race(summary.key)

    assert (summary.task, summary.optimizers, summary.tie) == ("mnist", ("sgd", "adam"), ("adam", "sgd"))
    assert [trace.outcome for trace in race.traces] == [Outcome.DIVERGED, *[Outcome.COMPLETED] * 3]
    assert race.traces[0].losses == (2.2, None)
    assert race.traces[1].losses == (2.2, 1.9)
    assert race.ledger is not None
    assert [row.diverged_trials for row in race.ledger.rows] == [1, 0]


def test_the_first_migration_is_what_it_was() -> None:
    """Released migrations never change: this fails when the first one is edited."""
    with closing(sqlite3.connect(":memory:")) as old, closing(sqlite3.connect(":memory:")) as new:
        old.executescript(VERSION_1.read_text())
        new.isolation_level = None
        migrate(new, MIGRATIONS[:1])
        schema = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name"

        assert new.execute(schema).fetchall() == old.execute(schema).fetchall()
        assert schema_version(old) == 1

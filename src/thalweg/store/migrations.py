"""How the tables of a store came to be: an ordered list of steps, each named and transactional.

The schema version of a store (SQLite's ``user_version``) is the number of steps applied to it. Steps
are only ever added at the end: what a released step does is never changed. A change of a stored record
in ``records`` is a step here too, one that rewrites the JSON.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

Migration = Callable[[sqlite3.Connection], None]

APPLICATION_ID = int.from_bytes(b"Thlw")  # SQLite's mark of whose file a database is


def races_and_traces(connection: sqlite3.Connection) -> None:
    """Make the tables: races, traces, and which trace belongs to which races."""
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(
        """
        CREATE TABLE traces (
            key TEXT PRIMARY KEY,
            stage TEXT NOT NULL,
            started_at TEXT NOT NULL,
            record TEXT NOT NULL  -- a Trace as JSON
        )
        """
    )
    connection.execute(
        """
        CREATE TABLE races (
            id INTEGER PRIMARY KEY,
            key TEXT NOT NULL,
            started_at TEXT NOT NULL,
            finished_at TEXT,     -- NULL: not finished
            record TEXT NOT NULL  -- a Race as JSON, without its traces
        )
        """
    )
    # A race that is run anew stands beside its old result until it replaces it: one row of each kind.
    connection.execute("CREATE UNIQUE INDEX finished_races ON races (key) WHERE finished_at IS NOT NULL")
    connection.execute("CREATE UNIQUE INDEX unfinished_races ON races (key) WHERE finished_at IS NULL")
    connection.execute(
        """
        CREATE TABLE race_traces (
            race_id INTEGER NOT NULL REFERENCES races (id) ON DELETE CASCADE,
            trace_key TEXT NOT NULL REFERENCES traces (key),
            position INTEGER NOT NULL,
            PRIMARY KEY (race_id, trace_key)
        )
        """
    )
    # For people who read a store with SQL; Thalweg itself never reads this view.
    connection.execute(
        """
        CREATE VIEW trials AS SELECT
            key,
            json_extract(record, '$.contender') AS contender,
            stage,
            json_extract(record, '$.seed') AS seed,
            json_extract(record, '$.rate') AS rate,
            json_extract(record, '$.outcome') AS outcome,
            json_extract(record, '$.score') AS score,
            started_at
        FROM traces
        """
    )


MIGRATIONS: tuple[Migration, ...] = (races_and_traces,)


@contextmanager
def transaction(connection: sqlite3.Connection, kind: str) -> Iterator[None]:
    """Do all of the body or nothing: commit at its end, roll back when it raises.

    ``kind`` is ``"DEFERRED"`` for reading or ``"IMMEDIATE"`` for writing, which takes the lock at once, so
    that two writers wait for each other instead of failing half-way.
    """
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")  # inside: a commit that fails leaves the transaction open
    except BaseException:
        if connection.in_transaction:  # SQLite itself has rolled back after some errors
            connection.execute("ROLLBACK")
        raise


def schema_version(connection: sqlite3.Connection) -> int:
    """Read how many migrations the database has seen.

    >>> schema_version(sqlite3.connect(":memory:"))
    0
    """
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Apply the migrations that the database has not seen, each in a transaction of its own.

    The connection is in autocommit mode (``isolation_level=None``). Whatever a migration raises is raised
    on; the database then stands where the last whole migration left it.

    >>> memory = sqlite3.connect(":memory:", isolation_level=None)
    >>> migrate(memory)
    >>> schema_version(memory) == len(MIGRATIONS)
    True
    """
    while schema_version(connection) < len(migrations):
        with transaction(connection, "IMMEDIATE"):
            version = schema_version(connection)  # again: another process may have been faster
            if version < len(migrations):
                migrations[version](connection)
                connection.execute(f"PRAGMA user_version = {version + 1}")

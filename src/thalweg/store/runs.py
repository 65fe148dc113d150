"""Records to and from the one SQLite file of a store.

A trace is kept once, under its key, and races refer to it, so that two races share the trials that they
have in common. Every write is one transaction that is on the disk before the call returns: a process that
is killed loses the trial that it was in, and nothing else.
"""

import json
import sqlite3
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NoReturn, Self, TypeVar

from thalweg.errors import InputError, StoreError
from thalweg.records import Finding, Ledger, Plan, Race, Stage, Trace, Verdict, from_data, to_data
from thalweg.store.migrations import transaction
from thalweg.store.opening import connect, damaged, in_words

R = TypeVar("R")


@dataclass(frozen=True)
class RaceSummary:
    """One line of the list of races."""

    key: str
    task: str
    optimizers: tuple[str, ...]
    started_at: str
    finished_at: str | None  # None: not finished
    winner: str | None
    tie: tuple[str, ...]
    undecided: bool  # finished with fewer seeds than it takes to tell so many optimizers apart
    trials_done: int  # of tuning and final ones; the finder's are counted apart, in the ledger
    trials_planned: int  # at most: an optimizer whose rates all diverge has no final trials
    vary: str = ""  # what the contenders differ in; "": the optimizer
    follows: str = ""  # the key of the race that this one goes on with


class Store:
    """One folder of stored runs; made by `Store.open`, closed by leaving its ``with`` block.

    Every method may raise `StoreError`: locked by another process, damaged, not writable, disk full.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, Store.open(folder) as store:
    ...     store.races(), store.traces(["unknown key"])
    ((), {})
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection

    @classmethod
    def open(cls, folder: str | Path, create: bool = True) -> Self:
        """Open the store in a folder, bringing an older one up to date.

        With ``create`` folder and file are made where missing, and a store that cannot be written is
        refused. Without, a folder that holds no store is an `InputError`. A file that is not a sound store
        of a known version is a `StoreError`, and is left as it was.
        """
        return cls(*connect(Path(folder), create))

    def close(self) -> None:
        """Close the file; the store is of no use after that."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def save_trace(self, trace: Trace) -> None:
        """Keep a finished trial; one that is already kept under the same key is replaced."""
        with self._writing():
            self._save(trace)

    def keep(self, race_key: str, traces: Sequence[Trace], known: Container[str] = ()) -> None:
        """Keep finished trials as part of a begun race, all of them or none: a write waits for the disk.

        Those whose keys are known are kept already, and only become part of the race. Raises StoreError where
        no such race is under way, sqlite3.IntegrityError where a known one is not kept.
        """
        with self._writing():
            race_id, _ = self._begun(race_key)
            for trace in traces:
                if trace.key not in known:
                    self._save(trace)
                self._attach(race_id, trace.key)

    def traces(self, keys: Iterable[str]) -> dict[str, Trace]:
        """Give those of the wanted traces that are kept, by key, in the order wanted."""
        found = {}
        with self._reading():
            for key in keys:
                for (text,) in self._connection.execute("SELECT record FROM traces WHERE key = ?", (key,)):
                    found[key] = self._decode(Trace, text)
        return found

    def single_traces(self) -> tuple[Trace, ...]:
        """Give the trainings that belong to no race, newest first."""
        with self._reading():
            rows = self._connection.execute(
                "SELECT record FROM traces WHERE stage = ? ORDER BY started_at DESC, rowid DESC",
                (str(Stage.SINGLE),),
            )
            return tuple(self._decode(Trace, text) for (text,) in rows)

    def save_race(
        self,
        race_key: str,
        plan: Plan,
        command: str,
        environment: Mapping[str, str],
        started_at: str,
        follows: str = "",
    ) -> None:
        """Note that a race has begun.

        One that was begun before and not finished stays as it is, with the traces attached to it. A
        finished one under the same key stays too, until `finish_race` replaces it.
        """
        race = Race(race_key, plan, (), None, None, environment, command, started_at, follows=follows)
        with self._writing():
            self._connection.execute(
                "INSERT INTO races (key, started_at, record) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (race_key, started_at, _encode(race)),
            )

    def attach(self, race_key: str, trace_key: str) -> None:
        """Note that a kept trace is part of a begun race; a second time changes nothing.

        Raises StoreError where no such race is under way, sqlite3.IntegrityError where no such trace is kept.
        """
        with self._writing():
            race_id, _ = self._begun(race_key)
            self._attach(race_id, trace_key)

    def finish_race(
        self,
        race_key: str,
        trace_keys: Sequence[str],
        verdict: Verdict,
        ledger: Ledger,
        finished_at: str,
        findings: Sequence[Finding] = (),
    ) -> None:
        """Give a begun race its result and exactly these kept traces, in this order.

        An older result under the same key is replaced, in the same transaction. Raises StoreError where no
        such race is under way, sqlite3.IntegrityError where a trace is not kept.
        """
        with self._writing():
            race_id, race = self._begun(race_key)
            race = replace(
                race, verdict=verdict, ledger=ledger, finished_at=finished_at, findings=tuple(findings)
            )
            self._connection.execute(
                "DELETE FROM races WHERE key = ? AND finished_at IS NOT NULL", (race_key,)
            )
            self._connection.execute(
                "UPDATE races SET finished_at = ?, record = ? WHERE id = ?",
                (finished_at, _encode(race), race_id),
            )
            self._connection.execute("DELETE FROM race_traces WHERE race_id = ?", (race_id,))
            self._connection.executemany(
                "INSERT INTO race_traces (race_id, trace_key, position) VALUES (?, ?, ?)",
                [(race_id, key, position) for position, key in enumerate(trace_keys)],
            )

    def finished_race(self, key: str) -> Race | None:
        """Give the race under a key with its result and its traces; None where it has no result."""
        with self._reading():
            return self._find(key, "NOT NULL")

    def latest_unfinished(self, plan_key: str) -> Race | None:
        """Give the race that was begun under a key and not finished; None where there is none.

        The key of a race is that of its plan. There is one at most, also beside a finished one.
        """
        with self._reading():
            return self._find(plan_key, "NULL")

    def race(self, key: str) -> Race:
        """Give a race with its traces: its result, or what there is of it while it has none.

        Raises InputError where no such race is kept.
        """
        with self._reading():
            found = self._find(key, "NOT NULL") or self._find(key, "NULL")
        if found is None:
            do = "List what it holds with: thalweg runs."
            raise InputError("race", f"be kept in {self.path}", repr(key), do)
        return found

    def races(self) -> tuple[RaceSummary, ...]:
        """List all races, finished or not, newest first."""
        with self._reading():
            rows = self._connection.execute(
                "SELECT record, (SELECT count(*) FROM race_traces JOIN traces ON traces.key = trace_key"
                " WHERE race_id = races.id AND stage IN (?, ?)) FROM races ORDER BY started_at DESC, id DESC",
                (str(Stage.TUNING), str(Stage.FINAL)),
            )
            return tuple(_summary(self._decode(Race, text), done) for text, done in rows)

    def _save(self, trace: Trace) -> None:
        self._connection.execute(
            "INSERT INTO traces (key, stage, started_at, record) VALUES (?, ?, ?, ?) ON CONFLICT (key)"
            " DO UPDATE SET stage = excluded.stage, started_at = excluded.started_at,"
            " record = excluded.record",
            (trace.key, str(trace.stage), trace.started_at, _encode(trace)),
        )

    def _attach(self, race_id: int, trace_key: str) -> None:
        self._connection.execute(
            "INSERT INTO race_traces (race_id, trace_key, position)"
            " SELECT ?1, ?2, count(*) FROM race_traces WHERE race_id = ?1 ON CONFLICT DO NOTHING",
            (race_id, trace_key),
        )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with in_words(self.path), transaction(self._connection, "IMMEDIATE"):
            yield

    @contextmanager
    def _reading(self) -> Iterator[None]:
        # A transaction here too: what several statements read is then of one moment.
        with in_words(self.path), transaction(self._connection, "DEFERRED"):
            yield

    def _begun(self, race_key: str) -> tuple[int, Race]:
        row = self._connection.execute(
            "SELECT id, record FROM races WHERE key = ? AND finished_at IS NULL", (race_key,)
        ).fetchone()
        if row is None:
            raise StoreError(
                f"race {race_key[:8]} in {self.path}",
                "be under way",
                "one that another process has finished, or that was never begun",
                "Run the same command again: it shows what is there.",
            )
        return row[0], self._decode(Race, row[1])

    def _find(self, key: str, finished_at: Literal["NULL", "NOT NULL"]) -> Race | None:
        row = self._connection.execute(
            f"SELECT id, record FROM races WHERE key = ? AND finished_at IS {finished_at}", (key,)
        ).fetchone()
        if row is None:
            return None
        texts = self._connection.execute(
            "SELECT traces.record FROM race_traces JOIN traces ON traces.key = trace_key"
            " WHERE race_id = ? ORDER BY position",
            (row[0],),
        )
        traces = tuple(self._decode(Trace, text) for (text,) in texts)
        return replace(self._decode(Race, row[1]), traces=traces)

    def _decode(self, record_type: type[R], text: str) -> R:
        try:
            return from_data(record_type, json.loads(text, parse_constant=_refuse))
        except (TypeError, ValueError, LookupError, AttributeError, RecursionError) as error:
            raise damaged(self.path, f"a {record_type.__name__.lower()} that cannot be read") from error


def _encode(record: Any) -> str:
    """Write a record as strict JSON: NaN and infinity are a ValueError, they must be None."""
    return json.dumps(to_data(record), allow_nan=False, separators=(",", ":"))


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _summary(race: Race, trials_done: int) -> RaceSummary:
    plan, verdict = race.plan, race.verdict
    return RaceSummary(
        key=race.key,
        task=plan.task,
        optimizers=tuple(contender.name for contender in plan.contenders),
        started_at=race.started_at,
        finished_at=race.finished_at,
        winner=verdict.winner if verdict else None,
        tie=verdict.tie if verdict else (),
        undecided=verdict is not None and verdict.seeds < verdict.seeds_needed,
        trials_done=trials_done,
        trials_planned=plan.trials_at_most,
        vary=plan.vary,
        follows=race.follows,
    )

"""A race and its store: what is finished is shown, what was begun goes on as it began, the rest is run."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from thalweg.api.prepare import environment, now
from thalweg.errors import StoreError
from thalweg.evidence import race as evidence
from thalweg.executors import auto
from thalweg.progress import Bar
from thalweg.racing import Workloads, run, updates_at_most
from thalweg.records import Plan, Race, Trace
from thalweg.store import FILE_NAME, Store
from thalweg.training.trial import Execution


def kept(
    key: str,
    folder: Path,
    settle: Callable[[], Plan],
    workloads: Workloads,
    how: Execution,
    *,
    fresh: bool,
    command: str,
    follows: str = "",
) -> Race:
    """Return a finished race, or run what is missing of it.

    Args:
        key: stands for what was asked.
        folder: where it is kept.
        settle: decides what was left open, or refuses, before anything is written; called unless the race was
            begun before.
        workloads: the task with its data, or one for each contender.
        how: what trials depend on; the plan says how they run.
        fresh: run everything anew.
        command: how to run it again.
        follows: the key of the race that this one goes on with.
    """
    begun = None
    if os.path.exists(folder / FILE_NAME):
        with Store.open(folder) as store:
            race, begun = None if fresh else store.finished_race(key), store.latest_unfinished(key)
        if race is not None:
            return race
    plan = settle() if begun is None else begun.plan
    with Store.open(folder) as store:
        return _run(store, key, plan, workloads, how, fresh, command, follows)


def _run(
    store: Store,
    key: str,
    plan: Plan,
    workloads: Workloads,
    how: Execution,
    fresh: bool,
    command: str,
    follows: str,
) -> Race:
    """Run what is missing of a race, keeping every trial as soon as it is finished."""
    how = replace(how, executor=plan.executor, threads=plan.threads, wave=plan.wave)
    store.save_race(key, plan, command, environment(), now(), follows)

    with Bar("racing", updates_at_most(plan)) as bar, _Keeping(store, key) as keeping:

        def completed(trial: str) -> Trace | None:
            keeping.write()  # a new round begins
            return None if fresh else store.traces([trial]).get(trial)

        def on_finished(trace: Trace, before: bool) -> None:
            keeping.add(trace, before)
            if not (before or how.wave):  # the traces of a wave come all at once
                keeping.write()
            done = trace.budget_steps if before else 0
            bar.advance(done, f"{trace.stage} {trace.contender} at {trace.rate:g}")

        def progress(updates: int) -> None:
            keeping.write()  # a new wave has begun
            bar.advance(updates)

        with auto.opened(how.executor, progress) as runner:
            traces, findings = run(plan, workloads, how, runner, completed, on_finished)
    ledger, verdict = evidence.ledger(plan, traces), evidence.verdict(plan, traces)
    store.finish_race(key, [t.key for t in traces], verdict, ledger, now(), findings)
    return store.race(key)


class _Keeping:
    """What of a race is to be written next, and is by the end of the ``with`` block.

    To wait for the disk takes longer than to train a small network: what is finished at once is written at
    once.
    """

    def __init__(self, store: Store, key: str) -> None:
        self._store, self._key = store, key
        self._traces: list[Trace] = []
        self._known: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, StoreError):
            self.write()

    def add(self, trace: Trace, known: bool) -> None:
        """Note a trace; a known one is in the store already."""
        self._traces.append(trace)
        if known:
            self._known.add(trace.key)

    def write(self) -> None:
        """Write what was noted."""
        if self._traces:
            traces, self._traces = self._traces, []
            self._store.keep(self._key, traces, self._known)

"""The call that races optimizers."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from thalweg.api.prepare import (
    RUNS,
    TaskLike,
    environment,
    execution,
    file_name,
    identity,
    now,
    prepare,
    steps_of,
    try_update,
)
from thalweg.errors import InputError, nearest
from thalweg.evidence import race as evidence
from thalweg.executors import auto
from thalweg.progress import Bar
from thalweg.racing import Entry, first_round, make_plan, run
from thalweg.racing.plan import QUOTA
from thalweg.records import Plan, Race, Stage, Trace, Verdict, to_data
from thalweg.rules.catalogue import preset
from thalweg.store import FILE_NAME, Store
from thalweg.training.recipe import Recipe
from thalweg.training.trial import Budget, Execution, Trial, Workload

OPTIMIZERS = ("sgd", "momentum", "rmsprop", "adam")


@dataclass(frozen=True)
class Showdown:
    """A finished race: print it to read it."""

    race: Race
    report: Path  # one HTML file, made to be opened and passed on

    @property
    def verdict(self) -> Verdict:
        """What the evidence decides."""
        assert self.race.verdict is not None  # only finished races are made into this
        return self.race.verdict

    def __str__(self) -> str:
        from thalweg import report  # with a library of figures, which takes its time

        return f"{report.text(self.race)}\nReport: {self.report}"

    def to_json(self) -> dict[str, Any]:
        """Return the answer as plain values."""
        from thalweg import report

        return report.as_json(self.race, self.report)


def showdown(
    task: TaskLike,
    optimizers: Iterable[str] | Mapping[str, Recipe] = OPTIMIZERS,
    *,
    rates: int | Mapping[str, float | Iterable[float]] = QUOTA,
    epochs: float | None = None,
    steps: int | None = None,
    batch_size: int | str | None = None,
    recipe: Mapping[str, Any] | None = None,
    seeds: int | None = None,
    seed: int = 0,
    executor: str = "auto",
    memory: float | None = None,
    threads: int | None = None,
    device: str = "cpu",
    data: str | os.PathLike[str] | None = None,
    download: bool = False,
    out: str | os.PathLike[str] = RUNS,
    fresh: bool = False,
    command: str = "",
) -> Showdown:
    """Race optimizers on a task, fairly, and say which one to use and how sure that is.

    For each optimizer a grid of rates is tried on a few seeds, equally many for all; the best rate of
    each runs on fresh seeds, and only those runs are compared.

    Args:
        task: a built-in name, a file ``path/to/task.py``, a `Task`, or arrays ``(X, y)``.
        optimizers: names of the catalogue; or names of your own with the recipe of each.
        rates: how many rates tuning may try; or the rates of some optimizers: a single one is taken as it
            is, several are what tuning tries.
        epochs: passes over the training part of every trial; None: what the task suggests.
        steps: updates of every trial, instead of epochs.
        batch_size: examples of one update, or "all"; None: what the task suggests.
        recipe: further fields that all share, e.g. ``{"clip_norm": 1.0}``.
        seeds: final seeds; None: as many as the verdict needs, twice that where it is cheap.
        seed: the root from which all random numbers derive.
        executor: how trials run: "serial", one after the other; "processes", one on each core; "fleet", as
            replicas of one program; "auto", whichever is fastest here.
        memory: bytes that a fleet may take beside the data; None: half of what is free.
        threads: of torch; None: one for small updates, else torch's own choice.
        device: where to train.
        data: the folder with the files of mnist and fashion-mnist; None: ``THALWEG_DATA``.
        download: whether missing files may be fetched into that folder.
        out: the folder that keeps the results and the report.
        fresh: run everything anew, even what is already finished.
        command: how to run this again, for the report.

    Raises:
        InputError: something cannot work as asked; nothing was started.
    """
    if isinstance(optimizers, str):
        optimizers = [name.strip() for name in optimizers.split(",")]
    names = list(optimizers)
    if not names:
        raise InputError("the optimizers of a race", "be one or more different names", "none")
    if isinstance(optimizers, Mapping):
        if not (batch_size is None and recipe is None):
            raise InputError(
                "batch_size and recipe",
                "be left out where each optimizer has a recipe of its own",
                f"batch_size={batch_size}, recipe={recipe}",
                "Write them into each recipe.",
            )
        for name, own in optimizers.items():
            if not isinstance(own, Recipe):
                raise InputError(f"the entry {name}", "be a Recipe", repr(own), "Or give a list of names.")
        batch_size = optimizers[names[0]].batch_size
    asked = dict(rates) if isinstance(rates, Mapping) else {}
    for name in asked:
        if name not in names:
            raise InputError("rates", "be given for optimizers of the race", repr(name), nearest(name, names))
    if not isinstance(optimizers, Mapping):
        for name in names:
            preset(name)
    prepared = prepare(task, seed, batch_size, data, download)
    workload = prepared.workload
    how = execution(seed, executor, threads, device, prepared.update_flops)
    shared = {"batch_size": prepared.batch_size, **(recipe or {})}
    entries = [
        Entry(
            name,
            optimizers[name]
            if isinstance(optimizers, Mapping)
            else Recipe.from_data({"optimizer": name, **shared}),
            _rates(asked.get(name)),
        )
        for name in names
    ]
    given = {"epochs": epochs, "steps": steps}
    if epochs is None and steps is None:
        given["epochs"] = workload.task.epochs
    updates = steps_of(Budget(**given), workload, entries[0].recipe, how)  # type: ignore[arg-type]
    quota = QUOTA if isinstance(rates, Mapping) else rates
    plan = make_plan(workload, entries, how, updates, prepared.update_flops, quota=quota, seeds=seeds)
    for entry in entries:
        trial_recipe = entry.recipe.with_rate(entry.rates[0]) if entry.rates else entry.recipe
        try_update(workload, Trial(entry.name, Stage.FINAL, trial_recipe, 0, updates), how)
    # How a race runs where that was left open is no part of what was asked: an unfinished one goes on as it
    # began.
    key = identity(to_data(replace(plan, threads=threads or 0)))
    folder = Path(out)
    race = begun = None
    if os.path.exists(folder / FILE_NAME):
        with Store.open(folder) as store:
            race, begun = None if fresh else store.finished_race(key), store.latest_unfinished(key)
    if race is None:
        if begun is not None:
            plan = begun.plan
        else:  # or refuse, before anything is written
            most = plan.trials_at_most * updates
            how, why = auto.choose(workload, first_round(plan), how, most, memory=memory, threads=threads)
            plan = replace(plan, executor=how.executor, threads=how.threads, wave=how.wave, why=why)
        with Store.open(folder) as store:
            race = _run(store, key, plan, workload, how, fresh, command)
    from thalweg import report

    page = report.write(race, folder / f"{file_name(plan.task, key)}.html")
    return Showdown(race, page)


def _rates(asked: float | Iterable[float] | None) -> tuple[float, ...] | None:
    if asked is None:
        return None
    if isinstance(asked, Iterable):
        return tuple(float(rate) for rate in asked)
    return (float(asked),)


def _run(
    store: Store,
    key: str,
    plan: Plan,
    workload: Workload,
    how: Execution,
    fresh: bool,
    command: str,
) -> Race:
    """Run what is missing of a race, keeping every trial as soon as it is finished."""
    how = replace(how, executor=plan.executor, threads=plan.threads, wave=plan.wave)
    store.save_race(key, plan, command, environment(), now())

    def completed(trial: str) -> Trace | None:
        return None if fresh else store.traces([trial]).get(trial)

    with Bar("racing", plan.trials_at_most * plan.steps) as bar:

        def on_finished(trace: Trace, before: bool) -> None:
            if not before:
                store.save_trace(trace)
            store.attach(key, trace.key)
            bar.advance(plan.steps if before else 0, f"{trace.stage} {trace.contender} at {trace.rate:g}")

        def progress(updates: int) -> None:
            bar.advance(updates)

        runner = partial(auto.EXECUTORS[how.executor], progress=progress)
        traces = run(plan, workload, how, runner, completed, on_finished)
    ledger = evidence.ledger(plan, traces)
    store.finish_race(key, [t.key for t in traces], evidence.verdict(plan, traces), ledger, now())
    return store.race(key)

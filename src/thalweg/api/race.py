"""The call that races optimizers."""

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from thalweg.api.budgeting import fitted, length_of
from thalweg.api.choosing import settled
from thalweg.api.entering import Optimizers, Rates, check, enter, try_updates
from thalweg.api.following import followed, schedules_of
from thalweg.api.keeping import kept
from thalweg.api.prepare import RUNS, TaskLike, execution, file_name, identity
from thalweg.errors import InputError
from thalweg.finder import plan_finder
from thalweg.hyper import Real
from thalweg.racing import make_plan
from thalweg.racing.plan import QUOTA, first_look
from thalweg.records import Plan, Race, Verdict, to_data
from thalweg.schedules import Schedule
from thalweg.training.trial import Budget, Workload

OPTIMIZERS = ("sgd", "momentum", "rmsprop", "adam")


@dataclass(frozen=True)
class Showdown:
    """A finished race: print it to read it."""

    race: Race
    report: Path  # one HTML file, made to be opened and passed on
    schedules: Race | None = None  # the race of schedules under the winner

    @property
    def verdict(self) -> Verdict:
        """What the evidence decides."""
        assert self.race.verdict is not None  # only finished races are made into this
        return self.race.verdict

    def __str__(self) -> str:
        from thalweg import report  # with a library of figures, which takes its time

        return f"{report.text(self.race, schedules=self.schedules)}\nReport: {self.report}"

    def to_json(self) -> dict[str, Any]:
        """Return the answer as plain values."""
        from thalweg import report

        return report.as_json(self.race, self.report, schedules=self.schedules)


def showdown(
    task: TaskLike | None = None,
    optimizers: Optimizers = OPTIMIZERS,
    *,
    rates: Rates = QUOTA,
    epochs: float | None = None,
    steps: int | None = None,
    budget: float | None = None,
    batch_size: int | str | None = None,
    recipe: Mapping[str, Any] | None = None,
    vary: Mapping[str, Any] | None = None,
    schedules: str | Iterable[str | Schedule] | None = None,
    target: Mapping[str, float] | None = None,
    seeds: int | Iterable[int] | None = None,
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
    started: float | None = None,
) -> Showdown:
    """Race optimizers on a task, fairly, and say which one to use and how sure that is.

    For each optimizer a finder measures where its rate lies, and rates around that are tried, equally many
    for all; the best rate of each runs on fresh seeds, and only those runs are compared. Schedules then race
    under the winner.

    Args:
        task: a built-in name, a file ``path/to/task.py``, a `Task`, or arrays ``(X, y)``.
        optimizers: names of the catalogue; or names of your own with the recipe of each.
        rates: how many rates tuning may try; or the rates of some optimizers: a single one is taken as it
            is, several are what tuning tries.
        epochs: passes over the training part of every trial; None: what the task suggests.
        steps: updates of every trial, instead of epochs.
        budget: seconds that everything may take, from here to the report, instead: turned into updates before
            the first trial, by measuring.
        batch_size: examples of one update, or "all"; None: what the task suggests.
        recipe: further fields that all share, e.g. ``{"wrappers": {"clip_norm": 1.0}}``.
        vary: one field of the recipe with its values, raced with one optimizer instead of several:
            ``{"batch_size": [32, 128]}``, ``{"betas.1": [0.95, 0.999]}``; or ``{"task": [...]}``, tasks with
            equally many examples.
        schedules: what races under the winner, at rates around its own: names, or schedules; (): nothing;
            None: constant, cosine, step and warmup-cosine, unless schedules or fields are raced already.
        target: a value of the metric that ranks, ``{"accuracy": 0.97}``: how long each takes to reach it
            is told.
        seeds: final seeds; or several numbers of them, after each of which the race may end; None: as many as
            the verdict needs, twice that where it is cheap, else with a look on the way.
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
        started: when the clock of the budget began, as `time.perf_counter` tells it; None: now.

    Raises:
        InputError: something cannot work as asked; nothing was started.
    """
    begun = time.perf_counter() if started is None else started
    field = enter(task, optimizers, rates, batch_size, recipe, vary, seed, data, download)
    under = schedules_of(schedules, field)
    how = execution(seed, executor, threads, device, field.update_flops)
    looks = tuple(seeds) if isinstance(seeds, Iterable) else seeds
    if budget is not None and looks is None:
        looks = first_look(len(field.recipes))  # further ones might take time, or leave time unused
    reached = _target(target, field.first)

    def planned(length: Budget) -> Plan:
        entries = field.entries(length, how)
        quota = QUOTA if isinstance(rates, Mapping) else rates
        return make_plan(
            field.workloads,
            entries,
            how,
            entries[0].steps or 0,
            field.update_flops,
            quota=quota,
            finder=plan_finder(min(entry.steps or 1 for entry in entries)),
            seeds=looks,
            source=field.source,
            vary=field.vary,
            target=reached,
            budget_seconds=budget,
        )

    asked = planned(length_of(epochs, steps, budget, field.first))

    def settle() -> Plan:
        check(asked, under, field)
        try_updates(asked, field, how)
        plan = settled(asked, field.workloads, how, memory, threads)
        if budget is not None:
            plan = fitted(plan, planned, under, field, how, looks, begun + budget)
            check(plan, under, field)
        return plan

    # How a race runs where that was left open is no part of what was asked: an unfinished one goes on as it
    # began.
    key = identity(to_data(replace(asked, threads=threads or 0)))
    folder = Path(out)
    race = kept(key, folder, settle, field.workloads, how, fresh=fresh, command=command)
    after = followed(race, under, field, how, looks, folder, fresh=fresh, command=command)
    from thalweg import report

    races = [race] if after is None else [race, after]
    page = report.write(races, folder / f"{file_name(race.plan.task, key)}.html")
    return Showdown(race, page, after)


def _target(target: Mapping[str, float] | None, workload: Workload) -> float | None:
    """Return the value of the ranking metric that is to be reached."""
    if target is None:
        return None
    if list(target) != [workload.metric]:
        got = ", ".join(target) or "none"
        raise InputError("the target", f"be of the metric that ranks, {workload.metric}", got)
    value = target[workload.metric]
    Real(None, "").check(workload.metric, "the target", value)
    return float(value)

"""Who races on what: from the names, recipes and values that a person gives to the entries of a race."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from thalweg.api.prepare import Prepared, TaskLike, prepare, steps_of, try_update
from thalweg.errors import InputError, nearest
from thalweg.racing import Entry, Workloads, workload_of
from thalweg.records import Contender, Plan, Stage
from thalweg.rules.catalogue import preset
from thalweg.schedules import Schedule
from thalweg.tasks.listing import BUILTIN
from thalweg.training.control import Control
from thalweg.training.recipe import Recipe
from thalweg.training.trial import Budget, Execution, Trial, Workload
from thalweg.training.vary import named, varied

Optimizers = Iterable[str] | Mapping[str, Recipe]
Rates = int | Mapping[str, float | Iterable[float]]
TASK = "task"  # what varies where contenders have tasks of their own


class Field(NamedTuple):
    """Who races, on what."""

    recipes: dict[str, Recipe]  # by the names under which they race
    rates: dict[str, tuple[float, ...]]  # that were given, by name
    workloads: Workloads
    update_flops: float  # of the first
    source: str
    vary: str

    @property
    def first(self) -> Workload:
        """The task with its data, the first where there are several."""
        return workload_of(self.workloads, next(iter(self.recipes)))

    def entries(self, budget: Budget, how: Execution) -> list[Entry]:
        """Enter everyone for equally many examples, or updates where all have batches of one size."""
        sizes = {workload_of(self.workloads, n).batch_size(r) for n, r in self.recipes.items()}
        if len(sizes) > 1 and budget.steps is not None:
            raise InputError(
                "a budget in steps",
                "be for batches of one size",
                f"batches of {' and '.join(map(str, sorted(sizes)))}",
                "Give epochs: equally many examples for all.",
            )
        return [
            Entry(
                name,
                recipe,
                self.rates.get(name),
                steps_of(budget, workload_of(self.workloads, name), recipe, how),
            )
            for name, recipe in self.recipes.items()
        ]


def enter(
    task: TaskLike | None,
    optimizers: Optimizers,
    rates: Rates,
    batch_size: int | str | None,
    recipe: Mapping[str, Any] | None,
    vary: Mapping[str, Any] | None,
    seed: int,
    data: str | os.PathLike[str] | None,
    download: bool,
) -> Field:
    """Find out who races, and load the tasks.

    Raises:
        InputError: a name, a value or a task cannot be used; it names the nearest.
    """
    given = _given(optimizers, batch_size, recipe)
    path, values = _varied(vary)
    if path and len(given) != 1:
        raise InputError("a race that varies a field", "have one optimizer", ", ".join(given) or "none")
    asked = {name: _several(own) for name, own in rates.items()} if isinstance(rates, Mapping) else {}
    for name in asked:
        if name not in given:
            do = nearest(name, given)
            raise InputError("rates", "be given for optimizers of the race", repr(name), do)
    if path == TASK:
        return _with_tasks(task, values, given, asked, seed, data, download)
    if task is None:
        raise InputError("a race", "have a task", "none", "List them with: thalweg tasks.")
    (one, fields), *_ = given.items()
    prepared = prepare(task, seed, fields.get("batch_size"), data, download)
    workload, flops = prepared.workload, prepared.update_flops
    recipes = {name: _recipe(own, prepared) for name, own in given.items()}
    if path:
        base = recipes[one]
        recipes = {name: varied(base, path, value) for name, value in named(path, values).items()}
        flops *= workload.batch_size(next(iter(recipes.values()))) / workload.batch_size(base)
        asked = dict.fromkeys(recipes, asked[one]) if asked else {}
        if path == "rate":
            asked = {name: (own.rate or 0.0,) for name, own in recipes.items()}
    return Field(recipes, asked, workload, flops, source_of(task), path)


def check(plan: Plan, schedules: Mapping[str, Schedule] | None, field: Field) -> None:
    """Refuse a schedule that does not fit its task or the length of the race, also one that is to follow."""
    for contender in plan.contenders:
        recipe, workload = Recipe.from_data(contender.recipe), workload_of(field.workloads, contender.name)
        for schedule in (recipe.schedule, *(schedules or {}).values()):
            Control(replace(recipe, schedule=schedule), workload.limits(_trial(plan, contender)))


def try_updates(plan: Plan, field: Field, how: Execution) -> None:
    """Refuse what a recipe cannot do on its task, by doing an update of it."""
    for contender in plan.contenders:
        try_update(workload_of(field.workloads, contender.name), _trial(plan, contender), how)


def _trial(plan: Plan, contender: Contender) -> Trial:
    recipe = Recipe.from_data(contender.recipe)
    if not contender.tuned:
        recipe = recipe.with_rate(contender.rates[0])
    return Trial(contender.name, Stage.FINAL, recipe, 0, contender.steps or plan.steps)


def _given(
    optimizers: Optimizers, batch_size: int | str | None, recipe: Mapping[str, Any] | None
) -> dict[str, dict[str, Any]]:
    """Return the recipe of each optimizer as data; where the task is to say the batch size it has none."""
    if isinstance(optimizers, str):
        optimizers = [name.strip() for name in optimizers.split(",")]
    names = list(optimizers)
    if not names or len(set(names)) < len(names):
        raise InputError("the optimizers of a race", "be one or more different names", names or "none")
    if not isinstance(optimizers, Mapping):
        shared = dict(recipe or {}) if batch_size is None else {**(recipe or {}), "batch_size": batch_size}
        return {name: {"optimizer": preset(name).name, **shared} for name in names}
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
    return {name: own.to_data() for name, own in optimizers.items()}


def _recipe(fields: Mapping[str, Any], prepared: Prepared) -> Recipe:
    return Recipe.from_data({"batch_size": prepared.batch_size, **fields})


def _varied(vary: Mapping[str, Any] | None) -> tuple[str, list[Any]]:
    if vary is None:
        return "", []
    if len(vary) != 1:
        raise InputError("a race", "vary one field", ", ".join(vary) or "none")
    ((path, values),) = vary.items()
    if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
        raise InputError(f"the values of {path}", "be two or more different ones", repr(values))
    return path, list(values)


def _several(asked: float | Iterable[float]) -> tuple[float, ...]:
    return tuple(float(rate) for rate in asked) if isinstance(asked, Iterable) else (float(asked),)


def _with_tasks(
    task: TaskLike | None,
    values: Sequence[Any],
    given: Mapping[str, Mapping[str, Any]],
    asked: Mapping[str, tuple[float, ...]],
    seed: int,
    data: str | os.PathLike[str] | None,
    download: bool,
) -> Field:
    """Let tasks race against each other: models, losses or ways of preparing the data."""
    ((one, fields),) = given.items()
    prepared = [
        prepare(_spelt(task, value), seed, fields.get("batch_size"), data, download) for value in values
    ]
    works = named(TASK, [p.workload.task.name for p in prepared])
    workloads = {name: p.workload for name, p in zip(works, prepared, strict=True)}
    first = prepared[0].workload
    for name, workload in workloads.items():
        if (workload.metric, workload.direction) != (first.metric, first.direction):
            got = f"{workload.metric} of {name}"
            raise InputError("the tasks of a race", f"be ranked by one metric, {first.metric}", got)
        if _examples(workload) != _examples(first):
            got = f"{_examples(workload)} of {name}"
            must = f"have equally many examples of each part, {_examples(first)}"
            raise InputError("the tasks of a race", must, got)
    recipes = {
        name: _recipe({"batch_size": prepared[0].batch_size, **fields}, p)
        for name, p in zip(works, prepared, strict=True)
    }
    rates = dict.fromkeys(recipes, asked[one]) if asked else {}
    return Field(recipes, rates, workloads, max(p.update_flops for p in prepared), "", TASK)


def _spelt(task: TaskLike | None, value: Any) -> TaskLike:
    """Return a task as it is loaded: beside a task file, a bare name is one that this file defines."""
    bare = isinstance(value, str) and re.fullmatch(r"\w+", value) and value not in BUILTIN
    if bare and isinstance(task, str | os.PathLike):
        return f"{os.fspath(task)}:{value}"
    return value  # type: ignore[no-any-return]


def _examples(workload: Workload) -> str:
    parts = (workload.data.train, workload.data.validation, workload.data.test)
    return " + ".join(str(part.examples) for part in parts)


def source_of(task: TaskLike) -> str:
    """Return how a task is loaded again, wherever one is: a built-in name, or a file by its whole path.

    >>> source_of("digits"), source_of(([[1.0]], [0]))
    ('digits', '')
    """
    if not isinstance(task, str | os.PathLike):
        return ""
    text = os.fspath(task)
    if text in BUILTIN:
        return text
    path, colon, name = text.rpartition(":")
    if not path.endswith(".py"):
        path, colon, name = text, "", ""
    return f"{Path(path).expanduser().resolve()}{colon}{name}"

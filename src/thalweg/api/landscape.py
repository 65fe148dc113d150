"""The call that trains a network and looks at the loss around it."""

import os
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from thalweg import seeds
from thalweg.api.prepare import TaskLike, execution, prepare, steps_of, try_update
from thalweg.errors import InputError
from thalweg.executors.threads import torch_threads
from thalweg.hyper import ABOVE_0, Integer, Interval, Real
from thalweg.landscape.path import record
from thalweg.landscape.survey import View, survey
from thalweg.progress import Bar
from thalweg.records import Stage
from thalweg.records.landscapes import Landscape
from thalweg.training.recipe import Recipe
from thalweg.training.trial import Budget, Trial

PARTS: Final = ("train", "validation")
WHOLE: Final = {
    "grid": Integer(25, "points along each edge of a plane", Interval(3.0, 201.0)),
    "moments": Integer(101, "of the training that are kept", Interval(3.0, 1001.0)),
    "directions": Integer(5, "random ones", Interval(2.0, 100.0)),
}


def loss_landscape(
    task: TaskLike,
    recipe: Recipe | Mapping[str, Any] | str = "adam",
    *,
    epochs: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    grid: int = 25,
    span: float = 1.0,
    directions: int = 5,
    moments: int = 101,
    biases: bool = False,
    part: str = "train",
    examples: int | None = None,
    fleet: bool = True,
    threads: int | None = None,
    device: str = "cpu",
    data: str | os.PathLike[str] | None = None,
    download: bool = False,
) -> Landscape:
    """Train a network, keeping its path, and measure the loss around it.

    Three looks: along random directions, filter by filter as long as the weights; on the plane that two of
    them span; and on the principal plane of the path. There, the loss is measured at the drawn path as well,
    and at the weights that the training really had, so that it is seen what the plane hides. Nothing is
    written.

    Args:
        task: a built-in name, a file ``path/to/task.py``, a `Task`, or arrays ``(X, y)``.
        recipe: how to train: a recipe, or some of its fields by name, or the name of an optimizer.
        epochs: passes over the training part; None: what the task suggests.
        steps: updates, instead of epochs.
        seed: the root from which all random numbers derive, those of the directions too.
        grid: points along each edge of a plane; odd, so that the trained weights are one of them.
        span: random slices go from −span to span; at 1 each filter has moved as far as it is from 0.
        directions: random ones along which a line is measured.
        moments: of the training at which the weights are kept, at most.
        biases: whether random directions move parameters with one axis too.
        part: of the data, "train" or "validation".
        examples: take only so many of its examples, drawn by the seed; None: all of them.
        fleet: False: measure one by one, as a check.
        threads: of torch; None: one for small updates, else torch's own choice.
        device: where to train and measure.
        data: the folder with the files of mnist and fashion-mnist; None: ``THALWEG_DATA``.
        download: whether missing files may be fetched into that folder.

    Raises:
        InputError: something cannot work as asked; nothing was started.
        NoPath: the training diverged, or its path spans no plane.
    """
    for name, value in (("grid", grid), ("moments", moments), ("directions", directions)):
        WHOLE[name].check(name, "the landscape", value)
    if grid % 2 == 0:
        raise InputError("grid of the landscape", "be odd, so that 0 is on it", grid, f"Take {grid + 1}.")
    Real(1.0, "", ABOVE_0).check("span", "the landscape", span)
    if part not in PARTS:
        raise InputError("part of the landscape", f"be {' or '.join(PARTS)}", repr(part))
    if isinstance(recipe, Recipe):
        given = recipe.to_data()
    else:
        given = {"optimizer": recipe} if isinstance(recipe, str) else dict(recipe)
    Recipe.from_data(given)  # refused before the data are loaded
    prepared = prepare(task, seed, given.get("batch_size"), data, download)
    workload = prepared.workload
    recipe = Recipe.from_data({**given, "batch_size": prepared.batch_size})
    how = execution(seed, "serial", threads, device, prepared.update_flops)
    measured_on = workload.data.train if part == "train" else workload.data.validation
    if examples is not None:
        most = Interval(1.0, float(measured_on.examples))
        Integer(None, "", most).check("examples", "the landscape", examples)
        chosen = seeds.sample(seed, measured_on.examples, examples)
        measured_on = measured_on.select(np.sort(chosen))
    asked = {"epochs": epochs, "steps": steps}
    if epochs is None and steps is None:
        asked["epochs"] = workload.task.epochs
    updates = steps_of(Budget(**asked), workload, recipe, how)  # type: ignore[arg-type]
    trial = Trial(recipe.optimizer, Stage.SINGLE, recipe, 0, updates)
    try_update(workload, trial, how)
    view = View(grid, span, directions, biases)
    with torch_threads(how.threads):
        with Bar("training", updates) as bar:
            recorded = record(workload, trial, how, moments, bar.advance)
        with Bar("measuring", view.points(len(recorded.steps))) as bar:
            return survey(workload, trial, how, recorded, measured_on, part, view, fleet, bar.advance)

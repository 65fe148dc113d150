"""The calls that find a rate."""

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from thalweg.api.prepare import TaskLike, execution, prepare, steps_of, try_update
from thalweg.errors import InputError
from thalweg.executors import auto
from thalweg.finder import find, plan_finder
from thalweg.progress import Bar
from thalweg.records import Finding, Stage, Trace
from thalweg.rules.catalogue import preset
from thalweg.training.recipe import Recipe
from thalweg.training.trial import Budget, Trial, trial_key


def find_lr(task: TaskLike, optimizer: str | Recipe = "adam", **options: Any) -> Finding:
    """Find the learning rate of one optimizer: see `find_lrs`, whose other arguments it takes."""
    (found,) = find_lrs(task, [optimizer], **options).values()
    return found


def find_lrs(
    task: TaskLike,
    optimizers: Iterable[str | Recipe],
    *,
    epochs: float | None = None,
    steps: int | None = None,
    batch_size: int | str | None = None,
    recipe: Mapping[str, Any] | None = None,
    seed: int = 0,
    executor: str = "auto",
    memory: float | None = None,
    threads: int | None = None,
    device: str = "cpu",
    data: str | os.PathLike[str] | None = None,
    download: bool = False,
) -> dict[str, Finding]:
    """Find the learning rates with which optimizers train best, how sure that is, and where they diverge.

    Three sweeps of rates on as many seeds say where to look; short trainings of a few rates around it say
    what each would reach at the end of a training of the length that is asked for. Nothing is kept, and
    nothing is changed: the task's models are made anew.

    Args:
        task: a built-in name, a file ``path/to/task.py``, a `Task`, or arrays ``(X, y)``.
        optimizers: names of the catalogue, or recipes; they are searched together.
        epochs: length of the training that the rate is for; None: what the task suggests. The search costs
            1.15 times that, 4.3 % of a tuning of nine rates on three seeds; at most 5 %.
        steps: the same in updates.
        batch_size: examples of one update, or "all"; None: what the task suggests.
        recipe: further fields of every recipe, e.g. ``{"wrappers": {"clip_norm": 1.0}}``.
        seed: the root from which all random numbers derive.
        executor: how trainings run; see `showdown`, also for the rest.
        memory: bytes that a fleet may take beside the data.
        threads: of torch.
        device: where to train.
        data: the folder with the data files.
        download: whether missing files may be fetched into that folder.

    Returns:
        The findings by name. Without an answer the suggestion is None, and `outcome` and `sentences` say why.

    Raises:
        InputError: something cannot work as asked; nothing was started.
    """
    if isinstance(optimizers, str):
        optimizers = [name.strip() for name in optimizers.split(",")]
    asked = list(optimizers)
    names = [one.optimizer if isinstance(one, Recipe) else one for one in asked]
    if not names or len(set(names)) < len(names):
        raise InputError("the optimizers", "be one or more different names", names)
    for name in names:
        preset(name)
    own = [one.batch_size for one in asked if isinstance(one, Recipe)]
    prepared = prepare(task, seed, own[0] if own and batch_size is None else batch_size, data, download)
    recipes = {
        name: Recipe.from_data(
            {
                **(one.to_data() if isinstance(one, Recipe) else {"batch_size": prepared.batch_size}),
                "optimizer": name,
                **(recipe or {}),
            }
        )
        for name, one in zip(names, asked, strict=True)
    }
    how = execution(seed, executor, threads, device, prepared.update_flops)
    workload = prepared.workload
    given = {"epochs": epochs, "steps": steps}
    if epochs is None and steps is None:
        given["epochs"] = workload.task.epochs
    budget = Budget(**given)  # type: ignore[arg-type]
    updates = {name: steps_of(budget, workload, one, how) for name, one in recipes.items()}
    for name, one in recipes.items():
        try_update(workload, Trial(name, Stage.SHORT, one, 0, updates[name]), how)
    plan = plan_finder(min(updates.values()))
    with Bar("finding the rate", round(1.35 * sum(updates.values()))) as bar:

        def finish(trials: Sequence[Trial]) -> list[Trace]:
            work = sum(t.steps for t in trials)
            chosen = auto.choose(workload, trials, how, work, memory=memory, threads=threads).execution
            run = partial(auto.EXECUTORS[chosen.executor], progress=bar.advance)
            traces = {t.key: t for t in run(workload, trials, chosen, lambda trial: False)}
            return [traces[trial_key(workload, trial, chosen)] for trial in trials]

        found = find(recipes, plan, updates, finish)
    return dict(zip(recipes, found, strict=True))

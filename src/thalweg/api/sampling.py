"""The call that compares batch, stochastic and mini-batch gradient descent on a task."""

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from thalweg.api.prepare import Prepared, TaskLike, execution, prepare
from thalweg.api.sampling_rows import Arm, Common, Setting, arms, judged, row
from thalweg.errors import InputError, nearest
from thalweg.executors.threads import torch_threads
from thalweg.finder import paths, spread
from thalweg.finder.sampling import looked_at
from thalweg.hyper import ABOVE_0, Integer, Interval, Real
from thalweg.progress import Bar
from thalweg.records import Stage
from thalweg.records.sampling import (
    ALL,
    SAMPLINGS,
    SHUFFLED,
    GradientVariance,
    SamplingComparison,
    SamplingRow,
    VarianceSlope,
    WeightPath,
)
from thalweg.report import words
from thalweg.rules.catalogue import preset
from thalweg.training.engine import ModelEngine, normalised
from thalweg.training.recipe import Recipe
from thalweg.training.trial import Budget, Trial

SEEDS: Final = 8  # final ones; 7 are the fewest at which three pairs can be told apart
TUNING_SEEDS: Final = 3
GRID: Final = tuple(10 ** (k / 2) for k in range(-4, 5))  # times the optimizer's starting point
UPDATES: Final = 20_000  # of one training at most, unless it is told
EXECUTORS: Final = ("auto", "serial", "fleet")


@dataclass(frozen=True)
class Sampling:
    """Batch, stochastic and mini-batch gradient descent, compared: print it to read it."""

    record: SamplingComparison

    @property
    def sentences(self) -> tuple[str, ...]:
        """The answer in words, the most important first."""
        from thalweg.report.sampling_words import sentences

        return sentences(self.record)

    def __str__(self) -> str:
        from thalweg.report import sampling as report

        return report.text(self.record)

    def to_json(self) -> dict[str, Any]:
        """Return the answer as plain values."""
        from thalweg.report import sampling as report

        return report.as_json(self.record)

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Draw it into one HTML file, and return its path."""
        from thalweg.report import sampling as report

        return report.write(self.record, Path(path))


def compare_sampling(
    task: TaskLike,
    *,
    batch_sizes: Iterable[int | str] | None = None,
    samplings: Iterable[str] = SAMPLINGS,
    optimizer: str = "sgd",
    rate: float | Mapping[int | str, float] | None = None,
    epochs: float | None = None,
    most_updates: int = UPDATES,
    seeds: int = SEEDS,
    precision: str = "float32",
    seed: int = 0,
    executor: str = "auto",
    memory: float | None = None,
    threads: int | None = None,
    device: str = "cpu",
    data: str | os.PathLike[str] | None = None,
    download: bool = False,
    command: str = "",
) -> Sampling:
    """Compare batch, stochastic and mini-batch gradient descent, and ways to draw the examples.

    Every batch size trains for equally many epochs, with the best rate of one grid that is the same for all.
    Of the mini-batch, the other samplings are compared too, tuned in the same way.

    Args:
        task: a built-in name, a file ``path/to/task.py``, a `Task`, or arrays ``(X, y)``.
        batch_sizes: whole numbers and "all"; None: "all", the size that the task suggests, and 1. The first
            that is neither 1 nor all is the mini-batch.
        samplings: of "shuffled", "in order" and "with replacement"; batch sizes are compared with the first.
        optimizer: a name of the catalogue.
        rate: one for all, or one for each batch size; None: found, on the grid.
        epochs: passes over the training part; None: what the task suggests.
        most_updates: of one training; what would take more is trained for fewer epochs, and it is said.
        seeds: of the final trainings; fewer than 7 cannot tell three batch sizes apart.
        precision: "float32" or "float64".
        seed: the root from which all random numbers derive.
        executor: "auto", "serial" or "fleet".
        memory: bytes that a fleet may take beside the data; None: half of what is free.
        threads: of torch; None: one for small updates, else torch's own choice.
        device: where to train.
        data: the folder with the files of mnist and fashion-mnist; None: ``THALWEG_DATA``.
        download: whether missing files may be fetched into that folder.
        command: how to run this again, for the page.

    Raises:
        InputError: something cannot work as asked; nothing was started.
    """
    begun = time.perf_counter()
    ways = _samplings(samplings)
    shared = {"optimizer": optimizer, "precision": precision}
    Recipe.from_data(shared)  # refused before the data are loaded
    for name, count in (("seeds", seeds), ("most_updates", most_updates)):
        Integer(None, "", Interval(1.0)).check(name, "the comparison", count)
    if executor not in EXECUTORS:
        must = f"be one of {', '.join(EXECUTORS)}"
        raise InputError("the executor", must, repr(executor), nearest(executor, EXECUTORS))
    prepared = prepare(task, seed, None, data, download)
    workload = prepared.workload
    examples = workload.data.train.examples
    if examples < 2:
        raise InputError("the training part", "have at least 2 examples, to tell noise", examples)
    how = execution(seed, executor, threads, device, prepared.update_flops)
    sizes = _sizes(batch_sizes, prepared)
    rates = _rates(rate, sizes, examples)
    budget = Budget(epochs=workload.task.epochs if epochs is None else epochs)
    if (budget.epochs or 0.0) * examples < sizes[0]:
        raise InputError(
            "epochs of the comparison",
            f"make an update of the largest batch, and be at least {words.number(sizes[0] / examples)}",
            words.number(budget.epochs),
            "Or leave that batch size out.",
        )
    mini = next((size for size in sizes if 1 < size < examples), sizes[0])
    wanted = [*((size, ways[0]) for size in sizes), *((mini, way) for way in ways[1:])]
    needed = {mini} if batch_sizes is None else set(sizes)
    made, left_out = arms(prepared, how, wanted, shared, rates, budget, most_updates, needed)
    grid = () if rates else tuple(float(f"{preset(optimizer).centre * x:.3g}") for x in GRID)
    tuning = range(TUNING_SEEDS if grid else 0)
    final = range(len(tuning), len(tuning) + seeds)
    setting = Setting(prepared, how, grid, tuning, final, memory)
    common = Common.of(made)
    cost = sum(
        arm.steps * arm.seconds * (setting.trainings() + (arm.recipe.sampling == ways[0])) for arm in made
    )
    rows: list[SamplingRow] = []
    walks: dict[str, paths.Walk] = {}
    with Bar(f"training, at most about {words.duration(cost)}", max(1, round(1000 * cost))) as bar:
        for arm in made:
            rows.append(row(setting, arm, common, _Weight(bar, arm.seconds)))
            found = rows[-1].rate
            if arm.recipe.sampling == ways[0] and found is not None:
                way = Trial(
                    arm.name, Stage.SINGLE, arm.recipe.with_rate(found), final[0], arm.until(common.epochs)
                )
                walks[arm.name] = paths.walk(workload, way, how, len(sizes), _Weight(bar, arm.seconds))
        bar.advance(0, "measuring the gradient's variance")
        middle = next(arm for arm in made if arm.size == mini)
        noise, unmeasured = _variances(setting, middle, walks)
    drawn, explained = _drawn(walks)
    record = SamplingComparison(
        task=workload.task.name,
        optimizer=optimizer,
        examples=examples,
        measured_examples=looked_at(workload.data.train, how.root).examples,
        validation_examples=workload.data.validation.examples,
        parameters=sum(p.numel() for p in workload.task.model(0).parameters() if p.requires_grad),
        mini_batch=mini,
        epochs=float(budget.epochs or 0.0),
        most_updates=most_updates,
        seed=seed,
        tuning_seeds=len(tuning),
        final_seeds=seeds,
        grid=grid,
        rows=tuple(rows),
        sizes=judged([one for one in rows if one.sampling == ways[0]], common.epochs),
        samplings=judged(
            [one for one in rows if one.batch_size == mini],
            min(common.epochs, middle.limits.epoch(middle.steps)),
        ),
        slopes=tuple(
            VarianceSlope(moment, found.slope, found.trace, found.examples)
            for moment, found in noise.items()
            if np.isfinite(found.slope)
        ),
        variances=tuple(
            GradientVariance(moment, *size) for moment, found in noise.items() for size in found.sizes
        ),
        paths=drawn,
        compared_epochs=common.epochs,
        explained=explained,
        left_out=(*left_out, *unmeasured),
        executor=executor,
        threads=how.threads,
        command=command,
        total_seconds=time.perf_counter() - begun,
    )
    return Sampling(record)


@dataclass
class _Weight:
    """Moves a bar by the time that updates take, for those of large batches take longer."""

    bar: Bar
    seconds: float  # of an update alone
    rest: float = 0.0  # of a millisecond, that the bar has not been moved by

    def __call__(self, updates: int) -> None:
        due = self.rest + 1000 * updates * self.seconds
        self.bar.advance(int(due))
        self.rest = due - int(due)


def _samplings(given: Iterable[str]) -> tuple[str, ...]:
    names = [given] if isinstance(given, str) else list(given)
    for name in names:
        if name not in SAMPLINGS:
            must = f"be among {words.listing(SAMPLINGS)}"
            raise InputError("the samplings", must, repr(name), nearest(name, SAMPLINGS))
    if not names:
        raise InputError("the samplings", "be at least one", "none", f"Take {SHUFFLED}.")
    return tuple(dict.fromkeys(names))


def _sizes(given: Iterable[int | str] | None, prepared: Prepared) -> list[int]:
    """Return the batch sizes in examples, the largest first."""
    examples = prepared.workload.data.train.examples
    asked = [ALL, prepared.batch_size, 1] if given is None else list(given)
    sizes = set()
    for size in asked:
        if size == ALL:
            sizes.add(examples)
            continue
        Integer(None, "", Interval(1.0)).check("batch_sizes", "the comparison", size)
        if int(size) > examples:
            must = f"be at most the {examples} examples of the training part"
            raise InputError("each batch size", must, size, 'Take a smaller one, or "all".')
        sizes.add(int(size))
    if not sizes:
        raise InputError("the batch sizes", "be at least one", "none", "Try all, 32, 1.")
    return sorted(sizes, reverse=True)


def _rates(
    given: float | Mapping[int | str, float] | None, sizes: list[int], examples: int
) -> dict[int, float]:
    """Return the given rate of each batch size; empty: they are to be found."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        keys = {size: [key for key in given if (examples if key == ALL else key) == size] for size in sizes}
        if len(given) != len(sizes) or not all(keys.values()):
            must = f"be given for each batch size once: {words.listing(list(map(str, sizes)))}"
            raise InputError(
                "the rates", must, f"for {words.listing(list(map(str, given)))}", "Or leave them out."
            )
        found = {size: given[keys[size][0]] for size in sizes}
    else:
        found = dict.fromkeys(sizes, given)
    for value in found.values():
        Real(None, "", ABOVE_0).check("rate", "the comparison", value)
    return found


def _variances(
    setting: Setting, arm: Arm, walks: Mapping[str, paths.Walk]
) -> tuple[dict[str, spread.Spreads], list[str]]:
    """Measure the gradient's variance at the initial weights, and where the mini-batch's path ends."""
    workload, how = setting.prepared.workload, setting.how
    if normalised(workload.task.model(0)):
        why = "through BatchNorm the gradient of a batch is no mean of its examples' gradients"
        return {}, [f"The variance of the gradient was not measured: {why}."]
    trial = Trial(arm.name, Stage.SINGLE, arm.recipe, setting.final[0], 1)
    engines = {"start": ModelEngine(workload, trial, how.root, how.device)}
    if arm.name in walks:
        engines["end"] = walks[arm.name].engine
    with torch_threads(how.threads):
        found = {moment: spread.spreads(engine) for moment, engine in engines.items()}
    known = {moment: s for moment, s in found.items() if np.isfinite([x.measured for x in s.sizes]).all()}
    if len(known) == len(found):
        return known, []
    return known, [
        "Where the weights of the mini-batch ended, gradients are no numbers: they were not measured."
    ]


def _drawn(walks: Mapping[str, paths.Walk]) -> tuple[tuple[WeightPath, ...], float]:
    """Put the paths on the plane that all of them share."""
    if not walks:
        return (), 0.0
    plane = paths.plane([walk.points for walk in walks.values()])
    drawn = tuple(
        WeightPath(name, tuple(xy[:, 0].tolist()), tuple(xy[:, 1].tolist()), walk.length, walk.distance, own)
        for (name, walk), xy, own in zip(walks.items(), plane.coordinates, plane.own, strict=True)
    )
    return drawn, plane.explained

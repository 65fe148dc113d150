"""Trainings that are looked at on their way, and how much of the data an epoch shows."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thalweg import seeds
from thalweg.executors.serial import unnoticed
from thalweg.executors.threads import torch_threads
from thalweg.records.sampling import WITH_REPLACEMENT
from thalweg.tasks.data.part import Part
from thalweg.tasks.user_code import isolated_random
from thalweg.training.control import Control, Limits
from thalweg.training.engine import Engine, ModelEngine
from thalweg.training.fleet.engine import FleetEngine
from thalweg.training.loop import train
from thalweg.training.order import Order
from thalweg.training.trial import Execution, Trial, Workload

LOOKED_AT: Final = 4096  # training examples at most, of which the training loss is measured on the way
LOOKS: Final = 32  # evenly spaced on a logarithmic scale of updates
EPOCHS: Final = 20  # and as many evenly spaced ones, or one an epoch


class Look(NamedTuple):
    """What was measured of one training at one moment."""

    step: int  # updates done
    train: float | None  # mean loss over the training part, or a sample of it; None: diverged before
    validation: float | None


def looks(steps: int, per_epoch: int) -> list[int]:
    """Return after how many updates a training is looked at: the first and the last among them.

    >>> looks(8, per_epoch=4), len(looks(20_000, 1000))
    ([0, 1, 2, 3, 4, 5, 6, 7, 8], 51)
    """
    spread = np.round(np.geomspace(1, steps, LOOKS)).astype(int).tolist()
    ends = [per_epoch * epoch for epoch in range(1, steps // per_epoch + 1)]
    every = max(1, -(-len(ends) // EPOCHS))
    return sorted({0, *spread, *ends[::-every], steps})


def looked_at(part: Part, root: int) -> Part:
    """Return the training examples on which a loss is measured on the way: all, or a fixed random sample."""
    if part.examples <= LOOKED_AT:
        return part
    return part.select(seeds.sample(root, part.examples, LOOKED_AT))


def follow(
    workload: Workload,
    trials: Sequence[Trial],
    how: Execution,
    at: Sequence[int],
    progress: Callable[[int], None] = unnoticed,
) -> list[tuple[Look, ...]]:
    """Train trials that differ in rate and seed alone, and measure each at the same moments.

    The losses are those of the whole training part (or of one sample of it), so that they can be compared
    between batch sizes: a mean over the batches that were trained on is another quantity for each of them.

    Args:
        workload: the task with its data.
        trials: of equally many updates, with one batch size, precision and sampling.
        how: a fleet, in waves, or one after the other.
        at: after how many updates to look, ascending.
        progress: called with the number of updates done.

    Returns:
        The looks of each trial, in the order given.
    """
    found: list[tuple[Look, ...]] = []
    size = how.wave or 1
    part = looked_at(workload.data.train, how.root)
    for first in range(0, len(trials), size):
        wave = trials[first : first + size]
        with torch_threads(how.threads), isolated_random(0):
            engine: Engine
            if how.wave:
                engine = FleetEngine(workload, wave, how.root, how.device, how.threads)
            else:
                engine = ModelEngine(workload, wave[0], how.root, how.device)
            limits = [replace(workload.limits(trial), looks=tuple(at)) for trial in wave]
            controls = [Control(trial.recipe, own) for trial, own in zip(wave, limits, strict=True)]
            found += _followed(engine, controls, workload, part, at, progress)
        progress(sum(trial.steps for trial in wave) - sum(control.progress.step for control in controls))
    return found


def _followed(
    engine: Engine,
    controls: Sequence[Control],
    workload: Workload,
    part: Part,
    at: Sequence[int],
    progress: Callable[[int], None],
) -> list[tuple[Look, ...]]:
    found: list[dict[int, Look]] = [{} for _ in controls]

    def look(rows: Sequence[int]) -> None:
        for row, measured in zip(rows, engine.measure(rows, part), strict=True):
            last = controls[row].progress.evaluations[-1]
            found[row][last.step] = Look(last.step, measured["loss"], last.loss)

    if at[0] == 0:
        rows = range(len(controls))
        losses = [[x["loss"] for x in engine.measure(rows, p)] for p in (part, workload.data.validation)]
        for row, both in zip(rows, zip(*losses, strict=True), strict=True):
            found[row][0] = Look(0, *both)
    train(engine, controls, workload, on_evaluation=look, on_stretch=progress, on_finished=unnoticed)
    return [tuple(looked.get(step, Look(step, None, None)) for step in at) for looked in found]


class Epoch(NamedTuple):
    """What epochs of one way to draw examples showed."""

    batches: int  # of the epoch that had most
    coverage: float  # mean share of different examples in an epoch


def counted(limits: Limits, sampling: str, root: int, trials: Sequence[int], epochs: int) -> Epoch:
    """Count the batches until as many examples were drawn as there are, and how many of these are different.

    Args:
        limits: how many examples there are, and in what batches.
        sampling: "shuffled", "in order" or "with replacement".
        root: the seed from which all streams derive.
        trials: seeds of trainings whose orders are counted.
        epochs: of each of them.

    >>> from thalweg.records import Direction
    >>> counted(Limits(9, 3, 10, 4, "loss", Direction.LOWER), "shuffled", 0, [0], 3)
    Epoch(batches=3, coverage=1.0)
    """
    shares: list[float] = []
    most = 0
    for seed in trials:
        order, step = Order(limits, sampling, root, seed), 0
        for _ in range(epochs):
            taken: list[NDArray[np.int64]] = []
            drawn = 0
            while drawn < limits.train_examples:
                taken.append(order.indices(step))
                drawn, step = drawn + len(taken[-1]), step + 1
            most = max(most, len(taken))
            shares.append(len(np.unique(np.concatenate(taken))) / limits.train_examples)
    return Epoch(most, float(np.mean(shares)))


def coverage(examples: int, sampling: str) -> float:
    """Return the share of the examples that an epoch shows on average.

    Without replacement it is 1; with replacement, each example is missed N times in a row with probability
    (1 − 1/N)ᴺ, which is near 1/e: so 1 − (1 − 1/N)ᴺ.

    >>> coverage(2, "with replacement"), round(coverage(1437, "with replacement"), 4), coverage(2, "shuffled")
    (0.75, 0.6322, 1.0)
    """
    return 1 - (1 - 1 / examples) ** examples if sampling == WITH_REPLACEMENT else 1.0

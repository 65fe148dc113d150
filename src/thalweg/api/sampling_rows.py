"""The rows of a comparison of batch sizes and samplings: each tuned, trained, measured in the same way."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from thalweg.api.prepare import Prepared, steps_of, try_update
from thalweg.errors import InputError
from thalweg.evidence.statistics import minimum_seeds, sign_flip_interval
from thalweg.evidence.verdict import Finals, judge
from thalweg.executors import auto
from thalweg.finder import batch as costs
from thalweg.finder.sampling import Look, counted, coverage, follow, looks
from thalweg.records import Direction, Stage, Verdict
from thalweg.records.sampling import ALL, Moment, SamplingRow, TriedRate
from thalweg.training.control import Limits
from thalweg.training.recipe import Recipe
from thalweg.training.trial import Budget, Execution, Trial

COUNTED_SEEDS: Final = 8  # orders in which an epoch's examples are counted
COUNTED_EPOCHS: Final = 4


@dataclass(frozen=True)
class Arm:
    """One batch size with one sampling, as it is trained."""

    name: str
    recipe: Recipe  # with the rate that was given, if one was
    limits: Limits
    cut: bool
    seconds: float  # of an update
    memory: float

    @property
    def size(self) -> int:
        """Examples of a batch."""
        return self.limits.batch_size

    @property
    def steps(self) -> int:
        """Updates of the whole training."""
        return self.limits.steps

    def until(self, epochs: float) -> int:
        """Return the updates that make so many epochs, as nearly as whole updates do, and at least 1."""
        return min(self.steps, max(1, round(epochs * self.limits.steps_per_epoch)))


@dataclass(frozen=True)
class Common:
    """How far all get: in epochs, in updates, in seconds."""

    epochs: float
    updates: int
    seconds: float

    @classmethod
    def of(cls, arms: Sequence[Arm]) -> "Common":
        """Return what the shortest of several trainings reaches, in each unit.

        In epochs, what the budget of updates cut does not count, unless it cut all: the others are compared
        after as many epochs as were asked for.
        """
        whole = [arm for arm in arms if not arm.cut] or arms
        return cls(
            min(arm.limits.epoch(arm.steps) for arm in whole),
            min(arm.steps for arm in arms),
            min(arm.steps * arm.seconds for arm in arms),
        )


@dataclass(frozen=True)
class Setting:
    """What all rows of a comparison share."""

    prepared: Prepared
    how: Execution
    grid: tuple[float, ...]  # of rates; empty: they are given
    tuning: range  # seeds
    final: range
    memory: float | None

    def trainings(self) -> int:
        """Return how many trainings a row takes."""
        return len(self.grid) * len(self.tuning) + len(self.final)


def arms(
    prepared: Prepared,
    how: Execution,
    wanted: Sequence[tuple[int, str]],
    shared: Mapping[str, Any],
    rates: Mapping[int, float],
    budget: Budget,
    most_updates: int,
    needed: Iterable[int],
) -> tuple[list[Arm], list[str]]:
    """Try each batch size on one update, and time it.

    Args:
        prepared: the task.
        how: where to train.
        wanted: batch sizes in examples, with the sampling of each; those of the first sampling first.
        shared: further fields of every recipe.
        rates: that of each batch size; empty: they are to be found.
        budget: how long to train.
        most_updates: of one training.
        needed: batch sizes that must work; others are left out where they cannot.

    Returns:
        What is to be trained, and in sentences what was left out and why.
    """
    workload = prepared.workload
    examples = workload.data.train.examples
    made: list[Arm] = []
    left_out: list[str] = []
    for size, way in wanted:
        whole = size == examples
        rate = {"rate": rates[size]} if rates else {}
        plain = {"batch_size": ALL if whole else size, "sampling": way}
        recipe = Recipe.from_data({**shared, **plain, **rate})
        name = "full batch" if whole else f"batch {size}"
        name += "" if way == wanted[0][1] else f", {way}"
        asked = steps_of(budget, workload, recipe, how)
        steps = min(asked, most_updates)
        trial = Trial(name, Stage.SINGLE, recipe, 0, steps)
        try:
            try_update(workload, trial, how)
        except InputError as error:
            if size in needed:
                raise
            left_out.append(f"{name.capitalize()} was left out: {error.got}.")
            continue
        cost = next(((arm.seconds, arm.memory) for arm in made if arm.size == size), None)
        if cost is None:
            timed = costs.timed(workload, recipe, size, how)
            cost = timed.update_seconds, timed.memory
        made.append(Arm(name, recipe, workload.limits(trial), steps < asked, *cost))
    return made, left_out


def row(setting: Setting, arm: Arm, common: Common, progress: Callable[[int], None]) -> SamplingRow:
    """Find the rate of one, train it on the final seeds, and measure what belongs to it.

    Args:
        setting: what all rows share.
        arm: what is trained.
        common: where all are compared.
        progress: called with the number of updates done.
    """
    workload, how, grid = setting.prepared.workload, setting.how, setting.grid

    same = arm.until(common.epochs)  # the updates after which it is compared, and so tuned
    steps = {Stage.TUNING: same, Stage.SINGLE: arm.steps}

    def trials(rate: float | None, seeds: Iterable[int], stage: Stage) -> list[Trial]:
        recipe = arm.recipe if rate is None else arm.recipe.with_rate(rate)
        return [Trial(arm.name, stage, recipe, seed, steps[stage]) for seed in seeds]

    searched = [t for rate in grid for t in trials(rate, setting.tuning, Stage.TUNING)]
    asked = searched or trials(None, setting.final, Stage.SINGLE)
    chosen = _executed(setting, asked, arm.steps)
    ends = follow(workload, searched, chosen, [same], progress) if searched else []
    each = len(setting.tuning)
    tried = [
        TriedRate(rate, mean(x[-1].validation for x in ends[place * each : (place + 1) * each]))
        for place, rate in enumerate(grid)
    ]
    known = [(t.loss, t.rate) for t in tried if t.loss is not None]
    rate = (min(known)[1] if known else None) if grid else arm.recipe.rate
    quick = min(arm.steps, int(common.seconds / arm.seconds + 1e-9))
    regular = sorted({*looks(arm.steps, arm.limits.steps_per_epoch), same, common.updates})
    found: dict[int, Moment] = {}
    if rate is not None:
        final = trials(rate, setting.final, Stage.SINGLE)
        looked = follow(workload, final, chosen, sorted({*regular, quick}), progress)
        found = {x[0].step: _moment(x, arm) for x in zip(*looked, strict=True)}
    end = found.get(same)
    shown = counted(arm.limits, arm.recipe.sampling, how.root, range(COUNTED_SEEDS), COUNTED_EPOCHS)
    return SamplingRow(
        name=arm.name,
        batch_size=arm.size,
        sampling=arm.recipe.sampling,
        updates_per_epoch=arm.limits.steps_per_epoch,
        counted=shown.batches,
        steps=arm.steps,
        epochs=arm.limits.epoch(arm.steps),
        cut=arm.cut,
        rate=rate,
        edge=None if rate is None or not grid else {grid[0]: "lowest", grid[-1]: "highest"}.get(rate),
        tried=tuple(tried),
        update_seconds=arm.seconds,
        memory_bytes=arm.memory,
        coverage=shown.coverage,
        coverage_expected=coverage(arm.limits.train_examples, arm.recipe.sampling),
        moments=tuple(found[step] for step in regular if step in found),
        equal_epochs=end,
        equal_updates=found.get(common.updates),
        equal_seconds=found.get(quick),
        train_loss=mean(end.train) if end else None,
        train_interval=interval(end.train) if end else None,
        validation_loss=mean(end.validation) if end else None,
        validation_interval=interval(end.validation) if end else None,
    )


def judged(rows: Sequence[SamplingRow], epochs: float) -> Verdict | None:
    """Decide which of several is best by the validation loss at equal epochs; None: there is no other.

    What ended before those epochs, because of the budget of updates, has no part in it.
    """
    rows = [one for one in rows if one.epochs >= epochs]
    if len(rows) < 2:
        return None
    finals = []
    for one in rows:
        scores = one.equal_epochs.validation if one.equal_epochs else ()
        nothing: tuple[None, ...] = (None,) * len(scores)
        finals.append(Finals(one.name, one.rate, scores, nothing, nothing, one.edge))
    return judge(finals, Direction.LOWER, "loss")


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean over the seeds; None as soon as one of them diverged.

    >>> mean([1.0, 2.0]), mean([1.0, None])
    (1.5, None)
    """
    known = list(values)
    numbers = [x for x in known if x is not None]
    return float(np.mean(numbers)) if numbers and len(numbers) == len(known) else None


def interval(values: Sequence[float | None]) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean; None with fewer than 6 seeds, or where one diverged."""
    numbers = [x for x in values if x is not None]
    enough = len(numbers) == len(values) >= minimum_seeds(1)
    return sign_flip_interval(numbers) if enough else None


def _executed(setting: Setting, trials: Sequence[Trial], steps: int) -> Execution:
    """Decide how trainings run: as a fleet wherever that is possible, whatever a busy machine says of time.

    So the same seed gives the same bits. Processes cannot be looked at on their way.
    """
    workload, how, memory = setting.prepared.workload, setting.how, setting.memory
    if how.executor == "serial":
        return how
    asked = replace(how, executor="fleet")
    try:
        return auto.choose(
            workload, trials, asked, len(trials) * steps, memory=memory, threads=how.threads
        ).execution
    except InputError:
        if how.executor == "fleet":
            raise
        return replace(how, executor="serial")


def _moment(seeds: Sequence[Look], arm: Arm) -> Moment:
    step = seeds[0].step
    train, validation = (tuple(getattr(x, part) for x in seeds) for part in ("train", "validation"))
    return Moment(step, arm.limits.epoch(step), train, validation)

"""The plan of a race: everything that is decided before its first trial."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from thalweg.errors import InputError
from thalweg.evidence.statistics import minimum_seeds
from thalweg.hyper import ABOVE_0, Integer, Interval, Real
from thalweg.records import Contender, Plan
from thalweg.training.recipe import Recipe
from thalweg.training.trial import Execution, Workload

QUOTA: Final = 9  # rates that tuning may try, each optimizer alike
TUNING_SEEDS: Final = 3
STEP: Final = math.sqrt(10)  # ratio of neighbouring rates: half a decade
# Twice the seeds that are needed are run where all final trials together stay under this many floating
# point operations: about a minute of a small network on one core.
SMALL_WORK: Final = 1e12


@dataclass(frozen=True)
class Entry:
    """One optimizer as it is entered in a race.

    Args:
        name: under which it runs; unique in the race.
        recipe: how it trains; its rate is replaced by those that are tried.
        rates: None: a grid around the optimizer's centre, extended or refined up to the quota. One: given,
            not tuned. Several: tuning tries these and no others.
    """

    name: str
    recipe: Recipe
    rates: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for rate in self.rates or ():
            Real(self.recipe.preset.centre, "", ABOVE_0).check("a rate", self.name, rate)
        if self.rates is not None and len(set(self.rates)) < max(1, len(self.rates)):
            raise InputError(f"the rates of {self.name}", "be one or more different numbers", self.rates)


def grid(centre: float, count: int) -> tuple[float, ...]:
    """Return rates half a decade apart, the centre in the middle, rounded to three digits.

    >>> grid(0.1, 5)
    (0.01, 0.0316, 0.1, 0.316, 1.0)
    """
    return tuple(rounded(centre * STEP**k) for k in range(-((count - 1) // 2), count // 2 + 1))


def rounded(rate: float) -> float:
    """Round a rate to three significant digits: what is printed is what was run."""
    return float(f"{rate:.3g}")


def start_of(quota: int) -> int:
    """Return with how many rates a grid starts, so that a quarter of the quota is left to extend it."""
    return quota - quota // 4


def make_plan(
    workload: Workload,
    entries: Sequence[Entry],
    execution: Execution,
    steps: int,
    update_flops: float,
    *,
    quota: int = QUOTA,
    seeds: int | None = None,
) -> Plan:
    """Fix a race before it runs.

    Args:
        workload: the task with its data.
        entries: the optimizers, each with a recipe of the same batch size.
        execution: how trials run.
        steps: updates of every trial.
        update_flops: floating point operations of one update; the default number of seeds follows.
        quota: rates that tuning may try, each optimizer alike.
        seeds: final seeds; None: as many as the verdict needs, twice that where it is cheap.

    Raises:
        InputError: no entry, two of one name, or a number out of range.
    """
    names = [entry.name for entry in entries]
    if not names or len(set(names)) < len(names):
        raise InputError("the optimizers of a race", "be one or more different names", names)
    Integer(QUOTA, "", Interval(1.0)).check("rates to try", "the race", quota)
    if seeds is not None:
        Integer(None, "", Interval(1.0)).check("seeds", "the race", seeds)
    batch_sizes = {workload.batch_size(entry.recipe) for entry in entries}
    if len(batch_sizes) > 1:
        raise InputError("the recipes of a race", "have one batch size", sorted(batch_sizes))
    (batch_size,) = batch_sizes
    contenders = tuple(_contender(entry, quota) for entry in entries)
    tuning = TUNING_SEEDS if any(c.tuned for c in contenders) else 0
    if seeds is None:
        seeds = minimum_seeds(len(entries))
        if 2 * seeds * len(entries) * steps * update_flops <= SMALL_WORK:
            seeds *= 2
    data = workload.data
    return Plan(
        task=workload.task.name,
        task_fingerprint=workload.fingerprint,
        metric=workload.metric,
        direction=workload.direction,
        contenders=contenders,
        steps=steps,
        epochs=steps / math.ceil(data.train.examples / batch_size),
        batch_size=batch_size,
        train_examples=data.train.examples,
        validation_examples=data.validation.examples,
        test_examples=data.test.examples,
        seed=execution.root,
        tuning_seeds=tuple(range(tuning)),
        final_seeds=tuple(range(tuning, tuning + seeds)),
        executor=execution.executor,
        threads=execution.threads,
        device=execution.device,
        versions=dict(execution.versions),
    )


def _contender(entry: Entry, quota: int) -> Contender:
    rates = entry.rates
    own_quota = quota if rates is None else len(rates)
    if rates is None:
        rates = grid(entry.recipe.preset.centre, start_of(quota))
    return Contender(
        name=entry.name,
        recipe=entry.recipe.to_data(),
        rates=tuple(sorted(rates)),
        quota=own_quota,
        tuned=own_quota > 1,
    )

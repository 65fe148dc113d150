"""The plan of a race: everything that is decided before its first trial."""

import hashlib
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from thalweg.errors import InputError
from thalweg.evidence.looks import levels
from thalweg.evidence.statistics import LEVEL, minimum_seeds
from thalweg.hyper import ABOVE_0, Integer, Interval, Real
from thalweg.racing.rates import HALF, Grid
from thalweg.records import Contender, FinderPlan, Plan
from thalweg.training.recipe import Recipe
from thalweg.training.trial import Execution, Trial, Workload

QUOTA: Final = 9  # rates that tuning may try, each optimizer alike; the finder is paid for with some of them
TUNING_SEEDS: Final = 3
# Twice the seeds that are needed are run where all final trials together stay under this many floating
# point operations: about a minute of a small network on one core.
SMALL_WORK: Final = 1e12
FINDER_SHARE: Final = 1 / 3  # of the quota, above which trainings are too short for a finder

Workloads = Workload | Mapping[str, Workload]  # one for all, or one for each contender
Seeds = int | Sequence[int]  # a number, or numbers after each of which the race may end


@dataclass(frozen=True)
class Entry:
    """One optimizer as it is entered in a race.

    Args:
        name: under which it runs; unique in the race.
        recipe: how it trains; its rate is replaced by those that are tried.
        rates: None: those that a finder or the catalogue suggests, extended or refined up to the quota. One:
            given, not tuned. Several: tuning tries these and no others.
        steps: updates of its trials; None: as many as the first entry's.
    """

    name: str
    recipe: Recipe
    rates: tuple[float, ...] | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        for rate in self.rates or ():
            Real(self.recipe.preset.centre, "", ABOVE_0).check("a rate", self.name, rate)
        if self.rates is not None and len(set(self.rates)) < max(1, len(self.rates)):
            raise InputError(f"the rates of {self.name}", "be one or more different numbers", self.rates)


def make_plan(
    workloads: Workloads,
    entries: Sequence[Entry],
    execution: Execution,
    steps: int,
    update_flops: float,
    *,
    quota: int = QUOTA,
    finder: FinderPlan | None = None,
    seeds: Seeds | None = None,
    after: Plan | None = None,
    **more: Any,
) -> Plan:
    """Fix a race before it runs.

    Args:
        workloads: the task with its data; or one for each entry, with equally many examples.
        entries: the optimizers, each with its recipe.
        execution: how trials run.
        steps: updates of every trial of the first entry, and of those that say nothing else.
        update_flops: floating point operations of one update; the default number of seeds follows.
        quota: rates that tuning may try, each optimizer alike.
        finder: how rates are found where none are given; None: grids around the catalogue's centres. It is
            left out where it would cost more than a third of the quota.
        seeds: final seeds, or several numbers of them: looks, after each of which the race may end; None: see
            `default_seeds`.
        after: a race whose seeds are used up, but for those of its tuning.
        more: further fields of the plan.

    Raises:
        InputError: no entry, two of one name, or a number out of range.
    """
    names = [entry.name for entry in entries]
    if not names or len(set(names)) < len(names):
        raise InputError("the optimizers of a race", "be one or more different names", names)
    Integer(QUOTA, "", Interval(1.0)).check("rates to try", "the race", quota)
    workload = workload_of(workloads, names[0])
    searched = any(entry.rates is None for entry in entries)
    shortest = min(entry.steps or steps for entry in entries)
    if finder is not None and (
        not searched or finder_rates(finder, shortest, TUNING_SEEDS) > FINDER_SHARE * quota
    ):
        finder = None
    batch_size = workload.batch_size(entries[0].recipe)
    contenders = tuple(
        _contender(entry, quota, finder, steps, batch_size, workload_of(workloads, entry.name))
        for entry in entries
    )
    used = set(_seeds_of(after)) if after else set()
    tuning: tuple[int, ...] = ()
    if any(c.tuned for c in contenders):
        tuning = after.tuning_seeds if after and after.tuning_seeds else _fresh(TUNING_SEEDS, used)
    used |= {*tuning, *_finder_seeds(finder)}
    looks = checked_looks(default_seeds(len(entries), steps, update_flops) if seeds is None else seeds)
    data = workload.data
    return Plan(
        task=" and ".join(dict.fromkeys(workload_of(workloads, name).task.name for name in names)),
        task_fingerprint=_fingerprint(workload_of(workloads, name) for name in names),
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
        tuning_seeds=tuning,
        final_seeds=_fresh(looks[-1], used),
        executor=execution.executor,
        threads=execution.threads,
        device=execution.device,
        versions=dict(execution.versions),
        finder=finder,
        looks=looks if len(looks) > 1 else (),
        halving=True,
        **more,
    )


def default_seeds(optimizers: int, steps: int, update_flops: float) -> Seeds:
    """Return how many final seeds there are where nothing else is asked.

    Twice as many as the verdict needs at least, where that is cheap. Else two looks: the smallest number that
    can decide at the level which the first look gets, and twice that. One optimizer is compared with nobody,
    so there is nothing to look for.
    """
    needed = minimum_seeds(optimizers)
    if 2 * needed * optimizers * steps * update_flops <= SMALL_WORK:
        return 2 * needed
    return needed if optimizers == 1 else (first_look(optimizers), 2 * first_look(optimizers))


def first_look(optimizers: int) -> int:
    """Return the smallest number of seeds that can decide a race which may go on to twice as many.

    >>> [first_look(k) for k in (2, 4, 10)]
    [8, 10, 13]
    """
    counts = itertools.count(minimum_seeds(optimizers))
    return next(n for n in counts if n >= minimum_seeds(optimizers, levels((n, 2 * n), LEVEL)[0]))


def checked_looks(seeds: Seeds) -> tuple[int, ...]:
    """Return the numbers of final seeds after which a race may end; refuse what does not increase.

    >>> checked_looks(8), checked_looks([8, 16])
    ((8,), (8, 16))
    """
    looks = tuple(seeds) if isinstance(seeds, Sequence) else (seeds,)
    for number in looks:
        Integer(None, "", Interval(1.0)).check("seeds", "the race", number)
    if not looks or any(a >= b for a, b in itertools.pairwise(looks)):
        raise InputError("the looks of a race", "be one or more numbers of seeds that increase", list(looks))
    return tuple(int(number) for number in looks)


def finder_rates(finder: FinderPlan, steps: int, seeds: int) -> int:
    """Return how many rates of the quota a finder costs: what their tuning would take, rounded up.

    >>> finder_rates(FinderPlan((0, 1), 50, (0,), 40, 5), steps=200, seeds=3)  # 300 updates of 600
    1
    """
    return max(1, math.ceil(finder_steps(finder) / (seeds * steps)))


def finder_steps(finder: FinderPlan) -> int:
    """Return how many updates a finder does for one optimizer, at most."""
    sweeps = len(finder.sweep_seeds) * finder.sweep_steps
    return sweeps + len(finder.short_seeds) * finder.short_rates * finder.short_steps


def rates_of(plan: Plan, contender: Contender) -> int:
    """Return how many rates tuning may try for an optimizer, the price of the finder deducted."""
    if plan.finder is None or contender.rates:
        return contender.quota
    shortest = min(steps_of(plan, c) for c in plan.contenders)
    return contender.quota - finder_rates(plan.finder, shortest, len(plan.tuning_seeds))


def start_of(rates: int, found: bool) -> int:
    """Return with how many rates a grid starts.

    A quarter of those that may be tried is left to extend the grid, or to refine it; where a finder says
    where to look, a third, because the grid is narrower.

    >>> start_of(9, found=False), start_of(8, found=True)
    (7, 5)
    """
    return max(1, round(2 * rates / 3)) if found else rates - rates // 4


def steps_of(plan: Plan, contender: Contender) -> int:
    """Return the updates of every trial of an optimizer."""
    return contender.steps or plan.steps


def workload_of(workloads: Workloads, name: str) -> Workload:
    """Return the task and data of an optimizer."""
    return workloads if isinstance(workloads, Workload) else workloads[name]


def by_workload(trials: Iterable[Trial], workloads: Workloads) -> list[tuple[Workload, list[Trial]]]:
    """Return each workload with its trials."""
    groups: dict[int, tuple[Workload, list[Trial]]] = {}
    for trial in trials:
        workload = workload_of(workloads, trial.contender)
        groups.setdefault(id(workload), (workload, []))[1].append(trial)
    return list(groups.values())


def _contender(
    entry: Entry, quota: int, finder: FinderPlan | None, steps: int, batch_size: int, workload: Workload
) -> Contender:
    rates = entry.rates
    if rates is None:
        start = start_of(quota, found=False)
        rates = () if finder else Grid(entry.recipe.preset.centre, HALF).around(start)
    else:
        quota = len(rates)
    own_steps, own_size = entry.steps or steps, workload.batch_size(entry.recipe)
    return Contender(
        name=entry.name,
        recipe=entry.recipe.to_data(),
        rates=tuple(sorted(rates)),
        quota=quota,
        tuned=quota > 1,
        steps=None if own_steps == steps else own_steps,
        batch_size=None if own_size == batch_size else own_size,
    )


def _fingerprint(workloads: Iterable[Workload]) -> str:
    found = list(dict.fromkeys(w.fingerprint for w in workloads))
    return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()


def _seeds_of(plan: Plan) -> tuple[int, ...]:
    return (*plan.tuning_seeds, *plan.final_seeds, *_finder_seeds(plan.finder))


def _finder_seeds(finder: FinderPlan | None) -> tuple[int, ...]:
    return (*finder.sweep_seeds, *finder.short_seeds) if finder else ()


def _fresh(count: int, used: set[int]) -> tuple[int, ...]:
    """Return the first seeds that no stage has used."""
    return tuple(itertools.islice((seed for seed in itertools.count() if seed not in used), count))

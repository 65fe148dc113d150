"""A budget in seconds for everything becomes updates of a trial: what a race costs is measured first."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from thalweg.api.entering import Field
from thalweg.api.following import planned_after
from thalweg.errors import InputError
from thalweg.executors import fleet, processes
from thalweg.executors.auto import BESIDE, START
from thalweg.executors.threads import torch_threads
from thalweg.hyper import ABOVE_0, Real
from thalweg.racing import Workloads, largest_round
from thalweg.racing.plan import Seeds, by_workload
from thalweg.racing.rounds import rounds_at_most
from thalweg.records import Plan
from thalweg.schedules import Schedule
from thalweg.tasks.user_code import isolated_random
from thalweg.training.control import Control
from thalweg.training.engine import Engine, ModelEngine
from thalweg.training.fleet.engine import FleetEngine
from thalweg.training.loop import train
from thalweg.training.trial import Budget, Execution, Trial, Workload

MOST: Final = 10**7  # updates of a trial that are looked at
REHEARSED: Final = 0.03  # of the time, for each of the waves that are timed
KEEPING: Final = 0.004  # seconds to keep a finished trial: two writes that are on the disk
FITTING: Final = 0.15  # seconds in which a finder makes sense of the trials of one optimizer
DRAWING: Final = 1.0  # seconds to judge a race and draw its report


class Cost(NamedTuple):
    """What a wave of so many replicas costs, in seconds."""

    replicas: int
    made: float  # to make the engine and measure once
    update: float
    evaluation: float
    last: float  # to measure on training and test data at the end


class Costs(NamedTuple):
    """What the waves of one kind cost: a small one, and the largest."""

    small: Cost
    large: Cost

    def of(self, trials: Sequence[Trial], workload: Workload) -> float:
        """Return what a wave of these trials costs, between the two that were measured."""
        more = max(self.large.replicas - self.small.replicas, 1)
        share = (len(trials) - self.small.replicas) / more

        def between(low: float, high: float) -> float:
            return max(low + share * (high - low), low / self.small.replicas)

        made, update, evaluation, last = (
            between(*pair) for pair in zip(self.small[1:], self.large[1:], strict=True)
        )
        limits = workload.limits(trials[0])
        evaluations = -(-limits.steps // limits.evaluate_every) - 1  # one is part of making it
        final = last if trials[0].stage.reads_test else 0.0
        return made + limits.steps * update + evaluations * evaluation + final + KEEPING * len(trials)


def length_of(epochs: float | None, steps: int | None, seconds: float | None, workload: Workload) -> Budget:
    """Return the length of a trial as it was asked for; of a time it is not known yet."""
    if seconds is None:
        return Budget(epochs, steps) if (epochs, steps) != (None, None) else Budget(workload.task.epochs)
    if (epochs, steps) != (None, None):
        got = "a time and " + ("epochs" if steps is None else "steps")
        raise InputError("the budget", "be given in one of epochs, steps and a time", got)
    Real(None, "", ABOVE_0).check("seconds", "the budget", seconds)
    return Budget(workload.task.epochs)


def fitted(
    plan: Plan,
    planned: Callable[[Budget], Plan],
    schedules: Mapping[str, Schedule] | None,
    field: Field,
    how: Execution,
    seeds: Seeds | None,
    deadline: float,
) -> Plan:
    """Return the plan with trials of such a length that all of it ends at a deadline.

    Args:
        plan: of some length, with its executor.
        planned: makes it of another length.
        schedules: what is to race under the winner.
        field: who races, on what.
        how: what trials depend on.
        seeds: final seeds.
        deadline: as `time.perf_counter` tells it.

    Raises:
        InputError: not even one update of each trial fits.
    """
    from thalweg import report  # noqa: F401 - it takes its time, now as well as later

    settled = {name: getattr(plan, name) for name in ("executor", "threads", "wave", "why")}
    runs = replace(how, executor=plan.executor, threads=plan.threads, wave=plan.wave)
    allowed = REHEARSED * (deadline - time.perf_counter())
    costs = measured(largest_round(plan), field.workloads, runs, allowed)
    first = next(iter(field.recipes))
    epoch = math.ceil(plan.train_examples / plan.batch_size)
    alike = all(contender.batch_size is None for contender in plan.contenders)

    def of(steps: int) -> Plan:
        return planned(Budget(steps=steps) if alike else Budget(epochs=steps / epoch))

    def seconds(steps: int) -> float:
        one = of(steps)
        after = planned_after(one, first, 1.0, schedules, field, how, seeds)
        total = DRAWING + expected(one, costs, field.workloads, runs)
        if after is not None:
            dearest = max(costs.values(), key=lambda cost: cost.large.update / cost.large.replicas)
            under = dict.fromkeys((c.name for c in after.contenders), dearest)
            total += expected(after, under, field.first, runs)
        return total

    steps = most(seconds, deadline - time.perf_counter())
    return replace(of(steps), **settled)


def most(seconds: Callable[[int], float], available: float) -> int:
    """Return the largest number of updates, to half a percent, that takes no more seconds than there are.

    >>> most(lambda steps: 1.0 + 0.5 * steps, 11.0)
    20
    """
    least = seconds(1)
    if least > available:
        must = f"leave at least {least:.1f} seconds, which trials of one update take"
        do = "Give more time, or let fewer optimizers race."
        raise InputError("the budget", must, f"{max(available, 0.0):.1f} seconds", do)
    low, high = 1, 2
    while high < MOST and seconds(high) <= available:
        low, high = high, 2 * high
    while high - low > max(1, low // 200):
        middle = (low + high) // 2
        low, high = (middle, high) if seconds(middle) <= available else (low, middle)
    return low


def expected(plan: Plan, costs: Mapping[str, Costs], workloads: Workloads, how: Execution) -> float:
    """Return how many seconds a race is expected to take.

    Each look after the first is counted half: a race ends before it or it does not.
    """
    seconds = [_round(trials, costs, workloads, how) for trials in rounds_at_most(plan)]
    looked = len(seconds) - max(len(plan.looks) - 1, 0)
    fitting = FITTING * sum(not c.rates for c in plan.contenders)
    start = START if how.executor == "processes" else 0.0
    return start + fitting + sum(seconds[:looked]) + sum(seconds[looked:]) / 2


def _round(
    trials: Sequence[Trial], costs: Mapping[str, Costs], workloads: Workloads, how: Execution
) -> float:
    if not trials:
        return 0.0
    total = sum(
        costs[wave[0].contender].of(wave, workload)
        for workload, own in by_workload(trials, workloads)
        for wave in fleet.waves(own, how.wave or 1)
    )
    if how.executor != "processes":
        return total
    return total / min(len(trials), max(1.0, BESIDE * (processes.workers() // how.threads)))


def measured(
    trials: Sequence[Trial], workloads: Workloads, how: Execution, seconds: float
) -> dict[str, Costs]:
    """Measure what trials cost, by the names of contenders: those of one kind in a fleet together, else each.

    Args:
        trials: those of the largest round.
        workloads: the task with its data, or one for each contender.
        how: how trials run.
        seconds: about so long a wave is timed; the longer, the less it matters what else the machine does.
    """
    found: dict[str, Costs] = {}
    for workload, own in by_workload(trials, workloads):
        for alike in fleet.waves(own, len(own)):
            each = {t.contender: t for t in alike}
            if how.wave:
                large = fleet.waves(alike, how.wave)[0]
                small = [*each.values()][: len(large)]
                costs = Costs(*(_rehearsed(workload, wave, how, seconds) for wave in (small, large)))
                found |= dict.fromkeys(each, costs)
            else:
                for name, trial in each.items():
                    alone = _rehearsed(workload, [trial], how, seconds)
                    found[name] = Costs(alone, alone)
    return found


def _rehearsed(workload: Workload, trials: Sequence[Trial], how: Execution, seconds: float) -> Cost:
    """Time a wave on models that are thrown away: twice for its length, once more to measure."""

    def run(steps: int) -> float:
        start = time.perf_counter()
        short = [Trial(t.contender, t.stage, t.recipe, t.seed, steps, evaluations=1) for t in trials]
        train(_engine(workload, short, how), [Control(t.recipe, workload.limits(t)) for t in short], workload)
        return time.perf_counter() - start

    with torch_threads(how.threads), isolated_random(0):
        run(1)  # traces and compiles
        few, steps = run(2), 16
        while (many := run(steps)) - few < seconds / 2 and steps < MOST:
            steps *= 2
        update = (many - few) / (steps - 2)
        engine = _engine(workload, trials, how)
        rows = range(len(trials))
        data, start = workload.data, time.perf_counter()
        engine.measure(rows, data.validation)
        evaluation = time.perf_counter() - start
        engine.measure(rows, data.train)
        engine.measure(rows, data.test)
        last = time.perf_counter() - start - evaluation
    return Cost(len(trials), max(few - 2 * update, 0.0), update, evaluation, last)


def _engine(workload: Workload, trials: Sequence[Trial], how: Execution) -> Engine:
    if how.wave:
        return FleetEngine(workload, trials, how.root, how.device, how.threads)
    return ModelEngine(workload, trials[0], how.root, how.device)

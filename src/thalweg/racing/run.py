"""Run a race as planned: rounds of trials, each round decided by what the rounds before left."""

import math
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing

from thalweg.evidence.race import RateScore, best, chosen_rate, tuned
from thalweg.racing.plan import STEP, rounded
from thalweg.records import Contender, Plan, Stage, Trace
from thalweg.training.recipe import Recipe
from thalweg.training.trial import Execution, Trial, Workload, trial_key

# Runs those of a round's trials that are not to be skipped. It is given all of them, so that what it does
# together does not depend on where a race was interrupted.
Runner = Callable[
    [Workload, Sequence[Trial], Execution, Callable[[Trial], bool]], Generator[Trace, None, None]
]


def run(
    plan: Plan,
    workload: Workload,
    execution: Execution,
    runner: Runner,
    completed: Callable[[str], Trace | None],
    on_finished: Callable[[Trace, bool], None],
) -> tuple[Trace, ...]:
    """Run what is not yet finished of a race and return all its traces, in the order of the plan.

    Args:
        plan: the race.
        workload: the task with its data.
        execution: how trials run, as the plan records it.
        runner: an executor.
        completed: gives the trace of a trial that is already finished, by its key, else None.
        on_finished: called with every trace as soon as it is there, and whether it had been completed
            before. What it raises ends the race.
    """

    def finish(trials: Sequence[Trial]) -> list[Trace]:
        keys = [trial_key(workload, trial, execution) for trial in trials]
        found = {key: trace for key in keys if (trace := completed(key)) is not None}
        for trace in found.values():
            on_finished(trace, True)
        finished = {id(trial) for key, trial in zip(keys, trials, strict=True) if key in found}
        with closing(runner(workload, trials, execution, lambda trial: id(trial) in finished)) as running:
            for trace in running:
                found[trace.key] = trace
                on_finished(trace, False)
        return [found[key] for key in keys]

    traces: list[Trace] = []
    tried = {c.name: list(c.rates) for c in plan.contenders if c.tuned}
    fresh = {c.name: list(c.rates) for c in plan.contenders if c.tuned}
    while any(fresh.values()):
        traces += finish([t for c in plan.contenders for t in _tuning_trials(plan, c, fresh.get(c.name, ()))])
        fresh = {}
        for contender in plan.contenders:
            if contender.tuned and len(tried[contender.name]) < contender.quota:
                rate = next_rate(tuned(traces, contender.name), plan)
                fresh[contender.name] = [] if rate is None else [rate]
                tried[contender.name] += fresh[contender.name]
    finals = []
    for contender in plan.contenders:
        rate, _ = chosen_rate(plan, traces, contender)
        if rate is not None:
            finals += [_trial(plan, contender, Stage.FINAL, rate, seed) for seed in plan.final_seeds]
    return (*traces, *finish(finals))


def next_rate(scores: Sequence[RateScore], plan: Plan) -> float | None:
    """Return the rate that tuning tries next: beyond the edge if the best lies there, else beside the best.

    Where all diverged, smaller rates are tried. Between the best rate and the better of its neighbours the
    middle is taken; None if those lie within 5 %, the one reason to leave a part of the quota unused.
    """
    rates = [s.rate for s in scores]
    place = best(scores, plan.direction)
    # As long as an edge is best nothing was refined and the grid is even. From its second rate the next one
    # is a whole decade away, so that rounding does not add up: 10, not 9.99.
    if place is None or place == 0:
        return rounded(rates[1] / STEP**2)
    if place == len(rates) - 1:
        return rounded(rates[-2] * STEP**2)
    below, above = scores[place - 1], scores[place + 1]
    neighbour = below if best([below, above], plan.direction) == 0 else above
    middle = rounded(math.sqrt(scores[place].rate * neighbour.rate))
    return None if min(max(middle / r, r / middle) for r in rates) < 1.05 else middle


def first_round(plan: Plan) -> list[Trial]:
    """Return the trials that a race begins with."""
    tuning = [t for c in plan.contenders if c.tuned for t in _tuning_trials(plan, c, c.rates)]
    given = [c for c in plan.contenders if not c.tuned]
    return tuning or [
        _trial(plan, c, Stage.FINAL, c.rates[0], seed) for c in given for seed in plan.final_seeds
    ]


def _tuning_trials(plan: Plan, contender: Contender, rates: Iterable[float]) -> list[Trial]:
    return [_trial(plan, contender, Stage.TUNING, rate, seed) for rate in rates for seed in plan.tuning_seeds]


def _trial(plan: Plan, contender: Contender, stage: Stage, rate: float, seed: int) -> Trial:
    recipe = Recipe.from_data(contender.recipe).with_rate(rate)
    return Trial(contender.name, stage, recipe, seed, plan.steps)

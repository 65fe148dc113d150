"""Run a race as planned: rounds of trials, each round decided by what the rounds before left."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from itertools import pairwise
from typing import NamedTuple

from thalweg.evidence.race import chosen_rate, looked, tuned
from thalweg.finder import find
from thalweg.racing.plan import Workloads, by_workload, rates_of, start_of, steps_of
from thalweg.racing.rates import HALF, QUARTER, Grid, next_rate, survivors
from thalweg.records import Contender, Finding, Plan, Stage, Trace
from thalweg.training.recipe import Recipe
from thalweg.training.trial import Execution, Trial, Workload, trial_key

# Runs those of a round's trials that are not to be skipped. It is given all of them, so that what it does
# together does not depend on where a race was interrupted.
Runner = Callable[
    [Workload, Sequence[Trial], Execution, Callable[[Trial], bool]], Generator[Trace, None, None]
]
Finish = Callable[[Sequence[Trial]], list[Trace]]


class Finished(NamedTuple):
    """What a race left."""

    traces: tuple[Trace, ...]  # in the order of the plan
    findings: tuple[Finding, ...]  # of the rate finder, in the order of the contenders


def run(
    plan: Plan,
    workloads: Workloads,
    execution: Execution,
    runner: Runner,
    completed: Callable[[str], Trace | None],
    on_finished: Callable[[Trace, bool], None],
) -> Finished:
    """Run what is not yet finished of a race: the finder, tuning, then final trials until a look decides.

    Args:
        plan: the race.
        workloads: the task with its data, or one for each contender.
        execution: how trials run, as the plan records it.
        runner: an executor.
        completed: gives the trace of a trial that is already finished, by its key, else None.
        on_finished: called with every trace as soon as it is there, and whether it had been completed
            before. What it raises ends the race.
    """
    traces: list[Trace] = []

    def finish(trials: Sequence[Trial]) -> list[Trace]:
        found: dict[str, Trace] = {}
        keys: dict[int, str] = {}
        for workload, own in by_workload(trials, workloads):
            keys |= {id(t): trial_key(workload, t, execution) for t in own}
            for t in own:
                if (trace := completed(keys[id(t)])) is not None:
                    found[trace.key] = trace
                    on_finished(trace, True)
            finished = {id(t) for t in own if keys[id(t)] in found}
            with closing(runner(workload, own, execution, _among(finished))) as running:
                for trace in running:
                    found[trace.key] = trace
                    on_finished(trace, False)
        traces.extend(found[keys[id(t)]] for t in trials)
        return [found[keys[id(t)]] for t in trials]

    findings = _find(plan, finish)
    _tune(plan, {f.optimizer: f for f in findings}, traces, finish)
    _compare(plan, traces, finish)
    return Finished(tuple(traces), findings)


def _among(finished: set[int]) -> Callable[[Trial], bool]:
    return lambda trial: id(trial) in finished


def _find(plan: Plan, finish: Finish) -> tuple[Finding, ...]:
    """Let the finder measure where to search, for those whose rates are open."""
    if plan.finder is None:
        return ()
    searched = [c for c in plan.contenders if not c.rates]
    recipes = {c.name: Recipe.from_data(c.recipe) for c in searched}
    return find(recipes, plan.finder, {c.name: steps_of(plan, c) for c in searched}, finish)


def _tune(plan: Plan, findings: Mapping[str, Finding], traces: list[Trace], finish: Finish) -> None:
    """Try rates, each round one more of each optimizer; then let the better ones run on further seeds."""
    searched = [c for c in plan.contenders if c.tuned]
    grids = {c.name: grid_of(c, findings.get(c.name)) for c in searched}
    seeds = plan.tuning_seeds[:1] if plan.halving else plan.tuning_seeds
    fresh = {c.name: first_rates(plan, c, grids[c.name]) for c in searched}
    tried = dict.fromkeys(fresh, 0)
    while any(fresh.values()):
        finish([trial(plan, c, Stage.TUNING, r, s) for c in searched for r in fresh[c.name] for s in seeds])
        for contender in searched:
            name = contender.name
            tried[name] += len(fresh[name])
            rate = None
            if fresh[name] and tried[name] < rates_of(plan, contender):
                rate = next_rate(tuned(traces, name), plan.direction, grids[name])
            fresh[name] = () if rate is None else (rate,)
    while plan.halving:
        again = [
            trial(plan, c, Stage.TUNING, rate, plan.tuning_seeds[done])
            for c in searched
            for rate, done in survivors(tuned(traces, c.name), plan.direction, len(plan.tuning_seeds))
        ]
        if not again:
            return
        finish(again)


def _compare(plan: Plan, traces: list[Trace], finish: Finish) -> None:
    """Run the chosen rates on fresh seeds, until a look decides or there are no more seeds."""
    rates = {c.name: chosen_rate(plan, traces, c)[0] for c in plan.contenders}
    for before, look in pairwise((0, *(plan.looks or (len(plan.final_seeds),)))):
        finish(
            [
                trial(plan, contender, Stage.FINAL, rate, seed)
                for contender in plan.contenders
                if (rate := rates[contender.name]) is not None
                for seed in plan.final_seeds[before:look]
            ]
        )
        if looked(plan, traces) is not None:
            return


def grid_of(contender: Contender, finding: Finding | None) -> Grid:
    """Return the grid on which an optimizer's rates lie: around what was found, else around its centre."""
    if finding is not None and finding.suggestion is not None:
        return Grid(finding.suggestion, QUARTER)
    return Grid(Recipe.from_data(contender.recipe).preset.centre, HALF)


def first_rates(plan: Plan, contender: Contender, grid: Grid) -> tuple[float, ...]:
    """Return the rates that tuning starts with."""
    return contender.rates or grid.around(start_of(rates_of(plan, contender), found=True))


def trial(plan: Plan, contender: Contender, stage: Stage, rate: float, seed: int) -> Trial:
    """Return a trial of the race's own length."""
    recipe = Recipe.from_data(contender.recipe).with_rate(rate)
    return Trial(contender.name, stage, recipe, seed, steps_of(plan, contender))

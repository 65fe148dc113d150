"""The rounds that a race has at most: what a progress bar ends at, and what a budget is spent on."""

import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise, zip_longest

from thalweg.racing.plan import rates_of, start_of, steps_of
from thalweg.records import Contender, Plan, Stage
from thalweg.training.recipe import Recipe
from thalweg.training.trial import Trial


def rounds_at_most(plan: Plan) -> list[list[Trial]]:
    """Return the trials of each round of a race that uses its whole quota and all its seeds.

    Which rates are tried is not known before; each stands at the rate of its recipe. Of a finder's trials too
    only their number and length are what they will be.
    """
    recipes = {c.name: Recipe.from_data(c.recipe) for c in plan.contenders}

    def trials(
        contender: Contender, stage: Stage, seeds: Iterable[int], steps: int | None = None
    ) -> list[Trial]:
        long = steps or steps_of(plan, contender)
        return [Trial(contender.name, stage, recipes[contender.name], seed, long) for seed in seeds]

    rounds: list[list[Trial]] = []
    if (finder := plan.finder) is not None:
        searched = [c for c in plan.contenders if not c.rates]
        sweeps = [t for c in searched for t in trials(c, Stage.SWEEP, finder.sweep_seeds, finder.sweep_steps)]
        short = [t for c in searched for t in trials(c, Stage.SHORT, finder.short_seeds, finder.short_steps)]
        rounds += [
            [replace(t, evaluations=1) for t in together] for together in (sweeps, short * finder.short_rates)
        ]
    tuning = [
        [trials(c, Stage.TUNING, plan.tuning_seeds[:1]) * count for count in _tuning(plan, c)]
        for c in plan.contenders
        if c.tuned
    ]
    rounds += [[t for own in together for t in own] for together in zip_longest(*tuning, fillvalue=())]
    for before, look in pairwise((0, *(plan.looks or (len(plan.final_seeds),)))):
        seeds = plan.final_seeds[before:look]
        rounds.append([t for c in plan.contenders for t in trials(c, Stage.FINAL, seeds)])
    return rounds


def largest_round(plan: Plan) -> list[Trial]:
    """Return trials as many and as long as those of the largest round, for whoever decides how they run."""
    return max(rounds_at_most(plan), key=len)


def updates_at_most(plan: Plan) -> int:
    """Return how many updates a race does at most."""
    return sum(trial.steps for together in rounds_at_most(plan) for trial in together)


def _tuning(plan: Plan, contender: Contender) -> list[int]:
    """Return how many trials one optimizer has in each round of tuning."""
    rates, seeds = rates_of(plan, contender), len(plan.tuning_seeds)
    start = len(contender.rates) or start_of(rates, found=True)
    first = 1 if plan.halving else seeds
    halves = [math.ceil(rates / 2**done) for done in range(1, seeds)] if plan.halving else []
    return [first * start, *[first] * (rates - start), *halves]

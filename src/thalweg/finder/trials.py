"""Search for rates with trials of a task: all optimizers and seeds together, by any executor, kept in the
store."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from thalweg import schedules
from thalweg.finder.search import POINTS, Ran, Run, Search
from thalweg.records import FinderPlan, Finding, Stage, Trace
from thalweg.training.recipe import Recipe
from thalweg.training.trial import Trial

Finish = Callable[[Sequence[Trial]], list[Trace]]

BELOW: Final = 6.0  # decades below an optimizer's centre at which a sweep begins
ABOVE: Final = 2.0  # and above it at which it ends


def find(
    recipes: Mapping[str, Recipe], plan: FinderPlan, steps: int | Mapping[str, int], finish: Finish
) -> tuple[Finding, ...]:
    """Find the rate of each of several recipes at once.

    The rate is one that stays: what slows or stops a training by itself (schedule, plateau, patience) is
    left out of the trials.

    Args:
        recipes: by the name under which they run.
        plan: how many sweeps and short trainings, and how long.
        steps: updates of the training that the rate is for; of each, where they differ.
        finish: runs trials and returns their traces, in order.

    Returns:
        What was found, in the order of the recipes.
    """
    searches = []
    for name, recipe in recipes.items():
        centre = math.log10(recipe.preset.centre)
        rates = np.logspace(centre - BELOW, centre + ABOVE, plan.sweep_steps)
        searches.append(Search(name, rates, plan, steps if isinstance(steps, int) else steps[name]))
    while any(asked := [search.asks() for search in searches]):
        trials = [
            _trial(search, recipes[search.name], run)
            for search, runs in zip(searches, asked, strict=True)
            for run in runs
        ]
        traces = iter(finish(trials))
        for search, runs in zip(searches, asked, strict=True):
            if runs:
                search.takes(runs, [_ran(next(traces)) for _ in runs])
    return tuple(search.finding() for search in searches)


def _trial(search: Search, recipe: Recipe, run: Run) -> Trial:
    changes: dict[str, Any] = {"schedule": schedules.Constant(), "plateau": None, "patience": None}
    if run.stage is Stage.SWEEP:
        start = float(search.rates[0] / search.rates[-1])
        changes["schedule"] = schedules.Sweep(length=run.steps, start=start)
    trained = replace(recipe, rate=run.rate, **changes)
    points = 1 if run.stage is Stage.SWEEP else POINTS
    return Trial(search.name, run.stage, trained, run.seed, run.steps, evaluations=points)


def _ran(trace: Trace) -> Ran:
    return Ran(trace.steps, trace.losses, [(e.step, e.loss) for e in trace.evaluations])

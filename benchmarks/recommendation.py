"""What a race recommends beside the best of an exhaustive grid that costs ten times as much.

    python benchmarks/recommendation.py [--tasks digits,mnist] [--seeds 12]

Four optimizers (SGD, momentum, Adam, Lion) race as `thalweg showdown` races them, with the fewest seeds
that can decide and without schedules; every other choice is the default. The grid trains all of them at all
rates, 4 or 8 to the decade, on as many seeds as make it at least ten times as dear, counted in updates.
What the race recommends and what the grid finds best by its mean are then both trained on seeds that
neither has seen. Ranked by accuracy on validation data, as the race ranks.

Data are looked for in the folder that THALWEG_DATA names, or in ../shared/data beside the checkout.
"""

import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, stdev
from typing import Any

import click
from _common import RESULTS, conditions, markdown, show, words, write
from _finder_tasks import OPTIMIZERS, WORKS, Work, task_of
from fleet import DATA
from step import some_of
from torch import nn

import thalweg
from thalweg.api.prepare import prepare
from thalweg.evidence.recommendation import recommend
from thalweg.evidence.statistics import minimum_seeds, sign_flip_interval
from thalweg.executors import fleet
from thalweg.progress import Bar
from thalweg.records import Stage, Trace
from thalweg.tasks.metrics import accuracy
from thalweg.training.recipe import Recipe
from thalweg.training.trial import Execution, Trial, Workload

TIMES = 10  # as dear as the race is the grid, at least
FRESH = 10_000  # the first of the seeds that neither race nor grid has seen
WITHIN = 0.01  # of the accuracy


def share_right(model: nn.Module, batch: Any) -> dict[str, Any]:
    return {"accuracy": accuracy(model(batch[0]).flatten(0, -2), batch[1].flatten())}


def task(work: Work) -> Any:
    """Return the task with accuracy as its metric, where it has none."""
    given = task_of(work)
    return given if isinstance(given, str) else replace(given, metrics=share_right)


def trained(workload: Workload, recipes: Sequence[Recipe], seeds: Sequence[int], work: Work) -> list[Trace]:
    """Train recipes on seeds, measured at their ends; recipe by recipe."""
    trials = [Trial("grid", Stage.TUNING, r, s, work.steps, evaluations=1) for r in recipes for s in seeds]
    how = Execution(0, "fleet", os.cpu_count() or 1, "cpu", (), wave=work.wave)
    found: dict[tuple[str, float, int], Trace] = {}
    with Bar(work.name, len(trials) * work.steps) as bar:
        for trace in fleet.run(workload, trials, how, lambda trial: False, bar.advance):
            found[trace.recipe["optimizer"], trace.rate, trace.seed] = trace
    return [found[t.recipe.optimizer, t.recipe.rate or 0.0, t.seed] for t in trials]


def means(traces: Sequence[Trace], seeds: int) -> list[float]:
    """Return the mean accuracy of each recipe; minus infinity as soon as one seed diverged."""
    scores = [-math.inf if t.score is None else t.score for t in traces]
    return [fmean(scores[i : i + seeds]) for i in range(0, len(scores), seeds)]


def compared(work: Work, fresh_seeds: int) -> dict[str, Any]:
    """Race on one task, search its grid, and train what both recommend."""
    given, seeds = task(work), minimum_seeds(len(OPTIMIZERS))
    with tempfile.TemporaryDirectory() as folder:
        race = thalweg.showdown(
            given,
            OPTIMIZERS,
            steps=work.steps,
            batch_size=work.batch_size,
            seeds=seeds,
            schedules=(),
            out=folder,
        ).race
    advice = recommend(race)
    assert race.ledger is not None
    assert advice is not None
    spent = sum(row.steps for row in race.ledger.rows)
    prepared = prepare(given, 0, work.batch_size, None, False)
    grid = [
        Recipe(name, rate=rate, batch_size=work.batch_size)
        for name in OPTIMIZERS
        for rate in work.rates(name)
    ]
    each = math.ceil(TIMES * spent / (len(grid) * work.steps))
    found = means(trained(prepared.workload, grid, range(each), work), each)
    best = grid[found.index(max(found))]
    recipe = Recipe.from_data(advice.recipe)
    last = range(FRESH, FRESH + fresh_seeds)
    ours, theirs = ([t.score for t in trained(prepared.workload, [r], last, work)] for r in (recipe, best))
    pairs = [(a or 0.0, b or 0.0) for a, b in zip(ours, theirs, strict=True)]
    differences = [b - a for a, b in pairs]
    return {
        "task": work.title,
        "recommended": f"{recipe.optimizer} {recipe.rate:.3g}",
        "decided": advice.decided,
        "best": f"{best.optimizer} {best.rate:.3g}",
        "accuracy": fmean(a for a, _ in pairs),
        "best_accuracy": fmean(b for _, b in pairs),
        "deviation": stdev(b for _, b in pairs),
        "regret": fmean(differences),
        "interval": sign_flip_interval(differences),
        "updates": spent,
        "grid_updates": len(grid) * each * work.steps,
        "grid_trainings": len(grid) * each,
    }


def table(results: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    head = (
        "task",
        "recommended",
        "accuracy",
        "best of the grid",
        "accuracy",
        "regret",
        "95 %",
        "grid's cost",
    )
    rows = [head]
    for r in results:
        low, high = r["interval"] or (math.nan, math.nan)
        rows.append(
            (
                r["task"],
                r["recommended"] + ("" if r["decided"] else " (a tie)"),
                f"{r['accuracy']:.4f}",
                r["best"],
                f"{r['best_accuracy']:.4f}",
                f"{100 * r['regret'] / r['best_accuracy']:.2f} %",
                f"{100 * low / r['best_accuracy']:.2f} to {100 * high / r['best_accuracy']:.2f}",
                f"{r['grid_updates'] / r['updates']:.1f} × (of {r['grid_trainings']:,} trainings)",
            )
        )
    return rows


@click.command()
@click.option(
    "--tasks",
    default="digits,breast-cancer-raw,mnist,fashion",
    show_default=True,
    callback=some_of(list(WORKS), "--tasks"),
)
@click.option("--seeds", default=12, show_default=True, help="On which both are trained in the end.")
def main(tasks: list[str], seeds: int) -> None:
    """Compare what races recommend with the best of exhaustive grids."""
    os.environ.setdefault("THALWEG_DATA", str(DATA))
    where, path = conditions(os.cpu_count()), RESULTS / "recommendation.json"
    results: list[dict[str, Any]] = []
    for name in tasks:
        results.append(compared(WORKS[name], seeds))
        write(path, where, results)  # what was done is kept
    show(table(results))
    print(markdown(table(results)))
    missed = [r["task"] for r in results if r["regret"] > WITHIN * r["best_accuracy"]]
    said = f"missed on {', '.join(missed)}" if missed else "on all tasks"
    print(f"Within {100 * WITHIN:g} % of the best accuracy: {said}.")
    print(words(where))
    print(f"Results: {path.name}")


if __name__ == "__main__":
    main()

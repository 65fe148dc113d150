"""The true curve of a task and an optimizer: the validation loss after full trainings, rate by rate.

Kept in ``benchmarks/results/finder``, so that it is trained once for each version of what decides it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from _finder_tasks import FOLDER, Pair, Work, task_of
from numpy.typing import NDArray

from thalweg import seeds
from thalweg.api.prepare import Prepared, execution, identity, prepare
from thalweg.executors import fleet
from thalweg.executors.processes import workers
from thalweg.records import Outcome, Stage, Trace
from thalweg.training.measuring import measured
from thalweg.training.recipe import Recipe
from thalweg.training.trial import Trial, Workload

EVALUATIONS = 25  # at least, of the validation part: the curve is known for shorter trainings too
ROOT_SEED = 0


@dataclass(frozen=True)
class Truth:
    """What full trainings at a grid of rates reach."""

    rates: NDArray[np.float64]
    steps: NDArray[np.int64]  # updates done, evaluation by evaluation
    losses: NDArray[np.float64]  # validation loss [rate, seed, evaluation]; NaN: diverged before
    initial: NDArray[np.float64]  # validation loss of the initial weights, a seed each
    diverged: NDArray[np.bool_]  # [rate, seed]
    seconds: float

    @property
    def final(self) -> NDArray[np.float64]:
        """Validation loss at the end [rate, seed]; NaN: diverged."""
        return self.losses[:, :, -1]


def ready(work: Work) -> Prepared:
    """Read a task with the data of the root seed."""
    return prepare(task_of(work), ROOT_SEED, work.batch_size, None, False)


def truth_of(
    pair: Pair, prepared: Callable[[], Prepared], fresh: bool, progress: Callable[[int], None]
) -> Truth:
    """Return the true curve of a pair: read, or trained.

    Args:
        pair: task and optimizer.
        prepared: reads the task; not called where the curve is there.
        fresh: whether it is trained even so.
        progress: called with the number of updates that were done.
    """
    path = FOLDER / f"{pair.name}.npz"
    key = _key(pair)
    if path.exists() and not fresh:
        with np.load(path) as file:
            if str(file["key"]) == key:
                return Truth(**{name: file[name] for name in file.files if name != "key"})
    found = _trained(pair, prepared(), progress)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part.npz")
    np.savez(draft, key=key, **vars(found))
    draft.replace(path)
    return found


def _key(pair: Pair) -> str:
    """Identify a curve by what it is trained with."""
    work = pair.work
    how = [work.steps, work.batch_size, work.rates(pair.optimizer), work.seeds, EVALUATIONS, ROOT_SEED]
    return identity([pair.name, *how])


def _trained(pair: Pair, prepared: Prepared, progress: Callable[[int], None]) -> Truth:
    """Train at every rate of the grid, with every seed."""
    work, workload = pair.work, prepared.workload
    rates = work.rates(pair.optimizer)
    recipe = Recipe(pair.optimizer, batch_size=work.batch_size)
    trials = [
        Trial(pair.optimizer, Stage.TUNING, recipe.with_rate(rate), seed, work.steps, EVALUATIONS)
        for rate in rates
        for seed in range(work.seeds)
    ]
    asked = execution(ROOT_SEED, "fleet", workers(), "cpu", prepared.update_flops)
    start = time.perf_counter()
    traces = list(fleet.run(workload, trials, replace(asked, wave=work.wave), lambda trial: False, progress))
    seconds = time.perf_counter() - start
    return Truth(
        rates=np.array(rates), seconds=seconds, initial=_initial(workload, work.seeds), **_table(work, traces)
    )


def _table(work: Work, traces: list[Trace]) -> dict[str, Any]:
    """Lay out traces by rate and seed."""
    rates = sorted({trace.rate for trace in traces})
    evaluated = sorted({e.step for trace in traces for e in trace.evaluations})
    losses = np.full((len(rates), work.seeds, len(evaluated)), np.nan)
    diverged = np.zeros((len(rates), work.seeds), bool)
    for trace in traces:
        place = rates.index(trace.rate), trace.seed
        diverged[place] = trace.outcome is Outcome.DIVERGED
        for evaluation in trace.evaluations:
            if evaluation.loss is not None:
                losses[(*place, evaluated.index(evaluation.step))] = evaluation.loss
    return {"steps": np.array(evaluated), "losses": losses, "diverged": diverged}


def _initial(workload: Workload, count: int) -> NDArray[np.float64]:
    """Measure the initial weights of every seed on the validation part."""
    losses = []
    for seed in range(count):
        model = workload.task.model(seeds.derive(ROOT_SEED, "initial weights", seed)).eval()
        loss = measured(workload.task, model, workload.data.validation, lambda batch: batch)["loss"]
        losses.append(np.nan if loss is None else loss)
    return np.array(losses)

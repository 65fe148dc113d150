"""Trials as replicas of one program, a wave after the other."""

from collections.abc import Callable, Generator, Sequence
from itertools import pairwise
from typing import Any

from thalweg.executors.serial import unnoticed
from thalweg.executors.threads import torch_threads
from thalweg.records import Trace
from thalweg.tasks.user_code import isolated_random
from thalweg.training.control import Control
from thalweg.training.fleet.engine import FleetEngine
from thalweg.training.loop import Begun, conclude, train
from thalweg.training.trial import Execution, Trial, Workload


def run(
    workload: Workload,
    trials: Sequence[Trial],
    execution: Execution,
    skip: Callable[[Trial], bool],
    progress: Callable[[int], None] = unnoticed,
) -> Generator[Trace, None, None]:
    """Run those trials that are not to be skipped; yield the traces of a wave when the whole wave is done.

    Waves are cut from all trials: what was interrupted in the middle of one runs that wave again, whole, and
    ends with the same numbers.

    Args:
        workload: the task with its data.
        trials: of a round, those that are finished included.
        execution: how trials run; with the size of a wave.
        skip: tells which are finished.
        progress: called with the number of updates that were done, or are not to be done any more.
    """
    for wave in waves(trials, execution.wave):
        wanted = [trial for trial in wave if not skip(trial)]
        if wanted:
            with torch_threads(execution.threads):
                traces = run_wave(workload, wave, execution, progress)
            yield from (trace for trial, trace in zip(wave, traces, strict=True) if not skip(trial))


def waves(trials: Sequence[Trial], size: int) -> list[list[Trial]]:
    """Cut trials into waves of at most so many replicas that can be stacked.

    Trials of one seed stay together as far as they can, for they see the same batches. Waves are of about one
    size, so that none is so small that its calls cost more than what they compute.
    """
    kinds: dict[Any, list[Trial]] = {}
    for trial in trials:
        recipe = trial.recipe
        kind = (recipe.batch_size, recipe.micro_batch, recipe.precision, recipe.sampling, trial.steps)
        kinds.setdefault(kind, []).append(trial)
    cut = []
    for alike in kinds.values():
        alike = sorted(alike, key=lambda trial: trial.seed)
        count = -(-len(alike) // size)
        bounds = [round(i * len(alike) / count) for i in range(count + 1)]
        cut += [alike[a:b] for a, b in pairwise(bounds)]
    return cut


def run_wave(
    workload: Workload,
    trials: Sequence[Trial],
    execution: Execution,
    progress: Callable[[int], None] = unnoticed,
) -> list[Trace]:
    """Run trials that can be stacked as one fleet; return their traces in their order."""
    found: dict[int, Trace] = {}
    begun = Begun.now(len(trials))
    with isolated_random(0):
        engine = FleetEngine(workload, trials, execution.root, execution.device, execution.threads)
        controls = [Control(trial.recipe, workload.limits(trial)) for trial in trials]

        def on_finished(rows: Sequence[int]) -> None:
            traces = conclude(engine, rows, controls, workload, trials, execution, begun)
            found.update(zip(rows, traces, strict=True))
            progress(sum(trace.budget_steps - trace.steps for trace in traces))

        train(engine, controls, workload, on_stretch=progress, on_finished=on_finished)
    return [found[row] for row in range(len(trials))]

"""The one loop, and what surrounds it: from a trial to its trace."""

import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from thalweg.records import Evaluation, Trace
from thalweg.tasks.user_code import isolated_random
from thalweg.training.control import Control
from thalweg.training.engine import Engine, ModelEngine, Updates
from thalweg.training.measuring import Measured
from thalweg.training.trial import Execution, Trial, Workload, trial_key

AtBoundary = Callable[[Engine, int, Control], None]


class Begun(NamedTuple):
    """When trials were begun, and how many at once: each is said to have taken its share of the time."""

    clock: float
    at: datetime
    rows: int = 1

    @classmethod
    def now(cls, rows: int = 1) -> "Begun":
        """Begin now."""
        return cls(time.perf_counter(), datetime.now(UTC), rows)


def train(
    engine: Engine,
    controls: Sequence[Control],
    workload: Workload,
    *,
    at_boundary: AtBoundary | None = None,
    on_evaluation: Callable[[Sequence[int]], None] | None = None,
    on_stretch: Callable[[int], None] | None = None,
    on_finished: Callable[[Sequence[int]], None] | None = None,
) -> None:
    """Train every row of an engine until its control ends it.

    Updates are done in stretches, at whose end there is something to be decided.

    Args:
        engine: computes.
        controls: one a row; decide.
        workload: whose validation part is measured when a control asks for it.
        at_boundary: called with engine, row and control after every update and its evaluation: the only
            places where a snapshot is whole. What it raises ends the loop.
        on_evaluation: called with rows whose validation part has just been measured.
        on_stretch: called with the number of updates that were done, those of all rows together.
        on_finished: called with rows that have just finished, the last time that they are there.
    """
    live = [row for row, control in enumerate(controls) if not control.finished]
    while live:
        count = 1 if at_boundary is not None else min(controls[row].stretch() for row in live)
        updates = [Updates(row, controls[row].progress.step, controls[row].rates(count)) for row in live]
        start = time.perf_counter()
        reports = engine.update(updates)
        seconds = (time.perf_counter() - start) / (len(live) * count)
        before = sum(controls[row].progress.step for row in live)
        for row, (losses, clipped, skipped) in zip(live, reports, strict=True):
            controls[row].after_updates(losses, clipped, skipped, seconds)
        if on_stretch is not None:
            on_stretch(sum(controls[row].progress.step for row in live) - before)
        due = [row for row in live if controls[row].evaluation_due()]
        if due:
            for row, measured in zip(due, engine.measure(due, workload.data.validation), strict=True):
                if controls[row].after_evaluation(measured):
                    engine.keep(row)
            if on_evaluation is not None:
                on_evaluation(due)
        if at_boundary is not None:
            for row in live:
                at_boundary(engine, row, controls[row])
        finished = [row for row in live if controls[row].finished]
        if finished and on_finished is not None:
            on_finished(finished)
            engine.drop(finished)
        live = [row for row in live if not controls[row].finished]


def run_trial(workload: Workload, trial: Trial, execution: Execution) -> Trace:
    """Run one trial on one model and return what it left."""
    begun = Begun.now()
    with isolated_random(0):
        engine = ModelEngine(workload, trial, execution.root, execution.device)
        control = Control(trial.recipe, workload.limits(trial))
        train(engine, [control], workload)
        (trace,) = conclude(engine, [0], [control], workload, [trial], execution, begun)
        return trace


def conclude(
    engine: Engine,
    rows: Sequence[int],
    controls: Sequence[Control],
    workload: Workload,
    trials: Sequence[Trial],
    execution: Execution,
    begun: Begun,
) -> list[Trace]:
    """Measure finished rows for the last time and return their traces; controls and trials are all rows'.

    The best weights return where the recipe has a patience. The test part is read only by final and
    single trials, once, here.
    """
    for row in rows:
        engine.finish(row)
    last = [
        row for row in rows if trials[row].stage.reads_test and controls[row].final_evaluation() is not None
    ]
    train_measured = dict(zip(last, engine.measure(last, workload.data.train), strict=True)) if last else {}
    test = dict(zip(last, engine.measure(last, workload.data.test), strict=True)) if last else {}
    seconds = (time.perf_counter() - begun.clock) / begun.rows
    traces = []
    for row in rows:
        trial, progress = trials[row], controls[row].progress
        assert progress.outcome is not None
        validation = _validation(controls[row].final_evaluation())
        parameters, state_bytes = engine.size(row)
        traces.append(
            Trace(
                key=trial_key(workload, trial, execution),
                task=workload.task.name,
                contender=trial.contender,
                stage=trial.stage,
                rate=trial.recipe.rate or 0.0,
                seed=trial.seed,
                recipe=trial.recipe.to_data(),
                outcome=progress.outcome,
                steps=progress.step,
                budget_steps=trial.steps,
                initial_loss=progress.initial_loss,
                loss_steps=tuple(progress.loss_steps),
                losses=tuple(progress.losses),
                evaluations=tuple(progress.evaluations),
                score=validation.get(workload.metric),
                train=train_measured.get(row, {}),
                validation=validation,
                test=test.get(row),
                clipped_fraction=progress.clipped_updates / progress.step,
                skipped_updates=progress.skipped_updates,
                parameters=parameters,
                state_bytes_per_parameter=state_bytes / parameters,
                step_seconds=statistics.median(progress.window_seconds),
                total_seconds=seconds,
                started_at=begun.at.isoformat(timespec="seconds"),
            )
        )
    return traces


def _validation(final: Evaluation | None) -> Measured:
    return {} if final is None else {"loss": final.loss, **final.metrics}

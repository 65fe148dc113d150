"""The one loop, and what surrounds it: from a trial to its trace."""

import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import torch

from thalweg.records import Evaluation, Stage, Trace
from thalweg.tasks.user_code import isolated_random
from thalweg.training.control import Control
from thalweg.training.engine import Engine, Measured, ModelEngine, Update
from thalweg.training.trial import Execution, Trial, Workload, trial_key

AtBoundary = Callable[[Engine, int, Control], None]


def train(
    engine: Engine,
    controls: Sequence[Control],
    workload: Workload,
    at_boundary: AtBoundary | None = None,
) -> None:
    """Train every row of an engine until its control ends it.

    Args:
        engine: computes.
        controls: one a row; decide.
        workload: whose validation part is measured when a control asks for it.
        at_boundary: called with engine, row and control after every update and its evaluation: the only
            places where a snapshot is whole. What it raises ends the loop.
    """
    live = [row for row, control in enumerate(controls) if not control.finished]
    while live:
        updates = [Update(row, controls[row].progress.step, controls[row].rate()) for row in live]
        start = time.perf_counter()
        reports = engine.update(updates)
        seconds = (time.perf_counter() - start) / len(live)
        for row, report in zip(live, reports, strict=True):
            controls[row].after_update(report.loss, report.clipped, seconds, report.skipped)
        due = [row for row in live if controls[row].evaluation_due()]
        if due:
            for row, measured in zip(due, engine.measure(due, workload.data.validation), strict=True):
                if controls[row].after_evaluation(measured):
                    engine.keep(row)
        if at_boundary is not None:
            for row in live:
                at_boundary(engine, row, controls[row])
        live = [row for row in live if not controls[row].finished]


def run_trial(workload: Workload, trial: Trial, execution: Execution) -> Trace:
    """Run one trial on one model and return what it left."""
    clock, started = time.perf_counter(), datetime.now(UTC)
    with isolated_random(0):
        engine = ModelEngine(workload, trial, execution.root, execution.device)
        control = Control(trial.recipe, workload.limits(trial))
        train(engine, [control], workload)
        return conclude(engine, 0, control, workload, trial, execution, clock, started)


def conclude(
    engine: ModelEngine,
    row: int,
    control: Control,
    workload: Workload,
    trial: Trial,
    execution: Execution,
    clock: float,
    started: datetime,
) -> Trace:
    """Measure a finished row for the last time and return its trace.

    The best weights return where the recipe has a patience. The test part is read only by final and
    single trials, once, here.
    """
    progress = control.progress
    assert progress.outcome is not None
    engine.finish(row)
    final = control.final_evaluation()
    train_measured: Measured = {}
    test: Measured | None = None
    if final is not None and trial.stage is not Stage.TUNING:
        (train_measured,) = engine.measure([row], workload.data.train)
        (test,) = engine.measure([row], workload.data.test)
    validation = _validation(final)
    count = sum(p.numel() for p in engine.parameters)
    return Trace(
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
        train=train_measured,
        validation=validation,
        test=test,
        clipped_fraction=progress.clipped_updates / progress.step,
        skipped_updates=progress.skipped_updates,
        parameters=count,
        state_bytes_per_parameter=_state_bytes(engine.optimizer) / count,
        step_seconds=statistics.median(progress.window_seconds),
        total_seconds=time.perf_counter() - clock,
        started_at=started.isoformat(timespec="seconds"),
    )


def _validation(final: Evaluation | None) -> Measured:
    return {} if final is None else {"loss": final.loss, **final.metrics}


def _state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Return the bytes of all buffers; step counts are left out."""
    return sum(
        tensor.numel() * tensor.element_size()
        for state in optimizer.state.values()
        for name, tensor in state.items()
        if name not in ("step", "trained")
    )

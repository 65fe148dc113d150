"""The loop against an ordinary PyTorch loop written by hand, and what a trial leaves behind."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from small_tasks import (
    BATCH,
    EXECUTION,
    ROOT,
    TRAIN,
    cliff,
    dropout,
    linear,
    logistic,
    overflowing,
    recipe,
    trained,
    trial,
    weights,
    workload,
)
from thalweg import schedules, seeds
from thalweg.errors import TaskError
from thalweg.executors import serial
from thalweg.records import Direction, Outcome, Stage, Trace, from_data, to_data
from thalweg.tasks.user_code import isolated_random
from thalweg.training.engine import ModelEngine
from thalweg.training.loop import Begun, conclude, run_trial
from thalweg.training.recipe import Plateau, Recipe
from thalweg.training.trial import Trial, Workload

EPOCHS = 3
TORCH: dict[str, Any] = {
    "sgd": torch.optim.SGD,
    "momentum": lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9),
    "nesterov": lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9, nesterov=True),
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "amsgrad": lambda p, lr: torch.optim.Adam(p, lr, amsgrad=True),
    "adamw": torch.optim.AdamW,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "cosine": {"schedule": schedules.Cosine()},
    "clip_norm": {"wrappers": {"clip_norm": 0.5}},
    "clip_value": {"wrappers": {"clip_value": 0.2}},
    "all three": {"schedule": schedules.Cosine(), "wrappers": {"clip_value": 0.2, "clip_norm": 0.5}},
}


def by_hand(work: Workload, how: Recipe, seed: int) -> tuple[nn.Module, list[float]]:
    """Train as one does without Thalweg; return the model and the loss of every update."""
    torch.manual_seed(seeds.derive(ROOT, "initial weights", seed))
    model = work.task.make_model().double()
    optimizer = TORCH[how.optimizer](model.parameters(), lr=how.rate)
    updates = EPOCHS * -(-TRAIN // BATCH)
    scheduler = None
    if isinstance(how.schedule, schedules.Cosine):
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=updates)
    x, y = work.data.train.batch(np.arange(TRAIN))
    x, y = x.double(), y.double() if y.is_floating_point() else y
    losses = []
    for epoch in range(EPOCHS):
        for rows in torch.as_tensor(seeds.order(ROOT, seed, epoch, TRAIN)).split(BATCH):
            optimizer.zero_grad()
            loss = work.task.loss(model, (x[rows], y[rows]))
            loss.backward()
            if "clip_value" in how.wrappers:
                nn.utils.clip_grad_value_(model.parameters(), how.wrappers["clip_value"]["limit"])
            if "clip_norm" in how.wrappers:
                nn.utils.clip_grad_norm_(model.parameters(), how.wrappers["clip_norm"]["limit"])
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
            losses.append(loss.item())
    return model, losses


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("optimizer", TORCH)
def test_the_loop_is_an_ordinary_pytorch_loop(optimizer: str, variant: str) -> None:
    work = workload(logistic() if variant == "plain" else linear())
    how = recipe(optimizer, 0.05, precision="float64", **VARIANTS[variant])
    model, losses = by_hand(work, how, seed=2)
    engine, control = trained(work, trial(how, len(losses), seed=2))

    # float64 on both sides; the trajectory's scale is 1, its length 15 updates
    assert control.progress.losses == pytest.approx(losses, rel=1e-12, abs=1e-12)
    for ours, theirs in zip(weights(engine), model.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    if variant.startswith("clip"):
        assert control.progress.clipped_updates > 0


def run(work: Workload, how: Recipe, steps: int, stage: Stage = Stage.SINGLE, seed: int = 0) -> Trace:
    return run_trial(work, Trial(how.optimizer, stage, how, seed, steps), EXECUTION)


def remeasured(engine: ModelEngine, work: Workload) -> dict[str, Any]:
    with isolated_random(0):
        (measured,) = engine.measure([0], work.data.validation)
    return dict(measured)


def test_early_stopping_brings_the_best_weights_back_and_reads_the_score_there() -> None:
    work = workload(logistic())
    work = replace(work, metric="loss", direction=Direction.LOWER)
    how = recipe("momentum", 0.9, patience=3)  # a rate at which the validation loss swings
    one = trial(how, 200)
    engine, control = trained(work, one)
    seen = [e.loss for e in control.progress.evaluations]
    last = remeasured(engine, work)
    trace = run(work, how, 200)

    assert control.progress.outcome is Outcome.STOPPED_EARLY
    best = min(x for x in seen if x is not None)
    assert seen.index(best) == len(seen) - 4  # three without gain after it
    assert last["loss"] == seen[-1] != best

    with isolated_random(0):
        (concluded,) = conclude(engine, [0], [control], work, [one], EXECUTION, Begun.now())
    assert remeasured(engine, work)["loss"] == best  # recomputed from the restored weights
    assert concluded.score == trace.score == best == trace.validation["loss"]
    assert trace.steps == control.progress.step < 200
    for part in ("train", "test"):
        with isolated_random(0):
            (again,) = engine.measure([0], getattr(work.data, part))
        assert getattr(trace, part) == again


def test_without_patience_the_score_is_read_at_the_end() -> None:
    work = workload(logistic())
    trace = run(work, recipe("momentum", 0.9), 30)

    assert trace.outcome is Outcome.COMPLETED
    assert trace.validation == {"loss": trace.evaluations[-1].loss, **trace.evaluations[-1].metrics}
    assert trace.score == trace.validation["accuracy"]


def test_plateau_lowers_the_rates_of_a_real_run_as_torch_does_on_its_losses() -> None:
    plateau = Plateau(factor=0.5, patience=1, threshold=0.01)
    rates = []

    def note(engine: Any, row: int, control: Any) -> None:
        rates.append(engine.optimizer.param_groups[0]["lr"])

    _, control = trained(workload(linear()), trial(recipe("sgd", 0.2, plateau=plateau), 60), note)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.2)
    torchs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=1, threshold=0.01, eps=0
    )
    expected = []
    evaluated = {e.step: e.loss for e in control.progress.evaluations}
    for step in range(1, 61):
        expected.append(optimizer.param_groups[0]["lr"])
        if step in evaluated:
            torchs.step(evaluated[step])

    assert rates == expected
    assert len(set(rates)) > 3


def valid_json(trace: Trace) -> bool:
    """Whether a trace is JSON that has no NaN and comes back as it was."""
    return from_data(Trace, json.loads(json.dumps(to_data(trace), allow_nan=False))) == trace


def test_a_loss_that_grows_without_bounds_ends_as_diverged_and_nothing_is_measured() -> None:
    work = workload(linear())
    trace = run(work, recipe("sgd", 3.0), 1000)

    assert trace.outcome is Outcome.DIVERGED
    assert trace.steps < 100
    assert (trace.score, trace.test, trace.train, trace.validation) == (None, None, {}, {})
    assert trace.initial_loss is not None
    assert valid_json(trace)


def test_a_loss_that_overflows_ends_as_diverged() -> None:
    trace = run(workload(linear()), recipe("sgd", 1e30), 100)  # evaluated every 5 updates

    assert (trace.outcome, trace.score, trace.losses[-1]) == (Outcome.DIVERGED, None, None)
    assert valid_json(trace)


@pytest.mark.parametrize("patience", [None, 5])
@pytest.mark.parametrize(("steps", "noticed"), [(1, 1), (50, 2)])  # by the evaluation; by the next update
def test_a_loss_that_is_no_number_ends_as_diverged(steps: int, noticed: int, patience: int | None) -> None:
    trace = run(workload(cliff()), recipe("sgd", 1.0, patience=patience), steps)

    assert (trace.outcome, trace.steps) == (Outcome.DIVERGED, noticed)
    assert (trace.score, trace.test) == (None, None)
    assert [e.loss for e in trace.evaluations] == [None] * (noticed == 1)
    assert valid_json(trace)


def test_where_an_update_is_skipped_nothing_moves_and_the_schedule_stands_still() -> None:
    """Two epochs of five updates; the last batch of each holds the example that overflows."""
    how = recipe(
        "momentum", 1e-3, sampling="in order", schedule=schedules.Cosine(), wrappers={"skip_nonfinite": {}}
    )
    rates: list[float] = []
    states: list[list[torch.Tensor]] = []

    def watch(engine: Any, row: int, control: Any) -> None:
        rates.append(engine.optimizer.param_groups[0]["lr"])
        states.append([*engine.snapshot(row).values()][:-2])  # without the counts of skips

    _, control = trained(workload(overflowing()), trial(how, 10), watch)

    places = [0, 1, 2, 3, 4, 4, 5, 6, 7, 8]
    assert rates == pytest.approx([1e-3 * (1 + math.cos(math.pi * i / 10)) / 2 for i in places], rel=1e-12)
    held = [i for i in range(1, 10) if all(map(torch.equal, states[i], states[i - 1]))]
    assert held == [4, 9]
    assert control.progress.skipped_updates == 2
    assert control.progress.losses[4] is control.progress.losses[9] is None


def test_a_trial_of_which_too_many_updates_in_a_row_are_skipped_has_diverged() -> None:
    work = workload(linear())
    work = replace(work, data=linear(scale=1e30).data(ROOT))
    how = recipe("adam", 0.1, wrappers={"skip_nonfinite": 3})
    trace = run(work, how, 100)

    assert (trace.outcome, trace.steps, trace.skipped_updates) == (Outcome.DIVERGED, 3, 2)
    assert (trace.score, trace.test) == (None, None)
    assert valid_json(trace)


def test_a_trial_that_ends_inside_the_first_window_of_its_curve_still_has_one() -> None:
    how = Recipe("sgd", 0.0001, batch_size="all", patience=1)
    work = workload(linear())
    worse = replace(work, direction=Direction.HIGHER)  # so that every evaluation is worse than the first
    trace = run(worse, how, 2000)  # windows of 10 updates

    assert (trace.outcome, trace.steps, trace.loss_steps) == (Outcome.STOPPED_EARLY, 2, (2,))
    assert trace.step_seconds is not None
    assert trace.step_seconds > 0


def test_the_test_part_is_read_by_final_and_single_trials_only() -> None:
    work = workload(logistic())
    traces = {stage: run(work, recipe(), 5, stage) for stage in Stage}

    assert traces[Stage.TUNING].test is None
    assert traces[Stage.TUNING].train == {}
    assert traces[Stage.TUNING].score is not None
    assert traces[Stage.FINAL].test == traces[Stage.SINGLE].test != None  # noqa: E711
    assert set(traces[Stage.FINAL].train) == {"loss", "accuracy"}


@pytest.mark.parametrize(
    ("optimizer", "bytes_of_state"),
    [("sgd", 0), ("momentum", 4), ("rmsprop", 4), ("adam", 8), ("amsgrad", 12)],
)
def test_a_trace_says_what_was_run_and_what_it_took(optimizer: str, bytes_of_state: int) -> None:
    work, how = workload(dropout()), recipe(optimizer, 0.01, wrappers={"clip_norm": 1e-9})
    trace = run(work, how, 12, seed=3)

    assert (trace.contender, trace.stage, trace.rate, trace.seed) == (optimizer, Stage.SINGLE, 0.01, 3)
    assert Recipe.from_data(trace.recipe) == how
    assert (trace.steps, trace.budget_steps, trace.outcome) == (12, 12, Outcome.COMPLETED)
    assert trace.parameters == 3 * 8 + 8 + 8 * 3 + 3
    assert trace.state_bytes_per_parameter == bytes_of_state
    assert trace.clipped_fraction == 1.0
    assert [e.step for e in trace.evaluations] == [*range(1, 13)]
    assert trace.evaluations[4].epoch == 1.0
    assert trace.loss_steps == (*range(1, 13),)
    assert valid_json(trace)


def test_an_error_of_the_persons_code_in_the_middle_of_training_is_shown_as_theirs() -> None:
    calls = 0

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        nonlocal calls
        calls += model.training
        if calls > 5:
            raise KeyError("gone")
        return model(batch[0]).mean()

    work = workload(linear())
    with pytest.raises(TaskError) as refusal:
        run(replace(work, task=replace(work.task, loss=loss)), recipe(), 10)
    assert "training of linear must run without an error; got KeyError: 'gone'." in str(refusal.value)
    assert 'raise KeyError("gone")' in str(refusal.value)


def test_the_executor_yields_the_traces_in_the_order_of_the_trials_each_as_it_is_there() -> None:
    work = workload(linear())
    trials = [trial(recipe("sgd", rate), 5, seed) for rate in (0.1, 0.01) for seed in (1, 0)]
    running = serial.run(work, trials, EXECUTION, lambda trial: False)

    assert next(running).seed == 1
    assert [(t.rate, t.seed) for t in running] == [(0.1, 0), (0.01, 1), (0.01, 0)]

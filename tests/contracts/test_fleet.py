"""A fleet computes what each of its trials computes alone, whatever the rule and whatever surrounds it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from small_tasks import (
    EXECUTION,
    ROOT,
    batch_norm,
    dataset,
    dictionary,
    frozen,
    linear,
    logistic,
    network,
    overflowing,
    three_layers,
    workload,
)
from thalweg.records import Outcome, Stage, Trace
from thalweg.rules.catalogue import RULES
from thalweg.rules.wrappers import WRAPPERS
from thalweg.schedules import Cosine
from thalweg.tasks import Task
from thalweg.tasks.user_code import isolated_random
from thalweg.training.control import Control
from thalweg.training.fleet.engine import FleetEngine
from thalweg.training.loop import Begun, conclude, run_trial, train
from thalweg.training.recipe import Plateau, Recipe
from thalweg.training.trial import Trial, Workload

STEPS = 200
# How much rounding grows in a training is measured on that training, alone: from initial weights that differ
# by so much. Rounding to float64 errs a thousandth of that in each operation, in hundreds of steps of tens of
# operations; the margin is for what a single disturbance does not show.
DISTURBANCE, MARGIN, LEAST = 1e-13, 30.0, 1e-12


def trials(optimizer: str, rates: Sequence[float], steps: int = STEPS, **fields: Any) -> list[Trial]:
    fields = {"batch_size": 5, "precision": "float64", **fields}
    return [
        Trial(optimizer, Stage.SINGLE, Recipe(optimizer, rate, **fields), seed, steps)
        for rate in rates
        for seed in (1, 0)
    ]


def in_fleet(work: Workload, asked: Sequence[Trial], **options: Any) -> list[Trace]:
    """Run trials as one fleet; traces in their order."""
    found: dict[int, Trace] = {}
    begun = Begun.now(len(asked))
    with isolated_random(0):
        engine = FleetEngine(work, asked, ROOT, **options)
        controls = [Control(t.recipe, work.limits(t)) for t in asked]

        def on_finished(rows: Sequence[int]) -> None:
            traces = conclude(engine, rows, controls, work, asked, EXECUTION, begun)
            found.update(zip(rows, traces, strict=True))

        train(engine, controls, work, on_finished=on_finished)
    return [found[row] for row in range(len(asked))]


def disturbed(task: Task) -> Task:
    """The same task from weights that differ by rounding."""

    def make_model() -> nn.Module:
        model = task.make_model().double()
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(1 + DISTURBANCE * torch.randn(p.shape, dtype=torch.float64))
        return model

    return dataclasses.replace(task, make_model=make_model)


def numbers(trace: Trace) -> np.ndarray:
    """All that a trace has measured."""
    parts = (trace.validation, trace.train, trace.test or {})
    return np.array([*trace.losses, *(x for part in parts for x in part.values())], float)


def assert_same(fleet: Trace, alone: Trace, other: Trace) -> None:
    """Compare a trial of a fleet with the same alone, by how far one strays that began otherwise."""
    assert (fleet.contender, fleet.rate, fleet.seed) == (alone.contender, alone.rate, alone.seed)
    assert (fleet.outcome, fleet.steps, fleet.loss_steps) == (alone.outcome, alone.steps, alone.loss_steps)
    assert (fleet.clipped_fraction, fleet.skipped_updates) == (alone.clipped_fraction, alone.skipped_updates)
    assert fleet.state_bytes_per_parameter == alone.state_bytes_per_parameter
    assert fleet.parameters == alone.parameters
    assert fleet.validation.keys() == alone.validation.keys()
    assert fleet.train.keys() == alone.train.keys()
    mine, theirs, astray = numbers(fleet), numbers(alone), numbers(other)
    assert (np.isnan(mine) == np.isnan(theirs)).all()
    scale = np.nanmax(np.abs(theirs))
    allowed = MARGIN * np.fmax.accumulate(np.abs(astray - theirs)) + LEAST * scale
    off = np.abs(mine - theirs)
    worst = np.nanargmax(off / allowed)
    assert not (off > allowed).any(), f"number {worst}: {off[worst]} off, where {allowed[worst]} is rounding"


def assert_as_alone(task: Task, asked: Sequence[Trial]) -> list[Trace]:
    work = workload(task)
    other = dataclasses.replace(work, task=disturbed(task))
    fleet = in_fleet(work, asked)
    for mine, one in zip(fleet, asked, strict=True):
        assert_same(mine, run_trial(work, one, EXECUTION), run_trial(other, one, EXECUTION))
    return fleet


def rates_of(rule: str) -> tuple[float, float]:
    centre = RULES[rule].defaults()["lr"]
    return centre, centre / 3


@pytest.mark.parametrize("rule", [name for name in RULES if name != "sparse-adam"])
def test_every_rule_with_a_schedule_and_clipping(rule: str) -> None:
    # Muon's bfloat16 rounds to 1e-3. SOAP's bases are not unique where a gradient has less than full rank:
    # the errors of three classes have rank 2, and so has a matrix 2 × 2.
    given = {"precision": "parameter"} if rule == "muon" else {}
    task = three_layers(width=2 if rule == "soap" else 6)
    size = 22 if rule == "soap" else 5
    asked = trials(
        rule,
        rates_of(rule),
        hyperparameters=given,
        batch_size=size,
        schedule=Cosine(),
        wrappers={"clip_norm": 0.5},
    )
    fleet = assert_as_alone(task, asked)
    assert all(t.outcome is Outcome.COMPLETED for t in fleet)


@pytest.mark.parametrize("wrapper", list(WRAPPERS))
@pytest.mark.parametrize("rule", ["adam", "momentum", "muon"])
def test_every_wrapper(rule: str, wrapper: str) -> None:
    rate = {"adam": 0.01, "momentum": 0.02, "muon": 0.01}[rule]
    given = {"precision": "parameter"} if rule == "muon" else {}
    asked = trials(rule, (rate, rate / 3), 60, hyperparameters=given, wrappers={wrapper: {}})
    assert_as_alone(three_layers(), asked)


CASES: dict[str, tuple[Any, list[Trial]]] = {
    "batch norm": (batch_norm, trials("adam", (0.05, 0.01), 60)),
    "batch norm, ema, patience": (
        batch_norm,
        trials("adam", (0.5, 0.05), 60, patience=4, wrappers={"ema": {"memory": 0.5}}),
    ),
    "batch norm, schedule-free": (batch_norm, trials("schedule-free-sgd", (0.5, 0.1), 60)),
    "batch norm, sam": (batch_norm, trials("adam", (0.05,), 60, wrappers={"sam": 0.05})),
    "batch norm, sophia-g": (batch_norm, trials("sophia-g", (0.01,), 60)),
    "class weights, accumulation": (logistic, trials("adam", (0.1, 0.01), 60, batch_size=10, micro_batch=4)),
    "accumulation, sophia-h": (network, trials("sophia-h", (0.01,), 60, batch_size=10, micro_batch=4)),
    "accumulation, sam": (
        network,
        trials("momentum", (0.05,), 60, batch_size=10, micro_batch=4, wrappers={"sam": 0.05}),
    ),
    "all at once": (dictionary, trials("adam", (0.1, 0.01), 60, batch_size="all")),
    "frozen and unused parameters": (frozen, trials("adamw", (0.1, 0.01), 60)),
    "items that draw random numbers": (dataset, trials("rmsprop", (0.01, 0.001), 60)),
    "plateau": (logistic, trials("nesterov", (0.5, 0.05), 60, plateau=Plateau(patience=1, threshold=0.1))),
    "patience": (linear, trials("momentum", (0.9, 0.01), 100, patience=3)),
    "with replacement": (linear, trials("adam", (0.1,), 60, sampling="with replacement")),
    "skipping": (
        overflowing,
        trials("adam", (0.1, 0.01), 60, wrappers={"skip_nonfinite": 3}, schedule=Cosine()),
    ),
    "several rules": (
        network,
        [
            *trials("adam", (0.01, 0.001), 60),
            *trials("momentum", (0.1, 0.01), 60, schedule=Cosine()),
            *trials("adam", (0.1,), 60, wrappers={"clip_norm": 0.1}),
            *trials("adam", (0.1,), 60, hyperparameters={"betas": (0.5, 0.9)}),
            *trials("lion", (0.001,), 60),
            *trials("schedule-free-adamw", (0.01,), 60),
        ],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_whatever_surrounds_a_rule(case: str) -> None:
    task, asked = CASES[case]
    assert_as_alone(task(), asked)

"""What every trial promises, whatever its recipe: one table, and each row keeps every promise.

The same numbers twice; a snapshot after any update from which the rest is the same to the bit, through the
file and in another process; nothing left behind in the process.
"""

import dataclasses
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from small_tasks import (
    EXECUTION,
    batch_norm,
    cliff,
    dataset,
    dictionary,
    dropout,
    frozen,
    linear,
    logistic,
    network,
    numbers,
    overflowing,
    recipe,
    three_layers,
    trained,
    trial,
    weights,
    workload,
)
from thalweg import schedules
from thalweg.executors import serial
from thalweg.records import Trace, from_data, to_data
from thalweg.rules.catalogue import CATALOGUE
from thalweg.tasks import Task
from thalweg.training import snapshot
from thalweg.training.control import Control, Progress, progress_to_data
from thalweg.training.engine import Engine, ModelEngine
from thalweg.training.recipe import Plateau, Recipe
from thalweg.training.trial import Trial, Workload, trial_key


@dataclass(frozen=True)
class Case:
    task: Callable[[], Task]
    recipe: Recipe
    steps: int = 12  # two epochs and two updates


CASES: dict[str, Case] = {
    "sgd": Case(linear, recipe("sgd", 0.1)),
    "dropout, momentum, cosine": Case(dropout, recipe("momentum", 0.05, schedule=schedules.Cosine())),
    "batch norm, adam": Case(batch_norm, recipe("adam", 0.05)),
    "adamw in float64, clipped": Case(
        dropout, recipe("adamw", 0.05, precision="float64", wrappers={"clip_norm": 0.5})
    ),
    "adagrad, with replacement": Case(
        linear, recipe("adagrad", 0.1, {"initial_accumulator_value": 0.5}, sampling="with replacement")
    ),
    "rmsprop, random items, in order": Case(
        dataset, recipe("rmsprop", 0.01, {"centered": True}, sampling="in order")
    ),
    "plateau": Case(logistic, recipe("nesterov", 0.5, plateau=Plateau(patience=1, threshold=0.1))),
    "patience, batch norm": Case(batch_norm, recipe("adam", 0.5, patience=4), 40),
    "accumulation": Case(logistic, recipe("adam", 0.1, batch_size=10, micro_batch=4)),
    "accumulation, dropout, clipped by value": Case(
        dropout, recipe("momentum", 0.1, batch_size=10, micro_batch=3, wrappers={"clip_value": 0.01})
    ),
    "all at once, clock of examples": Case(
        dictionary,
        recipe("amsgrad", 0.1, batch_size="all", schedule=schedules.Linear(clock="examples")),
    ),
    "sam, accumulation, momentum": Case(
        network, recipe("momentum", 0.05, batch_size=10, micro_batch=4, wrappers={"sam": 0.05})
    ),
    "sam, batch norm": Case(batch_norm, recipe("adam", 0.05, wrappers={"sam": 0.05})),
    "ema, batch norm, patience": Case(
        batch_norm, recipe("adam", 0.5, patience=4, wrappers={"ema": {"memory": 0.5}}), 40
    ),
    "swa, batch norm": Case(batch_norm, recipe("sgd", 0.1, wrappers={"swa": {"start": 3, "every": 2}})),
    "lookahead, cautious": Case(
        dropout, recipe("lion", 0.01, wrappers={"lookahead": {"every": 5}, "cautious": {}})
    ),
    "schedule-free, patience": Case(linear, recipe("schedule-free-adamw", 0.5, patience=4), 40),
    "schedule-free, batch norm": Case(batch_norm, recipe("schedule-free-sgd", 0.5)),
    "asgd": Case(linear, recipe("asgd", 0.1, {"t0": 2.0})),
    "prodigy": Case(dropout, recipe("prodigy", 1.0, schedule=schedules.Cosine())),
    "dadapt-sgd": Case(linear, recipe("dadapt-sgd", 1.0)),
    "muon, cosine": Case(three_layers, recipe("muon", 0.02, schedule=schedules.Cosine())),
    "soap": Case(three_layers, recipe("soap", 0.01, {"update_every": 3})),
    "sophia-h, accumulation": Case(
        network, recipe("sophia-h", 0.01, {"update_every": 3}, batch_size=10, micro_batch=4)
    ),
    "sophia-g, batch norm": Case(batch_norm, recipe("sophia-g", 0.01, {"update_every": 3})),
    "nadam": Case(dropout, recipe("nadam", 0.01)),
    "skipping": Case(
        overflowing, recipe("adam", 0.1, wrappers={"skip_nonfinite": 3}, schedule=schedules.Cosine())
    ),
    "skipping too often": Case(
        overflowing, recipe("sophia-h", 0.1, {"update_every": 1}, wrappers={"skip_nonfinite": 1})
    ),
    "frozen and unused parameters": Case(frozen, recipe("adamw", 0.1, {"weight_decay": 0.1})),
    "diverged": Case(cliff, recipe("sgd", 0.2), 40),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def run(work: Workload, one: Trial) -> Trace:
    (trace,) = serial.run(work, [one], EXECUTION, lambda trial: False)
    return trace


def without_seconds(progress: Progress) -> dict[str, Any]:
    return {name: value for name, value in progress_to_data(progress).items() if "seconds" not in name}


def everything(engine: ModelEngine, control: Control) -> tuple[dict[str, bytes], dict[str, Any]]:
    """All that a trial has come to, with every tensor as its bytes: −0.0 is not 0.0 here."""
    tensors = {f"model {name}": t for name, t in engine.model.state_dict().items()}
    tensors |= {f"kept {name}": t for name, t in engine.kept.items()}
    for place, state in engine.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer {place} {name}": t for name, t in state.items()}
    numbers_of = {name: t.detach().numpy().tobytes() for name, t in tensors.items()}
    return numbers_of, without_seconds(control.progress)


@every_case
def test_the_same_seed_gives_the_same_numbers_twice_and_another_seed_others(case: Case) -> None:
    first, second = workload(case.task()), workload(case.task())
    traces = [run(first, trial(case.recipe, case.steps)), run(second, trial(case.recipe, case.steps))]
    other = numbers(run(first, trial(case.recipe, case.steps, seed=1)))

    assert numbers(traces[0]) == numbers(traces[1])
    if case.task is not cliff:  # which has one start and the same loss for every batch
        assert other["losses"] != numbers(traces[0])["losses"]


@every_case
def test_a_snapshot_after_any_update_goes_on_as_if_nothing_had_happened(case: Case, tmp_path: Path) -> None:
    work, one = workload(case.task()), trial(case.recipe, case.steps)
    key = trial_key(work, one, EXECUTION)

    def keep(engine: Engine, row: int, control: Control) -> None:
        path = tmp_path / str(control.progress.step)
        snapshot.write(path, engine.snapshot(row), control.progress, key)

    expected = everything(*trained(work, one, keep))
    taken = sorted(int(p.name) for p in tmp_path.iterdir())

    assert taken == [*range(1, taken[-1] + 1)]
    assert taken[-1] == expected[1]["step"]
    for step in taken:
        tensors, progress = snapshot.read(tmp_path / str(step), key)
        assert progress.step == step
        assert everything(*trained(work, one, snapshot=tensors, progress=progress)) == expected


def test_the_table_holds_what_it_is_meant_to_hold() -> None:
    """Early stopping, a lowered rate, divergence, clipping, skips: they occur in the cases named so."""
    ends = {
        name: trained(workload(case.task()), trial(case.recipe, case.steps)) for name, case in CASES.items()
    }
    progress = {name: control.progress for name, (_, control) in ends.items()}

    assert {n: p.outcome.value for n, p in progress.items() if p.outcome and p.outcome != "completed"} == {
        "patience, batch norm": "stopped early",
        "ema, batch norm, patience": "stopped early",
        "schedule-free, patience": "stopped early",
        "skipping too often": "diverged",
        "diverged": "diverged",
    }
    assert progress["skipping"].skipped_updates == 2
    assert progress["plateau"].plateau_factor < 1
    assert ends["patience, batch norm"][0].kept["1.running_mean"].abs().sum() > 0
    assert 0 < progress["adamw in float64, clipped"].clipped_updates < 12
    assert progress["accumulation, dropout, clipped by value"].clipped_updates > 0


@every_case
def test_a_trace_is_json_without_nan_and_comes_back_as_it_was(case: Case) -> None:
    trace = run(workload(case.task()), trial(case.recipe, case.steps))

    assert from_data(Trace, json.loads(json.dumps(to_data(trace), allow_nan=False))) == trace


@every_case
def test_a_trial_leaves_nothing_behind_in_the_process(case: Case) -> None:
    work = workload(case.task())
    torch.set_num_threads(2)
    try:
        before = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())  # type: ignore[index, union-attr]
        run(work, trial(case.recipe, case.steps))
        after = (torch.get_rng_state(), np.random.get_state()[1], random.getstate())  # type: ignore[index]
        threads = torch.get_num_threads()
    finally:
        torch.set_num_threads(1)

    assert torch.equal(before[0], after[0])
    assert np.array_equal(before[1], after[1])
    assert before[2] == after[2]
    assert threads == 2
    assert torch.is_grad_enabled()


def test_initial_weights_and_order_are_the_same_for_every_optimizer() -> None:
    """Common random numbers: what is compared differs in the optimizer alone."""
    seen: dict[str, list[Any]] = {}
    base = workload(dropout())
    for name in CATALOGUE.keys() - {"sophia-h"}:  # which measures curvature on a batch first, by the loss too
        batches: list[Any] = []

        def loss(model: Any, batch: Any, batches: list[Any] = batches) -> Any:
            if model.training:
                batches.append(batch[0].tolist())
                if len(batches) == 1:
                    batches.append([p.tolist() for p in model.parameters()])
                    batches.append(model(batch[0]).tolist())  # the same units are dropped
            return base.task.loss(model, batch)

        work = dataclasses.replace(base, task=dataclasses.replace(base.task, loss=loss))
        run(work, trial(recipe(name), 7))
        seen[name] = batches

    assert len(seen["sgd"]) == 9
    assert all(batches == seen["sgd"] for batches in seen.values())


def test_initial_weights_depend_on_the_seed_of_the_trial_and_the_root() -> None:
    work, one = workload(linear()), trial(recipe(), 1)
    starts = [
        ModelEngine(work, dataclasses.replace(one, seed=seed), root).model.weight.tolist()  # type: ignore[union-attr, operator]
        for seed, root in ((0, 7), (1, 7), (0, 8), (0, 7))
    ]

    assert starts[0] == starts[3]
    assert starts[1] not in (starts[0], starts[2])
    assert starts[0] != starts[2]


# The fifth update's batch of 10 is computed in parts of 4, 4 and 2. The process dies in the second part.
KILLED = """
import dataclasses, os, signal, sys
from pathlib import Path
from small_tasks import EXECUTION, logistic, recipe, trained, trial, workload
from thalweg.training import snapshot
from thalweg.training.trial import trial_key

path, calls = Path(sys.argv[1]), 0
work, one = workload(logistic()), trial(recipe("adam", 0.1, batch_size=10, micro_batch=4), 9)
key = trial_key(work, one, EXECUTION)

def loss(model, batch):
    global calls
    calls += model.training
    if calls == 3 + 3 + 1 + 3 + 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return logistic().loss(model, batch)

def keep(engine, row, control):
    snapshot.write(path, engine.snapshot(row), control.progress, key)

trained(dataclasses.replace(work, task=dataclasses.replace(work.task, loss=loss)), one, keep)
"""


def test_a_process_killed_in_the_middle_of_an_accumulation_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    here = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(path)],
        env={**os.environ, "PYTHONPATH": here, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == -9, done.stderr
    work, one = workload(logistic()), trial(recipe("adam", 0.1, batch_size=10, micro_batch=4), 9)
    tensors, progress = snapshot.read(path, trial_key(work, one, EXECUTION))
    assert progress.step == 4  # in the middle of an epoch of three updates
    resumed = trained(work, one, snapshot=tensors, progress=progress)

    assert everything(*resumed) == everything(*trained(work, one))
    assert [p.name for p in tmp_path.iterdir()] == ["snapshot"]


def test_a_frozen_parameter_and_one_that_the_loss_does_not_use_stay_as_they_are() -> None:
    work, one = workload(frozen()), trial(recipe("adamw", 0.1, {"weight_decay": 0.1}), 7)
    start = weights(ModelEngine(work, one, EXECUTION.root))
    engine, _ = trained(work, one)
    ends = zip(engine.model.state_dict(), start, weights(engine), strict=True)

    assert [name for name, a, b in ends if not torch.equal(a, b)] == ["0.bias", "1.weight", "1.bias"]

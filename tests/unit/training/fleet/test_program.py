"""What is traced once computes what a call computes; what is not the same in each call is called anew."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from small_tasks import (
    EXECUTION,
    ROOT,
    batch_norm,
    cross_entropy,
    dropout,
    network,
    recipe,
    trial,
    workload,
)
from thalweg.executors.fleet import run_wave
from thalweg.tasks import Task
from thalweg.tasks.user_code import isolated_random
from thalweg.training.engine import Updates
from thalweg.training.fleet.engine import FleetEngine
from thalweg.training.fleet.program import Gradients, Leaves, Unstackable
from thalweg.training.loop import run_trial
from thalweg.training.trial import Trial, Workload

FLEET = replace(EXECUTION, executor="fleet", wave=4)


@pytest.fixture(autouse=True)
def _fenced() -> Any:
    with isolated_random(0):
        yield


def asked(seeds: int = 2, steps: int = 12) -> list[Trial]:
    hows = [recipe("sgd", rate, precision="float64") for rate in (0.1, 0.03)]
    return [trial(how, steps, seed) for how in hows for seed in range(seeds)]


class Counting(nn.Module):
    """A model that warms up by counting how often it was called in training."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
        return self.inner(x) * (1 - 0.5**self.calls)


def counting() -> Task:
    return replace(network(name="counting"), make_model=Counting)


def drawing_from(draw: Callable[[], float]) -> Task:
    """A loss with noise that vmap does not know of."""

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return cross_entropy(model, batch) * (1 + draw())

    return replace(network(name="drawing"), loss=loss)


@pytest.mark.parametrize("times", [1, 2])
def test_a_model_that_counts_its_calls_counts_updates_only_in_each_fleet_anew(times: int) -> None:
    work = workload(counting())
    for _ in range(times):
        found = run_wave(work, asked(), FLEET)

    for ours, one in zip(found, asked(), strict=True):
        alone = run_trial(work, one, EXECUTION)
        # float64: the same numbers to rounding; the first count that was wrong would be off by a tenth
        assert ours.losses == pytest.approx(alone.losses, rel=1e-12)
        assert [e.loss for e in ours.evaluations] == pytest.approx(
            [e.loss for e in alone.evaluations], rel=1e-12
        )
        assert ours.test == pytest.approx(alone.test, rel=1e-12)


@pytest.mark.parametrize("draw", [random.random, lambda: float(np.random.random())], ids=["random", "numpy"])
def test_what_draws_from_other_generators_is_refused_for_all_replicas_would_get_the_same(
    draw: Callable[[], float],
) -> None:
    with pytest.raises(Unstackable, match="draws from Python's or NumPy's generators"):
        gradients_of(drawing_from(draw))


def gradients_of(task: Task) -> Gradients:
    """What computes the gradients of a fleet that has done an update."""
    work = workload(task)
    fleet = FleetEngine(work, asked(), ROOT)
    fleet.update([Updates(row, 0, [0.1]) for row in range(4)])
    (made,) = fleet._gradients.values()
    return made


@pytest.mark.parametrize(
    ("task", "pure", "draws"),
    [
        (network, True, False),
        (batch_norm, True, False),
        (dropout, True, True),
        (counting, False, False),
    ],
    ids=["plain", "batch norm", "dropout", "counting"],
)
def test_it_is_known_what_can_be_replayed_and_what_draws(
    task: Callable[[], Task], pure: bool, draws: bool
) -> None:
    made = gradients_of(task())

    assert (made.pure, made.draws) == (pure, draws)
    assert made.compiled is None or pure


def test_tracing_leaves_generators_as_they_are() -> None:
    """Else the first fleet would draw other numbers than those that follow it."""
    work = workload(dropout())
    losses = []
    for _ in range(2):
        fleet = FleetEngine(work, asked(), ROOT)
        losses.append([u.losses[0] for u in fleet.update([Updates(row, 0, [0.1]) for row in range(4)])])

    assert losses[0] == losses[1]


def test_what_one_replica_computes_does_not_depend_on_which_replicas_there_are() -> None:
    work, all_of_them = workload(network()), asked(seeds=6)
    whole = FleetEngine(work, all_of_them, ROOT)
    expected = whole.update([Updates(row, 0, [0.1]) for row in range(12)])
    for chosen in ([3], [11, 0], [5, 6, 7, 1]):
        part = FleetEngine(work, [all_of_them[row] for row in chosen], ROOT)
        found = part.update([Updates(place, 0, [0.1]) for place in range(len(chosen))])
        # float64; where torch multiplies stacks, sums may be in another order
        assert [u.losses[0] for u in found] == pytest.approx(
            [expected[row].losses[0] for row in chosen], rel=1e-14
        )


def test_a_parameter_that_the_loss_does_not_use_has_no_gradient_and_does_not_age() -> None:
    def make_model() -> nn.Module:
        model = nn.Sequential(nn.Linear(3, 3))
        model.register_parameter("unused", nn.Parameter(torch.ones(2)))
        return model

    work: Workload = workload(replace(network(), make_model=make_model))
    fleet = FleetEngine(work, [trial(recipe("adamw", 0.1), 10, seed) for seed in range(3)], ROOT)
    fleet.update([Updates(row, 0, [0.1]) for row in range(3)])

    (made,) = fleet._gradients.values()
    assert sorted(made.present) == ["0.bias", "0.weight"]
    assert torch.equal(fleet.stack.weights["unused"], torch.ones(3, 2))
    assert {n.split(".")[1] for n in fleet.snapshot(0) if n.startswith("optimizer.")} <= {"0", "1", "2"}
    assert sum(n.endswith(".step") for n in fleet.snapshot(0)) == 2


def test_leaves_put_a_batch_together_as_it_was_and_refuse_what_is_no_tensor() -> None:
    x, y = torch.ones(2, 3), torch.zeros(2)
    leaves = Leaves.of({"x": (x, [y])})

    assert leaves.tensors[0] is x
    assert leaves.joined([y, x]) == {"x": (y, [x])}
    with pytest.raises(Unstackable, match="its batches hold str, which has no axis of replicas"):
        Leaves.of((x, ["a", "b"]))

"""What replicas have of their own is stacked; what all share is held once, and stays what it is."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from small_tasks import EXECUTION, ROOT, batch_norm, network, recipe, trial, workload
from thalweg.executors.fleet import run_wave
from thalweg.records import Trace
from thalweg.tasks import Task
from thalweg.tasks.user_code import isolated_random
from thalweg.training.engine import ModelEngine, Updates
from thalweg.training.fleet.engine import FleetEngine
from thalweg.training.loop import run_trial
from thalweg.training.trial import Trial, Workload

FLEET = replace(EXECUTION, executor="fleet", wave=4)


@pytest.fixture(autouse=True)
def _fenced() -> Any:
    with isolated_random(0):
        yield


def asked(**fields: Any) -> list[Trial]:
    hows = [recipe("momentum", rate, **{"precision": "float64", **fields}) for rate in (0.05, 0.01)]
    return [trial(how, 12, seed) for how in hows for seed in (1, 0)]


def of(make_model: Callable[[], nn.Module], **changed: Any) -> Workload:
    return workload(replace(network(), make_model=make_model, **changed))


def assert_as_alone(work: Workload, trials: list[Trial]) -> list[Trace]:
    found = run_wave(work, trials, FLEET)
    for ours, one in zip(found, trials, strict=True):
        alone = run_trial(work, one, EXECUTION)
        assert ours.losses == pytest.approx(alone.losses, rel=1e-11)  # float64, twelve updates
        assert ours.test == pytest.approx(alone.test, rel=1e-11)
    return found


def with_frozen(fill: Callable[[Tensor], Any]) -> Callable[[], nn.Module]:
    """A model whose first layer is frozen, with weights of its own."""

    def make_model() -> nn.Module:
        first = nn.Linear(3, 8)
        with torch.no_grad():
            fill(first.weight)
            first.bias.zero_()
        first.requires_grad_(False)
        return nn.Sequential(first, nn.Tanh(), nn.Linear(8, 3))

    return make_model


def test_a_frozen_layer_that_all_share_is_held_once() -> None:
    work = of(with_frozen(lambda w: w.copy_(torch.linspace(-1, 1, 24).view(8, 3))))
    fleet = FleetEngine(work, asked(), ROOT)

    assert sorted(fleet.stack.weights) == ["2.bias", "2.weight"]
    assert fleet.stack.buffers == {}
    assert {len(x) for x in fleet.stack.weights.values()} == {4}
    assert fleet.snapshot(0).keys() == {f"model.{n}" for n in fleet.stack.shell.state_dict()}
    assert_as_alone(work, asked())


def test_a_frozen_layer_that_differs_from_seed_to_seed_is_stacked_and_stays() -> None:
    work = of(with_frozen(lambda w: nn.init.normal_(w)))
    fleet = FleetEngine(work, asked(), ROOT)
    before = {n: x.clone() for n, x in fleet.stack.buffers.items()}
    fleet.update([Updates(row, 0, [0.1]) for row in range(4)])

    assert sorted(fleet.stack.buffers) == ["0.weight"]  # the bias is 0 everywhere
    assert torch.equal(fleet.stack.buffers["0.weight"], before["0.weight"])
    assert len(before["0.weight"].unique(dim=0)) == 2  # one a seed
    assert_as_alone(work, asked())


def test_one_replica_alone_holds_what_never_changes_once() -> None:
    work = of(with_frozen(lambda w: nn.init.normal_(w)))

    assert FleetEngine(work, asked()[:1], ROOT).stack.buffers == {}
    assert_as_alone(work, asked()[:1])


class Tied(nn.Module):
    """Two layers with one weight, as an embedding and the head of a language model have."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.second(self.first(x).tanh())
        return result


def test_tied_weights_are_one_weight() -> None:
    work = of(Tied)
    fleet = FleetEngine(work, asked(), ROOT)

    assert sorted(fleet.stack.weights) == ["first.bias", "first.weight", "second.bias"]
    (trace, *_) = assert_as_alone(work, asked())
    assert trace.parameters == 15
    alone = trial_snapshot(work)
    assert fleet.snapshot(0).keys() == alone.keys()
    assert torch.equal(fleet.snapshot(0)["model.second.weight"], alone["model.second.weight"])


def trial_snapshot(work: Workload) -> dict[str, Tensor]:
    return ModelEngine(work, asked()[0], ROOT).snapshot(0)


class Kept(nn.Module):
    """Buffers of several kinds, some of which a call writes to."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)
        self.register_buffer("scale", torch.tensor(0.5, dtype=torch.float64))
        self.register_buffer("table", torch.arange(3))
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("exact", torch.zeros(3, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("lost", torch.zeros(2), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.mean.mul_(0.9).add_(0.1 * x.mean(0))
                self.exact.add_(x.mean(0).double())
                self.seen += len(x)
                self.lost.add_(1)
        shifted = self.inner(x - self.mean)[:, self.table]
        result: Tensor = shifted * self.scale.to(x.dtype) + 0.01 * self.exact.to(x.dtype)
        return result * (1 + 0.001 * self.seen)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_buffers_of_every_kind_are_kept_as_they_are_and_those_written_to_are_stacked(precision: str) -> None:
    work, trials = of(Kept), asked(precision=precision)
    fleet = FleetEngine(work, trials, ROOT)
    start = {n: x.clone() for n, x in fleet.stack.buffers.items()}
    for step in range(5):
        fleet.update([Updates(row, step, [0.1]) for row in range(4)])

    assert sorted(start) == ["exact", "lost", "mean", "seen"]
    assert all(not x.any() for x in start.values())  # looking for what is written to wrote nothing
    assert fleet.stack.buffers["seen"].tolist() == [22] * 4
    assert fleet.stack.buffers["exact"].dtype == torch.float64
    assert fleet.stack.buffers["mean"].dtype == (torch.float64 if precision == "float64" else torch.float32)
    if precision == "float64":
        assert_as_alone(work, trials)


def test_batch_norm_counts_and_averages_for_each_replica() -> None:
    work, trials = workload(batch_norm()), asked()
    fleet = FleetEngine(work, trials, ROOT)
    for step in range(3):
        fleet.update([Updates(row, step, [one.recipe.rate or 0.0]) for row, one in enumerate(trials)])

    assert sorted(fleet.stack.buffers) == ["1.num_batches_tracked", "1.running_mean", "1.running_var"]
    assert fleet.stack.buffers["1.num_batches_tracked"].tolist() == [3] * 4
    assert fleet.stack.buffers["1.num_batches_tracked"].dtype == torch.int64
    assert len(fleet.stack.buffers["1.running_mean"].unique(dim=0)) == 4


def looking_up(scale: float) -> Task:
    """A model that all replicas share a table with; only the table tells two such tasks apart."""

    def make_model() -> nn.Module:
        model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3))
        model.register_buffer("table", torch.full((3,), scale))
        return model

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0]) * model.table, batch[1])  # type: ignore[operator]

    return replace(network(), make_model=make_model, loss=loss)


def test_what_was_traced_for_other_shared_values_is_not_used() -> None:
    """One workload whose model is another one later: a table in a trace would be the old one."""
    scale = 1.0
    task = looking_up(1.0)
    inner = task.make_model

    def make_model() -> nn.Module:
        model = inner()
        model.get_buffer("table").fill_(scale)
        return model

    work = workload(replace(task, make_model=make_model))
    first = run_wave(work, asked(), FLEET)
    scale = 2.0
    second = assert_as_alone(work, asked())

    assert first[0].losses != second[0].losses

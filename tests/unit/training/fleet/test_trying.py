"""What cannot be stacked is found out by doing it, and told in words."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from small_tasks import (
    EXECUTION,
    batch_norm,
    cross_entropy,
    dataset,
    dictionary,
    dropout,
    frozen,
    linear,
    logistic,
    network,
    recipe,
    three_layers,
    trial,
    workload,
)
from thalweg.executors.fleet import run_wave
from thalweg.tasks import Task
from thalweg.tasks.user_code import isolated_random
from thalweg.training.engine import Updates
from thalweg.training.fleet.engine import FleetEngine
from thalweg.training.fleet.trying import refusal
from thalweg.training.loop import run_trial
from thalweg.training.trial import Trial

FLEET = replace(EXECUTION, executor="fleet", wave=4)


def asked(optimizer: str = "sgd") -> list[Trial]:
    return [trial(recipe(optimizer, rate), 10, seed) for rate in (0.1, 0.01) for seed in (0, 1)]


def numbers_of_python(model: nn.Module, batch: Any) -> Tensor:
    loss = cross_entropy(model, batch)
    return loss * float(loss.item() > 0)


def looking(model: nn.Module, batch: Any) -> Tensor:
    loss = cross_entropy(model, batch)
    return loss if loss > 0 else -loss


class Named(torch.utils.data.Dataset[Any]):
    """Items with a name."""

    def __len__(self) -> int:
        return 22

    def __getitem__(self, i: int) -> Any:
        return torch.randn(3, generator=torch.Generator().manual_seed(i)), i % 3, f"item {i}"


class Embedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 3, sparse=True)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.table((x[:, 0].abs() * 2).long().clamp(max=4))
        return result


class Replacing(nn.Module):
    """A running mean that is a new tensor in every call."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.5 * self.mean + x.mean(0)
        result: Tensor = self.inner(x) + self.mean
        return result


class Private(nn.Module):
    """A projection that is neither parameter nor buffer, and another one for each seed."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)
        self.projection = torch.randn(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.inner(x @ self.projection)
        return result


UNSTACKABLE: dict[str, tuple[Callable[[], Task], str]] = {
    "item": (
        lambda: replace(network(), loss=numbers_of_python),
        "it cannot be stacked: vmap: It looks like you're calling .item() on a Tensor",
    ),
    "if": (
        lambda: replace(network(), loss=looking),
        "it cannot be stacked: vmap: It looks like you're attempting to use a Tensor in some data-dependent "
        "control flow",
    ),
    "strings": (
        lambda: replace(
            network(), make_data=lambda seed: Named(), loss=lambda m, batch: cross_entropy(m, batch[:2])
        ),
        "its batches hold str, which has no axis of replicas",
    ),
    "sparse": (lambda: replace(network(), make_model=Embedding), "it cannot be stacked: "),
    "replaced": (lambda: replace(network(), make_model=Replacing), "a replica's loss is "),
    "private": (lambda: replace(network(), make_model=Private), "a replica's loss is "),
}


@pytest.mark.parametrize("case", UNSTACKABLE)
def test_what_cannot_be_stacked_is_told_in_one_sentence_without_an_end(case: str) -> None:
    task, said = UNSTACKABLE[case]

    why = refusal(workload(task()), asked(), FLEET)

    assert why is not None
    assert why.startswith(said)
    assert "\n" not in why
    assert "raised here" not in why
    assert not why.endswith((".", ":"))
    assert len(why) < 200


STACKABLE = [batch_norm, dataset, dictionary, dropout, frozen, linear, logistic, network, three_layers]


@pytest.mark.parametrize("task", STACKABLE, ids=lambda task: task.__name__)
def test_all_other_tasks_can(task: Callable[[], Task]) -> None:
    assert refusal(workload(task()), asked("adam"), FLEET) is None


def test_metrics_that_cannot_be_stacked_are_no_reason() -> None:
    def metrics(model: nn.Module, batch: Any) -> dict[str, float]:
        return {"accuracy": (model(batch[0]).argmax(1) == batch[1]).double().mean().item()}

    assert refusal(workload(replace(network(), metrics=metrics)), asked(), FLEET) is None


def test_trying_changes_nothing() -> None:
    work = workload(dropout())
    untried = run_wave(workload(dropout()), asked(), FLEET)
    before = torch.get_rng_state()
    assert refusal(work, asked(), FLEET) is None

    assert torch.equal(torch.get_rng_state(), before)
    assert [t.losses for t in run_wave(work, asked(), FLEET)] == [t.losses for t in untried]


def test_a_sparse_table_is_stacked_when_its_gradient_is_not_sparse() -> None:
    class Dense(Embedding):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(5, 3)

    work = workload(replace(network(), make_model=Dense))
    mine = [replace(t, recipe=replace(t.recipe, precision="float64")) for t in asked()]

    assert refusal(work, mine, FLEET) is None
    for ours, one in zip(run_wave(work, mine, FLEET), mine, strict=True):
        assert ours.losses == pytest.approx(run_trial(work, one, EXECUTION).losses, rel=1e-12)


def test_an_error_that_only_training_meets_is_told_as_the_persons() -> None:
    def broken(model: nn.Module, batch: Any) -> Tensor:
        raise ZeroDivisionError("no loss today")

    work = workload(network())
    work = replace(work, task=replace(work.task, loss=broken))
    with isolated_random(0), pytest.raises(Exception, match="must run without an error; got ZeroDivision"):
        FleetEngine(work, asked(), 0).update([Updates(row, 0, [0.1]) for row in range(4)])

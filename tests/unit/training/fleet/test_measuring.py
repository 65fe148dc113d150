"""Measuring replicas together: what each is measured to be alone, by compiled code as by torch."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from small_tasks import weight_of_labels, weighted_cross_entropy
from thalweg.backends import machine, replicas
from thalweg.errors import TaskError
from thalweg.tasks import Task
from thalweg.tasks.arrays import (
    classification_loss,
    classification_metrics,
    regression_loss,
    regression_metrics,
)
from thalweg.tasks.builtin.tabular import malignant_metrics
from thalweg.tasks.data import Part, TensorPart
from thalweg.tasks.models import mlp
from thalweg.training.fleet import measuring
from thalweg.training.fleet.measuring import Measurement, measured_together
from thalweg.training.fleet.program import Bound
from thalweg.training.measuring import Measured, measured

COUNT = 5
EXAMPLES = 700  # more than are measured at once: the last batch is short
CLOSE = 2e-6  # of float32: sums of hundreds of numbers


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path_factory.getbasetemp() / "replicas"))


def unlike(model: nn.Module, batch: Any) -> Mapping[str, Any]:
    """Numbers of all kinds."""
    right = model(batch[0]).argmax(-1) == batch[1]
    return {
        "examples": float(len(batch[0])),
        "right": right.sum(),
        "first": right[0],
        "share": (right.sum(), len(batch[0])),
        "certain": model(batch[0]).double().softmax(-1).max(-1).values.mean(),
        "nothing": (right.sum() * 0, torch.zeros(())),
    }


def task(last: int, loss: Any = classification_loss, metrics: Any = classification_metrics) -> Task:
    return Task(
        make_model=lambda: mlp([6, 9, last]),
        make_data=lambda seed: {},
        loss=loss,
        metrics=metrics,
        name="measured",
        source=f"measured {last}",
    )


TASKS: dict[str, Task] = {
    "classes": task(10),
    "two classes": task(2, metrics=malignant_metrics),
    "amounts": task(1, regression_loss, regression_metrics),
    "weighted": dataclasses.replace(task(3, weighted_cross_entropy), loss_weight=weight_of_labels),
    "unlike": task(4, metrics=unlike),
    "only a loss": task(10, metrics=None),
    "in place": dataclasses.replace(
        task(10), make_model=lambda: nn.Sequential(nn.Linear(6, 9), nn.ReLU(inplace=True), nn.Linear(9, 10))
    ),
}


class Replicas:
    """Models of random weights, stacked, and a part of the data for them."""

    def __init__(self, task: Task, examples: int = EXAMPLES) -> None:
        self.task = task
        self.models = [task.model(seed).eval() for seed in range(COUNT)]
        for p in self.models[1].parameters():
            p.data.zero_()  # logits that are all the same
        start = torch.Generator().manual_seed(0)
        last = list(self.models[0].parameters())[-1]
        x = torch.randn(examples, 6, generator=start)
        y = torch.randint(len(last), (examples,), generator=start)
        self.part: Part = TensorPart((x, y if len(last) > 1 else torch.randn(examples, 1, generator=start)))
        self.known: dict[Any, Measurement] = {}
        self.bound = Bound(task, task.model(9).eval())

    def measured(self, at_once: int = 10**6, threads: int = 1) -> list[Measured]:
        names = [name for name, _ in self.models[0].state_dict().items()]
        stacks = {n: torch.stack([m.state_dict()[n] for m in self.models]) for n in names}
        return measured_together(
            self.bound, self.known, stacks, self.part, lambda batch: batch, at_once, threads
        )

    def alone(self) -> list[Measured]:
        return [measured(self.task, model, self.part, lambda batch: batch) for model in self.models]

    @property
    def compiled(self) -> bool:
        return all(m.compiled is not None for m in self.known.values())


def assert_same(together: list[Measured], alone: list[Measured]) -> None:
    for mine, theirs in zip(together, alone, strict=True):
        assert list(mine) == list(theirs)
        for name, value in theirs.items():
            if name in ("loss", "mse", "r2", "certain"):
                assert mine[name] == pytest.approx(value, rel=CLOSE, abs=CLOSE), name
            else:  # counts
                assert mine[name] == value, name


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("with_torch", [False, True])
def test_replicas_are_measured_as_each_alone(
    name: str, with_torch: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if with_torch:
        monkeypatch.setattr(machine, "available", lambda: False)
    several = Replicas(TASKS[name])

    together = several.measured(at_once=2 * 512)

    assert_same(together, several.alone())
    assert several.compiled != with_torch
    assert len(several.known) == 2
    assert several.measured(at_once=2 * 512) == together


def running(model: nn.Module, batch: Any) -> Mapping[str, Any]:
    return {"highest": model(batch[0]).cumsum(0).amax()}


def counted(model: nn.Module, batch: Any) -> Mapping[str, Any]:
    calls: Any = getattr(model, "calls", 0) + 1
    model.calls = calls
    return {"calls": (float(calls > 2), 1.0)}  # beyond the batches of the first measurement


LEFT_TO_TORCH: dict[str, Task] = {
    "unknown operation": task(10, metrics=running),
    "statistics": dataclasses.replace(
        task(10), make_model=lambda: nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.Linear(9, 10))
    ),
}


@pytest.mark.parametrize("name", LEFT_TO_TORCH)
def test_what_cannot_be_compiled_is_torchs(name: str) -> None:
    several = Replicas(LEFT_TO_TORCH[name])

    together = several.measured(at_once=2 * 512)

    for mine, theirs in zip(together, several.alone(), strict=True):
        assert mine == pytest.approx(theirs, rel=CLOSE)
    assert not any(m.compiled for m in several.known.values())


def test_what_changes_from_call_to_call_is_called_in_every_measurement() -> None:
    several = Replicas(task(10, metrics=counted))

    several.measured()
    each = several.measured()

    assert not any(m.compiled or m.graphs for m in several.known.values())
    assert [one["calls"] for one in each] == [1.0] * COUNT  # as of the second measurement


def test_what_a_person_raises_is_raised() -> None:
    def metrics(model: nn.Module, batch: Any) -> Mapping[str, Any]:
        raise TaskError("the metric", "exist", "none")

    with pytest.raises(TaskError, match="the metric must exist"):
        Replicas(task(10, metrics=metrics)).measured()


@pytest.mark.parametrize("with_torch", [False, True])
def test_a_broken_replica_leaves_the_others_as_they_are(
    with_torch: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if with_torch:
        monkeypatch.setattr(machine, "available", lambda: False)
    several = Replicas(TASKS["amounts"])
    before = several.measured(threads=2)

    next(iter(several.models[2].parameters())).data[0, 0] = torch.nan
    after = several.measured()

    assert several.compiled != with_torch
    assert after[2] == {"loss": None, "r2": None, "mse": None}
    assert after[:2] + after[3:] == before[:2] + before[3:]


def test_a_wide_network_is_measured_on_fewer_examples_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    several = Replicas(dataclasses.replace(TASKS["weighted"], make_model=lambda: mlp([6, 40, 3])))
    monkeypatch.setattr(measuring, "CACHED", 160 * 2 * 4 * 40)

    together = several.measured()

    assert_same(together, several.alone())
    assert all(m.compiled and m.compiled.scratch <= 160 * 2 * 4 * 40 for m in several.known.values())
    assert 64 < max(m.examples for m in several.known.values()) < 188
    assert several.measured() == together


def test_what_does_not_fit_the_caches_is_measured_in_a_larger_area(monkeypatch: pytest.MonkeyPatch) -> None:
    several = Replicas(TASKS["classes"])
    monkeypatch.setattr(measuring, "CACHED", 64)

    assert_same(several.measured(), several.alone())
    assert all(m.compiled for m in several.known.values())
    assert {m.examples for m in several.known.values()} == {512, 188}


def test_a_network_too_wide_for_any_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    several = Replicas(TASKS["classes"])
    monkeypatch.setattr(replicas, "LARGEST_SCRATCH", 64)
    monkeypatch.setattr(measuring, "CACHED", 64)

    assert_same(several.measured(), several.alone())
    assert {m.examples for m in several.known.values()} == {512, 188}
    assert not any(m.compiled for m in several.known.values())


def test_numbers_of_float64_are_measured_in_float64() -> None:
    several = Replicas(TASKS["classes"], examples=30)
    for model in several.models:
        model.double()
    x, y = several.part.fields  # type: ignore[attr-defined]
    several.part = TensorPart((x.double(), y))

    together = several.measured()

    for mine, theirs in zip(together, several.alone(), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-13)
    assert several.compiled


def test_batches_may_be_trees_of_tensors_that_do_not_lie_densely() -> None:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        return functional.cross_entropy(model(batch["x"]), batch["y"])

    several = Replicas(dataclasses.replace(task(10, loss, None)), examples=30)
    x, y = several.part.fields  # type: ignore[attr-defined]
    several.part = TensorPart({"x": x, "y": y})
    dense = several.measured()

    def turned(batch: Any) -> Any:
        return {"x": batch["x"].T.contiguous().T, "y": batch["y"]}

    stacks = {
        n: torch.stack([m.state_dict()[n] for m in several.models]) for n in several.models[0].state_dict()
    }
    assert measured_together(several.bound, several.known, stacks, several.part, turned, 1) == dense
    assert several.compiled

"""Tasks so small that a test trains them in milliseconds, and what trains them.

Each has 22 training, 6 validation and 6 test examples of three features, drawn from a fixed stream; with
batches of 5 the last one of an epoch is short.
"""

import dataclasses
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from thalweg.records import Stage, Trace, to_data
from thalweg.tasks import Task, check_task
from thalweg.tasks.arrays import sampled_classification_loss, sampled_regression_loss
from thalweg.tasks.losses import categorical_cross_entropy, label_weight
from thalweg.tasks.metrics import accuracy
from thalweg.tasks.user_code import isolated_random
from thalweg.training.control import Control, Progress
from thalweg.training.engine import ModelEngine, Snapshot
from thalweg.training.loop import AtBoundary, train
from thalweg.training.recipe import Recipe
from thalweg.training.trial import Execution, Trial, Workload

TRAIN, BATCH = 22, 5
ROOT = 7
EXECUTION = Execution(ROOT, "serial", 1, "cpu", (("thalweg", "0"),))
CLASS_WEIGHTS = torch.tensor([1.0, 3.0, 0.25])


def inputs(scale: float = 1.0) -> np.ndarray:
    return scale * np.random.default_rng(0).normal(size=(34, 3))


def amounts() -> np.ndarray:
    """Targets that are nearly linear in the inputs."""
    noise = np.random.default_rng(1).normal(size=(34, 1))
    return inputs() @ np.array([[1.0], [-2.0], [0.5]]) + 0.5 + 0.3 * noise


def labels() -> np.ndarray:
    """Three classes, told by the inputs with some noise."""
    return (inputs() + np.random.default_rng(2).normal(size=(34, 3))).argmax(1)


def parts(*arrays: np.ndarray) -> dict[str, Any]:
    """Cut arrays into training, validation and test data."""
    rows = {"train": slice(0, TRAIN), "validation": slice(TRAIN, 28), "test": slice(28, 34)}
    return {name: tuple(a[r] for a in arrays) for name, r in rows.items()}


def squared_error(model: nn.Module, batch: Any) -> Tensor:
    return functional.mse_loss(model(batch[0]), batch[1])


def cross_entropy(model: nn.Module, batch: Any) -> Tensor:
    return functional.cross_entropy(model(batch[0]), batch[1])


def weighted_cross_entropy(model: nn.Module, batch: Any) -> Tensor:
    return categorical_cross_entropy(model(batch[0]), batch[1], CLASS_WEIGHTS)


def weight_of_labels(batch: Any) -> Tensor:
    return label_weight(batch[1], CLASS_WEIGHTS)


def share_right(model: nn.Module, batch: Any) -> Mapping[str, Any]:
    return {"accuracy": accuracy(model(batch[0]), batch[1])}


def linear(scale: float = 1.0) -> Task:
    """Linear regression, ranked by its loss; inputs of another scale make other rates right."""
    return Task(
        make_model=lambda: nn.Linear(3, 1),
        make_data=lambda seed: parts(inputs(scale), amounts()),
        loss=squared_error,
        sampled_loss=sampled_regression_loss,
        name="linear",
        source=f"linear {scale}",
    )


def logistic() -> Task:
    """Logistic regression whose loss is a mean over class weights."""
    return Task(
        make_model=lambda: nn.Linear(3, 3),
        make_data=lambda seed: parts(inputs(), labels()),
        loss=weighted_cross_entropy,
        loss_weight=weight_of_labels,
        metrics=share_right,
        name="logistic",
        source="logistic",
    )


def network(*middle: nn.Module, name: str = "network") -> Task:
    """A perceptron with one hidden layer, and whatever is to stand in its middle."""
    return Task(
        make_model=lambda: nn.Sequential(nn.Linear(3, 8), *middle, nn.Tanh(), nn.Linear(8, 3)),
        make_data=lambda seed: parts(inputs(), labels()),
        loss=cross_entropy,
        sampled_loss=sampled_classification_loss,
        metrics=share_right,
        name=name,
        source=f"{name} {middle}",
    )


def dropout() -> Task:
    return network(nn.Dropout(0.3), name="dropout")


def batch_norm() -> Task:
    """With running means, which are no parameters and change all the same."""
    return dataclasses.replace(
        network(name="batch norm"),
        make_model=lambda: nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)),
    )


def three_layers(width: int = 6) -> Task:
    """With a matrix that is neither the first layer nor the head: for methods that take such."""
    return dataclasses.replace(
        network(name="three layers"),
        make_model=lambda: nn.Sequential(
            nn.Linear(3, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 3)
        ),
    )


def overflowing() -> Task:
    """Linear regression in which one training example is so large that its batch overflows, once an epoch."""
    x = inputs()
    x[TRAIN - 1] = 1e30
    return dataclasses.replace(
        linear(), make_data=lambda seed: parts(x, amounts()), name="overflowing", source="overflowing"
    )


def frozen() -> Task:
    """The same regression with a parameter that is not trained, and one that the loss does not use."""

    def make_model() -> nn.Module:
        first = nn.Linear(3, 3)
        first.weight.requires_grad_(False)
        model = nn.Sequential(first, nn.Linear(3, 1))
        model.register_parameter("unused", nn.Parameter(torch.ones(2)))
        return model

    return dataclasses.replace(linear(), make_model=make_model, name="frozen", source="frozen")


def dictionary() -> Task:
    """The same regression with batches that are dicts."""

    def make_data(seed: int) -> dict[str, Any]:
        return {name: {"x": x, "y": y} for name, (x, y) in parts(inputs(), amounts()).items()}

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return functional.mse_loss(model(batch["x"]), batch["y"])

    return dataclasses.replace(
        linear(), make_data=make_data, loss=loss, name="dictionary", source="dictionary"
    )


class Disturbed(torch.utils.data.Dataset[Any]):
    """Items with noise from the three global generators, as augmentations draw it."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> Any:
        noise = np.random.normal() + random.gauss(0, 1) + torch.randn(()).item()
        return (self.x[i] + 0.1 * noise).astype(np.float32), self.y[i].astype(np.float32)


def dataset() -> Task:
    """The same regression as a map-style dataset that draws random numbers."""
    return dataclasses.replace(
        linear(),
        make_data=lambda seed: {name: Disturbed(*p) for name, p in parts(inputs(), amounts()).items()},
        name="dataset",
        source="dataset",
    )


class Number(nn.Module):
    """A model that is one number."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(start))


def cliff() -> Task:
    """√w, whose loss stops being a number as soon as a step leads to the left of 0."""
    return Task(
        make_model=lambda: Number(0.5),
        make_data=lambda seed: parts(inputs()),
        loss=lambda model, batch: model.w.sqrt() + 0 * batch[0].sum(),
        name="cliff",
        source="cliff",
    )


def workload(task: Task) -> Workload:
    """Load and check a task as a race does."""
    data = task.data(ROOT)
    checked = check_task(task, data, BATCH)
    return Workload(task, data, task.fingerprint(data), checked.metric, checked.direction)


def recipe(optimizer: str = "sgd", *values: Any, **fields: Any) -> Recipe:
    """A recipe in batches of 5 unless it says otherwise."""
    return Recipe(optimizer, *values, **{"batch_size": BATCH, **fields})


def trial(recipe: Recipe, steps: int, seed: int = 0, stage: Stage = Stage.SINGLE) -> Trial:
    return Trial(recipe.optimizer, stage, recipe, seed, steps)


def trained(
    workload: Workload,
    trial: Trial,
    at_boundary: AtBoundary | None = None,
    snapshot: Snapshot | None = None,
    progress: Progress | None = None,
) -> tuple[ModelEngine, Control]:
    """Train from the start or from a snapshot; return engine and control as the loop leaves them."""
    with isolated_random(0):
        engine = ModelEngine(workload, trial, ROOT, snapshot=snapshot)
        control = Control(trial.recipe, workload.limits(trial), progress)
        train(engine, [control], workload, at_boundary=at_boundary)
    return engine, control


def weights(engine: ModelEngine) -> list[Tensor]:
    """Copies of all parameters and buffers."""
    return [t.detach().clone() for t in engine.model.state_dict().values()]


def numbers(trace: Trace) -> dict[str, Any]:
    """All of a trace that does not depend on the clock of the machine."""
    return {name: value for name, value in to_data(trace).items() if not name.endswith(("_seconds", "_at"))}

"""The tasks and optimizers on which `finder.py` judges: what is trained, how long, over which rates."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import _fleet_models
import numpy as np
from _common import RESULTS
from _fleet_models import loss
from torch import nn

from thalweg.tasks import Task

FOLDER = RESULTS / "finder"  # what is kept from run to run
OPTIMIZERS = ("sgd", "momentum", "adam", "lion")
USUAL = {"sgd": (-3.0, 1.5), "momentum": (-4.0, 0.75), "adam": (-5.0, 0.0), "lion": (-6.0, -1.0)}
# Features of up to thousands: gradients are so large that plain descent takes rates of millionths.
UNSCALED = {"sgd": (-9.0, -1.0), "momentum": (-10.0, -2.0), "adam": (-6.0, 0.5), "lion": (-7.0, -0.5)}
TRAIN = 4300  # exact images of CIFAR-10; the rest is for validation


@dataclass(frozen=True)
class Work:
    """A task, and the trainings of which its true curves are made."""

    name: str
    title: str
    steps: int  # updates of a full training
    batch_size: int
    per_decade: int  # rates of the grid
    seeds: int
    wave: int  # replicas that are trained at once: what belongs to them stays in the caches
    # Powers of ten where the grid of an optimizer begins and ends.
    powers: dict[str, tuple[float, float]] = field(hash=False)

    def rates(self, optimizer: str) -> list[float]:
        """Return the grid of rates, ascending."""
        low, high = self.powers[optimizer]
        count = round((high - low) * self.per_decade)
        return [float(10 ** (low + i / self.per_decade)) for i in range(count + 1)]


WORKS = {
    work.name: work
    for work in (
        Work("digits", "digits, MLP 64–32–10", 450, 32, 8, 10, 72, USUAL),
        Work("breast-cancer-raw", "breast cancer unscaled, MLP 30–32–2", 750, 32, 8, 10, 72, UNSCALED),
        Work("mnist", "MNIST, MLP 784–128–10", 844, 64, 8, 5, 36, USUAL),
        Work("fashion", "Fashion-MNIST, CNN 1–8–16", 600, 64, 4, 4, 36, USUAL),
        Work("cifar", "CIFAR-10, CNN 3–8–16–32", 500, 64, 4, 8, 24, USUAL),
        Work("text", "Shakespeare, transformer of two layers, width 64", 400, 16, 4, 5, 24, USUAL),
    )
}


@dataclass(frozen=True)
class Pair:
    """A task with an optimizer."""

    work: Work
    optimizer: str

    @property
    def name(self) -> str:
        return f"{self.work.name}-{self.optimizer}"


PAIRS = {pair.name: pair for work in WORKS.values() for pair in (Pair(work, name) for name in OPTIMIZERS)}


def cifar_model() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32 * 4 * 4, 10)),
    )


def cifar_data(seed: int) -> dict[str, Any]:
    del seed
    with np.load(Path(os.environ["THALWEG_DATA"]) / "cifar10" / "cifar10_exact_partial.npz") as file:
        pixels, labels = file["x_train"].astype(np.float32) / 255, file["y_train"].astype(np.int64)
    seen = pixels[:TRAIN]
    axes = (0, 2, 3)
    pixels = (pixels - seen.mean(axes, keepdims=True)) / seen.std(axes, keepdims=True)
    aside = (pixels[TRAIN:], labels[TRAIN:])
    return {"train": (pixels[:TRAIN], labels[:TRAIN]), "validation": aside, "test": aside}


def task_of(work: Work) -> Any:
    """Return what Thalweg is asked to train: the name of a built-in task, or a task."""
    if work.name == "cifar":
        return Task(cifar_model, cifar_data, loss, name="cifar", batch_size=work.batch_size)
    if work.name == "fashion":
        return Task(
            _fleet_models.cnn, _fleet_models.cnn_data, loss, name="fashion", batch_size=work.batch_size
        )
    if work.name == "text":
        return _fleet_models.task("text")
    return work.name

"""An ordinary training in PyTorch, as a tutorial writes it: what Optuna and Ray are given to run."""

import math
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import sklearn.datasets  # noqa: F401 where the digits are: an import, so it counts as one
import torch
import torch._dynamo  # which the first optimizer of a process imports: an import, so it counts as one
from _fleet_data import Parts
from _fleet_models import MODELS, loss
from _fleet_work import Job
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

OPTIMIZERS: dict[str, Callable[[Any, float], torch.optim.Optimizer]] = {
    "sgd": lambda parameters, rate: torch.optim.SGD(parameters, lr=rate),
    "momentum": lambda parameters, rate: torch.optim.SGD(parameters, lr=rate, momentum=0.9),
    "rmsprop": lambda parameters, rate: torch.optim.RMSprop(parameters, lr=rate),
    "adam": lambda parameters, rate: torch.optim.Adam(parameters, lr=rate),
}
Batches = Iterator[tuple[Tensor, Tensor]]


class Trained(NamedTuple):
    """What a training left: moments on the system's clock, which processes share."""

    loss: float | None
    first: float  # when its first update was done
    steady: float  # seconds of an update, over the last two thirds


def tensors(parts: Parts) -> list[Tensor]:
    return [torch.from_numpy(array) for array in parts]


def loaded(x: Tensor, y: Tensor, batch_size: int) -> Batches:
    loader = DataLoader(TensorDataset(x, y), batch_size=batch_size, shuffle=True)
    while True:
        yield from loader


def indexed(x: Tensor, y: Tensor, batch_size: int) -> Batches:
    while True:
        order = torch.randperm(len(x))
        for start in range(0, len(x), batch_size):
            index = order[start : start + batch_size]
            yield x[index], y[index]


def train(
    job: Job, data: list[Tensor], optimizer: str, rate: float, seed: int, batches: Any = indexed
) -> Trained:
    """Train a model of a seed and measure its validation loss."""
    x, y, *validation = data
    torch.manual_seed(seed)
    model = MODELS[job.work]()
    method = OPTIMIZERS[optimizer](model.parameters(), rate)
    warm = job.steps // 3
    first = settled = time.time()
    for step, batch in enumerate(islice(batches(x, y, job.batch_size), job.steps)):
        if step == 1:
            first = time.time()
        if step == warm:
            settled = time.perf_counter()
        method.zero_grad()
        loss(model, batch).backward()
        method.step()
    steady = (time.perf_counter() - settled) / (job.steps - warm)
    with torch.no_grad():
        reached = loss(model, validation).item()
    return Trained(reached if math.isfinite(reached) else None, first, steady)

"""Measuring a model on a part of the data: exact means, however it is cut into batches."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from thalweg import optim
from thalweg.tasks.data.part import Part, examples_in
from thalweg.tasks.task import Task

EVALUATION_EXAMPLES: Final = 512  # examples measured at once: more are slower, for they leave the caches
STATISTICS_EXAMPLES: Final = 16384  # from which batch statistics of averaged weights are taken, at most

Measured = Mapping[str, float | None]  # "loss" and the metrics; None where the value is not finite


@torch.no_grad()
def measured(task: Task, model: nn.Module, part: Part, move: Callable[[Any], Any]) -> Measured:
    """Measure a model, in evaluation mode, on a part of the data whose batches `move` brings to it."""
    sums = MeanOfBatches()
    for batch in part.batches(EVALUATION_EXAMPLES):
        batch = move(batch)
        sums.add("loss", float(task.loss(model, batch)), float(task.weight(batch)))
        metrics = task.metrics(model, batch) if task.metrics else {}
        for name, value in metrics.items():
            sums.add_metric(name, value, examples_in(batch))
    return sums.means()


class MeanOfBatches:
    """Means over a whole part from its batches: sums of numerators and denominators, divided once."""

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = {}

    def add(self, name: str, value: float, weight: float) -> None:
        """Add a mean over a batch with its weight."""
        self._add(name, value * weight, weight)

    def add_metric(self, name: str, value: Any, examples: int) -> None:
        """Add a metric: a mean over the examples of a batch, or a pair (numerator, denominator)."""
        if isinstance(value, tuple | list):
            numerator, denominator = value
            self._add(name, float(numerator), float(denominator))
        else:
            self._add(name, float(value) * examples, examples)

    def _add(self, name: str, numerator: float, denominator: float) -> None:
        sums = self._sums.setdefault(name, [0.0, 0.0])
        sums[0] += numerator
        sums[1] += denominator

    def means(self) -> dict[str, float | None]:
        """Return the means; None where one is not finite."""
        means = {name: a / b if b else math.nan for name, (a, b) in self._sums.items()}
        return {name: mean if math.isfinite(mean) else None for name, mean in means.items()}


def recompute_statistics(
    task: Task, model: nn.Module, part: Part, batch_size: int, move: Callable[[Any], Any]
) -> None:
    """Give BatchNorm the statistics of the weights that are in place, from the training part."""
    count = min(part.examples, STATISTICS_EXAMPLES)
    batches = (np.arange(i, min(i + batch_size, count)) for i in range(0, count, batch_size))
    optim.recompute_batchnorm(
        model,
        (move(part.batch(b)) for b in batches if len(b) > 1),
        lambda batch: task.loss(model, batch),
    )

"""What is tried before any work: one batch goes through the task, and nothing notices."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from thalweg.errors import TaskError
from thalweg.records import Direction
from thalweg.tasks.data.part import Data, DatasetPart
from thalweg.tasks.data.read import check_labels, labels_of
from thalweg.tasks.kind import Classification
from thalweg.tasks.task import Task
from thalweg.tasks.user_code import isolated_random

_MOST = 32  # examples in the batch that is tried


@dataclass(frozen=True)
class Checked:
    """What the trial batch told about a task."""

    parameters: int  # numbers that are trained
    metric: str  # what ranks: the first metric, else "loss"
    direction: Direction
    metrics: tuple[str, ...]  # names of all metrics, without the loss


def check_task(task: Task, data: Data, batch_size: int) -> Checked:
    """Try a task on the first examples and refuse in words what cannot work; raises TaskError.

    The model is fresh and thrown away, and the global random numbers are as before. Checked are:
    the batch size against the training data; a model with parameters; a loss that is a scalar, finite,
    and depends on the parameters; the loss weight; and names, values and directions of the metrics.
    """
    examples = data.train.examples
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or not 1 <= batch_size <= examples:
        raise TaskError(
            f"batch size for {task.name}",
            f"be a whole number from 1 to {examples}, the number of training examples",
            repr(batch_size),
        )
    model = task.model(seed=0)
    if not {id(p) for p in model.parameters()}.isdisjoint(id(p) for p in task.model(seed=0).parameters()):
        raise TaskError(
            f"make_model of {task.name}",
            "return a fresh model at every call",
            "the same parameters twice",
            "Build the model inside make_model.",
        )
    with isolated_random(0):
        with task.user_code("make_data"):
            batch = data.train.batch(np.arange(min(batch_size, _MOST)))
        if isinstance(task.kind, Classification) and isinstance(data.train, DatasetPart):
            who = f"the training data of {task.name}"
            check_labels(labels_of(batch, task.kind, who), task.kind, who)
        _check_loss(task, model, batch)
        names = _check_metrics(task, model, batch)
    metric = names[0] if names else "loss"
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return Checked(parameters, metric, task.direction(metric), names)


def _check_loss(task: Task, model: nn.Module, batch: Any) -> None:
    who = f"loss of {task.name}"
    with task.user_code("loss"):
        loss: Any = task.loss(model, batch)
    if not isinstance(loss, Tensor):
        do = "Return the tensor itself, without .item()." if isinstance(loss, float) else ""
        raise TaskError(who, "return a scalar tensor", f"{loss!r:.60}", do)
    if loss.ndim != 0:
        raise TaskError(
            who, "return a scalar, the mean over the batch", f"shape {tuple(loss.shape)}", "Add .mean()."
        )
    if not torch.isfinite(loss):
        raise TaskError(
            who, "be finite before the first step", loss.item(), "Look at the scale of inputs and outputs."
        )
    trained = [p for p in model.parameters() if p.requires_grad]
    depends = loss.requires_grad
    if depends:
        with task.user_code("the gradient of loss"):
            gradients = torch.autograd.grad(loss, trained, allow_unused=True)
        depends = any(g is not None for g in gradients)
    if not depends:
        raise TaskError(
            who,
            "depend on the parameters of the model that it is given",
            "a loss without gradient",
            "Compute it from model(...), without .detach(), .item(), argmax or no_grad.",
        )
    with task.user_code("loss_weight"):
        weight = task.weight(batch)
    if not _is_number(weight) or not 0 < float(weight) < math.inf:
        raise TaskError(f"loss_weight of {task.name}", "return a finite number above 0", f"{weight!r:.60}")


def _check_metrics(task: Task, model: nn.Module, batch: Any) -> tuple[str, ...]:
    if task.metrics is None:
        return ()
    who = f"metrics of {task.name}"
    model.eval()
    with torch.no_grad(), task.user_code("metrics"):
        metrics = task.metrics(model, batch)
    if not isinstance(metrics, Mapping) or not metrics or not all(isinstance(k, str) for k in metrics):
        raise TaskError(who, "return a dict of named values", f"{metrics!r:.60}")
    for name, value in metrics.items():
        pair = isinstance(value, tuple) and len(value) == 2 and all(_is_number(v) for v in value)
        if not pair and not _is_number(value):
            raise TaskError(
                f"{name} in {who}", "be a number or a pair (numerator, denominator)", f"{value!r:.60}"
            )
        if name == "loss":
            raise TaskError(f"a name in {who}", "differ from loss, which is always measured", repr(name))
        task.direction(name)
    return tuple(metrics)


def _is_number(value: object) -> bool:
    if isinstance(value, Tensor):
        return value.ndim == 0
    return isinstance(value, int | float | np.number)

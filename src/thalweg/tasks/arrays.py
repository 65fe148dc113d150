"""A ready task from arrays: inputs X and targets y."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from thalweg.errors import TaskError
from thalweg.tasks.data import Data, Standardise, as_data, split
from thalweg.tasks.kind import Classification, Kind, Regression
from thalweg.tasks.losses import categorical_cross_entropy, mean_squared_error
from thalweg.tasks.metrics import Pair, accuracy, r2
from thalweg.tasks.models import mlp
from thalweg.tasks.task import Task

_FEWEST = 5  # examples a class: with fewer, whole numbers are rather amounts than classes


def classification_loss(model: nn.Module, batch: Any) -> Tensor:
    """Cross-entropy of the model's logits, for a batch (inputs, labels)."""
    return categorical_cross_entropy(model(batch[0]), batch[1])


def sampled_classification_loss(model: nn.Module, batch: Any, generator: torch.Generator) -> Tensor:
    """Cross-entropy for labels that are drawn from the model's own probabilities."""
    logits = model(batch[0])
    probabilities = logits.detach().softmax(-1)
    return categorical_cross_entropy(logits, torch.multinomial(probabilities, 1, generator=generator)[:, 0])


def classification_metrics(model: nn.Module, batch: Any) -> dict[str, Pair]:
    """Accuracy, for a batch (inputs, labels)."""
    return {"accuracy": accuracy(model(batch[0]), batch[1])}


def regression_loss(model: nn.Module, batch: Any) -> Tensor:
    """Mean squared error, for a batch (inputs, targets)."""
    return mean_squared_error(model(batch[0]), batch[1])


def sampled_regression_loss(model: nn.Module, batch: Any, generator: torch.Generator) -> Tensor:
    """Mean squared error for targets drawn around the model's own, with the variance ½ that it implies."""
    output = model(batch[0])
    noise = torch.randn(output.shape, generator=generator, dtype=output.dtype, device=output.device)
    return mean_squared_error(output, output.detach() + 0.5**0.5 * noise)


def regression_metrics(model: nn.Module, batch: Any) -> dict[str, Pair | Tensor]:
    """R² against the training mean, and the mean squared error, for standardised targets."""
    output = model(batch[0])
    return {"r2": r2(output, batch[1]), "mse": mean_squared_error(output, batch[1])}


def standardised(
    x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], seed: int, kind: Kind, inputs: bool = True
) -> Data:
    """Split (x, y) 80/10/10 and standardise on the training part: real targets, and ``inputs`` if asked."""
    rows = split(np.arange(len(x)), seed, y if isinstance(kind, Classification) else None)
    if inputs:
        x = Standardise.fit(x[rows[0]])(x)
    if isinstance(kind, Regression):
        y = Standardise.fit(y[rows[0]])(y)
    train, validation, test = ((x[i], y[i]) for i in rows)
    return as_data({"train": train, "validation": validation, "test": test}, seed, kind)


def task_from_arrays(
    X: Any,
    y: Any,
    hidden: Sequence[int] = (64,),
    kind: Kind | None = None,
    name: str = "arrays",
) -> Task:
    """Make a task of inputs X, shape (n, …), and targets y, shape (n,) or (n, m).

    Whole numbers, bools and words in y are classes: cross-entropy, ranked by accuracy; other numbers
    are amounts: squared error on standardised targets, ranked by R². ``kind`` decides otherwise. The
    model is an MLP with ``hidden`` layers; inputs are flattened and standardised on the training part,
    which is 80 % of the examples. Raises TaskError.

    >>> task = task_from_arrays(np.eye(30), np.arange(30) % 3, hidden=[8])
    >>> task.kind, task.model(seed=0)[-1].out_features
    (Classification(classes=3, labels=-1), 3)
    """
    inputs, targets = _array(X, f"X of {name}"), _array(y, f"y of {name}")
    if inputs.dtype.kind not in "biuf" or inputs.ndim == 0:
        raise TaskError(f"X of {name}", "be an array of numbers, one row an example", f"{inputs.dtype}")
    if targets.ndim == 0 or len(inputs) != len(targets):
        lengths = f"{len(inputs)} and {len(targets) if targets.ndim else 'a single value'}"
        raise TaskError(f"X and y of {name}", "have equally many examples", lengths)
    if len(inputs) == 0:
        raise TaskError(f"X and y of {name}", "have at least one example", "none")
    inputs = inputs.reshape(len(inputs), -1).astype(np.float64)
    if kind is None:
        kind, targets = _guess(targets, name)
    if isinstance(kind, Regression):
        targets = targets.reshape(len(targets), -1).astype(np.float64)
    outputs = kind.classes if isinstance(kind, Classification) else targets.shape[1]
    sizes = [inputs.shape[1], *hidden, outputs]
    classes = isinstance(kind, Classification)
    return Task(
        make_model=lambda: mlp(sizes),
        make_data=lambda seed: standardised(inputs, targets, seed, kind),
        loss=classification_loss if classes else regression_loss,
        sampled_loss=sampled_classification_loss if classes else sampled_regression_loss,
        metrics=classification_metrics if classes else regression_metrics,
        kind=kind,
        name=name,
        description=f"{len(inputs)} examples of {inputs.shape[1]} features, MLP {'–'.join(map(str, sizes))}",
        batch_size=max(1, min(32, len(inputs) // 10)),
        source=f"task_from_arrays, version 1, {sizes}, {kind}",
    )


def _array(value: Any, who: str) -> np.ndarray[Any, Any]:
    if isinstance(value, Tensor):
        value = value.detach().cpu()
    try:
        return np.asarray(value)
    except ValueError as error:
        raise TaskError(who, "be one array", "rows of different lengths") from error


def _guess(targets: np.ndarray[Any, Any], name: str) -> tuple[Kind, np.ndarray[Any, Any]]:
    """Tell classes from amounts, and number the classes from 0."""
    if targets.dtype.kind == "f":
        return Regression(), targets
    if targets.dtype.kind not in "biuUO" or targets.ndim != 1:
        raise TaskError(
            f"y of {name}", "be numbers or one class an example", f"{targets.dtype} {targets.shape}"
        )
    found, numbered = np.unique(
        targets.astype(str) if targets.dtype.kind == "O" else targets, return_inverse=True
    )
    if len(found) < 2 or len(found) * _FEWEST > len(targets):
        raise TaskError(
            f"y of {name}",
            f"have at least two classes, and {_FEWEST} examples a class",
            f"{len(found)} different values in {len(targets)} examples",
            "If y is an amount and no class, pass kind=Regression().",
        )
    return Classification(len(found)), numbered.astype(np.int64)

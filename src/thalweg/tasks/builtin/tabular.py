"""Small tables from scikit-learn: breast cancer, diabetes, wine; standardised, or raw.

The raw features differ in scale by up to 10⁵, which is what makes them hard to descend on; the targets
of the regression are standardised in both. The model is an MLP with one hidden layer of 32.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import nn

from thalweg.tasks.arrays import (
    classification_loss,
    classification_metrics,
    regression_loss,
    regression_metrics,
    sampled_classification_loss,
    sampled_regression_loss,
    standardised,
)
from thalweg.tasks.data import Data
from thalweg.tasks.kind import Classification, Regression
from thalweg.tasks.listing import BUILTIN
from thalweg.tasks.metrics import Pair, accuracy, f1, precision, recall
from thalweg.tasks.models import mlp
from thalweg.tasks.task import Task

_MALIGNANT: Final = 0  # its class in scikit-learn


def table(name: str) -> Task:
    """Return the task of a table, of raw features where the name ends in ``-raw``."""
    row = BUILTIN[name]
    kind = Regression() if row.classes is None else Classification(row.classes)
    regression = isinstance(kind, Regression)
    scaled = not name.endswith("-raw")
    metrics: Any = regression_metrics if regression else classification_metrics
    if name.startswith("breast-cancer"):
        metrics = malignant_metrics

    def make_data(seed: int) -> Data:
        x, y = _arrays(name.removesuffix("-raw"))
        return standardised(x, y[:, None] if regression else y, seed, kind, inputs=scaled)

    return Task(
        make_model=lambda: mlp([row.features, 32, row.classes or 1]),
        make_data=make_data,
        loss=regression_loss if regression else classification_loss,
        sampled_loss=sampled_regression_loss if regression else sampled_classification_loss,
        metrics=metrics,
        kind=kind,
        name=name,
        description=row.description,
        epochs=row.epochs,
        batch_size=row.batch_size,
        source=f"built-in {name}, version 1",
    )


def malignant_metrics(model: nn.Module, batch: Any) -> dict[str, Pair]:
    """Accuracy; and precision, recall and F1 of finding the malignant tumours."""
    logits, labels = model(batch[0]), batch[1]
    said = logits.argmax(dim=-1)
    return {
        "accuracy": accuracy(logits, labels),
        "precision": precision(said, labels, _MALIGNANT),
        "recall": recall(said, labels, _MALIGNANT),
        "f1": f1(said, labels, _MALIGNANT),
    }


def _arrays(name: str) -> tuple[NDArray[np.float64], NDArray[Any]]:
    from sklearn import datasets

    if name == "breast-cancer":
        x, y = datasets.load_breast_cancer(return_X_y=True)
    elif name == "wine":
        x, y = datasets.load_wine(return_X_y=True)
    else:  # scaled=True would scale by all examples, those to be tested on included
        x, y = datasets.load_diabetes(return_X_y=True, scaled=False)
    return x, y

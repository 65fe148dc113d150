"""The task: model, data and loss as one value, and its identity."""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from thalweg.errors import TaskError
from thalweg.hyper import ABOVE_0, Integer, Interval, Real
from thalweg.records import Direction
from thalweg.tasks.data.part import Data, examples_in
from thalweg.tasks.data.read import as_data
from thalweg.tasks.identity import digest_of, source_of
from thalweg.tasks.kind import Classification, Kind, Regression
from thalweg.tasks.user_code import isolated_random, user_code

Number = float | Tensor
Metric = Number | tuple[Number, Number]  # a mean over the batch, or numerator and denominator to be summed

DIRECTIONS: Final[Mapping[str, Direction]] = {
    **dict.fromkeys(["accuracy", "precision", "recall", "f1", "auc", "r2", "ndcg"], Direction.HIGHER),
    **dict.fromkeys(["loss", "error", "mse", "mae", "rmse", "perplexity"], Direction.LOWER),
}


@dataclass(frozen=True, eq=False)
class Task:
    """What is to be learnt: a model, data and a loss.

    ``make_model()`` returns a fresh ``nn.Module``; ``make_data(seed)`` what `as_data` understands, and
    is called once a race; ``loss(model, batch)`` returns a scalar, the mean over the batch.

    ``loss_weight(batch)`` says of what the loss is the mean when it is not of examples (the sum of
    the class weights, say). ``metrics(model, batch)`` returns named values, the first of which ranks:
    each a number (the mean over the batch's examples) or a pair (numerator, denominator); pairs are
    summed over batches and divided once, so that precision, recall and F1 are exact. ``directions``
    says for a metric of a new name whether higher or lower is better. ``sampled_loss(model, batch,
    generator)`` is for methods that draw labels from the model. ``epochs`` and ``batch_size`` are what
    is used when nothing is asked. ``source`` is the text that identifies the task when its functions
    do not; ``path`` the person's file, to which their tracebacks are shortened.

    >>> task = Task(make_model=lambda: nn.Linear(1, 1), make_data=lambda seed: (torch.ones(9, 1),) * 2,
    ...             loss=lambda model, batch: nn.functional.mse_loss(model(batch[0]), batch[1]))
    >>> task.data(seed=0).train.examples
    7
    """

    make_model: Callable[[], nn.Module]
    make_data: Callable[[int], Any]
    loss: Callable[[nn.Module, Any], Tensor]
    name: str = "task"
    loss_weight: Callable[[Any], Number] | None = None
    metrics: Callable[[nn.Module, Any], Mapping[str, Metric]] | None = None
    directions: Mapping[str, Direction] = field(default_factory=dict)
    sampled_loss: Callable[[nn.Module, Any, torch.Generator], Tensor] | None = None
    kind: Kind | None = None
    description: str = ""
    epochs: int = 10
    batch_size: int = 32
    source: str = ""
    path: Path | None = None

    def __post_init__(self) -> None:
        required = ("make_model", "make_data", "loss")
        for name in (*required, "loss_weight", "metrics", "sampled_loss"):
            value = getattr(self, name)
            if not callable(value) and (name in required or value is not None):
                raise TaskError(f"{name} of {self.name}", "be a function", repr(value))
        if self.kind is not None and not isinstance(self.kind, Classification | Regression):
            raise TaskError(
                f"kind of {self.name}", "be Classification(classes) or Regression()", repr(self.kind)
            )
        if not isinstance(self.name, str):
            raise TaskError("the name of a task", "be text", repr(self.name))
        Real(10, "", ABOVE_0).check("epochs", self.name, self.epochs)
        Integer(32, "", Interval(1.0)).check("batch_size", self.name, self.batch_size)
        if not isinstance(self.directions, Mapping):
            raise TaskError(
                f"directions of {self.name}",
                "be a dict",
                repr(self.directions),
                'Say directions = {"name": "higher"}.',
            )
        for name, direction in self.directions.items():
            if direction not in tuple(Direction):
                raise TaskError(
                    f"direction of {name} in {self.name}", 'be "higher" or "lower"', repr(direction)
                )

    def user_code(self, what: str) -> AbstractContextManager[None]:
        """Show an error raised inside as one of the person's ``what``, with the lines of their file."""
        return user_code(f"{what} of {self.name}", self.path)

    def data(self, seed: int) -> Data:
        """Make the data and split what is not split, for a data seed; raises TaskError."""
        with isolated_random(seed):
            with self.user_code("make_data"):
                returned = self.make_data(seed)
            return as_data(returned, seed, self.kind, self.name)

    def model(self, seed: int) -> nn.Module:
        """Make a fresh model with the initial weights of a seed; raises TaskError."""
        with isolated_random(seed), self.user_code("make_model"):
            model: Any = self.make_model()
        if not isinstance(model, nn.Module):
            do = "Call the class: return Net()." if isinstance(model, type) else "Did it forget to return?"
            raise TaskError(f"make_model of {self.name}", "return an nn.Module", f"{model!r:.60}", do)
        if not any(p.requires_grad for p in model.parameters()):
            raise TaskError(f"the model of {self.name}", "have parameters to train", "none")
        if any(isinstance(p, UninitializedParameter) for p in model.parameters()):
            raise TaskError(
                f"the model of {self.name}",
                "have parameters of known shapes",
                "a lazy module",
                "Give the sizes, as in Linear instead of LazyLinear.",
            )
        if odd := [key for key, value in model.state_dict().items() if not isinstance(value, Tensor)]:
            raise TaskError(
                f"the state_dict of the model of {self.name}",
                "hold tensors only, so that it can be kept",
                f"{odd[0]}",
                "Keep other things out of get_extra_state.",
            )
        return model

    def weight(self, batch: Any) -> Number:
        """Return the weight of a batch's mean loss: ``loss_weight``, else the number of examples."""
        if self.loss_weight is not None:
            return self.loss_weight(batch)
        return examples_in(batch)

    def direction(self, metric: str) -> Direction:
        """Say whether higher or lower is better; an unknown name without a direction is refused."""
        if metric in self.directions:
            return Direction(self.directions[metric])
        if metric in DIRECTIONS:
            return DIRECTIONS[metric]
        raise TaskError(
            f"the metric {metric} of {self.name}",
            "have a direction",
            "none",
            f'Say directions = {{"{metric}": "higher"}} or "lower".',
        )

    def fingerprint(self, data: Data) -> str:
        """Return the sha256 of what is learnt: the source, the model's layers, and every byte of the data.

        Of a dataset only the length and the first and last item are read. Where ``source`` is empty,
        the text of the functions counts, and of what they use from their own module (`source_of`).
        """
        digest = hashlib.sha256()
        model = self.model(seed=0)
        digest.update((self.source or self._text()).encode())
        digest.update(repr(model).encode())
        digest.update(repr([(name, tuple(p.shape)) for name, p in model.named_parameters()]).encode())
        for part in (data.train, data.validation, data.test):
            with isolated_random(0), self.user_code("make_data"):
                digest.update(digest_of(part))
        return digest.hexdigest()

    def _text(self) -> str:
        given = (
            self.make_model,
            self.make_data,
            self.loss,
            self.loss_weight,
            self.metrics,
            self.sampled_loss,
        )
        return source_of(function for function in given if function is not None)

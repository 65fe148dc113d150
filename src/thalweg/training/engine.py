"""Engines compute: gradients, updates, evaluations, for one or several trials at once.

The loop asks an engine to do what the control of each trial has decided. `ModelEngine` holds one
ordinary model: the engine with a single row, 0.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from thalweg import optim, seeds
from thalweg.errors import InputError, NonFiniteGradients
from thalweg.rules.base import Curvature
from thalweg.tasks.data.part import Part, moved
from thalweg.tasks.task import Task
from thalweg.training.measuring import (
    EVALUATION_EXAMPLES,
    Measured,
    measured,
    recompute_statistics,
)
from thalweg.training.order import Order
from thalweg.training.recipe import Recipe
from thalweg.training.trial import Trial, Workload


class Updates(NamedTuple):
    """A stretch of updates of one row that the loop asks for: one for each rate."""

    row: int
    step: int  # of the first of them, from 0
    rates: Sequence[float]


class Updated(NamedTuple):
    """What a stretch reports, update by update. What follows a loss that is not finite means nothing."""

    losses: Sequence[float]  # that the updates started from
    clipped: Sequence[bool] = ()  # empty: none
    skipped: Sequence[bool] = ()  # because gradients were not finite: nothing has moved; empty: none


Snapshot = dict[str, Tensor]


class Engine(Protocol):
    """What the loop needs; rows are numbered as the trials that the engine was made of."""

    def update(self, updates: Sequence[Updates]) -> Sequence[Updated]:
        """Do a stretch of updates of each of these rows: of all alike, from the same step, equally many."""

    def measure(self, rows: Sequence[int], part: Part) -> Sequence[Measured]:
        """Measure loss and metrics of these rows on a part of the data."""

    def keep(self, row: int) -> None:
        """Keep the weights of a row as the best so far."""

    def finish(self, row: int) -> None:
        """Put the weights that count in place for good: the kept ones, else those to evaluate with."""

    def snapshot(self, row: int) -> Snapshot:
        """Return everything that the row's next update depends on, by name."""

    def drop(self, rows: Sequence[int]) -> None:
        """Note that nobody will ask for these rows again."""

    def size(self, row: int) -> "Size":
        """Return how large a row's model is, and how much its optimizer remembers."""


class Size(NamedTuple):
    """How large a model is, and how much its optimizer remembers."""

    parameters: int  # those that are trained
    state_bytes: int  # of all buffers of the optimizer; step counts are left out


class ModelEngine:
    """One model, trained by ordinary PyTorch.

    Args:
        workload: the task with its data.
        trial: what to train.
        root: the seed from which all streams derive.
        device: where the model and its batches live.
        snapshot: where to go on from; None: fresh weights of the trial's seed.

    Raises:
        InputError: accumulation is asked for where BatchNorm makes it untrue.
    """

    def __init__(
        self,
        workload: Workload,
        trial: Trial,
        root: int,
        device: torch.device | str = "cpu",
        snapshot: Snapshot | None = None,
    ) -> None:
        recipe = trial.recipe
        self.task, self.trial, self.root, self.device = workload.task, trial, root, torch.device(device)
        dtype = torch.float64 if recipe.precision == "float64" else None
        self.train_part = workload.data.train
        self._dtype = dtype
        self.model: nn.Module = self.task.model(seeds.derive(root, "initial weights", trial.seed))
        self.model.to(device=self.device, dtype=dtype).train()
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = optim.BY_RULE[recipe.preset.rule.name](
            self.model, wrappers=recipe.applied(), **recipe.given()
        )
        for group in self.optimizer.param_groups:  # where a schedule starts from
            group["initial_lr"] = group["lr"]
        self._peak = recipe.rate or 1.0  # a recipe fills it in
        self._finished = False
        self.kept: Snapshot = {}
        limits = workload.limits(trial)
        self._batch_size = limits.batch_size
        self._normalised = normalised(self.model)
        self._micro_batch = micro_batch(recipe, self._batch_size, self._normalised)
        self._order = Order(limits, recipe.sampling, root, trial.seed)
        if snapshot is not None:
            self._restore(snapshot)

    def update(self, updates: Sequence[Updates]) -> Sequence[Updated]:
        """Do a stretch of updates: for each the gradient of its batch, and the optimizer's step."""
        ((_, first, rates),) = updates
        done = [self._updated(first + place, rate) for place, rate in enumerate(rates)]
        return (Updated(*zip(*done, strict=True)),)

    def _updated(self, step: int, rate: float) -> tuple[float, bool, bool]:
        """Do one update; return the loss that it started from, and whether it was clipped or skipped."""
        optimizer = self.optimizer
        with self.task.user_code("training"):
            if optimizer.own.curvature is not None and step % optimizer.defaults["update_every"] == 0:
                with self._buffers_put_back():  # BatchNorm counts each batch once
                    optimizer.refresh(self._curvature(step))
            value = self._backward(step)
            if optimizer.own.offset is not None:
                with optimizer.perturbed():
                    self._backward(step)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * (rate / self._peak)
        before = optimizer.skipped_steps
        try:
            optimizer.step()
        except NonFiniteGradients:  # too many skips in a row: the last of them counts as divergence
            return math.nan, optimizer.clipped, False
        return value, optimizer.clipped, optimizer.skipped_steps > before

    def _backward(self, step: int) -> float:
        """Compute the gradient of a step's batch and return its loss."""
        self._prepare(step, 0)
        self.optimizer.zero_grad()
        return self._accumulate(step, lambda batch: self.task.loss(self.model, batch))

    def _prepare(self, step: int, kind: int) -> None:
        self._seed_forward(step, kind)
        if not self.model.training:  # after an evaluation; walking over all modules takes its time
            self.model.train()

    def _curvature(self, step: int) -> list[Tensor]:
        """Measure the diagonal of the Hessian as the optimizer wants it, on the batch of a step."""
        self._prepare(step, 2)
        generator = torch.Generator(self.device).manual_seed(torch.initial_seed())
        self.optimizer.zero_grad()
        if self.optimizer.own.curvature is Curvature.HUTCHINSON:
            signs = optim.random_signs(self.parameters, generator)

            def probe(batch: Any) -> Tensor:
                return optim.curvature_along(self.task.loss(self.model, batch), self.parameters, signs)

            self._accumulate(step, probe)
            products = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
            diagonal = [sign * product for sign, product in zip(signs, products, strict=True)]
        else:
            weights: list[float] = []  # of what the loss is the mean: examples, tokens

            def drawn(batch: Any) -> Tensor:
                weights.append(float(self.task.weight(batch)))
                return sampled_loss(self.task, self.model, batch, generator)

            self._accumulate(step, drawn)
            squares = [torch.zeros_like(p) if p.grad is None else p.grad**2 for p in self.parameters]
            diagonal = [sum(weights) * square for square in squares]
        self.optimizer.zero_grad()
        return diagonal

    def _batch(self, indices: NDArray[np.int64]) -> Any:
        return self._moved(self.train_part.batch(indices))

    def _moved(self, batch: Any) -> Any:
        if self._dtype is None and self.device.type == "cpu":
            return batch
        return moved(batch, self._dtype, self.device)

    def _seed_forward(self, step: int, kind: int) -> None:
        """Seed what model and data draw (dropout, augmentation): in closed form, so nothing is replayed."""
        seed = seeds.derive(self.root, "forward", self.trial.seed, step, kind)
        torch.default_generator.manual_seed(seed)  # torch.manual_seed takes longer than a small update
        np.random.seed(seed % 2**32)
        random.seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _accumulate(self, step: int, loss_of: Callable[[Any], Tensor]) -> float:
        """Back-propagate the loss of a step's batch, and return it.

        Where it is computed in parts, loss × weight is summed and divided once: the gradient of the whole.
        """
        indices = self._order.indices(step)
        if len(indices) <= self._micro_batch:
            loss = loss_of(self._batch(indices))
            torch.autograd.backward(loss)
            return loss.item()
        total = weights = 0.0
        for start in range(0, len(indices), self._micro_batch):
            batch = self._batch(indices[start : start + self._micro_batch])
            weight = float(self.task.weight(batch))
            loss = loss_of(batch)
            torch.autograd.backward(loss * weight)
            total += loss.item() * weight
            weights += weight
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.grad /= weights
        return total / weights

    @torch.no_grad()
    def measure(self, rows: Sequence[int], part: Part) -> Sequence[Measured]:
        """Measure loss and metrics, in evaluation mode: exact means over the whole part."""
        del rows
        with self.task.user_code("measuring"), self._evaluating():
            self._seed_forward(0, 1)
            self.model.eval()
            return (measured(self.task, self.model, part, self._moved),)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Have the weights to evaluate with, with batch statistics of their own, inside a `with` block."""
        if self._finished or not self.optimizer.two_faced:
            yield
            return
        with self._buffers_put_back(), self.optimizer.evaluating():
            self._recompute_statistics()
            yield

    @contextmanager
    def _buffers_put_back(self) -> Iterator[None]:
        """Have buffers afterwards as before a `with` block."""
        buffers = [(b, b.clone()) for b in self.model.buffers()]
        yield
        for buffer, before in buffers:
            buffer.copy_(before)

    def _recompute_statistics(self) -> None:
        if self._normalised:
            self._seed_forward(0, 3)
            recompute_statistics(self.task, self.model, self.train_part, self._batch_size, self._moved)

    @torch.no_grad()
    def keep(self, row: int) -> None:
        """Keep a copy of the weights to evaluate with, and of the buffers."""
        del row
        with self._evaluating():
            self.kept = {name: t.detach().clone() for name, t in self.model.state_dict().items()}

    @torch.no_grad()
    def finish(self, row: int) -> None:
        """Put the weights that count in place for good."""
        del row
        if self.kept:
            self.model.load_state_dict(self.kept)
        elif self.optimizer.two_faced:
            self.optimizer.eval()
            self._recompute_statistics()
        self._finished = True

    def drop(self, rows: Sequence[int]) -> None:
        """Do nothing: the one row there is stays."""

    def size(self, row: int) -> Size:
        """Return how large the model is, and how much its optimizer remembers."""
        del row
        states = self.optimizer.state.values()
        kept = [t for state in states for name, t in state.items() if name not in ("step", "trained")]
        return Size(sum(p.numel() for p in self.parameters), sum(t.nbytes for t in kept))

    def snapshot(self, row: int) -> Snapshot:
        """Return copies of weights, buffers, optimizer state and kept weights, by name."""
        del row
        named = [(f"model.{name}", t) for name, t in self.model.state_dict().items()]
        named += [(f"kept.{name}", t) for name, t in self.kept.items()]
        for place, state in self.optimizer.state_dict()["state"].items():
            named += [(f"optimizer.{place}.{name}", t) for name, t in state.items()]
        for name, number in self.optimizer.scalars().items():
            named.append((f"scalar.{name}", torch.tensor(number, dtype=torch.float64)))
        return {name: t.detach().clone().contiguous() for name, t in named}

    def _restore(self, snapshot: Snapshot) -> None:
        self.model.load_state_dict(dict(under("model.", snapshot)))
        self.kept = dict(under("kept.", snapshot))
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in under("optimizer.", snapshot):
            place, key = name.split(".", 1)
            state.setdefault(int(place), {})[key] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.optimizer.set_scalars({n: t.item() for n, t in under("scalar.", snapshot)})


def normalised(model: nn.Module) -> bool:
    """Tell whether a model has BatchNorm, whose statistics are those of what it sees at once."""
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())


def micro_batch(recipe: Recipe, batch_size: int, normalised: bool) -> int:
    """Return how many examples of an update are computed at once.

    Raises:
        InputError: accumulation is asked for where BatchNorm makes it untrue.
    """
    asked = recipe.micro_batch
    if asked is not None and asked < batch_size and normalised:
        raise InputError(
            "micro_batch of the recipe",
            "be left out for a model with BatchNorm, whose statistics are those of what it sees at once",
            asked,
            "Leave micro_batch out, or use GroupNorm or LayerNorm.",
        )
    whole = recipe.batch_size == "all" and not normalised
    return asked or (EVALUATION_EXAMPLES if whole else batch_size)


def sampled_loss(task: Task, model: nn.Module, batch: Any, generator: torch.Generator) -> Tensor:
    """Return the loss for labels drawn from the model; refuse a task that has none."""
    must, do = "have sampled_loss(model, batch, generator) for Sophia-G", "Or take sophia-h."
    if task.sampled_loss is None:
        raise InputError(f"the task {task.name}", must, "none", do)
    loss: Any = task.sampled_loss(model, batch, generator)
    if not (isinstance(loss, Tensor) and loss.ndim == 0):
        got = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"{loss!r:.60}"
        raise InputError(f"sampled_loss of {task.name}", "return a scalar tensor", got)
    return loss


def under(prefix: str, snapshot: Snapshot) -> Iterator[tuple[str, Tensor]]:
    """Yield what a snapshot holds under a prefix, by the rest of its name."""
    for name, tensor in snapshot.items():
        if name.startswith(prefix):
            yield name.removeprefix(prefix), tensor

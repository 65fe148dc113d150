"""Losses of one model at many weights, as a fleet where the model can be stacked; no trace is left in it."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import isfinite
from typing import Any, Final, Protocol

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from thalweg.errors import TaskError
from thalweg.executors.serial import unnoticed
from thalweg.landscape.directions import Direction
from thalweg.tasks.data.part import Part, leaves, moved
from thalweg.tasks.task import Task
from thalweg.tasks.user_code import isolated_random
from thalweg.training.fleet.measuring import Measurement, measured_together
from thalweg.training.fleet.memory import available
from thalweg.training.fleet.program import Bound, put_back, told
from thalweg.training.measuring import EVALUATION_EXAMPLES, MeanOfBatches

ALIKE: Final = 1e-3  # of a loss: more than rounding makes
AT_ONCE: Final = 64  # weights in a stack; more are no faster
SHARE: Final = 0.125  # of the free memory that a stack may take
EXAMPLES: Final = 16 * EVALUATION_EXAMPLES  # times weights, that torch computes together

Stacks = Mapping[str, Tensor]  # weights and buffers by name, with a leading axis
Make = Callable[[slice], Stacks]  # the stacks of a range of points


class Measure(Protocol):
    """How losses are measured at given weights, with the model in evaluation mode."""

    def together(self, stacks: Stacks) -> Sequence[float | None]:
        """Return the loss at each of stacked weights; whatever cannot be stacked raises."""

    def alone(self, weights: Mapping[str, Tensor]) -> float:
        """Return the loss at one of them."""


class OnPart:
    """The exact mean of a task's loss over a part of its data.

    Args:
        task: whose loss.
        model: in which weights are replaced.
        part: of the data.
        threads: of compiled code.
    """

    def __init__(self, task: Task, model: nn.Module, part: Part, threads: int = 1) -> None:
        self._bound = Bound(replace(task, metrics=None), model)
        self._part, self._threads = part, threads
        first = next(p for p in model.parameters() if p.requires_grad)
        self._dtype = first.dtype if first.dtype is torch.float64 else None
        self._device = first.device
        self._known: dict[tuple[str, ...], dict[Any, Measurement]] = {}

    def _move(self, batch: Any) -> Any:
        if self._dtype is None and self._device.type == "cpu":
            return batch
        return moved(batch, self._dtype, self._device)

    def together(self, stacks: Stacks) -> Sequence[float | None]:
        """Return the loss at each of stacked weights."""
        known = self._known.setdefault(tuple(stacks), {})
        found = measured_together(self._bound, known, stacks, self._part, self._move, EXAMPLES, self._threads)
        return [own["loss"] for own in found]

    def alone(self, weights: Mapping[str, Tensor]) -> float:
        """Return the loss at one of them."""
        task, sums = self._bound.task, MeanOfBatches()
        with task.user_code("measuring"):
            for batch in self._part.batches(EVALUATION_EXAMPLES):
                batch = self._move(batch)
                sums.add(
                    "loss", float(self._bound.call(task.loss, weights, batch)), float(task.weight(batch))
                )
        mean = sums.means()["loss"]
        return float("nan") if mean is None else mean


class OnBatch:
    """A person's loss of one batch, which is never cut: it need not be a mean over examples.

    Args:
        loss: of model and batch, a scalar.
        model: in which weights are replaced.
        batch: what the loss takes.
    """

    def __init__(self, loss: Callable[[nn.Module, Any], Tensor], model: nn.Module, batch: Any) -> None:
        self._task = Task(lambda: model, lambda seed: batch, loss, name="the slice")
        self._bound, self._batch = Bound(self._task, model), batch
        sizes = [len(x) for x in leaves(batch) if isinstance(x, Tensor) and x.ndim]
        self._at_once = max(1, EXAMPLES // max([*sizes, 1]))

    def together(self, stacks: Stacks) -> Sequence[float | None]:
        """Return the loss at each of stacked weights."""

        def one(weights: Mapping[str, Tensor]) -> Tensor:
            found: Tensor = self._bound.call(self._task.loss, weights, self._batch)
            return found

        with sdpa_kernel(SDPBackend.MATH):  # others know no axis of replicas
            found = torch.vmap(one, randomness="same", chunk_size=self._at_once)(dict(stacks))
        return [x if isfinite(x) else None for x in found.double().tolist()]

    def alone(self, weights: Mapping[str, Tensor]) -> float:
        """Return the loss at one of them."""
        with self._task.user_code("the loss"):
            return float(self._bound.call(self._task.loss, weights, self._batch))


class Losses:
    """Losses of a model at other weights than its own.

    Weights are given to it for the time of a call, so parameters are never written to; buffers, mode, plain
    attributes of modules and the generators of random numbers are afterwards as they were. The first loss is
    measured as a fleet and alone: where the two differ by more than rounding, or the model cannot be stacked,
    all are measured one by one, and ``one_by_one`` says why.

    Args:
        model: in whichever mode; it is measured in evaluation mode.
        measure: how.
        fleet: False: one by one in any case.
        progress: called with the number of losses that were measured.
    """

    def __init__(
        self,
        model: nn.Module,
        measure: Measure,
        fleet: bool = True,
        progress: Callable[[int], None] = unnoticed,
    ) -> None:
        self._model, self._measure, self._progress = model, measure, progress
        self.one_by_one = "" if fleet else "it was asked for"
        self.points = 0
        self._checked = False
        sizes = [x.nbytes for x in (*model.parameters(), *model.buffers())]
        self._at_once = int(min(AT_ONCE, max(1, SHARE * available() // max(1, sum(sizes)))))

    def around(
        self, weights: Mapping[str, Tensor], directions: Sequence[Direction], places: Any
    ) -> list[float]:
        """Return the losses at θ + Σₖ cₖ·dₖ; NaN where one is not finite.

        Args:
            weights: θ, by name.
            directions: d₁, d₂, …
            places: c, of shape (points, directions).
        """
        at = torch.as_tensor(places, dtype=torch.float64)

        def make(part: slice) -> Stacks:
            stacks = {}
            for name, center in weights.items():
                moved_to = center.expand(len(at[part]), *center.shape)
                for direction, own in zip(directions, at[part].T, strict=True):
                    if name in direction and own.any():
                        factor = own.to(center).view(-1, *(1,) * center.ndim)
                        moved_to = moved_to + factor * direction[name].to(center)
                stacks[name] = moved_to.contiguous()
            return stacks

        return self.of(len(at), make)

    def of(self, count: int, make: Make) -> list[float]:
        """Return the losses at so many weights, which are made when they are needed."""
        found: list[float] = []
        with torch.no_grad(), _untouched(self._model):
            # What was traced for a stack of one size serves again: to fill half of it costs less.
            size = self._at_once if 2 * count > self._at_once else count
            for start in range(0, count, size):
                found += self._several(make(slice(start, min(start + size, count))), size)
        return found

    def _several(self, stacks: Stacks, size: int) -> list[float]:
        count = len(next(iter(stacks.values())))
        found = None
        if not self.one_by_one:
            found = self._together(_filled(stacks, size))
        if found is None:
            found = []
            for place in range(count):
                with isolated_random(0):
                    found.append(self._measure.alone({n: x[place] for n, x in stacks.items()}))
                self._progress(1)
        else:
            self._progress(count)
        self.points += count
        return [x if isfinite(x) else float("nan") for x in found[:count]]

    def _together(self, stacks: Stacks) -> list[float] | None:
        try:
            with isolated_random(0):
                losses = self._measure.together(stacks)
        except Exception as error:  # what is wrong alone too is said there
            cause = error.__cause__ if isinstance(error, TaskError) and error.__cause__ else error
            said = re.split(r"[.] |\n", str(cause).strip() or type(cause).__name__)[0]
            self.one_by_one = f"it cannot be stacked: {said.rstrip('.')}"
            return None
        found = [float("nan") if x is None else x for x in losses]
        if not self._checked:
            with isolated_random(0):
                alone = self._measure.alone({n: x[0] for n, x in stacks.items()})
            self._checked = isfinite(alone)  # else another stack is looked at
            if self._checked and not abs(found[0] - alone) <= ALIKE * max(1.0, abs(alone)):
                self.one_by_one = f"its loss in a stack is {found[0]:g}, and alone {alone:g}"
                return None
        return found


def _filled(stacks: Stacks, count: int) -> Stacks:
    """Repeat the last weights until a stack has its usual size: what was traced for it serves again."""
    given = len(next(iter(stacks.values())))
    if given == count:
        return stacks
    return {n: torch.cat([x, x[-1:].expand(count - given, *x.shape[1:])]) for n, x in stacks.items()}


@contextmanager
def _untouched(model: nn.Module) -> Iterator[None]:
    """Have a model in evaluation mode, and afterwards as it was before."""
    modes = [(module, module.training) for module in model.modules()]
    before = told(model)
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
    for module, _ in modes:
        module.training = False  # without eval(), which an attached optimizer watches
    try:
        with isolated_random(0):
            yield
    finally:
        put_back(model, before)  # the mode is one of the attributes
        for module, mode in modes:
            module.training = mode
        with torch.no_grad():
            for buffer, was in kept:
                buffer.copy_(was)

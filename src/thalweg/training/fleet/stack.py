"""The weights and buffers of all replicas, along a leading axis."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.tasks.task import Task
from thalweg.tasks.user_code import isolated_random
from thalweg.training.fleet.program import put_back, told


class Stack:
    """Stacked weights by name; what is the same for all replicas and never changes is held once.

    Args:
        task: whose loss is called once, to see which buffers it writes to.
        model: makes the fresh model of a seed, in training mode; one is there at a time.
        seeds: the seed of each replica, by its place.
        batch: a batch of a few examples.
    """

    def __init__(
        self, task: Task, model: Callable[[int], nn.Module], seeds: Sequence[int], batch: Any
    ) -> None:
        self.shell = model(seeds[0])  # holds what is shared; the rest is given to it at each call
        trained = {n for n, p in self.shell.named_parameters() if p.requires_grad}
        first = _tensors(self.shell)
        own = {n: _repeated(first[n], len(seeds)) for n in trained | _written(task, self.shell, batch)}
        for seed in dict.fromkeys(seeds):
            places = [place for place, other in enumerate(seeds) if other == seed]
            for n, x in _tensors(self.shell if seed == seeds[0] else model(seed)).items():
                if n not in own and _differ(x, first[n]):
                    own[n] = _repeated(first[n], len(seeds))
                if n in own:
                    own[n][places] = x
        self.weights = {n: own[n] for n in first if n in trained}
        self.buffers = {n: own[n] for n in first if n in own and n not in trained}

    def nature(self) -> tuple[Any, ...]:
        """Return what a program that was traced of this stack depends on: names, and what is held once."""
        held = _tensors(self.shell)
        digest = hashlib.blake2b()
        for name in sorted(held.keys() - self.weights.keys() - self.buffers.keys()):
            digest.update(f"{name} {held[name].dtype} {tuple(held[name].shape)}".encode())
            digest.update(held[name].cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return tuple(self.weights), tuple(self.buffers), digest.hexdigest()

    def select(self, places: Tensor) -> None:
        """Keep only these of the replicas, in this order."""
        self.weights = {n: x.index_select(0, places) for n, x in self.weights.items()}
        self.buffers = {n: x.index_select(0, places) for n, x in self.buffers.items()}

    def at(self, place: int) -> dict[str, Tensor]:
        """Return the weights and buffers of one replica, by name: views."""
        return {n: x[place] for n, x in (*self.weights.items(), *self.buffers.items())}


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {n: x.detach() for n, x in (*model.named_parameters(), *model.named_buffers())}


def _repeated(x: Tensor, count: int) -> Tensor:
    return x.new_empty((count, *x.shape)).copy_(x)


def _differ(x: Tensor, y: Tensor) -> bool:
    return x is not y and not torch.equal(x, y)


def _written(task: Task, model: nn.Module, batch: Any) -> set[str]:
    """Return the names of the buffers that a call of the loss writes to; they are afterwards as before."""
    kept = {n: (x, x.clone(), x._version) for n, x in model.named_buffers()}
    if not kept:
        return set()
    plain = told(model)
    with torch.no_grad(), isolated_random(0), task.user_code("training"):
        task.loss(model, batch)
    put_back(model, plain)
    now = dict(model.named_buffers())
    # BatchNorm's kernel writes without a word; others write what was there before.
    written = {
        n
        for n, (x, before, version) in kept.items()
        if now.get(n) is not x or x._version != version or _differ(x, before)
    }
    with torch.no_grad():
        for x, before, _ in kept.values():
            x.copy_(before)
    return written

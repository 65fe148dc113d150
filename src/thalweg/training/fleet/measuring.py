"""Measuring many replicas on a part of the data: exact means over the whole part, as for one model."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, fx
from torch._functorch.compile_utils import fx_graph_cse
from torch.utils import _pytree as pytree

from thalweg.tasks.data.part import Part, examples_in
from thalweg.training.engine import EVALUATION_EXAMPLES, MeanOfBatches, Measured
from thalweg.training.fleet.graph import mutates, simplified
from thalweg.training.fleet.program import Bound, Leaves, told, traced

AT_ONCE: Final = 4  # times the examples of an update of all replicas: nothing is kept for a gradient


class Measurement:
    """Loss and metrics of stacked replicas on batches of one shape, which all of them see.

    Where loss and metrics call the model on the same batch, it runs once: the trace shows that both do.
    """

    def __init__(self, bound: Bound, spec: Any) -> None:
        self.bound, self.spec = bound, spec
        self.names: list[tuple[str, bool]] = []  # and whether it is a pair
        self.graph: fx.GraphModule | None = None
        self._traced = True

    def __call__(self, stacks: Mapping[str, Tensor], leaves: Sequence[Tensor]) -> list[Any]:
        """Return the loss, then each metric: one number a replica, or a pair of such."""
        flat = [*stacks.values(), *leaves]
        if self._traced and self.graph is None:
            self._trace(list(stacks), flat)
        made = iter((self.graph or self._computed(list(stacks)))(*flat))
        return [(next(made), next(made)) if pair else next(made) for _, pair in self.names]

    def _computed(self, names: list[str]) -> Any:
        task = self.bound.task

        def one(flat: Sequence[Tensor], leaves: Sequence[Tensor]) -> list[Tensor]:
            stacks, batch = (
                dict(zip(names, flat, strict=True)),
                pytree.tree_unflatten(list(leaves), self.spec),
            )
            found: dict[str, Any] = {"loss": self.bound.call(task.loss, stacks, batch)}
            found |= self.bound.call(task.metrics, stacks, batch) if task.metrics else {}
            self.names = [(name, isinstance(x, tuple | list)) for name, x in found.items()]
            return [_tensor(y) for x in found.values() for y in (x if isinstance(x, tuple | list) else [x])]

        def all_of_them(*flat: Tensor) -> Any:
            stacked, leaves = list(flat[: len(names)]), list(flat[len(names) :])
            return torch.vmap(one, in_dims=(0, None), randomness="different")(stacked, leaves)

        return all_of_them

    def _trace(self, names: list[str], flat: list[Tensor]) -> None:
        before = told(self.bound.model)
        graph = traced(self._computed(names), flat)
        if told(self.bound.model) != before:
            self._traced = False
            return
        if not any(mutates(node) for node in graph.graph.nodes):
            graph = fx.GraphModule(graph, fx_graph_cse(graph.graph))
        self.graph = simplified(graph)


def _tensor(x: Any) -> Tensor:
    return x if isinstance(x, Tensor) else torch.as_tensor(x, dtype=torch.float64)


@torch.no_grad()
def measured_together(
    bound: Bound,
    known: dict[Any, Measurement],
    stacks: Mapping[str, Tensor],
    part: Part,
    move: Any,
    at_once: int,
) -> list[Measured]:
    """Measure replicas on a part of the data.

    Args:
        bound: task and model, in evaluation mode.
        known: what was traced before, by shape; it grows.
        stacks: the weights and buffers of the replicas.
        part: what to measure on.
        move: brings a batch to where the stacks are.
        at_once: examples times replicas that may be computed together.
    """
    count = len(next(iter(stacks.values())))
    examples = min(EVALUATION_EXAMPLES, part.examples)
    pieces = -(-count // max(1, at_once // examples))
    size = -(-count // pieces)
    sums = [MeanOfBatches() for _ in range(count)]
    for batch in part.batches(EVALUATION_EXAMPLES):
        batch = move(batch)
        leaves, weight, number = Leaves.of(batch), float(bound.task.weight(batch)), examples_in(batch)
        for start in range(0, count, size):
            chosen = {n: x[start : start + size] for n, x in stacks.items()}
            key = (len(next(iter(chosen.values()))), *((x.shape, x.dtype) for x in leaves.tensors))
            if key not in known:
                known[key] = Measurement(bound, leaves.spec)
            found = known[key](chosen, leaves.tensors)
            _add(sums[start : start + size], known[key].names, found, weight, number)
    return [each.means() for each in sums]


def _add(
    sums: Sequence[MeanOfBatches],
    names: Sequence[tuple[str, bool]],
    found: Sequence[Any],
    weight: float,
    number: int,
) -> None:
    for (name, pair), values in zip(names, found, strict=True):
        each = list(zip(*(x.tolist() for x in values), strict=True)) if pair else values.tolist()
        for mine, value in zip(sums, each, strict=True):
            if name == "loss":
                mine.add(name, value, weight)
            else:
                mine.add_metric(name, value, number)

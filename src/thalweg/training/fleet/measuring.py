"""Measuring many replicas on a part of the data: exact means over the whole part, as for one model.

Where loss and metrics can be compiled, replicas are measured one after the other, each within the caches, and
all read the same batch (`backends.replicas`); else torch computes as many at once as memory should hold.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from math import isfinite
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from thalweg.backends import machine, replicas
from thalweg.backends.replicas import Replicated, TooLarge
from thalweg.tasks.data.part import Part, examples_in
from thalweg.tasks.user_code import isolated_random
from thalweg.training.fleet.graph import computed_once, mutates, simplified
from thalweg.training.fleet.program import Bound, Leaves, put_back, told, traced
from thalweg.training.fleet.recording import recorded
from thalweg.training.measuring import EVALUATION_EXAMPLES, Measured

AT_ONCE: Final = 4  # times the examples of an update of all replicas: nothing is kept for a gradient
CACHED: Final = 1 << 20  # bytes that a core has near it
FEWEST: Final = 64  # examples: what does not fit there even then is measured on more at once

Numbers: TypeAlias = NDArray[np.float64]


class Measurement:
    """Loss and metrics of stacked replicas on batches of one shape, which all of them see.

    Where loss and metrics call the model on the same batch, it runs once: the trace shows that both do.

    Args:
        bound: task and model, in evaluation mode.
        spec: how batches are put together.
    """

    def __init__(self, bound: Bound, spec: Any) -> None:
        self.bound, self.spec = bound, spec
        self.names: list[tuple[str, bool]] = []  # and whether it is a pair
        self.examples = 0  # how many to measure at once
        self.compiled: Replicated | None = None
        self.graphs: dict[int, fx.GraphModule] = {}  # by the number of replicas
        self._made: dict[int, list[Tensor]] = {}  # where compiled code writes, likewise
        self._pure = True  # whether each call computes the same, as far as is known

    def __call__(
        self, stacks: Mapping[str, Tensor], leaves: Sequence[Tensor], at_once: int, threads: int
    ) -> dict[str, tuple[Numbers, Numbers | None]]:
        """Return the loss, then each metric: a number a replica, or numerators and denominators.

        Args:
            stacks: weights and buffers by name.
            leaves: of a batch.
            at_once: how many replicas torch may compute together.
            threads: of compiled code.
        """
        if self.compiled is not None:
            made = self._run(self.compiled, list(stacks.values()), leaves, threads)
        else:
            count = len(next(iter(stacks.values())))
            size = -(-count // -(-count // at_once))  # pieces of one size, as far as that goes
            pieces = [
                self._replayed({n: x[i : i + size] for n, x in stacks.items()}, leaves)
                for i in range(0, count, size)
            ]
            made = [torch.cat(xs) for xs in zip(*pieces, strict=True)]
        numbers = iter(x.flatten().double().cpu().numpy() for x in made)
        return {name: (next(numbers), next(numbers) if pair else None) for name, pair in self.names}

    def prepare(self, stacks: Mapping[str, Tensor], leaves: Sequence[Tensor]) -> None:
        """Find out whether this can be compiled, and for how many examples at once."""
        self.examples = len(leaves[0])
        if next(iter(stacks.values())).device.type != "cpu" or not machine.available():
            return
        # Torch computes what cannot be compiled, and says what is wrong with what a person wrote.
        with suppress(Exception):
            self._compile(stacks, leaves)

    def _compile(self, stacks: Mapping[str, Tensor], leaves: Sequence[Tensor]) -> None:
        """Compile for as many examples at once as lie within the caches, or else in a thread's area."""
        examples, most = len(leaves[0]), CACHED
        while self._pure and self.compiled is None:
            flat = [*stacks.values(), *(x[None, :examples] for x in leaves)]
            two = [x[:1].expand(2, *x.shape[1:]).contiguous() for x in flat]
            graph = self._trace(self._computed(list(stacks), 0), two, recorded)
            try:
                self.compiled = Replicated(graph, most) if self._pure else None
                self.examples = examples
            except TooLarge as error:
                fitting = examples * most // error.needed  # what is needed grows with the examples
                if fitting < FEWEST and most < replicas.LARGEST_SCRATCH:
                    most = replicas.LARGEST_SCRATCH
                    fitting = examples * most // error.needed
                if fitting < 1:
                    raise
                examples = min(examples, fitting)

    def _computed(self, names: list[str], axis: int | None) -> Callable[..., Any]:
        """Return the function of all replicas; axis: where batches differ between replicas, None: nowhere."""
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
            with sdpa_kernel(SDPBackend.MATH):  # others know no axis of replicas
                return torch.vmap(one, in_dims=(0, axis), randomness="different")(stacked, leaves)

        return all_of_them

    def _trace(
        self, function: Callable[..., Any], flat: Sequence[Tensor], record: Callable[..., fx.GraphModule]
    ) -> fx.GraphModule:
        with isolated_random(0):
            before = told(self.bound.model)
            try:
                graph = record(function, flat)
            finally:
                after = told(self.bound.model)
                put_back(self.bound.model, before)
        self._pure = after == before  # else the next call would compute something else
        if not any(mutates(node) for node in graph.graph.nodes):
            graph = computed_once(graph)
        graph.graph.eliminate_dead_code()  # of what is written to, nothing is dead
        return simplified(graph)

    def _run(
        self, compiled: Replicated, stacks: Sequence[Tensor], leaves: Sequence[Tensor], threads: int
    ) -> list[Tensor]:
        count = len(stacks[0])
        if count not in self._made:
            self._made[count] = compiled.outputs(count)
        made = self._made[count]
        given = [x.contiguous() for x in (*stacks, *(leaf[None] for leaf in leaves))]
        one = np.zeros(count, np.int64)  # the batch that all see
        compiled.run(given, [*[None] * len(stacks), *[one] * len(leaves)], made, threads)
        return made

    def _replayed(self, stacks: Mapping[str, Tensor], leaves: Sequence[Tensor]) -> list[Tensor]:
        """Return what torch computes, by a trace where each call computes the same."""
        flat, function = [*stacks.values(), *leaves], self._computed(list(stacks), None)
        count = len(flat[0])
        if self._pure and count not in self.graphs:
            self.graphs[count] = self._trace(function, flat, traced)
        made: list[Tensor] = (self.graphs[count] if self._pure else function)(*flat)
        return made


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
    threads: int = 1,
) -> list[Measured]:
    """Measure replicas on a part of the data.

    Args:
        bound: task and model, in evaluation mode.
        known: what was traced before, by shape; it grows.
        stacks: the weights and buffers of the replicas.
        part: what to measure on.
        move: brings a batch to where the stacks are.
        at_once: examples times replicas that torch may compute together.
        threads: of compiled code.
    """

    def measurement(leaves: Leaves) -> Measurement:
        key = tuple((x.shape, x.dtype) for x in leaves.tensors)
        if key not in known:
            known[key] = Measurement(bound, leaves.spec)
            known[key].prepare(stacks, leaves.tensors)
        return known[key]

    # 512 examples of 784 numbers are more than the cache of a core, and still no slower than 128 at a time:
    # a product passes over them in strips, each fetched once for a hundred sums.
    sums = _Sums()
    for batch in part.batches(EVALUATION_EXAMPLES):
        whole = Leaves.of(move(batch))
        number, most = examples_in(batch), measurement(whole).examples
        for start in range(0, number, most):
            leaves = whole._replace(tensors=[x[start : start + most] for x in whole.tensors])
            examples = min(most, number - start)
            weight = float(bound.task.weight(leaves.joined(leaves.tensors)))
            found = measurement(leaves)(stacks, leaves.tensors, max(1, at_once // examples), threads)
            for name, (values, of) in found.items():
                if of is not None:
                    sums.add(name, values, of)
                else:
                    own = weight if name == "loss" else examples
                    sums.add(name, values * own, own)
    return sums.means()


class _Sums:
    """Means over a whole part of many replicas, as `MeanOfBatches` has them of one."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[Any, Any]] = {}

    def add(self, name: str, numerators: Numbers, denominators: Any) -> None:
        """Add what a batch adds to numerators and denominators."""
        over, under = self._sums.get(name, (0.0, 0.0))
        self._sums[name] = over + numerators, under + denominators

    def means(self) -> list[Measured]:
        """Return the means of each replica; None where one is not finite."""
        with np.errstate(all="ignore"):  # what does not exist is no error
            means = [np.divide(over, under) for over, under in self._sums.values()]
        each = [[x if isfinite(x) else None for x in mean.tolist()] for mean in means]
        return [dict(zip(self._sums, own, strict=True)) for own in zip(*each, strict=True)]

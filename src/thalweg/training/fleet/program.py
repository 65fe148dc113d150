"""The stacked program: losses and gradients of all replicas by one call.

The person's loss runs under `torch.vmap` on stacked weights. What it computes is the same in every update,
and so it is traced once for each shape of a batch. Where the trace can be compiled, replicas are computed one
after another, each within the caches (`backends.replicas`); else torch replays it for all at once. A function
that keeps a count of its own is run anew in every update.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import _engine_run_backward
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from thalweg.backends import machine
from thalweg.backends.replicas import Replicated
from thalweg.backends.symbols import Untraceable
from thalweg.tasks.task import Task
from thalweg.tasks.user_code import isolated_random
from thalweg.training.fleet.graph import simplified
from thalweg.training.fleet.recording import recorded


class Unstackable(Exception):
    """A model cannot run as replicas of one program; the sentence says why."""


class Leaves(NamedTuple):
    """Batches taken apart: their tensors, and how they are put together again."""

    tensors: list[Tensor]
    spec: Any
    which: np.ndarray = np.zeros(1, np.int64)  # which of the batches along a leading axis each replica sees

    @classmethod
    def of(cls, batch: Any) -> "Leaves":
        """Take a batch apart.

        Raises:
            Unstackable: it holds something else than tensors.
        """
        leaves, spec = pytree.tree_flatten(batch)
        for leaf in leaves:
            if not isinstance(leaf, Tensor):
                raise Unstackable(f"its batches hold {type(leaf).__name__}, which has no axis of replicas")
        return cls(leaves, spec)

    def joined(self, tensors: list[Tensor]) -> Any:
        """Put a batch of the same structure together."""
        return pytree.tree_unflatten(tensors, self.spec)


class _Loss(nn.Module):
    """A function of a model and a batch as a module, so that the weights of the model can be replaced."""

    def __init__(self, model: nn.Module, function: Callable[[nn.Module, Any], Any]) -> None:
        super().__init__()
        self.model, self.function = model, function

    def forward(self, batch: Any) -> Any:
        return self.function(self.model, batch)


class Bound(NamedTuple):
    """A model whose weights and buffers are given as stacks by name; what all replicas share stays in it."""

    task: Task
    model: nn.Module

    def call(self, function: Callable[..., Any], stacks: Mapping[str, Tensor], batch: Any) -> Any:
        """Call a function of model and batch with one replica's weights."""
        named = {f"model.{name}": x for name, x in stacks.items()}
        return functional_call(_Loss(self.model, function), named, (batch,))


class Gradients:
    """Losses and gradients for batches of one shape.

    Args:
        bound: task and model.
        weights: names of what is trained.
        buffers: names of what else is stacked.
        spec: how batches are put together.
        threads: of compiled code.
    """

    def __init__(
        self, bound: Bound, weights: Sequence[str], buffers: Sequence[str], spec: Any, threads: int
    ) -> None:
        self.bound, self.spec, self.threads = bound, spec, threads
        self.weights, self.buffers = list(weights), list(buffers)
        self.present: list[str] = []  # the weights that the loss depends on
        self.compiled: Replicated | None = None
        self.graphs: dict[int, fx.GraphModule] = {}  # by the number of replicas
        self._made: dict[int, list[Tensor]] = {}  # where compiled code writes, for the last number
        self.pure: bool | None = None  # whether each call computes the same
        self.draws = True  # whether calls may draw random numbers

    def __call__(
        self,
        weights: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        leaves: Sequence[Tensor],
        of: np.ndarray,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return losses (K,) and gradients by name, which the next call may overwrite.

        Args:
            weights: stacks by name.
            buffers: stacks by name; they may be written to.
            leaves: of batches, along a leading axis.
            of: which of the batches each replica sees, (K,).
        """
        stacks = [*weights.values(), *buffers.values()]
        if self.pure is None:
            self._prepare(stacks, leaves)
        if self.compiled is not None:
            made = self._run(self.compiled, stacks, leaves, of)
        else:
            chosen = torch.from_numpy(of).to(stacks[0].device)
            flat = [*stacks, *(x.index_select(0, chosen) for x in leaves)]
            if self.pure:
                with torch.no_grad():
                    made = self._graph(flat, len(of))(*flat)
            else:
                made = self._computed(*flat)
        return made[0], dict(zip(self.present, made[1:], strict=True))

    def resident(self, count: int) -> int:
        """Return the bytes that are kept between calls for so many replicas."""
        scratch = self.threads * self.compiled.scratch if self.compiled is not None else 0
        return scratch + sum(x.nbytes for x in self._made.get(count, ()))

    def _computed(self, *flat: Tensor) -> list[Tensor]:
        def loss(flat: Sequence[Tensor]) -> Tensor:
            stacks = dict(zip([*self.weights, *self.buffers], flat, strict=False))
            batch = pytree.tree_unflatten(list(flat[len(stacks) :]), self.spec)
            return self.bound.call(self.bound.task.loss, stacks, batch)  # type: ignore[no-any-return]

        count = len(self.weights)
        given = [x.detach().requires_grad_() for x in flat[:count]]
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # others know no axis of replicas
            losses = torch.vmap(loss, randomness="different")([*given, *flat[count:]])
        gradients = _gradients(losses, given)
        self.present = [n for n, g in zip(self.weights, gradients, strict=True) if g is not None]
        return [losses.detach(), *(g for g in gradients if g is not None)]

    def _prepare(self, stacks: Sequence[Tensor], leaves: Sequence[Tensor]) -> None:
        """Find out whether calls can be replayed, and whether they can be compiled."""
        few = [x[:1].expand(2, *x.shape[1:]).contiguous() for x in (*stacks, *leaves)]
        with isolated_random(0):
            before = told(self.bound.model)
            graph = recorded(self._computed, few)  # of copies, which may be written to
            after = told(self.bound.model)
        put_back(self.bound.model, before)
        if after.generators != before.generators:
            raise Unstackable(
                "it draws from Python's or NumPy's generators, and all replicas would get the same numbers"
            )
        self.pure = after == before  # else the next call would compute something else
        self.draws = any(_draws(node) for node in graph.graph.nodes)
        if self.pure and stacks[0].device.type == "cpu" and machine.available():
            with suppress(Untraceable):
                self.compiled = Replicated(graph)

    def _graph(self, flat: Sequence[Tensor], count: int) -> fx.GraphModule:
        if count not in self.graphs:
            self.graphs[count] = simplified(traced(self._computed, flat))
        return self.graphs[count]

    def _run(
        self, compiled: Replicated, stacks: Sequence[Tensor], leaves: Sequence[Tensor], of: np.ndarray
    ) -> list[Tensor]:
        count = len(of)
        if count not in self._made:
            known = dict(zip(self.weights, stacks, strict=False))
            # As large as the weights: none is kept of a fleet that was larger.
            self._made = {
                count: [stacks[0].new_empty(count), *(torch.empty_like(known[n]) for n in self.present)]
            }
        made = self._made[count]
        compiled.run([*stacks, *leaves], [*[None] * len(stacks), *[of] * len(leaves)], made, self.threads)
        return [made[0].clone(), *made[1:]]


def _gradients(losses: Tensor, given: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    """Return the gradient of each loss; None where it does not depend on what is given.

    It is what `torch.autograd.grad` calls, after a check of shapes that imports SymPy.
    """
    made: tuple[Tensor | None, ...] = _engine_run_backward(
        (losses,), (torch.ones_like(losses),), False, False, tuple(given), True, accumulate_grad=False
    )
    return made


def traced(function: Callable[..., Any], flat: Sequence[Tensor]) -> fx.GraphModule:
    """Record a function on tensors without storage: nothing is computed, and nothing written to."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        return recorded(function, [mode.from_tensor(x) for x in flat])


def _draws(node: fx.Node) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


class Told(NamedTuple):
    """What a call may leave behind beside tensors."""

    generators: Any  # the states of Python's and NumPy's
    attributes: dict[str, dict[str, Any]]  # those of modules that are plain values


def told(model: nn.Module) -> Told:
    """Return what a call may leave behind beside tensors."""
    plain = {
        name: {n: x for n, x in vars(m).items() if isinstance(x, int | float | str | bool | None)}
        for name, m in model.named_modules()
    }
    numpy_state: Any = np.random.get_state()
    return Told((random.getstate(), numpy_state[1].tobytes(), numpy_state[2:]), plain)


def put_back(model: nn.Module, before: Told) -> None:
    """Give modules the attributes that they had, as if a call had not been."""
    for name, module in model.named_modules():
        vars(module).update(before.attributes.get(name, {}))

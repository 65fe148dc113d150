"""Optimizers that are ready to step on given tensors: ours, PyTorch's and those made like it, optax's."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import import_module
from operator import attrgetter
from typing import Any, Protocol

import torch
from _peers import RATE, Peer, Way
from _shapes import Tensors
from torch import Tensor

from thalweg import optim
from thalweg.rules.catalogue import CATALOGUE, Preset


class Candidate(Protocol):
    """What is measured."""

    def advance(self, count: int) -> None:
        """Take so many steps, and return when they are done."""

    def refill(self) -> None:
        """Put the gradients back where steps changed them."""

    def state_bytes(self) -> int:
        """Return the bytes of all buffers; single numbers are left out."""


class Eager:
    """PyTorch optimizers with their parameters, which have gradients."""

    def __init__(
        self, optimizers: Iterable[torch.optim.Optimizer], leaves: Sequence[Tensor], slopes: Sequence[Tensor]
    ) -> None:
        self.optimizers = list(optimizers)
        self._leaves = leaves
        self._slopes = [slope.view(leaf.shape) for slope, leaf in zip(slopes, leaves, strict=True)]
        self._gradients = [leaf.grad for leaf in leaves]
        self._changed: bool | None = None  # whether steps change the gradients; None: not looked at yet
        self._taken: list[tuple[Tensor, Tensor | None]] = []  # which they take away

    def advance(self, count: int) -> None:
        for _ in range(count):
            for leaf, gradient in self._taken:
                leaf.grad = gradient
            for optimizer in self.optimizers:
                optimizer.step()

    def refill(self) -> None:
        if self._changed is None:  # some methods clip or decay in place, and HeavyBall takes gradients away
            pairs = list(zip(self._gradients, self._slopes, strict=True))
            self._changed = any(not torch.equal(gradient, slope) for gradient, slope in pairs)
            kept = zip(self._leaves, self._gradients, strict=True)
            self._taken = [(leaf, gradient) for leaf, gradient in kept if leaf.grad is None]
        if self._changed:
            torch._foreach_copy_(self._gradients, self._slopes)

    def state_bytes(self) -> int:
        return sum(_bytes(list(optimizer.state.values())) for optimizer in self.optimizers)


def _bytes(state: Any) -> int:
    """Return the bytes of all tensors of more than one number, however deep they lie."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size() if state.numel() > 1 else 0
    if isinstance(state, Mapping):
        return sum(map(_bytes, state.values()))
    return sum(map(_bytes, state)) if isinstance(state, list | tuple) else 0


class Jitted:
    """A method of optax with its arrays: updates and their application in one compiled function.

    Parameters and state are donated, so that they can be updated in place. The wait is for the last step,
    so that a step may be dispatched while the one before it runs.
    """

    def __init__(self, method: Any, slopes: Sequence[Tensor]) -> None:
        self._jax = import_module("jax")
        arrays = [self._jax.numpy.array(slope.numpy(), copy=True) for slope in slopes]
        self._gradients = [self._jax.numpy.array(slope.numpy(), copy=True) for slope in slopes]
        # Copied, since a state may start with the parameters themselves, and each is donated once.
        self._at = (arrays, self._jax.tree.map(self._jax.numpy.copy, method.init(arrays)))
        apply = import_module("optax").apply_updates

        def step(parameters: Any, state: Any, gradients: Any) -> Any:
            updates, state = method.update(gradients, state, parameters)
            return apply(parameters, updates), state

        self._step = self._jax.jit(step, donate_argnums=(0, 1))

    def advance(self, count: int) -> None:
        for _ in range(count):
            self._at = self._step(*self._at, self._gradients)
        self._jax.block_until_ready(self._at)

    def refill(self) -> None:
        pass

    def state_bytes(self) -> int:
        leaves = self._jax.tree.leaves(self._at[1])
        return sum(leaf.nbytes for leaf in leaves if leaf.size > 1)


def slopes_of(tensors: Tensors) -> list[Tensor]:
    """Return random numbers of these shapes: gradients, and what parameters are copied from."""
    generator = torch.Generator().manual_seed(0)
    return [0.01 * torch.randn(shape, generator=generator) for shape in tensors.shapes]


def _leaves(slopes: Iterable[Tensor], flat: bool) -> list[Tensor]:
    """Return parameters with gradients; filters as matrices, where a method takes nothing else."""
    made = []
    for slope in slopes:
        shape = (len(slope), -1) if flat and slope.ndim > 2 else slope.shape
        leaf = slope.clone().reshape(shape).requires_grad_()
        leaf.grad = slope.clone().reshape(shape)
        made.append(leaf)
    return made


def ours(preset: Preset, tensors: Tensors, slopes: Sequence[Tensor], **options: Any) -> Eager:
    """Return the class of a preset's rule, ready to step."""
    leaves = _leaves(slopes, flat=False)
    groups: list[Any] = leaves
    if preset.rule.least_axes:
        hidden = set(tensors.hidden)
        of_rule = {preset.rule.name: hidden, "adamw": set(range(len(leaves))) - hidden}
        groups = [
            {"params": [leaves[i] for i in sorted(places)], "rule": rule}
            for rule, places in of_rule.items()
            if places
        ]
    made = optim.BY_RULE[preset.rule.name](groups, lr=RATE, **preset.fixed, **options)
    return Eager([made], leaves, slopes)


def theirs(peer: Peer, preset: Preset, tensors: Tensors, slopes: Sequence[Tensor]) -> Candidate:
    """Return a peer's method, ready to step.

    Where a rule takes hidden matrices only, PyTorch's fused AdamW moves the rest, whosever the method is
    (optax: its own AdamW), and filters are given as matrices.
    """
    way = peer.ways[preset.name]
    if peer.module == "optax":
        return _optax(way, preset, tensors, slopes)
    if peer.module == "heavyball":
        # As it ships it compiles every function anew, for minutes; on a CPU that made nothing faster.
        import_module("heavyball.utils").compile_mode = None
    leaves = _leaves(slopes, flat=bool(preset.rule.least_axes))
    hidden = set(tensors.hidden) if preset.rule.least_axes else set(range(len(leaves)))
    main, rest = ([p for i, p in enumerate(leaves) if (i in hidden) is wanted] for wanted in (True, False))
    given = [{"params": main, **way.group}] if way.group else main
    make = getattr(import_module(peer.module), way.make) if isinstance(way.make, str) else way.make
    optimizers = [make(given, lr=RATE, **way.options)]
    if rest:
        optimizers.append(torch.optim.AdamW(rest, lr=RATE, fused=True))
    for optimizer in optimizers:
        getattr(optimizer, "train", lambda: None)()  # Schedule-Free must be told
    return Eager(optimizers, leaves, slopes)


def _optax(way: Way, preset: Preset, tensors: Tensors, slopes: Sequence[Tensor]) -> Jitted:
    optax = import_module("optax")
    import_module("optax.contrib")
    method = attrgetter(way.make)(optax)(learning_rate=RATE, **way.options)
    if not preset.rule.least_axes:
        return Jitted(method, slopes)
    hidden = set(tensors.hidden)
    labels = ["hidden" if i in hidden else "rest" for i in range(len(slopes))]
    flat = [x.reshape(len(x), -1) if x.ndim > 2 else x for x in slopes]
    return Jitted(optax.partition({"hidden": method, "rest": optax.adamw(RATE)}, labels), flat)


@cache
def changing(name: str, steps: int = 4) -> frozenset[str]:
    """Return the names of the buffers of a preset that an ordinary step changes.

    They are looked up on a small matrix and a small vector, at the last of a few steps with a new gradient
    each: what a rule keeps but seldom renews (the bases of SOAP, the curvature of Sophia) does not count.
    """
    preset, generator = CATALOGUE[name], torch.Generator().manual_seed(0)
    tensors = Tensors("", ((6, 4),) if preset.rule.least_axes else ((6, 4), (5,)))
    candidate = ours(preset, tensors, slopes_of(tensors))
    (optimizer,) = candidate.optimizers
    before: list[dict[str, Tensor]] = []
    for _ in range(steps):
        before = [{n: x.clone() for n, x in state.items()} for state in optimizer.state.values()]
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.randn(parameter.shape, generator=generator)
        candidate.advance(1)
    pairs = zip(before, optimizer.state.values(), strict=True)
    return frozenset(n for old, new in pairs for n in new if n != "step" and not torch.equal(old[n], new[n]))


def bytes_moved(name: str, candidate: Eager) -> int:
    """Return the bytes that a step must move at least, from the sizes of the states.

    The parameter, its gradient and each of its buffers are read once; the parameter and the buffers that
    `changing` names are written once. That is what a single pass does. A rule that needs a norm or a sum
    first (LAMB, Prodigy, factored moments), or products of matrices, moves more: its fraction of the
    bandwidth says how far it is from a single pass. Single numbers (a count of steps) are left out, and
    parameters that AdamW moves beside the rule count with their own two buffers.
    """
    total, written = 0, changing(name) | changing("adamw")
    (optimizer,) = candidate.optimizers
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            size = parameter.numel() * parameter.element_size()
            total += 3 * size
            for buffer, tensor in optimizer.state[parameter].items():
                total += _bytes(tensor) * (2 if buffer in written else 1)
    return total


def bytes_needed(preset: Preset, tensors: Tensors) -> int:
    """Return the memory that a candidate needs at least: parameters, gradients and buffers of our rule."""
    adamw, total = CATALOGUE["adamw"], 0
    for place, shape in enumerate(tensors.shapes):
        moved_by = preset if not preset.rule.least_axes or place in tensors.hidden else adamw
        rule, meta = moved_by.rule, torch.empty(shape, device="meta")
        state = rule.initial(meta, rule.values(rule.checked(moved_by.fixed)))
        total += 4 * (2 * meta.numel() + sum(x.numel() for x in state))
    return total

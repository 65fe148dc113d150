"""The tensors that a plan moves, looked at anew before every step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from operator import attrgetter, is_
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thalweg.backends import machine
from thalweg.backends.kinds import TYPES, layout
from thalweg.backends.plan import Plan
from thalweg.backends.tensors import Likeness, Places
from thalweg.optim.overlap import refuse_overlap
from thalweg.rules.tail import Row

_gradient: Any = attrgetter("grad")


class Tensors:
    """The tensors that a plan moves, in its order."""

    def __init__(self, optimizer: Any, plan: Plan, rows: list[Row], parameters: list[Tensor]) -> None:
        self.parameters = parameters
        self.versioned = [p for p in parameters if not p.is_inference()]  # those that autograd watches
        self.order = places_of(optimizer, parameters)
        self.states = list(optimizer.state.values())  # of all parameters
        self.entries = list(_entries(self.states))
        states = [optimizer.state[p] for p in parameters]
        self.steps = Singles([state["step"] for state in states])
        self.singles: list[tuple[tuple[int, int], Singles]] = []
        self.fixed: list[Tensor] = []  # the parameter and its buffers, row by row
        at = 0
        for index, part in enumerate(plan.parts):
            here = slice(at, at + part.count)
            names = rows[at].state._fields
            for p, state in zip(parameters[here], states[here], strict=True):
                self.fixed += [p, *(state[names[field]] for field in part.kind.fields)]
            for field, number in enumerate(part.kind.family.numbers):
                if number:
                    buffers = [state[names[field]] for state in states[here]]
                    self.singles.append(((index, field), Singles(buffers)))
            at += part.count
        gradients = list(map(_gradient, parameters))
        # Buffers keep their storages while these are held: with identity and address all is the same.
        self.storages = [x.untyped_storage() for x in self.entries if isinstance(x, Tensor)]
        self.kinds, self.gradient_kinds = Likeness(parameters), Likeness(gradients)
        self.fixed_kinds = Likeness(self.fixed)
        self.places, self.gradient_places = Places(len(self.fixed)), Places(len(gradients))
        self.known = b""  # where they were
        self.otherwise = [
            (place, p)
            for place, (p, g) in enumerate(zip(parameters, gradients, strict=True))
            if _laid_out_otherwise(p, g)
        ]

    def fit(self, optimizer: Any) -> bool:
        """Tell whether parameters and states are as they were planned, and find out where they are."""
        states = optimizer.state
        if len(states) != len(self.states) or not all(map(is_, states.values(), self.states)):
            return False
        entries = list(_entries(self.states))
        if len(entries) != len(self.entries) or not all(map(is_, entries, self.entries)):
            return False
        if not self.kinds.holds(self.parameters):
            return False
        if not (self.steps.fit() and all(single.fit() for _, single in self.singles)):
            return False
        if (known := self.places.read(self.fixed).tobytes()) != self.known:
            if not self.fixed_kinds.holds(self.fixed):
                return False
            refuse_overlap(optimizer, self.fixed)
            self.known = known
        return True

    def gradients(self) -> list[Tensor] | None:
        """Return the gradients, laid out as parameters; None if they are not as they were planned."""
        gradients = list(map(_gradient, self.parameters))
        if not self.gradient_kinds.holds(gradients):
            return None
        for place, p in self.otherwise:
            gradients[place] = _as_laid_out(p, gradients[place])
        return gradients


class Singles:
    """Tensors that hold one number each, read and written all at once."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.types = [x.dtype for x in tensors]
        kinds = {TYPES.get(dtype) for dtype in self.types}
        kind = kinds.pop() if len(kinds) == 1 else None
        self.tensors, self.places = tensors, Places(len(tensors))
        self.numbers = np.zeros(len(tensors))
        self.alike = True  # whether all were equal when they were read
        self.given = self.places.given[2], len(tensors), self.numbers.ctypes.data
        self.known = b""  # where they were when their types were looked at last
        self.reader: Any
        self.writer: Any
        # Numbers of several types, or whole ones, are left to torch.
        self.reader, self.writer = (
            (None, None) if kind is None else (machine.reader(kind), machine.writer(kind))
        )

    def fit(self) -> bool:
        """Tell whether they have the types that were planned; find out where they are."""
        if (known := self.places.read(self.tensors).tobytes()) != self.known:
            if [x.dtype for x in self.tensors] != self.types:
                return False
            self.known = known
        return True

    def read(self) -> np.ndarray:
        """Return the numbers where `fit` has found them, in float64; the next call overwrites them."""
        if self.reader is not None:
            self.alike = self.reader(*self.given) == 1
        else:
            self.numbers[:] = [x.item() for x in self.tensors]
            self.alike = bool((self.numbers == self.numbers[0]).all())
        return self.numbers

    def write(self, numbers: Any) -> None:
        """Write a number to each."""
        if numbers is not self.numbers:
            self.numbers[:] = np.reshape(numbers, -1)
        if self.writer is not None:
            self.writer(*self.given)
        else:
            for x, number in zip(self.tensors, self.numbers.tolist(), strict=True):
                x.fill_(number)


def places_of(optimizer: Any, parameters: Sequence[Tensor]) -> np.ndarray:
    """Return which parameters of an optimizer these are."""
    known = [id(p) for group in optimizer.param_groups for p in group["params"]]
    where = {each: place for place, each in enumerate(known)}
    return np.array([where[id(p)] for p in parameters], np.int64)


def _entries(states: Iterable[dict[str, Any]]) -> Iterator[Any]:
    return chain.from_iterable(map(dict.values, states))


def _laid_out_otherwise(p: Tensor, g: Tensor) -> bool:
    return layout(g) != layout(p) or g.is_neg() or g.is_conj() or g._is_zerotensor()


@torch.no_grad()
def _as_laid_out(p: Tensor, g: Tensor) -> Tensor:
    return torch.empty_like(p, dtype=g.dtype).copy_(g)


def with_layout(row: Row) -> Row:
    """Return a row whose gradient is laid out as its parameter."""
    p, g = row.parameter, row.gradient
    if g.layout is torch.strided and _laid_out_otherwise(p, g):
        return row._replace(gradient=_as_laid_out(p, g))
    return row

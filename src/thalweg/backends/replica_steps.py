"""The work of one replica as steps: loops and products, each on arrays that have their place in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from thalweg.backends import replica_loops as loops
from thalweg.backends.replica_products import Product, packed, product
from thalweg.backends.replica_text import TYPES, Writer, floating
from thalweg.backends.replica_values import Buffer, Value, View, alike, fresh
from thalweg.backends.symbols import Untraceable


class Step(NamedTuple):
    """One function of a replica's work: what it writes, what it reads, its own scratch, and its text."""

    target: View
    reads: Sequence[View]
    panel: Buffer
    write: Callable[[], Writer]


class Machine(NamedTuple):
    """What the processor has."""

    width: int  # numbers of 4 bytes in a vector
    registers: int


class Steps:
    """What there is to do, in its order."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.steps: list[Step] = []
        self.turned: dict[int, tuple[Value, View]] = {}  # images of which others have the examples innermost
        self._reduced: dict[tuple[str, int, tuple[bool, ...]], View] = {}  # what was reduced, by identity

    def prune(self) -> None:
        """Leave out what nobody reads, such as where the largest numbers stand."""
        wanted: set[int] = set()
        kept = []
        for step in reversed(self.steps):
            if step.target.buffer.home == "output" or id(step.target.buffer) in wanted:
                wanted |= {id(view.buffer) for view in step.reads}
                kept.append(step)
        self.steps = kept[::-1]

    def stored(self, x: Value) -> View:
        """Return a value that lies in memory."""
        if isinstance(x, View):
            return x
        return self.store(alike(x, x.shape), x)

    def store(self, target: View, x: Value) -> View:
        """Compute a value into an array."""
        width = self.machine.width
        self.steps.append(Step(target, loops.views(x), Buffer(0), lambda: loops.store(target, x, width)))
        return target

    def reduced(self, operation: str, x: Value, axes: Sequence[int], keep: bool = True) -> View:
        """Return a sum, or the largest or smallest, along axes of one replica."""
        if operation != "add" and x.dtype not in ("float32", "float64", "int64"):
            raise Untraceable(f"The largest and smallest must be of numbers with a sign; got {x.dtype}.")
        chosen = tuple(i in axes for i in range(len(x.shape)))
        key = operation, id(x), chosen
        if key not in self._reduced:  # a loss and a metric may both ask for it
            kept = tuple(1 if c else n for c, n in zip(chosen, x.shape, strict=True))
            made = alike(x, kept)
            width = self.machine.width
            self.steps.append(
                Step(made, loops.views(x), Buffer(0), lambda: loops.reduce(made, x, chosen, operation, width))
            )
            self._reduced[key] = made
        target = self._reduced[key]
        if keep:
            return target
        shape, strides = (
            tuple(n for c, n in zip(chosen, of, strict=True) if not c) for of in (x.shape, target.strides)
        )
        return View(target.buffer, 0, shape, strides, x.dtype)

    def add_rows(self, target: View, index: View, source: View) -> None:
        """Add rows to those of a table that indices name, in their order; what points outside is left out."""
        if len(target.shape) != 2:
            raise Untraceable(f"A table must have two axes; got shape {target.shape}.")
        count = len(source.shape) - 1
        index = View(index.buffer, index.offset, index.shape[:count], index.strides[:count], index.dtype)
        if source.strides[-1] != 1 or not target.dense:
            source = self.store(fresh(source.shape, source.dtype), source)
        width = self.machine.width
        self.steps.append(
            Step(target, [index, source], Buffer(0), lambda: loops.add_rows(target, index, source, width))
        )

    def product(self, x: Value, y: Value, turned: bool) -> View:
        """Return products of matrices along a first axis; columns of each are dense where it is turned."""
        if not floating(x.dtype) or len(x.shape) != 3 or len(y.shape) != 3:
            raise Untraceable(f"A product must be of matrices of floating point; got {x.dtype}.")
        a, b = self.stored(x), self.stored(y)
        if turned:  # (A B)ᵀ = Bᵀ Aᵀ
            return _transposed(self._multiplied(_transposed(b), _transposed(a)))
        return self._multiplied(a, b)

    def _multiplied(self, a: View, b: View) -> View:
        (count, m, k), n = a.shape, b.shape[2]
        target = fresh((count, m, n), a.dtype)
        if n != 1 and b.strides[2] != 1 and k != 1 and b.strides[1] != 1:
            b = self.store(fresh(b.shape, b.dtype), b)
        work = Product(
            m,
            k,
            n,
            (a.strides[1], a.strides[2]),
            (b.strides[1], b.strides[2]),
            n,
            a.dtype,
            count,
            (m * n, a.strides[0], b.strides[0]),
        )
        width = self.machine.width * 4 // TYPES[a.dtype][2]
        registers = self.machine.registers
        self.steps.append(
            Step(target, [a, b], Buffer(packed(work, width)), lambda: product(work, width, registers))
        )
        return target


def _transposed(x: View) -> View:
    turned = (0, 2, 1)
    shape, strides = (tuple(z[i] for i in turned) for z in (x.shape, x.strides))
    return View(x.buffer, x.offset, shape, strides, x.dtype)

"""What a value of a replica's graph is: a place in memory, one number, or what is still to be computed.

Operators on values make expressions, so that a formula of torch's is written as it stands in a book::

    >>> y = Splat(0.5, (3,), "float32")
    >>> (1 - y * y).shape, (y > 0).dtype
    ((3,), 'bool')
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from thalweg.backends.replica_text import TYPES, floating
from thalweg.backends.symbols import Untraceable

LARGEST_CONSTANT = 1 << 17  # numbers: they become part of the text


class Value:
    """An array of one replica, of a shape and a type."""

    shape: tuple[int, ...]
    dtype: str

    __array_ufunc__ = None

    def __add__(self, other: Operand) -> Value:
        return expression("add", self, other)

    __radd__ = __add__

    def __mul__(self, other: Operand) -> Value:
        return expression("mul", self, other)

    __rmul__ = __mul__

    def __sub__(self, other: Operand) -> Value:
        return expression("sub", self, other)

    def __rsub__(self, other: float) -> Value:
        return expression("sub", other, self)

    def __truediv__(self, other: Operand) -> Value:
        return expression("div", self, other)

    def __rtruediv__(self, other: float) -> Value:
        return expression("div", other, self)

    def __neg__(self) -> Value:
        return expression("neg", self)

    def __lt__(self, other: Operand) -> Value:
        return expression("lt", self, other)

    def __le__(self, other: Operand) -> Value:
        return expression("le", self, other)

    def __gt__(self, other: Operand) -> Value:
        return expression("gt", self, other)

    def __ge__(self, other: Operand) -> Value:
        return expression("ge", self, other)


Operand: TypeAlias = Value | float


@dataclass(eq=False)
class Buffer:
    """Memory that a replica reads or writes."""

    size: int  # in bytes
    home: str = "scratch"  # or input, output, constant
    place: int = 0  # which input or output; where in scratch
    data: np.ndarray[Any, Any] | None = None  # of a constant


@dataclass(eq=False)
class View(Value):
    """A part of a buffer, by strides; offset and strides count elements."""

    buffer: Buffer
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str

    @property
    def whole(self) -> bool:
        """Whether it is all of its buffer, in order."""
        size = prod(self.shape) * TYPES[self.dtype][2]
        return self.offset == 0 and size == self.buffer.size and self.dense

    @property
    def first(self) -> View:
        """The first entry along the first axis."""
        return View(self.buffer, self.offset, self.shape[1:], self.strides[1:], self.dtype)

    @property
    def dense(self) -> bool:
        """Whether its elements lie one after the other."""
        sized = [(n, s) for n, s in zip(self.shape, self.strides, strict=True) if n != 1]
        return [s for _, s in sized] == list(row_major([n for n, _ in sized]))


@dataclass(eq=False)
class Splat(Value):
    """One number, at all places."""

    number: float | bool
    shape: tuple[int, ...]
    dtype: str


@dataclass(eq=False)
class Expr(Value):
    """What is computed element by element where it is needed."""

    operation: str
    operands: tuple[Value, ...]
    shape: tuple[int, ...]
    dtype: str
    detail: Any = None  # of iota: the axis, counted from the last; of gather: the strides and the bound


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of an array without gaps.

    >>> row_major((2, 3, 4))
    (12, 4, 1)
    """
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def fresh(shape: Sequence[int], dtype: str) -> View:
    """Return a new array in scratch."""
    size = prod(shape) * TYPES[dtype][2]
    return View(Buffer(size), 0, tuple(shape), row_major(shape), dtype)


def images(shape: Sequence[int], dtype: str, axis: int = 0) -> View:
    """Return a new array in scratch in which one axis, that of examples, is innermost.

    >>> images((64, 3, 28, 28), "float32").strides
    (1, 50176, 1792, 64)
    """
    order = [*(i for i in range(len(shape)) if i != axis), axis]
    made = fresh([shape[i] for i in order], dtype)
    strides = dict(zip(order, made.strides, strict=True))
    return View(made.buffer, 0, tuple(shape), tuple(strides[i] for i in range(len(shape))), dtype)


def examples(x: Value) -> int | None:
    """Return the axis of the examples where it is innermost, as in what follows from images."""
    long = [i for i, n in enumerate(x.shape) if n != 1]
    if len(long) < 3:
        return None
    given = (y for y in distinct(x).values() if isinstance(y, View) and y.shape == x.shape)
    return long[0] if any(y.strides[long[0]] == 1 for y in given) else None


def alike(x: Value, shape: Sequence[int]) -> View:
    """Return a new array in scratch that lies as a value does."""
    axis = examples(x)
    return fresh(shape, x.dtype) if axis is None else images(shape, x.dtype, axis)


BOOLEAN = frozenset({"lt", "le", "gt", "ge", "eq", "ne", "not", "and", "or"})


def expression(operation: str, *operands: Operand) -> Value:
    """Return an operation on values of one type, and on numbers."""
    dtype = next(x.dtype for x in reversed(operands) if isinstance(x, Value))  # of where: not the condition's
    given = tuple(x if isinstance(x, Value) else Splat(x, (), dtype) for x in operands)
    shape = np.broadcast_shapes(*(x.shape for x in given))
    return Expr(operation, given, shape, "bool" if operation in BOOLEAN else dtype)


def where(condition: Value, x: Operand, y: Operand, dtype: str | None = None) -> Value:
    """Return x where a condition holds and y elsewhere."""
    dtype = dtype or next(v.dtype for v in (x, y) if isinstance(v, Value))
    given = [v if isinstance(v, Value) else Splat(v, (), dtype) for v in (x, y)]
    shape = np.broadcast_shapes(condition.shape, *(v.shape for v in given))
    return Expr("where", (condition, *given), shape, dtype)


def cast(x: Value, dtype: str) -> Value:
    """Return a value in another type."""
    if x.dtype == dtype:
        return x
    if isinstance(x, Splat):
        number = bool(x.number) if dtype == "bool" else x.number
        return Splat(number if floating(dtype) else int(number), x.shape, dtype)
    return Expr("cast", (x,), x.shape, dtype)


def iota(size: int, after: int) -> Value:
    """Return 0, 1, … along an axis that so many others follow."""
    return Expr("iota", (), (size, *[1] * after), "int64", after + 1)


def distinct(value: Value, seen: dict[int, Value] | None = None) -> dict[int, Value]:
    """Return everything that an expression is made of, by identity, operands first."""
    seen = {} if seen is None else seen
    if id(value) not in seen:
        for x in value.operands if isinstance(value, Expr) else ():
            distinct(x, seen)
        seen[id(value)] = value
    return seen


# Torch's tensors: constants.


def value_of(x: Any) -> Value:
    """Return an operand of an operation."""
    if isinstance(x, Value):
        return x
    if isinstance(x, bool | int | float):
        return Splat(x, (), "bool" if isinstance(x, bool) else "int64" if isinstance(x, int) else "float64")
    if not isinstance(x, Tensor):
        raise Untraceable(f"An operand must be a tensor or a number; got {type(x).__name__}.")
    if (number := uniform(x)) is not None:
        return Splat(number, tuple(x.shape), dtype_of(x))
    return table(x)


def uniform(x: Tensor) -> float | bool | None:
    """Return the number that a constant has at all places, if it has one."""
    if not x.numel():
        return None
    first = x[(0,) * x.dim()]
    spread = not any(x.stride()) or bool((x == first).all())
    return first.item() if spread else None


def table(x: Tensor) -> View:
    """Return a constant as an array that all replicas read."""
    if x.numel() > LARGEST_CONSTANT:
        raise Untraceable(f"A constant must be small; got {x.numel()} numbers.")
    data = x.detach().contiguous().numpy()
    return View(
        Buffer(data.nbytes, "constant", data=data), 0, tuple(x.shape), row_major(x.shape), dtype_of(x)
    )


def name_of(dtype: torch.dtype) -> str:
    """Return the name of a type that can be compiled."""
    name = str(dtype).removeprefix("torch.")
    if name not in TYPES:
        raise Untraceable(f"Numbers must be of {', '.join(TYPES)}; got {name}.")
    return name


def dtype_of(meta: Tensor) -> str:
    """Return the name of the type of a tensor."""
    if meta.device.type not in ("cpu", "meta"):
        raise Untraceable(f"What is compiled must be in the memory of the processor; got {meta.device}.")
    return name_of(meta.dtype)

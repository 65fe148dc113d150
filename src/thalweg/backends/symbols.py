"""Follow a step without computing it: what its numbers are made of, as a graph.

A rule's body and the tail run once on symbols in the place of arrays. What they leave behind says which
operations turn parameter, gradient and state into their successors; `program` compiles it. A `Symbol` stands
for one of three things, told apart by its level: a number for all parameters of a step, a number for each
parameter (a *row*), or an array with one number for each element.

The module speaks as much of torch's dialect as `rules.ops` uses, so that ops need not know of it::

    >>> m = lerp(Elements("load", 0, level=ELEMENT), Elements("load", 1, level=ELEMENT), Symbol("rate"))
    >>> m.operation, m.level.name
    ('where', 'ELEMENT')
"""

from __future__ import annotations

import builtins
import sys
from enum import IntEnum
from typing import Any

from thalweg.errors import ThalwegError

float64 = "float64"  # what `in_float64` asks for
Number = Any  # a Symbol or a plain number


class Untraceable(ThalwegError):
    """A step asks for what is known only when it runs, or sees an array otherwise than element by element."""


class Level(IntEnum):
    """How many numbers a symbol stands for."""

    STEP = 0  # one, or one a replica
    ROW = 1  # one for each parameter, or each replica of it
    ELEMENT = 2


STEP, ROW, ELEMENT = Level


class Symbol:
    """A number, or an array, that is known by what it is made of.

    Args:
        operation: its name.
        operands: symbols and plain numbers.
        level: how many numbers it stands for.
        family: of which rows; None for a number of the whole step.
        stage: how many passes over all elements come before it can be computed.
        truth: what it is as a condition, where that is a matter of structure.
        boolean: whether it is a condition.
        wide: whether it is to be computed in float64, whatever the type of the parameter.
    """

    __array_ufunc__ = None  # numbers of NumPy's leave arithmetic to the symbol
    device = None
    mT = property(lambda self: _refused("a matrix"))
    __matmul__ = __rmatmul__ = lambda self, other: _refused("a product of matrices")

    def __init__(
        self,
        operation: str,
        *operands: Number,
        level: Level = STEP,
        family: int | None = None,
        stage: int = 0,
        truth: bool | None = None,
        boolean: bool = False,
        wide: bool = False,
    ) -> None:
        self.operation, self.operands = operation, operands
        self.level, self.family, self.stage = level, family, stage
        self.truth, self.boolean, self.wide = truth, boolean, wide

    @property
    def namespace(self) -> Any:
        """This module: where `rules.ops` finds the functions for symbols."""
        return sys.modules[__name__]

    @property
    def dtype(self) -> str:
        """Which of the two types of element it has."""
        return float64 if self.wide else "own"

    def to(self, dtype: str) -> Symbol:
        """Return it in the other type; a condition becomes 0 or 1."""
        if self.level is not ELEMENT:
            return self
        if self.boolean:
            return _symbol("where", self, 1.0, 0.0, wide=dtype == float64)
        return self if dtype == self.dtype else _symbol("cast", self, wide=dtype == float64)

    def reshape(self, *shape: Any) -> Symbol:
        """Return it as it is: elements have no place in what is traced."""
        del shape
        return self

    @property
    def shape(self) -> tuple[Any, ...]:
        """That of a number: none."""
        return ()

    def __getitem__(self, place: Any) -> Symbol:
        return self if place == () else _refused("a part of an array")

    def __bool__(self) -> bool:
        if self.truth is None:
            _refused("the outcome of a comparison")
        return bool(self.truth)

    def __len__(self) -> int:
        return int(_refused("a length"))

    def __iter__(self) -> Any:
        return _refused("the entries of an array")

    __hash__ = object.__hash__

    def __abs__(self) -> Symbol:
        return _symbol("abs", self)

    def __neg__(self) -> Symbol:
        return _symbol("negative", self)

    def __invert__(self) -> Symbol:
        return _symbol("not", self, boolean=True)

    def __add__(self, other: Number) -> Symbol:
        return _symbol("add", self, other)

    __radd__ = __add__

    def __sub__(self, other: Number) -> Symbol:
        return _symbol("subtract", self, other)

    def __rsub__(self, other: Number) -> Symbol:
        return _symbol("subtract", other, self)

    def __mul__(self, other: Number) -> Symbol:
        return self if _is(other, 1) and not self.boolean else _symbol("multiply", self, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Number) -> Symbol:
        return _symbol("divide", self, other)

    def __rtruediv__(self, other: Number) -> Symbol:
        return _symbol("divide", other, self)

    def __pow__(self, exponent: Number) -> Symbol:
        if self.level < ELEMENT and _level(exponent) < ELEMENT:
            return _symbol("power", self, exponent)
        if _is(exponent, 2):
            return self * self
        return sqrt(self) if _is(exponent, 0.5) else _refused("a power of every element")

    def __rpow__(self, base: Number) -> Symbol:
        return _symbol("power", base, self) if self.level < ELEMENT else _refused("a power")

    def __mod__(self, other: Number) -> Symbol:
        return _symbol("modulo", self, other) if self.level < ELEMENT else _refused("a remainder")

    def __floordiv__(self, other: Number) -> Symbol:
        return _symbol("whole", self, other) if self.level < ELEMENT else _refused("a quotient")

    def __and__(self, other: Number) -> Symbol:
        return _symbol("and", self, other, boolean=True)

    def __or__(self, other: Number) -> Symbol:
        return self if other is False else _symbol("or", self, other, boolean=True)  # False: nobody asked

    __rand__, __ror__ = __and__, __or__

    def __lt__(self, other: Number) -> Symbol:
        return _symbol("less", self, other, boolean=True)

    def __gt__(self, other: Number) -> Symbol:
        return _symbol("less", other, self, boolean=True)

    def __le__(self, other: Number) -> Symbol:
        return _symbol("at_most", self, other, boolean=True)

    def __ge__(self, other: Number) -> Symbol:
        return _symbol("at_most", other, self, boolean=True)

    def __eq__(self, other: object) -> Symbol:  # type: ignore[override]
        return _symbol("equal", self, other, boolean=True)

    def __ne__(self, other: object) -> Symbol:  # type: ignore[override]
        made = _symbol("not", self == other, boolean=True)
        made.truth = self.truth if _is(other, 0) else None
        return made


class Elements(Symbol):
    """An array with one number for each element of a parameter.

    Only how many axes it has is known, one or several: that decides what a rule takes its norms over.
    """

    ndim = 1

    @property
    def shape(self) -> Any:
        """Something to pass to `reshape`: the length of one axis is not known."""
        return _SHAPE

    def count(self, axes: tuple[int, ...]) -> Symbol:
        """Return how many elements there are, or 1 of none."""
        if axes != tuple(range(-self.ndim, 0)):
            _refused("the length of an axis")
        return Symbol("count", level=ROW, family=self.family, truth=True)

    def sum(self, axes: tuple[int, ...], keepdims: bool = False) -> Symbol:
        """Return the sum of all elements of a row; no other sum can be traced."""
        if axes != tuple(range(-self.ndim, 0)):
            _refused("a sum over some axes of a parameter")
        if not keepdims:
            _refused("a sum that drops its axes")
        return Symbol("sum", self, level=ROW, family=self.family, stage=self.stage + 1)


class _Shape:
    """The shape of a parameter, of which nothing is known."""

    def __getitem__(self, place: Any) -> Any:
        return _refused("the length of an axis")

    def __iter__(self) -> Any:
        return _refused("the length of an axis")

    def __len__(self) -> int:
        return int(_refused("the number of axes"))

    def __add__(self, other: Any) -> Any:
        return _refused("the length of an axis")


_SHAPE = _Shape()


def _refused(what: str) -> Any:
    raise Untraceable(f"A traced step must not need {what}.")


def _is(x: Any, number: float) -> bool:
    return not isinstance(x, Symbol) and bool(x == number)


def _level(x: Number) -> Level:
    return x.level if isinstance(x, Symbol) else STEP


def _symbol(operation: str, *operands: Number, boolean: bool = False, wide: bool | None = None) -> Symbol:
    made_of = [x for x in operands if isinstance(x, Symbol)]
    families = {x.family for x in made_of if x.family is not None}
    level = max(x.level for x in made_of)
    if len(families) > 1:
        if level > STEP:
            _refused("another parameter")
        families.clear()
    arrays = [x for x in made_of if isinstance(x, Elements)]
    if wide is None:
        wide = any(x.wide for x in arrays)
    made = (Elements if level is ELEMENT else Symbol)(
        operation,
        *operands,
        level=level,
        family=families.pop() if families and level > STEP else None,
        stage=max(x.stage for x in made_of),
        boolean=boolean,
        wide=wide,
    )
    if isinstance(made, Elements):
        made.ndim = arrays[0].ndim
    return made


# What `rules.ops` calls.

Tensor = Symbol


def as_tensor(x: Number, dtype: Any = None, device: Any = None) -> Number:
    """Return it as it is."""
    del dtype, device
    return x


def sqrt(x: Symbol) -> Symbol:
    """Trace a square root."""
    return _symbol("sqrt", x)


def abs(x: Symbol) -> Symbol:
    """Trace an absolute value."""
    return x.__abs__()


def sign(x: Symbol) -> Symbol:
    """Trace a sign."""
    return _symbol("sign", x)


def maximum(x: Number, y: Number) -> Symbol:
    """Trace the larger of two."""
    return _symbol("maximum", x, y)


def where(condition: Number, x: Number, y: Number) -> Number:
    """Trace a choice."""
    if not isinstance(condition, Symbol):
        return x if condition else y
    return _symbol("where", condition, x, y)


def zeros_like(x: Symbol) -> Symbol:
    """Trace zeros."""
    made = _symbol("zero", x)
    made.operands = ()  # level, family and type are all that it has of x
    return made


def lerp(x: Symbol, y: Symbol, share: Number) -> Number:
    """Trace x + share·(y − x), from the nearer end, as torch computes it."""
    near = (share if isinstance(share, Symbol) else Symbol("number", share)).__abs__() < 0.5
    return where(near, x + share * (y - x), y - (y - x) * (1 - share))


def total(rows: list[Symbol]) -> Symbol:
    """Trace the sum over all rows of one number each: a symbol stands for each family of them."""
    sums: list[Any] = [_over_rows("total", x) for x in rows]
    return builtins.sum(sums[1:], sums[0])  # type: ignore[no-any-return]


def any_of(rows: list[Symbol]) -> Symbol:
    """Trace whether a condition holds in any row: a symbol stands for each family of them."""
    found: Any = [_over_rows("any", x) if x.level is ROW else x for x in rows]
    for each in found[1:]:
        found[0] = found[0] | each
    return found[0]  # type: ignore[no-any-return]


def _over_rows(operation: str, x: Symbol) -> Symbol:
    if not isinstance(x, Symbol) or x.level is not ROW:
        _refused("a sum over rows of what is not one number a row")
    return Symbol(operation, x, stage=x.stage, boolean=operation == "any")


class linalg:
    """Norms, where torch has them."""

    @staticmethod
    def vector_norm(x: Elements, dim: tuple[int, ...], keepdim: bool) -> Symbol:
        """Trace a Euclidean norm."""
        square: Any = x * x
        return sqrt(square.sum(dim, keepdim))

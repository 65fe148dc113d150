"""Trace a step, and cut what it computes into passes over all elements with numbers in between.

A norm must be known before anything that is divided by it. So the graph of a step falls into *stages*: pass 0
adds up what can be added up from the start, numbers of stage 1 follow from these sums, and so on; the last
pass computes the new parameters and states, and alone writes. A step of Adam has one pass, one of LAMB two.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from thalweg.backends.symbols import ELEMENT, ROW, Elements, Symbol, Untraceable
from thalweg.hyper import Real, Reals
from thalweg.rules.base import Rule, Values, nonzero
from thalweg.rules.tail import Row, step


class Family(NamedTuple):
    """Rows that are moved by one text: of one rule, group and structure."""

    rule: Rule
    kind: type  # of the state
    numbers: tuple[bool, ...]  # which buffers hold one number a row
    axes: int  # 1 or, for all that have more, 2
    group: int


@dataclass(frozen=True)
class Instruction:
    """A number of a step, or one a row, computed from others."""

    operation: str
    result: int  # its place
    operands: tuple[int, ...]
    family: int | None  # whose rows it adds up, or has a number for


@dataclass(frozen=True)
class Leaf:
    """A number that comes from outside."""

    name: str  # hyperparameter, t, count, buffer, shared, factor, multiplier, number or sum
    detail: tuple[Any, ...]
    family: int | None
    place: int


@dataclass(frozen=True)
class Pass:
    """What one pass over the elements of a family computes."""

    stores: Mapping[int, Any]  # by field, 0 the parameter: what is written there
    sums: tuple[tuple[Symbol, int], ...]  # what is added up, and the place of the sum
    places: tuple[int, ...]  # of the numbers that it must be given
    columns: Mapping[int, int]  # where among them a symbol is, by its id


@dataclass(frozen=True)
class Program:
    """A traced step."""

    size: int  # how many places for numbers there are
    leaves: tuple[Leaf, ...]
    instructions: tuple[tuple[Instruction, ...], ...]  # those before pass 0, before pass 1, …, after the last
    passes: tuple[tuple[Pass | None, ...], ...]  # by stage, then by family
    buffers: tuple[tuple[int, int, int], ...]  # (family, field, place) of new numbers of rows
    shared: Mapping[str, tuple[type, tuple[int, ...]]]
    clipped: int | None
    skipped: int | None


def trace(families: Sequence[Family], values: Sequence[Values], shared: Mapping[str, Any]) -> Program:
    """Trace one step of rows of these families.

    Args:
        families: what there is to move.
        values: the hyperparameters of each family; what of them is no matter of structure is left open.
        shared: the scalars of rules with global scope, of which the kinds count.

    Raises:
        Untraceable: a rule does what cannot be compiled.
    """
    try:
        return _traced(families, values, shared)
    except (AttributeError, TypeError) as problem:  # a body that calls what symbols do not have
        raise Untraceable(f"A traced step must keep to what symbols know; got: {problem}.") from problem


def _traced(families: Sequence[Family], values: Sequence[Values], shared: Mapping[str, Any]) -> Program:
    rows = [_row(place, family, h) for place, (family, h) in enumerate(zip(families, values, strict=True))]
    known = {
        name: type(numbers)(*(Symbol("shared", name, field) for field in numbers._fields))
        for name, numbers in shared.items()
    }
    done = step(rows, known, Symbol("factor", truth=True))
    assembly = _Assembly(len(families))
    moved = [done.moved(row) for row in done.rows]
    stores: list[dict[int, Any]] = []
    buffers = []
    for place, (family, row, (p, s)) in enumerate(zip(families, rows, moved, strict=True)):
        written = {0: p}
        for field, (old, new) in enumerate(zip(row.state, s, strict=True), 2):
            if new is old:
                continue
            if family.numbers[field - 2]:
                buffers.append((place, field - 2, assembly.place(new)))
            else:
                written[field] = new
        stores.append(written)
    kinds = {name: (type(x), tuple(assembly.place(n) for n in x)) for name, x in done.shared.items()}
    clipped = None if done.clipped is False else assembly.place(done.clipped)
    skipped = None if done.skipped is False else assembly.place(done.skipped)
    return assembly.finished(stores, tuple(buffers), kinds, clipped, skipped)


def _row(place: int, family: Family, values: Values) -> Row:
    def elements(field: int) -> Elements:
        made = Elements("load", field, level=ELEMENT, family=place)
        made.ndim = family.axes
        return made

    state = family.kind(
        *(
            Symbol("buffer", place, i, level=ROW, family=place) if number else elements(i + 2)
            for i, number in enumerate(family.numbers)
        )
    )
    h = values._replace(
        **{
            name: _opened(place, name, getattr(values, name))
            for name, declared in family.rule.hyper.items()
            if isinstance(declared, Real | Reals)
        }
    )
    return Row(
        family.rule,
        elements(0),
        elements(1),
        state,
        Symbol("t", place, level=ROW, family=place, truth=True),
        h,
        multiplier=Symbol("multiplier", place, truth=True),
        group=family.group,
    )


def _opened(place: int, name: str, value: Any) -> Any:
    """Put symbols in the place of numbers; None stays, and that a number is zero is a matter of structure."""
    if isinstance(value, tuple | list):
        return tuple(_leaf(place, name, i, x) for i, x in enumerate(value))
    return _leaf(place, name, None, value)


def _leaf(place: int, name: str, entry: int | None, value: Any) -> Any:
    return None if value is None else Symbol("hyper", place, name, entry, truth=nonzero(value))


OVER_ROWS = ("total", "any")
LEAVES = frozenset(
    {"hyper", "t", "count", "buffer", "shared", "factor", "multiplier", "number", "sum", "zero"}
)


class _Assembly:
    """Gives places to numbers, each once, and notes in which order they follow from one another."""

    def __init__(self, families: int) -> None:
        self.families = families
        self.places: dict[Any, int] = {}
        self.leaves: list[Leaf] = []
        self.instructions: list[tuple[int, Instruction]] = []
        self.sums: list[tuple[Symbol, int]] = []

    @staticmethod
    def stage_of(x: Any) -> int:
        return x.stage if isinstance(x, Symbol) else 0

    def place(self, x: Any) -> int:
        """Return the place of a number, after those that it is made of."""
        if not isinstance(x, Symbol):
            return self._leaf(("number", x), "number", (x,), None)
        if x.level is ELEMENT:
            raise Untraceable("A traced step must not need an array where one number a parameter is kept.")
        if x.operation == "sum":
            known = ("sum", id(x))
            if known not in self.places:
                self.sums.append((x, self._leaf(known, "sum", (x,), x.family)))
            return self.places[known]
        if x.operation in LEAVES:
            return self._leaf((x.operation, x.family, *x.operands), x.operation, x.operands, x.family)
        operands = tuple(self.place(y) for y in x.operands)
        key = (x.operation, x.family, *operands)
        if key not in self.places:
            self.places[key] = len(self.places)
            family = x.operands[0].family if x.operation in OVER_ROWS else x.family
            instruction = Instruction(x.operation, self.places[key], operands, family)
            self.instructions.append((x.stage, instruction))
        return self.places[key]

    def _leaf(self, key: Any, name: str, detail: tuple[Any, ...], family: int | None) -> int:
        if key not in self.places:
            self.places[key] = len(self.places)
            self.leaves.append(Leaf(name, detail, family, self.places[key]))
        return self.places[key]

    def finished(
        self,
        stores: list[dict[int, Any]],
        buffers: tuple[tuple[int, int, int], ...],
        shared: Mapping[str, tuple[type, tuple[int, ...]]],
        clipped: int | None,
        skipped: int | None,
    ) -> Program:
        for written in stores:
            self._pass(written, ())
        for x, place in self.sums:  # grows meanwhile: what is added up may need other sums
            self._pass({}, ((x, place),))
        last = max(self.stage_of(x) for written in stores for x in written.values())
        # What only the caller wants to know may be added up beside the last writing.
        last = max(last, *(x.stage - 1 for x, _ in self.sums), 0)
        passes = [
            tuple(
                self._pass(
                    written if stage == last else {},
                    tuple((x, n) for x, n in self.sums if x.stage - 1 == stage and x.family == family),
                )
                for family, written in enumerate(stores)
            )
            for stage in range(last + 1)
        ]
        instructions = tuple(
            tuple(i for stage, i in self.instructions if stage == now) for now in range(last + 2)
        )
        return Program(
            len(self.places),
            tuple(self.leaves),
            instructions,
            tuple(passes),
            buffers,
            shared,
            clipped,
            skipped,
        )

    def _pass(self, stores: dict[int, Any], sums: tuple[tuple[Symbol, int], ...]) -> Pass | None:
        if not stores and not sums:
            return None
        places: list[int] = []
        columns: dict[int, int] = {}
        seen: set[int] = set()
        waiting = [*stores.values(), *(x.operands[0] for x, _ in sums)]
        while waiting:
            x = waiting.pop()
            if not isinstance(x, Symbol) or id(x) in seen:
                continue
            seen.add(id(x))
            if x.level is ELEMENT:
                if x.operation != "load":
                    waiting.extend(x.operands)
            else:
                place = self.place(x)
                if place not in places:
                    places.append(place)
                columns[id(x)] = places.index(place)
        return Pass(stores, sums, tuple(places), columns)


def _divide(x: Any, y: Any) -> Any:
    try:
        return x / y
    except ZeroDivisionError:  # Python's; NumPy's numbers give infinity or NaN, as tensors do
        return np.float64(x) / y


def _power(x: Any, y: Any) -> Any:
    try:
        return x**y
    except (OverflowError, ZeroDivisionError):
        return np.float64(x) ** y


def _not(x: Any) -> Any:
    return np.logical_not(x) if isinstance(x, np.ndarray) else not x


def _where(condition: Any, x: Any, y: Any) -> Any:
    return np.where(condition, x, y) if isinstance(condition, np.ndarray) else (x if condition else y)


def _sqrt(x: Any) -> Any:
    return x**0.5 if isinstance(x, float | int) and x >= 0 else np.sqrt(x)


def _maximum(x: Any, y: Any) -> Any:
    plain = isinstance(x, float | int) and isinstance(y, float | int) and x == x and y == y
    return max(x, y) if plain else np.maximum(x, y)


# On Python's numbers, where all rows agree, and on arrays of shape (rows, replicas).
NUMBERS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": _divide,
    "power": _power,
    "modulo": operator.mod,
    "whole": operator.floordiv,
    "negative": operator.neg,
    "sqrt": _sqrt,
    "abs": abs,
    "sign": np.sign,
    "maximum": _maximum,
    "where": _where,
    "not": _not,
    "and": lambda x, y: x & y,
    "or": lambda x, y: x | y,
    "less": operator.lt,
    "at_most": operator.le,
    "equal": operator.eq,
}

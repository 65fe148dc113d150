"""Loops over arrays of one replica: what is computed element by element, and what is added up along axes.

Axes that lie in memory as one are run through as one; the last of them is cut into vectors, and what is left
over is done once more under a mask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from math import inf, nan
from typing import NamedTuple

from thalweg.backends.replica_math import Lanes
from thalweg.backends.replica_text import TYPES, Writer, first, floating, literal, numbers, suffix, vector
from thalweg.backends.replica_values import Expr, Splat, Value, View, distinct, examples

SHORT = 6  # parts of an expression that is short


def views(value: Value) -> list[View]:
    """Return what an expression reads, each once."""
    found: list[View] = []
    for x in distinct(value).values():
        given = [x] if isinstance(x, View) else []
        if isinstance(x, Expr) and x.operation == "gather":
            given = [x.detail.table]
        found += [view for view in given if view not in found]
    return found


class Gather(NamedTuple):
    """Where an element is read whose place along one axis is a value."""

    table: View
    strides: tuple[int, ...]  # along the axes of the result, 0 along the one that is looked up
    step: int  # along that one
    size: int


class _Axes(NamedTuple):
    sizes: list[int]
    kept: list[bool]
    forms: dict[int, list[int]]  # by the identity of what is read: its strides


def store(target: View, value: Value, width: int) -> Writer:
    """Return a function that computes an array: %x0 is its place, %x1, … those of what it reads."""
    out = Writer()
    axes = _axes(target.shape, [True] * len(target.shape), value, target)
    lanes = _lanes(value, width)

    def chunk(indices: list[str], mask: str | None) -> None:
        body = _Body(out, lanes, axes, indices, mask, views(value))
        body.store(target, body.value(value))

    with ExitStack() as stack:
        indices = [stack.enter_context(out.loop(size)) for size in axes.sizes[:-1]]
        _chunks(out, axes.sizes[-1], lanes, lambda j, mask: chunk([*indices, j], mask))
    return out


def reduce(target: View, value: Value, reduced: Sequence[bool], operation: str, width: int) -> Writer:
    """Return a function that adds up an array along some axes, or takes the largest or smallest.

    Args:
        target: where the result goes, with axes of length 1 for those that are reduced.
        value: what is added up.
        reduced: along which axes.
        operation: add, max or min.
        width: how many numbers of 4 bytes a vector holds.
    """
    out = Writer()
    axes = _axes(value.shape, [not x for x in reduced], value, target)
    lanes = _lanes(value, width)
    kind, dtype = TYPES[value.dtype][1], value.dtype
    whole = vector(kind, lanes)
    unit = literal(_unit(operation, dtype), dtype)
    # several columns at once, as a sum waits for its last addition; long expressions fill the registers
    many = 4 if axes.kept[-1] and len(distinct(value)) <= SHORT else 1
    cells = [out.cell(whole) for _ in range(many)]
    reads = views(value)
    outer = [i for i, kept in enumerate(axes.kept[:-1]) if kept]
    inner = [i for i, kept in enumerate(axes.kept[:-1]) if not kept]

    def accumulate(cell: str, indices: dict[int, str], mask: str | None, last: str) -> None:
        ordered = [indices[i] for i in range(len(axes.sizes) - 1)] + [last]
        body = _Body(out, lanes, axes, ordered, mask, reads)
        new = body.value(value)
        if mask is not None:
            new = body.lanes.select(mask, new, out.splat(kind, unit, lanes), dtype)
        old = out.new(f"load {whole}, ptr {cell}")
        out.do(f"store {whole} {body.lanes.apply(operation, dtype, old, new)}, ptr {cell}")

    def start(cell: str) -> None:
        out.do(f"store {whole} {out.splat(kind, unit, lanes)}, ptr {cell}")

    with ExitStack() as stack:
        indices = {i: stack.enter_context(out.loop(axes.sizes[i])) for i in outer}
        if axes.kept[-1]:  # lanes are columns

            def columns(places: list[tuple[str, str | None]]) -> None:
                for cell, _ in zip(cells, places, strict=False):
                    start(cell)
                with ExitStack() as nested:
                    more = {i: nested.enter_context(out.loop(axes.sizes[i])) for i in inner}
                    for cell, (j, mask) in zip(cells, places, strict=False):
                        accumulate(cell, indices | more, mask, j)
                for cell, (j, mask) in zip(cells, places, strict=False):
                    ordered = [indices.get(i, "0") for i in range(len(axes.sizes) - 1)] + [j]
                    body = _Body(out, lanes, axes, ordered, mask, reads)
                    body.store(target, out.new(f"load {whole}, ptr {cell}"))

            _groups(out, axes.sizes[-1], lanes, many, columns)
        else:  # lanes are parts of a sum
            start(cells[0])
            with ExitStack() as nested:
                more = {i: nested.enter_context(out.loop(axes.sizes[i])) for i in inner}
                all_indices = indices | more
                _chunks(
                    out, axes.sizes[-1], lanes, lambda j, mask: accumulate(cells[0], all_indices, mask, j)
                )
            total = _across(out, operation, dtype, lanes, out.new(f"load {whole}, ptr {cells[0]}"))
            ordered = [indices.get(i, "0") for i in range(len(axes.sizes) - 1)] + ["0"]
            place = _Body(out, lanes, axes, ordered, None, reads).place("%x0", target)
            out.do(f"store {kind} {total}, ptr {place}")
    return out


def add_rows(target: View, index: View, source: View, width: int) -> Writer:
    """Return a function of %x0 (a table), %x1 (indices of its rows) and %x2 (what is added), one by one."""
    out = Writer()
    kind, _, size = TYPES[target.dtype]
    rows, columns = target.shape
    lanes = _lanes(target, width)
    whole = vector(kind, lanes)
    with ExitStack() as stack:
        indices = [stack.enter_context(out.loop(n)) for n in index.shape]
        at = out.plus(*(out.times(i, s) for i, s in zip(indices, index.strides, strict=True)))
        row = out.new(f"load i64, ptr {out.at('i64', '%x1', at)}")
        inside = out.new(f"icmp ult i64 {row}, {rows}")
        given = out.plus(*(out.times(i, s) for i, s in zip(indices, source.strides, strict=False)))
        # what points outside is added to the first row as nothing, so that there is no branch
        row = out.new(f"select i1 {inside}, i64 {row}, i64 0")
        old_at, new_at = out.at(kind, "%x0", out.times(row, target.strides[0])), out.at(kind, "%x2", given)

        def chunk(j: str, mask: str | None) -> None:
            place = out.at(kind, old_at, j)
            old = out.load(kind, place, lanes, size, mask)
            new = out.load(kind, out.at(kind, new_at, j), lanes, size, mask)
            name = "fadd" if floating(target.dtype) else "add"
            total = out.new(f"{name} {whole} {old}, {new}")
            total = out.new(f"select i1 {inside}, {whole} {total}, {whole} {old}")
            out.store(kind, total, place, lanes, size, mask)

        _chunks(out, columns, lanes, chunk)
    return out


def _unit(operation: str, dtype: str) -> float:
    if operation == "add":
        return 0.0
    if floating(dtype):
        return -inf if operation == "max" else inf
    return -(2**63) if operation == "max" else 2**63 - 1


def _across(out: Writer, operation: str, dtype: str, lanes: int, value: str) -> str:
    kind = TYPES[dtype][1]
    whole, name = vector(kind, lanes), suffix(kind, lanes)
    if not floating(dtype):
        full = {"add": "add", "max": "smax", "min": "smin"}[operation]
        return out.call(kind, f"llvm.vector.reduce.{full}.{name}", (whole, value))
    if operation == "add":  # in any order: lanes have none
        given = (kind, literal(-0.0, dtype)), (whole, value)
        return out.call(kind, f"llvm.vector.reduce.fadd.{name}", *given, flags="reassoc ")
    # fmaximum looks for NaN in each of its steps, which takes twice as long as looking for it once.
    unknown = out.new(f"fcmp uno {whole} {value}, {value}")
    any_is = out.call("i1", f"llvm.vector.reduce.or.{suffix('i1', lanes)}", (vector("i1", lanes), unknown))
    found = out.call(kind, f"llvm.vector.reduce.f{operation}.{name}", (whole, value), flags="nnan ")
    return out.new(f"select i1 {any_is}, {kind} {literal(nan, dtype)}, {kind} {found}")


def _lanes(value: Value, width: int) -> int:
    return width // 2 if any(x.dtype == "float64" for x in distinct(value).values()) else width


def _chunks(out: Writer, size: int, lanes: int, write: Callable[[str, str | None], None]) -> None:
    """Write what is done for each whole vector, and for what is left over."""
    whole = size // lanes * lanes
    if whole:
        with out.loop(whole, lanes) as j:
            write(j, None)
    if size > whole:
        write(str(whole), first(size - whole, lanes))


def _groups(
    out: Writer, size: int, lanes: int, many: int, write: Callable[[list[tuple[str, str | None]]], None]
) -> None:
    """Write what is done for so many vectors at once, and for those that are left over."""
    whole = size // lanes
    groups, rest = divmod(whole, many)
    if groups:
        with out.loop(groups * many * lanes, many * lanes) as j:
            write([(out.plus(j, str(i * lanes)), None) for i in range(many)])
    left: list[tuple[str, str | None]] = [(str((groups * many + i) * lanes), None) for i in range(rest)]
    if size > whole * lanes:
        left.append((str(whole * lanes), first(size - whole * lanes, lanes)))
    if left:
        write(left)


def _axes(shape: tuple[int, ...], kept: list[bool], value: Value, target: View) -> _Axes:
    """Return the axes to run through: those of length 1 left out, and those that lie as one made one."""
    forms = {id(x): _strides(x, shape) for x in distinct(value).values() if _has_form(x)}
    forms[id(target)] = _strides(target, shape)
    sizes: list[int] = []
    kinds: list[bool] = []
    merged: dict[int, list[int]] = {key: [] for key in forms}
    for axis in _order(shape, value, target):
        size = shape[axis]
        if size == 1:
            continue
        if (
            sizes
            and kinds[-1] == kept[axis]
            and all(merged[key][-1] == form[axis] * size for key, form in forms.items())
        ):
            sizes[-1] *= size
            for key, form in forms.items():
                merged[key][-1] = form[axis]
        else:
            sizes.append(size)
            kinds.append(kept[axis])
            for key, form in forms.items():
                merged[key].append(form[axis])
    if not sizes:
        sizes, kinds, merged = [1], [True], {key: [1] for key in forms}
    return _Axes(sizes, kinds, merged)


def _order(shape: tuple[int, ...], value: Value, target: View) -> list[int]:
    """Return axes so that neighbours along the last lie side by side in memory."""
    order = list(range(len(shape)))
    if shape == target.shape:
        return sorted(order, key=lambda axis: -target.strides[axis])
    axis = examples(value)
    return order if axis is None else [*(i for i in order if i != axis), axis]


def _has_form(x: Value) -> bool:
    return isinstance(x, View) or (isinstance(x, Expr) and x.operation in ("iota", "gather"))


def _strides(x: Value, shape: tuple[int, ...]) -> list[int]:
    """Return the strides of what is read along the axes of a larger shape."""
    if isinstance(x, View):
        own = [s if n != 1 else 0 for n, s in zip(x.shape, x.strides, strict=True)]
    elif isinstance(x, Expr) and x.operation == "gather":
        own = list(x.detail.strides)
    else:
        assert isinstance(x, Expr)
        own = [1] + [0] * (x.detail - 1)
    return [0] * (len(shape) - len(own)) + own


class _Body:
    """The straight lines for one vector of elements."""

    def __init__(
        self, out: Writer, lanes: int, axes: _Axes, indices: list[str], mask: str | None, reads: list[View]
    ) -> None:
        self.out, self.axes, self.indices, self.mask = out, axes, indices, mask
        self.lanes = Lanes(out, lanes)
        self.bases = {id(view): f"%x{i}" for i, view in enumerate(reads, 1)}
        self.known: dict[int, str] = {}

    def offset(self, key: int) -> str:
        form = self.axes.forms[key]
        return self.out.plus(*(self.out.times(i, s) for i, s in zip(self.indices, form, strict=True)))

    def place(self, base: str, view: View) -> str:
        return self.out.at(TYPES[view.dtype][0], base, self.offset(id(view)))

    def value(self, x: Value) -> str:
        """Return the name of a vector of values."""
        if isinstance(x, Splat):
            return self.lanes.constant(x.number, x.dtype)
        if id(x) not in self.known:
            self.known[id(x)] = self.load(x) if isinstance(x, View) else self.compute(x)
        return self.known[id(x)]

    def load(self, view: View) -> str:
        kind, register, size = TYPES[view.dtype]
        n, step = self.lanes.lanes, self.axes.forms[id(view)][-1]
        base = self.bases[id(view)]
        if step == 0:
            place = self.place(base, view)
            loaded = self.out.splat(kind, self.out.new(f"load {kind}, ptr {place}"), n)
        elif step == 1:
            loaded = self.out.load(kind, self.place(base, view), n, size, self.mask)
        else:
            loaded = self.gather(view, self.line(id(view)), self.mask, "zeroinitializer")
        if kind != register:
            loaded = self.out.new(f"icmp ne {vector(kind, n)} {loaded}, zeroinitializer")
        return loaded

    def line(self, key: int) -> str:
        """Return for each lane where it reads: a vector of offsets."""
        n, step = self.lanes.lanes, self.axes.forms[key][-1]
        start = self.out.splat("i64", self.offset(key), n)
        return self.lanes.binary("add", start, numbers("i64", [i * step for i in range(n)]), "int64")

    def gather(self, view: View, offsets: str, mask: str | None, other: str) -> str:
        kind, _, size = TYPES[view.dtype]
        n = self.lanes.lanes
        whole = vector(kind, n)
        base = self.bases[id(view)]
        places = self.out.new(f"getelementptr {kind}, ptr {base}, {vector('i64', n)} {offsets}")
        return self.out.call(
            whole,
            f"llvm.masked.gather.{suffix(kind, n)}.v{n}p0",
            (vector("ptr", n), places),
            ("i32", str(size)),
            (vector("i1", n), mask or self.lanes.constant(True, "bool")),
            (whole, other),
        )

    def compute(self, x: Value) -> str:
        assert isinstance(x, Expr)
        if x.operation == "iota":
            return self.line(id(x))
        operands = [self.value(y) for y in x.operands]
        if x.operation == "cast":
            return self.lanes.cast(operands[0], x.operands[0].dtype, x.dtype)
        if x.operation == "gather":
            return self.look_up(x, operands[0])
        dtype = x.operands[-1].dtype
        return self.lanes.apply(x.operation, dtype, *operands, unsigned=dtype in ("bool", "uint8"))

    def look_up(self, x: Expr, index: str) -> str:
        """Read what an index points to: NaN, or 0, where it points outside."""
        detail: Gather = x.detail
        inside = self.lanes.apply(
            "lt", "int64", index, self.lanes.constant(detail.size, "int64"), unsigned=True
        )
        if self.mask is not None:
            inside = self.lanes.binary("and", inside, self.mask, "bool")
        step = self.lanes.constant(detail.step, "int64")
        offsets = self.lanes.binary(
            "add", self.line(id(x)), self.lanes.binary("mul", index, step, "int64"), "int64"
        )
        real = floating(x.dtype)
        other = self.lanes.constant(float("nan") if real else 0, x.dtype)
        return self.gather(detail.table, offsets, inside, other)

    def store(self, target: View, value: str) -> None:
        kind, register, size = TYPES[target.dtype]
        n = self.lanes.lanes
        if kind != register:
            value = self.out.new(f"zext {vector(register, n)} {value} to {vector(kind, n)}")
        if self.axes.forms[id(target)][-1] == 1:
            self.out.store(kind, value, self.place("%x0", target), n, size, self.mask)
            return
        offsets = self.line(id(target))
        self.out.call(
            "void",
            f"llvm.masked.scatter.{suffix(kind, n)}.v{n}p0",
            (vector(kind, n), value),
            (vector("ptr", n), self.out.new(f"getelementptr {kind}, ptr %x0, {vector('i64', n)} {offsets}")),
            ("i32", str(size)),
            (vector("i1", n), self.mask or self.lanes.constant(True, "bool")),
        )

"""Pooling of images: the largest number or the mean of each window, on vectors of examples.

As in `replica_convolutions`, examples are innermost. The gradient of a maximum looks again for where it
stands, which costs less than to keep the places of all.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import NamedTuple

from thalweg.backends.replica_convolutions import Axis, Images
from thalweg.backends.replica_products import columns
from thalweg.backends.replica_text import TYPES, Writer, literal, vector

UNROLLED = 9  # taps that are written one after another: a loop would take longer than what it does


class Pooling(NamedTuple):
    """Windows over images."""

    examples: int
    channels: int
    rows: Axis
    columns: Axis
    source: Images
    result: Images
    dtype: str

    def taps(self, out: Writer, y: str, x: str, write: Callable[[str, str], None]) -> None:
        """Write what is done for each pixel of a window."""
        unrolled = self.rows.kernel * self.columns.kernel <= UNROLLED

        def along(axis: Axis, place: str, then: Callable[[str], None]) -> None:
            def one(tap: str) -> None:
                at, inside = axis.seen(out, place, tap)
                with out.when(inside):
                    then(at)

            if unrolled:
                for tap in range(axis.kernel):
                    one(str(tap))
            else:
                with out.loop(axis.kernel) as t:
                    one(t)

        along(self.rows, y, lambda row: along(self.columns, x, lambda column: write(row, column)))

    @property
    def tiles(self) -> bool:
        """Whether each pixel is in one window."""
        axes = self.rows, self.columns
        return all(
            a.kernel == a.stride and (a.dilation == 1 or a.kernel == 1) and a.result * a.kernel == a.image
            for a in axes
        )


class _Windows:
    """Writes a function window by window."""

    def __init__(self, work: Pooling, width: int) -> None:
        self.work, self.width = work, width
        self.kind, _, self.size = TYPES[work.dtype]
        self.out = Writer()
        self.whole = vector(self.kind, width)
        self.wide = 1
        self.tail: str | None = None

    def each(self, write: Callable[[str, str, str, str], None]) -> Writer:
        """Write what is done for each window: of its place, and where its image and its result begin."""
        work, out = self.work, self.out
        with (
            out.loop(work.channels) as c,
            out.loop(work.rows.result) as y,
            out.loop(work.columns.result) as x,
        ):
            for start, blocks, wide, tail in columns(work.examples, self.width, 4):
                self.wide, self.tail = wide, tail
                with out.loop(blocks) as j:
                    b = out.plus(out.times(j, self.wide * self.width), str(start * self.width))
                    source = out.plus(out.times(c, work.source.channel), b)
                    result = out.plus(
                        out.times(c, work.result.channel),
                        out.times(y, work.result.row),
                        out.times(x, work.result.column),
                        b,
                    )
                    write(y, x, source, result)
        return out

    def cells(self, kind: str, start: str) -> list[str]:
        """Return places for a value of each vector of a window."""
        made = [self.out.cell(vector(kind, self.width)) for _ in range(self.wide)]
        self.put(made, kind, [self.out.splat(kind, start, self.width)] * self.wide)
        return made

    def put(self, cells: list[str], kind: str, values: list[str]) -> None:
        for cell, value in zip(cells, values, strict=True):
            self.out.do(f"store {vector(kind, self.width)} {value}, ptr {cell}")

    def get(self, cells: list[str], kind: str) -> list[str]:
        return [self.out.new(f"load {vector(kind, self.width)}, ptr {cell}") for cell in cells]

    def mask(self, j: int) -> str | None:
        return self.tail if j == self.wide - 1 else None

    def load(self, base: str, offset: str) -> list[str]:
        place = self.out.at(self.kind, base, offset)
        return [
            self.out.load(
                self.kind, self.out.at(self.kind, place, j * self.width), self.width, self.size, self.mask(j)
            )
            for j in range(self.wide)
        ]

    def store(self, values: list[str], base: str, offset: str) -> None:
        place = self.out.at(self.kind, base, offset)
        for j, value in enumerate(values):
            at = self.out.at(self.kind, place, j * self.width)
            self.out.store(self.kind, value, at, self.width, self.size, self.mask(j))

    def each_of(self, template: str, *rows: list[str]) -> list[str]:
        """Write an instruction for each vector."""
        return [self.out.new(template.format(*x)) for x in zip(*rows, strict=True)]

    def pixel(self, source: str, row: str, column: str) -> str:
        images = self.work.source
        return self.out.plus(source, self.out.times(row, images.row), self.out.times(column, images.column))

    def flat(self, row: str, column: str) -> list[str]:
        """Return the number of a pixel of its image, as torch counts."""
        number = self.out.plus(self.out.times(row, self.work.columns.image), column)
        short = self.out.new(f"trunc i64 {number} to i32")
        return [self.out.splat("i32", short, self.width)] * self.wide

    def largest(self, base: str, source: str, y: str, x: str) -> tuple[list[str], list[str]]:
        """Return the largest number of a window and where it stands: the first one, or the last NaN."""
        width, whole, places = self.width, self.whole, vector("i32", self.width)
        truths = vector("i1", width)
        best, chosen = self.cells(self.kind, literal(-inf, self.work.dtype)), self.cells("i32", "-1")

        def look(row: str, column: str) -> None:
            new = self.load(base, self.pixel(source, row, column))
            old, where = self.get(best, self.kind), self.get(chosen, "i32")
            larger = self.each_of(f"fcmp ogt {whole} {{}}, {{}}", new, old)
            unknown = self.each_of(f"fcmp uno {whole} {{}}, {{}}", new, new)
            none = self.each_of(f"icmp slt {places} {{}}, zeroinitializer", where)  # so far: all may be -inf
            taken = self.each_of(f"or {truths} {{}}, {{}}", larger, unknown)
            taken_at = self.each_of(f"or {truths} {{}}, {{}}", taken, none)
            here = self.flat(row, column)
            select = f"select {truths} {{}}, {whole} {{}}, {whole} {{}}"
            self.put(best, self.kind, self.each_of(select, taken, new, old))
            select = f"select {truths} {{}}, {places} {{}}, {places} {{}}"
            self.put(chosen, "i32", self.each_of(select, taken_at, here, where))

        self.work.taps(self.out, y, x, look)
        return self.get(best, self.kind), self.get(chosen, "i32")


def largest(work: Pooling, width: int) -> Writer:
    """Return the body of a function of the pointers %x0 (the largest of each window) and %x1 (images)."""
    windows = _Windows(work, width)

    def write(y: str, x: str, source: str, result: str) -> None:
        windows.store(windows.largest("%x1", source, y, x)[0], "%x0", result)

    return windows.each(write)


def places(work: Pooling, width: int) -> Writer:
    """Return the body of a function of %x0 (which pixel is the largest, int64) and %x1 (images)."""
    windows = _Windows(work, width)
    out, wide = windows.out, vector("i64", width)

    def write(y: str, x: str, source: str, result: str) -> None:
        found = windows.largest("%x1", source, y, x)[1]
        place = out.at("i64", "%x0", result)
        long = windows.each_of(f"sext {vector('i32', width)} {{}} to {wide}", found)
        for j, value in enumerate(long):
            out.store("i64", value, out.at("i64", place, j * width), width, 8, windows.mask(j))

    return windows.each(write)


def largest_backward(work: Pooling, width: int) -> Writer:
    """Return the body of a function of %x0 (gradient of images), %x1 (that of the result), %x2 (images).

    Where windows do not tile the images, %x0 must be cleared. It lies as the images do.
    """
    windows = _Windows(work, width)
    number, truths, short = windows.whole, vector("i1", width), vector("i32", width)

    def write(y: str, x: str, source: str, result: str) -> None:
        chosen = windows.largest("%x2", source, y, x)[1]
        gradient = windows.load("%x1", result)

        def give(row: str, column: str) -> None:
            hit = windows.each_of(f"icmp eq {short} {{}}, {{}}", chosen, windows.flat(row, column))
            select = f"select {truths} {{}}, {number} {{}}, {number} zeroinitializer"
            _give(windows, windows.each_of(select, hit, gradient), windows.pixel(source, row, column))

        work.taps(windows.out, y, x, give)

    return windows.each(write)


def _give(windows: _Windows, values: list[str], place: str) -> None:
    if not windows.work.tiles:
        values = windows.each_of(f"fadd {windows.whole} {{}}, {{}}", windows.load("%x0", place), values)
    windows.store(values, "%x0", place)


def mean(work: Pooling, width: int, divisor: int) -> Writer:
    """Return the body of a function of the pointers %x0 (the mean of each window) and %x1 (images)."""
    windows = _Windows(work, width)
    number, kind = windows.whole, windows.kind

    def write(y: str, x: str, source: str, result: str) -> None:
        total = windows.cells(kind, literal(0.0, work.dtype))

        def add(row: str, column: str) -> None:
            new = windows.load("%x1", windows.pixel(source, row, column))
            values = windows.each_of(f"fadd {number} {{}}, {{}}", windows.get(total, kind), new)
            windows.put(total, kind, values)

        work.taps(windows.out, y, x, add)
        by = windows.out.splat(kind, literal(float(divisor), work.dtype), width)
        windows.store(windows.each_of(f"fdiv {number} {{}}, {by}", windows.get(total, kind)), "%x0", result)

    return windows.each(write)


def mean_backward(work: Pooling, width: int, divisor: int) -> Writer:
    """Return the body of a function of %x0 (gradient of images) and %x1 (that of the result).

    Where windows do not tile the images, %x0 must be cleared.
    """
    windows = _Windows(work, width)

    def write(y: str, x: str, source: str, result: str) -> None:
        by = windows.out.splat(windows.kind, literal(float(divisor), work.dtype), width)
        gradient = windows.each_of(f"fdiv {windows.whole} {{}}, {by}", windows.load("%x1", result))
        work.taps(
            windows.out,
            y,
            x,
            lambda row, column: _give(windows, gradient, windows.pixel(source, row, column)),
        )

    return windows.each(write)

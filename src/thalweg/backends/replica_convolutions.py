"""Convolutions of small images: sums over channels and the taps of a kernel, on vectors of examples.

Arrays of images lie here with their examples innermost: neighbours in memory are the same pixel of several
examples. A vector then never reaches beyond an image, whatever its size, stride and padding are: a tap that
falls outside is left out, and only a batch that is no multiple of a vector leaves lanes idle. The gradient of
the input is a convolution of the gradient of the result, and made by the same loops.
"""

from __future__ import annotations

from typing import NamedTuple

from thalweg.backends.replica_products import columns, split
from thalweg.backends.replica_text import TYPES, Writer, first, literal, suffix, vector

LARGEST_WINDOW = 9  # taps whose sums are kept in registers at once


class Axis(NamedTuple):
    """How a window moves along one axis of an image."""

    image: int
    kernel: int
    stride: int
    padding: int
    dilation: int
    result: int

    @property
    def end(self) -> int:
        """Where the last window ends, its pixel before excluded."""
        return (self.result - 1) * self.stride + (self.kernel - 1) * self.dilation + 1 - self.padding

    def seen(self, out: Writer, place: str, tap: str) -> tuple[str, str | None]:
        """Return which pixel a place of the result sees through a tap, and whether it lies in the image."""
        at = out.plus(out.times(place, self.stride), out.times(tap, self.dilation), str(-self.padding))
        if not self.padding and self.end <= self.image:
            return at, None
        return at, out.new(f"icmp ult i64 {at}, {self.image}")

    def seeing(self, out: Writer, pixel: str, tap: str) -> tuple[str, str | None]:
        """Return which place of the result sees a pixel through a tap, and whether there is one."""
        at = out.plus(pixel, str(self.padding), out.times(tap, -self.dilation))
        if self.stride == 1:
            return at, out.new(f"icmp ult i64 {at}, {self.result}")
        place = out.new(f"udiv i64 {at}, {self.stride}")  # what is below zero counts as very large
        rest = out.new(f"urem i64 {at}, {self.stride}")
        whole = out.new(f"icmp eq i64 {rest}, 0")
        inside = out.new(f"icmp ult i64 {place}, {self.result}")
        return place, out.new(f"and i1 {whole}, {inside}")


class Images(NamedTuple):
    """Strides of channels, rows and columns of images whose examples are innermost."""

    channel: int
    row: int
    column: int


class Convolution(NamedTuple):
    """What is convolved: in each group `sources` channels make `results` channels."""

    examples: int
    groups: int
    sources: int
    results: int
    rows: Axis
    columns: Axis
    source: Images
    result: Images
    weight: tuple[int, ...]  # strides along results, those of one group after another, sources, rows, columns
    dtype: str


def convolve(work: Convolution, width: int, registers: int, backwards: bool) -> Writer:
    """Return the body of a function of the pointers %x0 (images made), %x1 (images seen), %x2 (weights).

    A block of channels times vectors of examples is kept in registers for one pixel, while the taps and
    channels that it sums over run.

    Args:
        work: what is convolved.
        width: how many numbers a vector holds.
        registers: how many vectors the processor keeps.
        backwards: whether to make the gradient of the source from that of the result.
    """
    kind, _, size = TYPES[work.dtype]
    out = Writer()
    by_result, by_source, *by_tap = work.weight
    group = work.results * by_result
    if backwards:
        made, seen, many, count = work.source, work.result, work.sources, work.results
        by_made, by_seen = by_source, by_result
        height, length = work.rows.image, work.columns.image
    else:
        made, seen, many, count = work.result, work.source, work.results, work.sources
        by_made, by_seen = by_result, by_source
        height, length = work.rows.result, work.columns.result
    see = Axis.seeing if backwards else Axis.seen

    def block(g: str, y: str, x: str, start: str, i: str, shape: _Block) -> None:
        """Make some channels at one pixel."""
        cells = shape.cleared(out)
        weights = out.at(kind, "%x2", out.plus(out.times(g, group), out.times(i, by_made)))
        source = out.at(kind, "%x1", out.plus(out.times(g, count * seen.channel), start))
        with out.loop(work.rows.kernel) as dy:
            row, inside = see(work.rows, out, y, dy)
            with out.when(inside), out.loop(work.columns.kernel) as dx:
                column, inside = see(work.columns, out, x, dx)
                with out.when(inside):
                    place = out.plus(out.times(row, seen.row), out.times(column, seen.column))
                    pixel = out.at(kind, source, place)
                    tap = out.plus(out.times(dy, by_tap[0]), out.times(dx, by_tap[1]))
                    factors = out.at(kind, weights, tap)
                    with out.loop(count) as c:
                        shape.add(
                            out,
                            cells,
                            out.at(kind, factors, out.times(c, by_seen)),
                            by_made,
                            out.at(kind, pixel, out.times(c, seen.channel)),
                        )
        channel = out.plus(out.times(g, many), i)
        place = out.plus(
            out.times(channel, made.channel), out.times(y, made.row), out.times(x, made.column), start
        )
        shape.store(out, cells, out.at(kind, "%x0", place), made.channel)

    with out.loop(work.groups) as g, out.loop(height) as y, out.loop(length) as x:
        for at, blocks, wide, tail in columns(work.examples, width, min(4, registers // 8)):
            with out.loop(blocks) as j:
                start = out.plus(out.times(j, wide * width), str(at * width))
                highest, top = registers * 3 // 4 // wide, 0
                for repeats, tall in split(many, -(-many // highest)):
                    with out.loop(repeats) as i:
                        shape = _Block(tall, wide, width, kind, size, tail)
                        block(g, y, x, start, out.plus(out.times(i, tall), str(top)), shape)
                    top += repeats * tall
    return out


class _Block(NamedTuple):
    """Sums that stay in registers: some channels of one pixel, for some vectors of examples."""

    tall: int
    wide: int
    width: int
    kind: str
    size: int
    tail: str | None  # the lanes of the last vector that there are

    def mask(self, j: int) -> str | None:
        return self.tail if j == self.wide - 1 else None

    def cleared(self, out: Writer) -> list[list[str]]:
        whole = vector(self.kind, self.width)
        cells = [[out.cell(whole) for _ in range(self.wide)] for _ in range(self.tall)]
        for cell in (cell for row in cells for cell in row):
            out.do(f"store {whole} zeroinitializer, ptr {cell}")
        return cells

    def add(self, out: Writer, cells: list[list[str]], factors: str, step: int, pixel: str) -> None:
        """Add a number for each channel, times the pixel of all examples."""
        right = [
            out.load(self.kind, out.at(self.kind, pixel, j * self.width), self.width, self.size, self.mask(j))
            for j in range(self.wide)
        ]
        for i, row in enumerate(cells):
            number = out.new(f"load {self.kind}, ptr {out.at(self.kind, factors, i * step)}")
            left = out.splat(self.kind, number, self.width)
            for cell, value in zip(row, right, strict=True):
                _accumulate(out, cell, left, value, self.kind, self.width)

    def store(self, out: Writer, cells: list[list[str]], place: str, step: int) -> None:
        whole = vector(self.kind, self.width)
        for i, row in enumerate(cells):
            for j, cell in enumerate(row):
                value = out.new(f"load {whole}, ptr {cell}")
                at = out.at(self.kind, place, i * step + j * self.width)
                out.store(self.kind, value, at, self.width, self.size, self.mask(j))


def _accumulate(out: Writer, cell: str, x: str, y: str, kind: str, width: int) -> None:
    whole = vector(kind, width)
    old = out.new(f"load {whole}, ptr {cell}")
    new = out.call(whole, f"llvm.fmuladd.{suffix(kind, width)}", (whole, x), (whole, y), (whole, old))
    out.do(f"store {whole} {new}, ptr {cell}")


def correlate(work: Convolution, width: int, registers: int) -> Writer:
    """Return the body of a function of %x0 (gradients of weights, dense), %x1 (images seen), %x2.

    %x2 holds the gradients of the result. The images must hold their padding, so that no tap falls outside.
    A window's sums, or those of a row of it, are kept in registers for some channels on either side, while
    all pixels of all examples run.
    """
    kind, _, size = TYPES[work.dtype]
    whole, out = vector(kind, width), Writer()
    rows, across = work.rows, work.columns
    taps = rows.kernel * across.kernel
    high = rows.kernel if taps <= LARGEST_WINDOW else 1  # rows of taps at once
    long = max(n for n in range(1, 2 * LARGEST_WINDOW) if across.kernel % n == 0)  # and columns
    several = min(max(1, 5 // (high * long)), work.sources)
    most = max(1, min((registers - 5) // (high * long * several), registers // 4))

    def sums(result: str, tall: int, source: str, wide: int, dy: str, dx: str, target: str) -> None:
        """Sum up over all examples and pixels, for some channels on either side."""
        cells = {
            (i, c, ty, tx): out.cell(whole)
            for i in range(tall)
            for c in range(wide)
            for ty in range(high)
            for tx in range(long)
        }
        for cell in cells.values():
            out.do(f"store {whole} zeroinitializer, ptr {cell}")

        def chunk(y: str, x: str, b: str, mask: str | None) -> None:
            at = out.plus(out.times(y, work.result.row), out.times(x, work.result.column), b)
            gradient = out.at(kind, result, at)
            left = [
                out.load(kind, out.at(kind, gradient, i * work.result.channel), width, size, mask)
                for i in range(tall)
            ]
            row = out.plus(out.times(y, rows.stride), out.times(dy, rows.dilation))
            column = out.plus(out.times(x, across.stride), out.times(dx, across.dilation))
            at = out.plus(out.times(row, work.source.row), out.times(column, work.source.column), b)
            pixel = out.at(kind, source, at)
            for c in range(wide):
                for ty in range(high):
                    for tx in range(long):
                        offset = c * work.source.channel + ty * rows.dilation * work.source.row
                        offset += tx * across.dilation * work.source.column
                        right = out.load(kind, out.at(kind, pixel, offset), width, size, mask)
                        for i in range(tall):
                            _accumulate(out, cells[i, c, ty, tx], left[i], right, kind, width)

        with out.loop(rows.result) as y, out.loop(across.result) as x:
            full = work.examples // width * width
            if full:
                with out.loop(full, width) as b:
                    chunk(y, x, b, None)
            if work.examples > full:
                chunk(y, x, str(full), first(work.examples - full, width))
        for (i, c, ty, tx), cell in cells.items():
            value = out.new(f"load {whole}, ptr {cell}")
            given = (kind, literal(-0.0, work.dtype)), (whole, value)
            name = f"llvm.vector.reduce.fadd.{suffix(kind, width)}"
            total = out.call(kind, name, *given, flags="reassoc ")
            offset = (i * work.sources + c) * taps + ty * across.kernel + tx
            out.do(f"store {kind} {total}, ptr {out.at(kind, target, offset)}")

    with out.loop(work.groups) as g:
        o_top = 0
        for o_repeats, tall in split(work.results, -(-work.results // most)):
            c_top = 0
            for c_repeats, wide in split(work.sources, -(-work.sources // several)):
                with (
                    out.loop(o_repeats) as i,
                    out.loop(c_repeats) as j,
                    out.loop(rows.kernel, high) as dy,
                    out.loop(across.kernel, long) as dx,
                ):
                    o = out.plus(out.times(g, work.results), out.times(i, tall), str(o_top))
                    c = out.plus(out.times(j, wide), str(c_top))
                    result = out.at(kind, "%x2", out.times(o, work.result.channel))
                    channel = out.plus(out.times(g, work.sources), c)
                    source = out.at(kind, "%x1", out.times(channel, work.source.channel))
                    place = out.plus(
                        out.times(o, work.sources * taps),
                        out.times(c, taps),
                        out.times(dy, across.kernel),
                        dx,
                    )
                    sums(result, tall, source, wide, dy, dx, out.at(kind, "%x0", place))
                c_top += c_repeats * wide
            o_top += o_repeats * tall
    return out

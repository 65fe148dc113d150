"""Products of small matrices, C = A B, by outer products of a column of A and a row of B.

A block of C is kept in registers while k runs: each number A[m, k], spread over a vector, is multiplied with
vectors of the row B[k, :]. That needs B's rows to be dense; where its columns are, it is transposed into
scratch first, a panel of k at a time, so that the panel stays in the cache.
"""

from __future__ import annotations

from typing import NamedTuple

from thalweg.backends.replica_text import TYPES, Writer, first, numbers, suffix, vector

PANEL = 128  # steps of k between two visits to memory: four vectors times 128 are 32 KiB


class Product(NamedTuple):
    """C (m × n) = A (m × k) B (k × n), several times; rows of C are dense; strides count elements."""

    m: int
    k: int
    n: int
    a: tuple[int, int]
    b: tuple[int, int]
    c: int  # from one row of C to the next
    dtype: str
    times: int = 1
    apart: tuple[int, int, int] = (0, 0, 0)  # from one C, A, B to the next


def packed(work: Product, width: int) -> int:
    """Return how many bytes of scratch the product needs for a transposed panel of B."""
    if work.b[1] == 1 or work.n == 1:
        return 0
    return _up(min(work.k, _panel(work.k)), width) * _up(work.n, width) * TYPES[work.dtype][2]


def product(work: Product, width: int, registers: int) -> Writer:
    """Return the body of a function of the pointers %x0 (C), %x1 (A), %x2 (B) and %x3 (scratch).

    Args:
        work: what to multiply.
        width: how many numbers a vector holds.
        registers: how many vectors the processor keeps.
    """
    out = Writer()
    kind = TYPES[work.dtype][0]
    with out.loop(work.times) as z:
        bases = [
            out.at(kind, f"%x{i}", out.times(z, step) if work.times > 1 else "0")
            for i, step in enumerate(work.apart)
        ]
        _one(out, work, bases, width, registers)
    return out


def _one(out: Writer, work: Product, bases: list[str], width: int, registers: int) -> None:
    """Write one product: of the places of C, A and B."""
    kind, _, size = TYPES[work.dtype]
    panel = _panel(work.k)
    add = False
    if work.k > panel:
        _clear(out, work, bases[0], width)
        add = True
    packing = packed(work, width) > 0
    row = _up(work.n, width) if packing else work.b[0]
    with out.loop(work.k, panel) as k0:
        count: int | str = min(work.k, panel)
        if work.k % panel and work.k > panel:
            rest = out.new(f"sub i64 {work.k}, {k0}")
            count = out.call("i64", "llvm.smin.i64", ("i64", rest), ("i64", str(panel)))
        a = out.at(kind, bases[1], out.times(k0, work.a[1]))
        b = out.at(kind, bases[2], out.times(k0, work.b[0]))
        if packing:
            _pack(out, work, b, count, width)
            b = "%x3"
        for start, blocks, wide, tail in columns(work.n, width, min(4, registers // 8)):
            with out.loop(blocks) as j:
                column = out.plus(out.times(j, wide * width), str(start * width))
                b_at, c_at = out.at(kind, b, column), out.at(kind, bases[0], column)
                high = min((registers * 3 // 4) // wide, 12)
                top = 0
                for repeats, tall in split(work.m, -(-work.m // high)):
                    block = _Block(tall, wide, width, kind, size, row, tail, packing)
                    with out.loop(repeats) as i:
                        line = out.plus(out.times(i, tall), str(top))
                        a_row = out.at(kind, a, out.times(line, work.a[0]))
                        c_row = out.at(kind, c_at, out.times(line, work.c))
                        block.write(out, work, a_row, b_at, c_row, count, add)
                    top += repeats * tall


def _panel(k: int) -> int:
    return -(-k // max(1, -(-k // PANEL)))


def _up(count: int, width: int) -> int:
    return -(-count // width) * width


def split(count: int, parts: int) -> list[tuple[int, int]]:
    """Return (how many, how large) of parts that differ by one at most.

    >>> split(29, 4)
    [(1, 8), (3, 7)]
    """
    size, larger = divmod(count, parts)
    return [(n, s) for n, s in ((larger, size + 1), (parts - larger, size)) if n]


def columns(n: int, width: int, most: int) -> list[tuple[int, int, int, str | None]]:
    """Cut n columns into blocks: where they start, how many, their vectors, and the mask of the last vector.

    >>> columns(81, 16, 4)[0]
    (0, 1, 3, None)
    """
    vectors = -(-n // width)
    tail = first(n - (vectors - 1) * width, width)
    found: list[tuple[int, int, int, str | None]] = []
    start = 0
    for blocks, wide in split(vectors, -(-vectors // most)):
        last = tail is not None and start + blocks * wide == vectors  # stands alone
        if blocks > last:
            found.append((start, blocks - last, wide, None))
        if last:
            found.append((start + (blocks - 1) * wide, 1, wide, tail))
        start += blocks * wide
    return found


def _clear(out: Writer, work: Product, c: str, width: int) -> None:
    kind, _, size = TYPES[work.dtype]
    whole, tail = divmod(work.n, width)
    with out.loop(work.m) as i:
        row = out.at(kind, c, out.times(i, work.c))
        if whole:
            with out.loop(whole * width, width) as j:
                out.store(kind, "zeroinitializer", out.at(kind, row, j), width, size)
        if tail:
            place = out.at(kind, row, whole * width)
            out.store(kind, "zeroinitializer", place, width, size, first(tail, width))


class _Block(NamedTuple):
    """A block of C that stays in registers."""

    tall: int
    wide: int  # in vectors
    width: int
    kind: str
    size: int
    row: int  # from one row of B to the next
    tail: str | None  # the lanes of the last vector of each row that there are
    packed: bool  # whether rows of B reach beyond the last column

    def mask(self, j: int) -> str | None:
        return self.tail if j == self.wide - 1 else None

    def write(self, out: Writer, work: Product, a: str, b: str, c: str, count: int | str, add: bool) -> None:
        whole = vector(self.kind, self.width)
        name = f"llvm.fmuladd.{suffix(self.kind, self.width)}"
        cells = [[out.cell(whole) for _ in range(self.wide)] for _ in range(self.tall)]
        places = [
            [out.at(self.kind, c, i * work.c + j * self.width) for j in range(self.wide)]
            for i in range(self.tall)
        ]
        for i in range(self.tall):
            for j in range(self.wide):
                old = "zeroinitializer"
                if add:
                    old = out.load(self.kind, places[i][j], self.width, self.size, self.mask(j))
                out.do(f"store {whole} {old}, ptr {cells[i][j]}")
        with out.loop(count) as k:
            b_row = out.at(self.kind, b, out.times(k, self.row))
            a_column = out.at(self.kind, a, out.times(k, work.a[1]))
            right = [
                out.load(
                    self.kind,
                    out.at(self.kind, b_row, j * self.width),
                    self.width,
                    self.size,
                    None if self.packed else self.mask(j),
                )
                for j in range(self.wide)
            ]
            for i in range(self.tall):
                place = out.at(self.kind, a_column, i * work.a[0])
                left = out.splat(self.kind, out.new(f"load {self.kind}, ptr {place}"), self.width)
                for j in range(self.wide):
                    old = out.new(f"load {whole}, ptr {cells[i][j]}")
                    new = out.call(whole, name, (whole, left), (whole, right[j]), (whole, old))
                    out.do(f"store {whole} {new}, ptr {cells[i][j]}")
        for i in range(self.tall):
            for j in range(self.wide):
                value = out.new(f"load {whole}, ptr {cells[i][j]}")
                out.store(self.kind, value, places[i][j], self.width, self.size, self.mask(j))


def _pack(out: Writer, work: Product, b: str, count: int | str, width: int) -> None:
    """Transpose a panel of B, whose columns are dense, into %x3; what lies beyond its edge is never used."""
    kind, _, size = TYPES[work.dtype]
    lanes, row = vector("i64", width), _up(work.n, width)
    with out.loop(work.n, width) as j, out.loop(count, width) as k:
        mask = None
        if isinstance(count, str) or count % width:
            left = out.splat("i64", out.new(f"sub i64 {count}, {k}"), width)
            mask = out.new(f"icmp slt {lanes} {numbers('i64', range(width))}, {left}")
        rows = []
        for i in range(width):
            line = out.plus(j, str(i))
            if work.n % width:  # beyond the last row, that row again
                line = out.call("i64", "llvm.smin.i64", ("i64", line), ("i64", str(work.n - 1)))
            place = out.at(kind, out.at(kind, b, out.times(line, work.b[1])), k)
            rows.append(out.load(kind, place, width, size, mask))
        distance = width // 2
        while distance:
            rows = _exchanged(out, rows, distance, vector(kind, width))
            distance //= 2
        target = out.at(kind, "%x3", out.plus(out.times(k, row), j))
        for i in range(width):
            out.store(kind, rows[i], out.at(kind, target, i * row), width, size)


def _exchanged(out: Writer, rows: list[str], distance: int, whole: str) -> list[str]:
    """Exchange the off-diagonal quarters of all squares of twice the distance."""
    width = len(rows)
    upper = [x if not x & distance else width + x - distance for x in range(width)]
    lower = [x + distance if not x & distance else width + x for x in range(width)]
    new = list(rows)
    for i in range(width):
        if not i & distance:
            pair = f"{whole} {rows[i]}, {whole} {rows[i + distance]}"
            for place, order in ((i, upper), (i + distance, lower)):
                chosen = numbers("i32", order)
                new[place] = out.new(f"shufflevector {pair}, <{width} x i32> {chosen}")
    return new

"""Write functions of LLVM's language: loops of counted steps around straight lines on vectors.

What changes within a loop lives in memory of the function (`Writer.cell`), which LLVM turns into registers.
Contraction to fused multiply-adds is allowed, and sums across the lanes of a vector may be reordered; nothing
else is, so that NaN and infinity stay what they are.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

# By torch's name: the type in memory, in registers, and the bytes of one.
TYPES = {
    "float32": ("float", "float", 4),
    "float64": ("double", "double", 8),
    "int64": ("i64", "i64", 8),
    "int32": ("i32", "i32", 4),
    "uint8": ("i8", "i8", 1),
    "bool": ("i8", "i1", 1),
}


def floating(dtype: str) -> bool:
    """Tell whether numbers of a type have a fraction."""
    return dtype in ("float32", "float64")


def literal(number: float | bool, dtype: str) -> str:
    """Return a number as it stands in the text.

    >>> literal(1.5, "float32"), literal(True, "bool"), literal(-100, "int64")
    ('0x3FF8000000000000', 'true', '-100')
    """
    if dtype == "bool":
        return "true" if number else "false"
    if not floating(dtype):
        return str(int(number))
    if dtype == "float32":
        with np.errstate(over="ignore"):
            number = float(np.float32(number))
    return f"0x{struct.unpack('<Q', struct.pack('<d', number))[0]:016X}"


def vector(kind: str, lanes: int) -> str:
    """Return the type of so many lanes."""
    return f"<{lanes} x {kind}>"


def suffix(kind: str, lanes: int) -> str:
    """Return what names a vector in the name of an intrinsic."""
    return f"v{lanes}{ {'float': 'f32', 'double': 'f64'}.get(kind, kind) }"


# Bodies are as long as they should be: unrolled once more, they would only take longer to compile.
LOOPS = '!0 = distinct !{!0, !1}\n!1 = !{!"llvm.loop.unroll.disable"}\n'


class Writer:
    """Writes the lines of one function, and remembers which intrinsics they call."""

    def __init__(self) -> None:
        self.cells: list[str] = []
        self.lines: list[str] = []
        self.declared: set[str] = set()
        self.block = "entry"  # the label of the block that is being written
        self.count = 0

    def name(self) -> str:
        """Return a name that no value has yet."""
        self.count += 1
        return f"%v{self.count}"

    def do(self, text: str) -> None:
        """Write a line."""
        self.lines.append(f"  {text}")

    def new(self, text: str) -> str:
        """Write a line, and return the name of its value."""
        name = self.name()
        self.do(f"{name} = {text}")
        return name

    def call(self, result: str, name: str, *operands: tuple[str, str], flags: str = "") -> str:
        """Call a function, an intrinsic of LLVM's or one of the C library's: (type, value) each."""
        kinds = ", ".join(kind for kind, _ in operands)
        self.declared.add(f"declare {result} @{name}({kinds})")
        given = ", ".join(f"{kind} {value}" for kind, value in operands)
        text = f"call {flags}{result} @{name}({given})"
        if result == "void":
            self.do(text)
            return ""
        return self.new(text)

    def cell(self, kind: str) -> str:
        """Return the place of a value that changes."""
        self.count += 1
        self.cells.append(f"  %c{self.count} = alloca {kind}, align 64")
        return f"%c{self.count}"

    @contextmanager
    def loop(self, count: int | str, step: int = 1) -> Iterator[str]:
        """Write what is done for 0, step, … below a count; the body is written inside of the block."""
        if isinstance(count, int) and count <= step:
            yield "0"
            return
        self.count += 1
        label, index, before = f"l{self.count}", f"%i{self.count}", self.block
        self.do(f"br label %{label}")
        self.lines.append(f"{label}:")
        place = len(self.lines)
        self.lines.append("")
        self.block = label
        yield index
        self.lines[place] = f"  {index} = phi i64 [ 0, %{before} ], [ {index}n, %{self.block} ]"
        self.do(f"{index}n = add nuw nsw i64 {index}, {step}")
        self.do(f"{index}m = icmp slt i64 {index}n, {count}")
        self.do(f"br i1 {index}m, label %{label}, label %{label}e, !llvm.loop !0")
        self.block = f"{label}e"
        self.lines.append(f"{self.block}:")

    @contextmanager
    def when(self, condition: str | None) -> Iterator[None]:
        """Write what is done where a condition holds; None is true."""
        if condition is None:
            yield
            return
        self.count += 1
        label = f"w{self.count}"
        self.do(f"br i1 {condition}, label %{label}, label %{label}e")
        self.lines.append(f"{label}:")
        self.block = label
        yield
        self.do(f"br label %{label}e")
        self.block = f"{label}e"
        self.lines.append(f"{self.block}:")

    def times(self, index: str, factor: int) -> str:
        """Return an index times a constant."""
        if index == "0" or factor == 0:
            return "0"
        return index if factor == 1 else self.new(f"mul nsw i64 {index}, {factor}")

    def plus(self, *terms: str) -> str:
        """Return the sum of offsets."""
        given = [term for term in terms if term != "0"]
        total = given[0] if given else "0"
        for term in given[1:]:
            total = self.new(f"add nsw i64 {total}, {term}")
        return total

    def at(self, kind: str, base: str, offset: str | int) -> str:
        """Return the address of an element."""
        return base if offset in ("0", 0) else self.new(f"getelementptr {kind}, ptr {base}, i64 {offset}")

    def splat(self, kind: str, value: str, lanes: int) -> str:
        """Return a vector of equal lanes."""
        whole = vector(kind, lanes)
        if not value.startswith("%"):
            return "<" + ", ".join([f"{kind} {value}"] * lanes) + ">"
        first = self.new(f"insertelement {whole} poison, {kind} {value}, i64 0")
        return self.new(f"shufflevector {whole} {first}, {whole} poison, <{lanes} x i32> zeroinitializer")

    def load(self, kind: str, place: str, lanes: int, size: int, mask: str | None = None) -> str:
        """Load a vector; lanes outside of a mask are zero, and their memory is not touched."""
        whole = vector(kind, lanes)
        if mask is None:
            return self.new(f"load {whole}, ptr {place}, align {size}")
        return self.call(
            whole,
            f"llvm.masked.load.{suffix(kind, lanes)}.p0",
            ("ptr", place),
            ("i32", str(size)),
            (vector("i1", lanes), mask),
            (whole, "zeroinitializer"),
        )

    def store(
        self, kind: str, value: str, place: str, lanes: int, size: int, mask: str | None = None
    ) -> None:
        """Store a vector, or those of its lanes that a mask names."""
        whole = vector(kind, lanes)
        if mask is None:
            self.do(f"store {whole} {value}, ptr {place}, align {size}")
            return
        self.call(
            "void",
            f"llvm.masked.store.{suffix(kind, lanes)}.p0",
            (whole, value),
            ("ptr", place),
            ("i32", str(size)),
            (vector("i1", lanes), mask),
        )

    def body(self) -> str:
        """Return the lines of the function, between its braces."""
        return "\n".join(["entry:", *self.cells, *self.lines, "  ret void"])


def first(count: int, lanes: int) -> str | None:
    """Return the mask of the first lanes; None where it is all of them."""
    if count >= lanes:
        return None
    return "<" + ", ".join(f"i1 {'true' if i < count else 'false'}" for i in range(lanes)) + ">"


def numbers(kind: str, values: Sequence[int]) -> str:
    """Return a constant vector of whole numbers."""
    return "<" + ", ".join(f"{kind} {value}" for value in values) + ">"

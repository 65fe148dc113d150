"""Single operations on vectors of numbers, as text: arithmetic, and the functions exp, log, tanh and erf.

In float32 exp is 2ⁿ times a polynomial in x − n log 2, log a series in (m − 1)/(m + 1) for x = 2ⁿ m, and
tanh and erf follow from exp or, near 0, are polynomials; each is within three units in the last place. What
is left, and all of float64, is the C library's, one number at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, nan

from thalweg.backends.replica_text import TYPES, Writer, floating, literal, suffix, vector

ORDERED = {"lt": ("olt", "slt"), "le": ("ole", "sle"), "gt": ("ogt", "sgt"), "ge": ("oge", "sge")}
EQUAL = {"eq": ("oeq", "eq"), "ne": ("une", "ne")}
# Cephes, expf: exp(r) = 1 + r + r² P(r) for |r| ≤ log(2)/2.
EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
# FreeBSD, e_logf.c: log(1 + f) = f − f²/2 + s (f²/2 + s² P(s²)), s = f / (2 + f).
LOG = (0.24279078841, 0.28498786688, 0.40000972152, 0.66666662693)
# Cephes, tanhf: x + x³ P(x²) for |x| < 0.625.
TANH = (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)
# N. Juffa's erff: x + x P(x²) for |x| ≤ 475/512; else 1 − exp(−|x| + |x| Q(|x|)).
ERF = (-5.96761703e-4, 4.99119423e-3, -2.67681349e-2, 1.12819925e-1, -3.76125336e-1, 1.28379166e-1)
ERF_FAR = (
    *(-1.72853470e-5, 3.83197126e-4, -3.88396438e-3, 2.42546219e-2),
    *(-1.06777877e-1, -6.34846687e-1, -1.28717512e-1),
)


class Lanes:
    """Operations on vectors of a number of lanes, written to a function."""

    def __init__(self, out: Writer, lanes: int) -> None:
        self.out, self.lanes = out, lanes

    def constant(self, number: float | bool, dtype: str) -> str:
        """Return a vector of one number."""
        return self.out.splat(TYPES[dtype][1], literal(number, dtype), self.lanes)

    def kind(self, dtype: str) -> str:
        """Return the type of a vector in registers."""
        return vector(TYPES[dtype][1], self.lanes)

    def intrinsic(self, name: str, dtype: str, *operands: str) -> str:
        """Call an intrinsic of one type."""
        whole = self.kind(dtype)
        full = f"llvm.{name}.{suffix(TYPES[dtype][1], self.lanes)}"
        return self.out.call(whole, full, *((whole, x) for x in operands))

    def select(self, condition: str, x: str, y: str, dtype: str) -> str:
        """Return x where a condition holds, y elsewhere."""
        whole = self.kind(dtype)
        return self.out.new(f"select {vector('i1', self.lanes)} {condition}, {whole} {x}, {whole} {y}")

    def binary(self, name: str, x: str, y: str, dtype: str) -> str:
        """Return the result of an instruction of two operands of one type."""
        flags = " contract" if name in ("fadd", "fsub", "fmul", "fdiv") else ""
        return self.out.new(f"{name}{flags} {self.kind(dtype)} {x}, {y}")

    def apply(self, operation: str, dtype: str, *operands: str, unsigned: bool = False) -> str:
        """Return an operation on operands of a type.

        Args:
            operation: its name.
            dtype: of the operands; of ``where``, of the last two.
            operands: names of values.
            unsigned: whether integers have no sign.
        """
        real = floating(dtype)
        whole = self.kind(dtype)
        match operation:
            case "add" | "sub" | "mul" | "div":
                return self.binary(("f" if real else "") + operation, operands[0], operands[1], dtype)
            case "neg":
                if real:
                    return self.out.new(f"fneg {whole} {operands[0]}")
                return self.binary("sub", "zeroinitializer", operands[0], dtype)
            case "abs":
                if real:
                    return self.intrinsic("fabs", dtype, *operands)
                return self.apply("max", dtype, operands[0], self.apply("neg", dtype, *operands))
            case "sqrt":
                return self.intrinsic("sqrt", dtype, *operands)
            case "max" | "min":
                names = {"max": ("maximum", "smax"), "min": ("minimum", "smin")}[operation]
                return self.intrinsic(names[0] if real else names[1], dtype, *operands)
            case "lt" | "le" | "gt" | "ge" | "eq" | "ne":
                names = ORDERED.get(operation) or EQUAL[operation]
                whole_numbers = names[1].replace("s", "u") if unsigned else names[1]
                name = f"fcmp {names[0]}" if real else f"icmp {whole_numbers}"
                return self.out.new(f"{name} {whole} {operands[0]}, {operands[1]}")
            case "and" | "or":
                return self.binary(operation, operands[0], operands[1], dtype)
            case "not":
                return self.binary("xor", operands[0], self.constant(True, "bool"), "bool")
            case "where":
                return self.select(operands[0], operands[1], operands[2], dtype)
            case "exp" | "log" | "tanh" | "log1p" | "erf" if dtype == "float32":
                return {
                    "exp": self.exp,
                    "log": self.log,
                    "tanh": self.tanh,
                    "log1p": self.log1p,
                    "erf": self.erf,
                }[operation](*operands)
            case _:
                return self.library(operation, dtype, operands)

    def cast(self, x: str, old: str, new: str) -> str:
        """Return a vector in another type."""
        if new == "bool":
            return self.apply("ne", old, x, self.constant(0, old))
        if floating(old):
            if floating(new):
                name = "fpext" if new == "float64" else "fptrunc"
            else:  # what is beyond the range would be undefined
                kinds = suffix(TYPES[new][1], self.lanes), suffix(TYPES[old][1], self.lanes)
                name = f"llvm.fptosi.sat.{kinds[0]}.{kinds[1]}"
                return self.out.call(self.kind(new), name, (self.kind(old), x))
        elif floating(new):
            name = "uitofp" if old in ("bool", "uint8") else "sitofp"
        elif TYPES[new][2] <= TYPES[old][2] and old != "bool":
            name = "trunc"
        else:
            name = "zext" if old in ("bool", "uint8") else "sext"
        return self.out.new(f"{name} {self.kind(old)} {x} to {self.kind(new)}")

    def library(self, name: str, dtype: str, operands: Sequence[str]) -> str:
        """Call a function of the C library for each lane."""
        kind, whole = TYPES[dtype][1], self.kind(dtype)
        result = "poison"
        for lane in range(self.lanes):
            given = [self.out.new(f"extractelement {whole} {x}, i64 {lane}") for x in operands]
            each = self.out.call(
                kind, name + ("f" if dtype == "float32" else ""), *((kind, x) for x in given)
            )
            result = self.out.new(f"insertelement {whole} {result}, {kind} {each}, i64 {lane}")
        return result

    # Functions of float32.

    def _f(self, operation: str, *operands: str | float) -> str:
        given = (x if isinstance(x, str) else self.constant(x, "float32") for x in operands)
        return self.apply(operation, "float32", *given)

    def _fma(self, *operands: str | float) -> str:
        given = (x if isinstance(x, str) else self.constant(x, "float32") for x in operands)
        return self.intrinsic("fmuladd", "float32", *given)

    def _polynomial(self, x: str, coefficients: Sequence[float]) -> str:
        total: str | float = coefficients[0]
        for c in coefficients[1:]:
            total = self._fma(total, x, c)
        return str(total)

    def _bits(self, x: str, back: bool = False) -> str:
        kinds = self.kind("float32"), self.kind("int32")
        return self.out.new(f"bitcast {kinds[back]} {x} to {kinds[not back]}")

    def _i(self, name: str, x: str, number: int | str) -> str:
        y = number if isinstance(number, str) else self.constant(number, "int32")
        return self.out.new(f"{name} {self.kind('int32')} {x}, {y}")

    def exp(self, x: str) -> str:
        """Return eˣ of float32."""
        x = self._f("where", self._f("gt", x, 89.0), 89.0, x)  # infinity; NaN stays
        # What is zero is not computed: masked scores are many, and processors are slow where numbers vanish.
        zero = self._f("lt", x, -104.0)
        x = self._f("where", zero, 0.0, x)
        y, whole = self._reduced(x)
        half = self._i("ashr", whole, 1)  # in two steps, for what is below the smallest normal number
        for part in (half, self._i("sub", whole, half)):
            power = self._bits(self._i("shl", self._i("add", part, 127), 23), back=True)
            y = self.out.new(f"fmul {self.kind('float32')} {y}, {power}")
        return self._f("where", zero, 0.0, y)

    def _reduced(self, x: str) -> tuple[str, str]:
        """Return eˣ of float32 as a number near 1, and the power of two that it is to be multiplied with."""
        magic = 12582912.0  # 1.5 · 2²³: added, it rounds to a whole number, which its last bits then hold
        shifted = self._fma(x, 1.4426950408889634, magic)
        n = self.out.new(f"fsub {self.kind('float32')} {shifted}, {self.constant(magic, 'float32')}")
        r = self._fma(n, -0.693359375, x)
        r = self._fma(n, 2.12194440e-4, r)
        y = self._fma(self._polynomial(r, EXP), self._f("mul", r, r), r)
        return self._f("add", y, 1.0), self._i("sub", self._bits(shifted), 0x4B400000)

    def log(self, x: str) -> str:
        """Return the natural logarithm of float32."""
        small = self._f("lt", x, 1.17549435e-38)
        scaled = self._f("where", small, self._f("mul", x, 2.0**25), x)
        bits = self._i("add", self._bits(scaled), 0x3F800000 - 0x3F3504F3)
        n = self.cast(self._i("sub", self._i("ashr", bits, 23), 127), "int32", "float32")
        n = self._f("where", small, self._f("sub", n, 25.0), n)
        f = self._f("sub", self._bits(self._i("add", self._i("and", bits, 0x7FFFFF), 0x3F3504F3), True), 1.0)
        s = self._f("div", f, self._f("add", f, 2.0))
        z = self._f("mul", s, s)
        half = self._f("mul", self._f("mul", f, f), 0.5)
        rest = self._fma(self._polynomial(z, LOG), z, half)
        rest = self._fma(s, rest, self._f("mul", n, 9.0580006145e-06))
        y = self._fma(n, 6.9313812256e-01, self._f("add", self._f("sub", rest, half), f))
        y = self._f("where", self._f("eq", x, inf), inf, y)
        y = self._f("where", self._f("eq", x, 0.0), -inf, y)
        return self._f("where", self._f("ge", x, 0.0), y, nan)

    def log1p(self, x: str) -> str:
        """Return log(1 + x) of float32: log(u) x / (u − 1), u = 1 + x rounded, as W. Kahan does."""
        u = self._f("add", x, 1.0)
        ratio = self._f("div", x, self._f("sub", u, 1.0))
        y = self._f("mul", self.log(u), ratio)
        y = self._f("where", self._f("eq", u, inf), u, y)
        return self._f("where", self._f("eq", u, 1.0), x, y)

    def tanh(self, x: str) -> str:
        """Return the hyperbolic tangent of float32."""
        z = self._f("mul", x, x)
        small = self._fma(self._f("mul", x, z), self._polynomial(z, TANH), x)
        size = self._f("abs", x)
        power = self._f("add", self.exp(self._f("mul", size, 2.0)), 1.0)
        large = self._f("sub", 1.0, self._f("div", 2.0, power))
        large = self._f("where", self._f("lt", x, 0.0), self._f("neg", large), large)
        return self._f("where", self._f("lt", size, 0.625), small, large)

    def erf(self, x: str) -> str:
        """Return the error function of float32."""
        size = self._f("abs", x)
        size = self._f("where", self._f("gt", size, 4.0), 4.0, size)  # there it is 1; NaN stays
        small = self._fma(self._polynomial(self._f("mul", x, x), ERF), x, x)
        power = self._fma(self._polynomial(size, ERF_FAR), size, self._f("neg", size))
        y, whole = self._reduced(power)  # neither far above 1 nor below the smallest number
        rest = self._bits(self._i("add", self._bits(y), self._i("shl", whole, 23)), back=True)
        large = self._f("sub", 1.0, rest)
        large = self._f("where", self._f("lt", x, 0.0), self._f("neg", large), large)
        return self._f("where", self._f("gt", size, 475 / 512), large, small)

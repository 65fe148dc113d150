"""Write one pass over the elements of a row as a function of LLVM's language.

Every function has the same signature, so that one loop can run passes over rows of any kind:

    kernel(places, gradient, numbers, start, stop, sums)

`places` holds the addresses of the parameter and of each buffer, `gradient` that of the gradient; `numbers`
float64 values that hold for the whole row; elements from `start` to `stop` are read and written in place,
and what is added up is left in `sums`, in float64.

Contraction to fused multiply-adds is allowed, and sums may be reordered; nothing else is, so that NaN and
infinity stay what they are.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from thalweg.backends.program import Pass
from thalweg.backends.rounding import MIXING, SPREAD
from thalweg.backends.symbols import ELEMENT, Symbol

SIZES = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}
BINARY = {"add": "fadd", "subtract": "fsub", "multiply": "fmul", "divide": "fdiv"}
COMPARISONS = {"less": "olt", "at_most": "ole", "equal": "oeq"}
CONDITIONS = {"and": "and", "or": "or"}


class Types(NamedTuple):
    """How the elements of a row are stored, and computed."""

    stored: tuple[
        str | None, ...
    ]  # of parameter, gradient and buffers: float32, …; None for one number a row
    computed: str  # float or double
    stochastic: bool  # whether what becomes bfloat16 is rounded up or down by chance


def kernel(work: Pass, types: Types) -> str:
    """Return the text of the function of one pass; its name stands as ``@kernel``."""
    return _Writer(work, types).text()


class _Writer:
    """Writes one function."""

    def __init__(self, work: Pass, types: Types) -> None:
        self.work, self.types = work, types
        self.lines: list[str] = []
        self.known: dict[int, tuple[str, str]] = {}  # by the id of a symbol: its value and type
        self.loaded: dict[int, tuple[str, str]] = {}
        self.count = 0

    def text(self) -> str:
        sums = [self._sum(place, x.operands[0]) for place, (x, _) in enumerate(self.work.sums)]
        stores = [
            (field, self._as(self._value(x), self.types.computed)) for field, x in self.work.stores.items()
        ]
        for field, value in stores:
            self._store(field, value)
        body = "\n".join(f"  {line}" for line in self.lines)
        fields = [field for field, kind in enumerate(self.types.stored) if kind is not None]
        numbers = range(len(self.work.places))
        arguments = ", ".join(f"ptr noalias nocapture %x{field}" for field in fields)
        phis = "\n".join(
            f"  %sum{k} = phi double [ 0.0, %entry ], [ {value}, %loop ]" for k, value in enumerate(sums)
        )
        ends = "\n".join(
            f"  %out{k} = getelementptr double, ptr %sums, i64 {k}\n  store double %total{k}, ptr %out{k}"
            for k in range(len(sums))
        )
        totals = "\n".join(
            f"  %total{k} = phi double [ 0.0, %entry ], [ {value}, %loop ]" for k, value in enumerate(sums)
        )
        given = "\n".join(
            f"  %at{k} = getelementptr double, ptr %numbers, i64 {k}\n"
            f"  %c{k} = load double, ptr %at{k}\n"
            f"  %n{k} = fptrunc double %c{k} to float\n"
            f"  %t{k} = fcmp une double %c{k}, 0.0"
            for k in numbers
        )
        rest = "i64 %start, i64 %count, i64 %salt"
        sums_at = "ptr noalias nocapture %sums"
        called = ", ".join(f"ptr %y{field}" for field in fields)
        return f"""
define internal void @body({arguments}, ptr noalias nocapture %numbers, {rest}, {sums_at}) #0 {{
entry:
{given}
  %empty = icmp eq i64 %count, 0
  br i1 %empty, label %exit, label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
{phis}
{body}
  %next = add nuw nsw i64 %i, 1
  %done = icmp eq i64 %next, %count
  br i1 %done, label %exit, label %loop
exit:
{totals}
{ends}
  ret void
}}

define void @kernel(ptr %places, ptr %gradient, ptr %numbers, i64 %start, i64 %stop, ptr %sums) #0 {{
{self._addresses(fields)}
  %count = sub i64 %stop, %start
  call void @body({called}, ptr %numbers, {rest}, ptr %sums)
  ret void
}}

declare float @llvm.sqrt.f32(float)
declare double @llvm.sqrt.f64(double)
declare float @llvm.fabs.f32(float)
declare double @llvm.fabs.f64(double)
declare float @llvm.maximum.f32(float, float)
declare double @llvm.maximum.f64(double, double)
attributes #0 = {{ nounwind }}
"""

    def _addresses(self, fields: Sequence[int]) -> str:
        lines = []
        for order, field in enumerate(f for f in fields if f != 1):
            lines += [
                f"%f{field} = getelementptr i64, ptr %places, i64 {order}",
                f"%b{field} = load i64, ptr %f{field}",
            ]
        lines.append("%b1 = load i64, ptr %gradient")
        for field in fields:
            size = SIZES[self._stored(field)]
            lines += [
                f"%o{field} = mul i64 %start, {size}",
                f"%s{field} = add i64 %b{field}, %o{field}",
                f"%y{field} = inttoptr i64 %s{field} to ptr",
            ]
        if self.types.stochastic:
            lines += [
                "%saltat = getelementptr i64, ptr %gradient, i64 1",
                "%salt = load i64, ptr %saltat",
            ]
        else:
            lines.append("%salt = add i64 0, 0")
        return "\n".join(f"  {line}" for line in lines)

    def _stored(self, field: int) -> str:
        stored = self.types.stored[field]
        assert stored is not None
        return stored

    def _new(self, kind: str, text: str) -> tuple[str, str]:
        self.count += 1
        name = f"%v{self.count}"
        self.lines.append(f"{name} = {text}")
        return name, kind

    def _value(self, x: Any) -> tuple[str, str]:
        """Return the name and the type of a value: float, double, i1, or number (float64, or a constant)."""
        if not isinstance(x, Symbol):
            return repr(float(x)), "number"
        if x.level is not ELEMENT:
            return f"%c{self.work.columns[id(x)]}", "number"
        if id(x) not in self.known:
            self.known[id(x)] = self._computed(x)
        return self.known[id(x)]

    def _computed(self, x: Symbol) -> tuple[str, str]:
        kind = "double" if x.wide else self.types.computed
        if x.operation == "load":
            return self._load(x.operands[0])
        if x.operation == "zero":
            return self._literal(0.0, kind), kind
        operands = [self._value(y) for y in x.operands]
        if x.operation in COMPARISONS:
            common = self._common(operands)
            a, b = (self._as(y, common) for y in operands)
            return self._new("i1", f"fcmp {COMPARISONS[x.operation]} {common} {a}, {b}")
        if x.operation in CONDITIONS:
            a, b = (self._as(y, "i1") for y in operands)
            return self._new("i1", f"{CONDITIONS[x.operation]} i1 {a}, {b}")
        if x.operation == "not":
            return self._new("i1", f"xor i1 {self._as(operands[0], 'i1')}, true")
        if x.operation == "where":
            condition = self._as(operands[0], "i1")
            a, b = (self._as(y, kind) for y in operands[1:])
            return self._new(kind, f"select i1 {condition}, {kind} {a}, {kind} {b}")
        ready = [self._as(y, kind) for y in operands]
        suffix = "f64" if kind == "double" else "f32"
        match x.operation:
            case "add" | "subtract" | "multiply" | "divide":
                return self._new(kind, f"{BINARY[x.operation]} contract {kind} {ready[0]}, {ready[1]}")
            case "negative":
                return self._new(kind, f"fneg {kind} {ready[0]}")
            case "sqrt" | "abs":
                name = "sqrt" if x.operation == "sqrt" else "fabs"
                return self._new(kind, f"call {kind} @llvm.{name}.{suffix}({kind} {ready[0]})")
            case "maximum":
                text = f"call {kind} @llvm.maximum.{suffix}({kind} {ready[0]}, {kind} {ready[1]})"
                return self._new(kind, text)
            case "sign":
                return self._sign(ready[0], kind)
            case _:  # cast
                return ready[0], kind

    def _sign(self, x: str, kind: str) -> tuple[str, str]:
        zero, one, minus = (self._literal(number, kind) for number in (0.0, 1.0, -1.0))
        above = self._new("i1", f"fcmp ogt {kind} {x}, {zero}")[0]
        below = self._new("i1", f"fcmp olt {kind} {x}, {zero}")[0]
        rest = self._new(kind, f"fadd {kind} {x}, {zero}")[0]  # 0 of either zero, and NaN of NaN
        rest = self._new(kind, f"select i1 {below}, {kind} {minus}, {kind} {rest}")[0]
        return self._new(kind, f"select i1 {above}, {kind} {one}, {kind} {rest}")

    def _common(self, operands: Sequence[tuple[str, str]]) -> str:
        kinds = {kind for _, kind in operands}
        if "double" in kinds:
            return "double"
        return self.types.computed

    def _literal(self, number: float, kind: str) -> str:
        if kind == "float":
            with np.errstate(over="ignore"):
                number = float(np.float32(number))
        return f"0x{struct.unpack('<Q', struct.pack('<d', number))[0]:016X}"

    def _as(self, given: tuple[str, str], kind: str) -> str:
        """Return the name of a value in another type."""
        value, own = given
        if own == kind:
            return value
        if own == "number":
            if not value.startswith("%"):
                if kind == "i1":
                    return "true" if float(value) else "false"
                return self._literal(float(value), kind)
            return {"float": f"%n{value[2:]}", "double": value, "i1": f"%t{value[2:]}"}[kind]
        if own == "i1":
            return self._new(kind, f"uitofp i1 {value} to {kind}")[0]
        if kind == "i1":
            return self._new("i1", f"fcmp une {own} {value}, {self._literal(0.0, own)}")[0]
        return self._new(kind, f"{'fpext' if kind == 'double' else 'fptrunc'} {own} {value} to {kind}")[0]

    def _load(self, field: int) -> tuple[str, str]:
        if field not in self.loaded:
            stored, kind = self._stored(field), self.types.computed
            size = SIZES[stored]
            element = {"float32": "float", "float64": "double", "bfloat16": "i16", "float16": "half"}[stored]
            place = self._new("ptr", f"getelementptr {element}, ptr %x{field}, i64 %i")[0]
            raw = self._new(element, f"load {element}, ptr {place}, align {size}")[0]
            if stored == "bfloat16":
                whole = self._new("i32", f"zext i16 {raw} to i32")[0]
                shifted = self._new("i32", f"shl i32 {whole}, 16")[0]
                raw, element = self._new("float", f"bitcast i32 {shifted} to float")
            elif stored == "float16":
                raw, element = self._new("float", f"fpext half {raw} to float")
            self.loaded[field] = self._as((raw, element), kind), kind
        return self.loaded[field]

    def _store(self, field: int, value: str) -> None:
        stored = self._stored(field)
        element = {"float32": "float", "float64": "double", "bfloat16": "i16", "float16": "half"}[stored]
        if stored in ("bfloat16", "float16"):
            value = self._as((value, self.types.computed), "float")
            if stored == "float16":
                value = self._new("half", f"fptrunc float {value} to half")[0]
            else:
                value = self._rounded(field, value)
        else:
            value = self._as((value, self.types.computed), element)
        place = self._new("ptr", f"getelementptr {element}, ptr %x{field}, i64 %i")[0]
        self.lines.append(f"store {element} {value}, ptr {place}, align {SIZES[stored]}")

    def _rounded(self, field: int, value: str) -> str:
        """Return a float as bfloat16: the nearest, ties to even, or by the chance that keeps the mean."""

        def word(text: str) -> str:
            return self._new("i32", text)[0]

        bits = word(f"bitcast float {value} to i32")
        odd = word(f"and i32 {word(f'lshr i32 {bits}, 16')}, 1")
        added = word(f"add i32 {odd}, 32767")
        if self.types.stochastic and field == 0:
            added = self._random(word)
        special = self._new("i1", f"icmp eq i32 {word(f'and i32 {bits}, 2139095040')}, 2139095040")[0]
        sum_ = word(f"add i32 {bits}, {added}")
        high = word(f"lshr i32 {sum_}, 16")
        kept = word(f"lshr i32 {bits}, 16")
        nan = self._new("i1", f"fcmp uno float {value}, 0.0")[0]
        kept = word(f"select i1 {nan}, i32 32704, i32 {kept}")
        chosen = word(f"select i1 {special}, i32 {kept}, i32 {high}")
        return self._new("i16", f"trunc i32 {chosen} to i16")[0]

    def _random(self, word: Any) -> str:
        """Return 16 random bits: a hash of the element's place in its row and of the row's salt."""
        place = self._new("i64", "add i64 %start, %i")[0]
        x = word(f"trunc i64 {place} to i32")
        salt = word("trunc i64 %salt to i32")
        x = word(f"xor i32 {word(f'mul i32 {x}, {SPREAD}')}, {salt}")
        for shift, factor in MIXING:
            shifted = word(f"lshr i32 {x}, {shift}")
            mixed = word(f"xor i32 {x}, {shifted}")
            x = word(f"mul i32 {mixed}, {factor}")
        return str(word(f"lshr i32 {x}, 16"))

    def _sum(self, place: int, x: Any) -> str:
        value = self._as(self._value(x), "double")
        return self._new("double", f"fadd reassoc double %sum{place}, {value}")[0]

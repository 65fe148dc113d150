"""Normal form of an expression: a sum of products, like terms collected, with exact fractions.

It decides what is a polynomial, whether a Hessian is constant, and writes derivatives shortly. What is no
sum, product or power is kept as one factor, as it is: nothing is known about exp(w) but that it is exp(w).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

import numpy as np

from thalweg.functions.expression import Expression
from thalweg.functions.nodes import (
    FUNCTIONS,
    TWO,
    ZERO,
    Call,
    Node,
    Number,
    Variable,
    add,
    divide,
    fold,
    multiply,
    number,
    power,
    subtract,
)

Monomial = tuple[tuple[str, Fraction], ...]  # factors and their exponents, in order of their names
Sum = dict[Monomial, Fraction]
Polynomial = dict[tuple[int, ...], Fraction]  # exponents of the variables -> coefficient

MAX_PRODUCTS: Final = 40_000  # of two terms, in the life of one `Normal`
MAX_BITS: Final = 2_000  # of the numerator and denominator of a coefficient
MAX_TEXT: Final = 2_000  # parts of an expression that is still written down
_FIRST_SIGN: Final = re.compile(r"^\((-[^()]+)\)(?=[*/ ]|$)")
_ONE: Final = Fraction(1)
_HALF: Final = Fraction(1, 2)


class _TooLarge(Exception):
    """A normal form would take too long, or does not exist."""


@dataclass
class Normal:
    """Makes normal forms; all that it makes together have one bound of work.

    >>> from thalweg.functions.expression import parse
    >>> Normal().text(parse("0.5*4*2*w + w*w/w - 3"))
    '5*w - 3'
    """

    factors: dict[str, Node] = field(default_factory=dict)  # by their names, which are as they are written
    products: int = 0

    def form(self, node: Node) -> Sum | None:
        """Return the normal form of a node; None where it is too large, or divides by zero."""
        try:
            return fold(node, self._combined)
        except (_TooLarge, ZeroDivisionError, OverflowError):
            return None

    def polynomial(self, node: Node, variables: Sequence[str]) -> Polynomial | None:
        """Return the coefficients of a node that is a polynomial, else None.

        >>> from thalweg.functions.expression import parse
        >>> f = parse("(w - 3)^2/2")
        >>> {powers: str(x) for powers, x in Normal().polynomial(f.parts[0], f.variables).items()}
        {(2,): '1/2', (1,): '-3', (0,): '9/2'}
        """
        form = self.form(node)
        if form is None:
            return None
        place = {name: i for i, name in enumerate(variables)}
        found: Polynomial = {}
        for monomial, coefficient in form.items():
            powers = [0] * len(place)
            for name, exponent in monomial:
                if name not in place or exponent < 0 or exponent.denominator != 1:
                    return None
                powers[place[name]] = int(exponent)
            found[tuple(powers)] = coefficient
        return found

    def text(self, expression: Expression) -> str:
        """Write a function with one value: as it is or in its normal form, whichever is shorter."""
        node = expression.parts[0]
        size = fold(node, lambda here, below: 1 + sum(below))
        texts, form = [], self.form(node)
        if form is not None and len(form) <= MAX_TEXT // 10:
            texts.append(str(Expression((self._written(form),), expression.variables)))
        if size <= MAX_TEXT:
            texts.append(str(expression))
        if not texts:
            return f"(an expression of {size:,} parts)"
        # What stands first needs no brackets around its sign.
        return _FIRST_SIGN.sub(r"\1", min(texts, key=len))

    def _combined(self, here: Node, below: list[Sum]) -> Sum:
        if isinstance(here, Number):
            return _constant(here.value)
        if isinstance(here, Variable):
            return {((here.name, _ONE),): _ONE}
        assert isinstance(here, Call)
        if here.name == "add":
            return _added(below[0], below[1])
        if here.name == "subtract":
            return _added(below[0], _scaled(below[1], Fraction(-1)))
        if here.name == "negative":
            return _scaled(below[0], Fraction(-1))
        if here.name == "multiply":
            return self._multiplied(below[0], below[1])
        if here.name == "divide":
            return self._multiplied(below[0], self._raised(below[1], Fraction(-1)))
        if all(_is_constant(x) for x in below):
            with np.errstate(all="ignore"):
                values = [np.float64(float(x.get((), 0))) for x in below]
                return _constant(float(FUNCTIONS[here.name].compute(np, *values)))
        if here.name == "power" and _is_constant(below[1]):
            return self._raised(below[0], below[1].get((), Fraction(0)))
        if here.name == "sqrt":
            return self._raised(below[0], _HALF)
        return self._factor(Call(-1, here.name, tuple(self._written(x) for x in below)), _ONE)

    def _multiplied(self, x: Sum, y: Sum) -> Sum:
        self.products += len(x) * len(y)
        if self.products > MAX_PRODUCTS:
            raise _TooLarge
        found: Sum = {}
        for left, a in x.items():
            for right, b in y.items():
                exponents = dict(left)
                for name, exponent in right:
                    exponents[name] = exponents.get(name, Fraction(0)) + exponent
                key = tuple(sorted((name, e) for name, e in exponents.items() if e))
                found[key] = found.get(key, Fraction(0)) + a * b
        return _kept(found)

    def _raised(self, base: Sum, exponent: Fraction) -> Sum:
        if exponent == 0:
            return {(): _ONE}
        if not base:
            if exponent < 0:
                raise ZeroDivisionError
            return {}
        if exponent.denominator == 1 and exponent > 0:
            found = base
            for _ in range(int(exponent) - 1):
                found = self._multiplied(found, base)
            return found
        if exponent.denominator == 1 and len(base) == 1:
            (monomial, coefficient), *_ = base.items()
            return {tuple((name, e * exponent) for name, e in monomial): coefficient ** int(exponent)}
        return self._factor(self._written(base), exponent)

    def _factor(self, node: Node, exponent: Fraction) -> Sum:
        if fold(node, lambda here, below: 1 + sum(below)) > MAX_TEXT:
            raise _TooLarge
        name = f"({Expression((node,), ())})"  # in brackets, so that it is no variable's
        self.factors[name] = node
        return {((name, exponent),): _ONE}

    def _written(self, form: Sum) -> Node:
        """Return the node of a sum, the highest powers first."""
        terms = sorted(form.items(), key=lambda item: (-sum((e for _, e in item[0]), Fraction(0)), item[0]))
        written: Node = ZERO
        for monomial, coefficient in terms:
            first = written is ZERO
            above, below = self._coefficient(coefficient if first else abs(coefficient))
            for name, exponent in sorted(monomial, key=lambda item: (item[0] in self.factors, item[0])):
                if exponent > 0:
                    above = multiply(above, self._power(name, exponent))
                else:
                    below = multiply(below, self._power(name, -exponent))
            term = divide(above, below)
            written = add(written, term) if first or coefficient > 0 else subtract(written, term)
        return written

    def _power(self, name: str, exponent: Fraction) -> Node:
        base = self.factors.get(name) or Variable(-1, name)
        whole, rest = divmod(exponent, 1)
        if rest == _HALF and whole < 2:  # what people write with a root
            return multiply(power(base, number(float(whole))), Call(-1, "sqrt", (base,)))
        return power(base, TWO if exponent == 2 else number(float(exponent)))

    @staticmethod
    def _coefficient(value: Fraction) -> tuple[Node, Node]:
        """Write 1/3 as a division, and 1/2 as 0.5."""
        if len(repr(float(value))) > 8 and value.denominator <= 1000:
            return number(float(value.numerator)), number(float(value.denominator))
        return number(float(value)), number(1)


def _is_constant(form: Sum) -> bool:
    return not form or form.keys() == {()}


def _constant(value: float) -> Sum:
    """Read a number as it is written, so that 0.1 is a tenth."""
    if not np.isfinite(value):
        raise _TooLarge
    return _kept({(): Fraction(repr(float(value)))})


def _added(x: Sum, y: Sum) -> Sum:
    found = dict(x)
    for key, value in y.items():
        found[key] = found.get(key, Fraction(0)) + value
    return _kept(found)


def _scaled(x: Sum, factor: Fraction) -> Sum:
    return {key: value * factor for key, value in x.items()}


def _kept(found: Sum) -> Sum:
    """Drop what has cancelled out; refuse numbers that grow without bound."""
    for value in found.values():
        if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
            raise _TooLarge
    return {key: value for key, value in found.items() if value}

"""The parts of an expression: numbers, variables, operators and calls, and what each of them means.

A node knows its children and nothing else; what can be done with it is a function over the few kinds. The
names that may be called, with what they compute and their derivative, are one table, `FUNCTIONS`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from thalweg.rules.ops import Array

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Node:
    """A part of an expression; `at` is where it begins in the text, from 0."""

    at: int

    @property
    def children(self) -> tuple["Node", ...]:
        """The parts that it is made of."""
        return ()


@dataclass(frozen=True, eq=False)
class Number(Node):
    """A number."""

    value: float


@dataclass(frozen=True, eq=False)
class Variable(Node):
    """A variable."""

    name: str


@dataclass(frozen=True, eq=False)
class Call(Node):
    """A function or operator of `FUNCTIONS` with its arguments."""

    name: str
    arguments: tuple[Node, ...]

    @property
    def children(self) -> tuple[Node, ...]:
        """The arguments."""
        return self.arguments


class Meaning(NamedTuple):
    """What a name computes, and its partial derivatives, one an argument, made of the arguments.

    `compute(space, x, …)` is given NumPy or torch as its first argument, and arrays or tensors.
    """

    compute: Callable[..., Array]
    partials: tuple[Callable[..., Node], ...]
    latex: str  # with {0}, {1} for the arguments
    public: bool = True  # whether a person may write it as name(…)
    arity: int = 0  # of arguments, where there are no partial derivatives


def number(value: float) -> Number:
    """Return a number that stands nowhere in a text."""
    return Number(-1, float(value))


ZERO, ONE, TWO = number(0), number(1), number(2)


def is_number(node: Node, value: float | None = None) -> bool:
    """Tell whether a node is a number, or this number."""
    return isinstance(node, Number) and (value is None or node.value == value)


def _call(name: str, *arguments: Node) -> Node:
    return Call(-1, name, arguments)


def negative(x: Node) -> Node:
    """Return −x."""
    if isinstance(x, Number):
        return number(-x.value)
    if isinstance(x, Call) and x.name == "negative":
        return x.arguments[0]
    return _call("negative", x)


def add(x: Node, y: Node) -> Node:
    """Return x + y, without terms of zero."""
    if is_number(x, 0):
        return y
    if is_number(y, 0):
        return x
    if isinstance(x, Number) and isinstance(y, Number):
        return number(x.value + y.value)
    if isinstance(y, Call) and y.name == "negative":
        return subtract(x, y.arguments[0])
    if isinstance(y, Call) and y.name == "multiply" and isinstance(y.arguments[0], Number):
        factor, other = y.arguments
        if isinstance(factor, Number) and factor.value < 0:
            return subtract(x, multiply(number(-factor.value), other))
    return _call("add", x, y)


def subtract(x: Node, y: Node) -> Node:
    """Return x − y, without terms of zero."""
    if is_number(y, 0):
        return x
    if is_number(x, 0):
        return negative(y)
    if isinstance(x, Number) and isinstance(y, Number):
        return number(x.value - y.value)
    return _call("subtract", x, y)


def multiply(x: Node, y: Node) -> Node:
    """Return x · y, numbers first, without factors of one."""
    if is_number(x, 0) or is_number(y, 0):
        return ZERO
    if is_number(x, 1):
        return y
    if is_number(y, 1):
        return x
    if isinstance(x, Number) and isinstance(y, Number):
        return number(x.value * y.value)
    if isinstance(y, Number):
        x, y = y, x
    if isinstance(x, Number) and isinstance(y, Call) and y.name == "multiply":
        first, second = y.arguments
        if isinstance(first, Number):
            return multiply(number(x.value * first.value), second)
    if is_number(x, -1):
        return negative(y)
    if isinstance(y, Call) and y.name == "divide" and is_number(y.arguments[0], 1):
        return divide(x, y.arguments[1])
    return _call("multiply", x, y)


def divide(x: Node, y: Node) -> Node:
    """Return x / y, without a divisor of one."""
    if is_number(y, 1):
        return x
    if is_number(x, 0):
        return ZERO
    return _call("divide", x, y)


def power(x: Node, y: Node) -> Node:
    """Return x to the power y, without exponents of one and zero."""
    if is_number(y, 0):
        return ONE
    if is_number(y, 1):
        return x
    return _call("power", x, y)


def _of_power(x: Node, y: Node) -> Node:
    return multiply(y, power(x, subtract(y, ONE)))


def _of_exponent(x: Node, y: Node) -> Node:
    return multiply(power(x, y), _call("log", x))


def _square(x: Node) -> Node:
    return power(x, TWO)


FUNCTIONS: Final[Mapping[str, Meaning]] = {
    "negative": Meaning(lambda m, x: -x, (lambda x: number(-1),), "-{0}", public=False),
    "add": Meaning(lambda m, x, y: x + y, (lambda x, y: ONE, lambda x, y: ONE), "{0} + {1}", public=False),
    "subtract": Meaning(
        lambda m, x, y: x - y, (lambda x, y: ONE, lambda x, y: number(-1)), "{0} - {1}", public=False
    ),
    "multiply": Meaning(lambda m, x, y: x * y, (lambda x, y: y, lambda x, y: x), r"{0} {1}", public=False),
    "divide": Meaning(
        lambda m, x, y: x / y,
        (lambda x, y: divide(ONE, y), lambda x, y: negative(divide(x, _square(y)))),
        r"\frac{{{0}}}{{{1}}}",
        public=False,
    ),
    "power": Meaning(lambda m, x, y: x**y, (_of_power, _of_exponent), "{0}^{{{1}}}", public=False),
    # The third where the first is at least the second, else the fourth; its derivative is that of the one.
    "choose": Meaning(
        lambda m, x, y, a, b: m.where(x >= y, a, b),
        (),  # see `derivative`
        r"\begin{{cases}}{2} & {0} \ge {1}\\ {3} & \text{{else}}\end{{cases}}",
        arity=4,
    ),
    "sqrt": Meaning(
        lambda m, x: m.sqrt(x), (lambda x: divide(ONE, multiply(TWO, _call("sqrt", x))),), r"\sqrt{{{0}}}"
    ),
    "exp": Meaning(lambda m, x: m.exp(x), (lambda x: _call("exp", x),), r"e^{{{0}}}"),
    "log": Meaning(lambda m, x: m.log(x), (lambda x: divide(ONE, x),), r"\ln({0})"),
    "sin": Meaning(lambda m, x: m.sin(x), (lambda x: _call("cos", x),), r"\sin({0})"),
    "cos": Meaning(lambda m, x: m.cos(x), (lambda x: negative(_call("sin", x)),), r"\cos({0})"),
    "tan": Meaning(lambda m, x: m.tan(x), (lambda x: add(ONE, _square(_call("tan", x))),), r"\tan({0})"),
    "asin": Meaning(
        lambda m, x: m.arcsin(x),
        (lambda x: divide(ONE, _call("sqrt", subtract(ONE, _square(x)))),),
        r"\arcsin({0})",
    ),
    "acos": Meaning(
        lambda m, x: m.arccos(x),
        (lambda x: negative(divide(ONE, _call("sqrt", subtract(ONE, _square(x))))),),
        r"\arccos({0})",
    ),
    "atan": Meaning(
        lambda m, x: m.arctan(x), (lambda x: divide(ONE, add(ONE, _square(x))),), r"\arctan({0})"
    ),
    "sinh": Meaning(lambda m, x: m.sinh(x), (lambda x: _call("cosh", x),), r"\sinh({0})"),
    "cosh": Meaning(lambda m, x: m.cosh(x), (lambda x: _call("sinh", x),), r"\cosh({0})"),
    "tanh": Meaning(
        lambda m, x: m.tanh(x), (lambda x: subtract(ONE, _square(_call("tanh", x))),), r"\tanh({0})"
    ),
    # Through tanh, which does not overflow.
    "sigmoid": Meaning(
        lambda m, x: 0.5 + 0.5 * m.tanh(0.5 * x),
        (lambda x: multiply(_call("sigmoid", x), _call("sigmoid", negative(x))),),
        r"\sigma({0})",
    ),
    "softplus": Meaning(
        lambda m, x: m.logaddexp(x, 0 * x), (lambda x: _call("sigmoid", x),), r"\ln(1 + e^{{{0}}})"
    ),
    "abs": Meaning(lambda m, x: m.abs(x), (lambda x: _call("sign", x),), r"\left|{0}\right|"),
    "sign": Meaning(lambda m, x: m.sign(x), (lambda x: ZERO,), r"\operatorname{{sign}}({0})"),
    "max": Meaning(
        lambda m, x, y: m.maximum(x, y),
        (lambda x, y: _call("choose", x, y, ONE, ZERO), lambda x, y: _call("choose", x, y, ZERO, ONE)),
        r"\max({0}, {1})",
    ),
    "min": Meaning(
        lambda m, x, y: m.minimum(x, y),
        (lambda x, y: _call("choose", y, x, ONE, ZERO), lambda x, y: _call("choose", y, x, ZERO, ONE)),
        r"\min({0}, {1})",
    ),
}
ALIASES: Final[Mapping[str, str]] = {"ln": "log", "arcsin": "asin", "arccos": "acos", "arctan": "atan"}
CONSTANTS: Final[Mapping[str, float]] = {"pi": math.pi, "π": math.pi, "e": math.e}


def fold(node: Node, combine: Callable[[Node, list[T]], T], given: Mapping[int, T] | None = None) -> T:
    """Return what `combine(node, results of its children)` makes of a node, from the leaves upwards.

    Without recursion, so that no depth is too great, and once for a part that occurs several times. `given`
    are results, by the identity of a node, below which nothing is looked at.

    >>> fold(add(Variable(-1, "x"), ONE), lambda node, below: 1 + sum(below))
    3
    """
    known: dict[int, T] = dict(given or {})
    waiting = [node]
    while waiting:
        here = waiting[-1]
        missing = [child for child in here.children if id(child) not in known]
        if missing:
            waiting.extend(missing)
            continue
        waiting.pop()
        if id(here) not in known:
            known[id(here)] = combine(here, [known[id(child)] for child in here.children])
    return known[id(node)]


def derivative(node: Node, name: str) -> Node:
    """Return the derivative with respect to a variable, by the chain rule."""

    def inner(here: Node, below: list[Node]) -> Node:
        if isinstance(here, Variable):
            return ONE if here.name == name else ZERO
        if not isinstance(here, Call):
            return ZERO
        if here.name == "choose":
            x, y, _, _ = here.arguments
            _, _, a, b = below
            return ZERO if is_number(a, 0) and is_number(b, 0) else _call("choose", x, y, a, b)
        found: Node = ZERO
        for partial, slope in zip(FUNCTIONS[here.name].partials, below, strict=True):
            if not is_number(slope, 0):
                found = add(found, multiply(partial(*here.arguments), slope))
        return found

    return fold(node, inner)

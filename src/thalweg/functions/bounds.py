"""What the form of an expression shows about all its values: their range, sign, convexity, smoothness.

Interval arithmetic and the rules of disciplined convex programming, from the leaves upwards. What they show
holds, to the rounding of bounds that are rounded outwards; what they do not show may still be so.

Source: Moore 1966, Interval Analysis; Grant, Boyd and Ye 2006, Disciplined convex programming.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from thalweg.functions.nodes import FUNCTIONS, Call, Node, Number, Variable, fold

Interval = tuple[float, float]
EVERYWHERE: Final[Interval] = (-math.inf, math.inf)
_WHOLE: Final = 2.0**53  # below it, whole numbers are exact


@dataclass(frozen=True)
class Shape:
    """What holds for a part of an expression at every point where it is defined."""

    low: float
    high: float
    convex: bool = False  # on a convex domain, as all that follows from it is
    concave: bool = False
    nonzero: bool = False  # it is never 0, also where 0 is an end of its range
    smooth: bool = False  # it is defined and differentiable everywhere
    constant: bool = False
    squares: bool = False  # a sum of squares of affine functions and of a constant of at least 0
    key: int = -1  # the same of parts that are written alike

    @property
    def affine(self) -> bool:
        """Whether it is a linear function and a constant."""
        return self.convex and self.concave

    @property
    def positive(self) -> bool:
        """Whether it is above 0 everywhere."""
        return self.low > 0 or (self.low == 0 and self.nonzero)

    @property
    def negative(self) -> bool:
        """Whether it is below 0 everywhere."""
        return self.high < 0 or (self.high == 0 and self.nonzero)


@dataclass
class Shapes:
    """Finds shapes, where variables move between ends: `within` maps a name to its range, else everywhere.

    >>> from thalweg.functions.expression import parse
    >>> found = Shapes().of(parse("softplus(x) + (y - 1)^2").parts[0])
    >>> found.low, found.positive, found.convex, found.smooth
    (0.0, True, True, True)
    """

    within: Mapping[str, Interval] = field(default_factory=dict)
    keys: dict[tuple[object, ...], int] = field(default_factory=dict)

    def of(self, node: Node) -> Shape:
        """Return the shape of a node."""
        with np.errstate(all="ignore"):
            return fold(node, self._of)

    def _of(self, here: Node, below: list[Shape]) -> Shape:
        if isinstance(here, Number):
            return _constant(here.value, self._key(here.value))
        if isinstance(here, Variable):
            low, high = self.within.get(here.name, EVERYWHERE)
            key = self._key(here.name)
            return Shape(low, high, True, True, not low <= 0 <= high, smooth=True, key=key)
        assert isinstance(here, Call)
        key = self._key(here.name, *(x.key for x in below))
        if all(x.constant for x in below):
            value = FUNCTIONS[here.name].compute(np, *(np.float64(x.low) for x in below))
            return _constant(float(value), key)
        if here.name == "multiply":
            found = self._product(here, below[0], below[1])
        elif here.name in _TWO:
            found = _TWO[here.name](below[0], below[1])
        elif here.name == "choose":
            low, high = min(below[2].low, below[3].low), max(below[2].high, below[3].high)
            found = Shape(low, high, nonzero=below[2].positive and below[3].positive)
        else:
            found = _ONE[here.name](below[0])
        if math.isnan(found.low) or math.isnan(found.high):
            found = Shape(*EVERYWHERE)
        return replace(found, key=key)

    def _key(self, *words: object) -> int:
        return self.keys.setdefault(words, len(self.keys))

    def _product(self, here: Call, x: Shape, y: Shape) -> Shape:
        if x.key == y.key:
            return _power(x, _constant(2.0, -1))
        if x.constant or y.constant:
            return _scaled(y, x.low) if x.constant else _scaled(x, y.low)
        ends = [_times(a, b) for a in (x.low, x.high) for b in (y.low, y.high)]
        low, high = _outwards(min(ends), max(ends))
        if (x.low >= 0 and y.low >= 0) or (x.high <= 0 and y.high <= 0):
            low = max(low, 0.0)
        if (x.low >= 0 and y.high <= 0) or (x.high <= 0 and y.low >= 0):
            high = min(high, 0.0)
        left, right = here.arguments
        if self._opposite(left, right):  # σ(x)·σ(−x), the slope of σ
            high = min(high, 0.25)
        return Shape(low, high, nonzero=x.nonzero and y.nonzero, smooth=x.smooth and y.smooth)

    def _opposite(self, left: Node, right: Node) -> bool:
        """Tell whether two nodes are the sigmoids of a part and of its negative."""
        if not (isinstance(left, Call) and isinstance(right, Call) and left.name == right.name == "sigmoid"):
            return False
        for x, y in ((left, right), (right, left)):
            inner = y.arguments[0]
            if isinstance(inner, Call) and inner.name == "negative":
                return self.of(inner.arguments[0]).key == self.of(x.arguments[0]).key
        return False


def _constant(value: float, key: int) -> Shape:
    if not math.isfinite(value):  # defined nowhere, or too large: nothing is known
        return Shape(*EVERYWHERE, key=key)
    return Shape(value, value, True, True, value != 0, True, True, value >= 0, key)


def _outwards(low: float, high: float) -> Interval:
    """Widen a range by what rounding may have taken; whole numbers are exact, and so is 0."""
    if not (low.is_integer() and abs(low) < _WHOLE):
        low = math.nextafter(low, -math.inf)
    if not (high.is_integer() and abs(high) < _WHOLE):
        high = math.nextafter(high, math.inf)
    return low, high


def _times(x: float, y: float) -> float:
    return 0.0 if x == 0 or y == 0 else x * y


def _sum(x: Shape, y: Shape) -> Shape:
    low = x.low + y.low if x.low and y.low else x.low or y.low
    high = x.high + y.high if x.high and y.high else x.high or y.high
    if x.low and y.low and not (x.low.is_integer() and y.low.is_integer()):
        low = math.nextafter(low, -math.inf)
    if x.high and y.high and not (x.high.is_integer() and y.high.is_integer()):
        high = math.nextafter(high, math.inf)
    return Shape(
        low,
        high,
        x.convex and y.convex,
        x.concave and y.concave,
        ((x.positive and y.low >= 0) or (y.positive and x.low >= 0))
        or ((x.negative and y.high <= 0) or (y.negative and x.high <= 0))
        or low > 0
        or high < 0,
        x.smooth and y.smooth,
        squares=x.squares and y.squares,
    )


def _scaled(x: Shape, factor: float) -> Shape:
    low, high = sorted((_times(x.low, factor), _times(x.high, factor)))
    if abs(factor) != 1:
        low, high = _outwards(low, high)
    curved = (x.convex, x.concave) if factor > 0 else (x.concave, x.convex)
    if factor == 0:
        curved = (x.convex or x.concave,) * 2
    return Shape(low, high, *curved, x.nonzero and factor != 0, x.smooth, squares=x.squares and factor >= 0)


def _negative(x: Shape) -> Shape:
    return _scaled(x, -1.0)


def _composed(
    x: Shape, ends: Interval, convex: bool = False, concave: bool = False, rises: int = 0, **more: bool
) -> Shape:
    """Return the shape of h(x), given h on the range of x; it rises (1), falls (−1), or neither (0)."""
    return Shape(
        *ends,
        convex and (x.affine or (rises > 0 and x.convex) or (rises < 0 and x.concave)),
        concave and (x.affine or (rises > 0 and x.concave) or (rises < 0 and x.convex)),
        **more,
    )


def _side(x: Shape) -> int:
    """Return 1 where a part is at least 0 everywhere, −1 where at most 0, else 0."""
    return 1 if x.low >= 0 else -1 if x.high <= 0 else 0


def _monotone(x: Shape, compute: Callable[[float], float]) -> Interval:
    """Return the range of a rising function of a part, with room for the last digit of it."""
    low, high = (float(compute(np.float64(end))) for end in (x.low, x.high))
    exact = (0.0, -math.inf, math.inf)  # where what is computed is the value, or its limit
    return (
        low if x.low in exact else math.nextafter(math.nextafter(low, -math.inf), -math.inf),
        high if x.high in exact else math.nextafter(math.nextafter(high, math.inf), math.inf),
    )


def _power(x: Shape, y: Shape) -> Shape:
    if not y.constant:
        if x.constant and x.low > 0:  # b^y = exp(y·log b)
            return _exp(_scaled(y, math.log(x.low)))
        return _exp(Shape(*EVERYWHERE)) if x.positive else Shape(*EVERYWHERE)
    p = y.low
    if not p.is_integer():
        return _root(x, p)
    if p < 0:
        return _inverse(_power(x, _constant(-p, -1)), x, p)
    ends = sorted(float(np.float64(end) ** p) for end in (x.low, x.high))
    more = {"nonzero": x.nonzero or p == 0, "smooth": x.smooth}
    if p == 0:
        return _composed(x, (1.0, 1.0), True, True, **more)
    if p == 1:
        return x
    if p % 2 == 0:
        low = ends[0] if _side(x) else 0.0
        squares = p == 2 and x.affine
        low, high = _outwards(low, ends[1])
        return _composed(x, (max(low, 0.0), high), convex=True, rises=_side(x), squares=squares, **more)
    low, high = _outwards(*ends)
    return _composed(x, (low, high), convex=x.low >= 0, concave=x.high <= 0, rises=1, **more)


def _root(x: Shape, p: float) -> Shape:
    """Return the shape of x^p for a p that is not whole: of a part that is at least 0 where it is defined."""
    if x.high < 0:
        return Shape(*EVERYWHERE)
    least = np.float64(max(x.low, 0.0))
    low, high = sorted((float(least**p), float(np.float64(x.high) ** p)))
    low, high = max(math.nextafter(low, -math.inf), 0.0), math.nextafter(high, math.inf)
    more = {"nonzero": x.positive or p < 0, "smooth": x.smooth and x.positive}
    if 0 < p < 1:
        found = _composed(x, (low, high), concave=True, rises=1, **more)
        return replace(found, convex=True) if p == 0.5 and x.squares else found
    # Where a convex part is at least 0 is no convex set, unless that is everywhere.
    return _composed(x, (low, high), convex=True, rises=-1 if p < 0 else int(x.low >= 0), **more)


def _inverse(raised: Shape, x: Shape, p: float) -> Shape:
    """Return the shape of x^p, p whole and below 0, given that of x^−p."""
    side, smooth = _side(x), x.smooth and x.nonzero
    if p % 2 and not side:
        return Shape(*EVERYWHERE, nonzero=True, smooth=smooth)
    ends = [math.inf * (side if p % 2 else 1) if not end else 1 / end for end in (raised.low, raised.high)]
    low, high = _outwards(min(ends), max(ends))
    if p % 2 == 0:
        return _composed(x, (max(low, 0.0), high), bool(side), rises=-side, nonzero=True, smooth=smooth)
    low, high = (max(low, 0.0), high) if side > 0 else (low, min(high, 0.0))
    return _composed(x, (low, high), side > 0, side < 0, rises=-1, nonzero=True, smooth=smooth)


def _divide(x: Shape, y: Shape) -> Shape:
    inverse = _power(y, _constant(-1.0, -1))
    if y.constant:
        return _scaled(x, 1 / y.low) if y.low else Shape(*EVERYWHERE)
    if x.constant:
        return _scaled(inverse, x.low)
    ends = [_times(a, b) for a in (x.low, x.high) for b in (inverse.low, inverse.high)]
    low, high = _outwards(min(ends), max(ends))
    return Shape(low, high, nonzero=x.nonzero, smooth=x.smooth and inverse.smooth)


def _exp(x: Shape) -> Shape:
    low, high = _monotone(x, np.exp)
    return _composed(x, (max(low, 0.0), high), convex=True, rises=1, nonzero=True, smooth=x.smooth)


def _log(x: Shape) -> Shape:
    low, high = _monotone(replace(x, low=max(x.low, 0.0), high=max(x.high, 0.0)), np.log)
    nonzero = x.low > 1 or x.high < 1
    return _composed(x, (low, high), concave=True, rises=1, nonzero=nonzero, smooth=x.smooth and x.positive)


def _abs(x: Shape) -> Shape:
    side = _side(x)
    low = min(abs(x.low), abs(x.high)) if side else 0.0
    more = {"nonzero": x.nonzero, "smooth": x.smooth and x.nonzero}
    return _composed(x, (low, max(abs(x.low), abs(x.high))), convex=True, rises=side, **more)


def _softplus(x: Shape) -> Shape:
    low, high = _monotone(x, lambda end: np.logaddexp(end, 0.0))
    return _composed(x, (max(low, 0.0), high), convex=True, rises=1, nonzero=True, smooth=x.smooth)


def _sigmoid(x: Shape) -> Shape:
    low, high = _monotone(x, FUNCTIONS["sigmoid"].compute.__get__(np))
    bent = (x.high <= 0, x.low >= 0)
    ends = (max(low, 0.0), min(high, 1.0))
    return _composed(x, ends, *bent, rises=1, nonzero=True, smooth=x.smooth)


def _bending(name: str) -> Callable[[Shape], Shape]:
    """Return the shape of a rising function through 0 that is concave above 0 and convex below."""
    compute = FUNCTIONS[name].compute

    def shape(x: Shape) -> Shape:
        ends = _monotone(x, lambda end: compute(np, end))
        return _composed(x, ends, x.high <= 0, x.low >= 0, rises=1, nonzero=x.nonzero, smooth=x.smooth)

    return shape


def _sinh(x: Shape) -> Shape:
    ends = _monotone(x, np.sinh)
    return _composed(x, ends, x.low >= 0, x.high <= 0, rises=1, nonzero=x.nonzero, smooth=x.smooth)


def _cosh(x: Shape) -> Shape:
    size = _abs(x)
    low, high = _monotone(size, np.cosh)
    more = {"nonzero": True, "smooth": x.smooth}
    return _composed(x, (max(low, 1.0), high), convex=True, rises=_side(x), **more)


def _wave(x: Shape) -> Shape:
    return Shape(-1.0, 1.0, smooth=x.smooth)


def _between(low: float, high: float) -> Callable[[Shape], Shape]:
    return lambda x: Shape(low, high)


def _max(x: Shape, y: Shape) -> Shape:
    low, high = max(x.low, y.low), max(x.high, y.high)
    nonzero = x.positive or y.positive or (x.negative and y.negative)
    return Shape(low, high, convex=x.convex and y.convex, nonzero=nonzero)


def _min(x: Shape, y: Shape) -> Shape:
    return _negative(_max(_negative(x), _negative(y)))


_TWO: Final[Mapping[str, Callable[[Shape, Shape], Shape]]] = {
    "add": _sum, "subtract": lambda x, y: _sum(x, _negative(y)), "divide": _divide, "power": _power,
    "max": _max, "min": _min,
}  # fmt: skip
_ONE: Final[Mapping[str, Callable[[Shape], Shape]]] = {
    "negative": _negative, "sqrt": lambda x: _root(x, 0.5), "exp": _exp, "log": _log, "abs": _abs,
    "softplus": _softplus, "sigmoid": _sigmoid, "tanh": _bending("tanh"), "atan": _bending("atan"),
    "sinh": _sinh, "cosh": _cosh, "sin": _wave, "cos": _wave, "tan": _between(*EVERYWHERE),
    "asin": _between(-math.pi, math.pi), "acos": _between(0.0, 4.0), "sign": _between(-1.0, 1.0),
}  # fmt: skip


def spectrum_bounds(entries: Sequence[Sequence[Shape]]) -> Interval:
    """Return between which numbers all eigenvalues of a symmetric matrix lie, given ranges of its entries.

    Each eigenvalue lies in a disc around a diagonal entry, with the sum of the row's other sizes as radius.

    >>> one, two = Shape(1.0, 1.0), Shape(2.0, 3.0)
    >>> spectrum_bounds([[two, one], [one, two]])
    (1.0, 4.0)

    Source: Gershgorin 1931.
    """
    lows, highs = [], []
    for i, row in enumerate(entries):
        radius = sum(max(abs(x.low), abs(x.high)) for j, x in enumerate(row) if j != i)
        lows.append(row[i].low - radius)
        highs.append(row[i].high + radius)
    return min(lows), max(highs)

"""All real roots of a polynomial, and a system of linear equations, in exact fractions."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Final, NamedTuple

Coefficients = list[Fraction]  # of x⁰, x¹, …; the last is not 0

MAX_DEGREE: Final = 30
_ZERO: Final = Fraction(0)


class Root(NamedTuple):
    """A real root, with the signs of the polynomial just left and right of it: −1 or 1."""

    at: float
    left: int
    right: int


def real_roots(coefficients: Sequence[Fraction]) -> list[Root]:
    """Return all real roots, each once, in rising order, to the last digit.

    Args:
        coefficients: of x⁰, x¹, …; not all 0.

    >>> real_roots([Fraction(0), Fraction(0), Fraction(1)])  # x²
    [Root(at=0.0, left=1, right=1)]
    >>> [root.at for root in real_roots([Fraction(x) for x in (0, -4, 0, 4)])]  # 4x³ − 4x
    [-1.0, 0.0, 1.0]

    Source: Sturm 1829: the changes of sign in a chain of remainders count roots.
    """
    p = _trimmed(list(coefficients))
    if len(p) < 2:
        return []
    simple = _quotient(p, _common(p, _slope(p)))  # the same roots, each once
    chain = _chain(simple)
    bound = 1 + max(abs(x / p[-1]) for x in p[:-1])
    edge = Fraction(1)
    while edge <= bound:  # a power of 2, so that halves stay short
        edge *= 2
    waiting, alone = [(-edge, edge)], []
    while waiting:
        low, high = waiting.pop()
        count = _changes(chain, low) - _changes(chain, high)  # roots in (low, high]
        if count == 1:
            alone.append(_narrowed(simple, chain, low, high))
        elif count > 1:
            middle = (low + high) / 2
            waiting += [(low, middle), (middle, high)]
    if not alone:
        return []
    alone.sort()
    between = [-edge, *((a[1] + b[0]) / 2 for a, b in pairwise(alone)), edge]
    signs = [_sign(_value(p, x)) for x in between]
    return [
        Root(_float(simple, low, high), left, right)
        for (low, high), (left, right) in zip(alone, pairwise(signs), strict=True)
    ]


def solve(matrix: Sequence[Sequence[Fraction]], right: Sequence[Fraction]) -> list[Fraction] | None:
    """Return a solution of linear equations, with zeros for what they leave free; None if there is none.

    >>> one, two = Fraction(1), Fraction(2)
    >>> [int(x) for x in solve([[two, one], [one, one]], [two, one])]
    [1, 0]
    """
    n = len(right)
    rows = [[*row, x] for row, x in zip(matrix, right, strict=True)]
    pivots: list[int] = []
    for column in range(n):
        place = len(pivots)
        found = next((i for i in range(place, n) if rows[i][column]), None)
        if found is None:
            continue
        rows[place], rows[found] = rows[found], rows[place]
        rows[place] = [x / rows[place][column] for x in rows[place]]
        for i in range(n):
            if i != place and (factor := rows[i][column]):
                rows[i] = [x - factor * y for x, y in zip(rows[i], rows[place], strict=True)]
        pivots.append(column)
    if any(row[-1] for row in rows[len(pivots) :]):
        return None
    solution = [_ZERO] * n
    for row, column in zip(rows, pivots, strict=False):
        solution[column] = row[-1]
    return solution


def is_semidefinite(matrix: Sequence[Sequence[Fraction]]) -> bool:
    """Tell whether a symmetric matrix has no eigenvalue below 0, without rounding.

    >>> one, two = Fraction(1), Fraction(2)
    >>> is_semidefinite([[one, one], [one, one]]), is_semidefinite([[one, two], [two, one]])
    (True, False)
    """
    rows = [list(row) for row in matrix]
    while rows:
        pivot, *rest = rows[0]
        if pivot < 0 or (pivot == 0 and any(rest)):
            return False
        below = [row[1:] for row in rows[1:]]
        if pivot:
            for i, row in enumerate(below):
                factor = rest[i] / pivot
                below[i] = [x - factor * y for x, y in zip(row, rest, strict=True)]
        rows = below
    return True


def _value(p: Coefficients, x: Fraction) -> Fraction:
    found = _ZERO
    for coefficient in reversed(p):
        found = found * x + coefficient
    return found


def _sign(x: Fraction) -> int:
    return (x > 0) - (x < 0)


def _trimmed(p: Coefficients) -> Coefficients:
    while p and not p[-1]:
        p.pop()
    return p


def _slope(p: Coefficients) -> Coefficients:
    return [i * x for i, x in enumerate(p)][1:]


def _divided(p: Coefficients, q: Coefficients) -> tuple[Coefficients, Coefficients]:
    """Return quotient and remainder."""
    rest, found = list(p), [_ZERO] * max(len(p) - len(q) + 1, 0)
    for i in reversed(range(len(found))):
        found[i] = rest[i + len(q) - 1] / q[-1]
        for j, x in enumerate(q):
            rest[i + j] -= found[i] * x
    return found, _trimmed(rest)


def _quotient(p: Coefficients, q: Coefficients) -> Coefficients:
    return _divided(p, q)[0]


def _scaled(p: Coefficients) -> Coefficients:
    """Divide by the size of the first coefficient, which keeps numbers short and signs as they are."""
    return [x / abs(p[-1]) for x in p]


def _common(p: Coefficients, q: Coefficients) -> Coefficients:
    """Return the greatest common divisor."""
    while q:
        p, q = q, _divided(p, q)[1]
        q = _scaled(q) if q else q
    return p


def _chain(p: Coefficients) -> list[Coefficients]:
    chain = [p, _slope(p)]
    while len(chain[-1]) > 1:
        rest = _divided(chain[-2], chain[-1])[1]
        if not rest:
            break
        chain.append(_scaled([-x for x in rest]))
    return chain


def _changes(chain: list[Coefficients], x: Fraction) -> int:
    signs = [sign for p in chain if (sign := _sign(_value(p, x)))]
    return sum(a != b for a, b in pairwise(signs))


def _narrowed(
    p: Coefficients, chain: list[Coefficients], low: Fraction, high: Fraction
) -> tuple[Fraction, Fraction]:
    """Return a range around the one root in (low, high], so narrow that its ends are the same float."""
    for _ in range(1200):
        if not _value(p, high):
            return high, high
        if float(low) == float(high):
            break
        middle = (low + high) / 2
        if _value(p, low):
            left = _sign(_value(p, low)) != _sign(_value(p, middle))
        else:  # the low end is another root, and does not count
            left = _changes(chain, low) > _changes(chain, middle)
        low, high = (low, middle) if left else (middle, high)
    return low, high


def _float(p: Coefficients, low: Fraction, high: Fraction) -> float:
    """Return the root as a number: a short fraction where that is the root."""
    middle = (low + high) / 2
    near = middle.limit_denominator(10**6)
    return float(near if not _value(p, near) else middle)

"""Where the gradient of a function is zero, and what is there: a minimum, a maximum, a saddle, or not known.

A polynomial of degree 2, or of one variable, is solved exactly here; others are searched (`newton.search`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from thalweg.functions.expression import Expression
from thalweg.functions.normal import Polynomial
from thalweg.functions.roots import MAX_DEGREE, is_semidefinite, real_roots, solve

Points = NDArray[np.float64]  # (points, variables)

RADII: Final = (0.3, 0.1, 0.03, 0.01)  # of the spheres that are looked at where the Hessian cannot tell
DIRECTIONS: Final = 2000  # on each of them


@dataclass(frozen=True)
class Critical:
    """A point whose gradient is zero, or where a function of one variable has a kink and turns.

    kind: "minimum", "maximum", "saddle", or "degenerate": the Hessian cannot tell, and nothing else could.
    """

    at: tuple[float, ...]
    value: float
    kind: str
    why: str  # what decides the kind
    eigenvalues: tuple[float, ...] = ()  # of the Hessian, rising; none at a kink


@dataclass(frozen=True)
class Search:
    """The critical points that were found."""

    points: tuple[Critical, ...]
    complete: bool  # there are no others, anywhere
    how: str
    flat: tuple[float, ...] | None = None  # a place around which the function is constant to rounding
    endless: bool = False  # they are not isolated: there are lines of them, of which some are listed


def quadratic(expression: Expression, polynomial: Polynomial) -> Search:
    """Solve Hw = −b, of a polynomial of degree 2 at most, exactly."""
    n = len(expression.variables)
    hessian, slope = hessian_of(polynomial, n)
    found = solve(hessian, [-x for x in slope])
    how = "The gradient is linear: solved exactly."
    if found is None:
        return Search((), True, how)
    at = tuple(float(x) for x in found)
    values = spectrum(np.array([[float(x) for x in row] for row in hessian]))
    singular = rank(hessian) < n
    if is_semidefinite(hessian):
        kind, why = "minimum", "no eigenvalue of the constant Hessian is below 0"
    elif is_semidefinite([[-x for x in row] for row in hessian]):
        kind, why = "maximum", "no eigenvalue of the constant Hessian is above 0"
    else:
        kind, why = "saddle", "the Hessian has eigenvalues of both signs"
    if not any(values):
        kind, why = "degenerate", "the function is constant"
    point = Critical(at, value_at(expression, at), kind, why, values)
    return Search((point,), True, how, endless=singular)


def of_one_variable(expression: Expression, polynomial: Polynomial) -> Search:
    """Return all critical points of a polynomial of one variable; their kinds are those of sign changes."""
    degree = max((powers[0] for powers in polynomial), default=0)
    slope = [Fraction(0)] * max(degree, 1)
    for (power,), coefficient in polynomial.items():
        if power:
            slope[power - 1] = power * coefficient
    points = []
    for root in real_roots(slope):
        at = (root.at,)
        if root.left < 0 < root.right:
            kind, why = "minimum", "the slope changes its sign from − to +"
        elif root.left > 0 > root.right:
            kind, why = "maximum", "the slope changes its sign from + to −"
        else:
            kind, why = (
                "degenerate",
                "a point of inflection, neither minimum nor maximum: the slope keeps its sign",
            )
        curvature = spectrum(np.asarray(expression.curvature(at)))
        points.append(Critical(at, value_at(expression, at), kind, why, curvature))
    return Search(tuple(points), True, "The slope is a polynomial: all its roots, by Sturm's theorem.")


def is_solvable(polynomial: Polynomial | None, variables: int) -> bool:
    """Tell whether a polynomial of one variable is of a degree that is solved exactly."""
    return polynomial is not None and variables == 1 and max(p[0] for p in polynomial) <= MAX_DEGREE


def spectrum(hessian: Points) -> tuple[float, ...]:
    """Return the eigenvalues of a symmetric matrix, rising; none where it is not finite."""
    if not np.isfinite(hessian).all():
        return ()
    return tuple(float(x) + 0.0 for x in np.linalg.eigvalsh((hessian + hessian.T) / 2))


def value_at(expression: Expression, at: Sequence[float]) -> float:
    """Return the value at one point, as a number."""
    return float(np.asarray(expression(np.asarray(at, np.float64)))) + 0.0


def hessian_of(polynomial: Polynomial, n: int) -> tuple[list[list[Fraction]], list[Fraction]]:
    """Return the Hessian and the gradient at 0 of a polynomial of degree 2 at most."""
    hessian = [[Fraction(0)] * n for _ in range(n)]
    slope = [Fraction(0)] * n
    for powers, coefficient in polynomial.items():
        places = [i for i, power in enumerate(powers) for _ in range(power)]
        if len(places) == 1:
            slope[places[0]] = coefficient
        elif places:
            i, j = places
            hessian[i][j] += coefficient
            hessian[j][i] += coefficient
    return hessian, slope


def rank(matrix: list[list[Fraction]]) -> int:
    """Return the rank of a matrix, without rounding."""
    rows, done = [list(row) for row in matrix], 0
    for column in range(len(matrix)):
        found = next((i for i in range(done, len(rows)) if rows[i][column]), None)
        if found is None:
            continue
        rows[done], rows[found] = rows[found], rows[done]
        for i in range(done + 1, len(rows)):
            factor = rows[i][column] / rows[done][column]
            rows[i] = [x - factor * y for x, y in zip(rows[i], rows[done], strict=True)]
        done += 1
    return done


def is_singular(eigenvalues: Sequence[float]) -> bool:
    """Tell whether an eigenvalue is 0 beside the others, or none is known."""
    sizes = [abs(x) for x in eigenvalues]
    return not sizes or min(sizes) <= 1e-8 * max(sizes)


def newton_step(expression: Expression, point: Points) -> float:
    """Return how far Newton's method would still go, infinitely far where the gradient only fades away."""
    slope, hessian = expression.slope(point), expression.curvature(point)
    if not (np.isfinite(slope).all() and np.isfinite(hessian).all()):
        return math.inf
    values, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
    sizes = np.maximum(np.abs(values), 1e-14 * np.abs(values).max())  # below that it is rounding
    parts = np.abs(vectors.T @ slope)
    return float(np.max(np.where(parts > 0, parts / np.where(sizes > 0, sizes, 1e-300), 0.0)))


def classified(expression: Expression, point: Points) -> Critical:
    """Say what a critical point is: by its Hessian, else by the values around it."""
    with np.errstate(all="ignore"):
        hessian = np.asarray(expression.curvature(point))
        around = sphere(point, 0.01)
        most = largest(expression.curvature(around))
        step = newton_step(expression, point)
    values = spectrum(hessian)
    at, value = tuple(float(x) for x in point), value_at(expression, point.tolist())
    # By how much the eigenvalues may be off, because the point is off by about that step.
    doubt = max(1e-11, 1e3 * step / (1 + float(np.abs(point).max()))) * max([most, *np.abs(values)])
    if values and values[0] > doubt:
        return Critical(at, value, "minimum", "all eigenvalues of the Hessian are above 0", values)
    if values and values[-1] < -doubt:
        return Critical(at, value, "maximum", "all eigenvalues of the Hessian are below 0", values)
    if values and values[0] < -doubt and values[-1] > doubt:
        return Critical(at, value, "saddle", "the Hessian has eigenvalues of both signs", values)
    kind, why = _by_values(expression, point, value)
    return Critical(at, value, kind, why, values)


def largest(values: Points) -> float:
    """Return the largest size among numbers, without those that are none; 0 where there is no other."""
    return float(np.fmax.reduce(np.abs(values).ravel(), initial=0.0))


def sphere(point: Points, radius: float, directions: int = 64) -> Points:
    """Return points around one, at a radius relative to its size: on both sides, or in many directions."""
    n = len(point)
    length = radius * (1 + float(np.abs(point).max()))
    if n == 1:
        return point + length * np.array([[-1.0], [1.0]])
    ways = np.vstack([np.random.default_rng(0).normal(size=(directions, n)), np.eye(n), -np.eye(n)])
    around: Points = point + length * ways / np.linalg.norm(ways, axis=1, keepdims=True)
    return around


def _by_values(expression: Expression, point: Points, value: float) -> tuple[str, str]:
    """Compare the value with those on spheres; those that rounding hides say nothing."""
    signs: list[set[int]] = []
    for radius in RADII:
        with np.errstate(all="ignore"):
            differences = expression(sphere(point, radius, DIRECTIONS)) - value
        if not np.isfinite(differences).all():
            return "degenerate", "undecided: the Hessian cannot tell, and it is not defined all around"
        noise = 64 * np.finfo(np.float64).eps * abs(value)
        signs.append({int(s) for s in np.sign(np.where(np.abs(differences) <= noise, 0.0, differences))})
    told = [s - {0} for s in signs if s - {0}]
    if len(told) < 2 or any(s != told[-1] for s in told):
        return "degenerate", "undecided: the Hessian cannot tell, nor do the values around"
    if told[-1] == {-1, 1}:
        if len(point) == 1:
            return "degenerate", "neither minimum nor maximum: lower on one side and higher on the other"
        return "saddle", "there are higher and lower values around, at every distance tried"
    if any(0 in s for s in signs):
        return "degenerate", "undecided: the Hessian cannot tell, and some values around are the same"
    if told[-1] == {1}:
        return "minimum", "all values around are higher: by sampling, because the Hessian cannot tell"
    return "maximum", "all values around are lower: by sampling, because the Hessian cannot tell"

"""Is a function convex, and is its gradient Lipschitz: shown, refuted, or undecided.

What is shown follows from the form of the expression (`thalweg.functions.bounds`) or from exact fractions;
what is refuted comes with a witness that anyone can check. Not to have found something shows nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import numpy as np

from thalweg.errors import InputError
from thalweg.functions.bounds import Interval, Shape, Shapes, spectrum_bounds
from thalweg.functions.critical import Points, hessian_of, rank, spectrum
from thalweg.functions.expression import Expression
from thalweg.functions.nodes import FUNCTIONS, Call, Node, Number, Variable, fold
from thalweg.functions.normal import Normal, Polynomial
from thalweg.functions.roots import MAX_DEGREE, is_semidefinite, real_roots

MAX_PARTS: Final = 20_000  # different parts of all second derivatives together
_PAIRS: Final = 4096
_STRETCHES: Final = 512
_HALVINGS: Final = 36  # what is left of a stretch is 1e-11 of it
_STEPS: Final = (1.0, 0.3, 0.1, 0.03, 0.01, 1e-3, 1e-4)


@dataclass(frozen=True)
class Form:
    """What the form of a function shows about its values and derivatives, everywhere or in a box."""

    value: Shape
    gradient: tuple[Shape, ...]
    hessian: tuple[tuple[Shape, ...], ...]
    polynomial: Polynomial | None

    @property
    def degree(self) -> int | None:
        """The degree of a polynomial, None of another function."""
        return (
            None if self.polynomial is None else max((sum(powers) for powers in self.polynomial), default=0)
        )

    @property
    def curvature(self) -> Interval:
        """Between which numbers all eigenvalues of the Hessian lie."""
        low, high = spectrum_bounds(self.hessian)
        return (-math.inf if math.isnan(low) else low), (math.inf if math.isnan(high) else high)


@dataclass(frozen=True)
class Decision:
    """Whether something holds: True or False, shown, or None, undecided; and why."""

    holds: bool | None
    why: str


@dataclass(frozen=True)
class Witness:
    """Two points at whose mean the function is above the mean of its two values: so it is not convex."""

    points: tuple[tuple[float, ...], tuple[float, ...]]
    values: tuple[float, float]
    value_at_mean: float


@dataclass(frozen=True)
class Smoothness:
    """A number L with ‖∇f(x) − ∇f(y)‖ ≤ L·‖x − y‖; None where none is known.

    where: "everywhere", "in the box", or "nowhere". exact: no smaller number would do. refuted: why no number
    that would be of use holds for all points; empty where that was not shown.
    """

    value: float | None
    where: str
    exact: bool
    refuted: str = ""


def parts_of(expression: Expression) -> int:
    """Count the different parts of all second derivatives, and refuse what is too large to analyse.

    Raises:
        InputError: there are more than `MAX_PARTS`.
    """
    known: set[int] = set()
    for slope in expression.gradient():
        for second in slope.gradient():
            fold(second.parts[0], lambda here, below: known.add(id(here)))
        if len(known) > MAX_PARTS:
            raise InputError(
                "the expression",
                f"be small enough to analyse: at most {MAX_PARTS:,} parts in its second derivatives",
                f"over {len(known):,}",
                "Fewer variables, or a shorter formula.",
            )
    return len(known)


def form_of(
    expression: Expression, normal: Normal | None = None, within: Mapping[str, Interval] | None = None
) -> Form:
    """Return what the form of a function shows, everywhere or where its variables are within ranges.

    >>> from thalweg.functions.expression import parse
    >>> form_of(parse("x^2 + sin(x)")).curvature
    (1.0, 3.0)
    """
    shapes = Shapes(within or {})
    value = shapes.of(expression.parts[0])
    # x/x is 1 but where it is not defined: what is not defined everywhere is no polynomial.
    polynomial = None
    if normal is not None and value.smooth:
        polynomial = normal.polynomial(expression.parts[0], expression.variables)
    return Form(
        value,
        tuple(shapes.of(x.parts[0]) for x in expression.gradient()),
        tuple(tuple(shapes.of(x.parts[0]) for x in row) for row in expression.hessian()),
        polynomial,
    )


def convexity(expression: Expression, form: Form, places: Points) -> tuple[Decision, Witness | None]:
    """Decide whether a function is convex on the convex set where it is defined.

    Args:
        expression: a function with one value.
        form: what its form shows.
        places: where to look for a witness against it.

    >>> from thalweg.functions.expression import parse
    >>> f = parse("w^4 - 2*w^2")
    >>> decision, witness = convexity(f, form_of(f), np.array([[0.1]]))
    >>> decision.holds, witness.values[0] < witness.value_at_mean
    (False, True)
    """
    quadratic = form.degree is not None and form.degree <= 2
    if quadratic and form.polynomial is not None:
        hessian, _ = hessian_of(form.polynomial, len(expression.variables))
        if is_semidefinite(hessian):
            return Decision(True, "its Hessian is constant and has no eigenvalue below 0"), None
    if form.value.convex:
        return Decision(True, "it is put together by rules that keep convexity"), None
    if form.value.smooth and form.curvature[0] >= 0:
        return Decision(True, f"no eigenvalue of its Hessian is below {form.curvature[0]:.6g} anywhere"), None
    never_below = _curves_up(form)
    if never_below:
        return Decision(True, "its second derivative is a polynomial that is nowhere below 0"), None
    witness = _witness(expression, places)
    if witness is not None:
        return Decision(False, "at the mean of two points it is above the mean of their values"), witness
    if quadratic:
        return Decision(False, "its Hessian is constant and has an eigenvalue below 0"), None
    if never_below is False:
        return Decision(False, "its second derivative is a polynomial that is below 0 somewhere"), None
    return Decision(None, "no rule shows it, and no point refutes it"), None


def _curves_up(form: Form) -> bool | None:
    """Tell whether the second derivative of a polynomial of one variable is never below 0; exactly."""
    if form.polynomial is None or len(form.gradient) != 1 or not 2 <= (form.degree or 0) <= MAX_DEGREE:
        return None
    second = [Fraction(0)] * ((form.degree or 0) - 1)
    for (power,), coefficient in form.polynomial.items():
        if power >= 2:
            second[power - 2] = power * (power - 1) * coefficient
    if second[-1] < 0:  # far away
        return False
    return all(root.left > 0 and root.right > 0 for root in real_roots(second))


def strength(expression: Expression, form: Form) -> float:
    """Return a number m for which f − m·‖x‖²/2 is shown to be convex; 0 where none above 0 is known."""
    if form.degree is not None and form.degree <= 2 and form.polynomial is not None:
        hessian, _ = hessian_of(form.polynomial, len(expression.variables))
        least = min(spectrum(_floats(hessian)), default=0.0)
        return least if is_semidefinite(hessian) and rank(hessian) == len(hessian) else 0.0
    return max(0.0, form.curvature[0]) if form.value.smooth and math.isfinite(form.curvature[0]) else 0.0


def smoothness(expression: Expression, form: Form, in_box: Form, places: Points) -> Smoothness:
    """Return the Lipschitz constant of the gradient, or a bound of it.

    Args:
        expression: a function with one value.
        form: what its form shows everywhere.
        in_box: what it shows where is searched.
        places: between which to look for a jump of the slope.

    >>> from thalweg.functions.expression import parse
    >>> f, places = parse("w1^2 + 25*w2^2"), np.ones((1, 2))
    >>> smoothness(f, form_of(f, Normal()), form_of(f), places)
    Smoothness(value=50.0, where='everywhere', exact=True, refuted='')
    """
    refuted = ""
    if form.degree is not None and form.degree > 2:
        refuted = "the Hessian of a polynomial of higher degree than 2 has no bound"
    elif not form.value.smooth:
        refuted = _jump(expression, places)
    if form.polynomial is not None and not refuted:
        hessian, _ = hessian_of(form.polynomial, len(expression.variables))
        sizes = [abs(x) for x in spectrum(_floats(hessian))]
        return Smoothness(max(sizes), "everywhere", True) if sizes else Smoothness(None, "nowhere", False)
    for where, found in (("everywhere", form), ("in the box", in_box)):
        bound = max(abs(x) for x in found.curvature)
        if found.value.smooth and math.isfinite(bound):
            return Smoothness(bound, where, False, refuted)
    return Smoothness(None, "nowhere", False, refuted)


def _jump(expression: Expression, places: Points) -> str:
    """Say where the slope changes by much within a step of rounding; empty: nowhere that was seen.

    Of each of many stretches the half is kept in which the slope changes more, again and again. Where there
    is an L the change shrinks with the stretch; at a jump it stays, where a root ends it shrinks less.
    """
    pairs = np.random.default_rng(0).integers(len(places), size=(2, _STRETCHES))
    a, b = places[pairs[0]], places[pairs[1]]

    def size(vectors: Points) -> Points:
        return np.asarray(np.linalg.norm(vectors, axis=1))

    def halved(times: int) -> Points:
        """Halve the stretches, and return by how much the slope changes on what is left of each."""
        nonlocal a, b
        for _ in range(times):
            middle = (a + b) / 2
            first, between, last = (expression.slope(x) for x in (a, middle, b))
            nearer = (size(between - first) >= size(last - between))[:, None]
            a, b = np.where(nearer, a, middle), np.where(nearer, middle, b)
        return size(expression.slope(b) - expression.slope(a))

    with np.errstate(all="ignore"):
        before, change, apart = halved(_HALVINGS - 10), halved(10), size(b - a)
        slopes = np.abs([expression.slope(a), expression.slope(b)]).max(axis=(0, 2))
        stays = (change > before / 2**7) & (change > 1e-6 * slopes)  # less is rounding
        needed = np.where(stays & np.isfinite(expression(a) + expression(b)), change / apart, 0.0)
    most = int(np.nanargmax(needed))
    if not 0 < needed[most] < math.inf:
        return ""
    where = ", ".join(f"{round(x, 9) + 0.0:.4g}" for x in b[most].tolist())
    where = where if len(b[most]) == 1 else f"({where})"
    return (
        f"near {where} the gradient changes by {change[most]:.3g} within {apart[most]:.1g}: L would be above "
        f"{needed[most]:.1g}"
    )


def _floats(matrix: Sequence[Sequence[Fraction]]) -> Points:
    return np.array([[float(x) for x in row] for row in matrix])


def _sizes(expression: Expression, points: Points) -> tuple[Any, Any]:
    """Return values at points, and the largest number that occurs on the way to each."""
    place = {name: i for i, name in enumerate(expression.variables)}
    most = np.zeros(len(points))

    def value(here: Node, below: list[Any]) -> Any:
        nonlocal most
        if isinstance(here, Number):
            found = np.full(len(points), here.value)
        elif isinstance(here, Variable):
            found = points[:, place[here.name]]
        else:
            assert isinstance(here, Call)
            found = FUNCTIONS[here.name].compute(np, *below)
        most = np.fmax(most, np.abs(found))
        return found

    with np.errstate(all="ignore"):
        return fold(expression.parts[0], value), most


def _broken(expression: Expression, a: Points, b: Points) -> Witness | None:
    """Return the first pair at whose mean the function is above the mean of its values, beyond rounding."""
    (left, size_a), (right, size_b) = _sizes(expression, a), _sizes(expression, b)
    middle, size = _sizes(expression, (a + b) / 2)
    most = np.fmax(np.fmax(size_a, size_b), size)
    with np.errstate(all="ignore"):
        gap = middle - (left + right) / 2
        share = np.where(np.isfinite(gap) & np.isfinite(most) & (most > 0), gap / most, -1.0)
    broken = np.flatnonzero(share > 1e-9)
    if not len(broken):
        return None
    first = broken[0]
    ends = tuple(float(x) for x in a[first]), tuple(float(x) for x in b[first])
    return Witness(ends, (float(left[first]), float(right[first])), float(middle[first]))


def _witness(expression: Expression, places: Points) -> Witness | None:
    """Look along the direction in which a function curves down most, then between pairs of places."""
    with np.errstate(all="ignore"):
        hessians = np.asarray(expression.curvature(places))
    good = np.isfinite(hessians).all(axis=(1, 2))
    points, hessians = places[good], hessians[good]
    if len(points):
        values, vectors = np.linalg.eigh((hessians + hessians.swapaxes(1, 2)) / 2)
        ratio = values[:, 0] / np.maximum(np.abs(values).max(axis=1), 1e-300)
        order = np.argsort(ratio, kind="stable")[:32]
        order = order[ratio[order] < 0]
        for step in _STEPS:
            move = step * vectors[order, :, 0] * (1 + np.abs(points[order]).max(axis=1, initial=0.0))[:, None]
            if found := _broken(expression, points[order] - move, points[order] + move):
                return found
    pairs = np.random.default_rng(0).integers(len(places), size=(2, _PAIRS))
    return _broken(expression, places[pairs[0]], places[pairs[1]])

"""The conditions under which gradient descent finds a minimum: shown, refuted, or undecided."""

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Final

import numpy as np

from thalweg.functions.bounds import Shapes
from thalweg.functions.convexity import Decision, Form, Smoothness
from thalweg.functions.critical import Critical, Points, hessian_of
from thalweg.functions.expression import Expression
from thalweg.functions.nodes import Call, Node, Number, Variable, add, derivative, fold, multiply, number
from thalweg.functions.roots import is_semidefinite

_ALONG: Final = "·"  # no name that can be typed


def falls_for_ever(expression: Expression, direction: Sequence[float]) -> bool:
    """Tell whether it is shown that a function falls along a direction, from every point and for ever.

    Then it has no minimiser, and no point where its gradient is zero.

    >>> from thalweg.functions.expression import parse
    >>> falls_for_ever(parse("softplus(-w)"), [1.0]), falls_for_ever(parse("w^2"), [1.0])
    (True, False)
    """
    moves = dict(zip(expression.variables, direction, strict=True))
    along = Variable(-1, _ALONG)

    def moved(here: Node, below: list[Node]) -> Node:
        if isinstance(here, Variable):
            return add(here, multiply(number(moves[here.name]), along))
        return here if isinstance(here, Number) else _called(here, below)

    path = fold(expression.parts[0], moved)
    shapes = Shapes()
    return shapes.of(expression.parts[0]).smooth and shapes.of(derivative(path, _ALONG)).negative


def minimiser(
    expression: Expression, form: Form, points: Sequence[Critical], globals_: int, ways: Points, strong: float
) -> Decision:
    """Decide whether there is a point with the least of all values.

    Args:
        expression: a function with one value.
        form: what its form shows.
        points: critical points.
        globals_: how many of them are shown to be global minima.
        ways: directions along which it may fall for ever.
        strong: how strongly convex it is shown to be.
    """
    if globals_:
        return Decision(True, "a global minimum was found")
    if strong > 0:
        return Decision(True, "it is strongly convex")
    for way in ways:
        if falls_for_ever(expression, way.tolist()):
            words = ", ".join(f"{x:.6g}" for x in way)
            why = f"from every point it falls for ever along ({words}): its infimum is never reached"
            return Decision(False, why)
    if form.polynomial is not None and len(expression.variables) == 1:
        degree = form.degree or 0
        lead = form.polynomial.get((degree,), Fraction(0))
        if degree % 2 or lead < 0:
            return Decision(False, "it is unbounded below: its highest power decides far away")
        if degree:
            return Decision(True, "its highest power is even and grows: a minimum is somewhere")
    if form.degree is not None and form.degree <= 2 and form.polynomial is not None:
        hessian, _ = hessian_of(form.polynomial, len(expression.variables))
        if not is_semidefinite(hessian):
            return Decision(False, "it is unbounded below: its Hessian has an eigenvalue below 0 everywhere")
        if not points:
            return Decision(False, "it is unbounded below: its gradient is zero nowhere")
    return Decision(None, "neither was shown")


def ways_down(f: Expression, start: Sequence[float] | None) -> Points:
    """Return directions along which a function may fall for ever: the axes, and where descent drifts to."""
    n = len(f.variables)
    ways = [*np.eye(n), *-np.eye(n)]
    w = np.zeros(n) if start is None else np.asarray(start, np.float64)
    with np.errstate(all="ignore"):
        for size in (1.0, 10.0, 100.0):
            for _ in range(50):
                slope = f.slope(w)
                length = float(np.linalg.norm(slope))
                if not (length > 0 and math.isfinite(length)):
                    break
                w = w - size * slope / length
            span = float(np.abs(w).max())
            if span > 0 and math.isfinite(span):
                ways += [np.round(w / span, 6), np.round(w / span, 1)]
    return np.array([way for way in ways if np.abs(way).max() > 0])


def conditions_of(
    convex: Decision, smooth: Smoothness, rate: float | None, exists: Decision
) -> tuple[tuple[str, Decision], ...]:
    """Decide the conditions under which gradient descent with a fixed rate is shown to find a minimum."""
    constant = "" if smooth.value is None else f"L {'=' if smooth.exact else '≤'} {smooth.value:.6g}"
    if smooth.where == "everywhere":
        lipschitz = Decision(True, constant)
    elif smooth.refuted:
        lipschitz = Decision(False, smooth.refuted)
    else:
        lipschitz = Decision(None, "no bound of the Hessian was shown")
    if smooth.where == "in the box":
        lipschitz = replace(lipschitz, why=f"{lipschitz.why}; in the box {constant}")
    below = Decision(None, "no L is known for all points")
    if smooth.refuted:
        below = Decision(False, "no L holds for all points")
    elif rate is None:
        below = Decision(None, "no rate was given")
    elif smooth.where == "everywhere" and smooth.value is not None:
        limit = 2 / smooth.value if smooth.value else math.inf
        if rate < limit:
            below = Decision(True, f"η = {rate:.6g} < {limit:.6g}")
        elif smooth.exact:
            below = Decision(False, f"η = {rate:.6g} ≥ {limit:.6g}")
        else:
            below = Decision(None, f"η = {rate:.6g} ≥ {limit:.6g}, but L may be smaller")
    return (
        ("convex", convex),
        ("L-smooth", lipschitz),
        ("rate below 2/L", below),
        ("a minimiser exists", exists),
    )


def _called(here: Node, below: list[Node]) -> Node:
    assert isinstance(here, Call)
    return Call(-1, here.name, tuple(below))

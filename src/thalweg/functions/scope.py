"""Critical points beside all other values: is a minimum the global one?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from thalweg.functions.convexity import Decision, Form
from thalweg.functions.critical import Critical, Points, Search


@dataclass(frozen=True)
class Point(Critical):
    """A critical point with what is known of all other values.

    scope: "global" of a minimum or maximum where that is shown, else "local"; None of other points.
    is_global: True or False where it is shown, None where it is undecided.
    """

    scope: str | None = None
    is_global: bool | None = None
    scope_why: str = ""

    @property
    def condition_number(self) -> float | None:
        """Return λmax/λmin at a minimum or maximum; None where an eigenvalue is 0."""
        sizes = sorted(abs(x) for x in self.eigenvalues)
        sound = self.kind in ("minimum", "maximum") and sizes and sizes[0] > 1e-14 * sizes[-1]
        return sizes[-1] / sizes[0] if sound else None


def value_range(values: Points) -> tuple[float, float]:
    """Return the least and the greatest of the values that were seen."""
    seen = values[np.isfinite(values)]
    return (float(seen.min()), float(seen.max())) if len(seen) else (math.nan, math.nan)


def placed(
    point: Critical, found: Search, form: Form, convex: Decision, concave: bool, seen: tuple[float, float]
) -> Point:
    """Say whether a minimum or maximum is global; and of a degenerate point what the whole function shows."""
    turned = 1.0
    kind, why, value = point.kind, point.why, point.value
    # What rounding may do to a value, told from how far values reach.
    slack = 1e-14 * (seen[1] - seen[0] if math.isfinite(seen[1] - seen[0]) else 0.0) + 1e-15 * abs(value)
    at_bound = {"minimum": value <= form.value.low + slack, "maximum": value >= form.value.high - slack}
    if kind == "degenerate" or "sampling" in why:
        if convex.holds or at_bound["minimum"]:
            kind, why = "minimum", "no value is lower"
        elif concave or at_bound["maximum"]:
            kind, why = "maximum", "no value is higher"
    made = Point(point.at, value, kind, why, point.eigenvalues)
    if kind not in ("minimum", "maximum"):
        return made
    name, curved = ("convex", bool(convex.holds)) if kind == "minimum" else ("concave", concave)
    if kind == "maximum":
        turned = -1.0
    others = [turned * x.value for x in found.points] + [turned * seen[0 if kind == "minimum" else 1]]
    best = min((x for x in others if math.isfinite(x)), default=math.inf)
    if curved:
        decided, why = True, f"the function is {name}"
    elif at_bound[kind]:
        bound = form.value.low if kind == "minimum" else form.value.high
        decided, why = (
            True,
            f"its form shows that no value is {'below' if turned > 0 else 'above'} {bound:.6g}",
        )
    elif best < turned * value - max(slack, 1e-9 * max(abs(value), abs(best))):
        decided, why = False, f"{'lower' if turned > 0 else 'higher'} values were seen"
    elif found.complete and _grows(form, turned):
        decided, why = True, "it is the best of all critical points, and the function grows far away"
        if turned < 0:
            why = "it is the best of all critical points, and the function falls far away"
    else:
        return replace(made, scope="local", scope_why="whether it is global is undecided")
    return replace(made, scope="global" if decided else "local", is_global=decided, scope_why=why)


def _grows(form: Form, turned: float) -> bool:
    """Tell whether a polynomial of one variable, times `turned`, grows without bound on both sides."""
    degree = form.degree
    if form.polynomial is None or not degree or len(form.gradient) != 1:
        return False
    return degree % 2 == 0 and turned * form.polynomial[(degree,)] > 0


def chosen_minimum(points: Sequence[Point]) -> Point | None:
    """Return the lowest minimum where the function curves."""
    minima = [x for x in points if x.kind == "minimum" and x.eigenvalues and max(x.eigenvalues) > 0]
    return min(minima, key=lambda x: (x.is_global is not True, x.value), default=None)


def kind_at(end: Sequence[float], points: Sequence[Point]) -> str | None:
    """Return the kind of the critical point that an end of a run is at; None: of none that is known."""
    near = 1e-4 * (1 + max(abs(x) for x in end))
    for point in points:
        if all(abs(a - b) <= near for a, b in zip(point.at, end, strict=True)):
            return point.kind
    return None

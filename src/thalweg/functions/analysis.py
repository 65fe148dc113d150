"""Analysis of a function: derivatives, critical points, convexity, rates; each claim with its reason."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from thalweg.errors import InputError
from thalweg.functions.conditions import conditions_of, minimiser, ways_down
from thalweg.functions.convexity import (
    Decision,
    Form,
    Smoothness,
    Witness,
    convexity,
    form_of,
    parts_of,
    smoothness,
    strength,
)
from thalweg.functions.critical import Search, is_solvable, of_one_variable, quadratic
from thalweg.functions.expression import Expression, parse
from thalweg.functions.newton import filled, search
from thalweg.functions.nodes import Call, fold
from thalweg.functions.normal import Normal
from thalweg.functions.prediction import Arrival, Ball, Rates, arrival, noise_balls, rates_near
from thalweg.functions.scope import Point, chosen_minimum, kind_at, placed, value_range

WITHIN: Final = (-10.0, 10.0)  # the box in which is searched, along each variable
KINKED: Final = ("abs", "max", "min", "sign")


@dataclass(frozen=True)
class Analysis:
    """What is known about a function; see `analyse`."""

    expression: Expression
    gradient: tuple[str, ...]
    hessian: tuple[tuple[str, ...], ...]
    jacobian: tuple[tuple[str, ...], ...] | None
    jacobian_at_start: tuple[tuple[float, ...], ...] | None = None
    within: tuple[float, float] = WITHIN
    search: Search | None = None
    points: tuple[Point, ...] = ()
    convex: Decision | None = None
    witness: Witness | None = None
    smoothness: Smoothness | None = None
    strength: float = 0.0
    kinks: bool = False
    rates: Rates | None = None
    rate: float | None = None
    conditions: tuple[tuple[str, Decision], ...] = ()
    arrival: Arrival | None = None
    arrived: str | None = None  # the kind of the critical point that a run from `start` came to
    noise: float | None = None
    balls: tuple[Ball, ...] = ()

    def __str__(self) -> str:
        from thalweg.functions.analysis_text import sentences  # which knows this class

        return "\n".join(sentences(self))


def analyse(
    expression: str | Expression,
    start: Sequence[float] | None = None,
    noise: float | None = None,
    lr: float | None = None,
    within: tuple[float, float] = WITHIN,
    seed: int = 0,
) -> Analysis:
    """Analyse a function of a few variables; of several values, its Jacobian alone.

    Args:
        expression: such as ``w1^2 + 25*w2^2``.
        start: a point to search from too, and to run gradient descent from.
        noise: variance of each coordinate of the gradient, at least 0: predict and measure the noise ball.
        lr: the rate of that run, of the noise ball and of the conditions; else the best fixed one.
        within: ends of the box that is searched, the same along each variable.
        seed: root of the random numbers of the noise.

    Raises:
        InputError: the expression cannot be read or is too large, or an argument is out of its range.

    >>> found = analyse("w1^2 + 25*w2^2")
    >>> found.points[0].kind, found.points[0].condition_number, found.rates.largest_stable["sgd"]
    ('minimum', 25.0, 0.04)
    """
    f = parse(expression) if isinstance(expression, str) else expression
    _check(f, start, noise, lr, within)
    normal = Normal()
    if not f.is_scalar:
        return _of_several_values(f, start, normal, within)
    parts = parts_of(f)
    form, box = form_of(f, normal), [within] * len(f.variables)
    found = _searched(f, form, box, start, parts)
    places = np.vstack([filled(box, 512), *[np.array([point.at]) for point in found.points]])
    convex, witness = convexity(f, form, places)
    concave = _is_concave(f, form)
    smooth = smoothness(f, form, form_of(f, within=dict.fromkeys(f.variables, within)), places)
    strong = strength(f, form)
    values = f(places)
    points = tuple(placed(point, found, form, convex, concave, value_range(values)) for point in found.points)
    chosen = chosen_minimum(points)
    rates = None if chosen is None else rates_near(f, chosen, form.degree is not None and form.degree <= 2)
    rate = lr or (rates and rates.best) or (rates and rates.safe) or _safe(smooth)
    ways = ways_down(f, start)
    exists = minimiser(
        f, form, points, sum(x.kind == "minimum" and x.is_global is True for x in points), ways, strong
    )
    if exists.holds is False:
        points = tuple(
            replace(x, scope="local", is_global=False, scope_why=exists.why) if x.kind == "minimum" else x
            for x in points
        )
    run = arrival(f, start, rate) if start is not None and rate is not None else None
    balls: tuple[Ball, ...] = ()
    if (
        noise is not None
        and chosen is not None
        and rate is not None
        and min(chosen.eigenvalues, default=0) > 0
    ):
        balls = noise_balls(f, chosen.at, np.asarray(f.curvature(chosen.at)), rate, noise, seed)
    return Analysis(
        f,
        tuple(normal.text(x) for x in f.gradient()),
        tuple(tuple(normal.text(x) for x in row) for row in f.hessian()),
        None,
        within=within,
        search=found,
        points=points,
        convex=convex,
        witness=witness,
        smoothness=smooth,
        strength=strong,
        kinks=_has_kinks(f),
        rates=rates,
        rate=rate,
        conditions=conditions_of(convex, smooth, rate, exists),
        arrival=run,
        arrived=None if run is None or run.outcome != "at rest" else kind_at(run.end, points),
        noise=noise,
        balls=balls,
    )


def _check(
    f: Expression,
    start: Sequence[float] | None,
    noise: float | None,
    lr: float | None,
    within: tuple[float, float],
) -> None:
    if start is not None:
        if len(start) != len(f.variables):
            must = f"have {len(f.variables)} coordinates, {', '.join(f.variables)}"
            raise InputError("the start", must, f"{len(start)}")
        if not all(math.isfinite(x) for x in start):
            raise InputError("the start", "be finite numbers", list(start))
    if noise is not None and not (noise >= 0 and math.isfinite(noise)):
        raise InputError("the variance of the noise", "be a number of at least 0", noise)
    if lr is not None and not (lr > 0 and math.isfinite(lr)):
        raise InputError("the rate", "be a number above 0", lr)
    low, high = within
    if not (low < high and math.isfinite(low) and math.isfinite(high)):
        raise InputError("the box", "have a lower and a higher end, both finite", f"{low:g} and {high:g}")


def _of_several_values(
    f: Expression, start: Sequence[float] | None, normal: Normal, within: tuple[float, float]
) -> Analysis:
    columns = f.gradient()
    rows = tuple(
        tuple(normal.text(Expression((column.parts[i],), f.variables)) for column in columns)
        for i in range(len(f.parts))
    )
    at = None if start is None else tuple(tuple(float(x) for x in row) for row in f.slope(start))
    return Analysis(f, (), (), rows, at, within)


def _searched(
    f: Expression, form: Form, box: list[tuple[float, float]], start: Sequence[float] | None, parts: int
) -> Search:
    if form.polynomial is not None and form.degree is not None and form.degree <= 2:
        return quadratic(f, form.polynomial)
    if form.polynomial is not None and is_solvable(form.polynomial, len(f.variables)):
        return of_one_variable(f, form.polynomial)
    if form.value.smooth:
        for name, slope in zip(f.variables, form.gradient, strict=True):
            if slope.positive or slope.negative:
                sign = "above" if slope.positive else "below"
                return Search((), True, f"The derivative with respect to {name} is {sign} 0 everywhere.")
    return search(f, box, () if start is None else [start], parts, form.value.smooth)


def _is_concave(f: Expression, form: Form) -> bool:
    if form.value.concave or (form.value.smooth and form.curvature[1] <= 0):
        return True
    turned = parse(f"-({f})", f.variables)
    if form.degree is None or form.degree > 2:
        return False
    return bool(convexity(turned, form_of(turned, Normal()), np.zeros((1, len(f.variables))))[0].holds)


def _safe(smooth: Smoothness) -> float | None:
    return 1 / smooth.value if smooth.value else None


def _has_kinks(f: Expression) -> bool:
    names: set[str] = set()
    fold(f.parts[0], lambda here, below: names.add(here.name) if isinstance(here, Call) else None)
    return bool(names & set(KINKED))

"""Steepest descent with a line search."""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import numpy as np

from thalweg.hyper import Interval, Real
from thalweg.solvers.base import Iterate, Method, Objective, Solver, Vector
from thalweg.solvers.line_search import CURVATURE, DECREASE, Landing, armijo, strong_wolfe

IDLE = 10  # steps
STUCK = "no point along the direction is lower, but for rounding"
BACKTRACKING = {"decrease": Real(DECREASE, "c₁ of Armijo's condition", Interval(0, 1, closed="neither"))}
WOLFE = BACKTRACKING | {
    "curvature": Real(CURVATURE, "c₂ of Wolfe's condition, above c₁", Interval(0, 1, closed="neither"))
}


def until_rounding(method: Method) -> Method:
    """Return a method that ends where ten steps bring neither a lower value nor a smaller gradient.

    A search that lets slopes decide where values differ by rounding alone would else go on for ever.
    """

    @wraps(method)
    def run(*arguments: Any, **options: Any) -> Iterator[Iterate]:
        lowest = smallest = np.inf
        idle = 0
        for found in method(*arguments, **options):
            norm = float(np.abs(found.slope).max())
            idle = 0 if found.value < lowest or norm < smallest else idle + 1
            lowest, smallest = min(lowest, found.value), min(smallest, norm)
            yield found
            if idle >= IDLE:
                yield found._replace(note=STUCK)
                return

    return run


def first_length(direction: Vector) -> float:
    """Return a first α for a direction whose length says nothing: the step is no longer than 1."""
    return min(1.0, 1.0 / float(np.linalg.norm(direction)))


def landed(objective: Objective, landing: Landing) -> Iterate:
    """Return the iterate at the end of a line search."""
    slope = objective.gradient(landing.x) if landing.slope is None else landing.slope
    return Iterate(landing.x, landing.value, slope)


@until_rounding
def _descend(
    objective: Objective, x: Vector, search: Callable[..., Landing | None], settings: dict[str, Any]
) -> Iterator[Iterate]:
    here = Iterate(x, objective.value(x), objective.gradient(x))
    length: float | None = None
    while True:
        yield here
        direction, slope = -here.slope, -float(here.slope @ here.slope)
        # The first trial of a step promises the decrease of the last one: Nocedal and Wright, (3.60).
        first = first_length(direction) if length is None else length
        landing = search(objective, here.x, direction, here.value, slope, first=first, **settings)
        if landing is None:
            yield here._replace(note=STUCK)
            return
        there = landed(objective, landing)
        length = landing.length * slope / -float(there.slope @ there.slope) if there.slope.any() else 1.0
        length = min(max(length, 0.1 * landing.length), 10 * landing.length)
        here = there


def steepest_armijo(objective: Objective, x: Vector, *, decrease: float) -> Iterator[Iterate]:
    """Yield the iterates of steepest descent with backtracking."""
    return _descend(objective, x, armijo, {"decrease": decrease})


def steepest_wolfe(
    objective: Objective, x: Vector, *, decrease: float, curvature: float
) -> Iterator[Iterate]:
    """Yield the iterates of steepest descent under the strong Wolfe conditions."""
    return _descend(objective, x, strong_wolfe, {"decrease": decrease, "curvature": curvature})


DESCENT = (
    Solver(
        "steepest-armijo",
        "Steepest descent, Armijo",
        steepest_armijo,
        "x ← x − α∇f(x), α by backtracking: f(x − α∇f) ≤ f(x) − c₁α‖∇f‖²",
        "Cauchy 1847; Armijo 1966; Nocedal and Wright, Numerical Optimization, algorithm 3.1",
        "To see what a line search does; slow where the condition number is large.",
        BACKTRACKING,
    ),
    Solver(
        "steepest-wolfe",
        "Steepest descent, strong Wolfe",
        steepest_wolfe,
        "x ← x − α∇f(x), α with f(x − α∇f) ≤ f(x) − c₁α‖∇f‖² and |φ′(α)| ≤ c₂|φ′(0)|",
        "Wolfe 1969; Nocedal and Wright, Numerical Optimization, algorithms 3.5 and 3.6",
        "As steepest-armijo, with steps that are never too short.",
        WOLFE,
    ),
)

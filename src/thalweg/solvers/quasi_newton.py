"""BFGS and L-BFGS: the curvature learnt from how the gradient changes."""

from collections import deque
from collections.abc import Iterator

import numpy as np

from thalweg.hyper import Integer, Interval
from thalweg.solvers.base import Iterate, Objective, Solver, Vector
from thalweg.solvers.descent import STUCK, WOLFE, first_length, landed, until_rounding
from thalweg.solvers.line_search import Landing, strong_wolfe

ROUNDING = float(np.finfo(np.float64).eps)


class _Dense:
    """The inverse Hessian as a matrix, (n, n)."""

    def __init__(self) -> None:
        self.inverse: Vector | None = None

    def __call__(self, gradient: Vector) -> Vector:
        return -gradient if self.inverse is None else -(self.inverse @ gradient)

    def learn(self, s: Vector, y: Vector) -> None:
        ys = float(y @ s)
        if self.inverse is None:
            self.inverse = np.eye(len(s)) * (ys / float(y @ y))  # (6.20)
        hy = self.inverse @ y
        self.inverse = (
            self.inverse
            - (np.outer(s, hy) + np.outer(hy, s)) / ys
            + np.outer(s, s) * ((ys + float(y @ hy)) / ys**2)
        )

    def forget(self) -> None:
        self.inverse = None

    @property
    def empty(self) -> bool:
        return self.inverse is None


class _Pairs:
    """The inverse Hessian as the last pairs of steps and changes of the gradient: two loops, O(mn)."""

    def __init__(self, memory: int) -> None:
        self.pairs: deque[tuple[Vector, Vector, float]] = deque(maxlen=memory)

    def __call__(self, gradient: Vector) -> Vector:
        q = -gradient
        weights = []
        for s, y, ys in reversed(self.pairs):
            weights.append(float(s @ q) / ys)
            q = q - weights[-1] * y
        if self.pairs:
            _, y, ys = self.pairs[-1]
            q = q * (ys / float(y @ y))
        for (s, y, ys), weight in zip(self.pairs, reversed(weights), strict=True):
            q = q + s * (weight - float(y @ q) / ys)
        return q

    def learn(self, s: Vector, y: Vector) -> None:
        self.pairs.append((s, y, float(y @ s)))

    def forget(self) -> None:
        self.pairs.clear()

    @property
    def empty(self) -> bool:
        return not self.pairs


@until_rounding
def _quasi_newton(
    objective: Objective, x: Vector, model: _Dense | _Pairs, decrease: float, curvature: float
) -> Iterator[Iterate]:
    here = Iterate(x, objective.value(x), objective.gradient(x))
    while True:
        yield here
        landing = _searched(objective, here, model, decrease, curvature)
        if landing is None and not model.empty:
            model.forget()  # once more along the gradient
            landing = _searched(objective, here, model, decrease, curvature)
        if landing is None:
            yield here._replace(note=STUCK)
            return
        there = landed(objective, landing)
        s, y = there.x - here.x, there.slope - here.slope
        if float(y @ s) > ROUNDING * float(y @ y):
            model.learn(s, y)
        here = there


def _searched(
    objective: Objective, here: Iterate, model: _Dense | _Pairs, decrease: float, curvature: float
) -> Landing | None:
    direction = model(here.slope)
    slope = float(here.slope @ direction)
    if not slope < 0:  # rounding has spoilt the model
        model.forget()
        direction, slope = -here.slope, -float(here.slope @ here.slope)
    first = first_length(direction) if model.empty else 1.0
    return strong_wolfe(
        objective, here.x, direction, here.value, slope, first=first, decrease=decrease, curvature=curvature
    )


def bfgs(objective: Objective, x: Vector, *, decrease: float, curvature: float) -> Iterator[Iterate]:
    """Yield the iterates of BFGS."""
    return _quasi_newton(objective, x, _Dense(), decrease, curvature)


def lbfgs(
    objective: Objective, x: Vector, *, memory: int, decrease: float, curvature: float
) -> Iterator[Iterate]:
    """Yield the iterates of L-BFGS."""
    return _quasi_newton(objective, x, _Pairs(memory), decrease, curvature)


QUASI_NEWTON = (
    Solver(
        "bfgs",
        "BFGS",
        bfgs,
        "x ← x − αH∇f(x); H ← (I − syᵀ/yᵀs)H(I − ysᵀ/yᵀs) + ssᵀ/yᵀs, s = Δx, y = Δ∇f; α strong Wolfe",
        "Broyden, Fletcher, Goldfarb, Shanno 1970; Nocedal and Wright, algorithm 6.1, H₀ = (yᵀs/yᵀy)I",
        "Smooth functions of up to a thousand coordinates.",
        WOLFE,
    ),
    Solver(
        "lbfgs",
        "L-BFGS",
        lbfgs,
        "as BFGS, H from the last m pairs (s, y) by two loops, H₀ = (yᵀs/yᵀy)I; α strong Wolfe",
        "Nocedal 1980; Liu and Nocedal 1989; Nocedal and Wright, algorithms 7.4 and 7.5",
        "The first choice for a smooth function, however many coordinates.",
        {"memory": Integer(10, "m, how many pairs are kept", Interval(1)), **WOLFE},
    ),
)

"""A smooth function plus a penalty, F = f + g: the proximal gradient method (ISTA), and accelerated (FISTA).

Both step from a point y to prox(y − η∇f(y), η), the proximal operator of g. With η = 1/L, L the Lipschitz
constant of ∇f, f and g convex, x* a minimiser and x₀ the start, after k steps

    ISTA:  F(x_k) − F* ≤ L‖x₀ − x*‖²/(2k), and F never rises
    FISTA: F(x_k) − F* ≤ 2L‖x₀ − x*‖²/(k + 1)², and F may rise on the way

A step that is found by backtracking is at least 1/(2L), so that both bounds hold with 2L in the place of L.
A start that g does not allow is replaced by its proximal point.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from thalweg.hyper import ABOVE_0, Choice, Real
from thalweg.solvers.base import Iterate, Need, Objective, Solver, Vector
from thalweg.solvers.proximal import NoPenalty, Penalty

HALVINGS = 100  # from any start to below what a step of rounding could need
STUCK = "a step moves it by less than rounding"
ROUNDING = 16 * float(np.finfo(np.float64).eps)  # relative error of a value, a sum of many terms


class _Step(NamedTuple):
    """Where a proximal gradient step from y led: x = prox(y − η∇f(y), η)."""

    x: Vector
    value: float  # f(x)
    size: float  # η
    mapping: Vector  # (y − x)/η
    note: str = ""  # why it is none, for any η


def ista(
    objective: Objective, x: Vector, *, penalty: Penalty | None = None, step: float | None = None
) -> Iterator[Iterate]:
    """Yield the iterates of the proximal gradient method; without a penalty, of gradient descent.

    Each slope is the gradient mapping at its own point: the step that it begins is taken before it is told.

    Args:
        objective: f, smooth.
        x: the start, (n,).
        penalty: g, a record of `thalweg.solvers.proximal`.
        step: η, above 0; None: found by backtracking.

    On ½(x − 3)² + |x| with η = ½ the distance to the minimum, 2, halves at each step:

    >>> from thalweg.solvers.proximal import L1
    >>> class Square:
    ...     size = 1
    ...     def value(self, x): return 0.5 * float((x[0] - 3) ** 2)
    ...     def gradient(self, x): return x - 3
    >>> iterates = ista(Square(), np.array([0.0]), penalty=L1(1.0), step=0.5)
    >>> [float(next(iterates).x[0]) for _ in range(4)]
    [0.0, 1.0, 1.5, 1.75]

    Source: `ISTA`.
    """
    penalty = penalty or NoPenalty()
    x = _allowed(penalty, x)
    size, value = step or _first(objective, x), objective.value(x)
    while True:
        done = _step(objective, penalty, x, size, value if step is None else None)
        note = done.note or (STUCK if np.array_equal(done.x, x) else "")
        yield Iterate(x, value + penalty.value(x), done.mapping, note)
        if note:
            return
        x, value, size = done.x, done.value, done.size


def fista(
    objective: Objective,
    x: Vector,
    *,
    penalty: Penalty | None = None,
    step: float | None = None,
    restart: str | None = "gradient",
) -> Iterator[Iterate]:
    """Yield the iterates of FISTA: proximal gradient steps from points y ahead of x.

    y_k = x_k + ((t_{k−1} − 1)/t_k)(x_k − x_{k−1}), t_k = (1 + √(1 + 4t²_{k−1}))/2. The slope of an iterate is
    the gradient mapping at the y that it was stepped to from: for convex f no shorter than its own, and
    nothing more to compute.

    Args:
        objective: f, smooth.
        x: the start, (n,).
        penalty: g, a record of `thalweg.solvers.proximal`.
        step: η, above 0; None: found by backtracking, in steps that only shrink, as the bound needs.
        restart: when to forget what was gathered, t ← 1 and y ← x: "gradient", where the last move points
            against the step, ⟨y − x_{k+1}, x_{k+1} − x_k⟩ > 0; "value", where F rose; None: never, which is
            the method of the bound above.

    On ½(x − 3)² + |x| with η = ½ and t = 1, 1.618, 2.194, y₂ is 1.5 + 0.2817·0.5:

    >>> from thalweg.solvers.proximal import L1
    >>> class Square:
    ...     size = 1
    ...     def value(self, x): return 0.5 * float((x[0] - 3) ** 2)
    ...     def gradient(self, x): return x - 3
    >>> iterates = fista(Square(), np.array([0.0]), penalty=L1(1.0), step=0.5)
    >>> [round(float(next(iterates).x[0]), 4) for _ in range(4)]
    [0.0, 1.0, 1.5, 1.8204]

    Source: `FISTA`.
    """
    penalty = penalty or NoPenalty()
    x = _allowed(penalty, x)
    size, value = step or _first(objective, x), objective.value(x) + penalty.value(x)
    y, momentum, first = x, 1.0, True
    while True:
        done = _step(objective, penalty, y, size, objective.value(y) if step is None else None)
        if first:
            yield Iterate(x, value, done.mapping)
            first = False
        if done.note or (np.array_equal(done.x, x) and np.array_equal(y, x)):
            yield Iterate(x, value, done.mapping, done.note or STUCK)
            return
        reached = done.value + penalty.value(done.x)
        yield Iterate(done.x, reached, done.mapping)
        move = done.x - x
        against = (restart == "gradient" and (y - done.x) @ move > 0) or (
            restart == "value" and reached > value
        )
        grown = 1.0 if against else (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        y = done.x if against else done.x + ((momentum - 1) / grown) * move
        x, value, size, momentum = done.x, reached, done.size, grown


def _allowed(penalty: Penalty, x: Vector) -> Vector:
    return x if math.isfinite(penalty.value(x)) else penalty.prox(x, 1.0)


def _first(objective: Objective, x: Vector) -> float:
    """Return a step to backtrack from: 1/c with c the curvature along the gradient, which is at most L."""
    slope = objective.gradient(x)
    length = float(np.linalg.norm(slope))
    if not 0 < length < math.inf:
        return 1.0
    probe = 1e-6 * max(1.0, float(np.linalg.norm(x)))
    change = objective.gradient(x - (probe / length) * slope) - slope
    curvature = float(np.linalg.norm(change)) / probe
    return 1 / curvature if 0 < curvature < math.inf else 1.0


def _step(objective: Objective, penalty: Penalty, y: Vector, size: float, here: float | None) -> _Step:
    """Return the step from y, or words why there is none.

    Where `here`, f(y), is given, backtracking halves η until f(x) ≤ f(y) + ⟨∇f(y), x − y⟩ + ‖x − y‖²/(2η), to
    the rounding of f.
    """
    slope = objective.gradient(y)
    longest = size
    for _ in range(HALVINGS):
        x = penalty.prox(y - size * slope, size)
        move = x - y
        if not move.any():
            break
        value = objective.value(x)
        if here is None:
            return _Step(x, value, size, -move / size)
        if value <= here + slope @ move + move @ move / (2 * size) + ROUNDING * abs(here):
            return _Step(x, value, size, -move / size)
        size /= 2
    # That y does not move may be for rounding alone: whether it is a solution is told by a step of 1.
    wrong = "no step along the gradient is short enough: f is not smooth there, or the gradient is not f's"
    mapping = y - penalty.prox(y - slope, 1.0)
    return _Step(y, objective.value(y), size, mapping, wrong if size < longest else "")


_STEP = Real(None, "step η, at most 1/L; None: found by backtracking", ABOVE_0, optional=True)

ISTA = Solver(
    name="ista",
    title="ISTA (proximal gradient)",
    run=ista,
    formula="x ← prox(x − η∇f(x), η), prox(z, η) = argmin_u ½‖u − z‖² + η·penalty(u)",
    source=(
        "Daubechies, Defrise and De Mol 2004; Beck and Teboulle 2009. Backtracking begins at the inverse of "
        "the curvature along the first gradient."
    ),
    use="A smooth function plus a penalty; F falls at every step, as 1/k.",
    options={"step": _STEP},
    needs=frozenset({Need.PENALTY}),
)

FISTA = Solver(
    name="fista",
    title="FISTA (accelerated proximal gradient)",
    run=fista,
    formula="""
x_{k+1} = prox(y_k − η∇f(y_k), η)
t_{k+1} = (1 + √(1 + 4t_k²))/2
y_{k+1} = x_{k+1} + ((t_k − 1)/t_{k+1})(x_{k+1} − x_k)""",
    source=(
        "Beck and Teboulle 2009, without their monotone variant: F may rise. Restarts: O'Donoghue and Candès "
        "2015, on by default here, because without them F swings around a minimum that is strongly convex."
    ),
    use="A smooth function plus a penalty; as 1/k², and faster with restarts near the minimum.",
    options={
        "step": _STEP,
        "restart": Choice("gradient", "when to forget the momentum", ("gradient", "value"), optional=True),
    },
    needs=frozenset({Need.PENALTY}),
)

COMPOSITE = (ISTA, FISTA)

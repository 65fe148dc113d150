"""What gradient descent does near a minimum: predicted from eigenvalues, then counted by running it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from thalweg import reference
from thalweg.functions.critical import Critical, Points
from thalweg.functions.expression import Expression
from thalweg.functions.stability import (
    OPTIMIZERS,
    SHRINK,
    Momentum,
    best_fixed_rate,
    best_momentum,
    contraction,
    largest_stable_rate,
    noise_ball,
    steps_to_shrink,
)

MAX_STEPS: Final = 10_000  # that are run
SEEDS: Final = 2_000  # trainings with noise, side by side
_SETTLED: Final = 1e3  # what is left of the beginning when noise is measured: a thousandth
_MAX_NOISY: Final = 4_000


@dataclass(frozen=True)
class Steps:
    """Steps that shrink loss above its minimum, and distance to it, by 10⁶; None: too many, or never."""

    loss: int | None
    distance: int | None


@dataclass(frozen=True)
class Ball:
    """Where noisy gradients end along one eigenvector: the mean of its squared distance to the minimum.

    low, high: around what was measured, with 95 % confidence; all three None where it was not measured.
    """

    eigenvalue: float
    predicted: float | None
    measured: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Arrival:
    """Where gradient descent from a start came to rest."""

    start: tuple[float, ...]
    rate: float
    end: tuple[float, ...]
    steps: int
    outcome: str  # "at rest", "moving" after the most steps that are run, or "diverged"


@dataclass(frozen=True)
class Rates:
    """What rates do near a minimum.

    largest_stable: of each optimizer; of those that divide the gradient (`stability.DIVIDING`) in units of
    what they divide by. The other fields are None where the smallest eigenvalue is 0, or there was no run.
    """

    at: tuple[float, ...]
    largest_stable: dict[str, float]
    safe: float  # 1/λmax
    best: float | None = None
    contraction: float | None = None
    predicted: Steps | None = None
    counted: Steps | None = None
    predicted_at_safe: Steps | None = None
    momentum: Momentum | None = None
    predicted_with_momentum: Steps | None = None
    counted_with_momentum: Steps | None = None


def predicted(smallest: float, largest: float, rate: float | None = None) -> Steps:
    """Predict the steps of gradient descent at a rate, the best fixed one by default.

    >>> predicted(1.0, 100.0), predicted(1.0, 100.0, rate=0.01)
    (Steps(loss=346, distance=691), Steps(loss=688, distance=1375))
    """
    factor = contraction(smallest, largest, rate)
    return Steps(steps_to_shrink(factor**2), steps_to_shrink(factor))


def worst_start(at: Sequence[float], hessian: Points, reach: float) -> Points:
    """Return a point whose distance to a minimum has equal parts of the least and the most curved direction.

    Nowhere does gradient descent at its best fixed rate take more steps.
    """
    values, vectors = np.linalg.eigh(hessian)
    steep = np.flatnonzero(values > 1e-12 * values[-1])[0]  # along the others nothing moves
    scale = reach * max(1.0, float(np.abs(at).max()))
    start: Points = np.asarray(at) + scale * (vectors[:, steep] + vectors[:, -1])
    return start


def count(
    expression: Expression,
    optimizer: Any,
    minimum: Sequence[float],
    start: Points,
    hessian: Points | None = None,
    most: int = MAX_STEPS,
) -> Steps:
    """Run an optimizer of `thalweg.reference` and count the steps to a millionth of loss and distance.

    Args:
        expression: a function with one value.
        optimizer: such as ``thalweg.reference.SGD(lr=0.1)``, new.
        minimum: the point that is approached.
        start: where it begins.
        hessian: of a quadratic, whose loss above the minimum then has no rounding of the minimum in it.
        most: steps that are run.

    >>> from thalweg.functions.expression import parse
    >>> f = parse("0.5*x^2 + 50*y^2")
    >>> count(f, reference.SGD(lr=2 / 101), [0.0, 0.0], np.array([1.0, 1.0]))
    Steps(loss=346, distance=691)
    """
    at = np.asarray(minimum, np.float64)
    least = float(np.asarray(expression(at)))

    def gap(w: Points) -> float:
        return (
            float(np.asarray(expression(w))) - least
            if hessian is None
            else float((w - at) @ hessian @ (w - at)) / 2
        )

    goals = {
        "loss": (gap, gap(start) / SHRINK),
        "distance": (lambda w: float(np.linalg.norm(w - at)), float(np.linalg.norm(start - at)) / SHRINK),
    }
    reached = _reached(expression, optimizer, start, goals, most)
    return Steps(reached.get("loss"), reached.get("distance"))


def _reached(
    expression: Expression,
    optimizer: Any,
    w: Points,
    goals: Mapping[str, tuple[Callable[[Points], float], float]],
    most: int,
) -> dict[str, int]:
    found: dict[str, int] = {}
    for step in range(1, most + 1):
        w = optimizer.step(w, expression.slope(w))
        if not np.isfinite(w).all():
            break
        for name, (measure, goal) in goals.items():
            # What equals the goal but for rounding has reached it.
            if name not in found and measure(w) <= goal * (1 + 1e-9):
                found[name] = step
        if len(found) == len(goals):
            break
    return found


def rates_near(f: Expression, minimum: Critical, is_quadratic: bool) -> Rates:
    """Return what rates do near a minimum, predicted from its eigenvalues and counted by running them."""
    largest = minimum.eigenvalues[-1]
    stable = {name: largest_stable_rate(name, largest) for name in OPTIMIZERS}
    rates = Rates(minimum.at, stable, 1 / largest)
    above = [x for x in minimum.eigenvalues if x > 1e-12 * largest]
    if len(above) < len(minimum.eigenvalues) and not is_quadratic:
        return rates  # along the others the function does not shrink by a factor
    smallest = above[0]
    rate, moving = best_fixed_rate(smallest, largest), best_momentum(smallest, largest)
    hessian = np.asarray(f.curvature(minimum.at))
    start = worst_start(minimum.at, hessian, 1.0 if is_quadratic else 1e-3)
    exact = hessian if is_quadratic else None
    foreseen, slow = predicted(smallest, largest), moving.contraction
    moving_steps = Steps(steps_to_shrink(slow**2), steps_to_shrink(slow))
    with np.errstate(all="ignore"):
        run = count(f, reference.SGD(lr=rate), minimum.at, start, exact, _enough(foreseen))
        heavy = reference.SGD(lr=moving.rate, momentum=moving.momentum)
        with_momentum = count(f, heavy, minimum.at, start, exact, _enough(moving_steps))
    return replace(
        rates,
        best=rate,
        contraction=contraction(smallest, largest),
        predicted=foreseen,
        counted=run,
        predicted_at_safe=predicted(smallest, largest, 1 / largest),
        momentum=moving,
        predicted_with_momentum=moving_steps,
        counted_with_momentum=with_momentum,
    )


def _enough(foreseen: Steps) -> int:
    """Return how many steps to run: none where too many are foreseen, and an end where a prediction fails."""
    if foreseen.loss is None or foreseen.distance is None or foreseen.loss > MAX_STEPS:
        return 0
    return min(2 * foreseen.distance + 100, MAX_STEPS)


def arrival(expression: Expression, start: Sequence[float], rate: float) -> Arrival:
    """Run gradient descent until the gradient is a thousand-millionth of the first, or the steps are used up.

    >>> from thalweg.functions.expression import parse
    >>> arrival(parse("w^4 - 3*w^2 + 2"), [2.0], 0.1).end  # 0 is a maximum
    (0.0,)
    """
    w = np.asarray(start, np.float64)
    optimizer = reference.SGD(lr=rate)
    begin = tuple(float(x) for x in w)
    slope = expression.slope(w)
    goal = 1e-9 * float(np.linalg.norm(slope))
    outcome, steps, last = "moving", 0, w
    while steps < MAX_STEPS:
        if not np.isfinite(slope).all():
            outcome = "diverged"
            break
        if float(np.linalg.norm(slope)) <= goal:
            outcome = "at rest"
            break
        last = w
        w = optimizer.step(w, slope)
        steps += 1
        slope = expression.slope(w)
    end = w if np.isfinite(w).all() else last
    return Arrival(begin, rate, tuple(float(x) + 0.0 for x in end), steps, outcome)


def noise_balls(
    expression: Expression, at: Sequence[float], hessian: Points, rate: float, variance: float, seed: int = 0
) -> tuple[Ball, ...]:
    """Predict where noisy descent ends, E w² = ηs/(a(2 − ηa)) along each eigenvector, and measure it.

    Two thousand trainings start at the minimum; they run until a thousandth is left of that, and as long
    again. The mean is over these steps and trainings, and its interval is from the spread of the trainings.

    Args:
        expression: a function with one value.
        at: its minimum.
        hessian: the Hessian there, positive definite.
        rate: the fixed rate η.
        variance: s, of each coordinate of the gradient.
        seed: root of all random numbers.
    """
    values, vectors = np.linalg.eigh(hessian)
    expected = [noise_ball(rate, float(value), variance) for value in values]
    squares = _squares(expression, np.asarray(at, np.float64), vectors, values, rate, variance, seed)
    if squares is None:
        return tuple(Ball(float(a), e, None, None, None) for a, e in zip(values, expected, strict=True))
    means = squares.mean(axis=0)
    margins = 1.96 * squares.std(axis=0, ddof=1) / math.sqrt(SEEDS)
    return tuple(
        Ball(float(a), e, float(m), float(m - d), float(m + d))
        for a, e, m, d in zip(values, expected, means, margins, strict=True)
    )


def _squares(
    expression: Expression,
    at: Points,
    vectors: Points,
    values: Points,
    rate: float,
    variance: float,
    seed: int,
) -> Points | None:
    """Return the mean squared distance along each eigenvector, a row a training; None: not to be measured."""
    factor = contraction(float(values[0]), float(values[-1]), rate)
    settled = steps_to_shrink(factor**2, _SETTLED)
    if settled is None or settled > _MAX_NOISY:
        return None
    steps = max(settled, 50)
    noise = np.random.default_rng(seed)
    optimizer = reference.SGD(lr=rate)
    w = np.broadcast_to(at, (SEEDS, len(at))).copy()
    total = np.zeros_like(w)
    with np.errstate(all="ignore"):
        for step in range(2 * steps):
            slope = expression.slope(w) + math.sqrt(variance) * noise.standard_normal(w.shape)
            if not np.isfinite(slope).all():
                return None
            w = optimizer.step(w, slope)
            if step >= steps:
                total += ((w - at) @ vectors) ** 2
    return total / steps

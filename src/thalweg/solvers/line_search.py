"""Line searches: how far to go along a direction of descent.

With φ(α) = f(x + αd): Armijo's condition asks for enough decrease, φ(α) ≤ φ(0) + c₁αφ′(0); Wolfe's strong
conditions also for a flatter slope, |φ′(α)| ≤ c₂|φ′(0)|.
"""

from typing import NamedTuple

import numpy as np

from thalweg.solvers.base import Objective, Vector

DECREASE = 1e-4  # c₁
CURVATURE = 0.9  # c₂
TRIES = 60
ROUNDING = float(np.finfo(np.float64).eps)
FLAT = 4 * ROUNDING  # differences of values below this share of them are rounding


class Landing(NamedTuple):
    """Where a line search ended."""

    length: float  # α
    x: Vector
    value: float
    slope: Vector | None  # the gradient there, where the search computed it


class _Trial(NamedTuple):
    length: float
    value: float
    slope: float = np.nan  # φ′, where it was computed; the lower end of an interval always has one


def armijo(
    objective: Objective,
    x: Vector,
    direction: Vector,
    value: float,
    slope: float,
    *,
    first: float = 1.0,
    decrease: float = DECREASE,
) -> Landing | None:
    """Return a point with enough decrease, by backtracking; None where rounding ends the search.

    The next length is the minimum of the parabola through φ(0), φ′(0) and φ(α), kept within a tenth and a
    half of α; α/10 where the value is not finite.

    Args:
        objective: f; only its values are computed.
        x, direction: the start and d, (n,).
        value, slope: φ(0) and φ′(0) < 0.
        first: the first α.
        decrease: c₁, in (0, 1).

    Source: Armijo 1966; Nocedal and Wright, Numerical Optimization, 2nd edition, algorithm 3.1.
    """
    length = first
    for _ in range(TRIES):
        point = x + length * direction
        if np.array_equal(point, x):
            return None
        found = objective.value(point)
        if np.isfinite(found) and found <= value + decrease * length * slope:
            return Landing(length, point, found, None)
        if np.isfinite(found):
            best = -slope * length**2 / (2 * (found - value - slope * length))
            length = float(np.clip(best, 0.1 * length, 0.5 * length))
        else:
            length *= 0.1
    return None


def strong_wolfe(
    objective: Objective,
    x: Vector,
    direction: Vector,
    value: float,
    slope: float,
    *,
    first: float = 1.0,
    decrease: float = DECREASE,
    curvature: float = CURVATURE,
) -> Landing | None:
    """Return a point that satisfies the strong Wolfe conditions; None where rounding ends the search.

    Lengths grow until an interval brackets such points, then the interval shrinks: by the minimum of a cubic
    through the values and slopes of its ends, or of a parabola where an end has no slope, kept off the ends.
    The gradient is computed only where there is enough decrease. Values that are not finite bound the
    interval as very high ones do. Where values differ by rounding alone, slopes decide: Hager and Zhang's
    approximate Wolfe condition, (2c₁ − 1)φ′(0) ≥ φ′(α) with φ(α) no higher than φ(0) but for rounding.

    Args:
        objective: f and its gradient.
        x, direction: the start and d, (n,).
        value, slope: φ(0) and φ′(0) < 0.
        first: the first α.
        decrease, curvature: 0 < c₁ < c₂ < 1.

    Source: Nocedal and Wright, algorithms 3.5 and 3.6; Hager and Zhang 2005, SIAM J. Optim. 16(1), (4.1).
    """
    low = _Trial(0.0, value, slope)
    high: _Trial | None = None
    length = first
    best: Landing | None = None  # the lowest point with enough decrease, in case none has a flat slope
    widths = [np.inf, np.inf]
    for _ in range(TRIES):
        point = x + length * direction
        if np.array_equal(point, x) or not np.isfinite(length):
            break
        found = objective.value(point)
        rounding = abs(found - value) <= FLAT * abs(value)
        enough = found <= value + decrease * length * slope
        gradient = None
        if rounding or (enough and found < low.value):
            gradient = objective.gradient(point)
        if gradient is None or not np.isfinite(gradient).all() or not np.isfinite(found):
            high = _Trial(length, found if gradient is None else np.inf)
        else:
            trial = _Trial(length, found, float(gradient @ direction))
            landing = Landing(length, point, found, gradient)
            flat = enough or trial.slope <= (2 * decrease - 1) * slope
            if flat and abs(trial.slope) <= -curvature * slope:
                return landing
            if enough and (best is None or found < best.value):
                best = landing
            farther = 1.0 if high is None else high.length - low.length
            if trial.slope * farther >= 0:
                low, high = trial, low
            else:
                before, low = low, trial
        if high is None:
            length = _beyond(before, low)
            continue
        width = abs(high.length - low.length)
        if width <= ROUNDING * max(high.length, low.length):
            break
        # Two trials have to shrink the interval by a third at least; else it is halved.
        length = (low.length + high.length) / 2 if width > 0.66 * widths[0] else _between(low, high)
        widths = [widths[1], width]
    return best


def _beyond(before: _Trial, here: _Trial) -> float:
    """Return a greater length: where the slope would be zero if it went on as it did, 1.5 to 4 widths on."""
    width, bend = here.length - before.length, here.slope - before.slope
    widths = -here.slope / bend if bend > 0 else 4.0
    return here.length + width * min(max(widths, 1.5), 4.0)


def _between(low: _Trial, high: _Trial) -> float:
    """Return a length inside the interval: where an interpolation is lowest, a tenth off both ends."""
    width = np.float64(high.length - low.length)  # NumPy's: a division by zero is no error
    rise = high.value - low.value
    if not np.isfinite(rise):
        return low.length + 0.1 * width
    with np.errstate(all="ignore"):
        if np.isnan(high.slope):
            share = -low.slope * width / (2 * (rise - low.slope * width))
        else:  # the minimum of the cubic: Nocedal and Wright, (3.59)
            bend = low.slope + high.slope - 3 * rise / width
            root = np.copysign(np.sqrt(max(bend * bend - low.slope * high.slope, 0.0)), width)
            share = 1 - (high.slope + root - bend) / (high.slope - low.slope + 2 * root)
    return float(low.length + (np.clip(share, 0.1, 0.9) if np.isfinite(share) else 0.5) * width)

"""How long noise takes to drive a method off a saddle, over many runs, and what theory predicts for SGD.

Without noise a start on the line of the saddle that descends into it stays on it for ever. Noise in the
gradient puts the runs a little beside it, and from there the distance grows by 1 + ηλ a step, where −λ is the
negative eigenvalue of the Hessian.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from thalweg.errors import InputError
from thalweg.functions.catalogue import Point, Surface
from thalweg.functions.expression import Expression
from thalweg.functions.paths import Path, newton
from thalweg.functions.walks import Floats, Method, noises, visited

LEVEL: Final = 0.95
MAX_RUNS: Final = 10_000
NORMAL_QUARTILE: Final = 0.6744897501960817  # half of all normal numbers lie within so many deviations


@dataclass(frozen=True)
class Saddle:
    """A saddle point, and how far below it a run has left it."""

    at: Point
    value: float
    drop: float  # δ: a run has escaped at the first step at which the value is below `value` − δ
    known: bool  # whether the catalogue names it; else Newton's method found it from the start


@dataclass(frozen=True)
class Escape:
    """When the runs of one method escaped; a time is None where too few escaped to know it."""

    label: str
    rate: float
    runs: int
    escaped: int  # of the runs, within `steps`
    share_interval: tuple[float, float]  # 95 %, Clopper and Pearson
    median: float | None  # steps
    median_interval: tuple[float | None, float | None]  # at least 95 %, from order statistics
    quartiles: tuple[float | None, float | None]
    steps: int
    predicted: float | None  # the median by `predicted_median`; None: it does not apply


def saddle_of(surface: Surface, start: Point) -> Saddle:
    """Return the saddle of a surface, or that which Newton's method finds from the start.

    δ is half of the drop to the lowest known minimum, and 1 where none is known.

    Raises:
        InputError: there is none.

    >>> from thalweg.functions.catalogue import surface
    >>> saddle_of(surface("saddle"), (1.0, 0.0))
    Saddle(at=(0.0, 0.0), value=0.0, drop=0.25, known=True)
    """
    f = surface.expression
    at = surface.saddle
    if at is None:
        found = newton(f, np.asarray(start))
        if found is None or not np.linalg.eigvalsh(f.curvature(found))[0] < 0:
            raise InputError(
                "escape from a saddle",
                "have a saddle to begin at",
                f"{surface.name}, where Newton's method finds none from the start",
                "Take saddle or monkey-saddle, or start nearer to one.",
            )
        at = tuple(float(x) for x in found)
    value = float(f(at))
    drop = (value - float(f(surface.minima[0]))) / 2 if surface.minima else 1.0
    return Saddle(at, value, drop, surface.saddle is not None)


def escapes(
    surface: Surface,
    using: Method,
    path: Path,
    start: Point,
    saddle: Saddle,
    runs: int,
    steps: int,
    noise: float,
    seed: int,
    advance: Callable[[int], None] = lambda steps: None,
) -> Escape:
    """Run a method many times with noise of its own in each run, and see when the runs leave the saddle.

    The runs of two methods see the same noise, run by run.

    Args:
        surface: the function.
        using: the method.
        path: the path whose rate is run again, and whose label the answer has.
        start: where all runs begin.
        saddle: what to leave.
        runs: how many.
        steps: for how long at most.
        noise: variance of what is added to each coordinate of the gradient.
        seed: of all the noise.
        advance: told how many steps are done.
    """
    f = surface.expression
    times = np.full(runs, math.inf)
    walk = visited(f, using, np.full(runs, path.rate), start, noises((runs, len(start)), noise, seed))
    for step in range(steps + 1):
        with np.errstate(all="ignore"):
            below = f(next(walk)) < saddle.value - saddle.drop
        times[np.isinf(times) & below] = step
        advance(min(step, 1))
        if np.isfinite(times).all():
            advance(steps - step)
            break
    times.sort()
    escaped = int(np.isfinite(times).sum())
    low, high = median_ranks(runs)
    lower, median, upper = (_time(x) for x in np.percentile(times, (25, 50, 75), method="inverted_cdf"))
    predicted = None
    if using.name == "sgd" and not using.values["momentum"] and not using.values["weight_decay"]:
        predicted = predicted_median(f, saddle, path.rate, noise)
    return Escape(
        path.label,
        path.rate,
        runs,
        escaped,
        share_interval(escaped, runs),
        median,
        (_time(times[low]), _time(times[high])),
        (lower, upper),
        steps,
        predicted,
    )


def _time(steps: float) -> float | None:
    return float(steps) if math.isfinite(steps) else None


def share_interval(hits: int, runs: int) -> tuple[float, float]:
    """Return the exact 95 % interval of a share (Clopper and Pearson 1934, Biometrika 26, 404-413).

    >>> [round(x, 4) for x in share_interval(10, 10)]  # the lower end is 0.025^(1/10)
    [0.6915, 1.0]
    """
    from scipy.special import betaincinv  # takes a quarter of a second to import

    tail = (1 - LEVEL) / 2
    low = float(betaincinv(hits, runs - hits + 1, tail)) if hits else 0.0
    return low, float(betaincinv(hits + 1, runs - hits, 1 - tail)) if hits < runs else 1.0


def median_ranks(runs: int) -> tuple[int, int]:
    """Return the places, from 0, of the sorted times between which the median lies with at least 95 %.

    The number of times below the median is binomial with ½, so the time in place k lies above it with
    P(Bin(n, ½) ≤ k), which may be 2.5 % at each end. Below six runs not even the ends are that safe.

    >>> median_ranks(10)  # P(Bin(10, 1/2) <= 1) = 11/1024 = 1.1 %, and for 2 it is 5.5 %
    (1, 8)
    """
    from scipy.special import bdtr

    allowed = int(np.sum(bdtr(np.arange(runs), runs, 0.5) <= (1 - LEVEL) / 2))
    place = max(allowed - 1, 0)
    return place, runs - 1 - place


def predicted_median(f: Expression, saddle: Saddle, rate: float, noise: float) -> float | None:
    """Return the median time of escape of SGD by the linear theory, from a start that runs into the saddle.

    Along the descending direction, y ← (1 + ηλ)y − ηξ with ξ of variance s. From 0, after t steps y is
    normal with variance v(t) = η²s((1 + ηλ)^(2t) − 1)/((1 + ηλ)² − 1). Half of all runs are beyond Y where
    0.6745 √v = Y, so

        t = log(1 + (Y/0.6745)²((1 + ηλ)² − 1)/(η²s)) / (2 log(1 + ηλ)) ≈ log(…)/(2ηλ)

    with Y the distance along that direction at which the value has dropped by δ. None where there is not
    exactly one negative eigenvalue, or the value never drops that far.

    >>> from thalweg.functions.expression import parse
    >>> f = parse("x^2 - y^2")
    >>> t = predicted_median(f, Saddle((0.0, 0.0), 0.0, 1.0, True), 0.1, 0.01)  # η = 0.1, λ = 2, Y = 1
    >>> by_hand = math.log(1 + (1 / 0.67448975) ** 2 * 0.44 / 1e-4) / (2 * math.log(1.2))
    >>> round(t, 3), round(by_hand, 3)
    (25.167, 25.167)
    """
    values, directions = np.linalg.eigh(f.curvature(saddle.at))
    if not (values[0] < 0 and (values[1:] >= 0).all()):
        return None
    distance = _distance(f, saddle, directions[:, 0])
    if distance is None:
        return None
    growth = 1 - rate * float(values[0])
    odds = (distance / NORMAL_QUARTILE) ** 2 * (growth**2 - 1) / (rate**2 * noise)
    return math.log1p(odds) / (2 * math.log(growth))


def _distance(f: Expression, saddle: Saddle, direction: Floats) -> float | None:
    """Return how far along a direction, either way, the value first drops by δ."""
    reach = np.geomspace(1e-4, 1e4, 2001)
    found = []
    for way in (direction, -direction):

        def dropped(far: Any, way: Floats = way) -> Any:
            with np.errstate(all="ignore"):
                at = np.asarray(saddle.at) + np.asarray(far)[..., None] * way
                return f(at) < saddle.value - saddle.drop

        place = int(dropped(reach).argmax())
        if place:
            low, high = reach[place - 1], reach[place]
            for _ in range(60):
                middle = (low + high) / 2
                low, high = (low, middle) if dropped(middle) else (middle, high)
            found.append(float(high))
    return min(found, default=None)

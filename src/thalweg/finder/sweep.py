"""Read range tests: the loss that each rate led to, smoothed without lag, and where training breaks.

A sweep is a training whose rate climbs by the same ratio from update to update. The loss of an update is
computed before it steps, so what the rate of update t has done shows in the loss of update t + 1: they are
paired so."""

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thalweg.records import Answer

Array = NDArray[np.float64]

WIDTH: Final = 0.75  # decades to each side that a smoothed point looks at
SIGNS: Final = 3.0  # standard errors by which a fall or a rise must stand out
START: Final = 0.25  # of a sweep: rates so low that they have moved nothing yet
TAKEN: Final = 0.5  # of the fall: a loss that takes so much of it back counts as broken


class Curve(NamedTuple):
    """What several sweeps say together."""

    rates: Array  # ascending
    losses: Array  # smoothed mean over the sweeps; NaN where a sweep has broken off
    low: Array  # smoothed curve of the lowest sweep, and of the highest
    high: Array
    start: float  # the loss before anything moved
    error: float  # standard error of a smoothed value
    scatter: float  # standard deviation of a sweep's losses before anything moved
    answer: Answer  # FOUND: the loss falls somewhere
    lowest: float | None  # the rate at which the smoothed loss is lowest; None if nowhere below the start
    broken_at: float | None  # the rate at which most sweeps took back what they had fallen
    diverges_at: float | None  # the lowest rate from which no sweep came back, or None


def smooth(x: Array, y: Array, at: Array, width: float = WIDTH) -> Array:
    """Smooth by local lines: at each place the line that fits the points around it best, near ones most.

    Weights are tricube, (1 − |d|³)³ with d the distance over the width, so that a straight line comes back
    as it is, at its ends too: there is no lag. Places without two different points around them are NaN.

    >>> x = np.linspace(0.0, 4.0, 9)
    >>> smooth(x, 3 - 2 * x, np.array([0.0, 2.2, 4.0])).round(12).tolist()
    [3.0, -1.4, -5.0]

    Source: W. S. Cleveland, JASA 74 (1979) 829–836, without the robust iterations.
    """
    return _smoother(x, at, width) @ y


def _smoother(x: Array, at: Array, width: float = WIDTH) -> Array:
    """Return what each y counts in each smoothed value: a row for each place, which sums to 1."""
    distance = np.abs(x[None, :] - at[:, None]) / width
    weight = np.where(distance < 1, (1 - np.minimum(distance, 1) ** 3) ** 3, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        weight /= weight.sum(1, keepdims=True)
        centre = (weight @ x)[:, None]
        spread = (weight * (x[None, :] - centre) ** 2).sum(1, keepdims=True)
        rows = weight * (1 + (at[:, None] - centre) * (x[None, :] - centre) / spread)
    return np.asarray(np.where(spread > 1e-12, rows, np.nan))


def read(rates: Array, sweeps: Sequence[Sequence[float | None]]) -> Curve:
    """Read sweeps that climb through the same rates.

    Args:
        rates: of the updates, ascending.
        sweeps: the losses of the updates of each sweep, before they stepped; None or an early end: not a
            number.
    """
    x = np.log10(rates[:-1])
    raw = np.full((len(sweeps), len(x)), np.nan)
    for row, losses in zip(raw, sweeps, strict=True):
        after = [v if v is not None and math.isfinite(v) else math.nan for v in losses[1 : len(rates)]]
        row[: len(after)] = after
    few = max(2, round(START * len(x)))
    starts = raw[:, :few]
    known = starts[np.isfinite(starts)]
    start = float(known.mean()) if len(known) else math.nan
    spread = float(np.std(known)) if len(known) > 2 else 0.0
    moves, falls = _moves(x, raw, few)
    kept = _until_broken(raw, spread) if moves else raw
    within = [float(np.std(row[np.isfinite(row)])) for row in starts if np.isfinite(row).any()]
    curves = np.array([_smoothed(x, row) for row in kept])
    with np.errstate(invalid="ignore"):
        mean = _over_all(curves, np.mean)
    noise = max(spread, _noise(kept, curves))
    # A smoothed value rests on so many points.
    weighed = max(1.0, len(sweeps) * WIDTH / max(float(x[-1] - x[0]), WIDTH) * len(x))
    error = noise / math.sqrt(weighed)
    answer, lowest = _answer(x, mean, start, error, moves, falls)
    edges = [_edge(row, start, mean, error) if moves else None for row in raw]
    broken = sorted(rates[e] for e in edges if e is not None)
    diverges_at = float(np.median(broken)) if len(broken) * 2 > len(sweeps) else None
    return Curve(
        rates[:-1],
        mean,
        _over_all(curves, np.min),
        _over_all(curves, np.max),
        start,
        error,
        float(np.median(within)) if within else 0.0,
        answer,
        None if lowest is None else float(10**lowest),
        _broken_at(rates, kept),
        diverges_at,
    )


def _moves(x: Array, raw: Array, few: int) -> tuple[bool, bool]:
    """Tell whether rates move the loss at all, and whether any of them makes it fall.

    A smoothed loss is a weighted sum, so its error follows from the noise of the beginnings. Noise alone
    seldom takes it three errors away from its beginning, root mean square over three sweeps (χ² = 27). To see
    a fall beside what explodes, what rises counts as the beginning.
    """
    rows = raw[np.isfinite(raw[:, :few]).any(1)]
    if not len(rows):
        return True, False
    lost = np.isnan(raw[:, -1]).mean() > 0.5
    centred = rows - np.nanmean(rows[:, :few], axis=1, keepdims=True)
    noise = math.sqrt(float(np.nanmean(centred[:, :few] ** 2)) * few / (few - 1))
    centred[np.isnan(centred)] = 0.0
    weights = _smoother(x, x)
    weights[:, :few] -= 1 / few
    error = noise * np.sqrt((weights**2).sum(1))
    error += 1e-9 * float(np.abs(np.nanmean(rows[:, :few])))  # rounding moves nothing
    away = np.sqrt(((centred @ weights.T) ** 2).mean(0))
    below = np.minimum(centred, 0.0).mean(0) @ weights.T
    falls = bool((below < -SIGNS * error / math.sqrt(len(rows)))[few:].any())
    return bool(lost or falls or (away > SIGNS * error)[few:].any()), falls


def _until_broken(raw: Array, noise: float) -> Array:
    """Keep of each sweep what comes before its loss takes back half of what it had fallen: that is no
    training.

    A network may come back from there with a lower loss, its units dead: the rates after that say nothing.
    Noise is taken to shrink with what is left of the loss.
    """
    kept = raw.copy()
    for row in kept:
        few = max(2, round(START * len(row)))
        if not np.isfinite(row[:few]).any():
            continue
        start = float(np.nanmean(row[:few]))
        of_three = _median_of_three(np.where(np.isnan(row), np.inf, row))
        fallen = np.maximum(start - np.minimum.accumulate(of_three), 0.0)
        left = 1 - fallen / max(float(fallen.max()), 1e-300)
        above = of_three > start - TAKEN * fallen + 2 * SIGNS * noise * np.maximum(left, 0.1)
        above[:few] &= np.isinf(of_three[:few])
        if above.any():
            row[int(np.argmax(above)) :] = math.nan
    return kept


def _median_of_three(values: Array) -> Array:
    """Replace each value by the middle one of itself and its neighbours, the first and the last by
    themselves.

    >>> _median_of_three(np.array([1.0, 9.0, 2.0, 3.0, 8.0])).tolist()
    [1.0, 2.0, 3.0, 3.0, 8.0]
    """
    if len(values) < 3:
        return values.copy()
    middle = np.median(np.stack([values[:-2], values[1:-1], values[2:]]), axis=0)
    return np.concatenate([values[:1], middle, values[-1:]])


def _smoothed(x: Array, y: Array) -> Array:
    known = np.isfinite(y)
    if known.sum() < 2:
        return np.full(len(x), math.nan)
    found = smooth(x[known], y[known], x)
    found[np.flatnonzero(known)[-1] + 1 :] = math.nan  # beyond the last point a line only guesses
    return found


def _over_all(curves: Array, how: Any) -> Array:
    """Combine curves where at least half of them are; NaN elsewhere."""
    there = np.isfinite(curves).sum(0) * 2 > len(curves)
    found = np.full(curves.shape[1], math.nan)
    for place in np.flatnonzero(there):
        values = curves[:, place]
        found[place] = how(values[np.isfinite(values)])
    return found


def _noise(kept: Array, curves: Array) -> float:
    """The standard deviation of a single loss around its sweep's curve: robust, from differences to it."""
    rest = np.abs((kept - curves)[np.isfinite(kept) & np.isfinite(curves)])
    return 1.4826 * float(np.median(rest)) if len(rest) else 0.0


def _answer(
    x: Array, mean: Array, start: float, error: float, moves: bool, falls: bool
) -> tuple[Answer, float | None]:
    if not np.isfinite(mean).any() or not math.isfinite(start):
        return Answer.DIVERGED, None
    if not moves:
        return Answer.FLAT, None
    place = int(np.nanargmin(mean))
    if not start - mean[place] > SIGNS * error + 1e-9 * abs(start):
        return Answer.RISING, None
    return (Answer.FOUND if falls else Answer.RISING), float(x[place])


def _broken_at(rates: Array, kept: Array) -> float | None:
    ends = [np.flatnonzero(np.isfinite(row)) for row in kept]
    places = sorted(int(end[-1]) + 1 if len(end) else 0 for end in ends)
    place = places[len(places) // 2]
    return float(rates[place]) if place < kept.shape[1] else None


def _edge(row: Array, start: float, mean: Array, error: float) -> int | None:
    """The place from which a sweep stays above where it began, or is no number, up to its end."""
    low = float(np.nanmin(mean)) if np.isfinite(mean).any() else start
    with np.errstate(invalid="ignore"):
        above = ~(row <= start + max(0.1 * (start - low), SIGNS * error, 1e-12))
    fine = np.flatnonzero(~above)
    first = int(fine[-1]) + 1 if len(fine) else 0
    return first if first < len(row) else None

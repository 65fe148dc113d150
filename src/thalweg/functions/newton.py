"""Look for critical points by Newton's method from many starting points of a box.

With damping (Levenberg and Marquardt) it brings the gradient to zero, whatever kind of point that is; in one
variable every change of the slope's sign on a fine grid is followed too. There may be more.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from thalweg.functions.critical import (
    Critical,
    Points,
    Search,
    classified,
    is_singular,
    largest,
    newton_step,
    sphere,
    value_at,
)
from thalweg.functions.expression import Expression

STARTS: Final = 256  # of Newton's method; in one variable as many again where the slope is smallest
GRID: Final = 4001  # points of the box in one variable
MAX_FOUND: Final = 100  # points that are kept, the lowest
_PRIMES: Final = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71)
ROUNDS: Final = 100  # of Newton's method
_PARTS: Final = 300  # of the derivatives; where there are more, starts, rounds and points are fewer
_SIMPLEX: Final = (6, 6, 400)  # kinks: variables at most, starting points, evaluations for each variable


def search(
    expression: Expression,
    box: Sequence[tuple[float, float]],
    starts: Sequence[Sequence[float]] = (),
    parts: int = 100,
    smooth: bool = True,
) -> Search:
    """Look for critical points in a box.

    Args:
        expression: a function with one value.
        box: the ends of each coordinate.
        starts: points to start from, besides those that fill the box.
        parts: how large the derivatives are; of large ones less is computed.
        smooth: whether it is known to have derivatives everywhere; else kinks are looked for too.
    """
    n = len(box)
    ends = np.array(box)
    effort = min(1.0, _PARTS / max(parts, 1))
    begin = np.vstack(
        [filled(box, max(8, int(STARTS * effort))), np.asarray(starts, np.float64).reshape(-1, n)]
    )
    kinks: list[Critical] = []
    with np.errstate(all="ignore"):
        if n == 1:
            extra, kinks = _turns(expression, box[0], max(16, int(STARTS * effort)))
            begin = np.vstack([begin, extra])
        reached = _newton(expression, begin, rounds=max(20, int(ROUNDS * effort)))
        points, flat = _confirmed(expression, reached, _usual_slope(expression, begin), ends)
        if n > 1 and not smooth:
            kinks = _corners(expression, begin)
    inside = ((points >= ends[:, 0]) & (points <= ends[:, 1])).all(axis=1)
    if inside.any():
        points = points[inside]
    how = f"Newton's method from {len(begin)} starting points of the box."
    at_kinks = np.array([kink.at for kink in kinks]).reshape(-1, 1, n)
    points = points[(np.abs(points - at_kinks).max(axis=-1, initial=0.0) > 1e-6).all(axis=0)]
    with np.errstate(all="ignore"):
        values = expression(points) if len(points) else np.zeros(0)
    points = points[np.isfinite(values)][np.argsort(values[np.isfinite(values)])][
        : max(8, int(MAX_FOUND * effort))
    ]
    found = [classified(expression, point) for point in points]
    loose = [x for x in found if is_singular(x.eigenvalues)]
    endless = n > 1 and len(loose) > 8  # so many are not isolated
    if endless:
        found = [x for x in found if not is_singular(x.eigenvalues)] + loose[:3]
    ordered = sorted([*found, *kinks], key=lambda x: x.at if n == 1 else (x.value, *x.at))
    return Search(tuple(ordered), False, how, flat, endless)


def filled(box: Sequence[tuple[float, float]], count: int) -> Points:
    """Fill a box evenly with points, the same each time; the middle is the first."""
    ends = np.array(box, np.float64)
    unit = np.stack([_halton(count, base) for base in _PRIMES[: len(box)]], axis=1)
    points: Points = ends[:, 0] + unit * (ends[:, 1] - ends[:, 0])
    points[0] = ends.mean(axis=1)
    return points


def _halton(count: int, base: int) -> Points:
    """Return the digits of 0, 1, 2, … in a base, mirrored at the point: numbers that fill 0 to 1 evenly.

    Source: Halton 1960.
    """
    numbers, found, share = np.arange(count), np.zeros(count), 1.0 / base
    while numbers.any():
        numbers, digits = np.divmod(numbers, base)
        found += digits * share
        share /= base
    return found


def _newton(expression: Expression, x: Points, rounds: int) -> Points:
    """Bring the gradient towards zero from many points at once."""
    x = x[np.isfinite(expression.slope(x)).all(axis=1), :]
    damping = np.full(len(x), 1e-2)
    for _ in range(rounds):
        slope, hessian = expression.slope(x), expression.curvature(x)
        good = np.isfinite(slope).all(axis=1) & np.isfinite(hessian).all(axis=(1, 2))
        if not good.any():
            break
        x, damping, slope, hessian = x[good], damping[good], slope[good], hessian[good]
        # Divided by their sizes, so that squares neither vanish nor overflow.
        size = np.abs(hessian).max(axis=(1, 2))
        h = hessian / np.where(size > 0, size, 1.0)[:, None, None]
        g = slope / np.where(size > 0, size, 1.0)[:, None]
        values, vectors = np.linalg.eigh((h + h.swapaxes(1, 2)) / 2)
        parts = (vectors.swapaxes(1, 2) @ g[..., None])[..., 0]
        shares = values / (values**2 + damping[:, None])
        tried = x - (vectors @ (shares * parts)[..., None])[..., 0]
        after = expression.slope(tried)
        better = np.isfinite(after).all(axis=1) & (_norm(after) < _norm(slope))
        x = np.where(better[:, None], tried, x)
        damping = np.clip(np.where(better, damping / 10, damping * 5), 1e-30, 1e8)
    return x


def _usual_slope(expression: Expression, x: Points) -> float:
    """Return the size of the gradient at half of some points at least."""
    slopes = _norm(expression.slope(x))
    slopes = slopes[np.isfinite(slopes)]
    return float(np.median(slopes)) if len(slopes) else 1.0


def _confirmed(
    expression: Expression, x: Points, usual: float, ends: Points
) -> tuple[Points, tuple[float, ...] | None]:
    """Keep the points where the gradient is zero, each once; and one around which nothing moves at all."""
    kept: list[tuple[float, Points]] = []
    flat: tuple[float, ...] | None = None
    for point in np.unique(np.round(x, 12), axis=0):
        around = sphere(point, 0.1)
        slopes = _norm(expression.slope(around))
        step = newton_step(expression, point)
        if not np.isfinite(step):
            continue
        if not largest(slopes) > 1e-14 * min(1.0, usual):  # that is rounding
            inside = bool(((point >= ends[:, 0]) & (point <= ends[:, 1])).all())
            flat = flat or (tuple(float(v) for v in point) if inside else None)
        elif step <= 1e-7 * (1 + np.abs(point).max()):
            kept.append((step, _rounded(expression, point)))
    found: list[Points] = []
    for step, point in sorted(kept, key=lambda item: item[0]):
        apart = max(1e-6, 30 * step) * (1 + np.abs(point).max())
        if all(np.abs(point - other).max() > apart for other in found):
            found.append(point)
    return np.array(found, np.float64).reshape(-1, x.shape[1]), flat


def _rounded(expression: Expression, point: Points) -> Points:
    """Return a point with fewer digits where its gradient is at least as small."""
    for digits in (3, 6, 9):
        short = np.round(point, digits) + 0.0
        if np.abs(short - point).max() < 1e-6 and _norm(expression.slope(short)) <= _norm(
            expression.slope(point)
        ):
            return short
    return point + 0.0


def _turns(expression: Expression, ends: tuple[float, float], most: int) -> tuple[Points, list[Critical]]:
    """Follow every change of sign of the slope; return starting points, and the kinks where it jumps."""
    grid = np.linspace(*ends, GRID)
    slope = expression.slope(grid[:, None])[:, 0]
    size = np.abs(slope)
    dips = np.flatnonzero((size[1:-1] <= size[:-2]) & (size[1:-1] <= size[2:])) + 1
    seeds: list[Any] = list(grid[dips][:most])
    low, high, sign = grid[:-1], grid[1:], np.nan_to_num(np.sign(slope))
    change = sign[:-1] * sign[1:] < 0
    change |= (sign[1:] == 0) & np.append(sign[:-2] * sign[2:] < 0, False)  # exactly at a point of the grid
    change &= np.cumsum(change) <= most  # more are rounding, or waves that no grid follows
    low, high = (
        low[change],
        np.where(sign[1:][change] == 0, np.append(grid[2:], ends[1])[change], high[change]),
    )
    left, right = low.copy(), high.copy()
    begin = np.sign(expression.slope(low[:, None])[:, 0])
    for _ in range(70):
        middle = (left + right) / 2
        same = np.sign(expression.slope(middle[:, None])[:, 0]) == begin
        left, right = np.where(same, middle, left), np.where(same, right, middle)
    seeds += list(right)
    kinks = [
        kink
        for a, b, sign_left in zip(left, right, begin, strict=True)
        if (kink := _kink(expression, float(a), float(b), float(sign_left))) is not None
    ]
    return np.array(seeds).reshape(-1, 1), kinks


def _kink(expression: Expression, left: float, right: float, sign: float) -> Critical | None:
    """Return the kink between two neighbouring numbers where the slope jumps over zero."""
    near = (left + right) / 2
    short = round(near, 9) + 0.0
    at = short if abs(short - near) < 1e-12 * (1 + abs(near)) else near
    width = 1e-7 * (1 + abs(at))
    before, after = (float(expression.slope([at + side])[0]) for side in (-width, width))
    closer = [float(expression.slope([at + side])[0]) for side in (-width / 100, width / 100)]
    jumps = min(abs(before), abs(after)) > 0 and min(abs(x) for x in closer) > 0.5 * min(
        abs(before), abs(after)
    )
    value = value_at(expression, (at,))
    steady = abs(value_at(expression, (at + width,)) - value) + abs(
        value_at(expression, (at - width,)) - value
    )
    if not jumps or not math.isfinite(value) or not steady <= 1e-2 * (1 + abs(value)):
        return None
    kind = "minimum" if sign < 0 else "maximum"
    return Critical((at,), value, kind, "the slope jumps over 0: a kink, where there is no derivative")


def _corners(expression: Expression, begin: Points) -> list[Critical]:
    """Return minima at kinks, in several variables: simplices fall into them, and slopes jump there."""
    from scipy.optimize import minimize  # takes longer to import than most analyses take

    n = begin.shape[1]
    most, starts, evaluations = _SIMPLEX
    values = expression(begin)
    order = [i for i in np.argsort(values) if math.isfinite(values[i])][:starts]
    found: list[Critical] = []
    for start in begin[order] if n <= most else ():
        options = {"xatol": 1e-10, "fatol": 1e-14, "maxfev": evaluations * n}
        reached = minimize(lambda x: float(expression(x)), start, method="Nelder-Mead", options=options).x
        point = np.asarray(reached, np.float64)
        for digits in (3, 5):
            short = np.round(point, digits) + 0.0
            if value_at(expression, short.tolist()) <= value_at(expression, point.tolist()):
                point = short
                break
        known = any(np.abs(point - np.array(x.at)).max() < 1e-5 * (1 + np.abs(point).max()) for x in found)
        near, far = (_usual_slope(expression, sphere(point, radius)) for radius in (1e-8, 1e-4))
        decided = classified(expression, point)
        if not known and near > 0.5 * far > 0 and decided.kind == "minimum":
            why = "all values around are higher: by sampling, because there is no derivative"
            found.append(Critical(decided.at, decided.value, "minimum", why))
    return found


def _norm(x: Any) -> Any:
    return np.sqrt((np.asarray(x) ** 2).sum(axis=-1))

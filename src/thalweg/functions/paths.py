"""Several methods from one start on one function: their paths, who arrives first, at which rate of a grid."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import InputError, nearest
from thalweg.functions.catalogue import Point, Surface
from thalweg.functions.expression import Expression
from thalweg.functions.walks import Floats, Method, checked_rate, left_at, noises, visited

GRID: Final = tuple(float(f"{10 ** (k / 4):.3g}") for k in range(-24, 5))  # 1e-6 to 10, four rates a decade
WITHIN: Final = 0.01
MAX_STEPS: Final = 100_000
MAX_PATHS: Final = 8


@dataclass(frozen=True)
class Tried:
    """What one rate of the grid led to; None: it diverged, or there is no minimum to measure from."""

    rate: float
    distance: float | None  # at the end, from the nearest minimum
    value: float | None  # at the end
    arrived_at: int | None
    diverged_at: int | None


@dataclass(frozen=True, eq=False)
class Path:
    """One method's path; arrays have one row a step, from the start on, up to the last before it diverged."""

    label: str  # the optimizer; with its rate where several paths are of one optimizer
    optimizer: str
    rate: float
    points: Floats  # (steps + 1, n)
    values: Floats  # (steps + 1,)
    distances: Floats | None  # (steps + 1,), from the nearest minimum; None: there is none
    nearest: int | None  # the minimum that the end is nearest to, as a place in `minima`
    entered_at: int | None  # the first step within the distance of a minimum
    arrived_at: int | None  # the first step from which on it stays there to the end
    diverged_at: int | None
    tried: tuple[Tried, ...] = ()  # the whole grid; (): the rate was given

    @property
    def edge(self) -> str | None:
        """The end of the grid where the chosen rate lies, "lowest" or "highest"; None: inside, or given."""
        if not self.tried or len(self.tried) < 2:
            return None
        return {self.tried[0].rate: "lowest", self.tried[-1].rate: "highest"}.get(self.rate)


@dataclass(frozen=True, eq=False)
class Comparison:
    """The paths of several methods on one function, and what they were compared by."""

    surface: Surface
    start: Point
    minima: tuple[Point, ...]
    found: bool  # whether the minima were found from these paths, and not known before
    steps: int
    within: float
    noise: float
    seed: int
    paths: tuple[Path, ...]

    @property
    def first(self) -> tuple[Path, ...]:
        """The paths that arrive first; several: a tie; none: nobody arrives."""
        arrived = [path.arrived_at for path in self.paths if path.arrived_at is not None]
        return tuple(path for path in self.paths if arrived and path.arrived_at == min(arrived))


def checked_start(surface: Surface, start: Point | None) -> Point:
    """Return where to begin; refuse a point outside the domain of the function or of its gradient."""
    f, point = surface.expression, surface.start if start is None else start
    if len(point) != len(f.variables):
        raise InputError(
            "the start",
            f"have a number for each of {', '.join(f.variables)}",
            _written(point),
            f"Such as {','.join('1' for _ in f.variables)}.",
        )
    do = "Name another start." if start is not None else "Name a start where it is."
    for what, value in (("the value", f(point)), ("the gradient", f.slope(point))):
        if not np.isfinite(value).all():
            must = f"be where {what} of the function is a finite number"
            raise InputError("the start", must, f"{_written(point)}, where it is {_written(value)}", do)
    return point


def _written(numbers: Point | Floats) -> str:
    return ", ".join(f"{x:g}" for x in np.ravel(numbers))


def compare(
    surface: Surface,
    methods: Sequence[Method],
    steps: int = 1000,
    start: Point | None = None,
    rates: Mapping[str, Sequence[float]] | None = None,
    noise: float = 0.0,
    seed: int = 0,
    within: float = WITHIN,
    advance: Callable[[int], None] = lambda steps: None,
) -> Comparison:
    """Let several methods descend from one start.

    A method without a given rate is run at every rate of `GRID`, the same for all, and shown at its best:
    of the rates that arrive at a minimum the one that arrives earliest, else that which ends nearest to one,
    else, where no minimum is known, that which ends lowest; of equals the smallest. To arrive is to come
    within a distance of a minimum and to stay there to the end.

    Of a formula no minimum is known. Newton's method then goes on from the ends of all paths, and the lowest
    of the strict minima that it finds (gradient zero, Hessian positive definite) are taken.

    Args:
        surface: the function.
        methods: from `walks.method`.
        steps: how many each takes.
        start: where; None: the start of the surface.
        rates: given ones, by optimizer; a method with several has several paths.
        noise: variance of what is added to each coordinate of the gradient, the same for all of them.
        seed: of the noise.
        within: the distance from a minimum that counts as there.
        advance: told how many steps are done, of `steps` for each method.

    Raises:
        InputError: methods, rates or start cannot be used; nothing was run.

    >>> from thalweg.functions.catalogue import surface
    >>> from thalweg.functions.walks import method
    >>> bowl = compare(surface("(w - 3)^2"), [method("sgd")], 3, (0.0,), {"sgd": [0.1]})
    >>> bowl.paths[0].points.ravel().round(3).tolist(), bowl.minima
    ([0.0, 0.6, 1.08, 1.464], ((3.0,),))
    """
    given = _checked(methods, dict(rates or {}))
    point, f = checked_start(surface, start), surface.expression
    walks = []
    for using in methods:
        grid = np.array(given.get(using.name, GRID))
        points = np.empty((steps + 1, len(grid), len(point)))
        walk = visited(f, using, grid, point, noises((len(point),), noise, seed))
        for step in range(steps + 1):
            points[step] = next(walk)
            advance(min(step, 1))
        values = np.asarray(f(points))
        walks.append(_Walk(using, grid, points, values, left_at(points, values, point)))
    minima = surface.minima or _refined(f, walks)
    paths: list[Path] = []
    for walk_ in walks:
        paths += _paths(walk_, minima, within, chosen=walk_.method.name not in given)
    return Comparison(
        surface, point, minima, bool(minima) and not surface.minima, steps, within, noise, seed, tuple(paths)
    )


@dataclass(frozen=True, eq=False)
class _Walk:
    method: Method
    rates: Floats
    points: Floats  # (steps + 1, K, n)
    values: Floats  # (steps + 1, K)
    left: list[int | None]  # where each diverged


def _checked(methods: Sequence[Method], rates: dict[str, Sequence[float]]) -> dict[str, Sequence[float]]:
    names = [using.name for using in methods]
    if not names or len(set(names)) < len(names):
        raise InputError("the optimizers", "be one or more different names", names)
    for name, listed in rates.items():
        if name not in names:
            raise InputError("the rates", "be of optimizers that run", repr(name), nearest(name, names))
        if not listed or len(set(listed)) < len(listed):
            raise InputError(f"the rates of {name}", "be one or more different numbers", list(listed))
    for using in methods:
        for rate in rates.get(using.name, ()):
            checked_rate(using, rate)
    count = sum(len(rates.get(name, (0,))) for name in names)
    if count > MAX_PATHS:
        raise InputError("the paths", f"be at most {MAX_PATHS}, to be told apart", count)
    return rates


def _paths(walk: _Walk, minima: tuple[Point, ...], within: float, chosen: bool) -> list[Path]:
    """Return the paths to show of one method: all that were given, or the best of its grid."""
    paths = [_path(walk, place, minima, within) for place in range(len(walk.rates))]
    if not chosen:
        return paths if len(paths) > 1 else [replace(paths[0], label=walk.method.name)]
    tried = tuple(_tried(path) for path in paths)
    alive = [place for place, one in enumerate(tried) if one.diverged_at is None]
    best = min(alive, key=lambda place: _rank(tried[place])) if alive else 0
    return [replace(paths[best], label=walk.method.name, tried=tried)]


def _tried(path: Path) -> Tried:
    ended = path.diverged_at is None
    distance = float(path.distances[-1]) if path.distances is not None and ended else None
    value = float(path.values[-1]) if ended else None
    return Tried(path.rate, distance, value, path.arrived_at, path.diverged_at)


def _rank(one: Tried) -> tuple[float, ...]:
    """Order rates that did not diverge, the best first: see `compare`."""
    if one.arrived_at is not None:
        return 0, one.arrived_at, one.rate
    score = one.distance if one.distance is not None else one.value
    assert score is not None
    return 1, score, one.rate


def _path(walk: _Walk, place: int, minima: tuple[Point, ...], within: float) -> Path:
    left, name, rate = walk.left[place], walk.method.name, float(walk.rates[place])
    points, values = walk.points[:left, place], walk.values[:left, place]
    if not minima:
        return Path(f"{name} at {rate:g}", name, rate, points, values, None, None, None, None, left)
    all_distances = np.stack([np.linalg.norm(points - np.asarray(at), axis=-1) for at in minima])
    distances = all_distances.min(axis=0)
    nearest_one, inside = int(all_distances[:, -1].argmin()), distances <= within
    return Path(
        f"{name} at {rate:g}",
        name,
        rate,
        points,
        values,
        distances,
        nearest_one,
        int(np.argmax(inside)) if inside.any() else None,
        None if left is not None else _arrival(inside),
        left,
    )


def _arrival(inside: NDArray[np.bool_]) -> int | None:
    """Return the first step from which on all are inside.

    >>> _arrival(np.array([False, True, False, True, True])), _arrival(np.array([True, False]))
    (3, None)
    """
    outside = np.flatnonzero(~inside)
    place = int(outside[-1]) + 1 if len(outside) else 0
    return place if place < len(inside) else None


def _refined(f: Expression, walks: Sequence[_Walk]) -> tuple[Point, ...]:
    """Return the strict minima that Newton's method finds from the ends of all walks, those that are lowest.

    Nothing where an end lies lower than all of them: then none of them is what the function goes down to.
    """
    ends = [
        (float(walk.values[-1, place]), walk.points[-1, place])
        for walk in walks
        for place, left in enumerate(walk.left)
        if left is None
    ]
    found: list[tuple[float, Floats]] = []
    for _, end in sorted(ends, key=lambda pair: pair[0]):
        point = newton(f, end)
        if point is None or np.linalg.eigvalsh(f.curvature(point))[0] <= 0:
            continue
        size = 1 + np.abs(point).max()
        if all(np.abs(point - other).max() > 1e-6 * size for _, other in found):
            found.append((float(f(point)), point))
    lowest = min((value for value, _ in [*ends, *found]), default=0.0)
    tolerance = 1e-12 * (1 + abs(lowest))
    return tuple(tuple(point.tolist()) for value, point in found if value <= lowest + tolerance)


def newton(f: Expression, start: Floats, steps: int = 50) -> Floats | None:
    """Return the point with gradient zero that Newton's method runs into, None where it finds none.

    It stops where a step changes no coordinate by more than rounding does.

    >>> from thalweg.functions.expression import parse
    >>> newton(parse("(x - 1)^2 - y^2"), np.array([3.0, 0.5])).tolist()
    [1.0, 0.0]
    """
    point = np.asarray(start, np.float64)
    for _ in range(steps):
        slope, curvature = f.slope(point), f.curvature(point)
        if not (np.isfinite(slope).all() and np.isfinite(curvature).all()):
            return None
        if not slope.any():
            return point
        try:
            step = np.linalg.solve(curvature, slope)
        except np.linalg.LinAlgError:
            return None
        point = point - step
        if np.abs(step).max() <= 1e-14 * (1 + np.abs(point).max()):
            return point
    return None


def thinned(count: int, most: int = 500) -> NDArray[np.int64]:
    """Return which of so many steps to keep: the first, the last, and more of the early than of the late.

    >>> thinned(5).tolist()
    [0, 1, 2, 3, 4]
    >>> kept = thinned(100_000)
    >>> len(kept) <= 500, kept[:4].tolist(), int(kept[-1])
    (True, [0, 1, 2, 3], 99999)
    """
    if count <= most:
        return np.arange(count)
    half = most // 2
    even, early = np.linspace(0, count - 1, half), np.geomspace(1, count - 1, half)
    return np.unique(np.concatenate([even, early]).round().astype(np.int64))

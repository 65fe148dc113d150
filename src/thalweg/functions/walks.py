"""A method at work on a function: the points it visits, for many rates or runs at once.

The numbers come from the method's rule through the NumPy reference, with one replica for each rate or run.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from thalweg.backends.reference import Reference
from thalweg.errors import InputError
from thalweg.functions.expression import Expression
from thalweg.rules.catalogue import Preset, preset
from thalweg.rules.ops import spread

Floats = NDArray[np.float64]

FAR: Final = 1e6  # times 1 + the distance of the start from the origin: who goes further has diverged


@dataclass(frozen=True)
class Method:
    """An optimizer of the catalogue with all its hyperparameters but the rate."""

    preset: Preset
    values: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The name in the catalogue."""
        return self.preset.name


def method(name: str, settings: Mapping[str, Any] | None = None) -> Method:
    """Return an optimizer of the catalogue, with other values for some of its hyperparameters.

    Raises:
        InputError: there is none of that name, a value is bad, or it does not move points: Muon moves
            matrices, Sophia needs somebody who measures curvature.

    >>> method("momentum").values["momentum"]
    0.9
    """
    found = preset(name)
    rule = found.rule
    if rule.least_axes:
        raise InputError(
            f"the optimizer {name}",
            "move points",
            f"one that moves arrays with {rule.least_axes} axes or more",
            "A point is a vector; take adam.",
        )
    if rule.curvature is not None:
        raise InputError(
            f"the optimizer {name}",
            "be one that needs gradients alone",
            "one that is handed measured curvature",
            "Take adam.",
        )
    values = dict(found.fixed) | dict(settings or {})
    if "lr" in values:
        raise InputError(f"the settings of {name}", "leave the rate out", "lr", "Give it as a rate.")
    return Method(found, rule.checked(values))


def checked_rate(using: Method, rate: float) -> float:
    """Return a rate that the method accepts; refuse another one in words."""
    using.preset.rule.checked({**using.values, "lr": rate})
    return rate


def visited(
    f: Expression, using: Method, rates: Floats, start: tuple[float, ...], noise: Iterator[Floats] | None
) -> Iterator[Floats]:
    """Yield the points of K replicas, (K, n), from the start on, without end.

    Where a method is evaluated elsewhere than it takes its gradient (Schedule-Free, ASGD), it is the point of
    evaluation. After a replica has left the domain of the function its points are NaN or infinite.

    Args:
        f: what is minimised.
        using: the method.
        rates: one a replica, (K,).
        start: where all begin.
        noise: what is added to the gradient at each step, (K, n) or (n,) for all; None: nothing.
    """
    rule = using.preset.rule
    work = Reference(rule, {**using.values, "lr": rates})
    point: Any = np.tile(np.asarray(start, np.float64), (len(rates), 1))
    yield point
    while True:
        with np.errstate(all="ignore"):
            slope = f.slope(point)
            if noise is not None:
                slope = slope + next(noise)
            point = work.step({"point": point}, {"point": slope})["point"]
            seen = point
            if rule.evaluated is not None:
                seen = rule.evaluated(point, work.states["point"], spread(work.values, point))
        yield seen


def noises(shape: tuple[int, ...], variance: float, seed: int) -> Iterator[Floats] | None:
    """Yield normal noise for step after step from one seed; None where the variance is 0."""
    return _drawn(shape, variance, seed) if variance else None


def _drawn(shape: tuple[int, ...], variance: float, seed: int) -> Iterator[Floats]:
    random = np.random.default_rng(seed)
    while True:
        yield np.sqrt(variance) * random.standard_normal(shape)


def left_at(points: Floats, values: Floats, start: tuple[float, ...]) -> list[int | None]:
    """Return for each of K paths (steps + 1, K, n) the first step without a finite value or too far away."""
    limit = FAR * (1 + float(np.linalg.norm(start)))
    with np.errstate(all="ignore"):
        gone = ~(np.isfinite(values) & (np.abs(points - np.asarray(start)).max(axis=-1) <= limit))
    return [int(column.argmax()) if column.any() else None for column in gone.T]

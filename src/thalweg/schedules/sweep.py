"""The schedule of a range test: a factor that climbs by the same ratio from update to update."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thalweg.hyper import Interval, Real
from thalweg.schedules.base import Array, Shape, declared, known
from thalweg.schedules.shapes import length


@dataclass(frozen=True, kw_only=True)
class Sweep(Shape):
    """a^(1 − t/(N − 1)): from a at tick 0 to exactly 1 at tick N − 1, evenly on a logarithmic axis.

    The rate of a recipe is where the sweep ends. A sweep of one tick is at its end at once.

    >>> [round(Sweep(length=4, start=1e-3)(t), 12) for t in (0, 1, 2, 3, 9)]
    [0.001, 0.01, 0.1, 1.0, 1.0]
    """

    name: ClassVar[str] = "sweep"
    length: int | None = length("N: ticks from the first factor to the last")
    start: float = declared(Real(1e-6, "a: the factor at tick 0", Interval(0, 1, closed="right")))

    def _values(self, t: Array) -> Array:
        left = (
            1.0 - np.minimum(t / max(known(self.length) - 1, 1), 1.0) if known(self.length) > 1 else 0.0 * t
        )
        return self.start**left

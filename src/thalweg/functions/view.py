"""What is looked at of a function: a box, the values on a grid in it, and heights that show valleys too."""

from dataclasses import dataclass

import numpy as np

from thalweg.functions.catalogue import Box
from thalweg.functions.expression import Expression
from thalweg.functions.paths import Comparison
from thalweg.functions.walks import Floats


@dataclass(frozen=True, eq=False)
class View:
    """A box and the scale of heights in it.

    Values span many powers of ten between a valley and its walls, so what is drawn is the height
    h = log₁₀(1 + (f − lowest)/unit), with the unit that a twentieth of the box lies below.
    """

    expression: Expression
    box: Box
    lowest: float
    unit: float

    def heights(self, values: Floats) -> Floats:
        """Return the height of values; what is below the lowest in the box is at 0."""
        with np.errstate(all="ignore"):
            return np.log10(1 + np.clip((values - self.lowest) / self.unit, 0, 1e300))

    def grid(self, *counts: int) -> tuple[list[Floats], Floats]:
        """Return the ticks of each variable, so many, and the values; rows are the second variable.

        Values that are not finite are NaN.
        """
        ticks = [np.linspace(low, high, n) for (low, high), n in zip(self.box, counts, strict=True)]
        points = np.stack(np.meshgrid(*ticks), axis=-1) if len(ticks) > 1 else ticks[0][:, None]
        values = np.asarray(self.expression(points))
        return ticks, np.where(np.isfinite(values), values, np.nan)


def view(found: Comparison, box: Box | None = None) -> View:
    """Return what to look at: the box given, or that of the catalogue, or what the paths pass through.

    The start always lies in it, and of minima that were found those that the paths go to. Where paths run far
    off, at most once the extent of start and minima is shown beyond them on each side.
    """
    f = found.surface.expression
    near = {path.nearest for path in found.paths if path.nearest is not None} if found.found else ()
    fixed = np.array([found.start, *(found.minima[place] for place in near)])
    if box is None and found.surface.box is not None:
        ends = np.array(found.surface.box)
        low, high = np.minimum(ends[:, 0], fixed.min(axis=0)), np.maximum(ends[:, 1], fixed.max(axis=0))
    elif box is None:
        low, high = _around(found, fixed)
    else:
        low, high = np.array(box).T
    chosen = tuple((float(a), float(b)) for a, b in zip(low, high, strict=True))
    rough = View(f, chosen, 0.0, 1.0)
    _, values = rough.grid(*(61,) * len(chosen))
    known = values[np.isfinite(values)]
    inside = [
        path.values[((path.points >= low) & (path.points <= high)).all(axis=-1)] for path in found.paths
    ]
    lowest = float(
        np.concatenate([known, *inside, [float(f(at)) for at in (found.start, *found.minima)]]).min()
    )
    unit = float(np.quantile(known, 0.05)) - lowest if known.size else 0.0
    return View(f, chosen, lowest, unit if unit > 0 else 1.0)


def _around(found: Comparison, fixed: Floats) -> tuple[Floats, Floats]:
    low, high = fixed.min(axis=0), fixed.max(axis=0)
    extent = np.maximum(high - low, np.maximum(1.0, 1e-3 * np.abs(high)))
    for path in [one for one in found.paths if one.diverged_at is None] or found.paths:
        near = np.clip(path.points, fixed.min(axis=0) - extent, fixed.max(axis=0) + extent)
        low, high = np.minimum(low, near.min(axis=0)), np.maximum(high, near.max(axis=0))
    # A path along one axis is shown with its surroundings.
    room = 0.15 * (high - low) + np.maximum(0.5 * (high - low).max() - (high - low), 0.0) / 2 + 1e-3 * extent
    return low - room, high + room

"""What other finders would pick from a sweep: for comparison, by the names under which they are known.

All read the smoothed curve, rates ascending, evenly spaced on a logarithmic axis. Where a curve holds
nothing to pick (it never falls), the answer is None.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def steepest(rates: Array, losses: Array) -> float | None:
    """The rate where the loss falls fastest along log η: argmin of Δloss/Δlog η, central differences.

    >>> rates = np.logspace(-4, 0, 5)
    >>> steepest(rates, np.array([2.0, 1.9, 1.0, 0.5, 0.4]))  # falls by 1.4 around it, by 1.0 and 0.6 beside
    0.01

    Source: L. N. Smith, arXiv:1506.01186, as pytorch-lr-finder reads it.
    """
    slope = np.gradient(losses)
    place = int(np.argmin(slope))
    return float(rates[place]) if slope[place] < 0 else None


def minimum_tenth(rates: Array, losses: Array) -> float | None:
    """A tenth of the rate at which the loss is lowest.

    >>> minimum_tenth(np.array([0.01, 0.1, 1.0]), np.array([2.0, 1.0, 3.0]))
    0.01
    """
    place = int(np.argmin(losses))
    return float(rates[place]) / 10 if losses[place] < losses[0] else None


def valley(rates: Array, losses: Array) -> float | None:
    """About half-way down the longest valley: the longest strictly falling subsequence of losses.

    With ℓ its length and e the place where it ends, q = ℓ/3: the rate at place (e − ℓ) + ⌊q⌋ + ⌊q/2⌋, as
    fastai computes it. (Its text says two thirds down; and the subsequence need not be connected.)

    >>> valley(np.logspace(-6, 0, 7), np.array([6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 9.0]))  # ℓ 6, e 5: place −1+2+1
    0.0001

    Source: fastai, `callback/schedule.py`.
    """
    length = np.ones(len(losses), dtype=int)
    for i in range(1, len(losses)):
        for j in range(i):
            if losses[j] > losses[i]:
                length[i] = max(length[i], length[j] + 1)
    end, size = int(np.argmax(length)), int(length.max())
    if size < 3:
        return None
    part = size / 3
    place = (end - size) + int(part) + int(part / 2)
    return float(rates[max(place, 0)])


def slide(rates: Array, losses: Array, distance: int = 15, threshold: float = 0.005) -> float | None:
    """Slide a window of slopes from the right until its ends agree, and take its left end.

    g are the central differences by place; from the right end, while |g at the right − g at the left| exceeds
    the threshold, the left rate is remembered and both move left by one. The threshold knows no scale.

    >>> slide(np.logspace(-4, 0, 21), np.r_[np.full(16, 1.0), 1.1, 1.4, 2.0, 3.0, 5.0]) is None
    False

    Source: A. Aggarwal's `lr_finder`, as fastai's documentation gives it.
    """
    slope = np.gradient(losses)
    right, left, found = len(losses) - 1, len(losses) - 1 - distance, None
    while left >= 0 and abs(slope[right] - slope[left]) > threshold:
        found, right, left = float(rates[left]), right - 1, left - 1
    return found


PICKS: Final[Mapping[str, Callable[[Array, Array], float | None]]] = {
    "steepest": steepest,
    "valley": valley,
    "slide": slide,
    "minimum/10": minimum_tenth,
}


def picks(rates: Array, losses: Array) -> dict[str, float | None]:
    """Return every pick by its name, of that part of a curve which is a number."""
    known = np.isfinite(losses)
    if known.sum() < 3:
        return dict.fromkeys(PICKS)
    found: dict[str, Any] = {name: pick(rates[known], losses[known]) for name, pick in PICKS.items()}
    return {n: v if v is not None and math.isfinite(v) else None for n, v in found.items()}

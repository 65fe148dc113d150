"""How good suggested rates are, beside the true curve of their task and optimizer. Free of torch."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

TUNING = 9 * 3  # full trainings of one tuning: rates × seeds


@dataclass(frozen=True)
class Curve:
    """A true curve as suggestions are held against it.

    A training that ends above the loss of its initial weights, or diverges, has gained nothing, and counts
    with that loss: how far above it ends is of no interest.
    """

    rates: NDArray[np.float64]  # ascending
    losses: NDArray[np.float64]  # means over the seeds
    bad: NDArray[np.bool_]  # whether the rate is too high: with any seed a training gained nothing
    initial: float  # mean loss of the initial weights
    deviation: float  # over the seeds, around the best rate

    @classmethod
    def of(cls, rates: NDArray[np.float64], final: NDArray[np.float64], initial: NDArray[np.float64]) -> Self:
        """Make a curve of the losses at the end [rate, seed], NaN: diverged, and of the initial ones [seed].

        The deviation is pooled over the best rate and its neighbours, for few seeds tell little of it.
        """
        nothing = ~(final <= initial)
        capped = np.where(nothing, initial, final)
        losses = capped.mean(axis=1)
        best = int(losses.argmin())
        bad = nothing.any(axis=1)
        bad[:best] = False  # too low to gain anything
        around = capped[max(best - 1, 0) : best + 2]
        deviation = math.sqrt(float(around.var(axis=1, ddof=1).mean()))
        return cls(rates, losses, bad, float(initial.mean()), deviation)

    @property
    def best_rate(self) -> float:
        return float(self.rates[self.losses.argmin()])

    @property
    def best_loss(self) -> float:
        return float(self.losses.min())

    @property
    def gain(self) -> float:
        """How far the best rate brings the loss down."""
        return self.initial - self.best_loss

    def regret(self, rate: float) -> float:
        """Return how much worse than the best a rate ends.

        Between rates of the grid a line in the log of the rate counts, outside of it its end.
        """
        return float(np.interp(math.log(rate), np.log(self.rates), self.losses)) - self.best_loss

    def diverges(self, rate: float) -> bool:
        """Tell whether a training at one of the neighbours in the grid gained nothing, with any seed."""
        above = int(np.searchsorted(self.rates, rate * (1 - 1e-9)))  # the first that is not lower
        last = len(self.rates) - 1
        below = above if above <= last and math.isclose(self.rates[above], rate) else above - 1
        return bool(self.bad[max(below, 0)] or self.bad[min(above, last)])


def judged(
    curve: Curve, suggestions: Sequence[float | None], steps: Sequence[int], full: int
) -> dict[str, Any]:
    """Judge a method on a pair.

    Args:
        curve: the true one.
        suggestions: one a root seed; None: no answer.
        steps: updates that each of them took.
        full: updates of a full training.
    """
    rates = [rate for rate in suggestions if rate is not None]
    regrets = [curve.regret(rate) for rate in rates]
    return {
        "suggestions": list(suggestions),
        "of_gain": [regret / curve.gain for regret in regrets],
        "deviations": [regret / curve.deviation for regret in regrets],
        "diverging": sum(curve.diverges(rate) for rate in rates),
        "decades": math.log10(max(rates) / min(rates)) if len(rates) > 1 else None,
        "steps": list(steps),
        "of_tuning": max(steps) / (TUNING * full),
    }


def summary(pairs: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Sum up a method over what `judged` said of each pair; None where it answered nowhere.

    The median is over pairs, of each pair's median over its seeds; the worst is of all suggestions.
    """
    pairs = list(pairs)
    answered = [pair for pair in pairs if pair["of_gain"]]
    if not answered:
        return None
    asked = sum(len(pair["suggestions"]) for pair in pairs)
    given = sum(len(pair["of_gain"]) for pair in answered)
    spreads = [pair["decades"] for pair in answered if pair["decades"] is not None]
    return {
        "pairs": len(pairs),
        "of_gain": median(median(pair["of_gain"]) for pair in answered),
        "worst": max(max(pair["of_gain"]) for pair in answered),
        "deviations": median(median(pair["deviations"]) for pair in answered),
        "decades": median(spreads) if spreads else None,
        "most_decades": max(spreads, default=None),
        "diverging": sum(pair["diverging"] for pair in answered) / given,
        "unanswered": (asked - given) / asked,
        "steps": median(step for pair in pairs for step in pair["steps"]),
        "of_tuning": max(pair["of_tuning"] for pair in pairs),
    }

"""Which rates tuning tries: a grid, what lies beyond its edge, what lies beside its best, and who goes on."""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from thalweg.evidence.race import RateScore, best
from thalweg.finder.search import rounded as rounded
from thalweg.records import Direction

HALF: Final = math.sqrt(10)  # ratio of neighbouring rates around the centre of a catalogue: half a decade
QUARTER: Final = math.sqrt(HALF)  # around a rate that was found by measuring
CLOSE: Final = 1.05  # ratio of two rates between which tuning sees no difference worth a trial


class Grid(NamedTuple):
    """Rates centre · ratioᵏ for whole k, rounded to three digits.

    >>> Grid(0.1, HALF).around(5)
    (0.01, 0.0316, 0.1, 0.316, 1.0)
    >>> Grid(0.02, QUARTER).around(3)
    (0.0112, 0.02, 0.0356)
    """

    centre: float
    ratio: float

    def around(self, count: int) -> tuple[float, ...]:
        """Return so many neighbouring rates, the centre in the middle."""
        return tuple(self.rate(k) for k in range(-((count - 1) // 2), count // 2 + 1))

    def rate(self, k: int) -> float:
        """Return the rate k steps above the centre. From there, so that rounding does not add up."""
        return rounded(self.centre * self.ratio**k)

    def beside(self, rate: float, k: int) -> float:
        """Return the rate k steps above one of the grid's.

        >>> Grid(0.1, HALF).beside(3.16, 1)
        10.0
        """
        return self.rate(round(math.log(rate / self.centre, self.ratio)) + k)


def next_rate(scores: Sequence[RateScore], direction: Direction, grid: Grid) -> float | None:
    """Return the rate that tuning tries next: beyond the edge if the best lies there, else beside the best.

    Where all diverged, smaller rates are tried. Between the best rate and the better of its neighbours the
    middle is taken; None if those lie within 5 %, the one reason to leave a part of the quota unused.

    Args:
        scores: of all rates so far, ascending.
        direction: of the scores.
        grid: on which the first of them lay.
    """
    rates = [s.rate for s in scores]
    place = best(scores, direction)
    # As long as an edge is best nothing was refined, so all rates lie on the grid, without a gap. And as soon
    # as the best lies inside, what is added lies inside too: an edge is never best again.
    if place is None or place == 0:
        return grid.beside(rates[0], -1)
    if place == len(rates) - 1:
        return grid.beside(rates[-1], 1)
    below, above = scores[place - 1], scores[place + 1]
    neighbour = below if best([below, above], direction) == 0 else above
    middle = rounded(math.sqrt(scores[place].rate * neighbour.rate))
    return None if min(max(middle / r, r / middle) for r in rates) < CLOSE else middle


def survivors(scores: Sequence[RateScore], direction: Direction, seeds: int) -> list[tuple[float, int]]:
    """Return which rates run once more, each with the number of seeds that it has already.

    Of n rates the better half, rounded up, runs on a second seed, the better quarter on a third, and so on:
    ⌈n / 2ⁱ⌉ rates have i + 1 seeds, those that did not diverge on any. Where one diverges later than on its
    first seed, the next best takes its place. Rates are compared only with rates of one optimizer that have
    equally many seeds, after equally many updates.

    Args:
        scores: of all rates, ascending.
        direction: of the scores.
        seeds: that a rate has at most.

    >>> losses = {0.01: 0.9, 0.1: 0.3, 1.0: 0.5, 10.0: None}
    >>> survivors([RateScore(r, x, x, seeds=1) for r, x in losses.items()], Direction.LOWER, 3)
    [(0.1, 1), (1.0, 1)]
    """
    alive = [s for s in scores if s.score is not None]
    for done in range(1, seeds):
        wanted = math.ceil(len(scores) / 2**done) - sum(s.seeds > done for s in alive)
        waiting = [s for s in alive if s.seeds == done]
        chosen: list[tuple[float, int]] = []
        while waiting and len(chosen) < wanted:
            place = best(waiting, direction)
            assert place is not None  # none of them diverged
            chosen.append((waiting.pop(place).rate, done))
        if chosen:
            return chosen
    return []

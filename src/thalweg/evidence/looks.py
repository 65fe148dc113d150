"""How many seeds a race takes: planned looks at which it may end, and what would decide a tie."""

import itertools
import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from thalweg.errors import InputError
from thalweg.evidence.statistics import LEVEL, Array, Values

POWER: Final = 0.8  # with which an advised number of seeds decides
MOST: Final = 1_000  # seeds; what takes more is not advised


def levels(looks: Sequence[int], level: float = LEVEL) -> tuple[float, ...]:
    """The levels at which a race is judged after so many seeds, so that looking early costs no honesty.

    Until look i, level · (nᵢ / n)² is spent of the whole: each look gets what was added since the one before,
    the last one most. A race that is judged at these levels, and ends with the first winner, finds something
    false with probability level at most: the chance of any of several events is at most the sum of their
    chances, however they depend on each other, and the levels add up to the whole. Nothing is assumed
    about the scores.

    Why the square: spent in proportion to the seeds, the last look would keep less, and find less; with the
    third power, an early look of few seeds often could not decide anything, as no p is below 2^(1−n): of 16
    seeds, the first 8 would get 0.6 %, and 8 signs that agree have p = 0.8 %. Tests that take into account
    how looks depend on each other would spend a little less; with Holm's correction they are not simple.

    Raises `InputError` if the looks are not increasing whole numbers above 0, or the level is not in (0, 1).

    >>> [round(x, 4) for x in levels([8, 16])]  # (8/16)² of 5 %, and the rest
    [0.0125, 0.0375]

    Source: K. Kim and D. L. DeMets, Biometrika 74 (1987) 149–154, the power family.
    """
    if not looks or looks[0] < 1 or any(a >= b for a, b in itertools.pairwise(looks)):
        raise InputError("The looks of a race", "be increasing whole numbers above 0", list(looks))
    if not 0 < level < 1:
        raise InputError("The level of a test", "be a number in (0, 1)", level, "Try 0.05.")
    squares = itertools.pairwise(n * n for n in (0, *looks))
    return tuple(level * ((after - before) / looks[-1] ** 2) for before, after in squares)


def seeds_to_decide(advantages: Values, pairs: int) -> int | None:
    """How many seeds would probably tell two optimizers apart, if they differ as much as was observed.

    The smallest n for which a test at the level α = 5 % / pairs, Holm's strictest, decides with a
    probability of 80 %, should the differences be normal with the observed mean d̄ and standard deviation s:
    P(T > t) ≥ 0.8 with T noncentral t, n − 1 degrees of freedom, shift √n · d̄/s. In place of α stands the
    level that n signs can attain, the largest multiple of 2^(1−n) up to α: the sign-flip test is about as
    powerful as the t-test at that level.

    The observed difference is itself uncertain, and so is the advice: it is a plan, not a promise. None if
    there is no difference, or it would take more than 1,000 seeds; with a single seed, too, there is no s.

    Arguments: `advantages`, the paired differences of two optimizers in any unit; `pairs`, how many pairs
    the race compares.

    Raises `InputError` if an advantage is not finite or pairs is below 1.

    >>> seeds_to_decide([0.0, 2.0], pairs=1)  # d̄ = 1, s = √2
    18
    >>> seeds_to_decide([1.0, 1.0, 1.0], pairs=6)  # no spread at all: the fewest that 4 optimizers take
    8
    >>> seeds_to_decide([1.0, -1.0], pairs=1) is None
    True
    """
    from scipy import special  # takes a quarter of a second, and most runs need none of it

    x = np.asarray(advantages, dtype=np.float64)
    if not np.isfinite(x).all():
        raise InputError("The advantages of a pair", "be finite", list(map(float, x)))
    if pairs < 1:
        raise InputError("The pairs of a race", "be 1 or more", pairs)
    if x.size < 2 or math.isclose(x.mean(), 0.0, abs_tol=1e-12 * float(np.abs(x).max(initial=0.0))):
        return None
    n = np.arange(2.0, MOST + 1)
    attained = _attained(n, LEVEL / pairs)
    able = attained > 0
    n, attained = n[able], attained[able]
    deviation = x.std(ddof=1)
    if deviation <= 1e-12 * abs(x.mean()):
        return int(n[0])
    bound = special.stdtrit(n - 1, 1 - attained / 2)
    power = 1 - special.nctdtr(n - 1, np.sqrt(n) * abs(x.mean()) / deviation, bound)
    enough = n[power >= POWER]
    return int(enough[0]) if enough.size else None


def _attained(n: Array, level: float) -> Array:
    """Return the largest multiple of 2^(1−n) that is at most the level."""
    grid = 2.0 ** np.minimum(n - 1, 60)  # beyond, the level itself to all digits
    attained: Array = np.floor(level * grid) / grid
    return attained

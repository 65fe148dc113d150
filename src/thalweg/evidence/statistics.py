"""The paired sign-flip test, its interval, and Holm's correction.

All of it rests on one observation. A pattern of signs splits the values d₁…dₙ into those that keep
their sign, with sum P, and those that change it, with sum M. The observed sum is T = P + M, the flipped
one S = P − M, and T² − S² = 4PM: the flipped sum is as far from 0 as the observed one, |S| ≥ |T|, exactly
when P and M do not share a sign. So the test looks at *splits in two parts*, and so does its interval.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import InputError
from thalweg.records import Direction

LEVEL: Final = 0.05  # the chance of any false finding in a race between equals
EXACT_UP_TO: Final = 20  # values; 2^19 splits, some 20 MB for a moment
DRAWS: Final = 99_999  # random splits beyond that: p is then a multiple of 10^-5
ROUNDING: Final = 1e-9  # relative: what differs by less is equal

Values = Sequence[float] | NDArray[np.float64]
Array = NDArray[np.float64]


def sign_flip_p(differences: Values) -> float:
    """Two-sided p of the paired sign-flip test: could the mean difference be chance?

    If neither of two optimizers is better, each seed's difference dᵢ could as well have had the other
    sign. p = #{s ∈ {−1, 1}ⁿ : |Σ sᵢdᵢ| ≥ |Σ dᵢ|} / 2ⁿ, so no p is smaller than 2^(1−n). Nothing is
    assumed about the distribution of the |dᵢ|.

    All patterns are counted up to n = 20. Beyond, p = (1 + hits) / (1 + draws) over 99,999 patterns that
    are drawn from one fixed stream, so that the same differences always give the same p.

    Accuracies are fractions, so equal |sums| are common, and rounding must not break such ties. |Σ sᵢdᵢ|
    equals |Σ dᵢ| where one part of the split sums to 0 (see the head of this file); a part counts as 0
    if its sum is below 1e-9 of the sum of its absolute values. That is far above the rounding of scores
    of up to a million examples and can only raise p. It is measured within the part, so that one huge
    difference does not turn all others into ties.

    Raises `InputError` if there is no difference or one is not finite.

    >>> sign_flip_p([1, 2, 3])  # only +++ and −−− are as far from 0: 2 of 8
    0.25
    >>> sign_flip_p([1, 2, -3]), sign_flip_p([0, 0, 0])
    (1.0, 1.0)

    Source: R. A. Fisher, *The Design of Experiments* (1935), section 21. The 1 added to hits and draws:
    Phipson and Smyth, Statistical Applications in Genetics and Molecular Biology 9 (2010), article 39.
    """
    d = _checked(differences, "The differences of a sign-flip test")
    oriented = d * np.sign(d.sum())  # so that T ≥ 0, and a split counts where a part is not above 0
    (part, part_size), (rest, rest_size) = _splits(np.stack([oriented, np.abs(d)]))
    hits = (part <= ROUNDING * part_size) | (rest <= ROUNDING * rest_size)
    return float((1 + np.count_nonzero(hits)) / (1 + hits.size))


def sign_flip_interval(values: Values, level: float = 0.95) -> tuple[float, float] | None:
    """Interval for the centre of the values: every c with sign_flip_p(values − c) > 1 − level.

    It covers the centre of a symmetric distribution with at least probability ``level``, whatever its
    shape; for skewed values it covers the mean less often (measured on the page ``docs/verdict.md``).
    None where the test cannot reject anything at this level, 2^(1−n) > 1 − level, and the interval would
    be unbounded: below 6 values for 95 %.

    Apply the head of this file to the values xᵢ − c: the parts of a split do not share a sign exactly
    when c lies between the means of the two parts. The mean of all values always does, being a weighted
    mean of the two. So, from the mean downwards, a split stops to count where c passes the lower of its two
    means, and p(c) = (1 + #{splits whose lower mean ≤ c}) / (1 + #splits). The smallest c with
    p(c) > 1 − level is therefore the k-th smallest lower mean, k = ⌊(1 − level)(1 + #splits)⌋, and the
    largest one is the k-th largest upper mean. No search is needed and the result is exact.

    Raises `InputError` if there is no value, one is not finite, or the level is not in (0, 1).

    >>> sign_flip_interval([3, 1, 6, 2, 5, 4])  # n = 6: k = ⌊0.05 · 32⌋ = 1, the outermost means
    (1.0, 6.0)
    >>> sign_flip_interval([1, 2, 3, 4, 5]) is None
    True

    Source: J. A. Hartigan, Using subsample values as typical values, JASA 64 (1969) 1303–1317.
    """
    if not 0 < level < 1:
        raise InputError("The level of an interval", "be a number in (0, 1)", level, "Try 0.95.")
    x = _checked(values, "The values of an interval")
    reference = x[0]  # means of what is left lose fewer digits, and equal values give exactly themselves
    (part, part_count), (rest, rest_count) = _splits(np.stack([x - reference, np.ones_like(x)]))
    k = math.floor((1 - level) * (1 + part.size))
    if k < 1:
        return None
    means, other_means = part / part_count, rest / rest_count
    low = np.partition(np.minimum(means, other_means), k - 1)[k - 1]
    high = np.partition(np.maximum(means, other_means), -k)[-k]
    return float(reference + low), float(reference + high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p: comparing it with α keeps the chance of *any* false finding below α.

    With p₍₁₎ ≤ … ≤ p₍ₘ₎ sorted, adjusted p₍ᵢ₎ = min(1, max_{j ≤ i} (m − j + 1) p₍ⱼ₎), given back in the
    order that came in. Valid however the tests depend on each other.

    Raises `InputError` if a p is not in [0, 1].

    >>> holm([0.5, 0.125, 0.25])  # 3 · 0.125, 2 · 0.25, 1 · 0.5
    [0.5, 0.375, 0.5]

    Source: S. Holm, Scandinavian Journal of Statistics 6 (1979) 65–70.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if not 0 <= p_values[i] <= 1:
            raise InputError("Each p of Holm's correction", "be a number in [0, 1]", p_values[i])
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def minimum_seeds(k: int, level: float = LEVEL) -> int:
    """The fewest seeds with which k optimizers can be told apart at all.

    The smallest n with 2^(1−n) ≤ level / (k(k−1)/2): the smallest p that n seeds can give must pass the
    strictest of Holm's steps over all pairs. One optimizer has no pair and counts as one: 6 seeds, the
    fewest that give it a 95 % interval.

    Raises `InputError` if k is below 1 or the level is not in (0, 1).

    >>> [minimum_seeds(k) for k in (1, 2, 4, 10)]
    [6, 6, 8, 11]
    """
    if k < 1:
        raise InputError("The number of optimizers", "be at least 1", k)
    if not 0 < level < 1:
        raise InputError("The level of a test", "be a number in (0, 1)", level, "Try 0.05.")
    pairs, seeds = max(1, k * (k - 1) // 2), 1
    while pairs * 2.0 ** (1 - seeds) > level:
        seeds += 1
    return seeds


def advantages(a: Sequence[float | None], b: Sequence[float | None], direction: Direction) -> Array:
    """How much better a is than b on each seed: sign · (aᵢ − bᵢ), positive where a is better.

    None is a diverged seed and worse than any number; two of them are equal. Where exactly one diverged,
    the advantage is ±D, with D above the sum of all finite ones, so that no sum of those outweighs it; in
    a sign-flip test every such D gives the same p. D depends on the sizes of the differences and not on
    their signs, so the test stays exact. Scores that agree to 1e-9 of their size are equal.

    Raises `InputError` if the two do not have the same seeds or a score is neither finite nor None.

    >>> advantages([3, 5, None], [1, 5, 4], Direction.HIGHER)  # D = 2 · (2 + 0)
    array([ 2.,  0., -4.])
    """
    if len(a) != len(b):
        raise InputError("Two optimizers that are compared", "have the same seeds", f"{len(a)} and {len(b)}")
    for score in (*a, *b):
        if score is not None and not math.isfinite(score):
            raise InputError("A score", "be finite or None", score, "None is the score of a diverged seed.")
    both = [None if x is None or y is None else _difference(x, y) for x, y in zip(a, b, strict=True)]
    beyond = 2 * sum(abs(d) for d in both if d is not None) or 1.0
    return np.array(
        [
            beyond * ((x is not None) - (y is not None)) if d is None else direction.sign * d
            for d, x, y in zip(both, a, b, strict=True)
        ],
        dtype=np.float64,
    )


def probability_better(a: Sequence[float | None], b: Sequence[float | None], direction: Direction) -> float:
    """How often a beats b on the same seed, a tie counting half: mean of 1[a better] + ½·1[equal].

    The size of an effect, and no test: at a difference of one standard deviation of a seed's score, with
    independent scores, its true value is Φ(1/√2) = 0.76. None is a diverged seed, worse than any number.

    Raises `InputError` if the two do not have the same seeds or a score is neither finite nor None.

    >>> probability_better([0.9, 0.8, 0.7, 0.6], [0.8, 0.8, 0.8, None], Direction.HIGHER)
    0.625
    """
    return float(np.mean((1 + np.sign(advantages(a, b, direction))) / 2))


def _difference(x: float, y: float) -> float:
    return 0.0 if math.isclose(x, y, rel_tol=ROUNDING) else x - y


def _checked(values: Values, who: str) -> Array:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or not x.size:
        raise InputError(who, "be a list of at least one number", f"shape {x.shape}")
    with np.errstate(over="ignore"):
        usable = bool(np.isfinite(np.abs(x).sum()))  # false too where only the sum overflows
    if not usable:
        raise InputError(who, "be finite, and so must be their sum", list(map(float, x)))
    return x


def _splits(table: Array) -> tuple[Array, Array]:
    """Split n columns in two nonempty parts, in every way or in many, and sum each row over each part.

    The rows of ``table`` (m, n) give two arrays (m, splits). A split and its mirror image are one.
    """
    rows, n = table.shape
    if n <= EXACT_UP_TO:
        # Subset number b takes the columns of the bits of b, so its complement stands mirrored.
        sums = np.zeros((rows, 1))
        for column in table.T:
            sums = np.concatenate([sums, sums + column[:, None]], axis=1)
        half = slice(1, 2 ** (n - 1))  # without the empty set and its complement
        return sums[:, half], sums[:, ::-1][:, half]
    # The raw stream of a bit generator is what NumPy promises never to change.
    generator, words = np.random.PCG64(20), -(-n // 64)
    parts, rests = [], []
    block = max(1, 2**20 // n)  # bounds the memory
    for start in range(0, DRAWS, block):
        draws = min(block, DRAWS - start)
        raw = generator.random_raw(draws * words).astype("<u8").view(np.uint8)
        chosen = np.unpackbits(raw.reshape(draws, -1), axis=1)[:, :n].astype(np.float64)
        chosen = chosen[(chosen.min(axis=1) == 0) & (chosen.max(axis=1) == 1)]  # two nonempty parts
        parts.append(table @ chosen.T)
        rests.append(table @ (1 - chosen).T)
    return np.concatenate(parts, axis=1), np.concatenate(rests, axis=1)

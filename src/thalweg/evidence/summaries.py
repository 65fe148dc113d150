"""Single numbers that sum up many trials: what tuning buys, and how much the choice of a rate matters."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from thalweg.errors import InputError
from thalweg.records import Direction

Scores = Sequence[float | None]


def interquartile_mean(values: Sequence[float]) -> float:
    """Mean of the middle half of the values: not moved by a few outliers, and steadier than the median.

    A quarter of the weight is cut off at either end, n/4 values, and a value that is cut in two counts with
    the part that is left: IQM = 2 ∫ Q(u) du over u from ¼ to ¾, with Q(u) = x₍⌈nu⌉₎ of the sorted values.
    Where 4 divides n this is the mean of the middle n/2; SciPy's ``trim_mean`` rounds n/4 down instead, so
    that of five values it averages three, and this one 2 ½.

    Raises `InputError` if there is no value or one is not finite.

    >>> interquartile_mean([9, 1, 2, 4])  # of 1, 2, 4, 9 the middle two
    3.0
    >>> interquartile_mean([5, 0, 1, 2, 100])  # (¾ · 1 + 2 + ¾ · 5) / 2.5
    2.6

    Source: R. Agarwal et al., Deep reinforcement learning at the edge of the statistical precipice,
    NeurIPS 2021 (arXiv:2108.13264).
    """
    _check_finite("The values of an interquartile mean", values)
    x, n = sorted(values), len(values)
    kept = [max(0.0, min(i + 1, 3 * n / 4) - max(i, n / 4)) for i in range(n)]
    return math.fsum(w * v for w, v in zip(kept, x, strict=True)) / (n / 2)


def best_of_k(scores: Scores, direction: Direction) -> tuple[float | None, ...]:
    """Score to expect from the best of k trials, for k = 1 … n, from n trials that were drawn alike.

    With the scores sorted, v₍₁₎ the best: E[best of k] = Σᵢ v₍ᵢ₎ · C(n − i, k − 1) / C(n, k), the mean of the
    best over all sets of k of the n trials. It shows how much tuning an optimizer needs: one that is good at
    k = 1 needs none. It holds for trials that do not depend on each other's results, such as those of a
    fixed grid; not for rates that were added where the best lay.

    None is the score of a diverged trial and worse than any number; there is no expectation, None, as long
    as all k may have diverged.

    Raises `InputError` if there is no score or one is neither finite nor None.

    >>> best_of_k([1.0, 3.0, 2.0], Direction.LOWER)  # k = 2: of 1·3, 1·2 and 3·2 the best are 1, 1, 2
    (2.0, 1.3333333333333333, 1.0)
    >>> best_of_k([0.5, None, 0.75], Direction.HIGHER)
    (None, 0.6666666666666666, 0.75)

    Source: J. Dodge et al., Show your work, EMNLP 2019 (arXiv:1909.03004), there with replacement; for
    optimizers, P. T. Sivaprasad et al., ICML 2020 (arXiv:1910.11758).
    """
    finite = [x for x in scores if x is not None]
    if not scores:
        raise InputError("The scores of a best of k", "be one or more", "none")
    if finite:
        _check_finite("The scores of a best of k", finite)
    n, diverged = len(scores), len(scores) - len(finite)
    ranked = sorted(finite, key=lambda x: -direction.sign * x)
    return tuple(
        # The diverged ones rank last, where C(n − i, k − 1) is 0 as soon as k exceeds their number.
        None
        if k <= diverged
        else math.fsum(v * math.comb(n - i, k - 1) for i, v in enumerate(ranked, start=1)) / math.comb(n, k)
        for k in range(1, n + 1)
    )


def rate_sensitivity(
    rates: Sequence[float], losses: Scores, initial_loss: float, best_loss: float | None = None
) -> float:
    """How much loss a rate costs that is picked blindly: S = E[min(ℓ(η), ℓ₀) − ℓ*], log η uniform.

    The expectation is taken over the rates that were tried, with the trapezoid rule on log η; ℓ₀ is the loss
    before training, and what a diverged rate (None) counts as; ℓ* is the smallest loss. 0 says that every
    rate is as good as the best; the sensitivities of two optimizers compare only over equally many decades.

    Arguments: `rates`, two or more different numbers above 0, in any order; `losses`, one each; `best_loss`,
    ℓ*, where another one than the smallest of these is to be compared with.

    Raises `InputError` if the rates are not so, or a loss is not finite.

    >>> rate_sensitivity([0.01, 0.1, 1.0], [1.0, 0.5, None], initial_loss=2.0)  # mean of ¼ and 1
    0.5

    Source: M. Wortsman et al., Small-scale proxies for large-scale Transformer training instabilities,
    ICLR 2024 (arXiv:2309.14322).
    """
    _check_rates(rates, len(losses), least=2)
    finite = [x for x in losses if x is not None]
    _check_finite("The losses of a sensitivity", [*finite, initial_loss])
    pairs = sorted(zip(rates, losses, strict=True))
    bounded = [initial_loss if x is None else min(x, initial_loss) for _, x in pairs]
    best = min(bounded) if best_loss is None else best_loss
    logs = [math.log(rate) for rate, _ in pairs]
    area = math.fsum(
        (logs[i + 1] - logs[i]) * ((bounded[i] - best) + (bounded[i + 1] - best)) / 2
        for i in range(len(logs) - 1)
    )
    return area / (logs[-1] - logs[0])


@dataclass(frozen=True)
class Basin:
    """The rates around the best one that are as good, as far as seeds can tell."""

    low: float
    high: float
    decades: float  # log₁₀(high / low)
    open_low: bool  # it reaches the smallest rate that was tried, and may go on
    open_high: bool  # likewise the largest

    @property
    def open(self) -> bool:
        """Whether it may be wider than what was tried."""
        return self.open_low or self.open_high


def basin(rates: Sequence[float], scores: Sequence[Scores], direction: Direction) -> Basin | None:
    """Return the decades of rate around the best whose mean score is within one seed's standard deviation.

    The deviation is pooled within the best rate and its two neighbours, s² = Σᵣ Σᵢ (xᵣᵢ − x̄ᵣ)² / Σᵣ (nᵣ − 1),
    over those of them that did not diverge: what another seed does at one rate, without what another rate
    does. From the best rate the basin goes out on both sides as far as the mean score stays within s of the
    best one; between the last rate within and the first one outside, the mean is taken as a line in log η.
    A rate that diverged on one seed or more has no mean to draw a line to: the basin ends at the rate before.

    Arguments: `rates`, different numbers above 0, in any order; `scores`, the seeds' scores at each. None if
    every rate diverged, or neither the best rate nor a neighbour has two seeds to compare.

    Raises `InputError` if the rates are not so, a rate has no score, or one is neither finite nor None.

    >>> scores = [[0.5, 0.5], [0.8, 1.0], [0.7, 0.9], [0.0, 0.2]]  # s² = (2 · 0.01 + 2 · 0.01) / 3
    >>> found = basin([0.01, 0.1, 1.0, 10.0], scores, Direction.HIGHER)
    >>> found.open, round(found.decades, 3)  # 0.115 / 0.4 of the decade below, 1 + 0.015 / 0.7 above
    (False, 1.311)

    Source: the width of Wortsman et al., 2024 (arXiv:2309.14322) with the seeds as its tolerance.
    """
    _check_rates(rates, len(scores), least=1)
    for own in scores:
        if not own:
            raise InputError("Each rate of a basin", "have one or more scores", "none")
        if finite := [x for x in own if x is not None]:
            _check_finite("The scores of a basin", finite)
    pairs = sorted(zip(rates, scores, strict=True), key=lambda pair: pair[0])
    means = [_mean(own, direction) for _, own in pairs]
    best = max(range(len(pairs)), key=lambda i: means[i])
    if means[best] == -math.inf:
        return None
    near = [pairs[i][1] for i in (best - 1, best, best + 1) if 0 <= i < len(pairs) and means[i] > -math.inf]
    freedom = sum(len(own) - 1 for own in near)
    if freedom == 0:
        return None
    squares = math.fsum((x - fmean(_numbers(own))) ** 2 for own in near for x in _numbers(own))
    bound = means[best] - math.sqrt(squares / freedom)
    ascending = [rate for rate, _ in pairs]
    low, open_low = _end(ascending[best::-1], means[best::-1], bound)
    high, open_high = _end(ascending[best:], means[best:], bound)
    return Basin(low, high, math.log10(high / low), open_low, open_high)


def _end(rates: Sequence[float], means: Sequence[float], bound: float) -> tuple[float, bool]:
    """Go outwards from the best rate: where the means fall below the bound, and whether they never do."""
    for i in range(1, len(rates)):
        if means[i] == -math.inf:
            return rates[i - 1], False
        if means[i] < bound:
            share = (means[i - 1] - bound) / (means[i - 1] - means[i])
            return rates[i - 1] * (rates[i] / rates[i - 1]) ** share, False
    return rates[-1], True


def _numbers(scores: Scores) -> list[float]:
    return [x for x in scores if x is not None]


def _mean(scores: Scores, direction: Direction) -> float:
    """Return the mean, the larger the better; −∞ as soon as one diverged."""
    return direction.sign * fmean(_numbers(scores)) if None not in scores else -math.inf


def _check_rates(rates: Sequence[float], count: int, least: int) -> None:
    usable = all(math.isfinite(rate) and rate > 0 for rate in rates)
    if len(rates) < least or not usable or len(set(rates)) < len(rates):
        raise InputError("The rates", f"be {least} or more different numbers above 0", list(rates))
    if len(rates) != count:
        raise InputError("What is measured of rates", "have one entry each", f"{count} for {len(rates)}")


def _check_finite(who: str, values: Sequence[float]) -> None:
    if not values or not all(math.isfinite(x) for x in values):
        raise InputError(who, "be one or more finite numbers", list(values))

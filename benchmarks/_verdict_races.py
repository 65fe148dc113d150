"""Simulated races for `verdict.py`: what the verdict says where the truth is known."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from thalweg.evidence import (
    Finals,
    advantages,
    judge,
    levels,
    seeds_to_decide,
    sign_flip_interval,
    sign_flip_p,
)
from thalweg.evidence.looks import POWER
from thalweg.records import Direction, Verdict

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]

# What each optimizer's score has of its own on a seed. The means are 0, or the truth that is compared with.
NOISES: Mapping[str, Draw] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "heavy tails": lambda rng, shape: rng.standard_t(2, size=shape),
    "skewed": lambda rng, shape: rng.exponential(size=shape) - 1.0,
}
LOG_NORMAL: Draw = lambda rng, shape: rng.lognormal(size=shape) - math.exp(0.5)  # noqa: E731


def verdict_of(scores: Array, level: float = 0.05) -> Verdict:
    """Judge scores (optimizers, seeds)."""
    without = (None,) * scores.shape[1]
    finals = [Finals(f"o{i}", 0.1, row.tolist(), without, without) for i, row in enumerate(scores)]
    return judge(finals, Direction.HIGHER, "score", level=level)


def at_looks(scores: Array, looks: Sequence[int]) -> Verdict:
    """Judge at one look after the other, as a race does: up to the first with a winner."""
    for seeds, level in zip(looks, levels(looks), strict=True):
        verdict = verdict_of(scores[:, :seeds], level)
        if verdict.winner is not None:
            return verdict
    return verdict


def equals(noise: str, optimizers: int, looks: Sequence[int], races: int, stream: int) -> dict[str, Any]:
    """Race optimizers that are equally good: how often is one of them said to be better?"""
    rng = np.random.default_rng([1, stream])
    winners = findings = ran = 0
    for _ in range(races):
        shape = (optimizers, looks[-1])
        scores = rng.normal(size=looks[-1]) + NOISES[noise](
            rng, shape
        )  # what a seed does to all, and to each
        verdict = at_looks(scores, looks)
        winners += verdict.winner is not None
        findings += any(pair.better for pair in verdict.pairs)
        ran += verdict.seeds
    return {
        "noise": noise, "optimizers": optimizers, "looks": list(looks), "races": races,
        "false_winners": share(winners, races), "any_false_finding": share(findings, races),
        "mean_seeds": ran / races,
    }  # fmt: skip


def unequal(noise: str, looks: Sequence[int], effect: float, races: int, stream: int) -> dict[str, Any]:
    """Race two optimizers that differ by so many standard deviations of the paired difference."""
    rng = np.random.default_rng([2, stream])
    found = wrong = ran = 0
    spread = 1.0 if noise == "heavy tails" else math.sqrt(2)  # t with 2 degrees of freedom has no variance
    for _ in range(races):
        scores = rng.normal(size=looks[-1]) + NOISES[noise](rng, (2, looks[-1]))
        scores[0] += effect * spread
        verdict = at_looks(scores, looks)
        found += verdict.winner == "o0"
        wrong += verdict.winner == "o1"
        ran += verdict.seeds
    return {
        "noise": noise, "looks": list(looks), "effect": effect, "races": races,
        "found": share(found, races), "wrong": share(wrong, races), "mean_seeds": ran / races,
    }  # fmt: skip


def coverage(noise: str, seeds: int, intervals: int, stream: int) -> dict[str, Any]:
    """Draw scores around 0: how often does the interval of their mean hold it?"""
    rng = np.random.default_rng([3, stream])
    draw = LOG_NORMAL if noise == "log-normal" else NOISES[noise]
    held = 0
    for _ in range(intervals):
        low, high = sign_flip_interval(draw(rng, (seeds,))) or (math.inf, -math.inf)
        held += low <= 0 <= high
    return {"noise": noise, "seeds": seeds, "intervals": intervals, "held": share(held, intervals)}


def coverage_of_pairs(
    noise: str, looks: Sequence[int], effect: float, races: int, stream: int
) -> dict[str, Any]:
    """Race two optimizers: how often does the interval of their difference hold the true one, at the end?"""
    rng = np.random.default_rng([4, stream])
    truth, held = effect * math.sqrt(2), 0
    for _ in range(races):
        scores = rng.normal(size=looks[-1]) + NOISES[noise](rng, (2, looks[-1]))
        scores[0] += truth
        (pair,) = at_looks(scores, looks).pairs
        sign = 1 if pair.a == "o0" else -1
        assert pair.interval is not None
        low, high = sorted(sign * x for x in pair.interval)
        held += low <= truth <= high
    return {
        "noise": noise, "looks": list(looks), "effect": effect, "intervals": races,
        "held": share(held, races),
    }  # fmt: skip


def advised(effect: float, pairs: int, repeats: int, stream: int) -> dict[str, Any]:
    """Advise from differences whose mean and deviation are the truth, and repeat with so many seeds."""
    rng = np.random.default_rng([5, stream])
    x = np.arange(12) - 5.5
    seeds = seeds_to_decide(effect + x / x.std(ddof=1), pairs)
    assert seeds is not None
    decided = sum(sign_flip_p(rng.normal(effect, 1, seeds)) <= 0.05 / pairs for _ in range(repeats))
    return {
        "effect": effect, "pairs": pairs, "seeds": seeds, "repeats": repeats,
        "decided": share(decided, repeats),
    }  # fmt: skip


def advised_after_a_tie(effect: float, seeds: int, races: int, stream: int) -> dict[str, Any]:
    """Race two optimizers; where they tie, what is advised, and how often would that many seeds decide?

    The power of the advised number is that of the t-test, at the level that so many signs attain: `advised`
    tests that this is the power of the sign-flip test.
    """
    rng = np.random.default_rng([6, stream])
    given, powers = [], []
    ties = 0
    while ties < races:
        scores = rng.normal(size=(2, seeds))
        scores[0] += effect * math.sqrt(2)
        if verdict_of(scores).winner is not None:
            continue
        ties += 1
        number = seeds_to_decide(advantages(scores[0].tolist(), scores[1].tolist(), Direction.HIGHER), 1)
        if number is not None:
            given.append(number)
            powers.append(_power(effect, number))
    return {
        "effect": effect, "seeds": seeds, "ties": races, "advised": share(len(given), races),
        "advice": np.quantile(given, (0.1, 0.5, 0.9)).tolist(),
        "enough": share(sum(p >= POWER for p in powers), len(powers)), "mean_power": float(np.mean(powers)),
    }  # fmt: skip


def _power(effect: float, seeds: int) -> float:
    attained = math.floor(0.05 * 2.0 ** min(seeds - 1, 60)) / 2.0 ** min(seeds - 1, 60)
    bound = stats.t.ppf(1 - attained / 2, seeds - 1)
    return float(stats.nct.sf(bound, seeds - 1, math.sqrt(seeds) * effect))


def share(count: int, of: int) -> dict[str, float]:
    """Return a share with the 95 % interval of Clopper and Pearson."""
    low = float(stats.beta.ppf(0.025, count, of - count + 1)) if count else 0.0
    high = float(stats.beta.ppf(0.975, count + 1, of - count)) if count < of else 1.0
    return {"count": count, "of": of, "share": count / of, "low": low, "high": high}

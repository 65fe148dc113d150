"""What the final trials of a race decide, and the sentences that say it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from thalweg.errors import InputError
from thalweg.evidence.statistics import (
    LEVEL,
    advantages,
    holm,
    minimum_seeds,
    probability_better,
    sign_flip_interval,
    sign_flip_p,
)
from thalweg.records import Direction, Pair, Standing, Verdict

Scores = Sequence[float | None]


@dataclass(frozen=True)
class Finals:
    """The final trials of one optimizer: entry i of each list belongs to final seed i of the race."""

    optimizer: str
    rate: float | None  # None: every rate that was tried diverged, there are no finals, all lists are empty
    scores: Scores = ()  # the ranking metric on validation data; None: diverged on this seed
    tests: Scores = ()  # the same on test data; None: diverged, or no test data
    gaps: Scores = ()  # how much worse the ranking metric is on test than on training data; None likewise
    edge: str | None = None  # "lowest" or "highest" if the rate lies at that end of those tried


def judge(finals: Sequence[Finals], direction: Direction, metric: str, *, level: float = LEVEL) -> Verdict:
    """Decide a race from its final trials.

    Every two optimizers are compared seed by seed (`sign_flip_p` of their `advantages`), with Holm's
    correction over all pairs. One that is better than every other wins. Otherwise those tie that the
    leader, first in the ranking, is not better than. Between equals the chance of any false finding is
    at most ``level``; where a race is judged several times, the `levels` of its looks add up to 5 %.

    The ranking goes by the mean score. A diverged seed is worse than any number, so whoever diverged on
    fewer seeds stands higher, and only then the mean over the other seeds counts. The test follows the same
    order (see `advantages`). An optimizer without finals stands last and takes no part in the comparison.

    With fewer seeds than `minimum_seeds` no pair can be decided: there is no winner, all tie, and the first
    sentence says so. Of an optimizer that is alone there is a ranking, no winner and no tie. The same
    finals always give the same verdict; the intervals of pairs are not corrected for their number.

    Raises `InputError` if there are no finals, two have one name, the number of seeds differs, a number is
    not finite, or the level is not in (0, 0.05].

    >>> untested = (None,) * 6
    >>> adam = Finals("adam", 0.001, (0.9, 0.8, 0.9, 0.8, 0.9, 0.8), tests=untested, gaps=untested)
    >>> sgd = Finals("sgd", 0.1, (0.7, 0.7, 0.8, 0.7, 0.8, 0.7), tests=untested, gaps=untested)
    >>> verdict = judge([sgd, adam], Direction.HIGHER, "accuracy")
    >>> verdict.winner, verdict.pairs[0].p_holm  # six seeds agree: 2 of 2^6
    ('adam', 0.03125)
    >>> print(verdict.sentences[0])
    adam is best: validation accuracy 0.85 [0.8, 0.9], better than sgd over 6 seeds (Holm-corrected p 0.0312).
    """
    if not 0 < level <= LEVEL:
        raise InputError("The level of a verdict", f"be in (0, {LEVEL}]", level)
    seeds = _checked(finals)
    ranked = sorted(finals, key=lambda f: _place(f, direction))  # stable: equal ones in the order given
    compared = [f for f in ranked if f.scores]
    pairs = _pairs(compared, direction, level)
    beaten = {p.b for p in pairs if p.a == compared[0].optimizer and p.better == p.a}
    rivals = [f.optimizer for f in compared[1:] if f.optimizer not in beaten]
    ranking = tuple(_standing(f) for f in ranked)
    winner = compared[0].optimizer if beaten and not rivals else None
    tie = (compared[0].optimizer, *rivals) if rivals else ()
    needed = minimum_seeds(max(1, len(compared)), level)
    return Verdict(
        metric=metric,
        direction=direction,
        winner=winner,
        tie=tie,
        ranking=ranking,
        pairs=pairs,
        seeds=seeds,
        seeds_needed=needed,
        sentences=(
            *_decision(f"validation {metric}", ranking[: len(compared)], pairs, tie, needed, level),
            *_warnings(ranking, seeds),
        ),
    )


def _checked(finals: Sequence[Finals]) -> int:
    """Refuse finals that do not belong to one race; return its number of seeds."""
    names = [f.optimizer for f in finals]
    if not names or len(set(names)) < len(names):
        raise InputError("A verdict", "have one or more optimizers of different names", names)
    seeds = max(len(f.scores) for f in finals)
    for f in finals:
        expected = 0 if f.rate is None else max(1, seeds)
        for what, values in (("scores", f.scores), ("tests", f.tests), ("gaps", f.gaps)):
            who = f"The {what} of {f.optimizer}"
            if len(values) != expected:
                do = "There is one for each final seed, and none without a rate."
                raise InputError(who, f"have {expected} entries", len(values), do)
            if not all(x is None or math.isfinite(x) for x in values):
                raise InputError(who, "be finite or None", list(values), "A diverged trial has None.")
    return seeds


def _place(f: Finals, direction: Direction) -> tuple[bool, int, float]:
    finite = [x for x in f.scores if x is not None]
    return not f.scores, len(f.scores) - len(finite), -direction.sign * fmean(finite) if finite else 0.0


def _pairs(ranked: Sequence[Finals], direction: Direction, level: float) -> tuple[Pair, ...]:
    couples = list(combinations(ranked, 2))
    better_by = [advantages(a.scores, b.scores, direction) for a, b in couples]
    p_values = [sign_flip_p(x) for x in better_by]
    pairs = []
    for (a, b), x, p, p_holm in zip(couples, better_by, p_values, holm(p_values), strict=True):
        finite = None not in (*a.scores, *b.scores)
        differences = direction.sign * x
        pairs.append(
            Pair(
                a=a.optimizer,
                b=b.optimizer,
                seeds=len(x),
                difference=fmean(differences) if finite else None,
                interval=sign_flip_interval(differences) if finite else None,
                p=p,
                p_holm=p_holm,
                probability_a_better=probability_better(a.scores, b.scores, direction),
                # A decided pair is decided for the one that ranks higher. Where both diverged equally often,
                # it was on the same seeds, and the means rank; or there are as many −D as +D, which are
                # out of balance within a part in at least half of all splits, so that p ≥ ½.
                better=a.optimizer if p_holm <= level else None,
            )
        )
    return tuple(pairs)


def _standing(f: Finals) -> Standing:
    return Standing(
        optimizer=f.optimizer,
        rate=f.rate,
        score=_mean(f.scores),
        interval=_interval(f.scores),
        test=_mean(f.tests),
        test_interval=_interval(f.tests),
        gap=_mean(f.gaps),
        diverged=sum(x is None for x in f.scores),
        seeds=len(f.scores),
        edge=f.edge,
    )


def _numbers(values: Scores) -> list[float] | None:
    """Return the values if there are some and none is missing: part of the seeds is no fair mean."""
    numbers = [x for x in values if x is not None]
    return numbers if numbers and len(numbers) == len(values) else None


def _mean(values: Scores) -> float | None:
    numbers = _numbers(values)
    return fmean(numbers) if numbers else None


def _interval(values: Scores) -> tuple[float, float] | None:
    numbers = _numbers(values)
    return sign_flip_interval(numbers) if numbers else None


def _decision(
    metric: str,
    compared: Sequence[Standing],
    pairs: Sequence[Pair],
    tie: Sequence[str],
    needed: int,
    level: float,
) -> list[str]:
    """Word the verdict itself: who is best, by how much, and how sure that is."""
    if not compared:
        return ["No optimizer could be trained: every rate that was tried diverged."]
    leader = compared[0]
    if leader.diverged == leader.seeds:
        return ["Every optimizer diverged on every final seed: there is nothing to compare."]
    if len(compared) == 1:
        return [f"{leader.optimizer} has no other to be compared with: {metric} {_mean_in_words(leader)}."]
    means = [f"{s.optimizer} {_mean_in_words(s)}" for s in compared if s.optimizer in tie]
    if leader.seeds < needed:
        at = "" if level == LEVEL else f" at a level of {100 * level:.3g} %"
        had = "was" if leader.seeds == 1 else "were"
        return [
            f"Not enough seeds to say which is best: {len(compared)} optimizers take at least {needed}{at}, "
            f"and there {had} {leader.seeds}.",
            f"So far the mean {metric} is: {_listed(means)}.",
        ]
    decided = [p for p in pairs if p.a == leader.optimizer and p.better]
    beaten = f"better than {_listed([p.b for p in decided])}" if decided else ""
    if not tie:
        return [
            f"{leader.optimizer} is best: {metric} {_mean_in_words(leader)}, {beaten} "
            f"over {leader.seeds} seeds ({_p(decided, level)}).",
            _effect(decided[0]),
        ]
    undecided = [p for p in pairs if p.a == leader.optimizer and not p.better]
    return [
        f"{_listed(tie)} tie: over {leader.seeds} seeds, what sets {leader.optimizer} apart from "
        f"{_listed(tie[1:])} may be chance ({_p(undecided, level)}).",
        f"Mean {metric}: {_listed(means)}.",
        *([f"{leader.optimizer} is {beaten} ({_p(decided, level)})."] if decided else []),
    ]


def _warnings(ranking: Sequence[Standing], seeds: int) -> list[str]:
    """Word what a reader must know before trusting the numbers."""
    sentences = []
    for s in ranking:
        if s.rate is None:
            sentences.append(
                f"Every rate of {s.optimizer} that was tried diverged: it stands last and was not compared."
            )
        if s.diverged:
            sentences.append(
                f"{s.optimizer} diverged on {s.diverged} of {_count(s.seeds, 'final seed')}, "
                "which counts as worse than any score."
            )
        if s.rate is not None and s.edge is not None:
            beyond = "lower" if s.edge == "lowest" else "higher"
            sentences.append(
                f"The best rate of {s.optimizer}, {s.rate:.4g}, is the {s.edge} that was tried: "
                f"a {beyond} one may be better."
            )
    if 0 < seeds < minimum_seeds(1):
        sentences.append(f"{_count(seeds, 'seed')} cannot give a 95 % interval: it takes {minimum_seeds(1)}.")
    return sentences


def _mean_in_words(s: Standing) -> str:
    if s.score is None:
        return f"without a mean ({s.diverged} of {_count(s.seeds, 'seed')} diverged)"
    return f"{s.score:.4g}" + (f" [{s.interval[0]:.4g}, {s.interval[1]:.4g}]" if s.interval else "")


def _effect(pair: Pair) -> str:
    """Say by how much the winner beats the next one; as p ≤ 5 %, the interval lies on one side of 0."""
    by = ""
    if pair.difference is not None and pair.interval is not None:
        low, high = sorted(map(abs, pair.interval))
        by = f"by {abs(pair.difference):.4g} [{low:.4g}, {high:.4g}] and "
    return f"It is ahead of {pair.b}, the next, {by}on {100 * pair.probability_a_better:.3g} % of the seeds."


def _p(pairs: Sequence[Pair], level: float) -> str:
    low, high = (f"{extreme(p.p_holm for p in pairs):.3g}" for extreme in (min, max))
    judged = "" if level == LEVEL else f", judged at {100 * level:.3g} %"
    return f"Holm-corrected p {low}" + (f" to {high}" if high != low else "") + judged


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))

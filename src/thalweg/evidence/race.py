"""A race judged from its plan and its traces alone: which rate each optimizer gets, and the verdict.

Running a race and redrawing a stored one go through the same functions, so they cannot disagree.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import NamedTuple

from thalweg.errors import InputError
from thalweg.evidence.looks import levels
from thalweg.evidence.verdict import Finals, judge
from thalweg.records import Contender, Direction, Ledger, LedgerRow, Outcome, Plan, Stage, Trace, Verdict


class RateScore(NamedTuple):
    """How one rate did at tuning."""

    rate: float
    score: float | None  # mean over the tuning seeds; None as soon as one of them diverged
    loss: float | None  # mean validation loss likewise: decides between equal scores
    seeds: int = 1  # fewer than others have: the rate was given up before


def tuned(traces: Iterable[Trace], contender: str) -> list[RateScore]:
    """Return how the rates of one optimizer did at tuning, the smallest rate first."""
    by_rate: dict[float, list[Trace]] = {}
    for trace in traces:
        if trace.contender == contender and trace.stage is Stage.TUNING:
            by_rate.setdefault(trace.rate, []).append(trace)
    return [
        RateScore(
            rate,
            _mean([t.score for t in by_rate[rate]]),
            _mean([t.validation.get("loss") for t in by_rate[rate]]),
            len(by_rate[rate]),
        )
        for rate in sorted(by_rate)
    ]


def best(scores: Sequence[RateScore], direction: Direction) -> int | None:
    """Return the place of the best rate: best mean score, then lower loss, then the smaller rate.

    Means over different numbers of seeds do not compare: a rate with fewer seeds was given up as one of the
    worse, so only the rates with the most seeds count, of those that did not diverge. None if all did.

    >>> best([RateScore(0.1, 0.8, 0.5), RateScore(1.0, 0.8, 0.4), RateScore(10.0, None, None)],
    ...      Direction.HIGHER)
    1
    """
    most = max((s.seeds for s in scores if s.score is not None), default=0)
    order = [
        (-direction.sign * s.score, s.loss if s.loss is not None else math.inf, place)
        for place, s in enumerate(scores)
        if s.score is not None and s.seeds == most
    ]
    return min(order)[2] if order else None


def chosen_rate(plan: Plan, traces: Iterable[Trace], contender: Contender) -> tuple[float | None, str | None]:
    """Return the rate that an optimizer runs its final trials with, and the edge at which it lies.

    The rate is None if every rate diverged; the edge is "lowest" or "highest" of those tried, or None.
    """
    if not contender.tuned:
        return contender.rates[0], None
    scores = tuned(traces, contender.name)
    place = best(scores, plan.direction)
    if place is None:
        return None, None
    edge = "lowest" if place == 0 else "highest" if place == len(scores) - 1 else None
    return scores[place].rate, edge if len(scores) > 1 else None


def verdict(plan: Plan, traces: Sequence[Trace]) -> Verdict:
    """Decide a race, and say so where tuning was not equal.

    A race with looks is judged with the final seeds of its last complete look, at the level of that look; one
    without, with all its final seeds.

    Raises `InputError` if the final trials of the first look are not all there.
    """
    complete, looks = _complete(plan, traces), _looks(plan)
    reached = sum(n <= complete for n in looks)
    if not reached:
        must = f"have {looks[0]} final seeds of every contender"
        raise InputError("A race that is judged", must, complete, "Run the rest of it.")
    judged = _judged(plan, traces, reached - 1)
    said = [_looks_in_words(looks, reached)] if len(looks) > 1 else []
    tried = {c.name: len(tuned(traces, c.name)) or 1 for c in plan.contenders}
    if len(set(tried.values())) > 1:
        each = ", ".join(f"{name} {count}" for name, count in tried.items())
        said.append(f"Tuning was not equal, which favours those that tried more rates: {each}.")
    return replace(judged, sentences=(*judged.sentences, *said))


def looked(plan: Plan, traces: Sequence[Trace]) -> int | None:
    """Return the number of final seeds after which the race may end; None if more of them are to be run.

    It may end at the first look at which there is a winner, and at the last one. A tie goes on.
    """
    complete, looks = _complete(plan, traces), _looks(plan)
    for place, seeds in enumerate(looks):
        if seeds > complete:
            return None
        if place == len(looks) - 1 or _judged(plan, traces, place).winner is not None:
            return seeds
    return None


def _looks(plan: Plan) -> tuple[int, ...]:
    return plan.looks or (len(plan.final_seeds),)


def _looks_in_words(looks: Sequence[int], reached: int) -> str:
    *early, last = map(str, looks)
    shares = " + ".join(f"{100 * share:.3g}" for share in levels(looks))
    ended = "ran to the last" if reached == len(looks) else f"ended after {looks[reached - 1]}"
    return (
        f"The race could end after {', '.join(early)} or {last} final seeds and {ended}: "
        f"the 5 % chance of a false finding is shared out among the looks, {shares} %."
    )


def _complete(plan: Plan, traces: Sequence[Trace]) -> int:
    """Return how many final seeds, from the first on, every contender that has a rate has run."""
    run = {(t.contender, t.seed) for t in traces if t.stage is Stage.FINAL}
    names = [c.name for c in plan.contenders if chosen_rate(plan, traces, c)[0] is not None]
    lacking = (
        place for place, seed in enumerate(plan.final_seeds) if not all((name, seed) in run for name in names)
    )
    return next(lacking, len(plan.final_seeds))


def _judged(plan: Plan, traces: Sequence[Trace], place: int) -> Verdict:
    """Judge at one look."""
    looks = _looks(plan)
    finals = [finals_of(plan, traces, c, plan.final_seeds[: looks[place]]) for c in plan.contenders]
    return judge(finals, plan.direction, plan.metric, level=levels(looks)[place])


def finals_of(plan: Plan, traces: Sequence[Trace], contender: Contender, seeds: Sequence[int]) -> Finals:
    """Return what the final trials of one contender left on these seeds."""
    rate, edge = chosen_rate(plan, traces, contender)
    if rate is None:
        return Finals(contender.name, None)
    by_seed = {t.seed: t for t in traces if t.contender == contender.name and t.stage is Stage.FINAL}
    finals = [by_seed[seed] for seed in seeds]
    return Finals(
        contender.name,
        rate,
        scores=[t.score for t in finals],
        tests=[(t.test or {}).get(plan.metric) for t in finals],
        gaps=[_gap(t, plan) for t in finals],
        edge=edge,
    )


def _gap(trace: Trace, plan: Plan) -> float | None:
    train, test = trace.train.get(plan.metric), (trace.test or {}).get(plan.metric)
    return None if train is None or test is None else plan.direction.sign * (train - test)


def ledger(plan: Plan, traces: Sequence[Trace]) -> Ledger:
    """Add up what a race cost, optimizer by optimizer.

    The finder's trials are counted apart: their rates are not among those tried, and as sweeps are made to
    diverge, only tuning and final trials are counted as diverged.
    """
    rows = []
    for contender in plan.contenders:
        own = [t for t in traces if t.contender == contender.name]
        finder = [t for t in own if t.stage in (Stage.SWEEP, Stage.SHORT)]
        compared = [t for t in own if t.stage in (Stage.TUNING, Stage.FINAL)]
        rows.append(
            LedgerRow(
                optimizer=contender.name,
                rates_tried=tuple(sorted({t.rate for t in compared})),
                tuning_trials=sum(t.stage is Stage.TUNING for t in own),
                final_trials=sum(t.stage is Stage.FINAL for t in own),
                diverged_trials=sum(t.outcome is Outcome.DIVERGED for t in compared),
                steps=sum(t.steps for t in own),
                gradient_examples=sum(_examples(t, plan, contender) for t in own),
                total_seconds=sum(t.total_seconds for t in own),
                finder_trials=len(finder),
                finder_steps=sum(t.steps for t in finder),
            )
        )
    return Ledger(tuple(rows), total_seconds=sum(t.total_seconds for t in traces))


def _examples(trace: Trace, plan: Plan, contender: Contender) -> int:
    """Return how many examples a trial has computed gradients of; the last batch of an epoch may be short."""
    batch_size = contender.batch_size or plan.batch_size
    epochs, rest = divmod(trace.steps, math.ceil(plan.train_examples / batch_size))
    return epochs * plan.train_examples + min(rest * batch_size, plan.train_examples)


def _mean(values: Sequence[float | None]) -> float | None:
    finite = [x for x in values if x is not None]
    return fmean(finite) if finite and len(finite) == len(values) else None

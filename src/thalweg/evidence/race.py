"""A race judged from its plan and its traces alone: which rate each optimizer gets, and the verdict.

Running a race and redrawing a stored one go through the same functions, so they cannot disagree.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import NamedTuple

from thalweg.evidence.verdict import Finals, judge
from thalweg.records import Contender, Direction, Ledger, LedgerRow, Outcome, Plan, Stage, Trace, Verdict


class RateScore(NamedTuple):
    """How one rate did at tuning."""

    rate: float
    score: float | None  # mean over the tuning seeds; None as soon as one of them diverged
    loss: float | None  # mean validation loss likewise: decides between equal scores


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
        )
        for rate in sorted(by_rate)
    ]


def best(scores: Sequence[RateScore], direction: Direction) -> int | None:
    """Return the place of the best rate: best mean score, then lower loss, then the smaller rate.

    None if every rate diverged.

    >>> best([RateScore(0.1, 0.8, 0.5), RateScore(1.0, 0.8, 0.4), RateScore(10.0, None, None)],
    ...      Direction.HIGHER)
    1
    """
    worst = math.inf
    order = [
        (
            -direction.sign * s.score if s.score is not None else worst,
            s.loss if s.loss is not None else worst,
            place,
        )
        for place, s in enumerate(scores)
    ]
    place = min(order)[2] if order else None
    return None if place is None or scores[place].score is None else place


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
    """Decide a finished race, and say so where tuning was not equal."""
    judged = judge([_finals(plan, traces, c) for c in plan.contenders], plan.direction, plan.metric)
    tried = {c.name: len(tuned(traces, c.name)) or 1 for c in plan.contenders}
    if len(set(tried.values())) > 1:
        each = ", ".join(f"{name} {count}" for name, count in tried.items())
        warning = f"Tuning was not equal, which favours those that tried more rates: {each}."
        judged = replace(judged, sentences=(*judged.sentences, warning))
    return judged


def _finals(plan: Plan, traces: Sequence[Trace], contender: Contender) -> Finals:
    rate, edge = chosen_rate(plan, traces, contender)
    if rate is None:
        return Finals(contender.name, None)
    by_seed = {t.seed: t for t in traces if t.contender == contender.name and t.stage is Stage.FINAL}
    finals = [by_seed[seed] for seed in plan.final_seeds]
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
    """Add up what a race cost, optimizer by optimizer."""
    rows = []
    for contender in plan.contenders:
        own = [t for t in traces if t.contender == contender.name]
        rows.append(
            LedgerRow(
                optimizer=contender.name,
                rates_tried=tuple(sorted({t.rate for t in own})),
                tuning_trials=sum(t.stage is Stage.TUNING for t in own),
                final_trials=sum(t.stage is Stage.FINAL for t in own),
                diverged_trials=sum(t.outcome is Outcome.DIVERGED for t in own),
                steps=sum(t.steps for t in own),
                gradient_examples=sum(round(_epochs(t, plan) * plan.train_examples) for t in own),
                total_seconds=sum(t.total_seconds for t in own),
            )
        )
    return Ledger(tuple(rows), total_seconds=sum(t.total_seconds for t in traces))


def _epochs(trace: Trace, plan: Plan) -> float:
    steps_per_epoch = math.ceil(plan.train_examples / plan.batch_size)
    whole, rest = divmod(trace.steps, steps_per_epoch)
    return whole + min(1.0, rest * plan.batch_size / plan.train_examples)


def _mean(values: Sequence[float | None]) -> float | None:
    finite = [x for x in values if x is not None]
    return fmean(finite) if finite and len(finite) == len(values) else None

"""What tuning measured: score against rate, how much the rate matters, what more trials would buy.

The numbers are those of `thalweg.evidence`, asked for what the traces of a race hold.
"""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from thalweg.evidence.race import best, tuned
from thalweg.evidence.summaries import Basin, basin, best_of_k, rate_sensitivity
from thalweg.records import Contender, Outcome, Race, Stage, Trace
from thalweg.report.curves import finals_of


@dataclass(frozen=True)
class RatePoint:
    """What tuning measured at one rate."""

    rate: float
    scores: tuple[float, ...]  # of each seed that did not diverge
    mean: float | None  # None as soon as one seed diverged: a mean of survivors would flatter the rate
    diverged: int
    chosen: bool


@dataclass(frozen=True)
class RateCurve:
    """Score against rate of one optimizer, rates ascending."""

    optimizer: str
    points: tuple[RatePoint, ...]
    basin: Basin | None  # rates as good as the best, as far as seeds can tell
    sensitivity: float | None  # validation loss that a rate costs which is picked blindly among these
    best: float | None  # the rate with the best mean score; None: every rate diverged
    expected: tuple[float | None, ...]  # score of the best of k rates of the first grid, k = 1, 2, …


def score_by_rate(race: Race) -> tuple[RateCurve, ...]:
    """Give what tuning measured at each rate, for the optimizers that were tuned."""
    curves = []
    for contender in race.plan.contenders:
        chosen = {t.rate for t in finals_of(race, contender.name)}
        trials: dict[float, list[Trace]] = {}
        for trace in race.traces:
            if trace.contender == contender.name and trace.stage is Stage.TUNING:
                trials.setdefault(trace.rate, []).append(trace)
        points = tuple(_rate_point(rate, trials[rate], rate in chosen) for rate in sorted(trials))
        if points:
            curves.append(_curve(race, contender, points))
    return tuple(curves)


def _curve(race: Race, contender: Contender, points: tuple[RatePoint, ...]) -> RateCurve:
    optimizer, direction = contender.name, race.plan.direction
    scores = [(*p.scores, *(None,) * p.diverged) for p in points]
    # A rate that was added where the best lay is not one that was drawn like the others.
    grid = [p for p in points if p.rate in contender.rates or not contender.rates]
    place = best(tuned(race.traces, optimizer), direction)
    return RateCurve(
        optimizer,
        points,
        basin=basin([p.rate for p in points], scores, direction),
        sensitivity=_sensitivity(race, optimizer),
        best=None if place is None else points[place].rate,
        expected=best_of_k([p.mean for p in grid] or [None], direction),
    )


def _sensitivity(race: Race, optimizer: str) -> float | None:
    own = [t for t in race.traces if t.contender == optimizer and t.stage is Stage.TUNING]
    initial = [t.initial_loss for t in own if t.initial_loss is not None]
    measured = tuned(own, optimizer)
    if len(measured) < 2 or not initial or all(m.loss is None for m in measured):
        return None
    return rate_sensitivity([m.rate for m in measured], [m.loss for m in measured], statistics.fmean(initial))


def _rate_point(rate: float, trials: Iterable[Trace], chosen: bool) -> RatePoint:
    scores = [None if t.outcome is Outcome.DIVERGED else t.score for t in trials]
    finished = tuple(s for s in scores if s is not None)
    diverged = len(scores) - len(finished)
    return RatePoint(rate, finished, None if diverged else statistics.fmean(finished), diverged, chosen)

"""What a report says beyond the records: medians, bands, arrivals and sentences, as pure functions.

Nothing is judged here (that is the verdict's) and nothing is drawn (that is `figures`): records in,
frozen results out. Curves are medians over the final seeds, as the tuning seeds chose the rate.
"""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from thalweg.records import Outcome, Race, Stage, Standing, Trace
from thalweg.report import words

Points = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Curve:
    """A quantity of one optimizer along the training: median and band over its final seeds."""

    optimizer: str
    steps: tuple[int, ...]
    epochs: tuple[float, ...]
    median: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    seeds: int  # that the median is over
    diverged: int  # final seeds that are left out because they diverged
    quartiles: bool  # the band is from the 25 % to the 75 % quantile; else from lowest to highest


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


@dataclass(frozen=True)
class Arrival:
    """When one optimizer's median training loss is first at the common level."""

    optimizer: str
    step: int
    epoch: float


@dataclass(frozen=True)
class Convergence:
    """Who first reaches a training loss that all reach."""

    level: float | None  # None: there is no curve
    arrivals: tuple[Arrival, ...]  # earliest first
    diverged: tuple[str, ...]  # optimizers with a diverged final seed; such seeds are left out


@dataclass(frozen=True)
class Row:
    """One optimizer in the final table."""

    standing: Standing
    step_seconds: float | None  # median over its final trials, on this machine
    state_bytes_per_parameter: float | None


def training_loss(race: Race) -> tuple[Curve, ...]:
    """Median training loss of each optimizer along the training, each point a mean over its window."""

    def points(trace: Trace) -> Points:
        pairs = zip(trace.loss_steps, trace.losses, strict=True)
        return [(step, loss) for step, loss in pairs if loss is not None]

    return _curves(race, points)


def validation_score(race: Race) -> tuple[Curve, ...]:
    """Median of the metric that ranks, on the validation part, of each optimizer along the training."""
    metric = race.plan.metric

    def points(trace: Trace) -> Points:
        values = [(e.step, e.loss if metric == "loss" else e.metrics.get(metric)) for e in trace.evaluations]
        return [(step, value) for step, value in values if value is not None]

    return _curves(race, points)


def score_by_rate(race: Race) -> tuple[RateCurve, ...]:
    """Give what tuning measured at each rate, for the optimizers that were tuned."""
    curves = []
    for contender in race.plan.contenders:
        chosen = {t.rate for t in _of(race, contender.name, Stage.FINAL)}
        trials: dict[float, list[Trace]] = {}
        for trace in _of(race, contender.name, Stage.TUNING):
            trials.setdefault(trace.rate, []).append(trace)
        points = [_rate_point(rate, trials[rate], rate in chosen) for rate in sorted(trials)]
        if points:
            curves.append(RateCurve(contender.name, tuple(points)))
    return tuple(curves)


def convergence(curves: Sequence[Curve]) -> Convergence:
    """Find when each optimizer reaches the training loss that all of them reach.

    The level is the highest of the medians at the end of the curves, so every optimizer reaches it
    at its end at the latest; an arrival is the first step whose median is at or below the level.
    """
    trained = [c for c in curves if c.median]
    diverged = tuple(c.optimizer for c in curves if c.diverged)
    if not trained:
        return Convergence(None, (), diverged)
    level = max(c.median[-1] for c in trained)
    arrivals = []
    for curve in trained:
        first = next(i for i, loss in enumerate(curve.median) if loss <= level)
        arrivals.append(Arrival(curve.optimizer, curve.steps[first], curve.epochs[first]))
    return Convergence(level, tuple(sorted(arrivals, key=lambda a: a.step)), diverged)


def checkpoints(
    curves: Sequence[Curve], count: int = 10
) -> tuple[tuple[float, tuple[float | None, ...]], ...]:
    """Read curves at about so many evenly spaced epochs: each epoch with the median of each curve.

    A curve that has not begun at an epoch has None there; one that has ended keeps its last value.
    """
    grid = max((c.epochs for c in curves), key=len, default=())
    every = max(1, round(len(grid) / count))
    return tuple(
        (epoch, tuple(_at(curve, epoch) for curve in curves))
        for epoch in sorted(grid[::-every])  # from the end, so that the last one is there
    )


def rows(race: Race) -> tuple[Row, ...]:
    """Give the final table, best first; empty while the race is unfinished."""
    if race.verdict is None:
        return ()
    table = []
    for standing in race.verdict.ranking:
        finals = _of(race, standing.optimizer, Stage.FINAL)
        timed = [t.step_seconds for t in finals if t.step_seconds is not None]
        table.append(
            Row(
                standing,
                statistics.median(timed) if timed else None,
                statistics.median(t.state_bytes_per_parameter for t in finals) if finals else None,
            )
        )
    return tuple(table)


def progress(race: Race) -> tuple[int, int]:
    """Count the trials that are done, and those that the plan allows at most."""
    return len(race.traces), race.plan.trials_at_most


def sentences(race: Race) -> tuple[str, ...]:
    """Say what the race shows, the most important first: verdict, speed, final score, gap."""
    if race.verdict is None:
        done, planned = progress(race)
        return (
            f"Unfinished: {done} of at most {planned} trials are done. "
            "The same command goes on where it stopped; nothing finished is run again.",
        )
    three = (convergence_sentence(race), best_sentence(race), gap_sentence(race))
    return tuple(s for s in (*race.verdict.sentences, *three) if s)


def convergence_sentence(race: Race) -> str:
    """Say who is fastest to converge."""
    curves = training_loss(race)
    found = convergence(curves)
    if found.level is None:
        return "Fastest to converge: nothing can be said, as no final trial was trained to its end."
    level, names = words.number(found.level, 2), [a.optimizer for a in found.arrivals]
    epochs = words.apart([a.epoch for a in found.arrivals])
    lead = [a.optimizer for a in found.arrivals if a.step == found.arrivals[0].step]
    if len(names) == 1:
        said = (
            f"Convergence: {names[0]} ends at a training loss of {level}, "
            f"which it first reaches after {epochs[0]} epochs."
        )
    elif len(lead) == len(names):
        said = (
            f"Fastest to converge: no difference; {_all(names)} first reach a training loss of {level} "
            f"after {epochs[0]} epochs."
        )
    else:
        later = list(zip(names, epochs, strict=True))[len(lead) :]
        needs = [f"{later[0][0]} needs {later[0][1]}", *(f"{name} {epoch}" for name, epoch in later[1:])]
        said = (
            f"Fastest to converge: {words.listing(lead)} {'reaches' if len(lead) == 1 else 'reach'} "
            f"a training loss of {level}, which {_all(names)} reach, after {epochs[0]} epochs; "
            f"{words.listing(needs)}."
        )
    return " ".join([said, *_left_out(curves)])


def best_sentence(race: Race) -> str:
    """Say who has the best final score, or who shares it, with the test value beside it."""
    verdict = race.verdict
    if verdict is None:
        return ""
    metric, leader = verdict.metric, verdict.ranking[0]
    decimals = words.decimals_of([s.interval for s in verdict.ranking], [s.score for s in verdict.ranking])

    def reached(standing: Standing) -> str:
        if standing.score is None:
            return f"diverged on {standing.diverged} of {words.plural(standing.seeds, 'seed')}"
        test = "" if standing.test is None else f", {words.fixed(standing.test, decimals)} on test data"
        return f"{words.fixed(standing.score, decimals)} on validation data{test}"

    if leader.diverged == leader.seeds:
        return f"Best final {metric}: none, as every optimizer diverged."
    if len(verdict.ranking) == 1:
        return f"Final {metric}: {leader.optimizer}, {reached(leader)}."
    if verdict.winner is not None:
        return f"Best final {metric}: {verdict.winner}, {reached(leader)}."
    if not verdict.tie or verdict.seeds < verdict.seeds_needed:
        return f"Best final {metric}: undecided; ahead so far is {leader.optimizer}, {reached(leader)}."
    shares = [f"{s.optimizer} ({reached(s)})" for s in verdict.ranking if s.optimizer in verdict.tie]
    return f"Best final {metric}: a tie between {words.listing(shares)}."


def gap_sentence(race: Race) -> str:
    """Say whose score on test data falls least, and most, behind that on training data."""
    if race.verdict is None:
        return ""
    gaps = sorted((s.gap, s.optimizer) for s in race.verdict.ranking if s.gap is not None)
    meaning = f"Generalisation gap (how much worse {race.verdict.metric} is on test than on training data)"
    if not gaps:
        return f"{meaning}: not measured."
    ends = [gaps[0][0], gaps[-1][0]]
    low, high = words.apart(ends, words.decimals_at(max(map(abs, ends)), 2))
    if len(gaps) == 1:
        return f"{meaning}: {low} with {gaps[0][1]}."
    if ends[0] == ends[1]:
        return f"{meaning}: {low} with {_all([name for _, name in gaps])}."
    return f"{meaning}: smallest with {gaps[0][1]}, {low}; largest with {gaps[-1][1]}, {high}."


def caption(curves: Sequence[Curve]) -> str:
    """Say what the line and the band of each curve are, and which seeds are not in them."""
    drawn = [c for c in curves if c.median]
    bands = "the middle half of them" if any(c.quartiles for c in drawn) else "from the lowest to the highest"
    if len({c.quartiles for c in drawn}) == 2:
        bands += ", with fewer than four from the lowest to the highest"
    seeds = sorted({c.seeds for c in drawn})
    over = words.plural(seeds[0], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    return " ".join([f"Line: median over {over}. Band: {bands}.", *_left_out(curves)])


def _of(race: Race, optimizer: str, stage: Stage) -> list[Trace]:
    return [t for t in race.traces if t.contender == optimizer and t.stage is stage]


def _curves(race: Race, points: Callable[[Trace], Points]) -> tuple[Curve, ...]:
    curves = (_curve(race, contender.name, points) for contender in race.plan.contenders)
    return tuple(c for c in curves if c.median or c.diverged)


def _curve(race: Race, optimizer: str, points: Callable[[Trace], Points]) -> Curve:
    finals = _of(race, optimizer, Stage.FINAL)
    diverged = sum(t.outcome is Outcome.DIVERGED for t in finals)
    series = [s for t in finals if t.outcome is not Outcome.DIVERGED and (s := points(t))]
    steps, values = _aligned(series)
    if not steps:
        return Curve(optimizer, (), (), (), (), (), len(series), diverged, quartiles=False)
    quartiles = len(series) >= 4
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75] if quartiles else [0, 0.5, 1], axis=0)
    epochs = tuple(step * race.plan.epochs / race.plan.steps for step in steps)
    return Curve(
        optimizer,
        steps,
        epochs,
        tuple(median.tolist()),
        tuple(low.tolist()),
        tuple(high.tolist()),
        seeds=len(series),
        diverged=diverged,
        quartiles=quartiles,
    )


def _at(curve: Curve, epoch: float) -> float | None:
    passed = [median for at, median in zip(curve.epochs, curve.median, strict=True) if at <= epoch]
    return passed[-1] if passed else None


def _aligned(series: Sequence[Points]) -> tuple[tuple[int, ...], np.ndarray]:
    """Put series on one grid of steps: the union, from where all have begun.

    Between its own steps, and after an early stop, a series keeps its last value.
    """
    if not series:
        return (), np.empty((0, 0))
    begun = max(points[0][0] for points in series)
    steps = sorted({step for points in series for step, _ in points if step >= begun})
    values = []
    for points in series:
        own = np.array([step for step, _ in points])
        last = np.searchsorted(own, steps, side="right") - 1
        values.append(np.array([value for _, value in points])[last])
    return tuple(steps), np.array(values)


def _rate_point(rate: float, trials: Iterable[Trace], chosen: bool) -> RatePoint:
    scores = [None if t.outcome is Outcome.DIVERGED else t.score for t in trials]
    finished = tuple(s for s in scores if s is not None)
    diverged = len(scores) - len(finished)
    return RatePoint(rate, finished, None if diverged else statistics.fmean(finished), diverged, chosen)


def _all(names: Sequence[str]) -> str:
    return "both" if len(names) == 2 else f"all {words.count(len(names))}"


def _left_out(curves: Iterable[Curve]) -> list[str]:
    missing = [
        f"{c.optimizer} on {c.diverged} of {words.plural(c.seeds + c.diverged, 'seed')}"
        for c in curves
        if c.diverged
    ]
    return [f"Diverged and left out here: {words.listing(missing)}."] if missing else []

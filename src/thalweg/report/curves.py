"""Quantities along the training, as pure functions: medians, bands, and who arrives when.

Nothing is judged here (that is the verdict's) and nothing is drawn (that is `figures`). Curves are
medians over the final seeds, as the tuning seeds chose the rate.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from thalweg.evidence.profile import time_to_target
from thalweg.records import Contender, Outcome, Plan, Race, Stage, Trace
from thalweg.report import words

Points = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Curve:
    """A quantity of one optimizer along the training: median and band over its final seeds."""

    optimizer: str
    steps: tuple[int, ...]
    epochs: tuple[float, ...]
    seconds: tuple[float, ...] | None  # steps × the median time of its steps; None: that was not measured
    median: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    seeds: int  # that the median is over
    diverged: int  # final seeds that are left out because they diverged
    quartiles: bool  # the band is from the 25 % to the 75 % quantile; else from lowest to highest


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
class TargetTime:
    """What it took one optimizer to reach the target of a race."""

    optimizer: str
    reached: int  # final seeds
    seeds: int  # final trials
    # The median over all final seeds, one that never reaches the target being later than all that do; None:
    # that median is such a seed.
    steps: float | None
    epochs: float | None
    seconds: float | None


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
    return Convergence(level, tuple(sorted(arrivals, key=lambda a: a.epoch)), diverged)


def target_times(race: Race) -> tuple[TargetTime, ...]:
    """Say what it took each optimizer to reach the target of the race; empty where it has none."""
    plan = race.plan
    if plan.target is None:
        return ()
    found = []
    for contender in plan.contenders:
        finals = finals_of(race, contender.name)
        if not finals:
            continue
        times = [time_to_target(t, plan.target, plan.metric, plan.direction) for t in finals]
        median = statistics.median(math.inf if t is None else t for t in times)
        steps = median if math.isfinite(median) else None
        second, epoch = step_seconds(race, contender.name), _epochs_per_step(plan, contender)
        found.append(
            TargetTime(
                contender.name,
                reached=sum(t is not None for t in times),
                seeds=len(finals),
                steps=steps,
                epochs=None if steps is None else steps * epoch,
                seconds=None if steps is None or second is None else steps * second,
            )
        )
    return tuple(found)


def step_seconds(race: Race, optimizer: str) -> float | None:
    """Return the median time of an update over the final trials of an optimizer, as it was measured."""
    timed = [t.step_seconds for t in finals_of(race, optimizer) if t.step_seconds is not None]
    return statistics.median(timed) if timed else None


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


def caption(curves: Sequence[Curve]) -> str:
    """Say what the line and the band of each curve are, and which seeds are not in them."""
    drawn = [c for c in curves if c.median]
    bands = "the middle half of them" if any(c.quartiles for c in drawn) else "from the lowest to the highest"
    if len({c.quartiles for c in drawn}) == 2:
        bands += ", with fewer than four from the lowest to the highest"
    seeds = sorted({c.seeds for c in drawn})
    over = words.plural(seeds[0], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    return " ".join([f"Line: median over {over}. Band: {bands}.", *left_out(curves)])


def left_out(curves: Iterable[Curve]) -> list[str]:
    """Say which seeds are in no curve; nothing where all are."""
    missing = [
        f"{c.optimizer} on {c.diverged} of {words.plural(c.seeds + c.diverged, 'seed')}"
        for c in curves
        if c.diverged
    ]
    return [f"Diverged and left out here: {words.listing(missing)}."] if missing else []


def finals_of(race: Race, optimizer: str) -> list[Trace]:
    """Return the final trials of one optimizer."""
    return [t for t in race.traces if t.contender == optimizer and t.stage is Stage.FINAL]


def _curves(race: Race, points: Callable[[Trace], Points]) -> tuple[Curve, ...]:
    curves = (_curve(race, contender, points) for contender in race.plan.contenders)
    return tuple(c for c in curves if c.median or c.diverged)


def _curve(race: Race, contender: Contender, points: Callable[[Trace], Points]) -> Curve:
    finals = finals_of(race, contender.name)
    diverged = sum(t.outcome is Outcome.DIVERGED for t in finals)
    series = [s for t in finals if t.outcome is not Outcome.DIVERGED and (s := points(t))]
    steps, values = _aligned(series)
    if not steps:
        return Curve(contender.name, (), (), None, (), (), (), len(series), diverged, quartiles=False)
    quartiles = len(series) >= 4
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75] if quartiles else [0, 0.5, 1], axis=0)
    epoch, second = _epochs_per_step(race.plan, contender), step_seconds(race, contender.name)
    return Curve(
        contender.name,
        steps,
        epochs=tuple(step * epoch for step in steps),
        seconds=None if second is None else tuple(step * second for step in steps),
        median=tuple(median.tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        seeds=len(series),
        diverged=diverged,
        quartiles=quartiles,
    )


def _epochs_per_step(plan: Plan, contender: Contender) -> float:
    if contender.batch_size is None:
        return plan.epochs / plan.steps
    return 1 / math.ceil(plan.train_examples / contender.batch_size)


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

"""Find a rate: sweeps say where to look, a short race of a few rates confirms or corrects.

A search is three rounds of trainings: the sweeps; short trainings half a decade apart around what the sweeps
say, for a twentieth of the training that the rate is for; two longer ones around what the first would reach
in its end (see `surface`), which decide. What runs them, and on what, is for others to know: `trials` runs
them as trials of a task, `probe` on copies of a person's model.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thalweg.finder import surface, sweep
from thalweg.finder.picks import picks
from thalweg.records import Answer, FinderPlan, Finding, ShortRate, Stage

Array = NDArray[np.float64]

SWEEPS: Final = 3
SWEEP_SHARE, SWEEP_LEAST, SWEEP_MOST = 0.08, 24, 100  # updates of a sweep, of those of the training
SHORT_SHARE, LONG_SHARE = 0.05, 0.33  # updates of a training of the first and the second round, likewise
SHORT_RATES: Final = 5
SHORT_RATIO, LONG_RATIO = 10**0.5, 10**0.4  # of neighbouring rates in the first and the second round
TOP: Final = 10**0.25  # times the rate at which the sweeps are lowest: the highest of the first round
POINTS: Final = 4  # measurements along a short training, evenly spaced
EQUAL: Final = 0.02  # of the gain: rates that lose less are called equal
CLEAR: Final = 1.0  # standard deviation of a batch's loss by which the best short training must have fallen
CAUTION: Final = 10**-0.15  # of the best rate is suggested: one too high costs more than one too low
UNSEEN: Final = 10.0  # where sweeps show nothing, the short race is run this far below the highest rate
SHIFTS: Final = 2  # times at most that the first round moves on because its best rate lies at its edge


class Run(NamedTuple):
    """A training that a search asks for."""

    stage: Stage  # SWEEP: the rates climb to `rate`; SHORT: it stays
    rate: float
    seed: int
    steps: int


class Ran(NamedTuple):
    """What such a training left."""

    steps: int  # updates done; fewer than asked for where it diverged
    losses: Sequence[float | None]  # a sweep's, update by update, each before the update
    points: Sequence[tuple[int, float | None]]  # a short training's: updates done, loss measured then


def plan_finder(steps: int) -> FinderPlan:
    """Size a finder by the length of the training that its rate is for.

    Three sweeps of at most 8 % of it, five short trainings of a twentieth and two of a third make 1.15
    trainings, 4.3 % of a tuning of nine rates on three seeds; where the first rates lie wrong, up to 5 %.

    Args:
        steps: updates of the training.

    >>> plan = plan_finder(1000)
    >>> plan.sweep_steps, plan.short_steps
    (80, 328)
    """
    return FinderPlan(
        sweep_seeds=tuple(range(SWEEPS)),
        sweep_steps=min(SWEEP_MOST, max(SWEEP_LEAST, round(SWEEP_SHARE * steps))),
        short_seeds=(0,),
        short_steps=_quarters(LONG_SHARE * steps),
        short_rates=SHORT_RATES,
    )


def _quarters(steps: float) -> int:
    """Round updates down to a multiple of the evaluations, of which there is to be one at the end."""
    return max(1, int(steps) // POINTS) * POINTS


class Search:
    """The search for one rate, round by round: `asks` what to run, and `takes` what that left.

    Args:
        name: under which the answer is given.
        rates: of a sweep, ascending by one ratio.
        plan: how many sweeps and short trainings.
        steps: updates of the training that the rate is for.
    """

    def __init__(self, name: str, rates: Array, plan: FinderPlan, steps: int) -> None:
        self.name, self.rates, self.plan, self.steps = name, rates, plan, steps
        self.horizon = _quarters(LONG_SHARE * steps)
        self._curve: sweep.Curve | None = None
        self._start = math.nan
        self._short: list[tuple[Run, Ran]] = []
        self._spent = 0
        self._window: list[float] = []  # rates of the first round that are still to be run
        self._shifts = 0
        self._over = False

    def asks(self) -> list[Run]:
        """Return the trainings of the next round; none: it is over."""
        if self._over:
            return []
        if self._curve is None:
            last, steps = float(self.rates[-1]), len(self.rates)
            sweeps = [Run(Stage.SWEEP, last, seed, steps) for seed in self.plan.sweep_seeds]
            # A few updates that move nothing: what is measured may begin elsewhere than what is trained on,
            # with dropout at half of it.
            return sweeps + self._runs([float(self.rates[0])], POINTS)
        if self._window:
            return self._runs(self._window, _quarters(SHORT_SHARE * self.steps))
        found = self._surface()
        if found is None:
            return []
        best = found.best_rate(self.steps)
        return self._runs([rounded(best * LONG_RATIO**k) for k in (-0.5, 0.5)], self.horizon)

    def takes(self, runs: Sequence[Run], left: Sequence[Ran]) -> None:
        """Take in what the trainings of a round left."""
        self._spent += sum(ran.steps for ran in left)
        if self._curve is None:
            several = len(self.plan.sweep_seeds)
            begun = [_end(run, ran) for run, ran in zip(runs[several:], left[several:], strict=True)]
            self._take_sweeps([ran.losses for ran in left[:several]], [x for x in begun if x is not None])
            return
        self._short += zip(runs, left, strict=True)
        if self._window:
            self._move_on()
        else:
            self._over = True

    def _runs(self, rates: Sequence[float], steps: int) -> list[Run]:
        return [Run(Stage.SHORT, rate, seed, steps) for rate in rates for seed in self.plan.short_seeds]

    def _take_sweeps(self, sweeps: Sequence[Sequence[float | None]], begun: Sequence[float]) -> None:
        self._curve = sweep.read(self.rates, sweeps)
        self._start = float(np.mean(begun)) if begun else self._curve.start
        # Sweeps may break before they are seen to fall, or show nothing, as with Rprop, whose rate is that of
        # its first step: the short race, which is less noisy, has the last word.
        top = self._curve.lowest or self._curve.broken_at or float(self.rates[-1]) / UNSEEN
        few = range(self.plan.short_rates)
        self._window = [rounded(top * TOP / SHORT_RATIO**k) for k in reversed(few)]

    def _move_on(self) -> None:
        """Where the best rate of the first round lies at its edge, look beyond."""
        ends = {run.rate: _end(run, ran) for run, ran in self._short}
        fine = {rate: loss for rate, loss in ends.items() if loss is not None and loss < self._start}
        rates, few = sorted(ends), self.plan.short_rates // 2
        best = min(fine, key=lambda rate: fine[rate]) if fine else None
        self._window = []
        assert self._curve is not None
        least = CLEAR * self._curve.scatter
        moved = any(loss is None or abs(loss - self._start) > least for loss in ends.values())
        if self._shifts < SHIFTS and (moved or self._curve.answer is not Answer.FLAT):
            self._shifts += 1
            if best is None or best == rates[0]:
                self._window = [rounded(rates[0] / SHORT_RATIO**k) for k in range(few, 0, -1)]
            elif best == rates[-1]:
                self._window = [rounded(rates[-1] * SHORT_RATIO**k) for k in range(1, few + 1)]

    def _surface(self) -> surface.Surface | None:
        points = [
            (run.rate, step, math.nan if loss is None else loss)
            for run, ran in self._short
            for step, loss in ran.points
        ]
        # A training that diverged has its last point at its end.
        points += [(run.rate, run.steps, math.nan) for run, ran in self._short if ran.steps < run.steps]
        if not points:
            return None
        rates, steps, losses = (np.array(column, np.float64) for column in zip(*points, strict=True))
        return surface.fit(rates, steps, losses, self._start)

    def finding(self) -> Finding:
        """Return the answer."""
        assert self._curve is not None
        curve, found = self._curve, self._surface()
        low = suggestion = high = None
        answer = curve.answer
        ends = [end for run, ran in self._short if (end := _end(run, ran)) is not None]
        if found is not None and ends and self._start - min(ends) > CLEAR * curve.scatter:
            answer = Answer.FOUND
            low, high = map(rounded, found.equal(self.steps, EQUAL))
            suggestion = max(low, rounded(CAUTION * found.best_rate(self.steps)))
        elif answer is Answer.FOUND:
            answer = Answer.NOISY if ends else Answer.DIVERGED
        made = Finding(
            optimizer=self.name,
            outcome=answer,
            suggestion=suggestion,
            low=low,
            high=high,
            diverges_at=curve.diverges_at,
            rates=tuple(map(float, curve.rates)),
            losses=_plain(curve.losses),
            losses_low=_plain(curve.low),
            losses_high=_plain(curve.high),
            short=self._short_rates(),
            horizon=self.horizon,
            sweeps=len(self.plan.sweep_seeds),
            steps=self._spent,
            picks=picks(curve.rates, curve.losses),
            sentences=(),
        )
        return replace(made, sentences=_sentences(made, self.steps))

    def _short_rates(self) -> tuple[ShortRate, ...]:
        """Return of each rate its longest trainings: the losses at their ends."""
        longest: dict[float, int] = {}
        for run, _ in self._short:
            longest[run.rate] = max(run.steps, longest.get(run.rate, 0))
        return tuple(
            ShortRate(
                rate,
                tuple(_end(run, ran) for run, ran in self._short if (run.rate, run.steps) == (rate, steps)),
                steps,
            )
            for rate, steps in sorted(longest.items())
        )


def _end(run: Run, ran: Ran) -> float | None:
    """Return the loss at the end of a training; None where it diverged before."""
    return ran.points[-1][1] if ran.points and ran.steps == run.steps else None


def _sentences(found: Finding, steps: int) -> tuple[str, ...]:
    """Say what was found, or why there is no answer."""
    swept = f"from {found.rates[0]:.2g} to {found.rates[-1]:.2g}"
    said = {
        Answer.FLAT: f"no rate {swept} moved the loss by more than its noise. "
        "Do gradients reach the weights, and are these updates enough to see anything?",
        Answer.RISING: f"every rate {swept} that moved the loss made it worse. "
        "Is what is trained already at its best, or does the loss point the wrong way?",
        Answer.NOISY: "the sweeps fall, but no short training ended clearly below where it began. "
        "The noise is larger than what there is to gain; a larger batch makes it smaller.",
        Answer.DIVERGED: f"every rate that was tried diverged, {swept}.",
    }
    if found.outcome is Answer.FOUND:
        first = (
            f"{found.optimizer}: {found.suggestion:.3g}, a little below what trains best over "
            f"{steps:,} updates, as far as trainings of up to {found.horizon:,} tell. "
            f"From {found.low:.3g} to {found.high:.3g} no more than "
            f"{100 * EQUAL:g} % of the gain is at stake, or than can be told apart."
        )
    else:
        first = f"{found.optimizer}: no answer; {said[found.outcome]}"
    edge = (
        f"Sweeps do not come back from {found.diverges_at:.2g} on." if found.diverges_at is not None else ""
    )
    return tuple(s for s in (first, edge, f"This cost {found.steps:,} updates.") if s)


def _plain(values: Array) -> tuple[float | None, ...]:
    return tuple(float(v) if math.isfinite(v) else None for v in values)


def rounded(rate: float) -> float:
    """Round a rate to three significant digits: what is printed is what was run."""
    return float(f"{rate:.3g}")

"""Find rates: sweeps say where to look, a short race of a few rates confirms or corrects.

Sweeps and short trainings are trials like any others: all optimizers and seeds together, by any executor,
kept in the store. A finder is three rounds of them: the sweeps; short trainings half a decade apart around
what the sweeps say, for a twentieth of the training; two longer ones around what the first would reach in
the end (see `surface`), which decide.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from thalweg import schedules
from thalweg.finder import surface, sweep
from thalweg.finder.picks import picks
from thalweg.records import Answer, FinderPlan, Finding, ShortRate, Stage, Trace
from thalweg.training.recipe import Recipe
from thalweg.training.trial import Trial

Array = NDArray[np.float64]
Finish = Callable[[Sequence[Trial]], list[Trace]]

BELOW, ABOVE = 6.0, 2.0  # decades around an optimizer's centre that a sweep climbs through
SWEEPS: Final = 3
SWEEP_SHARE, SWEEP_LEAST, SWEEP_MOST = 0.09, 24, 100  # updates of a sweep, of those of a training
SHORT_SHARE, LONG_SHARE = (
    0.05,
    0.4,
)  # updates of a training of the short race's first and second round, likewise
SHORT_RATES: Final = 5
SHORT_RATIO, LONG_RATIO = 10**0.5, 10**0.4  # of neighbouring rates in the first and second round
TOP: Final = 10**0.25  # times the rate at which the sweeps are lowest: the highest of the first round
POINTS: Final = 4  # evaluations of a short training, evenly spaced
EQUAL: Final = 0.02  # of the gain: rates that lose less are called equal
SHIFTS: Final = 2  # times at most that the first round moves on because its best rate lies at its edge


def plan_finder(steps: int) -> FinderPlan:
    """Size a finder by the length of the training that its rate is for.

    Three sweeps of at most 9 % of it, five short trainings of a twentieth and two of two fifths make 1.32
    trainings: 4.9 % of a tuning of nine rates on three seeds.

    Args:
        steps: updates of the training.

    >>> plan = plan_finder(1000)
    >>> plan.sweep_steps, plan.short_steps
    (90, 400)
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


def find(
    recipes: Mapping[str, Recipe], plan: FinderPlan, steps: int | Mapping[str, int], finish: Finish
) -> tuple[Finding, ...]:
    """Find the rate of each of several recipes at once.

    Args:
        recipes: by the name under which they run; their rate is the centre of the search.
        plan: how many sweeps and short trainings, and how long.
        steps: updates of the training that the rate is for; of each, where they differ.
        finish: runs trials and returns their traces, in order.

    Returns:
        What was found, in the order of the recipes.
    """
    searches = [
        _Search(name, recipe, plan, steps if isinstance(steps, int) else steps[name])
        for name, recipe in recipes.items()
    ]
    for trials_of, take in (
        (_Search.sweeps, _Search.take_sweeps),
        *((_Search.first, _Search.take_first),) * (1 + SHIFTS),
        (_Search.second, _Search.take_second),
    ):
        asked = [trials_of(search) for search in searches]
        traces = iter(finish([trial for trials in asked for trial in trials]) if any(asked) else ())
        for search, trials in zip(searches, asked, strict=True):
            if trials:
                take(search, [next(traces) for _ in trials])
    return tuple(search.finding() for search in searches)


class _Search:
    """The search for one recipe's rate, round by round."""

    def __init__(self, name: str, recipe: Recipe, plan: FinderPlan, steps: int) -> None:
        self.name, self.recipe, self.plan, self.steps = name, recipe, plan, steps
        centre = recipe.preset.centre
        self.rates: Array = np.logspace(
            math.log10(centre) - BELOW, math.log10(centre) + ABOVE, plan.sweep_steps
        )
        self.curve: sweep.Curve | None = None
        self.traces: list[Trace] = []  # of the short race
        self.horizon = _quarters(LONG_SHARE * steps)
        self.spent = 0
        self.start = math.nan
        self.window: list[float] = []  # rates of the first round that are still to be run

    # Sweeps.

    def sweeps(self) -> list[Trial]:
        climbing = schedules.Sweep(length=len(self.rates), start=float(self.rates[0] / self.rates[-1]))
        recipe = _bare(self.recipe, float(self.rates[-1]), schedule=climbing)
        return [
            Trial(self.name, Stage.SWEEP, recipe, seed, len(self.rates), evaluations=1)
            for seed in self.plan.sweep_seeds
        ]

    def take_sweeps(self, traces: Sequence[Trace]) -> None:
        self.curve = sweep.read(self.rates, [t.losses for t in traces])
        self.spent += sum(t.steps for t in traces)
        self.start = self.curve.start
        # Sweeps that break before they are seen to fall: the short race, which is less noisy, has the last
        # word.
        top = self.curve.lowest or self.curve.broken_at
        if top is not None:
            self._put(top * TOP)

    def _put(self, highest: float) -> None:
        self.window = [_rounded(highest / SHORT_RATIO**k) for k in range(self.plan.short_rates)][::-1]

    # The short race.

    def first(self) -> list[Trial]:
        horizon = _quarters(SHORT_SHARE * self.steps)
        tried = {t.rate for t in self.traces}
        return self._short([rate for rate in self.window if rate not in tried], horizon)

    def take_first(self, traces: Sequence[Trace]) -> None:
        """Take in the first round; where its best rate lies at its edge, move on."""
        self._add(traces)
        ends = {t.rate: t.validation.get("loss") for t in self.traces}
        finite = {rate: loss for rate, loss in ends.items() if loss is not None and loss < self.start}
        rates = sorted(ends)
        best = min(finite, key=lambda rate: finite[rate]) if finite else None
        few = self.plan.short_rates // 2
        if best is None or best == rates[0]:
            self.window = [_rounded(rates[0] / SHORT_RATIO**k) for k in range(few, 0, -1)]
        elif best == rates[-1]:
            self.window = [_rounded(rates[-1] * SHORT_RATIO**k) for k in range(1, few + 1)]
        else:
            self.window = []

    def second(self) -> list[Trial]:
        found = self._surface()
        if found is None:
            return []
        best = found.best_rate(self.steps)
        return self._short([_rounded(best * LONG_RATIO**k) for k in (-0.5, 0.5)], self.horizon)

    def take_second(self, traces: Sequence[Trace]) -> None:
        self._add(traces)

    def _short(self, rates: Sequence[float], horizon: int) -> list[Trial]:
        return [
            Trial(self.name, Stage.SHORT, _bare(self.recipe, rate), seed, horizon, evaluations=POINTS)
            for rate in rates
            for seed in self.plan.short_seeds
        ]

    def _add(self, traces: Sequence[Trace]) -> None:
        self.traces += traces
        self.spent += sum(t.steps for t in traces)

    def _surface(self) -> surface.Surface | None:
        points = [
            (t.rate, e.step, math.nan if e.loss is None else e.loss)
            for t in self.traces
            for e in t.evaluations
        ]
        # A training that diverged before its end has its last point there.
        points += [(t.rate, t.budget_steps, math.nan) for t in self.traces if t.steps < t.budget_steps]
        if not points:
            return None
        rates, steps, losses = (np.array(column, np.float64) for column in zip(*points, strict=True))
        return surface.fit(rates, steps, losses, self.start)

    # The answer.

    def finding(self) -> Finding:
        assert self.curve is not None
        curve, found = self.curve, self._surface()
        low = suggestion = high = None
        answer = curve.answer
        if self.traces:
            if found is not None and self._falls(found):
                answer = Answer.FOUND
                suggestion = _rounded(found.best_rate(self.steps))
                low, high = map(_rounded, found.equal(self.steps, EQUAL))
            elif answer is Answer.FOUND:
                ended = any(t.validation.get("loss") is not None for t in self.traces)
                answer = Answer.NOISY if ended else Answer.DIVERGED
        short = _short_rates(self.traces)
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
            short=short,
            horizon=self.horizon,
            sweeps=len(self.plan.sweep_seeds),
            steps=self.spent,
            picks=picks(curve.rates, curve.losses),
            sentences=(),
        )
        return replace(made, sentences=_sentences(made, self.steps))

    def _falls(self, found: surface.Surface) -> bool:
        """Tell whether the best short training fell by more than a batch's loss scatters."""
        assert self.curve is not None
        return self.start - found.best > sweep.SIGNS * self.curve.error


def _bare(recipe: Recipe, rate: float, **changes: Any) -> Recipe:
    """Return a recipe at a fixed rate: what stops or slows a training by itself is left out."""
    fixed = {"schedule": schedules.Constant(), "plateau": None, "patience": None, **changes}
    return replace(recipe, rate=rate, **fixed)


def _short_rates(traces: Sequence[Trace]) -> tuple[ShortRate, ...]:
    """Return of each rate its longest training: the losses at its end."""
    longest: dict[float, list[Trace]] = {}
    for trace in traces:
        kept = longest.setdefault(trace.rate, [])
        if kept and kept[0].budget_steps < trace.budget_steps:
            kept.clear()
        kept.append(trace)
    return tuple(
        ShortRate(rate, tuple(t.validation.get("loss") for t in longest[rate])) for rate in sorted(longest)
    )


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
            f"{found.optimizer}: {found.suggestion:.3g} trains best over {steps:,} updates, as far as trainings "
            f"of up to {found.horizon:,} tell. From {found.low:.3g} to {found.high:.3g} no more than "
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


def _rounded(rate: float) -> float:
    """Round a rate to three significant digits: what is printed is what was run."""
    return float(f"{rate:.3g}")

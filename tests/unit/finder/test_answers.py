"""The search on trainings in closed form: the rate that is best is known, and so is when there is none."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from thalweg.finder.picks import minimum_tenth, slide, steepest, valley
from thalweg.finder.search import POINTS, Ran, Run, Search, plan_finder
from thalweg.records import Answer, Finding, Stage

STEPS = 1000
CURVATURE = 4.0  # so that plain descent diverges above a rate of 2/4


def descent(run: Run, rates: np.ndarray, noise: float, root: int) -> Ran:
    """Descend on ½λw² from w = 1 with noisy gradients; losses are seen through noise of their own."""
    draws = np.random.default_rng([root, run.seed, run.steps])
    w, losses, points = 1.0, [], []
    for step in range(run.steps):
        rate = rates[step] if run.stage is Stage.SWEEP else run.rate
        losses.append(CURVATURE / 2 * w * w + 0.02 * draws.normal())
        w -= rate * (CURVATURE * w + noise * draws.normal())
        if not abs(w) < 1e6:
            return Ran(step + 1, [*losses, None], points)
        if run.stage is Stage.SHORT and (step + 1) % (run.steps // POINTS) == 0:
            points.append((step + 1, CURVATURE / 2 * w * w))
    return Ran(run.steps, losses, points)


def search(runner: Callable[[Run, np.ndarray], Ran], steps: int = STEPS) -> tuple[Finding, list[list[Run]]]:
    """Run a whole search; return its answer and its rounds."""
    plan = plan_finder(steps)
    rates = np.logspace(-6, 2, plan.sweep_steps)
    found, rounds = Search("descent", rates, plan, steps), []
    while runs := found.asks():
        rounds.append(runs)
        found.takes(runs, [runner(run, rates) for run in runs])
    return found.finding(), rounds


def expected_loss(rate: float, noise: float) -> float:
    """The mean of ½λw² in the end: w shrinks by 1 − ηλ, its variance goes to η²s²/(1 − (1 − ηλ)²)."""
    shrink = (1 - rate * CURVATURE) ** 2
    if shrink >= 1:
        return math.inf
    left = shrink**STEPS
    return CURVATURE / 2 * (left + (rate * noise) ** 2 * (1 - left) / (1 - shrink))


@pytest.mark.parametrize("noise", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("root", range(3))
def test_the_suggestion_is_nearly_as_good_as_the_best_rate_there_is(noise: float, root: int) -> None:
    found, _ = search(lambda run, rates: descent(run, rates, noise, root))
    grid = np.logspace(-5, 0, 2000)
    losses = [expected_loss(rate, noise) for rate in grid]
    start, best = CURVATURE / 2, min(losses)
    assert found.outcome is Answer.FOUND
    assert found.suggestion is not None
    # 2 % of the gain is what the finder itself calls equal.
    assert expected_loss(found.suggestion, noise) - best < 0.02 * (start - best)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.suggestion <= found.high
    assert found.suggestion < 2 / CURVATURE


def test_the_edge_of_divergence_is_seen_where_it_is() -> None:
    found, _ = search(lambda run, rates: descent(run, rates, 0.3, 0))
    # From 2/λ on each update multiplies w; until the loss is above its start it takes some updates, each of
    # which climbs by 10^(8/79).
    assert 2 / CURVATURE < found.diverges_at < 2 / CURVATURE * 10


def test_rounds_and_costs_are_what_is_said() -> None:
    found, rounds = search(lambda run, rates: descent(run, rates, 1.0, 0))
    # The last of the first round moves nothing: it measures where training begins.
    assert [run.stage for run in rounds[0]] == [Stage.SWEEP] * 3 + [Stage.SHORT]
    assert rounds[0][-1][1:] == (1e-6, 0, POINTS)
    assert all(run.stage is Stage.SHORT for later in rounds[1:] for run in later)
    assert [run.steps for run in rounds[1]] == [48] * 5
    assert [run.steps for run in rounds[-1]] == [328] * 2
    done = sum(run.steps for runs in rounds for run in runs)
    assert found.steps <= done <= 0.05 * 27 * STEPS
    assert [short.rate for short in found.short] == sorted({r.rate for later in rounds[1:] for r in later})


@pytest.mark.parametrize(("factor", "offset"), [(1e-3, 0.0), (1e3, -5e3), (1.0, 7.0)])
def test_scale_and_offset_of_the_loss_change_nothing(factor: float, offset: float) -> None:
    """But for rounding: 1e-9 of the numbers, which the fit's stopping rule turns into parts of a thousand."""

    def seen(run: Run, rates: np.ndarray) -> Ran:
        ran = descent(run, rates, 1.0, 0)
        losses = [None if x is None else factor * x + offset for x in ran.losses]
        return Ran(ran.steps, losses, [(t, factor * x + offset) for t, x in ran.points])

    plain, _ = search(lambda run, rates: descent(run, rates, 1.0, 0))
    found, _ = search(seen)
    assert found.outcome is plain.outcome
    assert found.suggestion == pytest.approx(plain.suggestion, rel=0.02)
    assert found.diverges_at == plain.diverges_at


def only_noise(run: Run, rates: np.ndarray) -> Ran:
    draws = np.random.default_rng([run.seed, run.steps])
    losses = (2.3 + 0.05 * draws.normal(size=run.steps)).tolist()
    return Ran(run.steps, losses, [(run.steps, 2.3)])


def test_a_loss_that_nothing_moves_has_no_answer() -> None:
    found, rounds = search(only_noise)
    assert (found.outcome, found.suggestion, found.low, found.high) == (Answer.FLAT, None, None, None)
    assert len(rounds) == 2  # the short race shows nothing either, and ends with its first round
    assert "no answer" in found.sentences[0]
    assert "noise" in found.sentences[0]


def test_a_loss_that_every_rate_makes_worse_has_no_answer() -> None:
    def worse(run: Run, rates: np.ndarray) -> Ran:
        climbing = rates if run.stage is Stage.SWEEP else np.full(run.steps, run.rate)
        losses = (1 + np.concatenate([[0.0], np.cumsum(climbing)[:-1]])).tolist()
        return Ran(run.steps, losses, [(run.steps, 1 + float(climbing.sum()))])

    found, _ = search(worse)
    assert (found.outcome, found.suggestion) == (Answer.RISING, None)


def test_where_everything_diverges_there_is_no_answer() -> None:
    found, _ = search(lambda run, rates: Ran(0, [None], []))
    assert found.suggestion is None
    assert found.outcome is Answer.DIVERGED


def test_picks_of_others_by_hand() -> None:
    rates = np.logspace(-4, 1, 6)
    losses = np.array([2.0, 1.9, 1.0, 0.4, 0.3, 5.0])
    assert steepest(rates, losses) == pytest.approx(1e-2)  # falls 1.5 over the two steps around it
    assert minimum_tenth(rates, losses) == pytest.approx(1e-1)
    # ℓ = 5 falling, its end e = 4; q = 5/3: place (4 − 5) + 1 + 0
    assert valley(rates, losses) == pytest.approx(1e-4)
    # Slopes −0.1, −0.5, −0.75, −0.35, 2.3, 4.7: from the right, two apart, until the window leaves the curve.
    assert slide(rates, losses, distance=2) == pytest.approx(1e-4)
    flat = np.ones(6)
    assert [pick(rates, flat) for pick in (steepest, minimum_tenth, valley, slide)] == [None] * 4

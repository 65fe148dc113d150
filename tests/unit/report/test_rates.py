import dataclasses
import math

import pytest

import made_up
from thalweg.evidence.summaries import basin, best_of_k
from thalweg.records import Direction, Outcome, Stage
from thalweg.report.rates import score_by_rate


def test_score_by_rate_keeps_seeds_and_marks_chosen_and_diverged():
    race = made_up.race(optimizers=["sgd"], rates=3, tuning_seeds=2, final_seeds=1)
    tuning = [t for t in race.traces if t.stage is Stage.TUNING]
    scores = [0.5, 0.7, 0.9, 0.8, 0.3, None]
    outcomes = [Outcome.COMPLETED] * 5 + [Outcome.DIVERGED]
    tuning = [
        dataclasses.replace(t, score=score, outcome=outcome)
        for t, score, outcome in zip(tuning, scores, outcomes, strict=True)
    ]
    finals = [t for t in race.traces if t.stage is Stage.FINAL]
    [curve] = score_by_rate(dataclasses.replace(race, traces=(*tuning, *finals)))

    assert [p.scores for p in curve.points] == [(0.5, 0.7), (0.9, 0.8), (0.3,)]
    assert [p.mean for p in curve.points] == [0.6, pytest.approx(0.85), None]
    assert [p.diverged for p in curve.points] == [0, 0, 1]
    assert [p.chosen for p in curve.points] == [False, True, False]


def test_given_rates_have_no_score_by_rate():
    assert score_by_rate(made_up.race(rates=1)) == ()


SCORES = {0.01: [0.5, 0.5], 0.1: [0.8, 1.0], 1.0: [0.7, 0.9], 10.0: [0.0, None]}


def test_the_basin_is_that_of_the_evidence_with_diverged_seeds_in_it():
    [curve] = score_by_rate(made_up.with_scores({"sgd": SCORES}))

    assert curve.basin == basin(list(SCORES), list(SCORES.values()), Direction.HIGHER)
    assert curve.best == 0.1


def test_sensitivity_is_what_a_blindly_picked_rate_costs_in_loss():
    [curve] = score_by_rate(made_up.with_scores({"sgd": {0.01: [0.0], 0.1: [0.5], 1.0: [None]}}))

    assert curve.sensitivity == pytest.approx(0.25)  # losses 1, ½, and 1 as before training: mean of ¼ and ¼


@pytest.mark.parametrize("scores", [{0.1: [0.5]}, {0.1: [None], 1.0: [None]}])
def test_one_rate_or_none_that_trains_has_no_sensitivity(scores):
    [curve] = score_by_rate(made_up.with_scores({"sgd": scores}))

    assert curve.sensitivity is None


def test_best_of_k_is_that_of_the_evidence_over_the_first_grid():
    race = made_up.with_scores({"sgd": SCORES})
    [contender] = race.plan.contenders
    grid = dataclasses.replace(contender, rates=(0.01, 0.1, 10.0))
    added = dataclasses.replace(race, plan=dataclasses.replace(race.plan, contenders=(grid,)))
    searched = dataclasses.replace(
        race, plan=dataclasses.replace(race.plan, contenders=(dataclasses.replace(grid, rates=()),))
    )

    assert score_by_rate(race)[0].expected == best_of_k([0.5, 0.9, 0.8, None], Direction.HIGHER)
    assert score_by_rate(added)[0].expected == best_of_k([0.5, 0.9, None], Direction.HIGHER)
    assert score_by_rate(searched)[0].expected == score_by_rate(race)[0].expected  # a finder chose them all


def test_rates_that_all_diverged_have_neither_best_nor_basin():
    [curve] = score_by_rate(made_up.with_scores({"sgd": {0.1: [None], 1.0: [None]}}))

    assert (curve.best, curve.basin, curve.expected) == (None, None, (None, None))


def test_a_rate_that_was_given_up_is_not_the_best_by_one_lucky_seed():
    [curve] = score_by_rate(made_up.with_scores({"sgd": {0.1: [0.5, 0.6], 1.0: [0.9]}}))

    assert curve.best == 0.1
    assert math.isclose(curve.points[1].mean, 0.9)

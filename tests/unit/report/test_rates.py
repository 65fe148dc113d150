import dataclasses

import pytest

import made_up
from thalweg.records import Outcome, Stage
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

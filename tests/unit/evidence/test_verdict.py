"""What a race's final trials decide, by cases that can be judged by eye, and on the words for it."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.errors import InputError
from thalweg.evidence import Finals, judge, minimum_seeds
from thalweg.records import Direction, Verdict, from_data, to_data

HIGHER, LOWER = Direction.HIGHER, Direction.LOWER
# What a seed adds to every optimizer's score. In thousandths, the six lowest means of its subsets are
# 1, 1, 1, 4/3, 3/2, 3/2, the six highest 9, 15/2, 7, 20/3, 13/2, 19/3: the 95 % interval of eight values
# ends at the sixth of each, 3/2 and 19/3.
SEEDS = tuple(0.001 * i for i in (3, 1, 4, 1, 5, 9, 2, 6))


def finals(name: str, scores: list[float | None], **facts: object) -> Finals:
    without = (None,) * len(scores)
    return Finals(name, **{"rate": 0.1, "scores": tuple(scores), "tests": without, "gaps": without} | facts)  # type: ignore[arg-type]


def at(level: float, *, wobble: float = 0.0) -> list[float | None]:
    """Scores around a level; the wobble's sign alternates from seed to seed."""
    return [level + s + wobble * (-1) ** i for i, s in enumerate(SEEDS)]


def absent(name: str) -> Finals:
    return Finals(name, rate=None)


def names(verdict: Verdict) -> list[str]:
    return [s.optimizer for s in verdict.ranking]


def test_one_that_beats_every_other_on_every_seed_wins() -> None:
    verdict = judge(
        [finals("sgd", at(0.8)), finals("adam", at(0.9)), finals("rmsprop", at(0.85))], HIGHER, "accuracy"
    )

    assert verdict.winner == "adam"
    assert verdict.tie == ()
    assert names(verdict) == ["adam", "rmsprop", "sgd"]
    assert [(p.a, p.b, p.better) for p in verdict.pairs] == [
        ("adam", "rmsprop", "adam"),
        ("adam", "sgd", "adam"),
        ("rmsprop", "sgd", "rmsprop"),
    ]
    assert (verdict.seeds, verdict.seeds_needed) == (8, 7)
    pair = verdict.pairs[0]
    assert pair.difference == pytest.approx(0.05, rel=1e-12)
    assert pair.interval == pytest.approx((0.05, 0.05), rel=1e-12)
    assert (pair.p, pair.p_holm) == (2.0**-7, 3 * 2.0**-7)  # all 8 signs agree; three equal p
    assert verdict.sentences == (
        "adam is best: validation accuracy 0.9039 [0.9015, 0.9063], better than rmsprop and sgd over "
        "8 seeds (Holm-corrected p 0.0234).",
        "It is ahead of rmsprop, the next, by 0.05 [0.05, 0.05] and on 100 % of the seeds.",
    )


def test_of_losses_the_lowest_wins_and_leads_by_a_positive_amount() -> None:
    verdict = judge([finals("sgd", at(0.5)), finals("adam", at(0.25))], LOWER, "loss")

    assert verdict.winner == "adam"
    assert verdict.pairs[0].difference == pytest.approx(-0.25, rel=1e-12)
    assert verdict.pairs[0].probability_a_better == 1.0
    assert "by 0.25 [0.25, 0.25]" in verdict.sentences[1]


def test_those_that_the_leader_does_not_beat_tie_with_it_and_the_beaten_do_not() -> None:
    verdict = judge(
        [finals("sgd", at(0.5)), finals("rmsprop", at(0.9)), finals("adam", at(0.902, wobble=0.02))],
        HIGHER,
        "accuracy",
    )

    assert verdict.winner is None
    assert verdict.tie == ("adam", "rmsprop")
    assert names(verdict) == ["adam", "rmsprop", "sgd"]
    assert verdict.sentences[0].startswith(
        "adam and rmsprop tie: over 8 seeds, what sets adam apart from rmsprop may be chance (Holm"
    )
    assert verdict.sentences[2] == "adam is better than sgd (Holm-corrected p 0.0234)."


def test_two_that_are_the_same_on_every_seed_tie_with_p_1() -> None:
    verdict = judge([finals("a", at(0.9)), finals("b", at(0.9))], HIGHER, "accuracy")

    assert verdict.tie == ("a", "b")
    assert (verdict.pairs[0].p_holm, verdict.pairs[0].probability_a_better) == (1.0, 0.5)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_with_too_few_seeds_nothing_is_decided_and_the_first_sentence_says_how_many_it_takes(k: int) -> None:
    seeds = minimum_seeds(k) - 1
    verdict = judge([finals(f"o{i}", [float(-i)] * seeds) for i in range(k)], HIGHER, "accuracy")

    assert verdict.winner is None
    assert verdict.tie == tuple(f"o{i}" for i in range(k))
    assert all(p.better is None for p in verdict.pairs)
    assert verdict.sentences[0] == (
        f"Not enough seeds to say which is best: {k} optimizers take at least {seeds + 1}, "
        f"and there were {seeds}."
    )
    assert judge(
        [finals(f"o{i}", [float(-i)] * (seeds + 1)) for i in range(k)], HIGHER, "accuracy"
    ).winner == ("o0")


def test_below_six_seeds_a_sentence_says_why_there_is_no_interval() -> None:
    verdict = judge([finals("a", [0.5]), finals("b", [0.25])], HIGHER, "accuracy")

    assert verdict.ranking[0].interval is None
    assert verdict.sentences == (
        "Not enough seeds to say which is best: 2 optimizers take at least 6, and there was 1.",
        "So far the mean validation accuracy is: a 0.5 and b 0.25.",
        "1 seed cannot give a 95 % interval: it takes 6.",
    )


def test_a_race_of_one_has_a_ranking_and_no_verdict() -> None:
    verdict = judge([finals("adam", at(0.9))], HIGHER, "accuracy")

    assert (verdict.winner, verdict.tie, verdict.pairs) == (None, (), ())
    assert names(verdict) == ["adam"]
    assert verdict.seeds_needed == 6
    assert verdict.sentences == (
        "adam has no other to be compared with: validation accuracy 0.9039 [0.9015, 0.9063].",
    )


# Divergence


def test_whoever_diverged_on_fewer_seeds_ranks_higher_whatever_the_means() -> None:
    verdict = judge(
        [
            finals("twice", [None, None, *at(0.99)[2:]]),
            finals("once", [*at(0.9)[:7], None]),
            finals("never", at(0.1)),
            finals("once lower", [*at(0.8)[:7], None]),
        ],
        HIGHER,
        "accuracy",
    )

    assert names(verdict) == ["never", "once", "once lower", "twice"]
    assert [(s.score is None, s.interval is None, s.diverged) for s in verdict.ranking] == [
        (False, False, 0),
        (True, True, 1),
        (True, True, 1),
        (True, True, 2),
    ]


def test_one_that_diverged_on_every_seed_is_beaten_by_one_that_never_did() -> None:
    verdict = judge([finals("wild", [None] * 8), finals("calm", at(0.1))], HIGHER, "accuracy")

    assert verdict.winner == "calm"
    pair = verdict.pairs[0]
    assert (pair.p, pair.difference, pair.interval) == (2.0**-7, None, None)
    assert verdict.sentences[1:] == (
        "It is ahead of wild, the next, on 100 % of the seeds.",
        "wild diverged on 8 of 8 final seeds, which counts as worse than any score.",
    )


def test_one_divergence_among_better_scores_is_neither_a_loss_nor_a_win() -> None:
    verdict = judge([finals("bold", [None, *at(0.95)[1:]]), finals("calm", at(0.9))], HIGHER, "accuracy")

    assert verdict.winner is None
    assert verdict.tie == ("calm", "bold")
    assert verdict.pairs[0].p == 1.0
    assert verdict.pairs[0].probability_a_better == 1 / 8
    assert verdict.sentences[1] == (
        "Mean validation accuracy: calm 0.9039 [0.9015, 0.9063] "
        "and bold without a mean (1 of 8 seeds diverged)."
    )


def test_where_all_diverged_everywhere_nobody_wins() -> None:
    verdict = judge([finals("a", [None] * 8), finals("b", [None] * 8)], HIGHER, "accuracy")

    assert (verdict.winner, verdict.tie) == (None, ("a", "b"))
    assert (
        verdict.sentences[0] == "Every optimizer diverged on every final seed: there is nothing to compare."
    )


def test_one_whose_every_rate_diverged_stands_last_and_is_in_no_pair() -> None:
    verdict = judge([absent("sgd"), finals("adam", at(0.9)), finals("b", at(0.5))], HIGHER, "accuracy")

    assert names(verdict) == ["adam", "b", "sgd"]
    assert [(p.a, p.b) for p in verdict.pairs] == [("adam", "b")]
    assert verdict.winner == "adam"
    assert verdict.seeds_needed == 6  # only two are compared
    assert (verdict.ranking[2].rate, verdict.ranking[2].score, verdict.ranking[2].seeds) == (None, None, 0)
    assert (
        verdict.sentences[-1]
        == "Every rate of sgd that was tried diverged: it stands last and was not compared."
    )


def test_the_only_one_that_could_be_trained_is_not_called_a_winner() -> None:
    verdict = judge([absent("sgd"), finals("adam", at(0.9))], HIGHER, "accuracy")

    assert (verdict.winner, verdict.tie) == (None, ())
    assert verdict.sentences[0].startswith("adam has no other to be compared with")


def test_where_no_rate_of_any_works_there_is_a_ranking_without_numbers() -> None:
    verdict = judge([absent("sgd"), absent("adam")], HIGHER, "accuracy")

    assert (verdict.winner, verdict.tie, verdict.seeds, verdict.pairs) == (None, (), 0, ())
    assert verdict.sentences[0] == "No optimizer could be trained: every rate that was tried diverged."


# Facts of a standing


def test_a_standing_holds_means_and_intervals_over_the_final_seeds() -> None:
    six = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    verdict = judge(
        [
            finals("a", six, tests=[x / 2 for x in six], gaps=[0.5] * 6, rate=0.3, edge="highest"),
            finals("b", six, tests=[*six[:5], None], rate=0.1, edge="lowest"),
        ],
        HIGHER,
        "accuracy",
    )
    a, b = verdict.ranking

    assert (a.score, a.interval, a.test, a.test_interval, a.gap) == (3.5, (1, 6), 1.75, (0.5, 3), 0.5)
    assert (a.rate, a.diverged, a.seeds) == (0.3, 0, 6)
    assert (b.test, b.test_interval, b.gap) == (None, None, None)  # a mean over part of the seeds is none
    assert verdict.sentences[-2:] == (
        "The best rate of a, 0.3, is the highest that was tried: a higher one may be better.",
        "The best rate of b, 0.1, is the lowest that was tried: a lower one may be better.",
    )


# What always holds

scores_of_a_race = st.integers(1, 8).flatmap(
    lambda n: st.lists(
        st.lists(st.none() | st.integers(0, 4).map(float), min_size=n, max_size=n), min_size=1, max_size=4
    )
)


@given(scores_of_a_race, st.sampled_from([HIGHER, LOWER]))
def test_the_verdict_is_consistent_and_survives_json(scores: list, direction: Direction) -> None:  # type: ignore[type-arg]
    race = [finals(f"o{i}", s) for i, s in enumerate(scores)]

    verdict = judge(race, direction, "accuracy")

    assert from_data(Verdict, json.loads(json.dumps(to_data(verdict), allow_nan=False))) == verdict
    assert judge(race, direction, "accuracy") == verdict
    assert (verdict.winner is None) == (len(race) == 1 or len(verdict.tie) > 1)
    assert {*verdict.tie[:1], *filter(None, [verdict.winner])} <= {verdict.ranking[0].optimizer}
    assert len(verdict.sentences) >= 1
    worst = -1e9 * direction.sign
    mean = {f.optimizer: sum(worst if x is None else x for x in f.scores) for f in race}
    for pair in verdict.pairs:
        assert pair.better is None or direction.sign * (mean[pair.better] - mean[pair.b]) > 0


@given(scores_of_a_race)
def test_higher_accuracies_and_lower_negated_ones_are_the_same_race(scores: list) -> None:  # type: ignore[type-arg]
    negated = [[None if x is None else -x for x in s] for s in scores]

    up = judge([finals(f"o{i}", s) for i, s in enumerate(scores)], HIGHER, "m")
    down = judge([finals(f"o{i}", s) for i, s in enumerate(negated)], LOWER, "m")

    assert (up.winner, up.tie, names(up)) == (down.winner, down.tie, names(down))
    assert [p.p_holm for p in up.pairs] == [p.p_holm for p in down.pairs]


# Refusals


@pytest.mark.parametrize(
    ("race", "message"),
    [
        ([], "must have one or more optimizers of different names"),
        ([finals("a", [1.0]), finals("a", [1.0])], "different names"),
        ([finals("a", [1.0, 2.0]), finals("b", [1.0])], "The scores of b must have 2 entries; got 1"),
        ([finals("a", [1.0], tests=())], "The tests of a must have 1 entries; got 0"),
        ([finals("a", [1.0], gaps=(0.1, 0.2))], "The gaps of a must have 1 entries; got 2"),
        ([finals("a", [1.0], rate=None)], "The scores of a must have 0 entries; got 1"),
        ([finals("a", [])], "The scores of a must have 1 entries; got 0"),
        ([finals("a", [float("nan")])], "The scores of a must be finite or None"),
        ([finals("a", [1.0], tests=(float("inf"),))], "The tests of a must be finite or None"),
    ],
)
def test_finals_that_do_not_belong_to_one_race_are_refused(race: list[Finals], message: str) -> None:
    with pytest.raises(InputError, match=message):
        judge(race, HIGHER, "accuracy")


def test_numpy_scores_are_judged_like_plain_ones() -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(size=(3, 8))
    plain = [finals(f"o{i}", row.tolist()) for i, row in enumerate(table)]

    assert judge([finals(f"o{i}", list(row)) for i, row in enumerate(table)], HIGHER, "m") == judge(
        plain, HIGHER, "m"
    )


# Levels of looks


def test_a_level_decides_where_p_reaches_it_and_is_named_where_it_is_not_5_percent() -> None:
    race = [finals("sgd", at(0.8)), finals("adam", at(0.9))]  # p = 2 / 2⁸
    reached, missed = (judge(race, HIGHER, "accuracy", level=level) for level in (2.0**-7, 2.0**-7.5))

    assert (reached.winner, reached.seeds_needed) == ("adam", 8)
    assert "over 8 seeds (Holm-corrected p 0.00781, judged at 0.781 %)." in reached.sentences[0]
    assert (missed.winner, missed.tie, missed.seeds_needed) == (None, ("adam", "sgd"), 9)
    assert missed.sentences[0] == (
        "Not enough seeds to say which is best: 2 optimizers take at least 9 at a level of 0.552 %, "
        "and there were 8."
    )
    assert "judged at" not in judge(race, HIGHER, "accuracy").sentences[0]


def test_a_tie_at_a_level_of_its_own_names_it() -> None:
    race = [finals("sgd", at(0.8)), finals("adam", at(0.8001, wobble=0.001))]

    assert judge(race, HIGHER, "m", level=0.01).sentences[0].endswith(", judged at 1 %).")


@pytest.mark.parametrize("level", [0.0, -0.01, 0.0500001, 1.0, float("nan")])
def test_a_level_above_5_percent_or_none_is_refused(level: float) -> None:
    with pytest.raises(InputError, match=r"The level of a verdict must be in \(0, 0.05\]"):
        judge([finals("a", [1.0])], HIGHER, "m", level=level)

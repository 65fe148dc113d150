"""A race judged from its traces: scores of rates, the chosen one, its edge, the gap, the ledger; by hand."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from made_up import race as made_up
from thalweg.errors import InputError
from thalweg.evidence import race
from thalweg.evidence.race import RateScore
from thalweg.records import Contender, Direction, Outcome, Plan, Stage, Trace

RACE = made_up(optimizers=("sgd", "adam"), rates=3, tuning_seeds=2, final_seeds=2, epochs=1)
SGD, ADAM = RACE.plan.contenders
EXAMPLE = RACE.traces[0]
HIGHER, LOWER = Direction.HIGHER, Direction.LOWER


def tuning(rate: float, seed: int, score: float | None, loss: float | None = 1.0, name: str = "sgd") -> Trace:
    return replace(
        EXAMPLE,
        contender=name,
        stage=Stage.TUNING,
        rate=rate,
        seed=seed,
        score=score,
        validation={} if score is None else {"loss": loss, "accuracy": score},
        outcome=Outcome.DIVERGED if score is None else Outcome.COMPLETED,
    )


def final(
    seed: int,
    score: float | None,
    train: float | None = None,
    test: float | None = None,
    name: str = "sgd",
    metric: str = "accuracy",
) -> Trace:
    return replace(
        EXAMPLE,
        contender=name,
        stage=Stage.FINAL,
        seed=seed,
        score=score,
        train={} if train is None else {"loss": 0.0, metric: train},
        test=None if test is None else {"loss": 0.0, metric: test},
        outcome=Outcome.DIVERGED if score is None else Outcome.COMPLETED,
    )


def test_a_rate_scores_the_mean_over_its_tuning_seeds_smallest_rate_first() -> None:
    traces = [
        tuning(0.1, 0, 0.5, 2.0),
        tuning(0.01, 0, 0.25, 3.0),
        tuning(0.1, 1, 0.75, 1.0),
        tuning(0.01, 1, 0.5, 4.0),
        tuning(0.001, 0, 1.0, name="adam"),
        final(2, 1.0),
    ]

    assert race.tuned(traces, "sgd") == [RateScore(0.01, 0.375, 3.5, 2), RateScore(0.1, 0.625, 1.5, 2)]
    assert race.tuned(traces, "adam") == [RateScore(0.001, 1.0, 1.0)]
    assert race.tuned(traces, "rmsprop") == []


def test_a_rate_that_diverged_on_one_seed_has_no_score() -> None:
    assert race.tuned([tuning(0.1, 0, 0.5), tuning(0.1, 1, None)], "sgd") == [RateScore(0.1, None, None, 2)]


@pytest.mark.parametrize(
    ("scores", "direction", "place"),
    [
        ([(0.2, 9.0), (0.4, 9.0), (0.3, 0.0)], HIGHER, 1),
        ([(0.2, 9.0), (0.4, 9.0), (0.1, 9.0)], LOWER, 2),
        ([(0.4, 2.0), (0.4, 1.0), (0.3, 0.0)], HIGHER, 1),  # equal scores: the lower loss
        ([(0.3, 1.0), (0.4, 1.0), (0.4, 1.0)], HIGHER, 1),  # equal in both: the smaller rate
        ([(None, None), (-5.0, 1.0), (None, None)], HIGHER, 1),
        ([(None, None), (5.0, 1.0)], LOWER, 1),
        ([(None, None), (None, None)], HIGHER, None),
        ([(None, None), (None, None)], LOWER, None),
        ([], HIGHER, None),
    ],
)
def test_the_best_rate_by_hand(
    scores: list[tuple[float | None, float | None]], direction: Direction, place: int | None
) -> None:
    rates = [RateScore(10.0**i, score, loss) for i, (score, loss) in enumerate(scores)]

    assert race.best(rates, direction) == place


@pytest.mark.parametrize(
    ("by_rate", "expected"),
    [
        ({0.01: 0.1, 0.1: 0.3, 1.0: 0.2}, (0.1, None)),
        ({0.01: 0.3, 0.1: 0.2, 1.0: 0.1}, (0.01, "lowest")),
        ({0.01: 0.1, 0.1: 0.2, 1.0: 0.3}, (1.0, "highest")),
        ({0.01: 0.1, 0.1: 0.2, 1.0: None}, (0.1, None)),  # a diverged rate bounds the best one
        ({0.01: None, 0.1: None, 1.0: None}, (None, None)),
        ({0.1: 0.3}, (0.1, None)),  # one rate is no edge
    ],
)
def test_the_chosen_rate_and_its_edge(
    by_rate: Mapping[float, float | None], expected: tuple[float | None, str | None]
) -> None:
    traces = [tuning(rate, seed, score) for rate, score in by_rate.items() for seed in (0, 1)]

    assert race.chosen_rate(RACE.plan, traces, SGD) == expected


def test_a_rate_that_is_given_is_chosen_unseen_and_lies_at_no_edge() -> None:
    given = replace(SGD, rates=(0.7,), quota=1, tuned=False)

    assert race.chosen_rate(RACE.plan, [tuning(0.1, 0, 0.9)], given) == (0.7, None)


def judged(
    *traces: Trace, direction: Direction = HIGHER, metric: str = "accuracy"
) -> tuple[Plan, list[Trace]]:
    contenders: tuple[Contender, ...] = (
        replace(SGD, rates=(0.1,), quota=1, tuned=False),
        replace(ADAM, rates=(0.001,), quota=1, tuned=False),
    )
    plan = replace(RACE.plan, contenders=contenders, final_seeds=(2, 3), direction=direction, metric=metric)
    return plan, list(traces)


def test_the_gap_is_how_much_worse_the_metric_is_on_test_than_on_training_data() -> None:
    plan, traces = judged(
        final(2, 0.8, train=0.9, test=0.7),
        final(3, 0.8, train=1.0, test=0.6),
        final(2, 0.5, train=0.5, test=0.6, name="adam"),
        final(3, 0.5, train=0.5, test=0.4, name="adam"),
    )
    by_name = {s.optimizer: s for s in race.verdict(plan, traces).ranking}

    assert by_name["sgd"].gap == pytest.approx((0.2 + 0.4) / 2)
    assert by_name["adam"].gap == pytest.approx(0.0)
    assert by_name["sgd"].test == pytest.approx(0.65)
    assert by_name["sgd"].score == pytest.approx(0.8)


def test_the_gap_of_a_loss_is_test_minus_training() -> None:
    finals = [
        final(s, 0.3, train=0.1, test=0.4, name=n, metric="loss") for n in ("sgd", "adam") for s in (2, 3)
    ]
    plan, traces = judged(*finals, direction=LOWER, metric="loss")

    assert [s.gap for s in race.verdict(plan, traces).ranking] == pytest.approx([0.3, 0.3])


def test_a_diverged_final_seed_leaves_no_score_test_or_gap() -> None:
    plan, traces = judged(
        final(2, 0.8, train=0.9, test=0.7),
        final(3, None),
        final(2, 0.5, train=0.5, test=0.5, name="adam"),
        final(3, 0.5, train=0.5, test=0.5, name="adam"),
    )
    first, last = race.verdict(plan, traces).ranking

    assert (first.optimizer, first.score, first.diverged) == ("adam", 0.5, 0)
    assert (last.optimizer, last.score, last.test, last.gap, last.diverged) == ("sgd", None, None, None, 1)


def test_an_optimizer_whose_rates_all_diverged_stands_last_without_finals() -> None:
    plan = replace(RACE.plan, contenders=(SGD, replace(ADAM, rates=(0.001,), quota=1, tuned=False)))
    traces = [tuning(rate, seed, None) for rate in SGD.rates for seed in plan.tuning_seeds]
    traces += [final(seed, 0.1, train=0.1, test=0.1, name="adam") for seed in plan.final_seeds]
    verdict = race.verdict(plan, traces)

    assert [(s.optimizer, s.rate, s.score, s.seeds) for s in verdict.ranking] == [
        ("adam", 0.001, pytest.approx(0.1), 2),
        ("sgd", None, None, 0),
    ]


def test_the_order_of_the_traces_does_not_matter() -> None:
    assert race.verdict(RACE.plan, RACE.traces[::-1]) == race.verdict(RACE.plan, RACE.traces) == RACE.verdict


def test_the_ledger_adds_up_optimizer_by_optimizer() -> None:
    plan = replace(RACE.plan, train_examples=22, batch_size=5)
    traces = [
        replace(tuning(0.1, 0, 0.5), steps=5, total_seconds=1.0),  # one epoch: 22 examples
        replace(tuning(1.0, 0, None), steps=2, total_seconds=0.25),  # 10 examples
        replace(final(2, 0.5), rate=0.1, steps=9, total_seconds=2.0),  # an epoch and 20 examples
        replace(tuning(0.01, 0, 0.5, name="adam"), steps=10, total_seconds=4.0),
    ]
    ledger = race.ledger(plan, traces)
    sgd, adam = ledger.rows

    assert [row.optimizer for row in ledger.rows] == ["sgd", "adam"]
    assert (sgd.rates_tried, sgd.tuning_trials, sgd.final_trials, sgd.diverged_trials) == (
        (0.1, 1.0),
        2,
        1,
        1,
    )
    assert (sgd.steps, sgd.gradient_examples, sgd.total_seconds) == (16, 22 + 10 + 42, 3.25)
    assert (adam.rates_tried, adam.tuning_trials, adam.final_trials) == ((0.01,), 1, 0)
    assert (adam.steps, adam.gradient_examples, adam.diverged_trials) == (10, 44, 0)
    assert ledger.total_seconds == 7.25


def test_equal_tuning_shows_as_equal_trials_in_the_ledger() -> None:
    ledger = race.ledger(RACE.plan, RACE.traces)

    assert [(r.tuning_trials, r.final_trials, len(r.rates_tried)) for r in ledger.rows] == [(6, 2, 3)] * 2


def test_unequal_tuning_is_said() -> None:
    first = RACE.plan.contenders[0]
    rates = [score.rate for score in race.tuned(RACE.traces, first.name)]
    chosen, _ = race.chosen_rate(RACE.plan, RACE.traces, first)
    unused = next(rate for rate in rates if rate != chosen)
    left = [t for t in RACE.traces if (t.contender, t.stage, t.rate) != (first.name, Stage.TUNING, unused)]

    said = race.verdict(RACE.plan, left).sentences[-1]

    assert said.startswith("Tuning was not equal, which favours those that tried more rates: ")
    assert f"{first.name} {len(rates) - 1}" in said
    assert "not equal" not in " ".join(race.verdict(RACE.plan, RACE.traces).sentences)


# Halving: rates that are given up have fewer seeds


def test_only_rates_with_the_most_seeds_compare_of_those_that_did_not_diverge() -> None:
    given_up, kept, better, diverged = (
        RateScore(0.01, 0.99, 0.1, 1),
        RateScore(0.1, 0.8, 1.0, 3),
        RateScore(1.0, 0.9, 1.0, 3),
        RateScore(10.0, None, None, 4),
    )

    assert race.best([given_up, kept, better, diverged], HIGHER) == 2
    assert race.best([given_up, kept], HIGHER) == 1
    assert race.best([given_up, diverged], HIGHER) == 0
    assert race.best([diverged], HIGHER) is None


def test_the_rate_of_a_race_that_halves_is_one_of_those_that_were_kept() -> None:
    """0.01 was lucky on the first seed and would lead with its mean; it has no second one."""
    plan = replace(RACE.plan, tuning_seeds=(0, 1), halving=True)
    traces = [tuning(0.01, 0, 0.95), tuning(0.1, 0, 0.9), tuning(0.1, 1, 0.8), tuning(1.0, 0, 0.2)]

    assert race.tuned(traces, "sgd") == [
        RateScore(0.01, 0.95, 1.0, 1),
        RateScore(0.1, pytest.approx(0.85), 1.0, 2),
        RateScore(1.0, 0.2, 1.0, 1),
    ]
    assert race.chosen_rate(plan, traces, SGD) == (0.1, None)


# Looks


def looking(better: Mapping[int, float], seeds: int) -> tuple[Plan, list[Trace]]:
    """Two contenders with looks after 8 and 16 seeds; how much better adam is on each, 0.1 if not said."""
    plan, _ = judged()
    plan = replace(plan, final_seeds=tuple(range(16)), looks=(8, 16))
    finals = [final(s, 0.5 + 0.001 * s) for s in range(seeds)]
    finals += [final(s, 0.5 + 0.001 * s + better.get(s, 0.1), name="adam") for s in range(seeds)]
    return plan, finals


def test_a_race_may_end_at_the_first_look_with_a_winner() -> None:
    plan, traces = looking({}, 8)
    verdict = race.verdict(plan, traces)

    assert race.looked(plan, traces) == 8
    assert (verdict.winner, verdict.seeds) == ("adam", 8)
    assert "(Holm-corrected p 0.00781, judged at 1.25 %)" in verdict.sentences[0]
    assert verdict.sentences[-1] == (
        "The race could end after 8 or 16 final seeds and ended after 8: the 5 % chance of a false finding "
        "is shared out among the looks, 1.25 + 3.75 %."
    )


def test_a_tie_at_an_early_look_goes_on_and_the_last_look_decides() -> None:
    """One seed of eight the other way: p = 4/2⁸ or more is above 1.25 %. Of sixteen it is below 3.75 %."""
    losses = {3: -0.01, 5: -0.02}
    early, late = looking(losses, 8), looking(losses, 16)

    assert race.looked(*early) is None
    assert race.verdict(*early).tie == ("adam", "sgd")
    assert race.looked(*late) == 16
    assert (race.verdict(*late).winner, race.verdict(*late).seeds) == ("adam", 16)
    assert "ran to the last" in race.verdict(*late).sentences[-1]


def test_a_tie_at_the_last_look_ends_the_race_too() -> None:
    plan, traces = looking({s: 0.1 * (-1) ** s for s in range(16)}, 16)

    assert race.looked(plan, traces) == 16
    assert race.verdict(plan, traces).winner is None


@pytest.mark.parametrize("seeds", [9, 15])
def test_between_looks_the_last_complete_one_counts(seeds: int) -> None:
    losses = {3: -0.01, 5: -0.02}
    plan, traces = looking(losses, seeds)

    assert race.looked(plan, traces) is None
    assert race.verdict(plan, traces) == race.verdict(*looking(losses, 8))


def test_a_look_is_complete_when_every_contender_has_run_it() -> None:
    plan, traces = looking({}, 8)

    assert race.looked(plan, traces[:-1]) is None
    with pytest.raises(InputError, match="must have 8 final seeds of every contender; got 7"):
        race.verdict(plan, traces[:-1])


def test_a_contender_whose_rates_all_diverged_holds_up_no_look() -> None:
    plan, traces = looking({}, 8)
    plan = replace(plan, contenders=(*plan.contenders, replace(SGD, name="lost")))
    traces += [tuning(rate, 0, None, name="lost") for rate in SGD.rates]

    assert race.looked(plan, traces) == 8
    assert [s.optimizer for s in race.verdict(plan, traces).ranking] == ["adam", "sgd", "lost"]


def test_a_race_without_looks_ends_after_all_its_seeds() -> None:
    plan, traces = looking({}, 16)
    plan = replace(plan, looks=())

    assert race.looked(plan, [t for t in traces if t.seed < 15]) is None
    assert race.looked(plan, traces) == 16
    assert "judged at" not in race.verdict(plan, traces).sentences[0]
    assert not any("could end" in sentence for sentence in race.verdict(plan, traces).sentences)


# The ledger of what a finder cost, and of contenders of their own size


def test_what_the_finder_did_is_counted_apart_and_in_the_sums() -> None:
    plan = replace(RACE.plan, train_examples=22, batch_size=5)
    sweep = replace(tuning(1e-5, 0, None), stage=Stage.SWEEP, steps=5, total_seconds=1.0)
    short = replace(tuning(0.03, 0, None), stage=Stage.SHORT, steps=2, total_seconds=0.5)
    tried = replace(tuning(0.1, 0, None), steps=1, total_seconds=0.25)
    row = race.ledger(plan, [sweep, short, tried]).rows[0]

    assert (row.finder_trials, row.finder_steps) == (2, 7)
    assert (row.rates_tried, row.tuning_trials, row.final_trials, row.diverged_trials) == ((0.1,), 1, 0, 1)
    assert (row.steps, row.gradient_examples, row.total_seconds) == (8, 22 + 10 + 5, 1.75)


def test_examples_are_counted_in_the_batches_of_each_contender() -> None:
    """Of 22 examples: three batches of 10 are 22, and a batch of all is 22 each time."""
    plan = replace(
        RACE.plan,
        train_examples=22,
        batch_size=5,
        contenders=(replace(SGD, batch_size=10), replace(ADAM, batch_size=22), replace(SGD, name="five")),
    )
    traces = [
        replace(tuning(0.1, 0, 0.5), steps=4),
        replace(tuning(0.1, 0, 0.5, name="adam"), steps=4),
        replace(tuning(0.1, 0, 0.5, name="five"), steps=4),
    ]

    assert [row.gradient_examples for row in race.ledger(plan, traces).rows] == [22 + 10, 88, 20]

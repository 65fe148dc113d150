import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

import made_up
from thalweg.records import Evaluation, Outcome, Race, Stage
from thalweg.report import summary


def race_of(losses, *, steps=(1, 2, 3, 4), epochs=2.0, scores=None) -> Race:
    """Build a race from the training losses of each seed of each optimizer; None: this seed diverged."""
    made = made_up.race(optimizers=list(losses), final_seeds=max(map(len, losses.values())), rates=1)
    plan = dataclasses.replace(made.plan, steps=steps[-1], epochs=epochs)
    traces = []
    for name, of_seeds in losses.items():
        finals = [t for t in made.traces if t.contender == name]
        for i, (trace, own) in enumerate(zip(finals, of_seeds, strict=True)):
            outcome = Outcome.COMPLETED if own else Outcome.DIVERGED
            own = own or [2.0, None]
            evaluations = tuple(
                Evaluation(step, step / 2, None, {"accuracy": score})
                for step, score in zip(steps, scores[name][i] if scores else (), strict=False)
            )
            traces.append(
                dataclasses.replace(
                    trace,
                    outcome=outcome,
                    loss_steps=steps[: len(own)],
                    losses=tuple(own),
                    evaluations=evaluations,
                )
            )
    return dataclasses.replace(made, plan=plan, traces=tuple(traces))


def test_few_seeds_give_median_and_range():
    [curve] = summary.training_loss(race_of({"sgd": [[4, 3, 2, 1], [8, 6, 4, 2], [5, 5, 5, 5]]}))

    assert curve.steps == (1, 2, 3, 4)
    assert curve.epochs == (0.5, 1.0, 1.5, 2.0)
    assert curve.median == (5, 5, 4, 2)
    assert curve.low == (4, 3, 2, 1)
    assert curve.high == (8, 6, 5, 5)
    assert (curve.seeds, curve.diverged, curve.quartiles) == (3, 0, False)


def test_five_seeds_give_median_and_quartiles():
    [curve] = summary.training_loss(race_of({"sgd": [[x] * 4 for x in (1, 2, 3, 4, 50)]}))

    assert (curve.low[0], curve.median[0], curve.high[0]) == (2, 3, 4)
    assert curve.quartiles


def test_diverged_seeds_are_left_out_and_counted():
    [curve] = summary.training_loss(race_of({"sgd": [[4, 3, 2, 1], None, None]}))

    assert curve.median == (4, 3, 2, 1)
    assert (curve.seeds, curve.diverged) == (1, 2)


def test_seed_that_stopped_early_keeps_its_last_value():
    [curve] = summary.training_loss(race_of({"sgd": [[4, 3], [4, 3, 2, 1]]}))

    assert curve.median == (4, 3, 2.5, 2)


def test_curve_begins_where_all_seeds_have_begun():
    race = race_of({"sgd": [[None, 3, 2, 1], [5, 4, 3, 2]]})

    assert summary.training_loss(race)[0].steps == (2, 3, 4)


def test_validation_curve_takes_the_metric_that_ranks():
    race = race_of({"sgd": [[4, 3, 2, 1]]}, scores={"sgd": [[0.25, 0.5, None, 0.75]]})
    by_loss = dataclasses.replace(race, plan=dataclasses.replace(race.plan, metric="loss"))

    assert summary.validation_score(race)[0].median == (0.25, 0.5, 0.75)
    assert summary.validation_score(by_loss) == ()  # these evaluations have no loss


def test_tuning_trials_are_no_part_of_a_curve():
    race = made_up.race(final_seeds=2)
    finals = tuple(t for t in race.traces if t.stage is Stage.FINAL)

    assert summary.training_loss(race) == summary.training_loss(dataclasses.replace(race, traces=finals))


def test_fastest_is_first_at_the_worst_of_the_final_losses():
    race = race_of({"sgd": [[8, 6, 5, 4]], "momentum": [[6, 4, 3, 3]], "adam": [[4, 2, 1, 1]]})
    found = summary.convergence(summary.training_loss(race))

    assert found.level == 4
    assert [(a.optimizer, a.step, a.epoch) for a in found.arrivals] == [
        ("adam", 1, 0.5),
        ("momentum", 2, 1.0),
        ("sgd", 4, 2.0),
    ]
    assert summary.convergence_sentence(race) == (
        "Fastest to converge: adam reaches a training loss of 4, which all three reach, after 0.5 epochs; "
        "momentum needs 1.0 and sgd 2.0."
    )


@pytest.mark.parametrize(
    ("losses", "sentence"),
    [
        (
            {"sgd": [[8, 6, 5, 4]], "adam": [[8, 4, 3, 3]]},
            "Fastest to converge: adam reaches a training loss of 4, which both reach, after 1.0 epochs; "
            "sgd needs 2.0.",
        ),
        (
            {"sgd": [[8, 6, 5, 4]], "adam": [[8, 4, 3, 3]], "rmsprop": [[9, 3, 3, 3]]},
            "Fastest to converge: adam and rmsprop reach a training loss of 4, which all three reach, "
            "after 1.0 epochs; sgd needs 2.0.",
        ),
        (
            {"sgd": [[8, 6, 5, 4]], "adam": [[7, 6, 5, 4]]},
            "Fastest to converge: no difference; both first reach a training loss of 4 after 2.0 epochs.",
        ),
        (
            {"sgd": [[8, 6, 5, 4]]},
            "Convergence: sgd ends at a training loss of 4, which it first reaches after 2.0 epochs.",
        ),
        (
            {"sgd": [None, None]},
            "Fastest to converge: nothing can be said, as no final trial was trained to its end.",
        ),
        (
            {"sgd": [None], "adam": [[8, 4, 3, 3]]},
            "Convergence: adam ends at a training loss of 3, which it first reaches after 1.5 epochs. "
            "Diverged and left out here: sgd on 1 of 1 seed.",
        ),
    ],
)
def test_fastest_in_words(losses, sentence):
    assert summary.convergence_sentence(race_of(losses)) == sentence


@given(st.lists(st.lists(st.floats(0.01, 10), min_size=4, max_size=4), min_size=1, max_size=4))
def test_every_optimizer_arrives_and_none_before_its_loss_is_there(curves):
    names = ["sgd", "momentum", "rmsprop", "adam"][: len(curves)]
    drawn = summary.training_loss(
        race_of({name: [losses] for name, losses in zip(names, curves, strict=True)})
    )
    found = summary.convergence(drawn)

    assert {a.optimizer for a in found.arrivals} == set(names)
    for arrival in found.arrivals:
        losses = curves[names.index(arrival.optimizer)]
        assert losses[arrival.step - 1] <= found.level
        assert all(loss > found.level for loss in losses[: arrival.step - 1])


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
    [curve] = summary.score_by_rate(dataclasses.replace(race, traces=(*tuning, *finals)))

    assert [p.scores for p in curve.points] == [(0.5, 0.7), (0.9, 0.8), (0.3,)]
    assert [p.mean for p in curve.points] == [0.6, pytest.approx(0.85), None]
    assert [p.diverged for p in curve.points] == [0, 0, 1]
    assert [p.chosen for p in curve.points] == [False, True, False]


def test_given_rates_have_no_score_by_rate():
    assert summary.score_by_rate(made_up.race(rates=1)) == ()


def test_caption_says_what_the_band_is_and_who_is_missing():
    few, many = [[4, 3, 2, 1]] * 2, [[4, 3, 2, 1]] * 4

    def caption(losses):
        return summary.caption(summary.training_loss(race_of(losses)))

    assert caption({"sgd": few}) == "Line: median over 2 seeds. Band: from the lowest to the highest."
    assert caption({"sgd": many, "adam": [*many[:3], None]}) == (
        "Line: median over 3 to 4 seeds. Band: the middle half of them, with fewer than four from the "
        "lowest to the highest. Diverged and left out here: adam on 1 of 4 seeds."
    )
    assert "Band: the middle half of them." in caption({"sgd": many})


def test_checkpoints_end_with_the_end():
    curves = summary.training_loss(race_of({"sgd": [[4, 3, 2, 1]], "adam": [[2, 1]]}))

    assert summary.checkpoints(curves, count=2) == ((1.0, (3, 1)), (2.0, (1, 1)))


def test_rows_give_the_median_cost():
    race = made_up.race(optimizers=["adam"], final_seeds=3)
    timed = iter([0.001, 0.003, 0.009])
    traces = tuple(
        dataclasses.replace(t, step_seconds=next(timed)) if t.stage is Stage.FINAL else t for t in race.traces
    )
    [row] = summary.rows(dataclasses.replace(race, traces=traces))

    assert row.step_seconds == 0.003
    assert row.state_bytes_per_parameter == 8


def judged(**changes) -> Race:
    """Change the verdict of a race of adam (0.9, test 0.88) before sgd (0.8, test 0.79) over eight seeds."""
    race = made_up.race(optimizers=["sgd", "adam"], final_seeds=8)
    adam, sgd = race.verdict.ranking
    adam = dataclasses.replace(adam, score=0.9, interval=(0.85, 0.95), test=0.88, gap=0.031)
    sgd = dataclasses.replace(sgd, score=0.8, interval=(0.75, 0.85), test=0.79, gap=-0.002)
    verdict = dataclasses.replace(race.verdict, **{"ranking": (adam, sgd), **changes})
    return dataclasses.replace(race, verdict=verdict)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"winner": "adam", "tie": ()}, "adam, 0.90 on validation data, 0.88 on test data."),
        (
            {"winner": None, "tie": ("adam", "sgd")},
            "a tie between adam (0.90 on validation data, 0.88 on test data) and "
            "sgd (0.80 on validation data, 0.79 on test data).",
        ),
        (
            {"winner": None, "tie": ("adam", "sgd"), "seeds": 3, "seeds_needed": 6},
            "undecided; ahead so far is adam, 0.90 on validation data, 0.88 on test data.",
        ),
    ],
)
def test_best_score_in_words(changes, sentence):
    assert summary.best_sentence(judged(**changes)) == f"Best final accuracy: {sentence}"


def test_best_score_says_who_diverged():
    race = made_up.race(optimizers=["sgd", "adam"], final_seeds=8, diverged={"sgd": 8, "adam": 8})
    some = made_up.race(optimizers=["sgd", "adam"], final_seeds=8, diverged={"sgd": 1, "adam": 1})

    assert summary.best_sentence(race) == "Best final accuracy: none, as every optimizer diverged."
    assert "(diverged on 1 of 8 seeds)" in summary.best_sentence(
        dataclasses.replace(some, verdict=dataclasses.replace(some.verdict, winner=None, tie=("adam", "sgd")))
    )


def test_gap_in_words_names_both_ends():
    assert summary.gap_sentence(judged()) == (
        "Generalisation gap (how much worse accuracy is on test than on training data): "
        "smallest with sgd, −0.002; largest with adam, 0.031."
    )


def test_gap_that_does_not_exist_is_said():
    race = made_up.race(optimizers=["sgd"], final_seeds=6, diverged={"sgd": 1})

    assert summary.gap_sentence(race).endswith("not measured.")


def test_unfinished_race_says_how_far_it_is():
    race = made_up.race(optimizers=["sgd", "adam"], rates=3, tuning_seeds=2, final_seeds=6, finished=False)

    assert summary.progress(race) == (16, 2 * (3 * 2 + 6))
    assert summary.sentences(race)[0].startswith("Unfinished: 16 of at most 24 trials are done.")


def test_sentences_begin_with_the_verdict_and_end_with_the_three():
    race = made_up.race()
    said = summary.sentences(race)

    assert said[:-3] == race.verdict.sentences
    assert [s.split(":")[0].split(" (")[0] for s in said[-3:]] == [
        "Fastest to converge",
        "Best final accuracy",
        "Generalisation gap",
    ]

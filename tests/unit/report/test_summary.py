import dataclasses

import pytest

import made_up
from thalweg.evidence.recommendation import recommend
from thalweg.records import Race, Stage
from thalweg.report import summary


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
    assert summary.convergence_sentence(made_up.with_losses(losses)) == sentence


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


def test_a_race_that_follows_another_recommends_nothing_of_its_own():
    race = made_up.race()
    schedules = made_up.follow_up(race)

    assert summary.recommended(schedules) is None
    assert summary.recommended(race, schedules) == recommend(race, schedules)
    assert summary.recommended(made_up.race(finished=False)) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "Use adam at rate 0.001."),
        ({"recipe": {"rate": 0.001, "schedule": {"name": "constant"}}}, "Use adam at rate 0.001."),
        (
            {"recipe": {"rate": 0.0316, "schedule": {"name": "cosine"}}, "decided": False},
            "Use adam at rate 0.0316 with the schedule cosine: preferred, but not decided.",
        ),
    ],
)
def test_what_to_use_in_a_line(changes, said):
    assert summary.pick(dataclasses.replace(recommend(made_up.race()), **changes)) == said


def test_who_reaches_a_target_and_who_does_not_in_words():
    def said(scores, target=0.5):
        race = made_up.with_losses({n: [[4, 3, 2, 1]] * len(own) for n, own in scores.items()}, scores=scores)
        return summary.target_sentence(
            dataclasses.replace(race, plan=dataclasses.replace(race.plan, target=target))
        )

    never, late, soon = [0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.5], [0.6, 0.2, 0.2, 0.9]
    assert said({"sgd": [never], "adam": [late]}) == (
        "To a validation accuracy of 0.5: adam 4 updates (2 epochs), median over the seeds; "
        "reached by sgd on none of 1 seed."
    )
    assert said({"sgd": [late], "adam": [soon]}) == (
        "To a validation accuracy of 0.5: adam 1 update (0.5 epochs) and sgd 4 updates (2 epochs), "
        "median over the seeds."
    )
    assert said({"sgd": [never, soon]}) == (
        "To a validation accuracy of 0.5: reached by sgd on 1 of 2 seeds."
    )
    assert said({"sgd": [soon]}, target=None) == ""

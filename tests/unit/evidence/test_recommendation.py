"""What is recommended, by cases that can be judged by eye; its code and TOML are run in test_code.py."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from made_up import race as made_up
from thalweg.evidence import race as judging
from thalweg.evidence import recommend
from thalweg.records import Contender, Direction, Plan, Race, Recommendation, Stage, Trace

EXAMPLE = made_up(optimizers=("adam",), final_seeds=6, tuning_seeds=2)
SHARED = (0.003, 0.001, 0.004, 0.001, 0.005, 0.009, 0.002, 0.006)  # what a seed adds to every score
RATES = (0.01, 0.1, 1.0)
WIDE, NARROW = ((0.89, 0.92), (0.9, 0.92), (0.89, 0.92)), ((0.1, 0.1), (0.9, 0.92), (0.1, 0.1))


def race_of(
    finals: Mapping[str, Sequence[float | None]],
    *,
    state: Mapping[str, float] = {},
    tuning: Mapping[str, Sequence[Sequence[float | None]]] = {},
    recipes: Mapping[str, Mapping[str, Any]] = {},
    **plan: Any,
) -> Race:
    """A race with these final scores, bytes of state a parameter, and scores at the three rates of tuning."""
    seeds = len(next(iter(finals.values())))
    contenders = tuple(
        Contender(
            name,
            recipes.get(name, {"optimizer": name, "rate": 9.0}),
            RATES if name in tuning else (0.1,),
            3 if name in tuning else 1,
            name in tuning,
        )
        for name in finals
    )
    changed: Plan = replace(
        EXAMPLE.plan,
        **{
            "contenders": contenders,
            "tuning_seeds": (0, 1),
            "final_seeds": tuple(range(2, 2 + seeds)),
            **plan,
        },
    )
    traces = [
        trace(name, Stage.TUNING, rate, seed, score, 0.0)
        for name, by_rate in tuning.items()
        for rate, scores in zip(RATES, by_rate, strict=True)
        for seed, score in enumerate(scores)
    ]
    for contender in contenders:
        rate, _ = judging.chosen_rate(changed, traces, contender)
        if rate is not None:
            traces += [
                trace(contender.name, Stage.FINAL, rate, seed, score, state.get(contender.name, 0.0))
                for seed, score in zip(changed.final_seeds, finals[contender.name], strict=True)
            ]
    return replace(
        EXAMPLE, plan=changed, traces=tuple(traces), verdict=judging.verdict(changed, traces), findings=()
    )


def trace(name: str, stage: Stage, rate: float, seed: int, score: float | None, state: float) -> Trace:
    return replace(
        EXAMPLE.traces[0],
        contender=name,
        stage=stage,
        rate=rate,
        seed=seed,
        score=score,
        validation={} if score is None else {"loss": 1.0, "accuracy": score},
        state_bytes_per_parameter=state,
    )


def level(x: float, wobble: float = 0.0) -> list[float]:
    """Scores around x; the wobble's sign alternates from seed to seed, so that it decides nothing."""
    return [x + s + wobble * (-1) ** i for i, s in enumerate(SHARED)]


def of(race: Race, schedules: Race | None = None) -> Recommendation:
    found = recommend(race, schedules)
    assert found is not None
    return found


def test_a_winner_is_recommended_with_the_rate_that_was_chosen() -> None:
    race = race_of(
        {"sgd": level(0.8), "adam": level(0.9)}, state={"adam": 8.0}, tuning={"adam": WIDE, "sgd": WIDE}
    )
    found = of(race)

    assert (found.contender, found.decided, found.seeds_to_decide) == ("adam", True, None)
    assert found.recipe == {"optimizer": "adam", "rate": 0.1}
    assert race.verdict is not None
    assert found.reasons == race.verdict.sentences[:1]
    assert found.steps == race.plan.steps
    assert "torch.optim.Adam(model.parameters(), lr=0.1)" in found.code
    assert 'optimizer = "adam"\nrate = 0.1\n' in found.toml


def test_of_a_tie_the_smaller_state_is_preferred_and_what_it_may_cost_is_said() -> None:
    """adam leads by 0.0005 ± 0.02: d̄/s = 0.0005/0.0214 = 0.0234, beyond any number of seeds."""
    found = of(race_of({"adam": level(0.9005, 0.01), "sgd": level(0.9, -0.01)}, state={"adam": 8.0}))

    assert (found.contender, found.decided, found.seeds_to_decide) == ("sgd", False, None)
    assert found.reasons[0].startswith("adam and sgd tie: over 8 seeds")
    assert found.reasons[1:] == (
        "sgd takes less memory: 0 bytes of state for each parameter; adam 8.",
        "What that may cost: adam leads by 0.0005 [-0.0195, 0.0205] in the mean validation accuracy, which "
        "may be chance.",
        "Even 1,000 final seeds would hardly tell adam from sgd, if they differ no more than here.",
    )


def test_what_would_decide_is_said_of_the_leader_and_the_next() -> None:
    """d̄ = 0.01, s = 0.02 · √(8/7) = 0.02138: d̄/s = 0.468 takes 38 seeds at 5 %."""
    found = of(race_of({"adam": level(0.91, 0.01), "sgd": level(0.9, -0.01)}))

    assert found.seeds_to_decide == 38
    assert found.reasons[-1] == (
        "About 38 final seeds would decide between adam and sgd, with a chance of 80 %, if they differ as "
        "much as here."
    )


def test_what_would_decide_is_said_of_the_leader_and_whoever_is_preferred_too() -> None:
    """Half of that, so d̄/s = 0.468; at 5 % / 3 it takes (2.39 + 0.84)²/0.468² = 48 by the normal, 51 by t."""
    found = of(
        race_of(
            {"adam": level(0.905, 0.005), "rmsprop": level(0.9049, -0.005), "sgd": level(0.9, -0.005)},
            state={"adam": 8.0, "rmsprop": 4.0},
        )
    )

    assert (found.contender, found.seeds_to_decide) == ("sgd", None)
    assert found.reasons[-2].startswith("Even 1,000 final seeds would hardly tell adam from rmsprop")
    assert found.reasons[-1].startswith("About 51 final seeds would decide between adam and sgd")


def test_with_equal_states_the_wider_basin_is_preferred() -> None:
    found = of(
        race_of(
            {"adam": level(0.9005, 0.01), "rmsprop": level(0.9, -0.01)},
            state={"adam": 8.0, "rmsprop": 7.9},
            tuning={"adam": NARROW, "rmsprop": WIDE},
        )
    )

    assert found.contender == "rmsprop"
    assert found.reasons[1] == (
        "rmsprop needs less care: at least 2.0 decades of rates are about as good as its best; 0.0 for adam."
    )


def test_a_basin_that_is_not_known_of_all_prefers_nobody() -> None:
    found = of(
        race_of({"adam": level(0.9005, 0.01), "sgd": level(0.9, -0.01)}, tuning={"sgd": WIDE}),
    )

    assert found.contender == "adam"
    assert found.reasons[1] == "Of what is left, adam has the best mean."


def test_whoever_diverged_less_often_comes_before_whoever_needs_less_memory() -> None:
    sgd: list[float | None] = [*level(0.95)[:7], None]
    found = of(race_of({"adam": level(0.9), "sgd": sgd}, state={"adam": 8.0}))

    assert (found.contender, found.seeds_to_decide) == ("adam", None)
    assert found.reasons[1] == "adam is safer: it diverged on 0 of 8 final seeds; sgd on 1."
    assert found.reasons[-1] == (
        "How many seeds would decide between adam and sgd cannot be said, as trials diverged."
    )


def test_whoever_loses_but_for_the_correction_is_not_preferred_for_its_memory() -> None:
    """sgd is worse on all but one seed, there by little: p = 4/2⁸, and 6 pairs times that is above 5 %."""
    sgd = level(0.85)
    sgd[0] = level(0.9)[0] + 0.001
    race = race_of(
        {"adam": level(0.9), "rmsprop": level(0.9, 0.003), "adamax": level(0.8999, -0.003), "sgd": sgd},
        state={"adam": 8.0, "rmsprop": 4.0, "adamax": 8.0},
    )
    found = of(race)

    assert race.verdict is not None
    assert race.verdict.tie == ("adam", "rmsprop", "adamax", "sgd")
    assert found.contender == "rmsprop"
    assert found.reasons[1] == (
        "sgd is not preferred: compared with adam alone it is worse (p 0.0156), and only the correction for "
        "6 pairs leaves that open."
    )
    assert found.reasons[2] == (
        "rmsprop takes less memory: 4 bytes of state for each parameter; adam 8 and adamax 8."
    )


def test_what_ties_far_behind_the_leader_is_not_preferred_for_its_memory() -> None:
    """sgd is 0.02 of 0.92 behind, 2.2 %, which so much noise may be; adam's 0.005 are 0.5 %."""
    race = race_of(
        {"lion": level(0.92, 0.05), "adam": level(0.915, -0.05), "sgd": level(0.9, -0.05)},
        state={"lion": 8.0, "adam": 4.0},
    )
    found = of(race)

    assert race.verdict is not None
    assert race.verdict.tie == ("lion", "adam", "sgd")
    assert found.contender == "adam"
    assert found.reasons[1:3] == (
        "sgd is not preferred: its mean is 2.2 % behind that of lion, too much for what may be chance.",
        "adam takes less memory: 4 bytes of state for each parameter; lion 8.",
    )


def test_behind_a_mean_of_nothing_no_share_is_named() -> None:
    """A share of 0 is no number; what comes close to it by chance alone is far behind all the same."""
    race = race_of({"adam": [0.01, -0.01] * 4, "sgd": [-0.01, 0.005] * 4}, state={"adam": 8.0, "sgd": 4.0})
    found = of(race)

    assert (found.contender, race.verdict.ranking[0].score) == ("adam", 0.0)
    assert "sgd is not preferred: its mean is behind that of adam, too much for what may be chance." in (
        found.reasons
    )


def test_with_too_few_seeds_the_best_mean_is_preferred() -> None:
    found = of(race_of({"sgd": [0.5, 0.6, 0.5], "adam": [0.9, 0.9, 0.9]}, state={"adam": 8.0}))

    assert (found.contender, found.decided) == ("adam", False)
    assert found.reasons[0].startswith("Not enough seeds to say which is best")
    assert found.reasons[1] == "Until then adam is preferred, for the best mean so far."
    assert found.seeds_to_decide == 6


def test_a_rate_at_the_edge_is_said() -> None:
    edge = ((0.1, 0.1), (0.5, 0.5), (0.9, 0.9))
    found = of(race_of({"adam": level(0.9), "sgd": level(0.8)}, tuning={"adam": edge, "sgd": WIDE}))

    assert found.reasons[-1] == "Its rate is the highest that was tried: a higher one may be better."


def test_one_optimizer_alone_is_recommended_without_a_verdict() -> None:
    found = of(race_of({"adam": level(0.9)}))

    assert (found.contender, found.decided, found.seeds_to_decide) == ("adam", False, None)
    assert len(found.reasons) == 1


def test_lower_is_better_turns_everything_round() -> None:
    higher = {"adam": level(0.9005, 0.01), "sgd": level(0.9, -0.01)}
    lower = {name: [-x for x in scores] for name, scores in higher.items()}
    up = of(race_of(higher, state={"adam": 8.0}))
    down = of(race_of(lower, state={"adam": 8.0}, direction=Direction.LOWER))

    assert (down.contender, down.reasons[1:]) == (up.contender, up.reasons[1:])


def test_there_is_nothing_to_recommend_where_all_diverged_or_nothing_is_judged() -> None:
    lost: list[float | None] = [None] * 6

    assert recommend(race_of({"a": lost, "b": lost})) is None
    assert recommend(race_of({"a": [0.1] * 6}, tuning={"a": [(None, None)] * 3})) is None
    assert recommend(replace(race_of({"a": [0.1] * 6}), verdict=None)) is None


RACE = race_of({"sgd": level(0.8), "adam": level(0.9)}, source="digits")


def schedules(constant: list[float], cosine: list[float], **more: Any) -> Race:
    recipes = {
        "cosine": {"optimizer": "adam", "rate": 9.0, "schedule": {"name": "cosine"}},
        "constant": {"optimizer": "adam", "rate": 9.0, "schedule": {"name": "constant"}},
    }
    return race_of(
        {"cosine": cosine, "constant": constant}, recipes=recipes, source="digits", steps=40, **more
    )


def test_the_schedule_that_wins_is_taken_with_its_recipe() -> None:
    found = of(RACE, schedules(level(0.9), level(0.95)))

    assert (found.contender, found.decided) == ("adam", True)
    assert found.recipe == {"optimizer": "adam", "rate": 0.1, "schedule": {"name": "cosine"}}
    assert found.steps == 40
    assert found.reasons[-1].startswith("Of the schedules, cosine is best: validation accuracy 0.95")
    assert "from_data({'name': 'cosine'}).resolve(40)" in found.code
    assert "--steps 40" in found.toml


def test_of_schedules_that_tie_the_constant_one_is_taken() -> None:
    found = of(RACE, schedules(level(0.9, -0.01), level(0.9005, 0.01)))

    assert found.recipe["schedule"] == {"name": "constant"}
    assert found.reasons[-1] == (
        "The schedules cosine and constant tie: constant is taken, which has nothing to set."
    )


def test_where_no_schedule_could_be_trained_the_recipe_of_the_race_stays() -> None:
    lost: list[Any] = [None] * 8

    assert of(RACE, schedules(lost, lost)) == of(RACE)
    assert of(RACE, replace(schedules(lost, lost), verdict=None)) == of(RACE)


@pytest.mark.parametrize("seed", range(4))
def test_the_recommendation_of_a_made_up_race_is_among_those_that_the_evidence_leaves(seed: int) -> None:
    race = made_up(seed=seed, final_seeds=8)
    found = of(race)
    assert race.verdict is not None

    assert found.contender in (race.verdict.tie or (race.verdict.winner,))
    assert found.decided == (race.verdict.winner is not None)
    assert (found.seeds_to_decide is None) or not found.decided

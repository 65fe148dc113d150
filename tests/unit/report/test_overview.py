import dataclasses

import pytest

import made_up
from thalweg.report import overview
from thalweg.report.curves import convergence, target_times, training_loss

FIRST = made_up.race(key="first", target=0.95)
SCHEDULES = made_up.follow_up(FIRST, key="schedules")


def test_a_race_stands_under_the_one_that_it_follows():
    [family] = overview.families([SCHEDULES, FIRST])

    assert family.race is FIRST
    assert [child.race for child in family.follow_ups] == [SCHEDULES]
    assert family.schedules is SCHEDULES


def test_a_race_whose_forerunner_is_absent_stands_for_itself():
    assert [family.race for family in overview.families([SCHEDULES])] == [SCHEDULES]


def test_an_unfinished_follow_up_is_shown_and_recommends_nothing():
    unfinished = dataclasses.replace(SCHEDULES, verdict=None)
    [family] = overview.families([FIRST, unfinished])

    assert family.follow_ups[0].race is unfinished
    assert family.schedules is None


def test_of_one_race_from_two_folders_the_one_that_is_furthest_is_kept():
    begun = made_up.race(key="first", finished=False)
    less = dataclasses.replace(begun, traces=begun.traces[:5])

    assert overview.distinct([begun, FIRST, SCHEDULES]) == [FIRST, SCHEDULES]
    assert overview.distinct([FIRST, begun]) == [FIRST]
    assert overview.distinct([less, begun]) == [begun]


@pytest.mark.parametrize(
    ("race", "said"),
    [
        (FIRST, "adam wins"),
        (made_up.race(finished=False), "unfinished"),
        (made_up.race(optimizers=["sgd"]), "no comparison"),
        (made_up.race(optimizers=["sgd", "adam"], final_seeds=2), "undecided: too few seeds"),
        (made_up.race(optimizers=["lion", "muon"]), "lion and muon tie"),
    ],
)
def test_result_in_a_few_words(race, said):
    assert overview.result(race) == said


def test_tasks_together_go_by_the_epochs_to_the_target_where_all_have_one():
    other = made_up.race(seed=1, task="digits", target=0.96)
    found = overview.together([FIRST, other])

    assert found.targets
    assert found.tasks == ("mnist", "digits")
    for i, race in enumerate((FIRST, other)):
        times = {t.optimizer: t.epochs for t in target_times(race)}
        assert {name: costs[i] for name, costs in found.costs.items()} == times
    assert found.costs["sgd"] == (None, None)
    assert found.profile.misses["sgd"] == 2
    assert found.profile.ratios["adam"] == (1.0, 1.0)


def test_without_targets_tasks_together_go_by_the_training_loss_that_all_reach():
    races = [made_up.race(), made_up.race(seed=1, task="digits", target=0.9, optimizers=["adam", "sgd", "x"])]
    found = overview.together(races)

    assert not found.targets
    assert set(found.costs) == {"sgd", "adam"}  # those that ran on both
    curves = [c for c in training_loss(races[0]) if c.optimizer in ("sgd", "adam")]
    assert {a.optimizer: a.epoch for a in convergence(curves).arrivals} == {
        name: costs[0] for name, costs in found.costs.items()
    }


@pytest.mark.parametrize(
    "others",
    [
        [],
        [made_up.race(seed=1)],  # the same task
        [made_up.race(task="digits", finished=False)],
        [made_up.race(task="digits", vary="batch_size")],
        [made_up.race(task="digits", optimizers=["adam", "lion"])],  # one optimizer in common
    ],
)
def test_tasks_that_cannot_be_taken_together_are_not(others):
    assert overview.together([FIRST, *others]) is None


def test_of_two_races_on_a_task_the_last_one_counts():
    late = made_up.race(seed=7, target=0.95)
    other = made_up.race(seed=1, task="digits", target=0.95)

    assert overview.together([FIRST, other, late]).costs == overview.together([late, other]).costs

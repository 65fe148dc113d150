"""Budgets in words and numbers, and the identity of a trial."""

from dataclasses import replace
from typing import Any

import pytest

from small_tasks import EXECUTION, linear, logistic, trial, workload
from thalweg.errors import InputError
from thalweg.records import Direction, Stage
from thalweg.training.recipe import Recipe
from thalweg.training.trial import Budget, trial_key


@pytest.mark.parametrize(
    ("budget", "steps"),
    [
        (Budget(epochs=3), 15),  # 22 examples in batches of 5: 5 updates an epoch
        (Budget(epochs=0.5), 2),
        (Budget(epochs=0.01), 1),
        (Budget(steps=7), 7),
        (Budget(seconds=2.0), 8),
        (Budget(seconds=0.01), 1),
    ],
)
def test_a_budget_in_updates(budget: Budget, steps: int) -> None:
    assert budget.steps_for(examples=22, batch_size=5, step_seconds=0.25) == steps


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "the budget must be given in one of epochs, steps and seconds; got none."),
        ({"epochs": 1, "steps": 2}, "got epochs and steps."),
        ({"epochs": 0}, "epochs of the budget must be a finite number above 0; got 0."),
        ({"epochs": -1.0}, "got -1.0"),
        ({"epochs": float("nan")}, "got nan"),
        ({"steps": 0}, "steps of the budget must be a whole number of at least 1; got 0."),
        ({"steps": 2.5}, "got 2.5"),
        ({"seconds": float("inf")}, "seconds of the budget must be a finite number above 0; got inf."),
        ({"seconds": "5m"}, "got '5m'"),
    ],
)
def test_a_budget_that_is_none_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refusal:
        Budget(**given)
    assert message in str(refusal.value)


def test_a_batch_larger_than_the_training_part_is_refused_and_all_means_all() -> None:
    work = workload(linear())

    assert work.batch_size(Recipe(batch_size=22)) == work.batch_size(Recipe(batch_size="all")) == 22
    with pytest.raises(InputError, match="must be at most the 22 examples of the training part; got 23"):
        work.batch_size(Recipe(batch_size=23))


def test_the_key_of_a_trial_depends_on_all_that_its_numbers_depend_on() -> None:
    work, one = workload(linear()), trial(Recipe("adam", 0.1), 10)
    others = [
        (workload(logistic()), one, EXECUTION),
        (replace(work, fingerprint="0"), one, EXECUTION),
        (replace(work, metric="accuracy"), one, EXECUTION),
        (replace(work, direction=Direction.HIGHER), one, EXECUTION),
        (work, replace(one, contender="other"), EXECUTION),
        (work, replace(one, stage=Stage.FINAL), EXECUTION),
        (work, replace(one, recipe=Recipe("adam", 0.2)), EXECUTION),
        (work, replace(one, recipe=Recipe("adam", 0.1, {"eps": 1e-9})), EXECUTION),
        (work, replace(one, seed=1), EXECUTION),
        (work, replace(one, steps=11), EXECUTION),
        (work, one, replace(EXECUTION, root=8)),
        (work, one, replace(EXECUTION, executor="fleet")),
        (work, one, replace(EXECUTION, threads=2)),
        (work, one, replace(EXECUTION, device="cuda")),
        (work, one, replace(EXECUTION, versions=(("thalweg", "1"),))),
    ]
    keys = [trial_key(*other) for other in others]

    assert len({trial_key(work, one, EXECUTION), *keys}) == len(others) + 1


def test_equal_trials_have_equal_keys_however_their_recipes_were_written() -> None:
    work = workload(linear())
    written = Recipe.from_toml('optimizer = "adam"\nrate = 1\nhyperparameters = {betas = [0, 0.9]}')
    built = Recipe("adam", 1.0, {"betas": (0.0, 0.9)})

    assert trial_key(work, trial(written, 3), EXECUTION) == trial_key(
        workload(linear()), trial(built, 3), EXECUTION
    )

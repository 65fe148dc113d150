"""`find_lr` and `find_lrs`: what they take together, what they refuse, and that nothing notices."""

import dataclasses
import random
from typing import Any

import numpy as np
import pytest
import torch

from small_tasks import BATCH, TRAIN, batch_norm, dictionary, linear, logistic
from thalweg import schedules
from thalweg.api.rate import find_lr, find_lrs
from thalweg.errors import InputError
from thalweg.finder.search import POINTS
from thalweg.records import Answer, Finding
from thalweg.training.recipe import Plateau, Recipe


def found(optimizer: Any = "adam", **more: Any) -> Finding:
    return find_lr(linear(), optimizer, **{"steps": 200, "batch_size": BATCH, "executor": "serial", **more})


def test_the_same_seed_is_the_same_answer_and_another_is_not() -> None:
    first = found()

    assert first == found()
    assert (first.outcome, first.optimizer) == (Answer.FOUND, "adam")
    assert first.losses != found(seed=1).losses
    assert found(executor="fleet") == found(executor="fleet")


def test_a_fleet_answers_as_one_training_after_the_other_does() -> None:
    alone, fleet = found(), found(executor="fleet")

    # A fleet rounds otherwise. Linear regression does not amplify that below the rates that diverge.
    assert fleet.suggestion == pytest.approx(alone.suggestion, rel=0.02)
    known = [(a, b) for a, b in zip(alone.losses, fleet.losses, strict=True) if a is not None]
    assert all(b == pytest.approx(a, rel=1e-4) for a, b in known)
    assert (fleet.steps, fleet.diverges_at) == (alone.steps, alone.diverges_at)


def test_several_are_searched_together_and_each_as_if_it_were_alone() -> None:
    names = ["momentum", "lion", "sgd"]

    together = find_lrs(linear(), names, steps=200, batch_size=BATCH, executor="serial")

    assert list(together) == names
    assert all(together[name] == found(name) for name in names)


@pytest.mark.parametrize("executor", ["serial", "fleet"])
@pytest.mark.parametrize(
    "task", [linear(), logistic(), batch_norm(), dictionary()], ids=lambda task: task.name
)
def test_nothing_notices(task: Any, executor: str) -> None:
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    threads = torch.get_num_threads()

    find_lr(task, "adam", steps=100, batch_size=BATCH, executor=executor)

    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before
    assert torch.get_num_threads() == threads


def test_what_slows_or_stops_a_training_by_itself_is_left_out() -> None:
    plain = Recipe("adam", batch_size=BATCH)
    slowed = Recipe(
        "adam", batch_size=BATCH, schedule=schedules.Cosine(), plateau=Plateau(patience=1), patience=1
    )

    assert found(slowed) == found(plain)


def test_wrappers_and_hyperparameters_count_and_the_rate_of_a_recipe_does_not() -> None:
    plain = found("sgd")

    assert found(Recipe("sgd", 7.0, batch_size=BATCH)) == plain
    assert found("sgd", recipe={"wrappers": {"clip_norm": 1e-3}}).losses != plain.losses
    assert found("sgd", recipe={"hyperparameters": {"momentum": 0.9}}).losses != plain.losses
    wrapped = Recipe("sgd", batch_size=BATCH, wrappers={"clip_norm": 1e-3})
    assert found(wrapped) == found("sgd", recipe={"wrappers": {"clip_norm": 1e-3}})


def test_further_fields_are_those_of_every_recipe() -> None:
    fields = {"wrappers": {"clip_norm": 1e-3}}

    assert found(Recipe("sgd", batch_size=BATCH), recipe=fields) == found("sgd", recipe=fields)


def test_epochs_are_as_many_updates_as_the_batches_of_each_recipe_make() -> None:
    # 22 examples are 5 batches of 5, or one of 22.
    recipes = [Recipe("adam", batch_size=BATCH), Recipe("sgd", batch_size=TRAIN)]

    both = find_lrs(linear(), recipes, epochs=200, executor="serial")

    assert [both[name].horizon for name in ("adam", "sgd")] == [328, 64]
    assert "over 1,000 updates" in both["adam"].sentences[0]
    assert "over 200 updates" in both["sgd"].sentences[0]


def test_without_a_length_it_is_that_of_the_tasks_training() -> None:
    task = dataclasses.replace(linear(), epochs=40)

    assert find_lr(task, batch_size=BATCH, executor="serial") == found(steps=200)


@pytest.mark.parametrize("steps", [1, 4, 30])
def test_the_shortest_trainings_have_an_answer_or_say_why(steps: int) -> None:
    short = found(steps=steps)

    assert (short.outcome is Answer.FOUND) == (short.suggestion is not None)
    assert short.steps >= 3 * 24 + POINTS  # no sweep is shorter than 24 updates


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"optimizers": []}, r"the optimizers must be one or more different names; got \[\]"),
        ({"optimizers": ["sgd", "sgd"]}, "the optimizers must be one or more different names"),
        (
            {"optimizers": ["adm"]},
            "the optimizer must be one that Thalweg knows; got 'adm'",
        ),
        (
            {"epochs": 2.0},
            "the budget must be given in one of epochs, steps and seconds",
        ),
        ({"steps": 0}, "steps of the budget must be a whole number of at least 1; got 0"),
        ({"batch_size": 23}, "must be a whole number from 1 to 22, the number of training examples; got 23"),
        ({"optimizers": [Recipe("sgd", batch_size=23)], "batch_size": None}, "from 1 to 22"),
        ({"recipe": {"wrapers": {}}}, "the fields of a recipe must be among .* Did you mean wrappers"),
        ({"seed": -1}, "seed of the run must be a whole number in"),
        ({"executor": "quick"}, "the executor must be one of auto, serial, processes, fleet; got 'quick'"),
        ({"threads": 0}, "threads of the run must be a whole number of at least 1; got 0"),
    ],
)
def test_what_cannot_work_is_refused(arguments: dict[str, Any], said: str) -> None:
    given = {"optimizers": ["sgd"], "steps": 100, "batch_size": BATCH, **arguments}

    with pytest.raises(InputError, match=said):
        find_lrs(linear(), **given)


def test_names_in_one_text_are_those_between_its_commas() -> None:
    found = find_lrs("wine", "sgd, adam", steps=40)
    assert list(found) == ["sgd", "adam"]

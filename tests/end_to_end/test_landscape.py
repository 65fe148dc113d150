"""`thalweg landscape` beside the call in Python: the same numbers, no trace but the page, and words."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from end_to_end.program import TASK, Call, contents
from thalweg.api.landscape import loss_landscape
from thalweg.report import landscape as report
from thalweg.training.recipe import Recipe

SHORT = ("wine", "--steps", "40", "--grid", "5", "--moments", "9", "--directions", "2")
CALLED: dict[str, Any] = {"steps": 40, "grid": 5, "moments": 9, "directions": 2}


def answer(call: Call, *arguments: str) -> Any:
    done = call("landscape", *arguments, "--json")
    assert (done.code, done.err) == (0, "")
    return json.loads(done.out)


def timeless(said: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in said.items() if not name.endswith("_seconds")}


def test_command_and_call_give_the_same_answer_twice(call: Call) -> None:
    said = answer(call, *SHORT, "--optimizer", "momentum", "--rate", "0.05", "--seed", "3")
    again = answer(call, *SHORT, "--optimizer", "momentum", "--rate", "0.05", "--seed", "3")
    found = loss_landscape("wine", {"optimizer": "momentum", "rate": 0.05}, seed=3, **CALLED)

    expected = json.loads(json.dumps(report.as_json(found)))
    assert timeless(said) == timeless(expected) == timeless(again)
    assert said["path"]["steps"] == [0, 5, 10, 15, 20, 25, 30, 35, 40]
    assert [len(row) for row in said["principal"]["losses"]] == [5] * 5
    assert said["center_loss"] == said["random"]["losses"][2][2]
    assert said["path"]["loss_real"][-1] == pytest.approx(said["center_loss"], rel=1e-6)


def test_one_by_one_gives_the_same_up_to_rounding(call: Call) -> None:
    fleet, serial = answer(call, *SHORT), answer(call, *SHORT, "--executor", "serial")

    assert (fleet["one_by_one"], serial["one_by_one"]) == ("", "it was asked for")
    for name in ("random", "principal"):
        np.testing.assert_allclose(fleet[name]["losses"], serial[name]["losses"], rtol=1e-5)


def test_the_recipe_is_the_one_of_train(tmp_path: Path, call: Call) -> None:
    recipe = Recipe("adamw", 0.01, hyperparameters={"weight_decay": 0.1}, batch_size=16, precision="float64")
    (tmp_path / "recipe.toml").write_text(recipe.to_toml())

    from_file = answer(call, *SHORT, "--recipe", "recipe.toml")
    by_options = answer(
        call, *SHORT, "--optimizer", "adamw", "--rate", "0.01", "--set", "weight_decay=0.1",
        "--batch-size", "16", "--set", "precision=float64",
    )  # fmt: skip

    assert from_file["recipe"] == by_options["recipe"] == json.loads(json.dumps(recipe.to_data()))
    assert timeless(from_file) == timeless(by_options)


def test_parts_and_fewer_examples_are_what_is_measured_on(call: Call) -> None:
    whole, few = answer(call, *SHORT), answer(call, *SHORT, "--examples", "20")
    validation = answer(call, *SHORT, "--part", "validation")

    assert (whole["part"], whole["examples"], few["examples"]) == ("train", 142, 20)
    assert validation["part"] == "validation"
    assert whole["path"]["x"] == few["path"]["x"] == validation["path"]["x"]
    losses = {said["center_loss"] for said in (whole, few, validation)}
    assert len(losses) == 3


def test_span_and_biases_change_the_random_slices_alone(call: Call) -> None:
    plain, near, all_of_them = (
        answer(call, *SHORT, *more) for more in ((), ("--span", "0.5"), ("--biases",))
    )

    assert near["random"]["x"] == [-0.5, -0.25, 0.0, 0.25, 0.5]
    assert near["random"]["losses"][0][0] == plain["random"]["losses"][1][1]
    assert plain["still"] > 0 == all_of_them["still"]
    assert plain["principal"] == near["principal"] == all_of_them["principal"]


def test_the_text_says_it_first_and_the_page_is_all_that_is_written(tmp_path: Path, call: Call) -> None:
    before = torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()
    threads = torch.get_num_threads()
    done = call("landscape", *SHORT, "--out", "page/loss.html")

    assert (done.code, done.err) == (0, "")
    first, *_, last = done.out.splitlines()
    assert first.startswith(("The plane hides up to ", "The drawn path can be read off its contours"))
    assert last == "Report: page/loss.html"
    assert set(contents(tmp_path)) == {"page", "page/loss.html"}
    assert first.replace("'", "&#39;") in (tmp_path / "page" / "loss.html").read_text()
    assert (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()) == before
    assert torch.get_num_threads() == threads


def test_a_persons_own_task_has_a_landscape(tmp_path: Path, call: Call) -> None:
    (tmp_path / "task.py").write_text(TASK)

    said = answer(call, "task.py", "--steps", "6", "--grid", "3", "--directions", "2")

    assert said["parameters"] == 12
    assert len(said["path"]["steps"]) == 7


def test_a_training_that_diverges_ends_with_a_sentence(call: Call) -> None:
    done = call("landscape", *SHORT, "--optimizer", "sgd", "--rate", "1e30")

    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("thalweg: the training diverged at update ")


@pytest.mark.parametrize(
    ("arguments", "begins"),
    [
        (("--grid", "4"), "grid of the landscape must be odd, so that 0 is on it; got 4. Take 5."),
        (("--grid", "1"), "grid of the landscape must be a whole number in [3, 201]; got 1."),
        (("--moments", "2"), "moments of the landscape must be a whole number in [3, 1001]; got 2."),
        (("--directions", "1"), "directions of the landscape must be a whole number in [2, 100]; got 1."),
        (("--span", "0"), "span of the landscape must be a finite number above 0; got 0.0."),
        (("--part", "test"), "part of the landscape must be train or validation; got 'test'."),
        (("--examples", "999"), "examples of the landscape must be a whole number in [1, 142]; got 999."),
        (("--executor", "processes"), "the executor of a landscape must be auto, fleet or serial; got "),
        (("--out", "/dev/null/loss.html"), "--out must name a file in a folder; got "),
        (("--out", "."), "--out must name a file; got the folder .. Such as report.html."),
        (("--set", "betas=1"), "betas of Adam must be"),
        (("--steps", "0"), "steps of the budget must be a whole number of at least 1; got 0."),
        (("--epochs", "1", "--steps", "9"), "the budget must be given in one of epochs, steps and"),
        (("--recipe", "no.toml"), "the recipe no.toml must be a readable file; got No such file"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(
    tmp_path: Path, call: Call, arguments: tuple[str, ...], begins: str
) -> None:
    done = call("landscape", "wine", *arguments)

    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"thalweg: {begins}")
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("path", ["one update", "no movement"])
def test_a_path_without_a_plane_is_said_to_be_one(call: Call, path: str) -> None:
    more = ("--steps", "1") if path == "one update" else ("--steps", "9", "--rate", "1e-30")
    done = call("landscape", "wine", *more)

    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("thalweg: the weights moved along a line, or not at all")


def test_the_whole_batch_and_a_setting_that_is_none_are_read(call: Call) -> None:
    said = answer(call, *SHORT, "--set", "batch_size=all")

    assert said["recipe"]["batch_size"] == "all"
    assert call("landscape", *SHORT, "--set", "nothing=1").err.startswith(
        "thalweg: --set must be NAME=VALUE with NAME among betas, "
    )

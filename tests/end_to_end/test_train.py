"""`thalweg train`: what it keeps, and that it keeps its word about options, budgets and repetition."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from end_to_end.program import Call, contents, timeless
from thalweg.store import FILE_NAME
from thalweg.tasks import load_task
from thalweg.training.recipe import Recipe

SHORT = ("train", "digits", "--steps", "20")


def train(call: Call, *arguments: str) -> Any:
    done = call(*arguments, "--json")
    assert (done.code, done.err) == (0, "")
    return json.loads(done.out)


def test_the_weights_that_are_kept_are_those_that_were_measured(tmp_path: Path, call: Call) -> None:
    found = train(call, *SHORT)

    task = load_task("digits")
    x, y = next(task.data(seed=0).test.batches(10_000))
    model = task.model(seed=9)
    model.load_state_dict(load_file(tmp_path / found["folder"] / "model.safetensors"))
    # A count over a count: exact.
    assert found["test"]["accuracy"] == (model(x).argmax(1) == y).sum().item() / len(y)
    assert (found["outcome"], found["steps"], found["loss_steps"][-1]) == ("completed", 20, 20)


def test_the_recipe_that_is_kept_trains_to_the_same_bits(tmp_path: Path, call: Call) -> None:
    options = ("--optimizer", "momentum", "--rate", "0.05", "--schedule", "cosine", "--wrap", "clip_norm:0.5")
    first = train(call, *SHORT, *options)
    kept = tmp_path / first["folder"] / "recipe.toml"
    second = train(call, *SHORT, "--recipe", str(kept), "--out", "again")

    recipe = Recipe.from_toml(kept.read_text())
    assert (recipe.optimizer, recipe.rate, recipe.wrappers) == (
        "momentum",
        0.05,
        {"clip_norm": {"limit": 0.5}},
    )
    assert first["clipped_fraction"] > 0
    assert {**timeless(first), "folder": ""} == {**timeless(second), "folder": ""}
    weights = [(tmp_path / found["folder"] / "model.safetensors").read_bytes() for found in (first, second)]
    assert weights[0] == weights[1]


def test_options_change_a_recipe_and_another_optimizer_drops_its_rate(tmp_path: Path, call: Call) -> None:
    (tmp_path / "recipe.toml").write_text('optimizer = "sgd"\nrate = 0.5\nbatch_size = 100\n')

    changed = train(call, *SHORT, "--recipe", "recipe.toml", "--optimizer", "adam", "--batch-size", "50")
    kept = train(call, *SHORT, "--recipe", "recipe.toml", "--set", "weight_decay=0.1")

    assert (changed["contender"], changed["rate"], changed["recipe"]["batch_size"]) == ("adam", 0.001, 50)
    assert (kept["contender"], kept["rate"], kept["recipe"]["batch_size"]) == ("sgd", 0.5, 100)
    assert kept["recipe"]["hyperparameters"] == {"weight_decay": 0.1}


def test_a_finished_training_is_shown_again_and_nothing_is_run(tmp_path: Path, call: Call) -> None:
    first = train(call, *SHORT)
    before = contents(tmp_path)

    assert train(call, *SHORT) == first
    assert contents(tmp_path) == before


def test_fresh_trains_anew_to_the_same_bits(tmp_path: Path, call: Call) -> None:
    first = train(call, *SHORT)
    weights = (tmp_path / first["folder"] / "model.safetensors").read_bytes()
    second = train(call, *SHORT, "--fresh")

    assert timeless(first) == timeless(second)
    assert first["total_seconds"] != second["total_seconds"]
    assert (tmp_path / second["folder"] / "model.safetensors").read_bytes() == weights


def test_each_seed_and_each_recipe_has_a_folder_of_its_own(tmp_path: Path, call: Call) -> None:
    options: list[tuple[str, ...]] = [(), ("--seed", "1"), ("--rate", "0.1"), ("--batch-size", "all")]
    found = [train(call, *SHORT, *more) for more in options]

    assert len({f["folder"] for f in found}) == 4
    assert len({f["score"] for f in found}) > 1
    assert len(json.loads(call("runs", "--json").out)["trainings"]) == 4
    assert sorted(path.name for path in (tmp_path / "thalweg-runs").iterdir()) == sorted(
        [FILE_NAME, *(Path(f["folder"]).name for f in found)]
    )


def test_a_budget_in_seconds_is_measured_once_and_kept(call: Call) -> None:
    budget = ("train", "wine", "--seconds", "0.2")
    first = train(call, *budget)

    assert first["outcome"] == "completed"
    assert first["steps"] == first["budget_steps"] >= 1
    assert train(call, *budget) == first


@pytest.mark.parametrize(("budget", "steps"), [(("--epochs", "0.5"), 22), (("--steps", "3"), 3), ((), 450)])
def test_a_budget_is_spent_to_the_update(call: Call, budget: tuple[str, ...], steps: int) -> None:
    # 1437 examples in batches of 32: 45 updates an epoch; digits suggests ten epochs.
    assert train(call, "train", "digits", *budget)["steps"] == steps


def test_a_recipe_file_without_a_batch_size_takes_the_one_of_the_task(tmp_path: Path, call: Call) -> None:
    (tmp_path / "recipe.toml").write_text('optimizer = "sgd"\nrate = 0.5\n')
    (tmp_path / "task.py").write_text(
        "import torch\nfrom torch import nn\nbatch_size = 4\n"
        "def make_model():\n    return nn.Linear(3, 1)\n"
        "def make_data(seed):\n    return torch.ones(40, 3), torch.ones(40, 1)\n"
        "def loss(model, batch):\n    return (model(batch[0]) - batch[1]).square().mean()\n"
    )

    found = train(call, "train", "task.py", "--steps", "3", "--recipe", "recipe.toml")

    assert (found["recipe"]["batch_size"], found["recipe"]["optimizer"], found["rate"]) == (4, "sgd", 0.5)


def test_patience_ends_a_training_and_brings_the_best_weights_back(tmp_path: Path, call: Call) -> None:
    more = ("--rate", "3", "--optimizer", "momentum", "--set", "patience=3")
    found = train(call, "train", "digits", "--epochs", "5", *more)

    accuracies = [e["metrics"]["accuracy"] for e in found["evaluations"]]
    assert found["outcome"] == "stopped early"
    assert found["score"] == max(accuracies) > accuracies[-1]
    task = load_task("digits")
    x, y = next(task.data(seed=0).validation.batches(10_000))
    model = task.model(seed=9)
    model.load_state_dict(load_file(tmp_path / found["folder"] / "model.safetensors"))
    assert (model(x).argmax(1) == y).sum().item() / len(y) == found["score"]


def test_a_training_that_diverges_is_an_outcome_in_words(call: Call) -> None:
    done = call(*SHORT, "--optimizer", "sgd", "--rate", "1e30")

    assert done.out.startswith("The loss left all bounds or stopped being a number; training ended there. ")
    assert (done.code, done.err) == (0, "")


def test_the_answer_for_a_person_names_every_part_and_the_folder(tmp_path: Path, call: Call) -> None:
    done = call(*SHORT)

    lines = done.out.splitlines()
    assert lines[0].startswith("The whole budget was trained. 20 of 20 updates, ")
    assert [line.split(":")[0].strip() for line in lines[1:]] == [
        *("training", "validation", "test", "Weights and recipe")
    ]
    folder = tmp_path / lines[-1].removeprefix("Weights and recipe: ")
    assert {path.name for path in folder.iterdir()} >= {"recipe.toml", "model.safetensors"}

"""The Python calls, as from a notebook."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch
from torch import nn

import thalweg
from end_to_end.program import Call, contents
from small_tasks import linear, network
from thalweg import Recipe, Task, schedules
from thalweg.errors import InputError
from thalweg.records import Outcome
from thalweg.store import Store
from thalweg.training import snapshot

GIVEN: dict[str, Any] = {"rates": {"sgd": 0.1, "adam": 0.01}, "epochs": 2, "seeds": 2, "schedules": ()}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def arrays() -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(120, 4))
    return x, x[:, :3].argmax(1)


def state(model: nn.Module) -> list[Any]:
    return [t.tolist() for t in model.state_dict().values()]


def interrupting(task: Task, calls: int) -> Task:
    """The same task, whose loss is interrupted by Ctrl-C after so many calls."""
    count = 0

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        nonlocal count
        count += 1
        if count > calls:
            raise KeyboardInterrupt
        return task.loss(model, batch)

    return dataclasses.replace(task, loss=loss)


def test_arrays_are_raced_in_one_line() -> None:
    result = thalweg.showdown(arrays(), ["sgd", "adam"], **GIVEN)

    assert {s.optimizer for s in result.verdict.ranking} == {"sgd", "adam"}
    assert result.race.plan.metric == "accuracy"
    assert str(result).startswith(result.race.verdict.sentences[0][:60])  # type: ignore[union-attr]
    assert str(result).endswith(f"Report: {result.report}")
    assert result.report.is_file()


def test_names_may_come_one_by_one_or_between_commas() -> None:
    lazily = thalweg.showdown(arrays(), (name for name in ("sgd", "adam")), **GIVEN)
    typed = thalweg.showdown(arrays(), "sgd,adam", **GIVEN)

    assert lazily.race == typed.race


def test_a_task_of_functions_is_raced() -> None:
    result = thalweg.showdown(network(), ["sgd", "adam"], batch_size=5, **GIVEN)

    assert result.race.plan.task == "network"
    assert (result.race.plan.train_examples, result.race.plan.batch_size) == (22, 5)


def test_names_of_one_s_own_race_with_a_recipe_each() -> None:
    recipes = {
        "plain": Recipe("sgd", batch_size=5),
        "falling": Recipe("sgd", batch_size=5, schedule=schedules.Cosine()),
        "clipped": Recipe("adam", batch_size=5, wrappers={"clip_norm": 0.1}),
    }
    result = thalweg.showdown(linear(), recipes, rates=dict.fromkeys(recipes, 0.1), epochs=2, seeds=2)

    assert [c.name for c in result.race.plan.contenders] == list(recipes)
    scores = {s.optimizer: s.score for s in result.verdict.ranking}
    assert len(set(scores.values())) == 3
    assert result.verdict.direction == "lower"


def test_the_answer_is_the_one_of_the_command(call: Call) -> None:
    result = thalweg.showdown("digits", ["sgd", "adam"], rates={"sgd": 0.1, "adam": 0.01}, steps=3, seeds=1)
    done = call(
        *("showdown", "digits", "--optimizers", "sgd,adam", "--rates", "sgd=0.1,adam=0.01"),
        *("--steps", "3", "--seeds", "1", "--json"),
    )

    # The same race, not one with equal numbers: times and dates are those of the call above.
    assert json.loads(done.out) == result.to_json()


def test_the_global_random_numbers_are_as_before() -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1]  # type: ignore[index]
    thalweg.showdown(network(), ["sgd"], rates={"sgd": 0.1}, epochs=1, seeds=1, batch_size=5)
    thalweg.train(network(), Recipe("sgd", batch_size=5), seconds=0.05)

    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # type: ignore[index]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"optimizers": ["sgd", "adm"]}, "Did you mean adam"),
        ({"optimizers": {"mine": "adam"}}, "the entry mine must be a Recipe; got 'adam'"),
        ({"optimizers": []}, "the optimizers of a race must be one or more different names; got none"),
        (
            {"optimizers": {"mine": Recipe(batch_size=5)}, "batch_size": 8},
            "must be left out where each optimizer",
        ),
        (
            {"optimizers": {"mine": Recipe(batch_size=5)}, "recipe": {"wrappers": {"clip_norm": 1}}},
            "must be left out where",
        ),
        (
            {"optimizers": {"a": Recipe(batch_size=5), "b": Recipe(batch_size=6)}, "steps": 9},
            "a budget in steps must be for batches of one size; got batches of 5 and 6. Give epochs",
        ),
        (
            {"optimizers": {"mine": Recipe(batch_size=23)}},
            "must be a whole number from 1 to 22, the number of",
        ),
        ({"rates": {"lion": 0.1}}, "rates must be given for optimizers of the race; got 'lion'"),
        ({"rates": {"sgd": []}}, "the rates of sgd must be one or more different numbers"),
        ({"rates": 0.1}, "must be a whole number of at least 1; got 0.1"),
        ({"recipe": {"clip": 1}}, "got 'clip'"),
        ({"epochs": 0}, "epochs of the budget must be a finite number above 0; got 0"),
        ({"batch_size": 23}, "from 1 to 22, the number of training examples; got 23"),
        ({"seeds": 1.5}, "seeds of the race must be a whole number of at least 1; got 1.5"),
        ({"seed": -1}, "seed of the run must be a whole number in [0, 1e+09]; got -1"),
        ({"executor": "fleeet"}, "processes, fleet; got 'fleeet'. Did you mean fleet"),
        ({"executor": "fleet", "memory": 1.0}, "the memory of a fleet must be at least 0."),
    ],
)
def test_bad_input_is_refused_and_leaves_no_folder(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        thalweg.showdown(dataclasses.replace(network(), batch_size=5), **arguments)

    assert message in str(caught.value)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("task", [np.zeros(3), 5, None, (np.zeros((3, 2)),), (np.zeros((3, 2)), np.zeros(4))])
def test_what_is_no_task_is_refused_and_leaves_no_folder(tmp_path: Path, task: Any) -> None:
    with pytest.raises(InputError, match="must"):
        thalweg.showdown(task)
    with pytest.raises(InputError, match="must"):
        thalweg.train(task)

    assert contents(tmp_path) == {}


def test_training_returns_the_model_with_the_weights_that_were_measured() -> None:
    task = thalweg.load_task(arrays())
    done = thalweg.train(task, Recipe("adam", 0.01, batch_size=12), epochs=3)

    x, y = next(task.data(0).test.batches(1000))
    assert done.trace.test is not None
    assert done.trace.test["accuracy"] == (done.model(x).argmax(1) == y).sum().item() / len(y)
    assert done.trace.outcome is Outcome.COMPLETED
    again = thalweg.train(task, Recipe("adam", 0.01, batch_size=12), epochs=3)
    assert again.trace == done.trace
    assert state(again.model) == state(done.model)


def test_a_name_is_the_optimizer_with_its_defaults() -> None:
    done = thalweg.train("wine", "momentum", steps=3)

    assert done.recipe == Recipe("momentum", batch_size=32)
    assert done.trace.rate == 0.03
    assert Recipe.from_toml((done.folder / "recipe.toml").read_text()) == done.recipe


def test_a_budget_in_seconds_becomes_updates_and_is_kept() -> None:
    first = thalweg.train(network(), Recipe(batch_size=5), seconds=0.1)
    again = thalweg.train(network(), Recipe(batch_size=5), seconds=0.1)

    assert 1 <= first.trace.steps == first.trace.budget_steps < 100_000
    assert again.trace == first.trace
    assert state(again.model) == state(first.model)


def test_a_race_that_is_interrupted_keeps_its_trials_and_goes_on() -> None:
    task = dataclasses.replace(network(), source="the same")
    more = {**GIVEN, "batch_size": 5, "seeds": 6}
    with pytest.raises(KeyboardInterrupt):
        thalweg.showdown(interrupting(task, 150), ["sgd", "adam"], **more)
    with Store.open("thalweg-runs", create=False) as store:
        (begun,) = store.races()
        kept = store.race(begun.key).traces
    result = thalweg.showdown(task, ["sgd", "adam"], **more)

    assert begun.finished_at is None
    assert 0 < len(kept) < 12
    assert len(result.race.traces) == 12
    assert set(map(repr, kept)) <= set(map(repr, result.race.traces))
    assert result.race.started_at == begun.started_at


def test_a_fresh_training_that_is_interrupted_goes_on_and_not_back() -> None:
    task = dataclasses.replace(network(), source="the same")
    more: dict[str, Any] = {"epochs": 10, "snapshot_every": 3}
    recipe = Recipe("adam", 0.01, batch_size=5)
    done = thalweg.train(task, recipe, **more)
    with pytest.raises(KeyboardInterrupt):
        thalweg.train(interrupting(task, 60), recipe, **more, fresh=True)
    again = thalweg.train(task, recipe, **more)

    # Not the older trace beside the half-trained weights of the snapshot.
    assert state(again.model) == state(done.model)
    assert again.trace.evaluations == done.trace.evaluations
    assert again.trace.total_seconds != done.trace.total_seconds


def test_sparse_gradients_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    task = Task(
        make_model=lambda: nn.Sequential(nn.EmbeddingBag(9, 3, sparse=True)),
        make_data=lambda seed: (torch.arange(60).reshape(30, 2) % 9, torch.arange(30) % 3),
        loss=lambda model, batch: nn.functional.cross_entropy(model(batch[0]), batch[1]),
        batch_size=5,
    )
    with pytest.raises(InputError, match="sparse"):
        thalweg.train(task, "rmsprop")
    with pytest.raises(InputError, match="sparse"):
        thalweg.showdown(task, ["adam", "lion"])

    assert contents(tmp_path) == {}
    assert thalweg.train(task, "sparse-adam", steps=3, out=tmp_path).trace.steps == 3


def test_the_usual_batch_of_32_shrinks_to_a_smaller_training_part(tmp_path: Path) -> None:
    task = Task(
        make_model=lambda: nn.Linear(3, 1),
        make_data=lambda seed: (torch.arange(60.0).reshape(20, 3) / 60, torch.ones(20, 1)),
        loss=lambda model, batch: nn.functional.mse_loss(model(batch[0]), batch[1]),
    )

    trained = thalweg.train(task, "sgd", epochs=2, out=tmp_path)

    assert (trained.recipe.batch_size, trained.trace.steps) == (
        16,
        2,
    )  # 20 less twice a tenth


def test_the_time_that_an_interrupted_training_took_before_counts(tmp_path: Path) -> None:
    stop, usual, calls = tmp_path / "stop", linear(), []

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        calls.append(model.training)
        if stop.exists() and len(calls) == 20:
            raise KeyboardInterrupt
        return usual.loss(model, batch)

    task = dataclasses.replace(usual, loss=loss, source="stops once")
    stop.touch()
    with pytest.raises(KeyboardInterrupt):
        thalweg.train(task, "sgd", steps=30, out=tmp_path / "runs", snapshot_every=1)
    stop.unlink()
    (path,) = (tmp_path / "runs").glob("*/snapshot.safetensors")
    with safetensors.safe_open(path, framework="pt") as file:
        key = file.metadata()["key"]
    tensors, progress = snapshot.read(path, key)
    assert 0 < progress.step < 30
    snapshot.write(path, tensors, dataclasses.replace(progress, elapsed_seconds=1000.0), key)

    trained = thalweg.train(task, "sgd", steps=30, out=tmp_path / "runs", snapshot_every=1)

    assert 1000 < trained.trace.total_seconds < 1100


def normalised(examples: int) -> Task:
    """A regression through BatchNorm with so many training examples."""
    x, y = torch.arange(3.0 * examples).reshape(examples, 3) / examples, torch.ones(examples, 1)
    return Task(
        make_model=lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)),
        make_data=lambda seed: {"train": (x, y), "validation": (x[:4], y[:4]), "test": (x[:4], y[:4])},
        loss=lambda model, batch: nn.functional.mse_loss(model(batch[0]), batch[1]),
        name="normalised",
    )


def test_a_last_batch_of_one_example_through_batch_norm_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    with pytest.raises(InputError, match="Expected more than 1 value per channel"):
        thalweg.train(normalised(33), {"batch_size": 32}, steps=9, out=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()

    assert thalweg.train(normalised(34), {"batch_size": 32}, steps=9, out=tmp_path / "runs").trace.steps == 9


def test_a_model_that_keeps_more_than_tensors_is_refused(tmp_path: Path) -> None:
    class Remembering(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"seen": 3}

    task = dataclasses.replace(normalised(32), make_model=lambda: Remembering(3, 1))

    with pytest.raises(
        InputError, match=r"must hold tensors only, so that it can be kept; got _extra_state\."
    ):
        thalweg.train(task, steps=2, out=tmp_path / "runs")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda kept: lambda: kept,
            "must return a fresh model at every call; got the same parameters twice.",
        ),
        (lambda kept: lambda: nn.LazyLinear(1), "must have parameters of known shapes; got a lazy module."),
    ],
)
def test_a_model_that_cannot_start_afresh_is_refused(tmp_path: Path, make: Any, message: str) -> None:
    task = dataclasses.replace(normalised(32), make_model=make(nn.Linear(3, 1)))

    with pytest.raises(InputError) as refusal:
        thalweg.showdown(task, ["sgd"], rates={"sgd": 0.1}, steps=2, seeds=2, out=tmp_path / "runs")

    assert message in str(refusal.value)
    assert not (tmp_path / "runs").exists()


def test_a_flag_that_makes_a_preset_is_not_turned_off() -> None:
    with pytest.raises(
        InputError, match="amsgrad of amsgrad must be True, which makes it what it is; got False"
    ):
        Recipe("amsgrad", hyperparameters={"amsgrad": False})

    assert Recipe("nesterov", hyperparameters={"momentum": 0.95}).values()["nesterov"] is True

"""What is written for a recipe trains it: the loop in PyTorch update by update, the TOML bit by bit."""

import inspect
import json
import math
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from made_up import race as made_up
from small_tasks import EXECUTION, ROOT, TRAIN, batch_norm, recipe, three_layers, trained, trial, workload
from thalweg import load_task, optim, schedules, seeds
from thalweg.evidence.code import AVERAGING, CLASSES, CLIPPING, OWN, PYTORCH, TWO_GRADIENTS, as_code, as_toml
from thalweg.records import Plan, Stage
from thalweg.rules.catalogue import CATALOGUE
from thalweg.rules.wrappers import WRAPPERS
from thalweg.tasks import Task
from thalweg.training.loop import run_trial
from thalweg.training.order import Order
from thalweg.training.recipe import Plateau, Recipe
from thalweg.training.trial import Trial

STEPS = 14  # of batches of 5 from 22 examples: two epochs and most of a third
PROGRAM = Path(sys.executable).with_name("thalweg")


def plan_of(task: Task, recipe: Recipe, steps: int, source: str = "") -> Plan:
    """A plan whose first contender has the recipe."""
    made = made_up(optimizers=("sgd",), final_seeds=2).plan
    data = task.data(ROOT)
    size = recipe.batch_size if isinstance(recipe.batch_size, int) else data.train.examples
    return replace(
        made,
        contenders=(replace(made.contenders[0], name=recipe.optimizer, recipe=recipe.to_data()),),
        steps=steps,
        batch_size=size,
        train_examples=data.train.examples,
        seed=ROOT,
        source=source,
    )


def code_of(plan: Plan, **changes: Any) -> str:
    (contender,) = plan.contenders
    return as_code(plan, contender, {**contender.recipe, **changes}, plan.steps)


def run_beside(task: Task, recipe: Recipe) -> tuple[list[Tensor], list[Tensor], str]:
    """Train by the written loop and by Thalweg's, from the same weights and on the same batches."""
    plan, work = plan_of(task, recipe, STEPS), workload(task)
    order = Order(work.limits(trial(recipe, STEPS)), recipe.sampling, ROOT, seed=0)
    code = code_of(plan)
    given: dict[str, Any] = {
        "model": task.model(seeds.derive(ROOT, "initial weights", 0)),
        "batches": (work.data.train.batch(order.indices(step)) for step in range(STEPS)),
        "loss": task.loss,
    }
    exec(compile(code, "code", "exec"), given)
    engine, _ = trained(work, trial(recipe, STEPS))
    engine.finish(0)
    mine, theirs = ([p.detach() for p in m.parameters()] for m in (engine.model, given["model"]))
    return mine, theirs, code


COSINE = schedules.Cosine(floor=0.1)
ON_EXAMPLES = schedules.Warmup(length=20, clock="examples")
RECIPES = {
    "sgd": recipe("sgd", 0.1),
    "momentum": recipe("momentum", 0.03),
    "nesterov, decay": recipe("nesterov", 0.03, {"weight_decay": 0.01}),
    "sgd whose buffer is a mean": recipe("momentum", 0.1, {"buffer": "mean"}),
    "adam, betas": recipe("adam", 0.01, {"betas": (0.8, 0.95)}),
    "adam, epsilon inside": recipe("adam", 0.01, {"epsilon": "inside", "eps": 1e-4}),
    "amsgrad": recipe("amsgrad", 0.01),
    "adamw, clipped, cosine": recipe("adamw", 0.01, {"weight_decay": 0.1}, {"clip_norm": 0.1}, COSINE),
    "clipped twice": recipe("sgd", 0.1, {}, {"clip_value": 0.05, "clip_norm": {"limit": 0.1}}),
    "clipped twice, the other way": recipe("sgd", 0.1, {}, {"clip_norm": 0.1, "clip_value": 0.05}),
    "cautious": recipe("adam", 0.01, {}, {"cautious": {}}),
    "adafactor with none": recipe("adafactor", 0.01, {"eps": (None, 1e-2)}),
    "muon": recipe("muon", 0.01),
    "lion": recipe("lion", 0.001),
    "soap": recipe("soap", 0.01),
    "prodigy": recipe("prodigy"),
    "asgd": recipe("asgd", 0.1),
    "schedule-free": recipe("schedule-free-adamw", 0.01, {"warmup_steps": 4}),
    "ema": recipe("adam", 0.01, {}, {"ema": 0.8}),
    "milestones": recipe("sgd", 0.1, schedule=schedules.Multistep(milestones=(3, 8))),
    "joined": recipe("sgd", 0.1, schedule=schedules.Warmup(length=4).then(schedules.Linear(length=10))),
    **{name: recipe(name) for name in ("rmsprop", "adagrad", "adadelta", "adamax", "nadam", "radam")},
}


@pytest.mark.parametrize("name", RECIPES)
def test_the_written_loop_moves_the_weights_as_the_recipe_does(name: str) -> None:
    """Both compute in float32, not always in one order: 14 updates of a stable training leave some 1e-6."""
    mine, theirs, _ = run_beside(three_layers(), RECIPES[name])

    assert torch.cat([p.flatten() for p in mine]).isfinite().all()
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-5, atol=2e-6)


def test_that_test_sees_a_clip_or_a_schedule_that_is_missing() -> None:
    whole = RECIPES["adamw, clipped, cosine"]
    mine, _, _ = run_beside(three_layers(), whole)
    for changed in (replace(whole, wrappers={}), replace(whole, schedule=schedules.Constant())):
        _, theirs, _ = run_beside(three_layers(), changed)

        assert max((a - b).abs().max().item() for a, b in zip(mine, theirs, strict=True)) > 1e-3


def test_pytorchs_own_class_is_written_where_it_is_the_same() -> None:
    lines = {name: code_of(plan_of(three_layers(), RECIPES[name], STEPS)).splitlines() for name in RECIPES}

    assert "optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)" in lines["momentum"]
    assert (
        "optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)"
        in (lines["adamw, clipped, cosine"])
    )
    assert "optimizer = thalweg.optim.Lion(model, lr=0.001)" in lines["lion"]
    assert (
        "optimizer = thalweg.optim.SGD(model, lr=0.1, momentum=0.9, buffer='mean')"
        in (lines["sgd whose buffer is a mean"])
    )
    assert (
        "optimizer = thalweg.optim.Adam(model, lr=0.01, wrappers=[thalweg.optim.cautious()])"
        in (lines["cautious"])
    )
    assert (
        "optimizer = torch.optim.Adafactor(model.parameters(), lr=0.01, eps=(None, 0.01))"
        in (lines["adafactor with none"])
    )


def test_the_code_of_a_task_with_a_name_is_complete_and_short() -> None:
    found = code_of(
        plan_of(three_layers(), recipe("adamw", 0.01, {}, {"clip_norm": 0.1}, COSINE), 14, "digits")
    )

    assert found == (
        "import torch\n"
        "import thalweg\n"
        "\n"
        "torch.manual_seed(0)\n"
        "task = thalweg.load_task('digits')\n"
        "model, loss = task.model(seed=0), task.loss\n"
        "part = task.data(seed=7).train\n"
        "batches = (part.batch(i) for _ in range(3) for i in torch.randperm(part.examples).split(5))\n"
        "optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)\n"
        "schedule = thalweg.schedules.from_data({'name': 'cosine', 'floor': 0.1}).resolve(14)\n"
        "scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)\n"
        "for _, batch in zip(range(14), batches):\n"
        "    optimizer.zero_grad()\n"
        "    loss(model, batch).backward()\n"
        "    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)\n"
        "    optimizer.step()\n"
        "    scheduler.step()\n"
    )


def test_the_code_of_a_task_without_a_name_begins_with_what_is_missing() -> None:
    first = code_of(plan_of(three_layers(), recipe("sgd", 0.1), STEPS)).partition("import")[0]

    assert first == (
        "# To run this, define model (a torch.nn.Module), batches (of 5 training examples, shuffled, "
        "14 or more)\n"
        "# and loss: loss(model, batch) is the mean over the batch, as a tensor.\n"
    )


@pytest.mark.parametrize(
    ("sampling", "order"),
    [
        ("in order", "torch.arange(part.examples)"),
        ("with replacement", "torch.randint(part.examples, (part.examples,))"),
    ],
)
def test_examples_are_visited_as_the_recipe_says(sampling: str, order: str) -> None:
    found = code_of(plan_of(three_layers(), recipe("sgd", 0.1, sampling=sampling), STEPS, "digits"))

    assert f"batches = (part.batch(i) for _ in range(3) for i in {order}.split(5))" in found


def test_a_batch_of_all_and_one_of_the_contenders_own_are_counted() -> None:
    whole = plan_of(three_layers(), recipe("sgd", 0.1, batch_size="all"), 6, "digits")
    own = replace(whole, contenders=(replace(whole.contenders[0], batch_size=11),))

    assert f"range(6) for i in torch.randperm(part.examples).split({TRAIN})" in code_of(whole)
    assert "range(3) for i in torch.randperm(part.examples).split(11)" in code_of(own)


@pytest.mark.parametrize(
    "special",
    [
        recipe("sgd", 0.1, plateau=Plateau()),
        recipe("sgd", 0.1, patience=3),
        recipe("sgd", 0.1, micro_batch=2),
        recipe("sgd", 0.1, precision="float64"),
        recipe("sgd", 0.1, {}, {"sam": {}}),
        recipe("sophia-h", 1e-3),
        recipe("sgd", 0.1, schedule=schedules.Cosine(clock="examples")),
        recipe("sgd", 0.1, schedule=ON_EXAMPLES.then(schedules.Cosine(clock="examples"))),
    ],
    ids=["plateau", "patience", "parts", "float64", "sam", "sophia", "examples", "joined"],
)
def test_what_a_plain_loop_cannot_do_is_left_to_thalwegs_own(
    special: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    task = three_layers()
    code = code_of(plan_of(task, special, STEPS))
    given: dict[str, Any] = {"task": task}
    exec(compile(code, "code", "exec"), given)

    assert code.startswith("# This recipe asks more than a plain loop")
    assert given["recipe"] == special
    assert given["training"].trace.budget_steps == STEPS
    assert isinstance(given["model"], nn.Module)


def test_the_table_of_classes_is_that_of_the_catalogue() -> None:
    refreshed = {name for name, preset in CATALOGUE.items() if preset.rule.refresh is not None}
    expected = {
        name: (preset.rule.class_name, dict(preset.fixed))
        for name, preset in CATALOGUE.items()
        if name not in refreshed
    }

    assert {name: (cls, dict(fixed)) for name, (cls, fixed) in CLASSES.items()} == expected
    assert {n for n, p in CATALOGUE.items() if p.rule.evaluated} | {
        n for n, w in WRAPPERS.items() if w.evaluated
    } == AVERAGING
    assert {name for name, wrapper in WRAPPERS.items() if wrapper.offset} == TWO_GRADIENTS
    assert set(CLIPPING) <= set(WRAPPERS)


def test_pytorchs_classes_take_all_hyperparameters_but_those_that_are_ours_with_the_same_defaults() -> None:
    for name in PYTORCH:
        theirs = inspect.signature(getattr(torch.optim, name)).parameters
        ours = getattr(optim, name).rule.hyper

        assert set(ours) - set(theirs) <= OWN
        assert {n: h.default for n, h in ours.items() if n not in OWN} == {
            n: theirs[n].default for n in ours if n not in OWN
        }


def test_the_default_limit_of_the_clips_is_theirs() -> None:
    for name in CLIPPING:
        assert WRAPPERS[name].hyper[f"{name}_limit"].default == 1.0


def test_the_toml_is_the_recipe_below_its_command() -> None:
    wanted = RECIPES["adamw, clipped, cosine"]
    plan = plan_of(three_layers(), wanted, STEPS, "my tasks/task.py:net")
    text = as_toml(plan, wanted.to_data(), STEPS)

    assert text.splitlines()[0] == (
        "# Saved as recipe.toml, this trains it: "
        "thalweg train 'my tasks/task.py:net' --recipe recipe.toml --steps 14 --seed 7"
    )
    assert tomllib.loads(text) == wanted.to_data()
    assert Recipe.from_toml(text) == wanted
    assert "train TASK" in as_toml(replace(plan, source="", seed=0), wanted.to_data(), STEPS)


def test_batch_normalisation_is_trained_too() -> None:
    mine, theirs, _ = run_beside(batch_norm(), recipe("momentum", 0.03))

    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-5, atol=2e-6)


ON_DIGITS = {
    "sgd": Recipe("sgd", 0.1),
    "momentum": Recipe("momentum", 0.03),
    "adam": Recipe("adam", 0.001),
    "adamw": Recipe("adamw", 0.003, {}, {"clip_norm": 1.0}, schedules.Cosine()),
    "lion": Recipe("lion", 3e-4),
    "muon": Recipe("muon", 0.003),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_DIGITS)
def test_code_and_toml_run_as_they_stand_and_train_as_well(name: str, tmp_path: Path) -> None:
    """The code draws other weights and another order, so its loss is one more draw from those of the seeds.

    log loss is about normal over seeds: of ten, a new one lies within 4.78 · √1.1 = 5.0 standard deviations
    but once in a thousand. The TOML is the same training, to all bits.
    """
    task, wanted, steps = load_task("digits"), ON_DIGITS[name], 200
    plan, digits = plan_of(task, wanted, steps, "digits"), workload(task)
    trials = [Trial(name, Stage.FINAL, wanted, seed, steps) for seed in range(10)]
    losses = [run_trial(digits, each, EXECUTION).train["loss"] for each in trials]
    logs = [math.log(x) for x in losses if x is not None]
    (tmp_path / "code.py").write_text(
        code_of(plan) + "print(loss(model.eval(), part.batch(torch.arange(part.examples))).item())\n"
    )
    (tmp_path / "recipe.toml").write_text(as_toml(plan, wanted.to_data(), steps))
    ran = _run([sys.executable, "code.py"], tmp_path)
    command = as_toml(plan, wanted.to_data(), steps).partition("\n")[0].partition(": thalweg ")[2]
    trained = json.loads(_run([str(PROGRAM), *command.split(), "--json"], tmp_path))

    assert len(logs) == 10
    assert abs(math.log(float(ran)) - fmean(logs)) <= 5.0 * stdev(logs)
    assert trained["train"]["loss"] == losses[0]


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout

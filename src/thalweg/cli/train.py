"""`thalweg train`: train one model."""

import tomllib
from pathlib import Path
from typing import Any

import click

from thalweg.cli.options import (
    NUMBER,
    WHOLE,
    answer_only,
    batch_size,
    fresh_option,
    json_option,
    out_option,
    print_json,
    seed_option,
    task_argument,
    training_options,
    wrap_option,
    wrappers,
)
from thalweg.errors import InputError, nearest


@click.command()
@task_argument
@click.option(
    "--recipe", "recipe_file", metavar="FILE", help="A recipe as TOML; the options below change it."
)
@click.option("--optimizer", metavar="NAME", help="Optimizer (see: thalweg optimizers); else adam.")
@click.option("--rate", type=NUMBER, metavar="RATE", help="Peak rate; else the optimizer's starting point.")
@click.option("--schedule", "schedule_text", metavar="NAME[:FIELD=VALUE,…]", help="Schedule of the rate.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="Another number or choice of the recipe, or hyperparameter of the optimizer, such as "
    "patience=5 or betas=0.9,0.95. Repeatable.",
)
@wrap_option
@click.option("--seconds", type=NUMBER, metavar="S", help="Train about so long, instead of epochs.")
@seed_option
@training_options
@click.option("--snapshot-every", type=WHOLE, metavar="N", help="Updates between snapshots; else 15 seconds.")
@out_option
@fresh_option
@json_option
def train(
    task: str,
    recipe_file: str | None,
    optimizer: str | None,
    rate: float | None,
    schedule_text: str | None,
    settings: tuple[str, ...],
    wrap: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Train one model, and keep it.

    Interrupted or killed, the same command goes on from the last snapshot and ends with the same bits.

    \b
    thalweg train digits --optimizer momentum --rate 0.03 --schedule cosine
    thalweg train mnist --recipe recipe.toml --epochs 10
    """
    size = batch_size(options.pop("batch_size"))
    changes: dict[str, Any] = {
        "optimizer": optimizer,
        "rate": rate,
        "batch_size": size,
    }
    data: dict[str, Any] = {}

    from thalweg import api, schedules
    from thalweg.records import to_data
    from thalweg.training.recipe import Recipe

    if recipe_file is not None:
        text = _text(recipe_file)
        Recipe.from_toml(text)  # refuses in words what is wrong; what is left out is for the task to say
        data = tomllib.loads(text)
        if optimizer is not None and rate is None:
            data.pop("rate", None)  # another optimizer's rate says nothing
    if schedule_text is not None:
        changes["schedule"] = schedules.to_data(schedules.parse(schedule_text))
    data |= {name: value for name, value in changes.items() if value is not None}
    for name in ("rate", "batch_size"):
        if name in changes and changes[name] is not None and any(s.startswith(f"{name}=") for s in settings):
            raise InputError(f"--set {name}", "be left out beside its own option", changes[name])
    _set(data, settings)
    if around := wrappers(wrap):
        data["wrappers"] = {**data.get("wrappers", {}), **around}
    with answer_only():
        result = api.train(task, data, **options)
    if as_json:
        print_json({**to_data(result.trace), "folder": str(result.folder)})
    else:
        click.echo(str(result))


def _set(recipe: dict[str, Any], settings: tuple[str, ...]) -> None:
    """Put settings such as ``betas=0.9,0.95`` into the data of a recipe, as their declarations read them."""
    from thalweg.rules.catalogue import preset
    from thalweg.training.recipe import FIELDS

    declared = {**preset(recipe.get("optimizer", "adam")).rule.hyper, **FIELDS}
    del declared["lr"]  # it is the rate of the recipe
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or name not in declared:
            raise InputError(
                "--set", f"be NAME=VALUE with NAME among {', '.join(declared)}", repr(setting),
                nearest(name, declared),
            )  # fmt: skip
        try:
            value = batch_size(text) if name == "batch_size" else declared[name].parse(text)
        except ValueError:
            raise InputError(f"--set {name}", f"be {declared[name].must}", repr(text)) from None
        if name in FIELDS:
            recipe[name] = value
        else:
            recipe["hyperparameters"] = {**recipe.get("hyperparameters", {}), name: value}


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise InputError(f"the recipe {path}", "be a readable file", said) from error

"""The options from which a recipe is put together, and how they are read."""

import tomllib
from pathlib import Path
from typing import Any

import click

from thalweg.cli.options import NUMBER, F, batch_size, settings, wrap_option, wrappers
from thalweg.errors import InputError


def recipe_options(command: F) -> F:
    """Add what a recipe is made of, except the batch size."""
    for option in reversed(
        (
            click.option(
                "--recipe",
                "recipe_file",
                metavar="FILE",
                help="A recipe as TOML; the options below change it.",
            ),
            click.option(
                "--optimizer", metavar="NAME", help="Optimizer (see: thalweg optimizers); else adam."
            ),
            click.option(
                "--rate",
                type=NUMBER,
                metavar="RATE",
                help="Peak rate; else the optimizer's starting point.",
            ),
            click.option(
                "--schedule", "schedule_text", metavar="NAME[:FIELD=VALUE,…]", help="Schedule of the rate."
            ),
            click.option(
                "--set",
                "settings",
                multiple=True,
                metavar="NAME=VALUE",
                help="Another number or choice of the recipe, or hyperparameter of the optimizer, such as "
                "patience=5 or betas=0.9,0.95. Repeatable.",
            ),
            wrap_option,
        )
    ):
        command = option(command)
    return command


def recipe_data(
    recipe_file: str | None,
    optimizer: str | None,
    rate: float | None,
    schedule_text: str | None,
    set_: tuple[str, ...],
    wrap: tuple[str, ...],
    size: int | str | None,
) -> dict[str, Any]:
    """Put a recipe together as data: the file's fields, changed by the options; `size` is the batch's.

    Raises:
        InputError: an option, or the file, says something that cannot be.
    """
    changes: dict[str, Any] = {
        "optimizer": optimizer,
        "rate": rate,
        "batch_size": size,
    }
    data: dict[str, Any] = {}

    from thalweg import schedules
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
        if changes[name] is not None and any(s.startswith(f"{name}=") for s in set_):
            raise InputError(f"--set {name}", "be left out beside its own option", changes[name])
    _set(data, set_)
    if around := wrappers(wrap):
        data["wrappers"] = {**data.get("wrappers", {}), **around}
    return data


def _set(recipe: dict[str, Any], texts: tuple[str, ...]) -> None:
    """Put settings such as ``betas=0.9,0.95`` into the data of a recipe, as their declarations read them."""
    from thalweg.rules.catalogue import preset
    from thalweg.training.recipe import FIELDS

    declared = {**preset(recipe.get("optimizer", "adam")).rule.hyper, **FIELDS}
    del declared["lr"]  # it is the rate of the recipe
    sizes = [text for text in texts if text.startswith("batch_size=")]  # which may be "all"
    found = settings("--set", declared, tuple(text for text in texts if text not in sizes))
    if sizes:
        found["batch_size"] = batch_size(sizes[-1].removeprefix("batch_size="))
    for name, value in found.items():
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

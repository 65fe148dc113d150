"""`thalweg train`: train one model."""

from pathlib import Path
from typing import Any

import click

from thalweg.cli.options import (
    batch_size,
    fresh_option,
    json_option,
    out_option,
    print_json,
    seed_option,
    task_argument,
    training_options,
)
from thalweg.errors import InputError


@click.command()
@task_argument
@click.option(
    "--recipe", "recipe_file", metavar="FILE", help="A recipe as TOML; the options below change it."
)
@click.option("--optimizer", metavar="NAME", help="Optimizer (see: thalweg optimizers); else adam.")
@click.option("--rate", type=float, metavar="RATE", help="Peak rate; else the optimizer's starting point.")
@click.option("--schedule", "schedule_text", metavar="NAME[:FIELD=VALUE,…]", help="Schedule of the rate.")
@click.option("--clip-norm", type=float, metavar="C", help="Longest gradient.")
@click.option("--micro-batch", type=int, metavar="M", help="Examples computed at once, to save memory.")
@click.option("--patience", type=int, metavar="N", help="Stop after N evaluations without improvement.")
@click.option("--seconds", type=float, metavar="S", help="Train about so long, instead of epochs.")
@seed_option
@training_options
@click.option("--snapshot-every", type=int, metavar="N", help="Updates between snapshots; else 15 seconds.")
@out_option
@fresh_option
@json_option
def train(
    task: str,
    recipe_file: str | None,
    optimizer: str | None,
    rate: float | None,
    schedule_text: str | None,
    clip_norm: float | None,
    micro_batch: int | None,
    patience: int | None,
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
        "clip_norm": clip_norm,
        "micro_batch": micro_batch,
        "patience": patience,
        "batch_size": size,
    }
    data: dict[str, Any] = {}

    from thalweg import api, schedules
    from thalweg.records import to_data
    from thalweg.tasks import load_task
    from thalweg.training.recipe import Recipe

    if recipe_file is not None:
        data = Recipe.from_toml(_text(recipe_file)).to_data()
        if optimizer is not None and rate is None:
            data.pop("rate")  # another optimizer's rate says nothing
    if schedule_text is not None:
        changes["schedule"] = schedules.to_data(schedules.parse(schedule_text))
    data |= {name: value for name, value in changes.items() if value is not None}
    if "batch_size" not in data:
        loaded = load_task(task, options["data"], options["download"])
        data["batch_size"] = loaded.batch_size
    result = api.train(task, Recipe.from_data(data), **options)
    if as_json:
        print_json({**to_data(result.trace), "folder": str(result.folder)})
    else:
        click.echo(str(result))


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise InputError(f"the recipe {path}", "be a readable file", said) from error

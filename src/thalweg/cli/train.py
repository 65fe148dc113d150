"""`thalweg train`: train one model."""

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
)
from thalweg.cli.recipes import recipe_data, recipe_options


@click.command()
@task_argument
@recipe_options
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

    from thalweg.api import single
    from thalweg.records import to_data

    data = recipe_data(recipe_file, optimizer, rate, schedule_text, settings, wrap, size)
    with answer_only():
        result = single.train(task, data, **options)
    if as_json:
        print_json({**to_data(result.trace), "folder": str(result.folder)})
    else:
        click.echo(str(result))

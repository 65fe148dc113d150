"""`thalweg landscape`: the loss around a trained network."""

import sys
from pathlib import Path
from typing import Any

import click

from thalweg.cli.options import (
    NUMBER,
    WHOLE,
    batch_size,
    json_option,
    measuring,
    print_json,
    seed_option,
    task_argument,
    training_options,
)
from thalweg.cli.prose import say
from thalweg.cli.recipes import recipe_data, recipe_options
from thalweg.errors import InputError
from thalweg.files import refuse_unwritable


@click.command()
@task_argument
@recipe_options
@seed_option
@training_options
@click.option(
    "--grid", type=WHOLE, default=25, show_default=True, metavar="N", help="Points along an edge; odd."
)
@click.option(
    "--span",
    type=NUMBER,
    default=1.0,
    show_default=True,
    metavar="A",
    help="Random slices go from −A to A, in lengths of the filters.",
)
@click.option(
    "--directions", type=WHOLE, default=5, show_default=True, metavar="N", help="Random lines; at least 2."
)
@click.option("--biases", is_flag=True, help="Move biases and normalisation too; else they stay.")
@click.option(
    "--moments", type=WHOLE, default=101, show_default=True, metavar="N", help="Of the path that are kept."
)
@click.option("--part", default="train", show_default=True, help="Measure on: train or validation.")
@click.option("--examples", type=WHOLE, metavar="N", help="Only so many of its examples; else all.")
@click.option("--out", "page", metavar="FILE", help="Draw what was measured into this HTML file.")
@json_option
def landscape(
    task: str,
    recipe_file: str | None,
    optimizer: str | None,
    rate: float | None,
    schedule_text: str | None,
    settings: tuple[str, ...],
    wrap: tuple[str, ...],
    page: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a network, and look at the loss around it and along the way.

    Random slices, each filter as long as that of the weights; and the principal plane of the path, with the
    loss that the plane shows beside the loss that the weights really had. Nothing is written but the page.

    \b
    thalweg landscape digits --optimizer momentum --out landscape.html
    thalweg landscape mnist --epochs 2 --examples 5000 --json
    """
    if page is not None:
        refuse_unwritable("--out", Path(page))
    size = batch_size(options.pop("batch_size"))
    executor = options.pop("executor")
    if executor not in ("auto", "serial", "fleet"):
        raise InputError("the executor of a landscape", "be auto, fleet or serial", repr(executor))

    recipe = recipe_data(recipe_file, optimizer, rate, schedule_text, settings, wrap, size)

    from thalweg.api.landscape import loss_landscape
    from thalweg.report import landscape as report

    with measuring():
        found = loss_landscape(task, recipe, fleet=executor != "serial", **options)
    drawn = report.write(found, Path(page)) if page else None
    if as_json:
        print_json({**report.as_json(found), **({"report": str(drawn)} if drawn else {})})
        return
    if sys.stdout.isatty():
        click.echo(report.terminal(found))
    for sentence in (*report.sentences(found), *report.how(found)):
        say(sentence)
    if drawn:
        click.echo(f"Report: {drawn}")

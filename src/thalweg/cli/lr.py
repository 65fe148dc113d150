"""`thalweg lr`: find a learning rate."""

import sys
from pathlib import Path
from typing import Any

import click

from thalweg.cli.options import (
    batch_size,
    json_option,
    measuring,
    print_json,
    seed_option,
    size,
    task_argument,
    training_options,
    wrap_option,
    wrappers,
)
from thalweg.cli.prose import say
from thalweg.files import refuse_unwritable


@click.command()
@task_argument
@click.option(
    "--optimizer",
    "--optimizers",
    "optimizers",
    default="adam",
    show_default=True,
    metavar="NAMES",
    help="Whose rate, between commas (see: thalweg optimizers).",
)
@seed_option
@training_options
@click.option("--memory", metavar="SIZE", help="What a fleet may take beside the data, such as 2GB.")
@wrap_option
@click.option("--report", "page", metavar="FILE", help="Draw what was measured into this HTML file.")
@json_option
def lr(
    task: str, optimizers: str, wrap: tuple[str, ...], page: str | None, as_json: bool, **options: Any
) -> None:
    """Find a learning rate: which one, how sure is that, and where does it diverge?

    Sweeps say where to look, short trainings of a few rates confirm or correct it. The rate is for a training
    as long as --epochs or --steps say. Nothing is written but the page that --report asks for.

    \b
    thalweg lr digits
    thalweg lr mnist --optimizers sgd,momentum,adam --epochs 2 --report rates.html
    """
    from thalweg.rules.catalogue import preset

    names = [name.strip() for name in optimizers.split(",") if name.strip()]
    for name in names:
        preset(name)  # refused before torch is imported, which takes seconds
    if page is not None:
        refuse_unwritable("--report", Path(page))
    options["batch_size"] = batch_size(options["batch_size"])
    options["memory"] = None if options["memory"] is None else size("--memory", options["memory"])
    recipe: dict[str, Any] = {"wrappers": around} if (around := wrappers(wrap)) else {}

    from thalweg import report
    from thalweg.api.rate import find_lrs
    from thalweg.report.finder import terminal

    with measuring():
        found = list(find_lrs(task, names, recipe=recipe, **options).values())
    drawn = report.write_findings(found, Path(page), f"Learning rates on {task}") if page else None
    if as_json:
        answers = [report.finding_json(finding) for finding in found]
        print_json(answers[0] if len(answers) == 1 else answers)
        return
    for finding in found:
        if sys.stdout.isatty():
            click.echo(terminal(finding))
        for sentence in finding.sentences:
            say(sentence)
        known = [f"{name} {rate:.2g}" for name, rate in finding.picks.items() if rate is not None]
        if known:
            say(f"From the sweeps alone others would pick: {', '.join(known)}.")
    if drawn:
        click.echo(f"Report: {drawn}")

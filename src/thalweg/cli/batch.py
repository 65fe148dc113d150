"""`thalweg batch`: find a batch size."""

from typing import Any

import click

from thalweg.cli.options import (
    NUMBER,
    WHOLE,
    json_option,
    measuring,
    print_json,
    seed_option,
    size,
    task_argument,
)


@click.command()
@task_argument
@click.option(
    "--optimizer",
    default="adam",
    show_default=True,
    metavar="NAME",
    help="Whose batch size and rates (see: thalweg optimizers).",
)
@click.option(
    "--rate",
    type=NUMBER,
    metavar="RATE",
    help="Rate with which noise and time are measured; else the optimizer's starting point.",
)
@click.option(
    "--memory",
    metavar="SIZE",
    help="What training may take beside the data, such as 2GB; else half of what is free.",
)
@seed_option
@click.option("--threads", type=WHOLE, metavar="N", help="Threads of torch; else chosen by size.")
@click.option("--device", default="cpu", show_default=True, help="Where to train.")
@click.option("--data", metavar="DIR", help="Folder of the data files; else the variable THALWEG_DATA.")
@click.option("--download", is_flag=True, help="Fetch missing data files into that folder.")
@json_option
def batch(task: str, optimizer: str, memory: str | None, as_json: bool, **options: Any) -> None:
    """Find a batch size: what noise and this machine say, and the rates that belong to it.

    Measured are the gradient noise scale and the time of an update at doubled sizes, up to a limit of
    memory; the rate is found anew at the size that is recommended. Nothing is written.

    \b
    thalweg batch digits
    thalweg batch mnist --optimizer momentum --rate 0.03 --memory 2GB
    """
    from thalweg.rules.catalogue import preset

    preset(optimizer)  # refused before torch is imported, which takes seconds
    limit = None if memory is None else size("--memory", memory)

    from thalweg.api.batch import find_batch_size

    with measuring():
        found = find_batch_size(task, optimizer, memory=limit, **options)
    if as_json:
        print_json(found.to_json())
    else:
        click.echo(str(found))

"""`thalweg sampling`: batch, stochastic and mini-batch gradient descent, compared."""

import sys
from pathlib import Path
from typing import Any

import click

from thalweg.cli.options import (
    NUMBER,
    WHOLE,
    as_typed,
    json_option,
    measuring,
    number,
    print_json,
    seed_option,
    size,
    task_argument,
    whole,
)
from thalweg.errors import InputError
from thalweg.files import refuse_unwritable


@click.command()
@task_argument
@click.option(
    "--batch-sizes",
    "batch_sizes_text",
    metavar="B,…",
    help='Whole numbers and "all", between commas; else all, the size that the task suggests, and 1.',
)
@click.option(
    "--samplings",
    "samplings_text",
    default="shuffled,in order,with replacement",
    show_default=True,
    metavar="NAMES",
    help="How examples are drawn. Batch sizes are compared with the first, the mini-batch with all.",
)
@click.option(
    "--optimizer", default="sgd", show_default=True, metavar="NAME", help="See: thalweg optimizers."
)
@click.option(
    "--lr",
    "rates_text",
    metavar="RATE | B=RATE,…",
    help="One rate for all, or one for each batch size, such as all=1,32=0.3,1=0.03; else found.",
)
@click.option("--epochs", type=NUMBER, metavar="N", help="Passes over the training data.")
@click.option(
    "--most-updates",
    type=WHOLE,
    default=20_000,
    show_default=True,
    metavar="N",
    help="Of one training: what would take more is trained for fewer epochs, and it is said.",
)
@click.option(
    "--seeds",
    type=WHOLE,
    default=8,
    show_default=True,
    metavar="N",
    help="Final trainings of each; three batch sizes take 7 to be told apart.",
)
@seed_option
@click.option("--precision", default="float32", show_default=True, metavar="NAME", help="Or float64.")
@click.option("--executor", default="auto", show_default=True, metavar="NAME", help="auto, serial or fleet.")
@click.option("--memory", metavar="SIZE", help="What a fleet may take beside the data, such as 2GB.")
@click.option("--threads", type=WHOLE, metavar="N", help="Threads of torch; else chosen by size.")
@click.option("--device", default="cpu", show_default=True, help="Where to train.")
@click.option("--data", metavar="DIR", help="Folder of the data files; else the variable THALWEG_DATA.")
@click.option("--download", is_flag=True, help="Fetch missing data files into that folder.")
@click.option("--out", metavar="FILE", help="Draw what was measured into this HTML file.")
@json_option
def sampling(
    task: str,
    batch_sizes_text: str | None,
    samplings_text: str,
    optimizer: str,
    rates_text: str | None,
    memory: str | None,
    out: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Compare batch, stochastic and mini-batch gradient descent on a task.

    Updates of an epoch, losses at equally many epochs, updates and seconds, the variance of the gradient
    against the batch size, the path of the weights, time, memory; shuffled, in order, with replacement. Each
    has its best of the same grid of rates. Nothing is written but the page that --out asks for.

    \b
    thalweg sampling digits
    thalweg sampling digits --batch-sizes 1,8,100,all --out sampling.html
    thalweg sampling wine --lr all=1,32=0.3,1=0.03 --json
    """
    from thalweg.rules.catalogue import preset

    preset(optimizer)  # refused before torch is imported, which takes seconds
    sizes = None if batch_sizes_text is None else batch_sizes(batch_sizes_text)
    rate = None if rates_text is None else rates(rates_text)
    limit = None if memory is None else size("--memory", memory)
    if out is not None:
        refuse_unwritable("--out", Path(out))
    names = [name.strip() for name in samplings_text.split(",") if name.strip()]

    from thalweg.api.sampling import compare_sampling

    with measuring():
        found = compare_sampling(
            task,
            batch_sizes=sizes,
            samplings=names,
            optimizer=optimizer,
            rate=rate,
            memory=limit,
            command=as_typed(),
            **options,
        )
    drawn = found.write(out) if out is not None else None
    if as_json:
        print_json({**found.to_json(), "report": None if drawn is None else str(drawn)})
        return
    if sys.stdout.isatty():
        from thalweg.report.sampling import terminal

        click.echo(f"{terminal(found.record)}\n")
    click.echo(str(found))
    if drawn:
        click.echo(f"Report: {drawn}")


def batch_sizes(text: str) -> list[int | str]:
    """Read batch sizes between commas.

    >>> batch_sizes("1, 32,all")
    [1, 32, 'all']
    """
    return [x if x == "all" else whole("--batch-sizes", x) for x in map(str.strip, text.split(","))]


def rates(text: str) -> float | dict[int | str, float]:
    """Read one rate, or one for each batch size.

    >>> rates("0.1"), rates("all=1,32=0.3")
    (0.1, {'all': 1.0, 32: 0.3})
    """
    if "=" not in text:
        return number("--lr", text)
    found: dict[int | str, float] = {}
    for word in text.split(","):
        before, equals, after = word.partition("=")
        if not equals:
            raise InputError("--lr", "be RATE, or B=RATE for each batch size", repr(word), "Try 1=0.03.")
        (key,) = batch_sizes(before)
        if key in found:
            raise InputError(f"--lr of {key}", "be given once", "twice")
        found[key] = number(f"--lr of {key}", after)
    return found

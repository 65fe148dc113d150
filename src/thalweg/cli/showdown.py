"""`thalweg showdown`: race optimizers."""

import sys
from typing import Any

import click

from thalweg.cli.options import (
    WHOLE,
    answer_only,
    as_typed,
    batch_size,
    fresh_option,
    json_option,
    number,
    out_option,
    print_json,
    seed_option,
    size,
    task_argument,
    training_options,
    whole,
    wrap_option,
    wrappers,
)
from thalweg.errors import InputError


@click.command()
@task_argument
@click.option(
    "--optimizers",
    default="sgd,momentum,rmsprop,adam",
    show_default=True,
    metavar="NAMES",
    help="Who races, between commas (see: thalweg optimizers).",
)
@click.option(
    "--rates",
    "rates_text",
    multiple=True,
    metavar="N | NAME=RATE,…",
    help="How many rates tuning may try for each (default 9); or the rates of an optimizer, such as "
    "adam=1e-3: a single one is taken as given, several are what tuning tries. Repeatable.",
)
@click.option("--seeds", type=WHOLE, metavar="N", help="Final seeds; else as many as the verdict needs.")
@seed_option
@training_options
@click.option(
    "--schedule", "schedule_text", metavar="NAME[:FIELD=VALUE,…]", help="Schedule of the rate for all."
)
@click.option(
    "--memory",
    metavar="SIZE",
    help="What a fleet may take beside the data, such as 2GB; else half of what is free.",
)
@wrap_option
@out_option
@fresh_option
@json_option
def showdown(
    task: str,
    optimizers: str,
    rates_text: tuple[str, ...],
    schedule_text: str | None,
    wrap: tuple[str, ...],
    out: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Race optimizers: which one, and how sure is that?

    Each optimizer tries equally many rates on a few seeds; the best rate of each then runs on fresh
    seeds, and only those runs are compared. Interrupted, the same command goes on where it was.

    \b
    thalweg showdown digits
    thalweg showdown mnist --rates sgd=0.01,momentum=0.01,rmsprop=0.001,adam=0.001
    """
    from thalweg.rules.catalogue import preset

    names = [name.strip() for name in optimizers.split(",") if name.strip()]
    for name in names:
        preset(name)  # refused before torch is imported, which takes seconds
    options["batch_size"] = batch_size(options["batch_size"])
    options["rates"] = rates(rates_text)
    options["memory"] = None if options["memory"] is None else size("--memory", options["memory"])
    recipe: dict[str, Any] = {"wrappers": around} if (around := wrappers(wrap)) else {}
    if schedule_text is not None:
        from thalweg import schedules

        recipe["schedule"] = schedules.to_data(schedules.parse(schedule_text))

    from rich.console import Console

    from thalweg import api, report

    with answer_only():
        result = api.showdown(task, names, recipe=recipe, out=out, command=as_typed(), **options)
    if as_json:
        print_json(result.to_json())
    elif sys.stdout.isatty():
        Console().print(report.render(result.race))
        click.echo(
            f"\nReport: {result.report}"
        )  # not by rich, which breaks lines and reads [names] as styles
    else:
        click.echo(str(result))


def rates(texts: tuple[str, ...]) -> Any:
    """Read ``--rates``: one number of rates, or rates by optimizer.

    >>> rates(("sgd=0.1,adam=1e-3,1e-2",))
    {'sgd': [0.1], 'adam': [0.001, 0.01]}
    >>> rates(("5",)), rates(())
    (5, 9)
    """
    if not texts:
        return 9
    if len(texts) == 1 and "=" not in texts[0]:
        return whole("--rates", texts[0])
    found: dict[str, list[float]] = {}
    name = None
    for word in ",".join(texts).split(","):
        before, equals, after = word.rpartition("=")
        if equals:
            name = before.strip()
            if name in found:
                raise InputError(f"--rates of {name}", "be given once", "twice")
        if name is None:
            raise InputError("--rates", "be a number of rates, or NAME=RATE", repr(word), "Try adam=1e-3.")
        found.setdefault(name, []).append(number(f"--rates of {name}", after))
    return found

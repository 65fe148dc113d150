"""`thalweg showdown`: race optimizers."""

import re
import sys
import time
from typing import Any

import click

from thalweg.cli.options import (
    TASK_HELP,
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
    training_options,
    whole,
    wrap_option,
    wrappers,
)
from thalweg.errors import InputError


@click.command()
@click.argument("tasks", nargs=-1, metavar="TASK...", help=f"{TASK_HELP} Several race one after the other.")
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
    help="How many rates tuning may try for each, the finder's price included (default 9); or the rates of "
    "an optimizer, such as adam=1e-3: a single one is taken as given, several are what tuning tries. "
    "Repeatable.",
)
@click.option(
    "--vary",
    metavar="FIELD=VALUE,…",
    help="Race values of one field of the recipe with one optimizer, such as batch_size=32,128, "
    "betas.1=0.95,0.999, clip_norm=0.5,1, schedule=constant,cosine; or tasks, task=a.py,b.py.",
)
@click.option(
    "--schedules",
    metavar="NAMES",
    help="Schedules that race under the winner, between commas, or none; else constant, cosine, step and "
    "warmup-cosine, and none beside --schedule and --vary.",
)
@click.option(
    "--target",
    metavar="METRIC=VALUE",
    help="Tell how long each takes to reach this value of the metric that ranks, such as accuracy=0.97.",
)
@click.option(
    "--seeds",
    metavar="N[,N…]",
    help="Final seeds, or numbers of them after which the race may end, such as 8,16; else as many as the "
    "verdict needs.",
)
@seed_option
@training_options
@click.option(
    "--budget",
    metavar="TIME",
    help="About how long everything may take, such as 90s, 5m or 1h, instead of epochs.",
)
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
    tasks: tuple[str, ...],
    optimizers: str,
    rates_text: tuple[str, ...],
    vary: str | None,
    target: str | None,
    seeds: str | None,
    budget: str | None,
    schedule_text: str | None,
    wrap: tuple[str, ...],
    out: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Race optimizers: which one, and how sure is that?

    A finder measures where the rate of each optimizer lies, and equally many rates of each are tried; the
    best one then runs on fresh seeds, and only those runs are compared. Schedules race under the winner.
    Interrupted, the same command goes on where it was.

    \b
    thalweg showdown digits
    thalweg showdown digits wine --budget 1m
    thalweg showdown mnist --rates sgd=0.01,momentum=0.01,rmsprop=0.001,adam=0.001
    thalweg showdown digits --optimizers adam --vary batch_size=16,64
    """
    from thalweg.rules.catalogue import preset

    started = time.perf_counter() - time.process_time()  # before this line little was waited for
    if not tasks and not (vary or "").startswith("task="):
        raise click.UsageError("Missing argument 'TASK'.", click.get_current_context())
    names = [name.strip() for name in optimizers.split(",") if name.strip()]
    for name in names:
        preset(name)  # refused before torch is imported, which takes seconds
    options["batch_size"] = batch_size(options["batch_size"])
    options["rates"] = rates(rates_text)
    options["memory"] = None if options["memory"] is None else size("--memory", options["memory"])
    options["seeds"] = None if seeds is None else numbers("--seeds", seeds)
    options["target"] = None if target is None else value_of("--target", target)
    recipe: dict[str, Any] = {"wrappers": around} if (around := wrappers(wrap)) else {}
    if schedule_text is not None:
        from thalweg import schedules

        recipe["schedule"] = schedules.to_data(schedules.parse(schedule_text))
    options["vary"] = None if vary is None else varied(vary, names, recipe)
    if budget is not None:
        options |= {"budget": duration("--budget", budget), "started": started}

    from rich.console import Console

    from thalweg import report
    from thalweg.api import race, several

    options |= {"recipe": recipe, "out": out, "command": as_typed()}
    with answer_only():
        result: race.Showdown | several.Showdowns
        if len(tasks) > 1:
            result = several.showdowns(tasks, names, **options)
        else:
            result = race.showdown(tasks[0] if tasks else None, names, **options)
    if as_json:
        print_json(result.to_json())
    elif sys.stdout.isatty():
        if isinstance(result, several.Showdowns):
            for one in result.results:
                click.echo(f"{one.race.plan.task}\n")
                Console().print(report.render(one.race, schedules=one.schedules))
                click.echo()
            click.echo(result.summary)
        else:
            Console().print(report.render(result.race, schedules=result.schedules))
        # Not by rich, which breaks lines and reads [names] as styles.
        click.echo(f"\nReport: {result.report}")
    else:
        click.echo(str(result))


def numbers(option: str, text: str) -> int | tuple[int, ...]:
    """Read one whole number, or several between commas.

    >>> numbers("--seeds", "8"), numbers("--seeds", "8,16")
    (8, (8, 16))
    """
    found = tuple(whole(option, word.strip()) for word in text.split(","))
    return found if len(found) > 1 else found[0]


def value_of(option: str, text: str) -> dict[str, float]:
    """Read a metric and its value.

    >>> value_of("--target", "accuracy=0.97")
    {'accuracy': 0.97}
    """
    name, equals, value = text.partition("=")
    if not (equals and name.strip()):
        raise InputError(option, "be METRIC=VALUE", repr(text), "Try accuracy=0.97.")
    return {name.strip(): number(f"{option} {name.strip()}", value)}


def duration(option: str, text: str) -> float:
    """Read a time; a bare number is seconds.

    >>> duration("--budget", "90s"), duration("--budget", "1h30m"), duration("--budget", "20")
    (90.0, 5400.0, 20.0)
    """
    found = re.fullmatch(r"(?:([0-9.]+)h)?(?:([0-9.]+)m)?(?:([0-9.]+)s?)?", text.strip())
    try:
        assert found is not None
        seconds = sum(float(n) * size for n, size in zip(found.groups(), (3600, 60, 1), strict=True) if n)
    except (AssertionError, ValueError):
        raise InputError(option, "be a time such as 90s, 5m or 1h30m", repr(text)) from None
    return float(seconds)


def varied(text: str, names: list[str], recipe: dict[str, Any]) -> dict[str, Any]:
    """Read ``--vary``: the path of a field, and the values that it is to take."""
    path, equals, values = text.partition("=")
    path = path.strip()
    if not equals:
        do = "Try batch_size=32,128."
        raise InputError("--vary", "be FIELD=VALUE,VALUE", repr(text), do)
    if path == "task":
        return {path: [value.strip() for value in values.split(",")]}
    if len(names) != 1:
        do = "Name it with --optimizers."
        raise InputError("a race that varies a field", "have one optimizer", ", ".join(names) or "none", do)
    from thalweg.training.recipe import Recipe
    from thalweg.training.vary import read

    return {path: read(Recipe.from_data({"optimizer": names[0], **recipe}), path, values)}


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

"""`thalweg trace`: hand calculation."""

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from thalweg.cli.formula import FormulaCommand
from thalweg.cli.options import (
    NUMBER,
    WHOLE,
    json_option,
    number,
    print_json,
    settings,
    wrap_option,
    wrappers,
)
from thalweg.cli.prose import say
from thalweg.cli.table import PIPE_WIDTH, show
from thalweg.errors import InputError
from thalweg.progress import Bar

if TYPE_CHECKING:
    from thalweg.functions.correction import Uncorrected
    from thalweg.functions.trace import Row, Trace
    from thalweg.functions.trace_text import Column

ENDS: Final = 10  # rows at the beginning and at the end of a long table
FORMULAS: Final = 3  # steps that are written out below a table


@click.command(cls=FormulaCommand)
@click.argument(
    "expression",
    metavar="EXPR",
    help="A function of one or several variables, such as (w-3)^2.",
)
@click.option(
    "--optimizer", default="sgd", show_default=True, metavar="NAME", help="See: thalweg optimizers."
)
@click.option("--lr", type=NUMBER, metavar="RATE", help="Rate; else the method's default.")
@click.option(
    "--start",
    default="0",
    show_default=True,
    metavar="X",
    help="One number for all variables, one each in order of name (1,2), or by name (x=1,y=2).",
)
@click.option("--steps", type=WHOLE, default=10, show_default=True, metavar="N", help="How many.")
@click.option(
    "--set",
    "given",
    multiple=True,
    metavar="NAME=VALUE",
    help="Another value of the method, such as betas=0.9,0.95 or momentum=0.9. Repeatable.",
)
@wrap_option
@click.option("--schedule", metavar="NAME", help="Schedule of the rate, such as step:every=2,ratio=0.5.")
@click.option(
    "--no-bias-correction", is_flag=True, help="Show beside each step what it is without bias correction."
)
@click.option("--every", type=WHOLE, metavar="N", help="Show every Nth step, and the last.")
@click.option("--digits", type=WHOLE, default=7, show_default=True, metavar="N", help="Significant digits.")
@click.option(
    "--format",
    "form",
    default="table",
    show_default=True,
    metavar="NAME",
    help="table, markdown or latex (with amsmath).",
)
@json_option
def trace(
    expression: str,
    optimizer: str,
    lr: float | None,
    start: str,
    steps: int,
    given: tuple[str, ...],
    wrap: tuple[str, ...],
    schedule: str | None,
    no_bias_correction: bool,
    every: int | None,
    digits: int,
    form: str,
    as_json: bool,
) -> None:
    """Calculate by hand: every quantity of every step of a method on a function.

    The numbers are those of the method's own formulas; --json has all of them, with all digits.

    \b
    thalweg trace "(w-3)^2" --lr 0.1 --steps 3
    thalweg trace "w^2" --optimizer adam --lr 0.1 --start 10 --steps 2
    thalweg trace "(x-3)^2 + 25*y^2" --optimizer momentum --lr 0.01 --start x=0,y=1
    """
    from thalweg.hyper import Choice, Integer, Interval
    from thalweg.rules.catalogue import preset

    Choice("table", "", ("table", "markdown", "latex")).check("--format", "a trace", form)
    Integer(7, "", Interval(1, 17)).check("--digits", "a trace", digits)
    if every is not None:
        Integer(1, "", Interval(1)).check("--every", "a trace", every)
    hyperparameters = settings("--set", preset(optimizer).rule.hyper, given)
    if lr is not None and "lr" in hyperparameters:
        raise InputError("--set lr", "be left out beside --lr", hyperparameters["lr"])
    hyperparameters |= {} if lr is None else {"lr": lr}
    around = wrappers(wrap)

    from thalweg.functions import trace_text
    from thalweg.functions.correction import without_correction
    from thalweg.functions.trace import trace as traced
    from thalweg.rules.wrappers import WRAPPERS

    with Bar("steps", steps) as bar:
        found = traced(
            expression,
            optimizer,
            _start(start),
            steps,
            wrappers=[WRAPPERS[name](**values) for name, values in around.items()],
            schedule=schedule,
            advance=bar.advance,
            **hyperparameters,
        )
    uncorrected = without_correction(found) if no_bias_correction else None
    rows = [
        row for row in found.rows if every is None or (row.step - 1) % every == 0 or row is found.rows[-1]
    ]
    if as_json:
        print_json(trace_text.data(found, uncorrected))
    elif form == "markdown":
        click.echo(trace_text.markdown(found, rows, digits, uncorrected))
    elif form == "latex":
        click.echo(trace_text.latex(found, rows, digits, uncorrected))
    else:
        _print(found, uncorrected, rows, digits)


def _start(text: str) -> float | list[float] | dict[str, float]:
    """Read a number, numbers between commas, or numbers by name."""
    if "=" not in text:
        values = [number("--start", part) for part in text.split(",")]
        return values[0] if len(values) == 1 else values
    named: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = (word.strip() for word in part.partition("="))
        if name in named:
            raise InputError(f"{name} of --start", "be given once", "twice")
        named[name] = number("--start", value)
    return named


def _print(found: "Trace", uncorrected: "Uncorrected | None", rows: Sequence["Row"], digits: int) -> None:
    from thalweg.functions.trace_text import columns, line

    click.echo(f"{found.expression}, {found.optimizer} with {_values(found.hyperparameters)}")
    for formula in (found.rule.formula, *(around.wrapper.formula for around in found.wrappers)):
        click.echo(f"\n{formula.strip()}")
    click.echo()
    shown: list[Row | None] = list(rows)
    if len(rows) > 2 * ENDS + 1:
        shown = [*rows[:ENDS], None, *rows[-ENDS:]]
    for block in _blocks(columns(found, uncorrected), shown, digits):
        titles = ("step", *(title for title, _ in block))
        cells = zip(*(cells for _, cells in block), strict=True)
        steps = ["…" if row is None else str(row.step) for row in shown]
        show(titles, [(s, *x) for s, x in zip(steps, cells, strict=True)], right=range(len(titles)))
        click.echo()
    written_out = rows if len(rows) <= FORMULAS + 1 else [*rows[:FORMULAS], rows[-1]]
    for row in written_out:
        click.echo(f"step {row.step}")
        for filled in row.filled:
            click.echo(f"  {line(filled)}")
    if len(written_out) < len(found.rows):
        click.echo("(the other steps: --every, --json)")
    click.echo()
    for sentence in found.outcome:
        say(sentence)
    if uncorrected is not None:
        ones = " and ".join(f"{name} = 1" for name in uncorrected.corrections)
        say(f"Without bias correction ({ones}): {' '.join(uncorrected.outcome)}")


def _blocks(
    columns: Sequence["Column"], rows: Sequence["Row | None"], digits: int
) -> Iterator[list[tuple[str, list[str]]]]:
    """Yield as many columns as fit side by side, each with its heading and cells."""
    from thalweg.functions.trace_text import written

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_WIDTH
    first = max(4, *(len(str(row.step)) for row in rows if row is not None)) + 3
    block: list[tuple[str, list[str]]] = []
    used = first
    for column in columns:
        cells = ["…" if row is None else written(column.value(row), digits) for row in rows]
        wide = max(map(len, (column.title, *cells))) + 3
        if block and used + wide > width:
            yield block
            block, used = [], first
        block.append((column.title, cells))
        used += wide
    yield block


def _values(hyperparameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in hyperparameters.items() if value is not False)

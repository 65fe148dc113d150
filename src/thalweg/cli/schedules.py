"""`thalweg schedules`: list them, draw one or several over each other."""

import sys
from pathlib import Path

import click

from thalweg.cli.options import WHOLE, json_option, print_json
from thalweg.errors import InputError
from thalweg.files import write_whole


@click.command()
@click.argument(
    "names", nargs=-1, help="Schedules to draw, such as cosine or step:every=30,ratio=0.5; none: list all."
)
@click.option(
    "--steps",
    type=WHOLE,
    default=100,
    show_default=True,
    metavar="N",
    help="Length of the run that is drawn.",
)
@click.option("--out", metavar="FILE", help="Draw into this .html or .svg file instead of the terminal.")
@json_option
def schedules(names: tuple[str, ...], steps: int, out: str | None, as_json: bool) -> None:
    """List the schedules of the rate, or draw some."""
    import numpy as np

    from thalweg.hyper import Integer, Interval
    from thalweg.schedules import SCHEDULES, Schedule, parse

    if not names:
        entries = [
            {"name": name, "formula": entry.formula, "use": entry.use, "source": entry.source}
            for name, entry in SCHEDULES.items()
        ]
        if as_json:
            print_json(entries)
            return
        from thalweg.cli.table import show

        rows = [(e["name"], e["formula"], e["use"]) for e in entries]
        show(("schedule", "factor at tick t", "when to take it"), rows)
        click.echo("\nDraw them: thalweg schedules cosine warmup-cosine")
        return
    Integer(100, "", Interval(1.0)).check("--steps", "the drawing", steps)
    if out is not None and Path(out).suffix not in (".html", ".svg"):
        raise InputError("--out", "end in .html or .svg", repr(out))
    ticks = np.arange(steps + 1.0)
    curves = []
    for name in names:
        resolved: Schedule = parse(name).resolve(steps)
        curves.append((name, ticks, resolved(ticks)))
    if as_json:
        print_json([{"schedule": name, "ticks": t.tolist(), "factors": f.tolist()} for name, t, f in curves])
        return

    from thalweg.report import schedule_figure

    if out is None:
        colour = sys.stdout.isatty()
        click.echo(schedule_figure.terminal(curves, colour=colour))
        return
    path = Path(out)
    if path.suffix == ".svg":
        content = schedule_figure.svg(curves)
    else:
        content = schedule_figure.figure(curves).to_html(include_plotlyjs=True)
    write_whole(path, content.encode())
    click.echo(f"Drawn: {out}")

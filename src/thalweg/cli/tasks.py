"""`thalweg tasks`: what can be trained without writing anything."""

from dataclasses import asdict

import click

from thalweg.cli.options import json_option, print_json


@click.command()
@json_option
def tasks(as_json: bool) -> None:
    """List the built-in tasks."""
    from thalweg.tasks.listing import BUILTIN

    if as_json:
        print_json([asdict(row) for row in BUILTIN.values()])
        return
    from thalweg.cli.table import show

    rows = [
        (
            row.name,
            f"{row.train + row.validation + row.test:,}",
            str(row.features),
            f"{row.classes} classes" if row.classes else "a number",
            row.description + (" (files)" if row.files else ""),
        )
        for row in BUILTIN.values()
    ]
    show(("task", "examples", "features", "predicts", "what it is"), rows, right=(1, 2))
    click.echo('\nThose with "(files)" read them from --data or THALWEG_DATA, or fetch them with --download.')
    click.echo("Your own: thalweg showdown path/to/task.py")

"""`thalweg optimizers`: the methods, and a page for each."""

from typing import Any

import click

from thalweg.cli.options import json_option, print_json


@click.command()
@click.argument("name", required=False, help="One of them: its formula, defaults and source.")
@json_option
def optimizers(name: str | None, as_json: bool) -> None:
    """List the optimizers, or show one in full."""
    from thalweg.rules.catalogue import CATALOGUE, preset

    if as_json:
        entries = [_page(entry) for entry in ([preset(name)] if name else CATALOGUE.values())]
        print_json(entries[0] if name else entries)
        return
    from thalweg.cli.table import show

    if name is None:
        rows = [(p["name"], p["rule"], f"{p['centre']:g}", str(p["buffers"]), p["use"])
                for p in map(_page, CATALOGUE.values())]  # fmt: skip
        columns = ("optimizer", "rule", "search centre", "buffers", "when to take it")
        show(columns, rows, right=(2, 3))
        click.echo("\nBuffers: numbers of state per parameter. One in full: thalweg optimizers adam")
        return
    page = _page(preset(name))
    fixed = ", ".join(f"{n} = {v}" for n, v in page["fixed"].items())
    click.echo(f"{page['name']}: {page['rule']}{f' with {fixed}' if fixed else ''}. {page['use']}\n")
    click.echo(page["formula"].strip("\n") + "\n")
    fields = [(h["name"], str(h["default"]), h["must"], h["meaning"]) for h in page["hyperparameters"]]
    show(("hyperparameter", "default", "must be", "meaning"), fields)
    click.echo(
        f"\nThe search for its rate starts around {page['centre']:g}. "
        f"Numbers of state per parameter: {page['buffers']}.\n"
    )
    click.echo(click.wrap_text(page["source"], width=100))


def _page(entry: Any) -> dict[str, Any]:
    from thalweg.hyper import documentation_rows

    rule = entry.rule
    values = rule.values(rule.checked(dict(entry.fixed)))
    return {
        "name": entry.name,
        "rule": rule.title,
        "use": entry.use,
        "centre": entry.centre,
        "fixed": dict(entry.fixed),
        "buffers": len(rule.state_fields(values)),
        "formula": rule.formula,
        "hyperparameters": [
            dict(zip(("name", "default", "must", "meaning"), row, strict=True))
            for row in documentation_rows({**rule.hyper})
        ],
        "source": rule.source,
    }

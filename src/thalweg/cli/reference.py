"""Pages of docs/ that the program writes: ``make docs`` puts them there."""

import inspect
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

import click

from thalweg.cli.app import main
from thalweg.rules import pages

PREFACE = """\
# Commands

Written from the program by `make docs`; change the program, not this page.
"""


def reference(command: click.Command, name: str) -> str:
    """Return a command and all its subcommands as Markdown.

    >>> @click.command()
    ... @click.option("--seeds", default=3, show_default=True, help="How many seeds.")
    ... def train(seeds):
    ...     '''Train one model.'''
    >>> print(reference(train, "thalweg train"))
    ## thalweg train
    <BLANKLINE>
    Train one model.
    <BLANKLINE>
    ```
    thalweg train [OPTIONS]
    ```
    <BLANKLINE>
    | argument or option | meaning |
    |---|---|
    | `--seeds INTEGER` | How many seeds.  [default: 3] |
    | `--help` | Show this message and exit. |
    <BLANKLINE>
    """
    return "\n".join(_sections(command, click.Context(command, info_name=name, **command.context_settings)))


def _sections(command: click.Command, context: click.Context) -> Iterator[str]:
    path = context.command_path
    yield f"## {path}\n"
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        # A paragraph that opens with \b is one whose lines click leaves as they are.
        yield f"```\n{paragraph[2:]}\n```\n" if paragraph.startswith("\b\n") else f"{paragraph}\n"
    yield f"```\n{' '.join([path, *command.collect_usage_pieces(context)])}\n```\n"

    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    yield "| argument or option | meaning |\n|---|---|"
    yield from (f"| `{_cell(names)}` | {_cell(meaning)} |" for names, meaning in filter(None, records))
    yield ""

    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                yield from _sections(child, click.Context(child, info_name=name, parent=context))


def _cell(text: str) -> str:
    return " ".join(text.split("\n")).replace("|", "\\|")


def page() -> str:
    """Return the reference of the whole program, docs/commands.md."""
    return f"{PREFACE}\n{reference(main, 'thalweg').rstrip()}\n"


METHODS_PREFACE: Final = """\
# Methods

Every method and every wrapper: the formula, when to take it and when not, what other libraries compute under
its name, and what is often told wrongly. Written by `make docs` from the rules themselves, as are the pages
of `thalweg optimizers NAME`; change the rules, not this page. How they are used:
[Optimizers](optimizers.md).

State counts the numbers that are kept for each parameter, of an n × n matrix. The cost is that of a step,
beside the gradient.
"""


def methods() -> str:
    """Return the reference of all methods and wrappers, docs/methods.md."""
    rules: dict[str, list[Mapping[str, Any]]] = {}
    for found in pages.methods():
        rules.setdefault(found["rule"], []).append(found)
    around = list(pages.wrappers())
    lines = [METHODS_PREFACE, *_table_of_methods(rules.values())]
    for presets in rules.values():
        lines += _method(presets)
    lines += ["# Wrappers\n", *_rows(("wrapper", "state", "when to take it"), map(_wrapper_row, around))]
    for found in around:
        lines += [f"## {found['title']}\n", f"`{found['name']}`: {found['use']}\n", *_body(found)]
    return "\n".join(lines).rstrip() + "\n"


def _table_of_methods(rules: Any) -> Iterator[str]:
    columns = ("optimizer", "family", "state", "year", "cost", "paper")
    yield from _rows(
        columns,
        (
            (f"[`{p['name']}`](#{_anchor(p['rule'])})", p["family"], p["state"]["words"], str(p["year"]),
             p["cost"], p["paper"])
            for presets in rules for p in presets
        ),
    )  # fmt: skip


def _method(presets: list[Mapping[str, Any]]) -> Iterator[str]:
    first = presets[0]
    yield f"## {first['rule']}\n"
    for preset in presets:
        fixed = ", ".join(f"{name} = {value}" for name, value in preset["fixed"].items())
        search = f"The search for its rate starts around {preset['centre']:g}."
        yield f"- `{preset['name']}`{f' ({fixed})' if fixed else ''}: {preset['use']} {search}"
    yield ""
    yield from _body(first)


def _body(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"```\n{found['formula']}\n```\n"
    columns = ("hyperparameter", "default", "must be", "meaning")
    if found["hyperparameters"]:
        rows = ((f"`{h['name']}`", h["default"], h["must"], h["meaning"]) for h in found["hyperparameters"])
        yield from _rows(columns, rows)
    for heading, key in (("When to take it", "take"), ("When not", "avoid"), ("Cost", "cost")):
        if found.get(key):
            yield f"**{heading}.** {found[key]}\n"
    for heading, key in (("Elsewhere under this name", "differs"), ("Often told wrongly", "wrong")):
        if found.get(key):
            yield f"**{heading}.**\n"
            yield from (f"- {sentence}" for sentence in found[key])
            yield ""
    if found.get("paper"):
        yield f"**Paper.** {found['paper']}\n"
    yield f"**Source.** {found['source']}\n"


def _wrapper_row(found: Mapping[str, Any]) -> tuple[str, ...]:
    return f"[`{found['name']}`](#{_anchor(found['title'])})", found["state"]["words"], found["use"]


def _rows(columns: tuple[str, ...], rows: Any) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield "|" + "---|" * len(columns)
    yield from (f"| {' | '.join(map(_cell, row))} |" for row in rows)
    yield ""


def _anchor(title: str) -> str:
    """Return the name under which a page is linked to a heading.

    >>> _anchor("Schedule-Free SGD")
    'schedule-free-sgd'
    """
    return "".join(c for c in title.lower() if c.isalnum() or c in " -").replace(" ", "-")


if __name__ == "__main__":
    click.echo({"commands": page, "methods": methods}[sys.argv[1]](), nl=False)

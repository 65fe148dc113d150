"""The command reference, written from the program: ``make docs`` puts it into docs/commands.md."""

import inspect
from collections.abc import Iterator

import click

from thalweg.cli.app import main

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
    """Return the reference of the whole program."""
    return f"{PREFACE}\n{reference(main, 'thalweg').rstrip()}\n"


if __name__ == "__main__":
    click.echo(page(), nl=False)

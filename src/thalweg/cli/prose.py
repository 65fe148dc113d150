"""Sentences as they are read well: as wide as the terminal, and no wider than a page."""

import shutil
import sys
from typing import Final

import click

WIDTH: Final = 100  # columns that read well, and those of what goes into a file


def width() -> int:
    """Return the columns of text: those of a narrow terminal, or what reads well."""
    return min(WIDTH, shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH)


def say(text: str, first: str = "", others: str = "") -> None:
    """Print a paragraph.

    Args:
        text: the paragraph; an empty one is an empty line, and spaces that it begins with stay.
        first: what stands before its first line.
        others: what stands before the other lines.
    """
    indent = text[: len(text) - len(text.lstrip())]
    first, others = first + indent, others + indent
    click.echo(click.wrap_text(text.lstrip(), width=width(), initial_indent=first, subsequent_indent=others))

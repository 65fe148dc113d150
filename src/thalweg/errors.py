"""Every exception that Thalweg raises on purpose.

All messages have one grammar, so that a person always finds the same four things in the same
order: *who* is wrong, what it *must* be, what was *got*, and what to *do* about it.
"""

import difflib
from collections.abc import Iterable


class ThalwegError(Exception):
    """Something went wrong that a person can act on; the message says how."""

    exit_code = 1


class InputError(ThalwegError, ValueError):
    """What was asked for cannot be done as asked; nothing was started and nothing was lost.

    The message reads ``{who} must {must}; got {got}. {do}``.

    >>> str(InputError("lr of Adam", "be a number above 0", -1.0, "Try 0.001."))
    'lr of Adam must be a number above 0; got -1.0. Try 0.001.'
    """

    exit_code = 2

    def __init__(self, who: str, must: str, got: object, do: str = "") -> None:
        self.who, self.must, self.got, self.do = who, must, got, do
        super().__init__(f"{who} must {must}; got {got}.{' ' + do if do else ''}")

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (self.who, self.must, self.got, self.do)


class TaskError(InputError):
    """The task (its file, its data, its model or its loss) breaks the contract of a task."""


class StoreError(InputError):
    """The folder of stored runs cannot be used: unreadable, locked, corrupt or too new."""


class NonFiniteGradients(ThalwegError):
    """Gradients were not finite in more steps in a row than was allowed."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known names are meant, most similar first; all of them when none is similar.

    >>> nearest("adm", ["sgd", "adam", "adamw"])
    'Did you mean adam or adamw?'
    >>> nearest("zzz", ["sgd", "adam"])
    'Known: adam, sgd.'
    """
    names = sorted(known)
    close = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
    if close:
        return f"Did you mean {' or '.join(close)}?"
    return f"Known: {', '.join(names)}."

"""Options that several commands share, and how their values are read."""

import contextlib
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

import click

from thalweg.errors import InputError, ThalwegError, nearest
from thalweg.hyper import Hyperparameter

F = TypeVar("F", bound=Callable[..., Any])

RUNS: Final = "thalweg-runs"


def whole(option: str, text: str) -> int:
    """Read a whole number; anything else is refused in words."""
    try:
        return int(text)
    except ValueError:
        raise InputError(option, "be a whole number", repr(text)) from None


def number(option: str, text: str) -> float:
    """Read a number; anything else is refused in words."""
    try:
        return float(text)
    except ValueError:
        raise InputError(option, "be a number", repr(text)) from None


def size(option: str, text: str) -> float:
    """Read a number of bytes; a bare number is bytes.

    >>> size("--memory", "1.5GB"), size("--memory", "200 MiB")
    (1500000000.0, 209715200.0)
    """
    found = re.fullmatch(r"\s*([0-9.]+)\s*([kMGT]?)(i?)B?\s*", text, re.IGNORECASE)
    try:
        assert found is not None
        value, prefix, binary = float(found[1]), found[2].upper(), bool(found[3])
    except (AssertionError, ValueError):
        raise InputError(option, "be a size such as 500MB or 2GB", repr(text)) from None
    bytes_: float = value * (1024.0 if binary else 1000.0) ** " KMGT".index(prefix or " ")
    if not bytes_ > 0:
        raise InputError(option, "be a size above 0", repr(text))
    return bytes_


class Read(click.ParamType):  # type: ignore[type-arg]
    """The type of an option that is read by `whole` or `number`, so that it is refused in our grammar."""

    def __init__(self, read: Callable[[str, str], float]) -> None:
        self.read, self.name = read, read.__name__

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read what was typed; a default is a number already."""
        return self.read(param.opts[0], value) if param and isinstance(value, str) else value


WHOLE: Final = Read(whole)
NUMBER: Final = Read(number)

TASK_HELP = "A built-in task (see: thalweg tasks), or path/to/task.py[:name]."

task_argument = click.argument("task", help=TASK_HELP)


def _named(context: click.Context, option: click.Parameter, folder: str) -> str:
    """Refuse an empty name, such as an unset variable of the shell leaves: it would mean this folder."""
    if not folder.strip():
        raise InputError("--out", "name a folder", repr(folder), "Write . for the present one.")
    return folder


out_option = click.option(
    "--out",
    default=RUNS,
    show_default=True,
    metavar="DIR",
    callback=_named,
    help="Folder that keeps results and reports.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
fresh_option = click.option("--fresh", is_flag=True, help="Run everything anew, even what is finished.")
seed_option = click.option(
    "--seed",
    type=WHOLE,
    default=0,
    show_default=True,
    metavar="N",
    help="Root of all random numbers: one seed, one result.",
)


wrap_option = click.option(
    "--wrap",
    multiple=True,
    metavar="NAME[:VALUE|:FIELD=VALUE,…]",
    help="What goes around the optimizer, such as clip_norm:1 or lookahead:every=5,alpha=0.5 "
    "(see: thalweg optimizers --wrappers). Repeatable.",
)


def wrappers(texts: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Read ``--wrap``: the values of wrappers by name.

    >>> wrappers(("clip_norm:1", "lookahead:every=3,alpha=0.8", "cautious"))
    {'clip_norm': {'limit': 1.0}, 'lookahead': {'every': 3, 'alpha': 0.8}, 'cautious': {}}
    """
    from thalweg.rules.wrappers import WRAPPERS

    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        name, _, fields = text.partition(":")
        if name not in WRAPPERS:
            raise InputError("--wrap", "name a wrapper", repr(name), nearest(name, WRAPPERS))
        if name in found:
            raise InputError(f"--wrap {name}", "be given once", "twice")
        wrapper = WRAPPERS[name]
        declared = {wrapper.short(key): hyper for key, hyper in wrapper.hyper.items()}
        found[name] = {}
        for place, part in enumerate(fields.split(",") if fields else ()):
            field, equals, value = part.partition("=")
            if not equals:  # a bare value is that of the field in this place
                field, value = next(iter([*declared][place : place + 1]), ""), part
            if field not in declared:
                raise InputError(f"--wrap {name}", f"have fields among {', '.join(declared) or 'none'}", part)
            if field in found[name]:
                raise InputError(f"{field} of --wrap {name}", "be given once", "twice")
            try:
                found[name][field] = declared[field].parse(value)
            except ValueError:
                must = f"be {declared[field].must}"
                raise InputError(f"{field} of --wrap {name}", must, repr(value)) from None
    return found


def settings(option: str, declared: Mapping[str, Hyperparameter], texts: tuple[str, ...]) -> dict[str, Any]:
    """Read values such as ``betas=0.9,0.95`` as a method declares them.

    >>> from thalweg.rules.adam import ADAM
    >>> settings("--set", ADAM.hyper, ("betas=0.9,0.95", "amsgrad=true"))
    {'betas': (0.9, 0.95), 'amsgrad': True}
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in declared:
            must = f"be NAME=VALUE with NAME among {', '.join(declared)}"
            raise InputError(option, must, repr(text), nearest(name, declared))
        try:
            found[name] = declared[name].parse(value)
        except ValueError:
            raise InputError(f"{option} {name}", f"be {declared[name].must}", repr(value)) from None
    return found


def batch_size(text: str | None) -> int | str | None:
    """Read a batch size: a whole number, or "all"."""
    return text if text is None or text == "all" else whole("--batch-size", text)


def training_options(command: F) -> F:
    """Add what decides how a trial is run: budget, batches, data, threads."""
    for option in reversed(
        (
            click.option("--epochs", metavar="N", type=NUMBER, help="Passes over the training data."),
            click.option("--steps", metavar="N", type=WHOLE, help="Updates, instead of epochs."),
            click.option(
                "--batch-size",
                metavar="B",
                help='Examples of one update, or "all"; else as the task suggests.',
            ),
            click.option(
                "--data", metavar="DIR", help="Folder of the data files; else the variable THALWEG_DATA."
            ),
            click.option("--download", is_flag=True, help="Fetch missing data files into that folder."),
            click.option(
                "--executor",
                default="auto",
                show_default=True,
                metavar="NAME",
                help="How trials run: serial, processes, fleet, or auto, the fastest of them.",
            ),
            click.option("--threads", type=WHOLE, metavar="N", help="Threads of torch; else chosen by size."),
            click.option("--device", default="cpu", show_default=True, help="Where to train."),
        )
    ):
        command = option(command)
    return command


def as_typed() -> str:
    """Return the command as it was typed."""
    return shlex.join(["thalweg", *sys.argv[1:]])


def answer_only() -> contextlib.AbstractContextManager[Any]:
    """Keep standard output for the answer: what a task prints goes to standard error."""
    return contextlib.redirect_stdout(sys.stderr)


class Interrupted(ThalwegError):
    """Ctrl-C in the middle of a measurement, of which nothing is kept."""

    exit_code = 130


@contextlib.contextmanager
def measuring() -> Iterator[None]:
    """Keep standard output for the answer of what leaves nothing behind, and say so at Ctrl-C."""
    try:
        with answer_only():
            yield
    except KeyboardInterrupt:
        click.echo(err=True)  # below the ^C that a terminal shows
        raise Interrupted("interrupted. Nothing is kept of it; the same command measures anew.") from None


def print_json(answer: Any) -> None:
    """Print an answer as JSON."""
    click.echo(json.dumps(answer, indent=2, ensure_ascii=False, allow_nan=False))

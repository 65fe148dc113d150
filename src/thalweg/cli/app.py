"""The program `thalweg`: its commands, and how errors and Ctrl-C end."""

import errno
import os
import sys
from typing import Any, Final

import click

import thalweg
from thalweg.cli.analyse import analyse
from thalweg.cli.batch import batch
from thalweg.cli.landscape import landscape
from thalweg.cli.lr import lr
from thalweg.cli.optimizers import optimizers
from thalweg.cli.report import report
from thalweg.cli.runs import runs
from thalweg.cli.sampling import sampling
from thalweg.cli.schedules import schedules
from thalweg.cli.showdown import showdown
from thalweg.cli.surface import surface
from thalweg.cli.tasks import tasks
from thalweg.cli.trace import trace
from thalweg.cli.train import train
from thalweg.errors import ThalwegError

INTERRUPTED: Final = 130
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)  # files of ours say it themselves: only the answer is left
_INTERRUPTED_SENTENCE: Final = (
    "thalweg: interrupted. What was finished is kept; the same command goes on (with --fresh it begins anew)."
)


class Program(click.Group):
    """A group whose errors are one sentence on standard error and an exit code.

    0: an answer was given. 1: it ran and failed. 2: wrong use or bad input. 130: Ctrl-C.
    """

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line and leave the process with its exit code."""
        kwargs["standalone_mode"] = False
        try:
            code = super().main(*args, **kwargs)
            sys.stdout.flush()  # what does not fit shows now, and not when Python ends
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            code = error.exit_code
        except click.ClickException as error:
            click.echo(f"thalweg: {_sentence(error)}", err=True)
            code = error.exit_code
        except ThalwegError as error:
            click.echo(f"thalweg: {error}", err=True)
            code = error.exit_code
        except (click.Abort, KeyboardInterrupt):
            click.echo(_INTERRUPTED_SENTENCE, err=True)
            code = INTERRUPTED
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            click.echo(f"thalweg: the answer could not be written: {error.strerror}.", err=True)
            # Python writes what is left when it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = ThalwegError.exit_code
        sys.exit(code if isinstance(code, int) else 0)


def _sentence(error: click.ClickException) -> str:
    """Say in one line what was typed wrongly, and where the right is to be found."""
    context = getattr(error, "ctx", None)
    see = f" See: {context.command_path} --help" if context else ""
    said = error.format_message()
    return f"{said}{'' if said.endswith(('.', '?', '?)')) else '.'}{see}"


@click.group(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with: thalweg showdown digits",
)
@click.version_option(thalweg.__version__, message="%(prog)s %(version)s")
def main() -> None:
    """A workbench for gradient descent: race optimizers fairly, train, and know how sure you are."""


for command in (
    *(showdown, lr, batch, sampling, train, landscape),
    *(trace, analyse, surface),
    *(tasks, optimizers, schedules, runs, report),
):
    main.add_command(command)

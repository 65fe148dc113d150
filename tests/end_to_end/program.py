"""The real program `thalweg`: runs it, alone in a folder, and looks at what it leaves behind."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thalweg.store import FILE_NAME

PROGRAM = Path(sys.executable).with_name("thalweg")

# Sixty points of three classes. Each time that the loss is computed, one more byte stands in a file beside
# the task, so that a test sees how far a process is; the sleep lets a signal land anywhere.
TASK = '''\
"""Which of three numbers is the largest?"""

import os
import time
from pathlib import Path

import torch
from torch import nn

from thalweg.tasks import Classification

kind = Classification(3)
epochs = 2
batch_size = 10
LOG = Path(__file__).with_suffix(".log")


def make_model():
    return nn.Linear(3, 3)


def make_data(seed):
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(seed))
    return x, x.argmax(1)


def loss(model, batch):
    x, y = batch
    with LOG.open("ab") as log:
        log.write(b".")
    time.sleep(0.0005)
    return nn.functional.cross_entropy(model(x), y)
'''


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


Call = Callable[..., Done]  # the fixture `call`: runs a command in this process


def environment(**more: str) -> dict[str, str]:
    """The variables of this process, without those that change what the program finds or prints."""
    hidden = ("THALWEG_DATA", "PYTHONPATH", "COLUMNS", "FORCE_COLOR", "NO_COLOR")
    return {**{name: value for name, value in os.environ.items() if name not in hidden}, **more}


def start(folder: Path, *arguments: str, **streams: Any) -> subprocess.Popen[str]:
    """Start a command in a folder, as the head of a process group of its own."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.Popen(
        [PROGRAM, *arguments], cwd=folder, env=environment(), text=True, start_new_session=True, **streams
    )


def finish(process: subprocess.Popen[str]) -> Done:
    """Wait for the end of a command."""
    out, err = process.communicate(timeout=300)
    return Done(process.returncode, out, err)


def run(folder: Path, *arguments: str) -> Done:
    """Run a command in a folder to its end."""
    return finish(start(folder, *arguments))


def answer(folder: Path, *arguments: str) -> str:
    """Run a command in a folder, which must succeed without a word on standard error; return its output."""
    done = run(folder, *arguments)
    assert (done.code, done.err) == (0, "")
    return done.out


def calls(folder: Path) -> int:
    """How often the loss of a folder's task.py has been computed."""
    log = folder / "task.log"
    return log.stat().st_size if log.exists() else 0


def interrupt(folder: Path, after: int, number: signal.Signals, *arguments: str) -> Done:
    """Run a command and send it, and all it started, a signal after so many further losses."""
    before = calls(folder)
    process = start(folder, *arguments)
    while process.poll() is None and calls(folder) < before + after:
        time.sleep(0.0002)
    if process.poll() is None:
        os.killpg(process.pid, number)
    return finish(process)


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file of a folder with its bytes; a folder in it has none."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def traces(runs: Path) -> dict[str, str]:
    """The finished trials that a folder of runs keeps, as they are written there."""
    if not (runs / FILE_NAME).exists():
        return {}
    with closing(sqlite3.connect(runs / FILE_NAME)) as connection:
        # A process that was killed may have left a file without tables.
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'traces'").fetchone():
            return {}
        return dict(connection.execute("SELECT key, record FROM traces").fetchall())


def timeless(answer: Any) -> Any:
    """An answer without what says that it is a time, a date or the place of the report."""
    if isinstance(answer, dict):
        return {
            key: timeless(value)
            for key, value in answer.items()
            if not key.endswith(("seconds", "_at")) and key != "report"
        }
    return [timeless(value) for value in answer] if isinstance(answer, list) else answer

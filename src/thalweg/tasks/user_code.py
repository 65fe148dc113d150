"""Running code that a person wrote: their error is shown as theirs, their random numbers are fenced.

An error is theirs when its traceback passes through their file. Then they see the lines of that
file, not of ours. It is theirs as well when what they handed over cannot be called as it must be, or
is a function of another library that raises. Any other error stays what it is.
"""

import os
import random
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from thalweg.errors import TaskError, ThalwegError

_PACKAGE = str(Path(__file__).resolve().parents[1])
_INSTALLED = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]
_NOT_THEIRS = ("<frozen", *(folder + os.sep for folder in (_PACKAGE, *_INSTALLED)))


def user_traceback(error: BaseException, path: Path | None = None) -> str:
    """Return the traceback of an error, shortened to the frames in the person's file.

    ``path`` is that file; None takes every frame outside Thalweg, the standard library and installed
    packages (a notebook). Two lines a frame, outermost first; empty if there is no such frame.
    """
    lines = []
    for frame in traceback.extract_tb(error.__traceback__):
        if path is None:
            theirs = not frame.filename.startswith(_NOT_THEIRS)
        else:
            theirs = frame.filename == str(path)
        if theirs:
            lines.append(f"  {Path(frame.filename).name}, line {frame.lineno}, in {frame.name}")
            if frame.line:
                lines.append(f"    {frame.line}")
    return "\n".join(lines)


def user_error(who: str, error: BaseException, path: Path | None = None) -> TaskError:
    """Word an error that a person's code raised, with the lines of their file."""
    said = str(error).strip().splitlines()
    got = f"{type(error).__name__}: {said[0].rstrip('.')}" if said else type(error).__name__
    lines = user_traceback(error, path)
    return TaskError(who, "run without an error", got, f"It was raised here:\n{lines}" if lines else "")


@contextmanager
def user_code(who: str, path: Path | None = None) -> Iterator[None]:
    """Turn an error that was raised in the person's file into a TaskError that shows their lines.

    ``who`` names what ran, e.g. ``loss of task.py``. Our own errors and those that never passed
    through their file are left as they are.
    """
    try:
        yield
    except ThalwegError:
        raise
    except (Exception, SystemExit) as error:
        if not user_traceback(error, path) and not _handed_over(error):
            raise
        raise user_error(who, error, path) from error


def _handed_over(error: BaseException) -> bool:
    """Tell whether the call itself failed, or what was called is another library's."""
    frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    calls = frames[2:]  # after the frames of `user_code` and of the with statement
    return not calls[0].startswith(_PACKAGE) if calls else isinstance(error, TypeError)


@contextmanager
def isolated_random(seed: int) -> Iterator[None]:
    """Seed the global generators of PyTorch, NumPy and Python, and restore them afterwards.

    A person's code may draw from any of the three, so all are fenced: what runs inside is
    reproducible, and what runs after does not notice. CUDA is included once it is in use; it is
    not started for this.
    """
    cuda = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=cuda):
            torch.default_generator.manual_seed(seed)
            for device in cuda:
                torch.cuda.default_generators[device].manual_seed(seed)
            np.random.seed(seed % 2**32)
            random.seed(seed)
            yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)

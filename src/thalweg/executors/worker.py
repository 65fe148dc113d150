"""What runs in a worker process: trials, one after the other, for as long as some are sent.

Nothing heavy is imported before the process knows how to end.
"""

import atexit
import ctypes
import faulthandler
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Final

_SET_PARENT_DEATH_SIGNAL: Final = 1  # PR_SET_PDEATHSIG in <linux/prctl.h>
_WATCH_SECONDS: Final = 0.5


def main(socket: int, file: int, parent: int) -> None:
    """Run the trials that come through a socket and send back their traces.

    Args:
        socket: a descriptor; when its other end is closed, the work is done.
        file: a descriptor of what `parcel.pack` made.
        parent: the process that sends them. The worker ends when it does.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent answers
    _end_with(parent)
    faulthandler.enable()  # where it crashes, the person sees on which line
    for descriptor in (socket, file):
        os.set_inheritable(descriptor, False)
    # Standard output is the parent's standard error. Whole lines: those of two workers do not mix, and
    # one that is ended has shown what it printed. Under PYTHONUNBUFFERED a line's end would be written apart.
    sys.stdout.reconfigure(line_buffering=True, write_through=False)  # type: ignore[union-attr]
    with Connection(socket) as connection, suppress(EOFError, ConnectionError):
        _serve(connection, file)
    # Python would take most of a second to take everything apart. What was registered for the end runs:
    # temporary folders of the task, say.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(0)


def _end_with(parent: int) -> None:
    """End this process when its parent is gone, also in the middle of a trial."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    # The thread has to wait where a library keeps Python's lock to itself; Linux does not.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def _serve(connection: "Connection[Any, Any]", file: int) -> None:
    import torch

    from thalweg.executors.parcel import refusal, unpack
    from thalweg.training.loop import run_trial

    try:
        workload, execution, settings = unpack(file)
    except Exception as error:
        connection.send_bytes(_pickled(refusal("the task", error)))
        return
    os.close(file)
    settings.apply()
    torch.set_num_threads(execution.threads)
    while True:
        letter = connection.recv_bytes()
        answer: Any
        try:
            answer = run_trial(workload, pickle.loads(letter), execution)
        except BaseException as error:  # SystemExit too: it is the parent that ends
            answer = error
        sys.stdout.flush()
        connection.send_bytes(_pickled(answer))


def _pickled(answer: Any) -> bytes:
    """Pickle a trace or an error; an error that cannot be pickled is told by another one."""
    import cloudpickle

    from thalweg.errors import ThalwegError

    if isinstance(answer, BaseException) and not isinstance(answer, ThalwegError):
        answer.add_note("In a worker process:\n" + "".join(traceback.format_exception(answer)))
    try:
        content: bytes = cloudpickle.dumps(answer)
        pickle.loads(content)  # some can be written and not read: their class wants other arguments
    except Exception:
        told = RuntimeError(f"{type(answer).__name__}: {answer}")
        told.__notes__ = getattr(answer, "__notes__", [])
        content = pickle.dumps(told)
    return content

"""Trials in processes, as many at once as there are cores; they share the data.

A worker is a new interpreter, not a fork (after an OpenMP kernel a fork is killed) and not one of
`multiprocessing`, which would run a script without ``if __name__ == "__main__":`` once more.
"""

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import Pipe, connection
from typing import IO, Final

from thalweg.errors import ThalwegError
from thalweg.executors.parcel import SERIAL, pack
from thalweg.executors.serial import unnoticed
from thalweg.records import Trace
from thalweg.training.trial import Execution, Trial, Workload

_DEATHS: Final = 3  # of its processes, after which a trial is given up
_LOOK_SECONDS: Final = 1.0  # how often to look whether a process lives that says nothing
_END_SECONDS: Final = 2.0  # for a process to end by itself when there is nothing more to do

_SCRIPT: Final = """
import sys
sys.path[:] = {path}
from thalweg.executors.worker import main
main({socket}, {file}, {parent})
"""


def workers() -> int:
    """Return how many processes can compute at once: the cores that this one may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run(
    workload: Workload,
    trials: Sequence[Trial],
    execution: Execution,
    skip: Callable[[Trial], bool],
    progress: Callable[[int], None] = unnoticed,
) -> Generator[Trace, None, None]:
    """Run those trials that are not to be skipped; yield each trace as soon as it is whole.

    A trial whose process dies is run again in a new one. Whatever ends this generator ends the processes.

    Args:
        workload: the task with its data.
        trials: begun in this order; their traces come in the order in which they are finished.
        execution: how trials run. Where torch works with several threads, there are fewer processes.
        skip: asked right before a trial begins, after all traces that were there before.
        progress: called with the updates of each trial that is finished.

    Raises:
        InputError: the task cannot be sent to other processes; or what a trial raises.
        ThalwegError: the process of one trial died three times.
    """
    waiting = deque(_Job(number, trial) for number, trial in enumerate(trials))

    def following() -> _Job | None:
        while waiting:
            job = waiting.popleft()
            if not skip(job.trial):
                return job
        return None

    job = following()
    if job is None:
        return
    with pack(workload, trials, execution) as file, _pool() as pool:
        most = max(1, workers() // execution.threads)
        while job is not None:
            _start(pool, file, job)
            job = following() if len(pool) < most else None
        while busy := [worker for worker in pool if worker.job is not None]:
            for worker, done in _heard(busy):
                trace = worker.trace()
                if trace is not None:
                    progress(trace.budget_steps)
                    yield replace(trace, attempts=done.deaths + 1)
                    worker.give(following())
                else:
                    pool.remove(worker)
                    waiting.appendleft(done.died(worker.process.wait()))
                    if (job := following()) is not None:
                        _start(pool, file, job)


@dataclass(frozen=True)
class _Job:
    number: int
    trial: Trial
    deaths: int = 0

    def died(self, code: int) -> "_Job":
        """Return the job with one more process that died; raise where that is one too many."""
        if self.deaths + 1 < _DEATHS:
            return replace(self, deaths=self.deaths + 1)
        trial = self.trial
        memory = "Perhaps memory runs short: take a smaller batch. " if code == -signal.SIGKILL else ""
        raise ThalwegError(
            f"the trial of {trial.contender} at rate {trial.recipe.rate or 0.0:g} with seed {trial.seed} "
            f"must run to its end; got a process that {_ended(code)}, {_DEATHS} times in a row. "
            f"{memory}{SERIAL}"
        )


def _ended(code: int) -> str:
    if code >= 0:
        return f"ended itself with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


class _Worker:
    """A process and the job that it has; None: it was told that there is nothing more to do."""

    def __init__(self, file: IO[bytes], job: _Job) -> None:
        self.job: _Job | None = None
        self.connection, theirs = Pipe()
        script = _SCRIPT.format(
            path=ascii([folder for folder in sys.path if isinstance(folder, str)]),
            socket=theirs.fileno(),
            file=file.fileno(),
            parent=os.getpid(),
        )
        flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, *flags, "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=2,  # standard output is kept for the answer
                pass_fds=[theirs.fileno(), file.fileno()],
            )
        self.give(job)

    def give(self, job: _Job | None) -> None:
        """Send a job; it waits in the socket until the process is there."""
        self.job = job
        if job is None:
            self.connection.close()
        else:
            with suppress(ConnectionError):  # it has just died: `trace` will say so
                self.connection.send(job.number)

    def trace(self) -> Trace | None:
        """Return the trace of the job, or None if the process died; raise what the trial raised."""
        try:
            if self.process.poll() is not None and not self.connection.poll():
                raise EOFError
            answer = pickle.loads(self.connection.recv_bytes())
        except (EOFError, ConnectionError):
            self.end(_END_SECONDS)  # the socket is closed a moment before the process is gone
            return None
        if isinstance(answer, BaseException):
            raise answer
        assert isinstance(answer, Trace)
        return answer

    def end(self, seconds: float) -> None:
        """Wait for the end of the process for so long, then end it."""
        self.connection.close()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def _pool() -> Iterator[list[_Worker]]:
    """A list of workers that are not there any more afterwards."""
    pool: list[_Worker] = []
    seconds = 0.0
    try:
        yield pool
        seconds = _END_SECONDS
    finally:
        if not seconds:
            for worker in pool:
                worker.process.kill()
        for worker in pool:
            worker.end(seconds)


def _heard(busy: list[_Worker]) -> Iterator[tuple[_Worker, _Job]]:
    """Wait for news and yield the workers that answered or died, with their jobs."""
    ready = connection.wait([worker.connection for worker in busy], _LOOK_SECONDS)
    for worker in busy:
        # A process may be gone and leave behind one of its own that holds the socket open.
        if worker.connection in ready or worker.process.poll() is not None:
            assert worker.job is not None
            yield worker, worker.job


def _start(pool: list[_Worker], file: IO[bytes], job: _Job) -> None:
    """Add a worker to the pool. Ctrl-C waits meanwhile, or there might be one that nobody knows of."""
    noted: list[int] = []
    handler = signal.getsignal(signal.SIGINT)
    # In other threads Python raises no KeyboardInterrupt, and lets no handler be set.
    mine = handler is not None and threading.current_thread() is threading.main_thread()
    if mine:
        signal.signal(signal.SIGINT, lambda number, frame: noted.append(number))
    # The process inherits what is blocked: Ctrl-C does not reach it, not even before its first line.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        pool.append(_Worker(file, job))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if mine:
            signal.signal(signal.SIGINT, handler)
        if noted:
            signal.raise_signal(signal.SIGINT)

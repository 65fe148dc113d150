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
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import Pipe, connection
from types import TracebackType
from typing import IO, Final, NamedTuple, Self

from thalweg.errors import ThalwegError
from thalweg.executors.parcel import SERIAL, letters, pack
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
    """Run those trials that are not to be skipped, in processes that are gone afterwards: see `Pool.run`."""
    with Pool() as pool:
        yield from pool.run(workload, trials, execution, skip, progress)


class Pool:
    """Processes that wait for the trials of the next round: to start them takes seconds.

    Leaving its ``with`` block ends all of them.
    """

    def __init__(self) -> None:
        self._teams: dict[tuple[int, Execution], _Team] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(_END_SECONDS if kind is None else 0.0)

    def end(self, seconds: float) -> None:
        """Let all processes end by themselves for so long, then end them."""
        workers = [worker for team in self._teams.values() for worker in team.workers]
        if not seconds:
            for worker in workers:
                worker.process.kill()
        for worker in workers:
            worker.connection.close()  # all of them hear it before one is waited for
        for worker in workers:
            worker.end(seconds)
        for team in self._teams.values():
            team.file.close()
        self._teams.clear()

    def run(
        self,
        workload: Workload,
        trials: Sequence[Trial],
        execution: Execution,
        skip: Callable[[Trial], bool],
        progress: Callable[[int], None] = unnoticed,
    ) -> Generator[Trace, None, None]:
        """Run those trials that are not to be skipped; yield each trace as soon as it is whole.

        A trial whose process dies is run again in a new one. What ends this generator before its end ends
        all processes.

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
        waiting = deque(_Job(place, trial) for place, trial in enumerate(trials))

        def following() -> _Job | None:
            while waiting:
                job = waiting.popleft()
                if not skip(job.trial):
                    return job
            return None

        job = following()
        if job is None:
            return
        ended = False
        try:
            team = self._team(workload, execution)
            sent = letters(workload, trials)
            idle, most = list(team.workers), max(1, workers() // execution.threads)
            for place in range(most):
                if job is None:
                    break
                if idle:
                    idle.pop().give(job, sent)
                else:
                    _start(team, job, sent)
                job = following() if place + 1 < most else None
            while busy := [worker for worker in team.workers if worker.job is not None]:
                for worker, done in _heard(busy):
                    trace = worker.trace()
                    if trace is not None:
                        progress(trace.budget_steps)
                        yield replace(trace, attempts=done.deaths + 1)
                        worker.give(following(), sent)
                    else:
                        team.workers.remove(worker)
                        waiting.appendleft(done.died(worker.process.wait()))
                        if (job := following()) is not None:
                            _start(team, job, sent)
            ended = True
        finally:
            if not ended:
                self.end(0.0)

    def _team(self, workload: Workload, execution: Execution) -> "_Team":
        key = (id(workload), execution)
        if key not in self._teams:
            self._teams[key] = _Team(workload, pack(workload, execution), [])
        return self._teams[key]


class _Team(NamedTuple):
    """The processes that hold one workload."""

    workload: Workload
    file: IO[bytes]
    workers: "list[_Worker]"


@dataclass(frozen=True)
class _Job:
    place: int
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
    """A process and the job that it has; None: it waits for one."""

    def __init__(self, file: IO[bytes]) -> None:
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

    def give(self, job: _Job | None, letters: Sequence[bytes]) -> None:
        """Send a job; it waits in the socket until the process is there."""
        self.job = job
        if job is not None:
            with suppress(ConnectionError):  # it has just died: `trace` will say so
                self.connection.send_bytes(letters[job.place])

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


def _heard(busy: list[_Worker]) -> Iterator[tuple[_Worker, _Job]]:
    """Wait for news and yield the workers that answered or died, with their jobs."""
    ready = connection.wait([worker.connection for worker in busy], _LOOK_SECONDS)
    for worker in busy:
        # A process may be gone and leave behind one of its own that holds the socket open.
        if worker.connection in ready or worker.process.poll() is not None:
            assert worker.job is not None
            yield worker, worker.job


def _start(team: _Team, job: _Job, letters: Sequence[bytes]) -> None:
    """Add a worker to a team. Ctrl-C waits meanwhile, or there might be one that nobody knows of."""
    noted: list[int] = []
    handler = signal.getsignal(signal.SIGINT)
    # In other threads Python raises no KeyboardInterrupt, and lets no handler be set.
    mine = handler is not None and threading.current_thread() is threading.main_thread()
    if mine:
        signal.signal(signal.SIGINT, lambda number, frame: noted.append(number))
    # The process inherits what is blocked: Ctrl-C does not reach it, not even before its first line.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        team.workers.append(_Worker(team.file))
        team.workers[-1].give(job, letters)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if mine:
            signal.signal(signal.SIGINT, handler)
        if noted:
            signal.raise_signal(signal.SIGINT)

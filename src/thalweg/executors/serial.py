"""One trial after the other, each on a model of its own."""

from collections.abc import Callable, Generator, Sequence

from thalweg.executors.threads import torch_threads
from thalweg.records import Trace
from thalweg.training.loop import run_trial
from thalweg.training.trial import Execution, Trial, Workload


def unnoticed(done: object) -> None:
    """Take no notice of what was done."""
    del done


def run(
    workload: Workload,
    trials: Sequence[Trial],
    execution: Execution,
    skip: Callable[[Trial], bool],
    progress: Callable[[int], None] = unnoticed,
) -> Generator[Trace, None, None]:
    """Run those trials that are not to be skipped; yield each trace as soon as it is whole.

    Torch works with the threads that the execution records, and with its former number again in
    between and afterwards.
    """
    for trial in trials:
        if skip(trial):
            continue
        with torch_threads(execution.threads):
            trace = run_trial(workload, trial, execution)
        progress(trial.steps)
        yield trace

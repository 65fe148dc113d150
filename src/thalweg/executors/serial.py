"""One trial after the other, each on a model of its own."""

from collections.abc import Iterable, Iterator

import torch

from thalweg.records import Trace
from thalweg.training.loop import run_trial
from thalweg.training.trial import Execution, Trial, Workload


def run(workload: Workload, trials: Iterable[Trial], execution: Execution) -> Iterator[Trace]:
    """Run trials in the order given and yield each trace as soon as it is whole.

    Torch works with the threads that the execution records, and with its former number again in
    between and afterwards.
    """
    for trial in trials:
        threads = torch.get_num_threads()
        torch.set_num_threads(execution.threads)
        try:
            trace = run_trial(workload, trial, execution)
        finally:
            torch.set_num_threads(threads)
        yield trace

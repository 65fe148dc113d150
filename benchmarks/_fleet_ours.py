"""The same trainings by Thalweg's executors, as a race hands them over.

`fleet.py` starts it with a job; the candidate is the executor. Each training also evaluates the validation
part some twenty times, draws its curves and looks for divergence, which the others do not. Updates are timed
by the traces themselves (a median over the run); of processes by as many as work at once.
"""

from _fleet_work import Job, cores, job_of_this_process, report  # first: it starts the clock

# isort: split
from thalweg.api.prepare import execution, prepare  # before torch, as the program does

# isort: split
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean
from typing import Any

from _fleet_models import task

from thalweg.executors.auto import EXECUTORS, choose
from thalweg.records import Stage, Trace
from thalweg.training.control import Control
from thalweg.training.recipe import Recipe
from thalweg.training.trial import Execution, Trial


def trials_of(job: Job) -> list[Trial]:
    """Return the trainings as trials."""
    return [
        Trial(name, Stage.TUNING, Recipe(name, rate=rate, batch_size=job.batch_size), seed, job.steps)
        for name, rate, seed in job.runs()
    ]


def execution_for(name: str, prepared: Any, trials: Sequence[Trial]) -> Execution:
    """Return how an executor runs these trials: the one place that knows how executors are asked for."""
    asked = execution(0, name, None, "cpu", prepared.update_flops)
    chosen, why = choose(prepared.workload, trials, asked, sum(trial.steps for trial in trials))
    print(why, file=sys.stderr)
    return chosen


def traces(prepared: Any, trials: Sequence[Trial], how: Execution) -> Iterator[Trace]:
    """Run all trials, none having been run before."""
    return EXECUTORS[how.executor](prepared.workload, trials, how, lambda trial: False)


def note_first_update(note: Callable[[], None]) -> None:
    """Call ``note`` once, as soon as a training in this process has taken in its first updates."""
    taken = Control.after_updates

    def first(self: Control, *given: Any, **named: Any) -> Any:
        Control.after_updates = taken
        note()
        return taken(self, *given, **named)

    Control.after_updates = first


def main() -> None:
    ready = time.perf_counter()
    job = job_of_this_process()
    moments: list[float] = []
    prepared = prepare(task(job.work), 0, job.batch_size, None, False)
    trials = trials_of(job)
    how = execution_for(job.candidate, prepared, trials)
    note_first_update(lambda: moments.append(time.perf_counter()))
    found = []
    for trace in traces(prepared, trials, how):
        if not moments:  # trained elsewhere: it began when it says
            moments.append(time.perf_counter() - trace.total_seconds)
        found.append(trace)
        last = time.perf_counter()
    end = time.perf_counter()
    at_once = max(1, cores() // how.threads) if how.executor == "processes" else 1
    report(
        ready,
        moments[0],
        end,
        fmean(trace.step_seconds for trace in found) / min(at_once, len(found)),
        [(t.contender, t.rate, t.seed, t.validation.get("loss")) for t in found],
        threads=how.threads * at_once,
        ending=end - last,
        executor=how.executor,
        steps_done=sum(trace.steps for trace in found),
    )


if __name__ == "__main__":
    main()

"""Which executor: from bounds of the cost first, then from a few timed updates of those that could repay."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any, Final, NamedTuple

from thalweg.errors import InputError, nearest
from thalweg.executors import fleet, processes, serial
from thalweg.executors.threads import torch_threads
from thalweg.tasks.user_code import isolated_random
from thalweg.training.engine import Engine, ModelEngine, Updates
from thalweg.training.fleet.engine import FleetEngine
from thalweg.training.fleet.memory import available, footprint, taken
from thalweg.training.fleet.program import Unstackable
from thalweg.training.fleet.trying import draws, refusal
from thalweg.training.trial import Execution, Trial, Workload

EXECUTORS: Final[dict[str, Any]] = {"serial": serial.run, "processes": processes.run, "fleet": fleet.run}
NAMES: Final = ("auto", *EXECUTORS)
SHORT: Final = 1.0  # seconds of training one after the other, which no other way shortens
START: Final = 3.0  # seconds until new processes have imported torch
SHARE: Final = 0.5  # of the free memory: what a fleet takes at most unless it is told
BESIDE: Final = 0.9  # of its speed alone is what a process keeps beside others, which share its caches
HOPELESS: Final = (
    1.5  # times what the best other way takes: a small fleet that takes more is not tried larger
)
CACHES: Final = 2**23  # bytes of a stack with all that belongs to it, from which smaller ones are tried
SMALLEST: Final = 8  # replicas of a wave, below which calls cost more than what they compute
TIMED: Final = 3  # updates at most, of which the median counts
ENOUGH: Final = 0.2  # seconds of timing, after which one update has to do


class Choice(NamedTuple):
    """How trials are run, and why, in one line."""

    execution: Execution
    why: str


class Way(NamedTuple):
    """What one way of running all trials would take."""

    total: float  # seconds
    update: float  # seconds of one update of one model
    execution: Execution

    @property
    def words(self) -> str:
        """The way, and what it takes."""
        how = self.execution
        waves = f" in waves of {how.wave}" if how.wave else ""
        return f"{how.executor}{waves} {_said(self.update)}"


def check(name: str) -> None:
    """Refuse an executor that there is not."""
    if name not in NAMES:
        raise InputError("the executor", f"be one of {', '.join(NAMES)}", repr(name), nearest(name, NAMES))


@contextmanager
def opened(name: str, progress: Callable[[int], None]) -> Iterator[Callable[..., Any]]:
    """Give what runs round after round of trials; processes wait for the next one until the block is left."""
    if name == "processes":
        with processes.Pool() as pool:
            yield partial(pool.run, progress=progress)
    else:
        yield partial(EXECUTORS[name], progress=progress)


def choose(
    workload: Workload,
    trials: Sequence[Trial],
    execution: Execution,
    updates: int,
    *,
    memory: float | None = None,
    threads: int | None = None,
) -> Choice:
    """Decide how trials run. What they compute depends on it by rounding only.

    Args:
        workload: the task with its data.
        trials: those of the first round.
        execution: what was asked for; its executor may be "auto". Its threads are those that suit one model.
        updates: of all trials that there may be.
        memory: bytes that a fleet may take; None: half of what is free.
        threads: what was asked for; None: as many as serve best.

    Raises:
        InputError: a fleet is asked for, and the model cannot be stacked, or not even one replica fits.
    """
    asked = execution.executor
    single = replace(execution, executor="processes", threads=threads or 1)
    if asked in ("serial", "processes"):
        return Choice(execution if asked == "serial" else single, "as asked")
    found = list(_ordinary(workload, trials, execution, single, updates)) if asked == "auto" else []
    best = min(found) if found else None
    if best is not None and (best.total < SHORT or len(trials) < 2):
        return Choice(best.execution, f"{best.words} an update: all of it takes about {_said(best.total)}")
    try:
        found += _fleets(workload, trials, execution, updates, memory, threads, best)
        without = ""
    except Unstackable as error:
        if best is None:
            must, do = "be one that can run this model", "Take --executor processes, or auto."
            raise InputError("the executor", must, f"fleet, but {error}", do) from error
        without = f"; no fleet, for {error}"
    best, *others = sorted(found)
    if best.execution.wave and draws(workload):
        without = "; the model draws random numbers, which are others in a fleet than alone"
    beside = ", ".join(way.words for way in others) or "as asked"
    return Choice(best.execution, f"{best.words} an update, {beside}{without}")


def _ordinary(
    workload: Workload, trials: Sequence[Trial], execution: Execution, single: Execution, updates: int
) -> Iterator[Way]:
    """Yield what takes one model at a time in each process."""
    serial = replace(execution, executor="serial")
    alone = _seconds(workload, trials[:1], serial)
    yield Way(alone * updates, alone, serial)
    count = processes.workers() // single.threads
    if count > 1 and execution.device == "cpu" and alone * updates > START:
        own = alone if single.threads == serial.threads else _seconds(workload, trials[:1], single)
        own /= count * BESIDE
        yield Way(START + own * updates, own, single)


def _fleets(
    workload: Workload,
    trials: Sequence[Trial],
    execution: Execution,
    updates: int,
    memory: float | None,
    threads: int | None,
    best: Way | None,
) -> Iterator[Way]:
    """Yield fleets: of the sizes that fit, on one thread and on all."""
    few = list({trial.contender: trial for trial in trials}.values())  # one of each kind
    small = replace(execution, executor="fleet", threads=threads or 1, wave=len(few))
    # Of two seeds, for a model may hold something of its own that is neither parameter nor buffer.
    tried = fleet.waves([*few, *[t for t in trials if t.seed != few[0].seed][:1]], len(few) + 1)
    with torch_threads(small.threads):
        reasons = [why for wave in tried if (why := refusal(workload, wave, small)) is not None]
    if reasons:
        raise Unstackable(reasons[0])
    if best is not None and _seconds(workload, few, small) > HOPELESS * best.update:
        return
    allowed = SHARE * available() if memory is None else memory
    most = len(trials)
    with torch_threads(small.threads):
        each = max(taken(workload, few, small)) / len(few)  # what is taken once is counted with every replica
        takes = footprint(workload, few, small) if most * each > allowed else None
    if takes is not None:
        most = min(most, takes.most(allowed))
        if most < 1:
            needed, given = (f"{float(f'{x / 2**20:.2g}'):g} MiB" for x in (takes.of(1), allowed))
            if best is not None:
                raise Unstackable(f"one replica takes {needed}, and it may take {given}")
            must, do = f"be at least {needed}, for one replica", "Allow more, or take --executor serial."
            raise InputError("the memory of a fleet", must, given, do)
    # Waves that stay within the processor's caches may be faster than one that does not.
    smaller = (most // 3, most // 9) if most * each > CACHES else ()
    sizes = sorted((most, *(size for size in smaller if size >= SMALLEST)))
    ways: list[Way] = []
    for own in dict.fromkeys((threads,) if threads else (1, processes.workers())):
        ways.append(_timed(workload, trials, replace(small, threads=own, wave=sizes[0]), updates))
    own = min(ways).execution.threads
    for size in sizes[1:]:
        ways.append(_timed(workload, trials, replace(small, threads=own, wave=size), updates))
    yield from ways


def _timed(workload: Workload, trials: Sequence[Trial], execution: Execution, updates: int) -> Way:
    wave = fleet.waves(trials, execution.wave)[0]
    update = _seconds(workload, wave, execution)
    return Way(update * updates, update, execution)


def _seconds(workload: Workload, trials: Sequence[Trial], execution: Execution) -> float:
    """Time an update of one model, alone or among others; what is timed is thrown away."""
    with torch_threads(execution.threads), isolated_random(0):
        engine: Engine
        if execution.wave:
            engine = FleetEngine(workload, trials, execution.root, execution.device, execution.threads)
        else:
            engine = ModelEngine(workload, trials[0], execution.root, execution.device)
        times = []
        for step in range(TIMED + 1):  # the first of which traces, compiles and reserves memory
            updates = [Updates(row, step, [t.recipe.rate or 0.0]) for row, t in enumerate(trials)]
            start = time.perf_counter()
            engine.update(updates)
            times.append(time.perf_counter() - start)
            if step and sum(times) > ENOUGH:
                break
    return median(times[1:]) / len(trials)


def _said(seconds: float) -> str:
    """Return a time in words, with two digits.

    >>> _said(0.000123), _said(0.0042), _said(75.0)
    ('120 µs', '4.2 ms', '75 s')
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{float(f'{seconds / size:.2g}'):g} {unit}"
    return f"{float(f'{seconds * 1e6:.2g}'):g} µs"

"""From what a person asks for to a checked workload, before any work begins."""

import hashlib
import json
import math
import os
import platform
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

import thalweg
from thalweg.errors import InputError
from thalweg.executors import auto
from thalweg.executors.threads import torch_threads
from thalweg.hyper import Integer, Interval
from thalweg.records import Stage
from thalweg.tasks import Task, check_task, load_task
from thalweg.tasks.user_code import isolated_random
from thalweg.training.control import EVALUATIONS, Control
from thalweg.training.engine import ModelEngine, Updates
from thalweg.training.recipe import Recipe
from thalweg.training.trial import Budget, Execution, Trial, Workload

TIMED_UPDATES: Final = 25
COUNTED_EXAMPLES: Final = 32
MOST_UPDATES: Final = 10**8  # the rate of each is computed before the first
SMALL_UPDATE: Final = 5e8  # operations: some 20 ms of one core
RUNS: Final = "thalweg-runs"  # the folder that runs are kept in when none is named

TaskLike = str | os.PathLike[str] | Task | tuple[Any, Any]


class Prepared(NamedTuple):
    """A task, ready to be trained."""

    workload: Workload
    batch_size: int | str
    update_flops: float  # floating point operations of one update, counted on a trial batch


def prepare(
    task: TaskLike,
    seed: int,
    batch_size: int | str | None,
    data: str | os.PathLike[str] | None,
    download: bool,
) -> Prepared:
    """Load a task and its data, and try them on one batch.

    Raises:
        InputError: whatever cannot work, in words; nothing was written.
    """
    Integer(0, "", Interval(0.0, 1e9)).check("seed", "the run", seed)
    loaded = load_task(task, data, download)
    parts = loaded.data(seed)
    examples = parts.train.examples
    size = min(loaded.batch_size, examples) if batch_size is None else batch_size
    if size != "all":
        Integer(None, "", Interval(1.0)).check("batch_size", "the run", size)
    whole = examples if size == "all" else int(size)
    with torch_threads(1):  # one batch gains little from more threads, and may wait long for one of them
        checked = check_task(loaded, parts, whole)
        workload = Workload(loaded, parts, loaded.fingerprint(parts), checked.metric, checked.direction)
        return Prepared(workload, size, _update_flops(workload, whole))


def _update_flops(workload: Workload, batch_size: int) -> float:
    """Count the operations of one update (products and convolutions, which are nearly all of them)."""
    few = min(batch_size, COUNTED_EXAMPLES)
    task = workload.task
    model = task.model(0)
    with isolated_random(0), Operations() as counted:
        torch.autograd.backward(task.loss(model, workload.data.train.batch(np.arange(few))))
    return float(counted.total) * batch_size / few


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts floating point operations as `torch.utils.flop_counter` does, without importing a compiler.

    >>> with Operations() as counted:
    ...     _ = torch.ones(2, 3) @ torch.ones(3, 4)
    >>> counted.total  # 2 × 4 sums of 3 products
    48.0
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total: float = 0.0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports its compiler, to keep it from looking in here

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        count: Any = flop_registry.get(func.overloadpacket)
        if count is not None:
            self.total += float(count(*args, **(kwargs or {}), out_val=made))
        return made


def execution(seed: int, executor: str, threads: int | None, device: str, update_flops: float) -> Execution:
    """Decide how trials run.

    Threads None: one where an update is small, because sharing it out takes longer than computing it;
    else as many as torch takes by itself.
    """
    auto.check(executor)
    if threads is not None:
        Integer(None, "", Interval(1.0)).check("threads", "the run", threads)
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        said = str(error).splitlines()[0].rstrip(".")
        raise InputError("the device", "be one that torch can use here", said, "Take cpu.") from error
    versions = (
        ("numpy", np.__version__),
        ("python", platform.python_version()),
        ("thalweg", thalweg.__version__),
        ("torch", torch.__version__),
    )
    own = 1 if update_flops < SMALL_UPDATE else torch.get_num_threads()
    return Execution(seed, executor, threads or own, device, versions)


def steps_of(budget: Budget, workload: Workload, recipe: Recipe, how: Execution) -> int:
    """Return a budget in updates. One in seconds is measured on a model that is thrown away."""
    examples, batch_size = workload.data.train.examples, workload.batch_size(recipe)
    if budget.seconds is None:
        return _possible(budget, examples, batch_size)
    trial = Trial("timing", Stage.SINGLE, recipe, 0, TIMED_UPDATES)
    with torch_threads(how.threads), isolated_random(0):
        engine = ModelEngine(workload, trial, how.root, how.device)
        times = []
        for step in range(TIMED_UPDATES):
            start = time.perf_counter()
            engine.update([Updates(0, step, [recipe.rate or 0.0])])
            times.append(time.perf_counter() - start)
        start = time.perf_counter()
        engine.measure([0], workload.data.validation)
    evaluation, update = time.perf_counter() - start, float(np.median(times))
    epoch = math.ceil(examples / batch_size)
    left = max(budget.seconds - EVALUATIONS * evaluation, budget.seconds / 2)
    if left / update > EVALUATIONS * epoch:  # so many epochs that each of them has its evaluation
        left, update = budget.seconds, update + evaluation / epoch
    return _possible(Budget(seconds=left), examples, batch_size, update)


def _possible(budget: Budget, examples: int, batch_size: int, step_seconds: float | None = None) -> int:
    try:
        steps: float = budget.steps_for(examples, batch_size, step_seconds)
    except OverflowError:
        steps = math.inf
    if steps > MOST_UPDATES:
        raise InputError(
            "the budget", f"be at most {MOST_UPDATES:,} updates", f"{steps:,}", "Train for a shorter time."
        )
    return int(steps)


def try_update(workload: Workload, trial: Trial, how: Execution) -> None:
    """Do the first update of a trial, and the last one of its epoch, on a model that is thrown away.

    What the recipe cannot do with this task (a schedule that does not fit the budget, accumulation
    through BatchNorm, a last batch of one example through it, sparse gradients) is so refused before
    anything is written.
    """
    with torch_threads(how.threads), isolated_random(0):
        limits = workload.limits(trial)
        rates = Control(trial.recipe, limits).rates(1)
        engine = ModelEngine(workload, trial, how.root, how.device)
        for step in sorted({0, min(limits.steps, limits.steps_per_epoch) - 1}):
            engine.update([Updates(0, step, rates)])


def environment() -> dict[str, str]:
    """Describe the machine, for the report; none of it enters a result."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def identity(data: Any) -> str:
    """Return the hash under which plain data is found again."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:32]


def file_name(task: str, key: str) -> str:
    """Return a name for files of a run: the task in plain letters, and enough of the key to tell it."""
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '-', task).strip('-') or 'task'}-{key[:8]}"


def now() -> str:
    """Return the time, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")

"""Which batch size: the noise of gradients tells what a larger batch saves, the clock what it costs.

With B_noise the gradient noise scale, a training with batches of B takes about S = S_min (1 + B_noise/B)
updates, and E = E_min (1 + B/B_noise) examples, to come as far (McCandlish et al. 2018, arXiv 1812.06162). An
update of B examples takes seconds(B), which is measured here; so the training takes S × seconds(B).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import count
from statistics import fmean, median
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from thalweg import seeds
from thalweg.curvature import NoiseScale, noise_scale, squared_norms
from thalweg.errors import InputError
from thalweg.executors.serial import unnoticed
from thalweg.executors.threads import torch_threads
from thalweg.records import Stage
from thalweg.tasks.data.part import moved
from thalweg.tasks.user_code import isolated_random
from thalweg.training.engine import ModelEngine, Updates, normalised
from thalweg.training.fleet.memory import HOLES, Peak, available
from thalweg.training.recipe import Recipe
from thalweg.training.trial import Execution, Trial, Workload

SEEDS: Final = 8  # trainings in which noise is measured: its interval rests on them
PARTS: Final = 64  # that a batch is cut into at most: a power of two, so that pairs of pairs make larger ones
EXAMPLES: Final = 2048  # of which the noise is measured at most, in each training
NORMALISED: Final = 8  # examples of a part of a model with BatchNorm, at least where there are so many
UPDATES: Final = 300  # before noise is measured again, at most
ROUNDS: Final = 5  # of timing all sizes; the quickest counts: others' work is not a batch's doing
VISIT: Final = 0.03  # seconds that a size is timed in a round, or one update
SLOW: Final = 1.0  # seconds of an update, above which no larger batch is timed
FALLEN: Final = 0.8  # of the best throughput; twice in a row below it, and no larger batch is timed
NEAR: Final = 1.1  # times the least predicted time, or the best throughput: not worth telling apart


class Noise(NamedTuple):
    """What was measured of the gradients' noise."""

    at_start: NoiseScale  # at initial weights
    after: NoiseScale | None  # after so many updates; None: they did not lower the loss
    updates: int
    variances: tuple[tuple[int, float], ...]  # batch size, E‖g_B − G‖² as measured where the scale counts

    @property
    def scale(self) -> NoiseScale:
        """The one that counts: most of a training is not its start."""
        return self.at_start if self.after is None else self.after


def noise(
    workload: Workload, recipe: Recipe, how: Execution, progress: Callable[[int], None] = unnoticed
) -> Noise:
    """Measure the gradient noise scale at initial weights, and in the middle of the task's training.

    Each of 8 trainings has initial weights, an order and batches of its own: the interval tells how few
    examples were measured, and how much trainings differ. Gradients are those before clipping and decay.

    Args:
        workload: the task with its data.
        recipe: how to train in between; its schedule is left out.
        how: where and with how many threads.
        progress: called after each training.

    Raises:
        InputError: there are fewer than 2 training examples.
    """
    limits = workload.limits(_trial(recipe, 0))
    examples = limits.train_examples
    if examples < 2:
        raise InputError("the training part", "have at least 2 examples, to tell noise", examples)
    updates = min(UPDATES, max(1, int(workload.task.epochs * limits.steps_per_epoch / 2)))
    start: list[_Measured] = []
    after: list[_Measured] = []
    with torch_threads(how.threads), isolated_random(0):
        for seed in range(SEEDS):
            engine = ModelEngine(workload, _trial(recipe, seed), how.root, how.device)
            size, parts = _cut(examples, normalised(engine.model))
            start.append(_measured(engine, size, parts))
            engine.update([Updates(0, 0, [recipe.rate or 0.0] * updates)])
            after.append(_measured(engine, size, parts))
            progress(1)
    # Weights that are no better than those that it started from are not what a training passes through.
    learnt = fmean(m.loss for m in after) < fmean(m.loss for m in start)
    found = [
        noise_scale([m.norms[0] for m in those], [m.norms[-1] for m in those], size, size * parts, examples)
        for those in ((start, after) if learnt else (start,))
    ]
    levels = np.mean([m.norms for m in (after if learnt else start)], axis=0)
    variances = [(size * 2**level, float(x - found[-1].squared_gradient)) for level, x in enumerate(levels)]
    return Noise(found[0], found[1] if learnt else None, updates, tuple(variances))


def _trial(recipe: Recipe, seed: int) -> Trial:
    return Trial("batch size", Stage.SINGLE, recipe, seed, 1)


def _cut(examples: int, normalised: bool) -> tuple[int, int]:
    """Return the size of a part, and how many parts: a power of two.

    >>> _cut(54000, False), _cut(1437, False), _cut(22, False), _cut(142, True)
    ((32, 64), (22, 64), (1, 16), (8, 16))
    """
    least = min(NORMALISED, examples // 2) if normalised else 1
    parts = min(PARTS, 1 << ((examples // least).bit_length() - 1))
    return min(examples, EXAMPLES) // parts, parts


class _Measured(NamedTuple):
    norms: list[float]  # squared, of the gradients of 1, 2, 4, … parts together
    loss: float  # mean over the parts


def _measured(engine: ModelEngine, size: int, parts: int) -> _Measured:
    """Measure gradients on different examples, in an order that no epoch of training has."""
    part, task, model = engine.train_part, engine.task, engine.model
    order = seeds.order(engine.root, engine.trial.seed, -1, part.examples)[: size * parts]
    batches = (moved(part.batch(chosen), None, engine.device) for chosen in order.reshape(parts, size))
    losses: list[Tensor] = []

    def loss_of(batch: Any) -> Tensor:
        loss = task.loss(model, batch)
        losses.append(loss.detach())
        return loss

    with isolated_random(seeds.derive(engine.root, "forward", engine.trial.seed, -1)):
        model.train()
        with task.user_code("training"):
            norms = squared_norms(model, loss_of, batches)
    return _Measured(norms, float(torch.stack(losses).mean()))


@dataclass(frozen=True)
class Timing:
    """What one batch size takes."""

    batch_size: int
    update_seconds: float  # gradient and step: the median of the quickest round
    memory: float  # bytes beside the data: weights, state of the optimizer, and what an update makes
    threads: int

    @property
    def throughput(self) -> float:
        """Examples per second."""
        return self.batch_size / self.update_seconds


class End(StrEnum):
    """Why no larger batch was timed."""

    EXAMPLES = "it is the whole training part"
    MEMORY = "the next one takes more memory than it may"
    REFUSED = "the device had no memory for the next one"
    FALLEN = "it and the one before took a quarter more time for each example than others"
    SLOW = "an update takes more than a second"


class Timings(NamedTuple):
    """What was timed, and what was not."""

    sizes: tuple[Timing, ...]  # ascending
    end: End
    left_out: tuple[tuple[int, str], ...]  # batch sizes that cannot be trained with, and why


def throughput(
    workload: Workload,
    recipe: Recipe,
    how_of: Callable[[int], Execution],
    memory: float,
    progress: Callable[[int], None] = unnoticed,
) -> Timings:
    """Time updates of doubled batch sizes, with the recipe's own and the whole training part among them.

    It ends where memory or the training part does, or where larger batches have become slower or too slow.
    The memory of a size is foretold from the two below before it is tried, and measured before it is timed.

    Args:
        workload: the task with its data.
        recipe: what moves the weights; its batch size is the present one.
        how_of: where, and with how many threads, a batch size is trained.
        memory: bytes that training may take beside the data.
        progress: called after each visit of a size, and with the visits that are left out.

    Raises:
        InputError: not even the smallest batch fits, or the present batch size cannot be trained with.
    """
    examples, present = workload.data.train.examples, workload.batch_size(recipe)
    wanted = candidates(examples, present)
    seconds: dict[int, float] = {}  # the median of a round, the quickest so far
    found: list[Timing] = []
    left_out: list[tuple[int, str]] = []
    end, fallen, best = End.EXAMPLES, 0, 0.0
    alone = "a last batch of one example has no statistics for BatchNorm"
    skipped = normalised(workload.task.model(0))
    for size in wanted:
        how = how_of(size)
        if skipped and 1 in (size, examples % size) and size != present:
            left_out.append((size, alone))
            continue
        if len(found) > 1 and foretold(found[-2:], size) > memory:
            end = End.MEMORY
            break
        try:
            with _engine(workload, recipe, size, how) as (engine, steps):
                bytes_ = _taken(engine, next(steps))
                if bytes_ > memory:
                    end = End.MEMORY
                    break
                times = _timed(engine, steps)
        except (InputError, RuntimeError, ValueError, MemoryError) as error:
            if _no_memory(error):
                end = End.REFUSED
                break
            if size == present:
                raise
            left_out.append((size, error.got if isinstance(error, InputError) else str(error)))  # type: ignore[arg-type]
            continue
        progress(1)
        seconds[size] = median(times)
        found.append(Timing(size, seconds[size], bytes_, how.threads))
        # It is the quickest update that says whether to go on: in one round a median may be a slow moment's.
        best = max(best, size / min(times))
        fallen = fallen + 1 if size / min(times) < FALLEN * best else 0
        if size >= present and size < examples and (fallen == 2 or min(times) > SLOW):
            end = End.FALLEN if fallen == 2 else End.SLOW
            break
    if not found:
        given = f"{memory / 2**20:.3g} MiB"
        raise InputError("the memory of a training", "hold one batch of the smallest size", given)
    progress(ROUNDS * (len(wanted) - len(found)))
    for _ in range(ROUNDS - 1):
        for each in found:
            with _engine(workload, recipe, each.batch_size, how_of(each.batch_size)) as (engine, steps):
                seconds[each.batch_size] = min(seconds[each.batch_size], median(_timed(engine, steps)))
            progress(1)
    timed = (replace(each, update_seconds=seconds[each.batch_size]) for each in found)
    return Timings(tuple(timed), end, tuple(left_out))


def candidates(examples: int, present: int) -> list[int]:
    """Return the batch sizes to be timed: 1, 2, 4, …, the present one, and all examples.

    >>> candidates(20, 5)
    [1, 2, 4, 5, 8, 16, 20]
    """
    return sorted({present, examples, *(2**k for k in range(examples.bit_length()))})


def foretold(two: Sequence[Timing], size: int) -> float:
    """Return the bytes that a larger batch takes, on the straight line through two smaller ones.

    >>> foretold([Timing(8, 1.0, 100.0, 1), Timing(16, 1.0, 180.0, 1)], 32)
    340.0
    """
    a, b = two
    return b.memory + (b.memory - a.memory) / (b.batch_size - a.batch_size) * (size - b.batch_size)


@contextmanager
def _engine(
    workload: Workload, recipe: Recipe, size: int, how: Execution
) -> Iterator[tuple[ModelEngine, Iterator[int]]]:
    """Have an engine that has done one update, which compiles, and steps whose batches are whole."""
    examples = workload.data.train.examples
    epoch, whole = -(-examples // size), examples // size
    steps = (first + place for first in count(0, epoch) for place in range(whole))
    with torch_threads(how.threads), isolated_random(0):
        engine = ModelEngine(workload, _trial(replace(recipe, batch_size=size), 0), how.root, how.device)
        _update(engine, next(steps))
        yield engine, steps


def _update(engine: ModelEngine, step: int) -> None:
    engine.update([Updates(0, step, [engine.trial.recipe.rate or 0.0])])
    if engine.device.type == "cuda":
        torch.cuda.synchronize(engine.device)


def _timed(engine: ModelEngine, steps: Iterator[int]) -> list[float]:
    """Return the times of updates: of as many as a visit holds."""
    times: list[float] = []
    while not times or sum(times) < VISIT:
        step = next(steps)
        start = time.perf_counter()
        _update(engine, step)
        times.append(time.perf_counter() - start)
    return times


def _taken(engine: ModelEngine, step: int) -> float:
    """Measure the bytes that training takes beside the data: weights, state, and what an update makes."""
    resident = sum(t.nbytes for t in engine.model.state_dict().values()) + engine.size(0).state_bytes
    if engine.device.type == "cuda":
        before = torch.cuda.memory_allocated(engine.device)
        torch.cuda.reset_peak_memory_stats(engine.device)
        _update(engine, step)
        return float(resident + torch.cuda.max_memory_allocated(engine.device) - before)
    with Peak() as peak:
        _update(engine, step)
    return HOLES * float(resident + peak.bytes)


def timed(workload: Workload, recipe: Recipe, size: int, how: Execution) -> Timing:
    """Measure the memory and the time of an update of one batch size: the median of the quickest round.

    Args:
        workload: the task with its data.
        recipe: what moves the weights; its batch size does not count.
        size: examples of an update.
        how: where, and with how many threads.
    """
    with _engine(workload, recipe, size, how) as (engine, steps):
        memory = _taken(engine, next(steps))
        seconds = min(median(_timed(engine, steps)) for _ in range(ROUNDS))
    return Timing(size, seconds, memory, how.threads)


def free(device: str) -> float:
    """Return the bytes of memory that are free where training is to be."""
    if torch.device(device).type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return available()


def _no_memory(error: BaseException | None) -> bool:
    """Tell whether an allocation failed, in our code or in a person's."""
    while error is not None:
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            return True
        error = error.__cause__
    return False


class Advice(NamedTuple):
    """What noise and clock say together."""

    batch_size: int  # with the least predicted time
    low: int  # sizes from low to high take at most a tenth more
    high: int
    knee: int  # from here on throughput is within a tenth of the best
    predicted: tuple[float, ...]  # time of each size that was timed, in units of the least


def advise(timings: Sequence[Timing], scale: float) -> Advice:
    """Find the size that minimises (1 + B_noise/B) × seconds(B).

    Args:
        timings: of sizes, ascending.
        scale: B_noise, of at least 0.

    >>> timings = [Timing(size, seconds, 0.0, 1) for size, seconds in ((1, 1.0), (2, 1.0), (4, 2.0))]
    >>> advise(timings, scale=2.0)  # 3 × 1, 2 × 1, 1.5 × 2
    Advice(batch_size=2, low=2, high=2, knee=2, predicted=(1.5, 1.0, 1.5))
    """
    times = [(1 + scale / t.batch_size) * t.update_seconds for t in timings]
    best = times.index(min(times))
    low = high = best
    while low > 0 and times[low - 1] <= NEAR * times[best]:
        low -= 1
    while high + 1 < len(times) and times[high + 1] <= NEAR * times[best]:
        high += 1
    most = max(t.throughput for t in timings)
    knee = next(t.batch_size for t in timings if t.throughput * NEAR >= most)
    size, least, largest = (timings[place].batch_size for place in (best, low, high))
    return Advice(size, least, largest, knee, tuple(x / times[best] for x in times))

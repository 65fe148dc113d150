"""How much memory a fleet takes: measured on small ones, and foretold for larger ones."""

import os
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from thalweg.tasks.user_code import isolated_random
from thalweg.training.engine import Updates
from thalweg.training.fleet.engine import FleetEngine
from thalweg.training.trial import Execution, Trial, Workload

SMALL = 2, 4  # replicas of the fleets that are measured, for each kind of trial
HOLES = 1.12  # times what tensors take is what a process takes: the allocator's holes, scratch of libraries


class Line(NamedTuple):
    """Bytes that K replicas take in one phase of their training: a + b·K."""

    fixed: float
    replica: float


class Footprint(NamedTuple):
    """Bytes that a fleet takes beside the data: what takes most, which of few replicas may be another phase.

    >>> takes = Footprint(Line(100.0, 10.0), Line(130.0, 2.0))
    >>> takes.of(1), takes.of(5), takes.most(159.0)
    (132.0, 150.0, 5)
    """

    updating: Line
    measuring: Line

    def of(self, replicas: int) -> float:
        """Return the bytes that so many replicas take at most."""
        return max(line.fixed + line.replica * replicas for line in self)

    def most(self, allowed: float) -> int:
        """Return how many replicas stay within so many bytes."""
        return max(0, min(int((allowed - line.fixed) // line.replica) for line in self))


class Peak(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The most bytes that were alive at once of what operations made inside a `with` block.

    >>> import torch
    >>> with Peak() as peak:
    ...     x = torch.zeros(1000)
    ...     y = torch.zeros(500) + 1
    ...     del x, y
    >>> peak.bytes
    8000
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = self._alive = 0
        self._known: set[int] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports its compiler, to keep it from looking in here

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        given = {
            x.untyped_storage()._cdata for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)
        }
        for x in pytree.tree_leaves(made):
            if isinstance(x, Tensor):
                self._note(x.untyped_storage(), given)
        return made

    def _note(self, storage: Any, given: set[int]) -> None:
        identity = storage._cdata
        if identity in given or identity in self._known:
            return
        size = storage.nbytes()
        self._known.add(identity)
        self._alive += size
        self.bytes = max(self.bytes, self._alive)
        weakref.finalize(storage, self._forget, identity, size)

    def _forget(self, identity: int, size: int) -> None:
        self._known.discard(identity)
        self._alive -= size


def footprint(workload: Workload, trials: Sequence[Trial], execution: Execution) -> Footprint:
    """Measure small fleets of a kind of trial: stacks and states, and what an update and a measurement make.

    Args:
        workload: the task with its data.
        trials: one of each kind, so that each counts.
        execution: where fleets run.

    Raises:
        Unstackable: the model cannot be stacked.
    """
    # Each of another seed, and so with a batch of its own: at most.
    small = [[replace(t, seed=place) for place, t in enumerate([*trials] * times)] for times in SMALL]
    lines = []
    for few, more in zip(*(taken(workload, fleet, execution) for fleet in small), strict=True):
        replica = max(1.0, (more - few) / (SMALL[1] - SMALL[0]) / len(trials))  # what falls is noise
        lines.append(Line(max(0.0, few - SMALL[0] * len(trials) * replica), replica))
    return Footprint(*lines)


def available() -> float:
    """Return the bytes of memory that are free for this process, as far as the system says."""
    found = [float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))]
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(1024.0 * int(next(x for x in lines if x.startswith("MemAvailable")).split()[1]))
    with suppress(OSError, ValueError):  # a container's own limit
        group = Path("/sys/fs/cgroup")
        limit, used = ((group / name).read_text() for name in ("memory.max", "memory.current"))
        found.append(float(int(limit) - int(used)))
    return min(found)


def taken(workload: Workload, trials: Sequence[Trial], execution: Execution) -> tuple[float, float]:
    """Measure the bytes of one fleet: stacks and states, with what updates make, and what measuring makes."""
    with isolated_random(0):
        engine = FleetEngine(workload, trials, execution.root, execution.device, execution.threads)

        def update() -> None:
            for step in sorted({0, workload.limits(trials[0]).steps_per_epoch - 1}):  # the last may be short
                engine.update([Updates(row, step, [0.0]) for row in range(len(trials))])

        def measure() -> None:
            engine.measure(range(len(trials)), workload.data.validation)

        update()  # traces
        measure()
        with Peak() as updating:
            update()
        with Peak() as measuring:
            measure()
        resident = engine.resident
        return HOLES * (updating.bytes + resident), HOLES * (measuring.bytes + resident)

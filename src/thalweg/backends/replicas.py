"""Compile the gradient of a small network for one replica, and run it for all replicas of a fleet.

The graph that `make_fx` leaves of a stacked gradient has a leading axis of replicas. Compiled, it is one
function for one replica, whose intermediate arrays lie in scratch of a thread's own, so that they stay in the
caches if they can; one parallel region calls it for every replica. The code depends on the shapes of one
replica, never on their number, nor on the other replicas: each gets the same bits wherever it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import GraphModule

from thalweg.backends import machine
from thalweg.backends.replica_graph import Lowered
from thalweg.backends.replica_steps import Machine, Step
from thalweg.backends.replica_text import LOOPS, TYPES, literal
from thalweg.backends.replica_values import Buffer, View
from thalweg.backends.symbols import Untraceable
from thalweg.errors import InputError

LARGEST_SCRATCH = 1 << 26  # bytes; each thread has as much as a replica needs
ON_STACK = 1 << 18  # bytes of scratch that lie on the stack of a thread; more has an area of its own
LINE = 64  # bytes of a line of the cache


class TooLarge(Untraceable):
    """A replica needs more scratch than there is: for fewer examples at once it may not."""

    def __init__(self, needed: int, most: int) -> None:
        super().__init__(f"A replica must need {most} bytes of scratch at most; got {needed}.")
        self.needed = needed


class Replicated:
    """The graph of a fleet's gradient as code that works replica by replica.

    Args:
        graph: what `make_fx` made of a function of tensors that all have a leading axis of K replicas.
        most: how many bytes of scratch each thread may have; None: 64 mebibytes.

    Raises:
        Untraceable: the graph has an operation that is not known here, mixes replicas, draws numbers, writes
            into its inputs.
        TooLarge: it needs more scratch.

    >>> from torch.fx.experimental.proxy_tensor import make_fx
    >>> graph = make_fx(lambda x, w: torch.bmm(x, w).relu())(torch.ones(2, 3, 4), torch.ones(2, 4, 1))
    >>> x, w = torch.ones(2, 3, 4), torch.tensor([[[0.5]] * 4, [[-0.5]] * 4])
    >>> out = torch.empty(2, 3, 1)
    >>> Replicated(graph).run([x, w], [None, None], [out], threads=1)
    >>> out.squeeze(-1).tolist()
    [[2.0, 2.0, 2.0], [0.0, 0.0, 0.0]]
    """

    def __init__(self, graph: GraphModule, most: int | None = None) -> None:
        lowered = Lowered(graph, _machine())
        self.scratch = _arrange(lowered.work.steps)
        most = LARGEST_SCRATCH if most is None else most
        if self.scratch > most:
            raise TooLarge(self.scratch, most)
        self.text = _text(lowered, self.scratch)
        self._function = machine.address_of(self.text)
        self._inputs, self._outputs = lowered.inputs, lowered.outputs
        self._kinds = [_Kind(view) for view in (*lowered.inputs, *lowered.outputs)]
        self._seen: list[Any] = []  # what each column of the table of addresses was written for
        self._job = np.zeros(3, np.int64)
        self._address = self._job.ctypes.data
        self._areas = Areas(self.scratch)
        self._resize(0)

    def run(
        self,
        inputs: Sequence[Tensor],
        places: Sequence[np.ndarray[Any, Any] | None],
        outputs: Sequence[Tensor],
        threads: int,
    ) -> None:
        """Compute all outputs for all replicas, in place.

        Args:
            inputs: in the order of the graph's placeholders; dense, with a leading axis.
            places: for each input which entry along its leading axis replica k reads, (K,); None: entry k.
            outputs: in the order of the graph's results; dense, with a leading axis of K. They must not
                overlap with inputs.
            threads: how many threads to use at most.

        Raises:
            InputError: a tensor is not of the shape, type and layout that was compiled, or a place lies
                outside.

        An index that points outside of what it is looked up in, such as the label of a class that there is
        not, gives NaN, where torch would raise.
        """
        if (
            len(inputs) != len(self._inputs)
            or len(places) != len(inputs)
            or len(outputs) != len(self._outputs)
        ):
            raise InputError(
                "the tensors of a compiled fleet",
                f"be {len(self._inputs)} inputs, as many places and {len(self._outputs)} outputs",
                f"{len(inputs)}, {len(places)} and {len(outputs)}",
            )
        if len(outputs[0]) != len(self._records):
            self._resize(len(outputs[0]))
        for column, x in enumerate((*inputs, *outputs)):
            place = places[column] if column < len(places) else None
            where = None if place is None else place.tobytes()
            seen = (x.data_ptr(), x.shape, x.dtype, x.is_contiguous(), where)
            if seen != self._seen[column]:
                self._point(column, x, place)
                self._seen[column] = seen
        threads = max(1, min(threads, len(self._records)))
        if self._areas.reserve(threads):
            self._records[:, 2] = self._areas.address
        self._job[0] = 0  # the next record to take
        machine.run(self._address, threads)

    def outputs(self, count: int) -> list[Tensor]:
        """Return tensors for the results of so many replicas."""
        kinds = self._kinds[len(self._inputs) :]
        return [torch.empty((count, *kind.shape), dtype=kind.dtype) for kind in kinds]

    def _resize(self, count: int) -> None:
        """Make a table of addresses, one row a replica, and a record for each, as `machine` knows them."""
        columns = len(self._inputs) + len(self._outputs)
        self._seen = [None] * columns
        self._addresses = np.zeros((count, columns), np.int64)
        self._records = np.zeros((count, 7), np.int64)
        self._records[:, 0] = self._function
        self._records[:, 2] = self._areas.address
        self._records[:, 1] = self._addresses.ctypes.data + 8 * columns * np.arange(count)
        self._job[:] = 0, count, self._records.ctypes.data

    def _point(self, column: int, x: Tensor, place: np.ndarray[Any, Any] | None) -> None:
        """Write where each replica finds its part of a tensor."""
        kind = self._kinds[column]
        kind.check(x)
        count = len(self._records)
        rows = np.arange(count) if place is None else place
        if rows.shape != (count,) or (count and not 0 <= rows.min() <= rows.max() < len(x)):
            raise InputError(
                "places",
                f"be {count} numbers from 0 to {len(x) - 1}",
                np.array2string(rows, threshold=8),
            )
        self._addresses[:, column] = x.data_ptr() + rows * kind.size


class Areas:
    """Scratch for threads: a table of where the first begins, how many there are, and which are taken.

    >>> areas = Areas(1 << 20)
    >>> areas.reserve(2), areas.reserve(1), areas.size
    (True, False, 1048576)
    """

    def __init__(self, scratch: int) -> None:
        self.size = -(-scratch // LINE) * LINE if scratch > ON_STACK else 0
        self.address = 0
        self._table = np.zeros(2, np.int64)
        self._memory = np.empty(0, np.uint8)

    def reserve(self, threads: int) -> bool:
        """Make room for so many threads, if there is less; tell whether the table has moved."""
        if not self.size or self._table[1] >= threads:
            return False
        self._memory = np.empty(threads * self.size + LINE, np.uint8)
        self._table = np.zeros(2 + threads, np.int64)
        self._table[0] = -(-self._memory.ctypes.data // LINE) * LINE
        self._table[1] = threads
        self.address = self._table.ctypes.data
        return True


class _Kind:
    """What an input or output must be."""

    def __init__(self, view: View) -> None:
        self.shape, self.dtype = view.shape[1:], getattr(torch, view.dtype)
        self.size = int(np.prod(view.shape)) * TYPES[view.dtype][2]  # bytes of one replica

    def check(self, x: Tensor) -> None:
        """Refuse another shape, type or layout: code would read memory that is not there."""
        if (
            not x.dim()
            or x.shape[1:] != self.shape
            or x.dtype != self.dtype
            or not x.is_contiguous()
            or x.device.type != "cpu"
        ):
            raise InputError(
                "a tensor of a compiled fleet",
                f"be dense, of shape (K, {', '.join(map(str, self.shape))}) and {self.dtype}",
                f"{tuple(x.shape)}, {x.dtype}, strides {x.stride()} on {x.device}",
            )


# Take the first area that nobody has: there are as many as threads.
TAKEN = """
%table = getelementptr i64, ptr %g, i64 2
%base = load ptr, ptr %g
%countat = getelementptr i64, ptr %g, i64 1
%count = load i64, ptr %countat
br label %look
look:
%area = phi i64 [ 0, %entry ], [ %next, %look ]
%flag = getelementptr i64, ptr %table, i64 %area
%taken = atomicrmw xchg ptr %flag, i64 1 acquire
%after = add i64 %area, 1
%end = icmp eq i64 %after, %count
%next = select i1 %end, i64 0, i64 %after
%free = icmp eq i64 %taken, 0
br i1 %free, label %found, label %look
found:
%start = mul i64 %area, SIZE
%scratch = getelementptr i8, ptr %base, i64 %start
"""


@cache
def _machine() -> Machine:
    wide = machine.has_wide_vectors()
    return Machine(16, 32) if wide else Machine(8, 16)


def _arrange(steps: Sequence[Step]) -> int:
    """Give every array in scratch a place that is its own while it is needed; return the bytes of all."""
    lives: dict[int, list[Any]] = {}  # by the identity of a buffer: itself, first and last step
    for now, step in enumerate(steps):
        for view in (step.target, *step.reads):
            if view.buffer.home == "scratch":
                lives.setdefault(id(view.buffer), [view.buffer, now, now])[2] = now
    panels = [[step.panel, now, now] for now, step in enumerate(steps) if step.panel.size]
    placed: list[tuple[int, int, int, int]] = []
    for buffer, start, stop in sorted([*lives.values(), *panels], key=lambda life: -life[0].size):
        others = sorted((at, end) for at, end, a, b in placed if a <= stop and start <= b)
        place = 0
        for at, end in others:
            if place + buffer.size <= at:
                break
            place = max(place, end)
        buffer.place = place
        placed.append((place, place + -(-buffer.size // LINE) * LINE, start, stop))
    return max((end for _, end, _, _ in placed), default=0)


def _text(lowered: Lowered, scratch: int) -> str:
    """Return the text of all: one function a step, and one that calls them in turn."""
    count = len(lowered.inputs)
    functions: dict[str, str] = {}  # by their text, the name: what is alike is compiled once
    constants: dict[bytes, tuple[str, str]] = {}
    declared: set[str] = set()
    if scratch > ON_STACK:
        lines = TAKEN.replace("SIZE", str(-(-scratch // LINE) * LINE)).strip().splitlines()
    else:
        lines = [f"%scratch = alloca [{max(scratch, LINE)} x i8], align {LINE}"]
    for i in range(count + len(lowered.outputs)):
        lines += [f"%a{i} = getelementptr ptr, ptr %places, i64 {i}", f"%p{i} = load ptr, ptr %a{i}"]

    def base(buffer: Buffer) -> str:
        match buffer.home:
            case "input":
                return f"%p{buffer.place}"
            case "output":
                return f"%p{count + buffer.place}"
            case "scratch":
                return "%scratch"
        assert buffer.data is not None
        key = buffer.data.dtype.str.encode() + buffer.data.tobytes()
        if key not in constants:
            constants[key] = (f"@t{len(constants)}", _constant(buffer.data))
        return constants[key][0]

    for number, step in enumerate(lowered.work.steps):
        out = step.write()
        declared |= out.declared
        given = [step.target, *step.reads]
        panel = step.panel.size > 0
        parameters = ", ".join(f"ptr noalias %x{i}" for i in range(len(given) + panel))
        body = f"({parameters}) #0 {{\n{out.body()}\n}}\n"
        name = functions.setdefault(body, f"@s{len(functions)}")
        places = []
        for i, view in enumerate(given):
            offset = view.offset * TYPES[view.dtype][2]
            offset += view.buffer.place if view.buffer.home == "scratch" else 0
            lines.append(f"%s{number}_{i} = getelementptr i8, ptr {base(view.buffer)}, i64 {offset}")
            places.append(f"ptr %s{number}_{i}")
        if panel:
            lines.append(f"%s{number}_p = getelementptr i8, ptr %scratch, i64 {step.panel.place}")
            places.append(f"ptr %s{number}_p")
        lines.append(f"call void {name}({', '.join(places)})")
    if scratch > ON_STACK:
        lines.append("store atomic i64 0, ptr %flag release, align 8")
    body = "\n".join(["entry:", *(line if line.endswith(":") else f"  {line}" for line in lines)])
    return "\n".join(
        [
            *(f"{name} = private constant {data}, align {LINE}" for name, data in constants.values()),
            *(f"define internal void {name}{text}" for text, name in functions.items()),
            "define void @kernel(ptr %places, ptr %g, ptr %n, i64 %first, i64 %last, ptr %sums) #1 {",
            body,
            "  ret void\n}",
            *sorted(declared),
            'attributes #0 = { nounwind noinline "prefer-vector-width"="512" }',
            "attributes #1 = { nounwind }",
            LOOPS,
        ]
    )


def _constant(data: np.ndarray[Any, Any]) -> str:
    dtype = str(data.dtype)
    kind = TYPES[dtype][0]
    stored = "uint8" if dtype == "bool" else dtype
    entries = ", ".join(f"{kind} {literal(x, stored)}" for x in data.ravel().tolist())
    return f"[{data.size} x {kind}] [{entries}]"

"""A step laid out once: tables of chunks, and the numbers that each pass over them is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import Struct
from typing import Any, NamedTuple

import numpy as np
import torch

from thalweg.backends import llvm, machine
from thalweg.backends.kinds import Kind, kind_of
from thalweg.backends.program import NUMBERS, OVER_ROWS, Instruction, Pass, trace
from thalweg.backends.rounding import salts
from thalweg.rules.base import Values
from thalweg.rules.tail import Row

LARGEST_CHUNK, SMALLEST_CHUNK, CHUNKS = 1 << 18, 4096, 256
ALONE = 131072  # elements that one thread moves before another has woken up


class Part:
    """The rows of one kind, in their order."""

    def __init__(self, kind: Kind, places: list[int], rows: Sequence[Row]) -> None:
        self.kind, self.places = kind, places  # among the rows of the plan
        self.sizes = np.array([rows[place].parameter.numel() // kind.replicas for place in places], np.int64)
        self.count = len(places)
        self.shape = (len(places), kind.replicas)
        self.width = 1 + len(kind.fields)  # of the block of addresses of one row

    @property
    def rows(self) -> int:
        """How many rows there are, every replica counted."""
        return self.count * self.kind.replicas


class Moved(NamedTuple):
    """What a step leaves beside what it wrote in place."""

    shared: Mapping[str, Any]  # the global scalars of rules with global scope
    clipped: Any  # (K,) where there are replicas
    skipped: Any  # None where nobody asked; (K,) where there are replicas
    singles: Mapping[tuple[int, int], Any]  # by part and field of the state: one new number a row


QUIET = Moved({}, False, None, {})


class Plan:
    """A step of given rows: their numbers and addresses may change, their kinds and sizes may not.

    Args:
        rows: what there is to move.
        shared: the global scalars, of which only the kinds count here.
        dtype: in which to compute rows without a state; None: their gradient's.
        stochastic: whether what becomes bfloat16 is rounded by chance.

    Raises:
        Untraceable: a row is of a kind for which there are no kernels.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        shared: Mapping[str, Any],
        dtype: torch.dtype | None = None,
        stochastic: bool = False,
    ) -> None:
        kinds: dict[Any, tuple[Kind, list[int]]] = {}
        for place, row in enumerate(rows):
            kind = kind_of(row, dtype, stochastic)
            told = (_known(row.values), _known(row.multiplier))  # it holds for all rows of a part
            kinds.setdefault((kind.key, *told), (kind, []))[1].append(place)
        self.parts = [Part(kind, places, rows) for kind, places in kinds.values()]
        self.order = [place for part in self.parts for place in part.places]
        self.stochastic = stochastic
        self._lay_out()
        values = [rows[part.places[0]].values for part in self.parts]
        self.program = program = trace([part.kind.family for part in self.parts], values, shared)
        self.jobs = [_Job(self, works) for works in program.passes]
        self.steady, self.instructions = self._sorted(program.instructions)
        self.sums = [
            [
                (index, column, place)
                for index, work in enumerate(works)
                if work is not None
                for column, (_, place) in enumerate(work.sums)
            ]
            for works in program.passes
        ]
        # Whether a step leaves nothing but what it writes in place, as most do.
        self.quiet = not (program.shared or program.buffers) and program.clipped is program.skipped is None
        self.settled = False  # whether what follows from hyperparameters alone was computed
        self._place_leaves()

    def _lay_out(self) -> None:
        """Make the tables of addresses: one block a row and replica, parameter first, then its buffers."""
        self.replicated = any(part.kind.replicas > 1 for part in self.parts)
        elements = sum(int(part.sizes.sum()) * part.kind.replicas for part in self.parts)
        self.chunk = min(LARGEST_CHUNK, max(SMALLEST_CHUNK, elements // CHUNKS // 64 * 64))
        self.alone = elements <= ALONE
        self.table = np.zeros(sum(part.rows * part.width for part in self.parts), np.int64)
        self.gradients = np.zeros((sum(part.rows for part in self.parts), 2), np.int64)  # and salts

    def _place_leaves(self) -> None:
        self.numbers: list[Any] = [None] * self.program.size
        self.hyper: list[list[tuple[int, str, int | None]]] = [[] for _ in self.parts]
        self.outside: dict[str, list[tuple[Any, int]]] = {}
        for leaf in self.program.leaves:
            match leaf.name:
                case "number":
                    self.numbers[leaf.place] = leaf.detail[0]
                case "zero":
                    self.numbers[leaf.place] = 0.0
                case "count":
                    assert leaf.family is not None
                    sizes = self.parts[leaf.family].sizes
                    self.numbers[leaf.place] = np.maximum(sizes, 1.0)[:, None]
                case "hyper":
                    part, name, entry = leaf.detail
                    self.hyper[part].append((leaf.place, name, entry))
                case "t" | "factor" | "multiplier" | "buffer" | "shared":
                    self.outside.setdefault(leaf.name, []).append((leaf.detail, leaf.place))

    def _sorted(self, segments: Sequence[Sequence[Instruction]]) -> tuple[list[Any], list[list[Any]]]:
        """Return what follows from hyperparameters alone, and what must be computed in every step."""
        moving = {leaf.place for leaf in self.program.leaves if leaf.name not in ("number", "zero", "hyper")}
        steady: list[Any] = []
        segmented: list[list[Any]] = []
        for segment in segments:
            segmented.append([])
            for x in segment:
                if x.operation not in OVER_ROWS and moving.isdisjoint(x.operands):
                    steady.append(self._bound(x))
                else:
                    moving.add(x.result)
                    segmented[-1].append(self._bound(x))
        return steady, segmented

    def _bound(self, x: Instruction) -> tuple[Any, int, tuple[int, ...]]:
        if x.operation not in OVER_ROWS:
            return NUMBERS[x.operation], x.result, x.operands
        assert x.family is not None
        shape, stacked = self.parts[x.family].shape, self.parts[x.family].kind.stacked

        def over_rows(numbers: Any) -> Any:
            spread = np.broadcast_to(np.asarray(numbers), shape)
            found = spread.any(0) if x.operation == "any" else spread.sum(0)
            return found if stacked else found.item()

        return over_rows, x.result, x.operands

    # What may change from step to step.

    def point(
        self,
        fixed: np.ndarray,
        gradients: np.ndarray,
        where: np.ndarray | None = None,
        gradients_where: np.ndarray | None = None,
    ) -> None:
        """Take the addresses of parameters and buffers, row by row in `order`, and of gradients.

        Args:
            fixed: of a row, that of its parameter first, then of its buffers.
            gradients: one a row.
            where: the places of the replicas in a stack of parameters that holds others, too; their buffers
                lie one behind the other in any case.
            gradients_where: the same for gradients.
        """
        if not self.replicated and where is None:
            self.table[:] = fixed
            self.gradients[:, 0] = gradients
            return
        at = row = out = out_row = 0
        for part in self.parts:
            one_behind_the_other = np.arange(part.kind.replicas)
            own = one_behind_the_other if where is None else where
            slopes = one_behind_the_other if gradients_where is None else gradients_where
            sizes = np.array([llvm.SIZES[x] for x in part.kind.types.stored if x is not None], np.int64)
            steps = [own * sizes[0], *(one_behind_the_other * size for size in sizes[2:])]
            block = fixed[at : at + part.count * part.width].reshape(part.count, 1, part.width)
            block = block + part.sizes[:, None, None] * np.stack(steps, 1)
            self.table[out : out + block.size] = block.ravel()
            mine = gradients[row : row + part.count, None] + part.sizes[:, None] * (slopes * sizes[1])
            self.gradients[out_row : out_row + mine.size, 0] = mine.ravel()
            at, row = at + part.count * part.width, row + part.count
            out, out_row = out + block.size, out_row + mine.size

    def value(self, part: int, values: Values) -> None:
        """Take the hyperparameters of a part: numbers, or (K,)."""
        for place, name, entry in self.hyper[part]:
            value = getattr(values, name)
            self.numbers[place] = value if entry is None else value[entry]
        self.settled = False

    def salt(self, counts: np.ndarray, places: np.ndarray | None = None) -> None:
        """Choose the chances of the next step, by the steps so far and the place of each parameter."""
        places = np.arange(len(counts)) if places is None else places
        replicas = len(self.gradients) // len(counts)
        rows = np.repeat(places * replicas, replicas) + np.tile(np.arange(replicas), len(counts))
        self.gradients[:, 1] = salts(np.repeat(counts, replicas), rows)

    def step(
        self,
        ts: Sequence[Any],
        multipliers: Sequence[Any],
        singles: Mapping[tuple[int, int], Any],
        shared: Mapping[str, Any],
        factor: Any,
        threads: int,
    ) -> Moved:
        """Move everything that was pointed to by one step.

        Args:
            ts: the number of the step of each part: one number, or (rows, replicas).
            multipliers: what a schedule makes of the rate of each part.
            singles: by part and field of the state, where there is one number a row: (rows, replicas).
            shared: the global scalars.
            factor: what the schedule multiplies the rate with.
            threads: how many threads to use at most.
        """
        n = self.numbers
        for name, leaves in self.outside.items():
            for detail, place in leaves:
                if name == "t":
                    n[place] = ts[detail[0]]
                elif name == "factor":
                    n[place] = factor
                elif name == "multiplier":
                    n[place] = multipliers[detail[0]]
                elif name == "buffer":
                    n[place] = singles[detail]
                else:
                    n[place] = getattr(shared[detail[0]], detail[1])
        if not self.settled:
            _compute(n, self.steady)
            self.settled = True
        if self.quiet and len(self.jobs) == 1:
            _compute(n, self.instructions[0])
            self.jobs[0].run(n, threads)
            return QUIET
        with np.errstate(all="ignore"):  # infinity and NaN are told by what they do to parameters
            return self._passed(shared, threads)

    def _passed(self, shared: Mapping[str, Any], threads: int) -> Moved:
        n = self.numbers
        last, skipped = len(self.jobs) - 1, self.program.skipped
        for stage, job in enumerate(self.jobs):
            _compute(n, self.instructions[stage])
            if stage == last and skipped is not None and np.all(n[skipped]):
                return Moved(shared, False, n[skipped], {})
            job.run(n, threads)
            for index, column, place in self.sums[stage]:
                n[place] = job.sum_of(index, column)
        _compute(n, self.instructions[last + 1])
        clipped = self.program.clipped
        return Moved(
            {name: kind(*(n[x] for x in places)) for name, (kind, places) in self.program.shared.items()},
            False if clipped is None else n[clipped],
            None if skipped is None else n[skipped],
            {(part, field): n[place] for part, field, place in self.program.buffers},
        )


def _known(x: Any) -> Any:
    """Return a value that can be looked up: arrays are known by what they are, not by what they hold."""
    try:
        hash(x)
    except TypeError:
        return id(x)
    return x


def _compute(n: list[Any], instructions: Sequence[tuple[Any, int, tuple[int, ...]]]) -> None:
    for function, result, operands in instructions:
        if len(operands) == 2:  # as nearly all have
            first, second = operands
            n[result] = function(n[first], n[second])
        else:
            n[result] = function(*[n[x] for x in operands])


class _Job:
    """One pass over all rows: a table of chunks, and the numbers that each row is given."""

    def __init__(self, plan: Plan, works: Sequence[Pass | None]) -> None:
        self.pieces: list[_Piece | None] = []
        row = place = 0
        for part, work in zip(plan.parts, works, strict=True):
            self.pieces.append(None if work is None else _Piece(plan, part, work, row, place))
            row += part.rows
            place += part.rows * part.width
        made = [piece for piece in self.pieces if piece is not None]
        self.table = np.concatenate([piece.records for piece in made])
        at = 0
        for piece in made:
            piece.column = self.table[at : at + len(piece.records), 3]
            at += len(piece.records)
        self.given = [piece for piece in made if piece.work.places]
        self.job = np.array([0, len(self.table), self.table.ctypes.data], np.int64)
        self.address = self.job.ctypes.data
        self.threads = 1 if plan.alone else len(self.table)

    def run(self, n: list[Any], threads: int) -> None:
        """Give every row its numbers, and work through the table."""
        for piece in self.given:
            piece.give(n)
        self.job[0] = 0
        machine.run(self.address, min(threads, self.threads))

    def sum_of(self, index: int, column: int) -> np.ndarray:
        """Return what was added up for each row of a part: (rows, replicas)."""
        piece = self.pieces[index]
        assert piece is not None
        return np.add.reduceat(piece.sums[:, column], piece.starts).reshape(piece.part.shape)


class _Piece:
    """What a pass does with one part: its chunks, each a record that the loop of `machine` knows."""

    column: np.ndarray  # of the job's table: where the numbers of the row of each chunk are

    def __init__(self, plan: Plan, part: Part, work: Pass, row: int, place: int) -> None:
        self.part, self.work = part, work
        sizes = np.repeat(part.sizes, part.kind.replicas)
        chunks = np.maximum(1, -(-sizes // plan.chunk))
        self.row_of = np.repeat(np.arange(len(sizes)), chunks)
        self.starts = np.concatenate(([0], np.cumsum(chunks)[:-1]))
        self.numbers = np.zeros((len(sizes), max(1, len(work.places))))
        self.packed = Struct(f"{len(work.places)}d")
        self.sums = np.zeros((len(self.row_of), max(1, len(work.sums))))
        self.alike = True  # whether all rows are given the same numbers
        within = np.arange(len(self.row_of)) - self.starts[self.row_of]
        self.records = np.zeros((len(self.row_of), 7), np.int64)
        self.records[:, 0] = machine.address_of(llvm.kernel(work, part.kind.types))
        self.records[:, 1] = plan.table.ctypes.data + 8 * (place + self.row_of * part.width)
        self.records[:, 2] = plan.gradients.ctypes.data + 16 * (row + self.row_of)
        self.records[:, 3] = self.numbers.ctypes.data
        self.records[:, 4] = within * plan.chunk
        self.records[:, 5] = np.minimum((within + 1) * plan.chunk, sizes[self.row_of])
        self.records[:, 6] = self.sums.ctypes.data + 8 * self.sums.shape[1] * np.arange(len(self.row_of))

    def give(self, n: list[Any]) -> None:
        """Write the numbers that the rows are given."""
        row = [n[place] for place in self.work.places]
        alike = np.ndarray not in map(type, row)  # else rows or replicas differ
        if alike:
            self.packed.pack_into(self.numbers.data, 0, *row)
        else:
            shaped = self.numbers.reshape(*self.part.shape, -1)
            for column, x in enumerate(row):
                shaped[:, :, column] = x
        if alike != self.alike:
            step = 0 if alike else 8 * self.numbers.shape[1]
            self.column[:] = self.numbers.ctypes.data + step * self.row_of
            self.alike = alike

"""A call of a compiled backend, taken apart: what its graph depends on, and what enters it as data."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from thalweg.hyper import Real, Reals
from thalweg.rules.base import Clock, Rule, Surroundings, Values, nonzero, own_axes
from thalweg.rules.ops import Array, in_float64
from thalweg.rules.tail import Row


class Plain(NamedTuple):
    """A number of the host, by its place in the vector of all of them."""

    place: int
    truth: bool | None  # whether it is not zero, where that is a matter of structure


class Given(NamedTuple):
    """A tensor, by its place among all of them and by how it lies in memory."""

    place: int
    truth: bool | None
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


class Record(NamedTuple):
    """A tuple, with or without names."""

    kind: type
    entries: tuple[Any, ...]


class Ruled(NamedTuple):
    """A rule, by its id, and its clock unless that is computed in the graph."""

    identity: int
    clock: Record | None


class Structure(NamedTuple):
    """What one graph is compiled for: a call with places where numbers and tensors were."""

    rows: tuple[Record, ...]
    shared: tuple[tuple[str, Record], ...]
    factor: Any


class Call:
    """A call of `advance`, taken apart: its structure, its rules, its plain numbers, and its tensors."""

    def __init__(self, rows: Sequence[Row], shared: Mapping[str, Any], factor: Array) -> None:
        self.rules = {id(row.rule): row.rule for row in rows}
        self.numbers: list[float] = []
        self.tensors: list[Tensor] = []
        self.device = rows[0].parameter.device
        self._factor = factor
        self._met: dict[Hashable, Record] = {}
        self.structure = Structure(
            tuple(self._row(row) for row in rows),
            tuple((name, self._shared(record)) for name, record in shared.items()),
            self._number(factor),
        )

    def vector(self) -> Tensor:
        """Return the plain numbers on the device."""
        return torch.tensor(self.numbers, dtype=torch.float64, device=self.device)

    def _row(self, row: Row) -> Record:
        rule, h, outside = row.rule, row.values, row.rule.partial is None
        which, axes = (id(rule), id(h)), own_axes(row.parameter, row.replicas)
        times = [x if isinstance(x, int | float) else id(x) for x in (row.t, row.multiplier)]
        clock = self._once((*which, *times, axes), lambda: self._clock(row, axes)) if outside else None
        entries = (
            Ruled(id(rule), clock),
            self._tensor(row.parameter),
            self._tensor(row.gradient),
            Record(type(row.state), tuple(self._tensor(x) for x in row.state)),
            1 if outside else self._number(row.t),
            self._once(which, lambda: self._values(rule, h)),
            row.replicas,
            1.0 if outside else self._number(row.multiplier),
            row.group,
        )
        return Record(Row, entries)

    def _once(self, key: Hashable, make: Callable[[], Record]) -> Record:
        """Return one record for all rows that have it in common."""
        if key not in self._met:
            self._met[key] = make()
        return self._met[key]

    def _values(self, rule: Rule, h: Values) -> Record:
        def taken(name: str, x: Any) -> Any:
            if isinstance(rule.hyper[name], Reals):
                return Record(tuple, tuple(self._number(entry, True) for entry in x))
            return self._number(x, name != "lr") if isinstance(rule.hyper[name], Real) else x

        return Record(type(h), tuple(taken(name, x) for name, x in h._asdict().items()))

    def _clock(self, row: Row, axes: tuple[int, ...]) -> Record:
        rate, multiplier = row.values.lr * self._factor, row.multiplier * self._factor
        with OnDevice():
            around = Surroundings(axes, None, rate, multiplier)
            return self._entries(row.rule.clock(in_float64(row.t), row.values, around))

    def _entries(self, c: Clock) -> Record:
        """Take a clock apart. What is whole in a tuple without names is an axis, and structure."""
        one = self._number if hasattr(c, "_fields") else lambda x: x
        return Record(type(c), tuple(self._entries(x) if isinstance(x, tuple) else one(x) for x in c))

    def _shared(self, record: Any) -> Record:
        if not all(isinstance(x, Tensor) for x in record):  # before the first step
            record = type(record)(*torch.tensor(record, dtype=torch.float64, device=self.device).unbind())
        return Record(type(record), tuple(self._tensor(x) for x in record))

    def _number(self, x: Array | None, structural: bool = False) -> Plain | Given | None:
        if x is None:
            return None
        if isinstance(x, Tensor):
            seen = x.device.type != "cpu" or nonzero(x)  # on another device, to look would be to wait
            return self._tensor(x, seen if structural else None)
        self.numbers.append(float(x))
        return Plain(len(self.numbers) - 1, nonzero(x) if structural else None)

    def _tensor(self, x: Tensor, truth: bool | None = None) -> Given:
        # As an input without axes, Dynamo 2.13 may take a float64 tensor for a number, and not write to it.
        self.tensors.append(x.detach() if x.ndim else x.detach().reshape(1))
        return Given(len(self.tensors) - 1, truth, x.shape, x.stride(), x.dtype, x.device)


class OnDevice(TorchFunctionMode):
    """Makes tensors of plain numbers where they are wanted, without a copy from the host."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.as_tensor and not isinstance(args[0], Tensor):
            return torch.full((), args[0], **(kwargs or {}))
        return function(*args, **(kwargs or {}))

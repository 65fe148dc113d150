"""Rows that are looked up in tables or added to them, and arrays that are put together of others.

`torch.vmap` keeps tables of replicas as one, of K·V rows, and adds k·V to the indices of replica k: such
indices are those of one replica, `Shifted`; nothing but such a table takes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.fx import Node

from thalweg.backends.replica_axes import APART, common, of_one, shared
from thalweg.backends.replica_loops import Gather
from thalweg.backends.replica_steps import Steps
from thalweg.backends.replica_values import Expr, Splat, Value, View, cast, fresh, value_of, where
from thalweg.backends.symbols import Untraceable


class Shifted(NamedTuple):
    """Indices of one replica, to which its number times a step would have to be added."""

    value: Value
    step: int


class Place(NamedTuple):
    """An operation in a graph, and where its operands have the axis of the replicas, from the last."""

    steps: Steps
    node: Node
    replicas: int
    backs: dict[Node, int]

    def back(self, x: Any) -> int:
        """Return the axis of an argument; 0: it is a constant."""
        return self.backs.get(x, 0)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the result for all replicas."""
        return tuple(self.node.meta["val"].shape)

    @property
    def mixed(self) -> Untraceable:
        """What to raise where replicas would meet."""
        return Untraceable(f"{APART}: {self.node.target}.")


def shift(args: Sequence[Any], replicas: int, back: int) -> int:
    """Return what is added to indices of replica 1, and k times to those of replica k; 0 if it is not so."""
    if len(args) != 2 or not isinstance(args[0], Value) or not isinstance(args[1], Tensor):
        return 0
    x, offsets = args
    axis = offsets.dim() - back
    if offsets.dtype != torch.int64 or replicas == 1 or axis < 0:
        return 0
    if offsets.numel() != replicas or offsets.shape[axis] != replicas or x.dtype != "int64":
        return 0
    steps = offsets.flatten().tolist()
    return int(steps[1]) if steps[1] > 0 and steps == [k * steps[1] for k in range(replicas)] else 0


# Rows.


def _rows(place: Place, table: View, index: Value, wrap: bool) -> Expr:
    """Return the rows of a table that indices name."""
    if index.dtype in ("bool", "uint8"):
        raise Untraceable(f"An index must be whole numbers; got {index.dtype}.")
    size = table.shape[0]
    places = cast(index, "int64")
    if wrap:  # from the end
        places = where(places < 0, places + size, places)
    places = _followed(place.steps.stored(places), len(table.shape) - 1)
    shape = (*index.shape, *table.shape[1:])
    strides = (*[0] * len(index.shape), *table.strides[1:])
    return Expr("gather", (places,), shape, table.dtype, Gather(table, strides, table.strides[0], size))


def _followed(x: View, axes: int) -> View:
    return View(x.buffer, x.offset, (*x.shape, *[1] * axes), (*x.strides, *[0] * axes), x.dtype)


def _embedding(place: Place, table: Any, index: Any, padding: int = -1, *rest: Any) -> tuple[Value, int]:
    given, places = place.node.args[:2]
    own = _of_replica(place, place.back(given), index, lambda: value_of(table).shape[0])
    value = place.steps.stored(value_of(table))
    back = place.back(places) + 1 if place.back(places) else 1
    return _rows(place, value, own, wrap=False), back


def _of_replica(place: Place, back: int, index: Any, rows: Callable[[], int]) -> Value:
    """Return indices into the rows of one replica's table, whose axis of replicas is given.

    The axis is 2 where tables stand one after the other, 1 where side by side; 0 is a table of all replicas.
    """
    if isinstance(index, Shifted):
        if back != 2 or rows() != index.step:
            raise place.mixed
        return index.value
    if (back == 2 and place.replicas > 1) or (back == 1 and isinstance(index, Value)):
        raise place.mixed
    return value_of(index)


def _embedding_backward(
    place: Place, g: Any, index: Any, count: int, padding: int, by_frequency: bool
) -> tuple[Value, int]:
    if padding != -1 or by_frequency:
        raise Untraceable("An embedding must be without padding, and not scaled; got another.")
    back = 2 if isinstance(index, Shifted) or (isinstance(index, Value) and place.replicas == 1) else 1
    rows, width = of_one(place.shape, back, place.replicas)
    if back == 1 and place.back(place.node.args[0]) != 1:
        raise place.mixed
    own = _of_replica(place, back, index, lambda: rows)
    source = place.steps.stored(value_of(g))
    target = place.steps.stored(Splat(0, (rows, width), source.dtype))
    place.steps.add_rows(target, place.steps.stored(cast(own, "int64")), source)
    return target, back


def _own_index(place: Place, back: int, indices: Sequence[Any]) -> tuple[Value, bool]:
    """Return the one index that there is, and whether it differs between replicas.

    It is the second of two: the first is None, or the number of each replica, into the axis of replicas.
    """
    given: Any = place.node.args[1]
    rank = place.node.args[0].meta["val"].dim()  # type: ignore[union-attr]
    if back != rank or len(indices) != 2:
        raise place.mixed
    first, index = indices
    if first is None and isinstance(index, Tensor):
        return value_of(index), False
    ours = isinstance(index, Value) and isinstance(first, Tensor) and place.back(given[1]) == len(index.shape)
    if not ours or first.dim() != len(index.shape) or first.flatten().tolist() != [*range(place.replicas)]:
        raise place.mixed
    return index, True


def _index(place: Place, x: Any, indices: Sequence[Any]) -> tuple[Value, int]:
    given: Any = place.node.args
    back = place.back(given[0])
    if not back:  # a table of all replicas
        if len(indices) != 1 or not isinstance(indices[0], Value):
            raise Untraceable("What is indexed must be a constant, or of replicas, by one index.")
        return _rows(place, place.steps.stored(value_of(x)), indices[0], wrap=True), (
            place.back(given[1][0]) + x.dim() - 1
        )
    index, own = _own_index(place, back, indices)
    table = place.steps.stored(value_of(x)).first
    rows = _rows(place, table, index, wrap=True)
    if own:
        return rows, len(rows.shape)
    return Expr(rows.operation, rows.operands, (1, *rows.shape), rows.dtype, rows.detail), len(rows.shape) + 1


def _index_put(
    place: Place, x: Any, indices: Sequence[Any], source: Any, add: bool = False
) -> tuple[Value, int]:
    if not add:
        raise Untraceable("What is put into places must be added there.")
    given: Any = place.node.args
    back = place.back(given[0]) or len(place.shape)
    index, own = _own_index(place, back, indices)
    base = shared(x, back, place.replicas) if isinstance(x, Tensor) else x
    target = place.steps.store(
        fresh(of_one(place.shape, back, place.replicas), value_of(base).dtype), value_of(base)
    )
    table = target.first
    wrapped = cast(index, "int64")
    wrapped = where(wrapped < 0, wrapped + table.shape[0], wrapped)
    wanted = back - 2 + len(index.shape) + (0 if own else 1)
    if not isinstance(source, Value) or common({place.back(given[2]), wanted}) != len(source.shape):
        raise place.mixed
    rows = place.steps.stored(source)
    place.steps.add_rows(table, place.steps.stored(wrapped), rows if own else rows.first)
    return target, back


# Pieces.


def _cat(place: Place, pieces: Sequence[Any], dim: int = 0, new: bool = False) -> tuple[Value, int]:
    given: Any = place.node.args[0]
    rank = len(place.shape)
    dim %= rank
    back = common({place.back(x) for x in given if place.back(x)})
    own = [shared(x, back, place.replicas) if isinstance(x, Tensor) else x for x in pieces]
    if new and dim >= rank - back:  # a new axis behind that of the replicas
        back += 1
    if rank - back == dim:
        raise place.mixed
    values = [value_of(x) for x in own]
    target = fresh(of_one(place.shape, back, place.replicas), values[0].dtype)
    start = 0
    for value in values:
        size = 1 if new else value.shape[dim]
        part = View(
            target.buffer,
            target.offset + start * target.strides[dim],
            tuple(size if i == dim else n for i, n in enumerate(target.shape)),
            target.strides,
            target.dtype,
        )
        if new:
            part = _without(part, dim)
        place.steps.store(part, cast(value, target.dtype))
        start += size
    return target, back


def _without(x: View, dim: int) -> View:
    shape, strides = (tuple(n for i, n in enumerate(z) if i != dim) for z in (x.shape, x.strides))
    return View(x.buffer, x.offset, shape, strides, x.dtype)


def _stack(place: Place, pieces: Sequence[Any], dim: int = 0) -> tuple[Value, int]:
    return _cat(place, pieces, dim, new=True)


def _slice_backward(
    place: Place, g: Value, sizes: Sequence[int], dim: int, start: int, stop: int, step: int
) -> tuple[Value, int]:
    back = place.back(place.node.args[0])
    dim %= len(sizes)
    begin, _, _ = slice(start, stop, step).indices(sizes[dim])
    if dim == len(sizes) - back:
        raise place.mixed
    if g.shape[dim] == sizes[dim]:
        return g, back
    target = place.steps.stored(Splat(0, of_one(sizes, back, place.replicas), g.dtype))
    strides = tuple(s * step if i == dim else s for i, s in enumerate(target.strides))
    place.steps.store(View(target.buffer, begin * target.strides[dim], g.shape, strides, g.dtype), g)
    return target, back


def _select_backward(place: Place, g: Value, sizes: Sequence[int], dim: int, index: int) -> tuple[Value, int]:
    back = place.back(place.node.args[0])
    dim %= len(sizes)
    if dim >= len(sizes) - back:  # behind the axis of the replicas
        back += 1
    target = place.steps.stored(Splat(0, of_one(sizes, back, place.replicas), g.dtype))
    at = index % sizes[dim] * target.strides[dim]
    place.steps.store(View(target.buffer, at, g.shape, _without(target, dim).strides, g.dtype), g)
    return target, back


# By torch's name: each returns a value, and where its axis of the replicas is.
PIECES: dict[str, Callable[..., tuple[Value, int]]] = {
    "embedding": _embedding,
    "embedding_dense_backward": _embedding_backward,
    "index": _index,
    "index_put": _index_put,
    "cat": _cat,
    "stack": _stack,
    "slice_backward": _slice_backward,
    "select_backward": _select_backward,
}

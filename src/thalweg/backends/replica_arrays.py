"""What torch's operations on whole arrays take: sums along axes, what is looked up, and products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, prod
from typing import Any, NamedTuple

from torch.fx import Node

from thalweg.backends.replica_loops import Gather
from thalweg.backends.replica_ops import exp
from thalweg.backends.replica_steps import Steps
from thalweg.backends.replica_text import floating
from thalweg.backends.replica_values import (
    Expr,
    Splat,
    Value,
    View,
    cast,
    dtype_of,
    expression,
    fresh,
    iota,
    row_major,
    value_of,
    where,
)
from thalweg.backends.symbols import Untraceable


class Call(NamedTuple):
    """An operation in a graph, and the steps that it adds to."""

    steps: Steps
    node: Node
    turned: bool  # whether the result is wanted transposed
    back: int  # which axis of the operands is that of the replicas, counted from the last
    gone: list[int]  # the axes that were asked for, counted from the last

    @property
    def dtype(self) -> str:
        """The type of the result."""
        meta = self.node.meta["val"]
        return dtype_of(meta[0] if isinstance(meta, tuple | list) else meta)

    def axes(self, rank: int, dim: Any) -> list[int]:
        """Return axes along which entries of one replica meet."""
        given = [dim] if isinstance(dim, int) else list(dim or range(rank))
        axes = [d % rank for d in given]
        if rank - self.back in axes:
            raise Untraceable(f"What is compiled must keep replicas apart; got: {self.node.target}.")
        self.gone[:] = [rank - d for d in axes]
        return axes

    def left(self, rank: int) -> int:
        """Return the axis of the replicas in a result of that rank, counted from the last."""
        given = self.node.args[0].meta["val"].dim() if self.gone else rank  # type: ignore[union-attr]
        return self.back - sum(d < self.back for d in self.gone) if rank < given else self.back

    def input(self, x: Any, place: int = 0) -> tuple[Value, int]:
        """Return an operand, and how many axes it has."""
        rank = self.node.args[place].meta["val"].dim()  # type: ignore[union-attr]
        return value_of(x), rank


def _exponentials(call: Call, x: Any, dim: int) -> tuple[Value, Value]:
    """Return x less its largest entry, and the sum of e to the power of that."""
    value, rank = call.input(x)
    axes = call.axes(rank, dim)
    value = call.steps.stored(cast(value, call.dtype))
    largest = call.steps.reduced("max", value, axes)
    shifted = value - largest
    return shifted, call.steps.reduced("add", exp(shifted), axes)


def _sum(call: Call, x: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    del dtype
    value, rank = call.input(x)
    value, axes = cast(value, call.dtype), call.axes(rank, dim)
    if isinstance(value, Splat):  # how many examples there are, say
        kept = [1 if i in axes else n for i, n in enumerate(value.shape) if keepdim or i not in axes]
        return Splat(value.number * prod(value.shape[i] for i in axes), tuple(kept), value.dtype)
    return call.steps.reduced("add", value, axes, keepdim)


def _mean(call: Call, x: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    value, rank = call.input(x)
    axes = call.axes(rank, dim)
    count = prod([value.shape[i] for i in axes])
    return _sum(call, x, dim, keepdim, dtype=dtype) / count


def _amax(call: Call, x: Any, dim: Any = (), keepdim: bool = False, name: str = "max") -> Value:
    value, rank = call.input(x)
    return call.steps.reduced(name, value, call.axes(rank, dim), keepdim)


def _amin(call: Call, x: Any, dim: Any = (), keepdim: bool = False) -> Value:
    return _amax(call, x, dim, keepdim, "min")


def _largest(
    call: Call, x: Any, dim: Any = None, keepdim: bool = False, name: str = "max"
) -> tuple[Value, Value]:
    """Return the largest numbers along an axis and where each stands first; NaN counts as the largest."""
    if not isinstance(dim, int | None):
        raise Untraceable(f"The axis of {call.node.target} must be a number; got {type(dim).__name__}.")
    value, rank = call.input(x)
    value, axes = call.steps.stored(value), call.axes(rank, dim)
    largest = call.steps.reduced(name, value, axes)
    found = expression("eq", value, largest)
    if floating(value.dtype):
        found = expression("or", found, expression("ne", value, value))
    size = value.shape[axes[0]]
    places = where(found, iota(size, len(value.shape) - 1 - axes[0]), size)
    return call.steps.reduced(name, value, axes, keepdim), call.steps.reduced("min", places, axes, keepdim)


def _smallest(call: Call, x: Any, dim: Any = None, keepdim: bool = False) -> tuple[Value, Value]:
    return _largest(call, x, dim, keepdim, "min")


def _argmax(call: Call, x: Any, dim: Any = None, keepdim: bool = False) -> Value:
    return _largest(call, x, dim, keepdim)[1]


def _argmin(call: Call, x: Any, dim: Any = None, keepdim: bool = False) -> Value:
    return _smallest(call, x, dim, keepdim)[1]


def _log_softmax(call: Call, x: Any, dim: int, half: bool) -> Value:
    shifted, total = _exponentials(call, x, dim)
    return shifted - call.steps.stored(expression("log", total))


def _softmax(call: Call, x: Any, dim: int, half: bool) -> Value:
    value, rank = call.input(x)
    axes = call.axes(rank, dim)
    value = call.steps.stored(cast(value, call.dtype))
    power = call.steps.stored(exp(value - call.steps.reduced("max", value, axes)))
    return power / call.steps.reduced("add", power, axes)


def _safe_softmax(call: Call, x: Any, dim: int, dtype: Any = None) -> Value:
    """Return a softmax that is 0 where all is minus infinity."""
    value, rank = call.input(x)
    axes = call.axes(rank, dim)
    value = call.steps.stored(cast(value, call.dtype))
    largest = call.steps.reduced("max", value, axes)
    power = call.steps.stored(exp(value - where(expression("eq", largest, -inf), 0, largest)))
    total = call.steps.reduced("add", power, axes)
    return where(expression("eq", total, 0), 0, power / total)


def _logsumexp(call: Call, x: Any, dim: Any, keepdim: bool = False) -> Value:
    value, rank = call.input(x)
    axes = call.axes(rank, dim)
    value = call.steps.stored(value)
    largest = call.steps.reduced("max", value, axes)
    infinite = expression("eq", expression("abs", largest), float("inf"))
    shift = call.steps.stored(where(infinite, 0, largest))
    total = call.steps.reduced("add", exp(value - shift), axes)
    found = call.steps.stored(expression("log", total) + shift)
    if keepdim:
        return found
    shape = tuple(n for i, n in enumerate(found.shape) if i not in axes)
    return View(found.buffer, 0, shape, row_major(shape), found.dtype)


def _log_softmax_backward_data(call: Call, g: Any, y: Any, dim: int, dtype: Any) -> Value:
    gradient, rank = call.input(g)
    result, _ = call.input(y, 1)
    gradient = call.steps.stored(gradient)
    total = call.steps.reduced("add", gradient, call.axes(rank, dim))
    return gradient - exp(result) * total


def _softmax_backward_data(call: Call, g: Any, y: Any, dim: int, dtype: Any) -> Value:
    gradient, rank = call.input(g)
    result, _ = call.input(y, 1)
    gradient, result = call.steps.stored(gradient), call.steps.stored(result)
    total = call.steps.reduced("add", gradient * result, call.axes(rank, dim))
    return (gradient - total) * result


def _gather(call: Call, x: Any, dim: int, index: Any, sparse_grad: bool = False) -> Value:
    value, rank = call.input(x)
    places, _ = call.input(index, 2)
    axis = call.axes(rank, dim)[0]
    found = call.steps.stored(value)
    strides = tuple(0 if i == axis else s for i, s in enumerate(found.strides))
    detail = Gather(found, strides, found.strides[axis], found.shape[axis])
    return Expr("gather", (cast(places, "int64"),), places.shape, found.dtype, detail)


def _names_rows(places: Value, axis: int) -> bool:
    """Tell whether indices along an axis are the same for all entries of the last one."""
    if not isinstance(places, View) or len(places.shape) != 3 or places.dtype != "int64":
        return False
    return axis == 1 and places.strides[2] == 0


def _scatter(call: Call, x: Any, dim: int, index: Any, source: Any, add: bool = False) -> Value:
    value, rank = call.input(x)
    places, _ = call.input(index, 2)
    axis = call.axes(rank, dim)[0]
    if add and _names_rows(places, axis) and value.shape[0] == 1:
        rows = call.steps.stored(places), call.steps.stored(value_of(source))
        target = call.steps.store(fresh(value.shape, value.dtype), value)
        call.steps.add_rows(target.first, rows[0].first, rows[1].first)
        return target
    if places.shape != tuple(1 if i == axis else n for i, n in enumerate(value.shape)):
        raise Untraceable("What is scattered must have one entry along the axis.")
    given = cast(value_of(source), value.dtype)
    hit = expression("eq", iota(value.shape[axis], len(value.shape) - 1 - axis), cast(places, "int64"))
    return where(hit, value + given if add else given, value)


def _scatter_add(call: Call, x: Any, dim: int, index: Any, source: Any) -> Value:
    return _scatter(call, x, dim, index, source, add=True)


def _bmm(call: Call, x: Any, y: Any, turned: bool | None = None) -> Value:
    if call.back != 3:  # replicas are rows of one product, or what it adds up
        raise Untraceable(f"What is compiled must keep replicas apart; got: {call.node.target}.")
    return call.steps.product(value_of(x), value_of(y), call.turned if turned is None else turned)


def _baddbmm(call: Call, z: Any, x: Any, y: Any, *, beta: float = 1, alpha: float = 1) -> Value:
    made = _bmm(call, x, y, turned=False)
    scaled: Value = made if alpha == 1 else made * alpha
    if beta == 0:
        return scaled
    added, _ = call.input(z)
    return (added if beta == 1 else added * beta) + scaled


def _last(call: Call, rank: int, shape: Sequence[int]) -> list[int]:
    if call.back <= len(shape):
        raise Untraceable("A norm must be of one replica; got one of all together.")
    return list(range(rank - len(shape), rank))


def _layer_norm(call: Call, x: Any, shape: Sequence[int], weight: Any, bias: Any, eps: float) -> Any:
    given, rank = call.input(x)
    value = call.steps.stored(given)
    axes = _last(call, rank, shape)
    count = prod(shape)
    mean = call.steps.stored(call.steps.reduced("add", value, axes) / count)
    centred = value - mean
    variance = call.steps.reduced("add", centred * centred, axes) / count
    rate = call.steps.stored(1 / expression("sqrt", variance + eps))
    result = (value - mean) * rate
    if weight is not None:
        result = result * value_of(weight)
    if bias is not None:
        result = result + value_of(bias)
    return call.steps.stored(result), mean, rate


def _layer_norm_backward(
    call: Call,
    g: Any,
    x: Any,
    shape: Sequence[int],
    mean: Any,
    rate: Any,
    weight: Any,
    bias: Any,
    mask: Sequence[bool],
) -> Any:
    if weight is not None or bias is not None or list(mask) != [True, False, False]:
        raise Untraceable("A norm must be of replicas of their own weights.")
    given, rank = call.input(g)
    axes, count = _last(call, rank, shape), prod(shape)
    gradient, value = call.steps.stored(given), value_of(x)
    normal = (value - value_of(mean)) * value_of(rate)
    total = call.steps.reduced("add", gradient, axes) / count
    along = call.steps.reduced("add", gradient * normal, axes) / count
    return call.steps.stored((gradient - total - normal * along) * value_of(rate)), None, None


# By torch's name.
ARRAYS: dict[str, Callable[..., Any]] = {
    "sum": _sum,
    "mean": _mean,
    "amax": _amax,
    "amin": _amin,
    "max": _largest,
    "min": _smallest,
    "argmax": _argmax,
    "argmin": _argmin,
    "_log_softmax": _log_softmax,
    "_softmax": _softmax,
    "_safe_softmax": _safe_softmax,
    "logsumexp": _logsumexp,
    "_log_softmax_backward_data": _log_softmax_backward_data,
    "_softmax_backward_data": _softmax_backward_data,
    "gather": _gather,
    "scatter": _scatter,
    "scatter_add": _scatter_add,
    "bmm": _bmm,
    "baddbmm": _baddbmm,
    "native_layer_norm": _layer_norm,
    "native_layer_norm_backward": _layer_norm_backward,
}

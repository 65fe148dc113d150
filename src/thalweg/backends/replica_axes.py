"""The axis of the replicas: where it is in an array of all of them, and where a view takes it.

Beside the replicas an axis may hold something else, as that of batches and heads does which a product runs
through: of shape[a] = K·m entries, m each belong to one replica, in order. For one replica the axis has m
entries. It is named by its distance from the last, 1, 2, …, which broadcasting leaves as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from thalweg.backends.replica_values import Expr, Value, View, distinct
from thalweg.backends.symbols import Untraceable

FAR = 1 << 40  # a stride that no array has: it tells the axis of the replicas
APART = "What is compiled must keep replicas apart; got"
MOVED = frozenset({"permute", "transpose", "unsqueeze", "squeeze", "select", "slice", "split", "unbind"})
RESHAPED = frozenset({"view", "_unsafe_view", "reshape", "_reshape_alias"})  # entries in the same order


def of_one(shape: Sequence[int], back: int, replicas: int) -> tuple[int, ...]:
    """Return the shape of one replica.

    >>> of_one((5, 6, 4), back=2, replicas=3)
    (5, 2, 4)
    """
    if 0 in shape:
        raise Untraceable(f"An array must not be empty to be compiled; got shape {tuple(shape)}.")
    axis = len(shape) - back
    if axis < 0 or shape[axis] % replicas:
        raise Untraceable(f"{APART} an array of shape {tuple(shape)}.")
    return *shape[:axis], shape[axis] // replicas, *shape[axis + 1 :]


def common(backs: set[int]) -> int:
    """Return where the axis of all operands is."""
    if len(backs) != 1:
        raise Untraceable(f"{APART} operands of different ranks.")
    return backs.pop()


def shared(x: Tensor, back: int, replicas: int) -> Tensor:
    """Return what one replica sees of a constant that is combined with arrays of all replicas."""
    axis = x.dim() - back
    if axis < 0 or x.shape[axis] == 1:
        return x
    if x.shape[axis] % replicas == 0:
        first, *others = x.tensor_split(replicas, axis)
        if not x.stride(axis) or all(torch.equal(first, other) for other in others):
            return first
    raise Untraceable("A constant must be the same for all replicas.")


def seen(
    node: Node, x: View, back: int, replicas: int, rest: Sequence[Any], kwargs: dict[str, Any]
) -> tuple[View | list[View], int]:
    """Return a view of a view, or several, and where the axis of the replicas is.

    Torch says how a view lies, on an array without memory whose far stride tells replicas.

    Raises:
        RuntimeError: it cannot be a view.
        Untraceable: it would mix replicas, or split them apart.
    """
    target: Any = node.target
    if target._schema.name.removeprefix("aten::") in RESHAPED:
        source: Any = node.args[0]
        if node.meta["val"].dtype != source.meta["val"].dtype:
            raise Untraceable(f"A view must be of the same type of numbers; got: {target}.")
        return _reshaped(x, back, replicas, tuple(node.meta["val"].shape), target)
    axis = len(x.shape) - back
    shape, strides = list(x.shape), list(x.strides)
    shape[axis] *= replicas
    strides[axis] = FAR
    model = torch.empty_strided(shape, strides, dtype=getattr(torch, x.dtype), device="meta")
    found = target(model, *rest, **kwargs)
    several = isinstance(found, tuple | list)
    views = []
    for each in found if several else [found]:
        places = [i for i, s in enumerate(each.stride()) if s == FAR]
        # more than one stride beyond the real ones: a diagonal, or an offset among replicas
        if (
            len(places) != 1
            or each.shape[places[0]] != shape[axis]
            or max(each.storage_offset(), *each.stride()) > FAR
        ):
            raise Untraceable(f"{APART}: {target}.")
        new_strides = tuple(x.strides[axis] if i == places[0] else s for i, s in enumerate(each.stride()))
        back = each.dim() - places[0]
        new_shape = of_one(each.shape, back, replicas)
        views.append(View(x.buffer, x.offset + each.storage_offset(), new_shape, new_strides, x.dtype))
    return (views if several else views[0]), back


def _reshaped(x: View, back: int, replicas: int, new: tuple[int, ...], target: Any) -> tuple[View, int]:
    """Look for the axis whose outer part is the replicas' still: as many entries before it and after it."""
    before = prod(x.shape[: len(x.shape) - back])
    for axis in range(len(new)):
        if prod(new[:axis]) == before and new[axis] % replicas == 0:
            shape = of_one(new, len(new) - axis, replicas)
            model = torch.empty_strided(x.shape, x.strides, dtype=getattr(torch, x.dtype), device="meta")
            strides = model.view(shape).stride()
            return View(x.buffer, x.offset, shape, tuple(strides), x.dtype), len(new) - axis
    raise Untraceable(f"{APART}: {target}.")


def through(
    node: Node, x: Expr, back: int, replicas: int, rest: Sequence[Any], kwargs: dict[str, Any]
) -> tuple[Expr | list[Expr], int] | None:
    """Return a view of what is still to be computed: made of the same views of what it is made of.

    None: it cannot be, or its neighbours would not be neighbours in memory; then it is better stored before.
    """
    target: Any = node.target
    parts = distinct(x)
    whole = all(p.operands and p.operation != "gather" for p in parts.values() if isinstance(p, Expr))
    if not whole or target._schema.name.removeprefix("aten::") not in MOVED | RESHAPED:
        return None
    leaves: dict[int, list[View]] = {}
    several, new = False, 0
    for key, part in parts.items():
        if isinstance(part, View):
            try:
                found, new = seen(node, _expanded(part, x.shape), back, replicas, rest, kwargs)
            except RuntimeError:
                return None
            several = isinstance(found, list)
            leaves[key] = found if isinstance(found, list) else [found]
            if any(_step(view) > 1 for view in leaves[key]):
                return None
    if not leaves:
        return None
    count = len(next(iter(leaves.values())))
    made = [_replaced(x, {key: views[i] for key, views in leaves.items()}) for i in range(count)]
    return (made if several else made[0]), new


def _expanded(x: View, shape: tuple[int, ...]) -> View:
    missing = len(shape) - len(x.shape)
    own = (s if n != 1 else 0 for n, s in zip(x.shape, x.strides, strict=True))
    return View(x.buffer, x.offset, shape, (*[0] * missing, *own), x.dtype)


def _step(x: View) -> int:
    """Return how far apart neighbours along the last axis lie."""
    return next((s for n, s in zip(x.shape[::-1], x.strides[::-1], strict=True) if n != 1), 0)


def _replaced(x: Expr, leaves: dict[int, View]) -> Expr:
    shape = next(iter(leaves.values())).shape
    made: dict[int, Value] = {**leaves}
    for key, part in distinct(x).items():
        if isinstance(part, Expr):
            operands = tuple(made[id(y)] for y in part.operands)
            made[key] = Expr(part.operation, operands, shape, part.dtype, part.detail)
        else:
            made.setdefault(key, part)
    result = made[id(x)]
    assert isinstance(result, Expr)
    return result

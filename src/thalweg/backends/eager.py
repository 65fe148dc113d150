"""Run rules on torch tensors, in place, one parameter after the other."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from thalweg.rules.ops import Array
from thalweg.rules.tail import Row, step

NEVER = torch.tensor(False)  # that a step was skipped


class Advanced(NamedTuple):
    """What a step leaves beside parameters and states."""

    shared: Mapping[str, Any]  # the global scalars of rules with global scope
    clipped: bool  # whether any gradient was shortened
    skipped: Tensor  # whether nothing happened, gradients not being finite; (K,) where replicas differ


@torch.no_grad()
def advance(rows: Iterable[Row], shared: Mapping[str, Any] | None = None, factor: Array = 1.0) -> Advanced:
    """Move parameters and states in place by one step.

    A step is computed in the dtype of the state: a bfloat16 parameter with a float32 state is widened for
    the step and rounded once at its end. A sparse gradient moves only the rows that occur in it.

    Args:
        rows: the parameters that have a gradient, with their states. Any device and floating dtype; axis
            0 counts replicas where a row says so, and its hyperparameters are then (K,) in float64.
        shared: the global scalars of rules with global scope, as the step before left them.
        factor: what the schedule multiplies the rate with; a number or (K,).
    """
    given, before = list(rows), shared or {}
    done = step([_dense(row) for row in given], before, factor)
    clipped = done.clipped is not False and bool(torch.as_tensor(done.clipped).any())
    skipped = NEVER if done.skipped is False else torch.as_tensor(done.skipped)
    if skipped is not NEVER and skipped.all():
        return Advanced(before, clipped, skipped)
    for row, ready in zip(given, done.rows, strict=True):  # a ready row may hold a new state
        parameter, state = done.moved(ready)
        _write(row, row.parameter, parameter)
        for old, new in zip(row.state, state, strict=True):
            _write(row, old, new)
    return Advanced(done.shared, clipped, skipped)


def _dense(row: Row) -> Row:
    """Return the part of a row that its gradient moves, in the dtype of the state."""
    p, g, s = row.parameter, row.gradient, row.state
    if g.is_sparse:
        places = g._indices()[0]
        p, g, s = p[places], g._values(), type(s)(*(x[places] for x in s))
    elif all(x.ndim == p.ndim and x.dtype is p.dtype for x in s) and g.dtype is p.dtype:
        return row
    else:  # one number a parameter may have come without axes
        s = type(s)(*(x if x.ndim else x.reshape((1,) * p.ndim) for x in s))
    wide = next((x.dtype for x in s if x.is_floating_point()), g.dtype)
    return row._replace(parameter=p.to(wide), gradient=g.to(wide), state=s)


def _write(row: Row, old: Tensor, new: Tensor) -> None:
    if row.gradient.is_sparse:
        old.index_copy_(0, row.gradient._indices()[0], new.to(old.dtype))
    else:
        old.copy_(new.reshape(old.shape))

"""Run rules on torch tensors, in place: one parameter after the other, small ones of one shape together."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from thalweg.backends.rounding import by_chance
from thalweg.backends.stacks import grouped, stacked
from thalweg.rules.base import Clock, Decay, Nothing, Scope, State, Values, no_clock
from thalweg.rules.ops import Array
from thalweg.rules.tail import Row, Step, prepared, step

PIECE = 1 << 18  # numbers whose step is finished together: what stays in a cache
NEVER = torch.tensor(False)  # that a step was skipped


class Advanced(NamedTuple):
    """What a step leaves beside parameters and states."""

    shared: Mapping[str, Any]  # the global scalars of rules with global scope
    clipped: Array  # whether any gradient was shortened; (K,) where replicas differ
    skipped: Tensor  # whether nothing happened, gradients not being finite; (K,) where replicas differ


@torch.no_grad()
def advance(
    rows: Iterable[Row],
    shared: Mapping[str, Any] | None = None,
    factor: Array = 1.0,
    salts: Sequence[int] | None = None,
) -> Advanced:
    """Move parameters and states in place by one step.

    A step is computed in the dtype of the state: a bfloat16 parameter with a float32 state is widened for
    the step and rounded once at its end. A sparse gradient moves only the rows that occur in it.

    Args:
        rows: the parameters that have a gradient, with their states. Any device and floating dtype; axis
            0 counts replicas where a row says so, and its hyperparameters are then (K,) in float64.
        shared: the global scalars of rules with global scope, as the step before left them.
        factor: what the schedule multiplies the rate with; a number or (K,).
        salts: if parameters in bfloat16 are to be rounded by chance, what tells the chances of each row.
    """
    given, before = list(rows), shared or {}
    done = step([_dense(row) for row in given], before, factor)
    clipped = done.clipped
    skipped = NEVER if done.skipped is False else torch.as_tensor(done.skipped)
    if skipped is not NEVER and skipped.all():
        return Advanced(before, clipped, skipped)
    if salts is not None:
        for row, now, salt in zip(given, done.rows, salts, strict=True):
            parameter, state = done.moved(now)
            half = parameter.dtype is not row.parameter.dtype is torch.bfloat16
            _write(row, by_chance(parameter, salt) if half else parameter, state)
        return Advanced(done.shared, clipped, skipped)
    for places in grouped(done.rows):
        ready = [done.rows[place] for place in places]  # which may hold a new state
        if len(places) == 1:
            _move(given[places[0]], ready[0], done)
            continue
        parameters, states = done.moved(stacked(ready))
        for place, parameter, *state in zip(places, parameters, *states, strict=True):
            _write(given[place], parameter, state)
    return Advanced(done.shared, clipped, skipped)


def _move(row: Row, ready: Row, done: Step) -> None:
    """Move one parameter; a large one, once its direction is known, piece by piece.

    What a step still takes from there on is element by element, and would be several arrays of its size.
    """
    rule = ready.rule
    whole = ready.parameter.numel() <= PIECE or rule.tail is not None or rule.partial is not None
    if whole or rule.scope is not Scope.TENSOR or ready.replicas:
        _write(row, *done.moved(ready))
        return
    h, c, g = prepared(ready, factor=done.factor)
    d, state = rule.direction(ready.parameter, g, ready.state, h, c)
    left = Decay.OWN if rule.decays(h) is Decay.L2 else rule.decay  # L2 and the sign are in d already
    ready = ready._replace(
        rule=replace(rule, direction=_known, clock=no_clock, decay=left),
        values=ready.values._replace(maximize=False),
        state=Nothing(),
    )
    size = max(1, PIECE * len(d) // d.numel())
    for old, p, part in zip(*(x.split(size) for x in (row.parameter, ready.parameter, d)), strict=True):
        old.copy_(done.moved(ready._replace(parameter=p, gradient=part))[0])
    _write(row, row.parameter, state)


def _known(p: Tensor, g: Tensor, s: State, h: Values, c: Clock) -> tuple[Tensor, State]:
    """Return a direction that was put in the place of the gradient."""
    del p, h, c
    return g, s


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
    wide = next((x.dtype for x in s if x.is_floating_point()), torch.promote_types(p.dtype, g.dtype))
    return row._replace(parameter=p.to(wide), gradient=g.to(wide), state=s)


def _write(row: Row, parameter: Tensor, state: Iterable[Tensor]) -> None:
    for old, new in zip((row.parameter, *row.state), (parameter, *state), strict=True):
        if row.gradient.is_sparse:
            old.index_copy_(0, row.gradient._indices()[0], new.to(old.dtype))
        elif new is not old:  # as bases are that are not due
            old.copy_(new.reshape(old.shape))

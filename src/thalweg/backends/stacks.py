"""Small parameters of one shape, stacked as replicas are, so that one batch of operations moves them all.

A rule that sees a whole parameter at once (Muon, Adafactor, LAMB) takes dozens of operations, each of which
costs microseconds to start: more than it computes on a small parameter. What computes longer than that gains
nothing from a stack, which has to be copied.
"""

from collections.abc import Iterable, Sequence

import torch

from thalweg.rules.base import Scope
from thalweg.rules.tail import Row

SMALL = 1 << 12  # numbers of the largest parameter that is stacked: a matrix 64 × 64
MOST = 1 << 18  # numbers of a stack: what a cache holds


def grouped(rows: Iterable[Row]) -> list[list[int]]:
    """Return the places of rows that can be moved together, and each of the others on its own.

    They have the rule, the group, the step and the kinds of tensors in common.

    Args:
        rows: dense, as `tail.step` returns them.
    """
    groups: list[list[int]] = []
    open_groups: dict[object, list[int]] = {}
    for place, row in enumerate(rows):
        size = row.parameter.numel()
        alone = row.replicas or row.rule.scope is not Scope.TENSOR or not 0 < size <= SMALL
        key = place if alone else _kind(row)
        if key not in open_groups or (len(open_groups[key]) + 1) * size > MOST:
            groups.append([])
            open_groups[key] = groups[-1]
        open_groups[key].append(place)
    return groups


def _kind(row: Row) -> object:
    tensors = (row.parameter, row.gradient, *row.state)
    kinds = tuple((x.shape, x.dtype, x.device) for x in tensors)
    return id(row.rule), id(row.values), row.t, row.multiplier, row.group, kinds


def stacked(rows: Sequence[Row]) -> Row:
    """Return rows of one kind as one with a leading axis, along which they are replicas of each other."""
    first = rows[0]
    return first._replace(
        parameter=torch.stack([row.parameter for row in rows]),
        gradient=torch.stack([row.gradient for row in rows]),
        state=type(first.state)(*map(torch.stack, zip(*(row.state for row in rows), strict=True))),
        replicas=True,
    )

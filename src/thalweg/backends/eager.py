"""Run a rule on torch tensors, in place, one parameter after the other."""

from collections.abc import Iterable
from typing import Any

import torch

from thalweg.rules.base import Rule
from thalweg.rules.ops import Array
from thalweg.rules.tail import Row, step


@torch.no_grad()
def advance(rule: Rule, rows: Iterable[Row], shared: Any = None, factor: Array = 1.0) -> Any:
    """Move parameters and states in place by one step; return the global scalars.

    Args:
        rule: the method.
        rows: the parameters that have a gradient, with their states. Any device and floating dtype; axis
            0 counts replicas where a row says so, and its hyperparameters are then (K,) in float64.
        shared: the global scalars of a rule with global scope, as the step before left them.
        factor: what the schedule multiplies the rate with; a number or (K,).
    """
    rows = list(rows)
    prepared = step(rule, rows, shared, factor)
    for row, ready in zip(rows, prepared.rows, strict=True):  # a ready row may hold a new state
        parameter, state = prepared.moved(ready)
        row.parameter.copy_(parameter)
        for old, new in zip(row.state, state, strict=True):
            old.copy_(new)
    return prepared.shared

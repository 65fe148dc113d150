"""The second gradient of SAM: parameters moved to where the loss is worse, and back."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.errors import ThalwegError
from thalweg.optim.arguments import refuse_no_model
from thalweg.optim.rows import as_real, plain
from thalweg.rules.base import Rule
from thalweg.rules.tail import Row


@torch.no_grad()
def offsets(
    groups: list[dict[str, Any]], rule_of: Callable[[dict[str, Any]], Rule]
) -> list[tuple[Tensor, Tensor]]:
    """Return the parameters that have a gradient, each with where it moves.

    Raises:
        ThalwegError: there is no gradient to move along.
    """
    rows: list[Row] = []
    for group in groups:
        rule = rule_of(group)
        values = rule.values(plain(group))
        for parameter in group["params"]:
            if parameter.grad is not None:
                gradient = parameter.grad
                dense = gradient if gradient.layout is torch.strided else gradient.to_dense()
                rows.append(Row(rule, as_real(parameter), as_real(dense), (), 1, values))
    if not rows:
        raise ThalwegError(
            "perturbed() must find gradients along which it moves; got none. Call loss.backward() before it."
        )
    assert rows[0].rule.offset is not None
    moves = rows[0].rule.offset(rows)
    return [(row.parameter, move) for row, move in zip(rows, moves, strict=True)]


@contextmanager
def displaced(moves: list[tuple[Tensor, Tensor]], model: nn.Module | None) -> Iterator[None]:
    """Have parameters moved inside a `with` block; then they, and the model's buffers, are as before."""
    if model is not None:
        refuse_no_model("the model whose buffers are put back", model)
    buffers = [] if model is None else list(model.buffers())
    kept = [(x, x.detach().clone()) for x in [*(p for p, _ in moves), *buffers]]
    try:
        with torch.no_grad():
            for parameter, move in moves:
                parameter.add_(move)
        yield
    finally:
        with torch.no_grad():
            for x, before in kept:
                x.copy_(before)

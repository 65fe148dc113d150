"""How long the gradients of parts of a batch are, and those of ever larger parts."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def squared_norms(model: nn.Module, loss: Callable[[Any], Tensor], parts: Iterable[Any]) -> list[float]:
    """Return the mean squared norm of the gradient of 1, 2, 4, … parts together, up to all of them.

    The gradient of several parts is the mean of theirs. Neighbours are added up in pairs, pairs in pairs, and
    so on: no more than one gradient of each size is kept. The model is left as it was, buffers included.

    Args:
        model: with the weights at which gradients are taken, in the mode in which they are.
        loss: of a part, from the model; a scalar.
        parts: as many as a power of two, all of one size; what is left over makes no larger part.

    >>> model = nn.Linear(1, 1, bias=False)  # its gradient is the mean of what comes in
    >>> squared_norms(model, lambda x: model(x).mean(), torch.tensor([[[3.0]], [[1.0]], [[-1.0]], [[5.0]]]))
    [9.0, 4.0, 4.0]
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    waiting: list[list[Tensor] | None] = []  # the sum of 2^level parts that has no neighbour yet
    totals: list[float] = []
    counts: list[int] = []
    with _buffers_put_back(model):
        for part in parts:
            summed, level = gradient(loss(part), parameters), 0
            while True:
                if level == len(waiting):
                    waiting.append(None)
                    totals.append(0.0)
                    counts.append(0)
                totals[level] += squared_norm(summed) / 4.0**level
                counts[level] += 1
                neighbour = waiting[level]
                if neighbour is None:
                    waiting[level] = summed
                    break
                waiting[level] = None
                summed = list(torch._foreach_add(summed, neighbour))  # not in place: it may be a view
                level += 1
    return [total / count for total, count in zip(totals, counts, strict=True)]


def gradient(loss: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradient, in float32 at least; zeros for what the loss does not depend on."""
    found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    return [
        (g.to_dense() if g.is_sparse else g).to(torch.promote_types(g.dtype, torch.float32)) for g in found
    ]


def squared_norm(tensors: Sequence[Tensor]) -> float:
    """Return the squared norm of several tensors together, added up in float64."""
    norms = [torch.linalg.vector_norm(tensor, dtype=torch.float64) for tensor in tensors]
    return float(torch.stack(norms).square().sum())


@contextmanager
def _buffers_put_back(model: nn.Module) -> Iterator[None]:
    """Have buffers afterwards as before a `with` block: running statistics of normalisation."""
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, before in kept:
                buffer.copy_(before)

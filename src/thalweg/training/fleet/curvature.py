"""The diagonal of the Hessian of every replica, as Sophia wants it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from thalweg.optim import random_signs
from thalweg.training.engine import sampled_loss
from thalweg.training.fleet.program import Bound, Leaves


def signs(weights: Mapping[str, Tensor], generators: Sequence[torch.Generator]) -> dict[str, Tensor]:
    """Return random signs of the shapes of stacked weights, for each replica from its own generator."""
    each = [random_signs([x[0] for x in weights.values()], generator) for generator in generators]
    return {n: torch.stack([own[i] for own in each]) for i, n in enumerate(weights)}


def products(
    bound: Bound,
    along: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    buffers: Mapping[str, Tensor],
    batches: Leaves,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the losses, and the products Hu of every replica with its own u: `along`, stacked."""
    given = {n: x.detach().requires_grad_() for n, x in weights.items()}
    names = [*given, *buffers]

    def loss(flat: Sequence[Tensor], leaves: list[Tensor]) -> Tensor:
        return bound.call(bound.task.loss, dict(zip(names, flat, strict=True)), batches.joined(leaves))  # type: ignore[no-any-return]

    each = [x[torch.from_numpy(batches.which).to(x.device)] for x in batches.tensors]
    with torch.enable_grad():
        losses = torch.vmap(loss, randomness="different")([*given.values(), *buffers.values()], each)
        ones = torch.ones_like(losses)
        slopes = torch.autograd.grad(losses, [*given.values()], ones, create_graph=True, allow_unused=True)
        sums = [(g * along[n]).sum() for n, g in zip(given, slopes, strict=True) if g is not None]
        curved = [x for x in sums if x.requires_grad]
        found = (
            torch.autograd.grad(sum(curved[1:], curved[0]), [*given.values()], allow_unused=True)
            if curved
            else ()
        )
    hu = dict(zip(given, found, strict=False))
    return losses.detach(), {n: x for n, x in hu.items() if x is not None}


def sampled(
    bound: Bound,
    weights: Mapping[str, Tensor],
    buffers: Mapping[str, Tensor],
    pieces: Sequence[Leaves],
    generators: Sequence[torch.Generator],
) -> dict[str, Tensor]:
    """Return examples × ĝ² of every replica, ĝ the gradient for labels drawn from its model.

    One replica after the other, so that each draws from a generator of its own, as it does when it is alone.
    """
    rows: list[list[Tensor]] = []
    task = bound.task
    for place, generator in enumerate(generators):
        given = {n: x[place].detach().requires_grad_() for n, x in weights.items()}
        fixed = {n: x[place] for n, x in buffers.items()}
        summed, total = [torch.zeros_like(x) for x in given.values()], 0.0
        for piece in pieces:
            batch = piece.joined([x[int(piece.which[place])] for x in piece.tensors])
            weight = float(task.weight(batch))

            def drawn(model: Any, batch: Any, generator: torch.Generator = generator) -> Tensor:
                return sampled_loss(task, model, batch, generator)

            with torch.enable_grad():
                loss = bound.call(drawn, {**given, **fixed}, batch)
                slopes = torch.autograd.grad(loss, [*given.values()], allow_unused=True)
            for old, g in zip(summed, slopes, strict=True):
                if g is not None:
                    old.add_(g, alpha=weight)
            total += weight
        rows.append([total * (g / total) ** 2 for g in summed])
    return {n: torch.stack([row[i] for row in rows]) for i, n in enumerate(weights)}

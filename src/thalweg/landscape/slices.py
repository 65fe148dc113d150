"""Slices through the loss of a model that a person has: lines and planes, on a batch."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from thalweg.errors import InputError
from thalweg.landscape.directions import Direction, weights_of
from thalweg.landscape.losses import Losses, OnBatch


def slice_of(
    model: nn.Module,
    loss: Callable[[nn.Module, Any], Tensor],
    batch: Any,
    directions: Sequence[Direction],
    axes: Sequence[ArrayLike],
) -> NDArray[np.float64]:
    """Measure a loss along directions from the weights of a model: L(θ + Σₖ cₖ·dₖ).

    The model is measured in evaluation mode and left bit for bit as it is: parameters, gradients, buffers,
    mode, and the generators of random numbers. Where it can be stacked, many weights are measured at once;
    the numbers differ from those measured one by one by rounding.

    Args:
        model: with the weights θ.
        loss: of model and batch, a scalar; it must use the model that it is given.
        batch: what the loss takes; all of it at once.
        directions: one or two (or more): see `random_direction` and `difference`. A parameter that a
            direction does not name stays.
        axes: for each direction the positions c along it.

    Returns:
        The losses, of one axis a direction; NaN where a loss is not finite.

    Raises:
        InputError: directions and axes do not fit each other or the model.
        TaskError: the loss raises.

    >>> import torch
    >>> model = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.constant_(model.weight, 3.0)
    >>> slice_of(model, lambda m, x: m(x).square().mean(), torch.ones(4, 1),
    ...          [{"weight": torch.ones(1, 1)}], [[-3.0, -1.0, 0.0, 1.0]])  # (3 + c)²
    array([ 0., 4., 9., 16.])
    """
    if not directions or len(directions) != len(axes):
        raise InputError(
            "the axes of a slice", "be as many as its directions", f"{len(axes)} for {len(directions)}"
        )
    weights = weights_of(model)
    for direction in directions:
        for name, d in direction.items():
            if name not in weights or weights[name].shape != d.shape:
                has = f"{name} of shape {tuple(weights[name].shape)}" if name in weights else f"no {name}"
                raise InputError("a direction", "have the shapes of what is trained", f"{has} in the model")
    positions = [np.asarray(axis, dtype=np.float64) for axis in axes]
    for axis in positions:
        if axis.ndim != 1 or not len(axis) or not np.isfinite(axis).all():
            raise InputError("an axis of a slice", "be one or more finite numbers", f"{axis!r:.60}")
    grid = np.stack(np.meshgrid(*positions, indexing="ij"), axis=-1)
    losses = Losses(model, OnBatch(loss, model, batch))
    found = losses.around(weights, directions, grid.reshape(-1, len(positions)))
    return np.array(found).reshape(grid.shape[:-1])

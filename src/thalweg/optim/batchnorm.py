"""Statistics of batch normalisation for weights that were not trained: averages."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from thalweg.optim.arguments import refuse_no_model


@torch.no_grad()
def recompute_batchnorm(
    model: nn.Module, batches: Iterable[Any], forward: Callable[[Any], Any] | None = None
) -> None:
    """Give BatchNorm the mean of the statistics of these batches, for the weights that are in place.

    Averaged weights have never seen a batch: their layers give other activations than those whose running
    statistics were kept. As `torch.optim.swa_utils.update_bn`: the running statistics are forgotten, and
    become the plain mean over the batches. The mode of each module and its momentum are afterwards as
    before. Without BatchNorm nothing happens, and no batch is taken.

    Args:
        model: in whichever mode.
        batches: what the model takes, or tuples or lists of which it takes the first.
        forward: what to do with a batch instead of calling the model.

    >>> model = nn.BatchNorm1d(1)
    >>> recompute_batchnorm(model, [torch.tensor([[0.0], [2.0]]), torch.tensor([[4.0], [6.0]])])
    >>> model.running_mean.item()
    3.0
    """
    refuse_no_model("the model whose statistics are recomputed", model)
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not norms:
        return
    momenta, modes = [m.momentum for m in norms], [(m, m.training) for m in model.modules()]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # PyTorch's word for the plain mean
    for module, _ in modes:
        module.training = True  # without train(), which an attached optimizer watches
    try:
        for batch in batches:
            if forward is not None:
                forward(batch)
            else:
                model(batch[0] if isinstance(batch, tuple | list) else batch)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, mode in modes:
            module.training = mode

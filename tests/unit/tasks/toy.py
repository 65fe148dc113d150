"""A small classification task, and variations of it for tests."""

from typing import Any

import torch
from torch import Tensor, nn

from thalweg.tasks import Classification, Task


def make_data(seed: int) -> Any:
    x = torch.randn(60, 4)
    return x, (x[:, 0] > 0).long()


def loss(model: nn.Module, batch: Any) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def make_task(**changes: Any) -> Task:
    given: dict[str, Any] = {
        "make_model": lambda: nn.Linear(4, 2),
        "make_data": make_data,
        "loss": loss,
        "name": "toy",
        "kind": Classification(2),
    }
    return Task(**(given | changes))

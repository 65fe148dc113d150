"""Parameters that share memory, which each step would move more than once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thalweg.backends.kinds import PLAIN
from thalweg.errors import InputError


def refuse_overlap(optimizer: Any, tensors: Sequence[Tensor]) -> None:
    """Refuse parameters that share memory: each step would move it more than once.

    Raises:
        InputError: two tensors overlap.
    """
    tensors = [x for x in tensors if type(x) in PLAIN and x.device.type != "meta"]
    if len(tensors) < 2:
        return
    starts = np.array([x.data_ptr() for x in tensors], np.int64)
    ends = starts + np.array([_extent(x) for x in tensors], np.int64)
    order = np.lexsort((ends, starts))
    starts, ends = starts[order], ends[order]
    known = starts != ends
    reached = np.maximum.accumulate(ends[known])[:-1]
    if (starts[known][1:] < reached).any() and _exactly(tensors):
        raise InputError(
            f"the parameters of {optimizer.rule.title}",
            "lie apart in memory",
            "parameters, or states, that overlap",
            "Pass a tensor that is used in several places once.",
        )


def place_of(x: Tensor) -> int:
    """Return the address of a tensor, or 0 of one that keeps its numbers elsewhere."""
    return x.data_ptr() if type(x) in PLAIN else 0


def _exactly(tensors: Sequence[Tensor]) -> bool:
    """Tell whether any two of tensors, whose extents overlap, share a byte; each alone does not."""
    bytes_ = []
    for x in tensors:
        if x.numel():
            reach = _extent(x) // x.element_size()
            mine = np.unique(torch.arange(reach).as_strided(x.shape, x.stride()).numpy()) * x.element_size()
            bytes_.append((mine[:, None] + np.arange(x.element_size()) + x.data_ptr()).ravel())
    every = np.concatenate(bytes_)
    return len(np.unique(every)) < len(every)


def _extent(x: Tensor) -> int:
    if x.is_contiguous():
        return x.numel() * x.element_size()
    if x.numel() == 0:
        return 0
    reach = 1 + sum((n - 1) * stride for n, stride in zip(x.shape, x.stride(), strict=True))
    return reach * x.element_size()

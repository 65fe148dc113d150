"""Rounding to bfloat16 by chance, so that the mean of many roundings is the number itself.

A step of less than half the last digit of a parameter is lost by rounding to nearest, each time. Rounded up
with the probability that the remainder is of a digit, it is kept in the mean. The chances are no random
stream but a hash of the count of steps, the row, and the element's place in memory: the same on every backend
for a contiguous parameter.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

WORD = 0xFFFFFFFF
# What makes a hash of a place: an odd multiplier, then shifts and multipliers that mix all bits.
SPREAD, MIXING = 0x9E3779B9, ((16, 0x7FEB352D), (15, 0x846CA68B))


def salts(counts: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return what tells the chances of one step and row from those of all others: 31 bits.

    Args:
        counts: how many steps each row has taken.
        rows: which row it is among all.
    """
    mixed = counts.astype(np.int64) * 0x85EBCA6B + rows.astype(np.int64) * 0xC2B2AE35 + 0x27D4EB2F
    return mixed & 0x7FFFFFFF


def by_chance(x: Tensor, salt: int) -> Tensor:
    """Return float32 numbers in bfloat16, each one of its two neighbours there.

    >>> x = torch.full((1000,), 1 + 2**-8)  # halfway between two
    >>> sorted(set(by_chance(x, 7).tolist()))
    [1.0, 1.0078125]
    """
    bits = x.float().reshape(-1).view(torch.int32).to(torch.int64) & WORD
    hashed = (torch.arange(len(bits), device=x.device) * SPREAD & WORD) ^ salt
    for shift, factor in MIXING:
        hashed = (hashed ^ (hashed >> shift)) * factor & WORD
    rounded = (bits + (hashed >> 16)) >> 16
    special = bits & 0x7F800000 == 0x7F800000  # infinity and NaN have no neighbours
    chosen = torch.where(special, bits >> 16, rounded).to(torch.int32)
    ordinary = (chosen << 16).view(torch.float32).to(torch.bfloat16)  # exact
    return ordinary.reshape(x.shape)

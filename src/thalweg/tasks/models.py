"""The models of the built-in tasks."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn


def mlp(sizes: Sequence[int]) -> nn.Sequential:
    """Return fully connected layers with ReLU between them, PyTorch's initialisation.

    ``sizes`` are the widths from the input to the output: n widths give n − 1 layers.

    >>> sum(p.numel() for p in mlp([784, 128, 10]).parameters())
    101770
    """
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(sizes):
        layers += [nn.Linear(width_in, width_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])

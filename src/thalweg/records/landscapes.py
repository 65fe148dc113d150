"""What the loss around a trained network looked like: slices, and the path that led there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Losses = tuple[float | None, ...]  # None where a loss is not finite


@dataclass(frozen=True)
class Line:
    """Losses along several directions from the trained weights."""

    positions: tuple[float, ...]  # α in θ + α·d, ascending; 1 is as far as the weights are from 0
    losses: tuple[Losses, ...]  # one row a direction


@dataclass(frozen=True)
class Plane:
    """Losses on a plane through the trained weights, which lie at (0, 0)."""

    x: tuple[float, ...]  # ascending
    y: tuple[float, ...]  # ascending
    losses: tuple[Losses, ...]  # losses[j][i] at (x[i], y[j])
    lengths: tuple[float, float]  # of the two directions
    cosine: float  # of the angle between them


@dataclass(frozen=True)
class Path:
    """The way of the weights through a training, projected onto its principal plane.

    ``explained`` are shares of Σ‖θ_t − θ‖², θ the trained weights: what the plane leaves out is ``off``.
    """

    steps: tuple[int, ...]  # updates done at each moment that was kept; the first is 0
    x: tuple[float, ...]  # θ_t − θ along the first principal direction
    y: tuple[float, ...]  # and along the second
    off: tuple[float, ...]  # the distance of θ_t from the plane
    loss_on_plane: Losses  # at the drawn point: the function that is drawn as contours
    loss_real: Losses  # at θ_t, with the running statistics of that moment
    explained: tuple[float, float]
    random_walk: tuple[float, float]  # the same shares for a random walk of as many moments


@dataclass(frozen=True)
class Landscape:
    """The loss around a trained network, with the path that led there."""

    task: str
    recipe: Mapping[str, Any]
    seed: int
    steps: int  # updates that were done
    restored: bool  # whether the trained weights are the best ones, of an earlier moment than the last
    part: str  # of the data, on which every loss here is the exact mean
    examples: int  # in it
    parameters: int  # numbers that are trained
    filters: int  # rows of weights that were normalised, each by itself
    still: int  # numbers that random directions leave where they are: biases and normalisation
    statistics: bool  # whether the model keeps running statistics, with which it was measured
    center_loss: float | None
    line: Line  # random directions, filter by filter as long as the weights
    random: Plane  # spanned by the first two of them
    principal: Plane  # spanned by the first two principal components of the path; of length 1
    path: Path
    points: int  # losses that were measured
    one_by_one: str  # why they were not measured as a fleet; "" where they were
    path_bytes: int  # that the path took in memory
    training_seconds: float
    measuring_seconds: float

"""The way that weights go in a training, and the plane on which several ways are drawn."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from thalweg.executors.serial import unnoticed
from thalweg.executors.threads import torch_threads
from thalweg.tasks.user_code import isolated_random
from thalweg.training.control import Control
from thalweg.training.engine import Engine, ModelEngine
from thalweg.training.loop import train
from thalweg.training.trial import Execution, Trial, Workload

POINTS: Final = 300  # of a path that are kept, evenly spaced in updates, and both ends
NUMBERS: Final = 2**25  # of all paths together: for large models fewer points are kept

Array = NDArray[np.float64]


class Walk(NamedTuple):
    """The way of the weights of one training."""

    points: NDArray[np.float32]  # (points, parameters), the first at the start, the last at the end
    length: float  # Σ‖w_{t+1} − w_t‖ over every update, not only those whose points are kept
    distance: float  # ‖w_T − w_0‖
    engine: ModelEngine  # with the last weights


class Plane(NamedTuple):
    """Ways on the plane of the first two principal components of all their points."""

    coordinates: tuple[Array, ...]  # (points, 2) of each way
    explained: float  # share of the variance of all points that lies in the plane
    own: tuple[float, ...]  # of the variance of each way around its own mean


def walk(
    workload: Workload,
    trial: Trial,
    how: Execution,
    ways: int = 1,
    progress: Callable[[int], None] = unnoticed,
) -> Walk:
    """Train one model and note where its weights are.

    Args:
        workload: the task with its data.
        trial: what to train.
        how: where and with how many threads.
        ways: how many will be held at once.
        progress: called after every update.
    """
    with torch_threads(how.threads), isolated_random(0):
        engine = ModelEngine(workload, trial, how.root, how.device)
        control = Control(trial.recipe, replace(workload.limits(trial), evaluations=1))
        size = sum(p.numel() for p in engine.parameters)
        count = max(8, min(POINTS, NUMBERS // (ways * max(1, size))))
        kept = set(np.round(np.linspace(0, trial.steps, count)).astype(int).tolist())
        before = _weights(engine)
        points, length = [before], 0.0

        def note(_: Engine, row: int, control: Control) -> None:
            nonlocal before, length
            progress(1)
            now = _weights(engine)
            taken = float(torch.linalg.vector_norm(now - before))
            if math.isfinite(taken):
                length, before = length + taken, now
                if control.progress.step in kept:
                    points.append(now)

        train(engine, [control], workload, at_boundary=note)
        progress(trial.steps - control.progress.step)
    held = torch.stack(points).cpu().numpy().astype(np.float32)
    distance = float(torch.linalg.vector_norm(before.double() - points[0].double()))
    return Walk(held, length, distance, engine)


def plane(ways: Sequence[NDArray[np.float32]]) -> Plane:
    """Find the plane that shows most of several ways, each of which counts the same, however many points.

    The principal components come from the products of points with each other, a small matrix, and not from
    the covariance of the weights. The first axis points to where the first way ends.

    >>> straight = np.array([[0, 0, 0], [2, 0, 0]], np.float32)
    >>> bent = np.array([[0, 0, 0], [0, 1, 0]], np.float32)
    >>> round(plane([straight, bent]).explained, 9)
    1.0
    """
    share = np.concatenate([np.full(len(way), 1 / (len(way) * len(ways))) for way in ways])
    points = np.concatenate(ways).astype(np.float64)
    points -= share @ points
    roots = np.sqrt(share)
    scaled = points * roots[:, None]
    values, vectors = np.linalg.eigh(scaled @ scaled.T)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    total = float(values.sum())
    coordinates = np.zeros((len(points), 2))
    for k in range(min(2, len(values))):
        if values[k] > 1e-12 * total:  # else the ways lie on a line, or on a point
            coordinates[:, k] = vectors[:, k] * math.sqrt(values[k]) / roots
    ends = np.cumsum([len(way) for way in ways])
    parts = np.split(coordinates, ends[:-1])
    for k in range(2):
        if parts[0][-1, k] < parts[0][0, k]:
            coordinates[:, k] *= -1  # parts are views of it
    own = tuple(_share(part, whole) for part, whole in zip(parts, np.split(points, ends[:-1]), strict=True))
    explained = float(values[:2].sum() / total) if total > 0 else 1.0
    return Plane(tuple(parts), explained, own)


def _share(part: Array, whole: Array) -> float:
    of, all_ = (float(np.square(x - x.mean(axis=0)).sum()) for x in (part, whole))
    return min(1.0, of / all_) if all_ > 0 else 1.0


def _weights(engine: ModelEngine) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in engine.parameters])

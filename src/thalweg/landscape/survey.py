"""All that is measured around a trained network: random slices, the principal plane, and the path in it."""

import time
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from thalweg.executors.serial import unnoticed
from thalweg.landscape.directions import Direction, dot, length, random_direction, weights_of
from thalweg.landscape.losses import Losses, OnPart, Stacks
from thalweg.landscape.path import Principal, Recorded, principal_plane, random_walk_explained
from thalweg.records.landscapes import Landscape, Line, Path, Plane
from thalweg.records.landscapes import Losses as Row
from thalweg.tasks.data.part import Part
from thalweg.training.trial import Execution, Trial, Workload

DENSER: Final = 4  # times the points of a grid's edge, on a line
ROOM: Final = 0.15  # of the path's extent, that the principal plane shows around it


class View(NamedTuple):
    """How much of the landscape is looked at."""

    grid: int = 25  # points along each edge of a plane; odd, so that the trained weights are one of them
    span: float = 1.0  # random slices go from −span to span
    directions: int = 5  # random ones on a line; the first two span a plane
    biases: bool = False  # whether random directions move parameters with one axis too

    @property
    def line(self) -> NDArray[np.float64]:
        """The positions along random directions; 0 is in the middle."""
        return _symmetric(self.span, DENSER * (self.grid - 1) + 1)

    def points(self, moments: int) -> int:
        """Return how many losses are measured: two planes, the lines, and the path twice."""
        return 2 * self.grid**2 + self.directions * len(self.line) + 2 * moments


def survey(
    workload: Workload,
    trial: Trial,
    how: Execution,
    recorded: Recorded,
    part: Part,
    part_name: str,
    view: View,
    fleet: bool = True,
    progress: Callable[[int], None] = unnoticed,
) -> Landscape:
    """Measure the loss around a trained network, on a part of the data.

    Args:
        workload: the task with its data.
        trial: that was trained.
        how: seed, threads and device.
        recorded: what it left.
        part: of the data.
        part_name: what it is called.
        view: how much is looked at.
        fleet: False: losses are measured one by one.
        progress: called with the number of losses that were measured.

    Raises:
        InputError: the model has no filters.
        NoPath: the path spans no plane.
    """
    began = time.perf_counter()
    model, trained = recorded.model, weights_of(recorded.model)
    found = principal_plane(recorded.weights, trained)
    random = [random_direction(model, how.root, k, view.biases) for k in range(view.directions)]
    losses = Losses(model, OnPart(workload.task, model, part, how.threads), fleet, progress)

    edge = _symmetric(view.span, view.grid)
    plane = _plane(losses, trained, (random[0], random[1]), edge, edge)
    along = np.kron(np.eye(len(random)), view.line[:, None])  # one direction after the other
    rows = np.reshape(losses.around(trained, random, along), (len(random), -1)).tolist()
    principal = _plane(losses, trained, found.directions, *(_axis(x, view.grid) for x in found.places.T))
    moved = {name for d in random for name in d}
    return Landscape(
        task=workload.task.name,
        recipe=trial.recipe.to_data(),
        seed=how.root,
        steps=recorded.steps[-1],
        restored=recorded.restored,
        part=part_name,
        examples=part.examples,
        parameters=sum(w.numel() for w in trained.values()),
        filters=sum(len(w) if w.ndim > 1 else 1 for n, w in trained.items() if n in moved),
        still=sum(w.numel() for n, w in trained.items() if n not in moved),
        statistics=bool(recorded.buffers),
        center_loss=plane.losses[view.grid // 2][view.grid // 2],
        line=Line(tuple(view.line.tolist()), tuple(map(_row, rows))),
        random=plane,
        principal=principal,
        path=_path(losses, trained, recorded, found),
        points=losses.points,
        one_by_one=losses.one_by_one,
        path_bytes=recorded.nbytes,
        training_seconds=recorded.seconds,
        measuring_seconds=time.perf_counter() - began,
    )


def _plane(
    losses: Losses,
    trained: dict[str, Tensor],
    directions: tuple[Direction, Direction],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
) -> Plane:
    across, up = np.meshgrid(x, y)
    measured = losses.around(trained, directions, np.stack([across.ravel(), up.ravel()], axis=1))
    lengths = length(directions[0]), length(directions[1])
    return Plane(
        tuple(x.tolist()),
        tuple(y.tolist()),
        tuple(_row(row) for row in np.reshape(measured, across.shape).tolist()),
        lengths,
        dot(*directions) / (lengths[0] * lengths[1]),
    )


def _path(losses: Losses, trained: dict[str, Tensor], recorded: Recorded, found: Principal) -> Path:
    device = next(iter(trained.values())).device

    def make(part: slice) -> Stacks:
        return {n: x[part].to(device) for n, x in (*recorded.weights.items(), *recorded.buffers.items())}

    return Path(
        steps=recorded.steps,
        x=tuple(found.places[:, 0].tolist()),
        y=tuple(found.places[:, 1].tolist()),
        off=tuple(found.off.tolist()),
        loss_on_plane=_row(losses.around(trained, found.directions, found.places)),
        loss_real=_row(losses.of(len(recorded.steps), make)),
        explained=found.explained,
        random_walk=random_walk_explained(len(recorded.steps)),
    )


def _symmetric(span: float, count: int) -> NDArray[np.float64]:
    """Return positions from −span to span, an odd number of them; the middle one is 0 without rounding."""
    half = np.linspace(0.0, span, count // 2 + 1)
    return np.concatenate([-half[:0:-1], half])


def _axis(places: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return positions that hold a path with room around it."""
    low, high = float(places.min()), float(places.max())
    room = ROOM * (high - low)
    return np.linspace(low - room, high + room, count)


def _row(losses: list[float]) -> Row:
    return tuple(x if np.isfinite(x) else None for x in losses)

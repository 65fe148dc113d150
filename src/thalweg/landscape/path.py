"""The path of the weights through a training, and the plane that holds most of it.

With θ the trained weights and θ_t those of moment t, the matrix of the rows θ_t − θ has singular values
σ₁ ≥ σ₂ ≥ … Its first two right singular vectors span the plane through θ that holds most of Σ‖θ_t − θ‖²;
σ₁² and σ₂² over the sum of all σ² are the shares that it explains. The rows are not centred and not scaled:
the plane that explains most of centred rows does not pass through θ, where contours are drawn.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from thalweg.errors import ThalwegError
from thalweg.executors.serial import unnoticed
from thalweg.landscape.directions import Direction, weights_of
from thalweg.records import Outcome
from thalweg.tasks.user_code import isolated_random
from thalweg.training.control import Control
from thalweg.training.engine import Engine, ModelEngine
from thalweg.training.fleet.memory import available
from thalweg.training.loop import train
from thalweg.training.trial import Execution, Trial, Workload

SHARE: Final = 0.25  # of the free memory that a path may take
FEWEST: Final = 3  # moments that have a plane
COLUMNS: Final = 1 << 16  # of the path that are float64 at once
FLAT: Final = 1e-12  # of σ₁²: below, there is no second direction


class NoPath(ThalwegError):
    """A training has left no path that could be drawn; the sentence says why."""


@dataclass(frozen=True)
class Recorded:
    """A trained model, and its weights at some moments of the training; both are on the processor's side."""

    model: nn.Module  # as the training left it
    steps: tuple[int, ...]  # updates done at each moment
    weights: dict[str, Tensor]  # by name, with a leading axis of moments: those to evaluate with
    buffers: dict[str, Tensor]  # likewise; those that changed
    restored: bool  # whether the model has the weights of an earlier moment than the last
    seconds: float  # of the training

    @property
    def nbytes(self) -> int:
        """How much memory the path takes."""
        return sum(x.nbytes for x in (*self.weights.values(), *self.buffers.values()))


def record(
    workload: Workload,
    trial: Trial,
    how: Execution,
    moments: int,
    progress: Callable[[int], None] = unnoticed,
) -> Recorded:
    """Train as ever, and keep the weights at evenly spaced moments, from before the first update to the end.

    Kept are the weights that would be evaluated: averages, where the optimizer has such. There are fewer
    moments where there are fewer updates, or where a quarter of the free memory holds no more.

    Args:
        workload: the task with its data.
        trial: what to train.
        how: seed, threads and device.
        moments: how many to keep at most.
        progress: called with the number of updates that were done.

    Raises:
        NoPath: the training diverged, or memory holds no path.
    """
    began = time.perf_counter()
    with isolated_random(0):
        engine = ModelEngine(workload, trial, how.root, how.device)
        control = Control(trial.recipe, workload.limits(trial))
        one = sum(x.nbytes for x in engine.model.state_dict().values())
        most = min(moments, trial.steps + 1, int(SHARE * available() // max(one, 1)))
        if most < min(FEWEST, trial.steps + 1):
            raise NoPath(
                f"memory holds fewer than {FEWEST} copies of the {one:,} bytes of the model's weights."
            )
        due = set(np.linspace(0, trial.steps, most).round().astype(int).tolist())
        trained = list(weights_of(engine.model))
        names = [*trained, *(n for n, _ in engine.model.named_buffers() if n in engine.model.state_dict())]
        kept: dict[int, dict[str, Tensor]] = {}

        def keep(step: int) -> None:
            best = engine.kept
            engine.keep(0)
            kept[step] = {n: engine.kept[n].cpu() for n in names}
            engine.kept = best

        def at_boundary(_: Engine, row: int, control: Control) -> None:
            progress(1)
            if control.progress.step in due or control.finished:
                keep(control.progress.step)

        keep(0)
        train(engine, [control], workload, at_boundary=at_boundary)
        finite = all(bool(x.isfinite().all()) for x in kept[control.progress.step].values())
        if control.progress.outcome is Outcome.DIVERGED or not finite:
            raise NoPath(
                f"the training diverged at update {control.progress.step}, and there is no trained network "
                "to look around. Take a lower rate."
            )
        restored = bool(engine.kept)
        engine.finish(0)
    stacks = {n: torch.stack([moment.pop(n) for moment in kept.values()]) for n in names}
    buffers = {n: x for n, x in stacks.items() if n not in trained and bool((x != x[:1]).any())}
    weights = {n: stacks[n] for n in trained}
    seconds = time.perf_counter() - began
    return Recorded(engine.model, tuple(kept), weights, buffers, restored, seconds)


@dataclass(frozen=True)
class Principal:
    """The principal plane of a path, through the trained weights."""

    directions: tuple[Direction, Direction]  # of length 1, orthogonal; the path begins where x ≥ 0
    places: NDArray[np.float64]  # the projected path, (moments, 2)
    off: NDArray[np.float64]  # the distance of each moment from the plane
    explained: tuple[float, float]


def principal_plane(path: dict[str, Tensor], trained: dict[str, Tensor]) -> Principal:
    """Find the plane through the trained weights that explains most of a path.

    Args:
        path: weights by name, with a leading axis of moments.
        trained: θ, by name.

    Raises:
        NoPath: the path lies on a line.

    >>> path = {"w": torch.tensor([[3.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])}
    >>> found = principal_plane(path, {"w": torch.zeros(3)})
    >>> round(sum(found.explained), 9), [round(x, 9) for x in found.off.tolist()]
    (1.0, [0.0, 0.0, 0.0])
    """
    moments = len(next(iter(path.values())))
    gram = np.zeros((moments, moments))
    for _, rows, _ in _blocks(path, trained):
        gram += (rows @ rows.T).numpy()
    values, vectors = np.linalg.eigh(gram)
    squares, u = values[::-1][:2], vectors[:, ::-1][:, :2]
    total = float(np.trace(gram))
    if len(squares) < 2 or not total > 0 or squares[1] <= FLAT * squares[0]:
        raise NoPath(
            "the weights moved along a line, or not at all: their path spans no plane. Train for more "
            "updates."
        )
    u = u * np.where(u[0] < 0, -1.0, 1.0)
    sigma = np.sqrt(squares)
    across = torch.from_numpy(u / sigma)  # rows.T @ across are the directions
    flat = {n: torch.empty((2, x.numel()), dtype=torch.float64) for n, x in trained.items()}
    for name, rows, columns in _blocks(path, trained):
        flat[name][:, columns] = across.T @ rows
    first, second = (
        {n: x[k].to(trained[n].dtype).reshape(trained[n].shape) for n, x in flat.items()} for k in (0, 1)
    )
    places = u * sigma
    off = np.sqrt(np.maximum(np.diag(gram) - (places**2).sum(1), 0.0))
    return Principal((first, second), places, off, (float(squares[0]) / total, float(squares[1]) / total))


def _blocks(path: dict[str, Tensor], trained: dict[str, Tensor]) -> Iterator[tuple[str, Tensor, slice]]:
    """Yield θ_t − θ in float64, a few columns at a time, with the name and the columns."""
    for name, center in trained.items():
        rows, own = path[name].flatten(1), center.cpu().reshape(1, -1)
        for start in range(0, own.shape[1], COLUMNS):
            columns = slice(start, start + COLUMNS)
            yield name, rows[:, columns].double() - own[:, columns].double(), columns


def random_walk_explained(moments: int) -> tuple[float, float]:
    """Return what the principal plane explains of a random walk that ends where the plane passes through.

    A walk of n steps in many dimensions has, seen from its end, inner products min(i, j) of its moments i
    and j steps before. That matrix has the eigenvalues λ_k = 1/(4 sin²((2k − 1)π/(4n + 2))) and the trace
    n(n + 1)/2: for many steps 8/π² = 81.1 % and 8/(9π²) = 9.0 %. So a plane that explains 90 % says no more
    than that the weights did not turn back; and the projection of a walk is a cosine against another.

    Args:
        moments: n + 1 with the end; at least 3.

    >>> [round(share, 4) for share in random_walk_explained(101)]
    [0.8106, 0.0901]

    Source: Antognini and Sohl-Dickstein, PCA of high dimensional random walks with comparison to neural
    network training (2018), arXiv 1806.08805, who centre the walk: 6/π² = 60.8 % and 15.2 %.
    """
    n = moments - 1
    shares = [2 / (n * (n + 1)) / (4 * np.sin((2 * k - 1) * np.pi / (4 * n + 2)) ** 2) for k in (1, 2)]
    return float(shares[0]), float(shares[1])

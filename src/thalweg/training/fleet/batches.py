"""What the replicas of a fleet are shown: batches by seed, and the streams of random numbers beside them."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thalweg import seeds
from thalweg.tasks.data.part import Part, TensorPart, moved
from thalweg.training.fleet.program import Leaves
from thalweg.training.order import Order
from thalweg.training.trial import Trial, Workload


class Batches:
    """The micro batches of every update. Replicas of one seed see the same, which is taken once.

    Args:
        workload: the task with its data.
        trials: of the fleet; all with one batch size and sampling.
        root: the seed from which all streams derive.
        dtype: of floating numbers; None: as they are.
        device: where the stack lives.
        micro_batch: examples that are computed at once.
    """

    def __init__(
        self,
        workload: Workload,
        trials: Sequence[Trial],
        root: int,
        dtype: torch.dtype | None,
        device: torch.device,
        micro_batch: int,
    ) -> None:
        self.task, self.root, self.dtype, self.device = workload.task, root, dtype, device
        self.elsewhere = dtype is not None or device.type != "cpu"
        self.micro_batch = micro_batch
        train = workload.data.train
        self.train: Part = train.to(dtype, device) if self.elsewhere else train
        limits, sampling = workload.limits(trials[0]), trials[0].recipe.sampling
        self._orders = {t.seed: Order(limits, sampling, root, t.seed) for t in trials}
        self._seen: dict[tuple[int, ...], tuple[list[int], np.ndarray]] = {}

    def moved(self, batch: Any) -> Any:
        """Bring a batch to where the stack is, in its type."""
        return moved(batch, self.dtype, self.device) if self.elsewhere else batch

    def pieces(self, step: int, shown: Sequence[int], draws: bool) -> list[tuple[Tensor, Leaves]]:
        """Return the micro batches of an update: the weight of each replica's loss, and leaves.

        Args:
            step: which update.
            shown: the seed of each replica.
            draws: whether the model may draw random numbers, whose generators are then seeded.
        """
        own, which = self._told_apart(shown)
        size = len(self._orders[own[0]].indices(step))
        starts = range(0, size, self.micro_batch)
        return [self._piece(step, slice(i, i + self.micro_batch), own, which, draws) for i in starts]

    def _told_apart(self, shown: Sequence[int]) -> tuple[list[int], np.ndarray]:
        """Return the seeds, each once, and which of them is that of each replica."""
        known = tuple(shown)
        if known not in self._seen:
            own = list(dict.fromkeys(known))
            self._seen[known] = own, np.array([own.index(seed) for seed in known], np.int64)
        return self._seen[known]

    def _piece(
        self, step: int, part: slice, own: list[int], which: np.ndarray, draws: bool
    ) -> tuple[Tensor, Leaves]:
        if isinstance(self.train, TensorPart):
            indices = np.concatenate([self._orders[seed].indices(step)[part] for seed in own])
            leaves = Leaves.of(self.train.batch(indices))
            each = [x.view(len(own), -1, *x.shape[1:]) for x in leaves.tensors]
            if draws:
                self.seed_forward(own[0], step, 0)
        else:
            taken = []
            for seed in own:
                self.seed_forward(seed, step, 0)  # a person's data set may draw
                taken.append(Leaves.of(self.moved(self.train.batch(self._orders[seed].indices(step)[part]))))
            leaves = taken[0]
            each = [torch.stack(xs) for xs in zip(*(t.tensors for t in taken), strict=True)]
        if self.task.loss_weight is None:
            weights = torch.full((len(which),), float(len(each[0][0])))
        else:
            batches = [leaves.joined([x[i] for x in each]) for i in range(len(own))]
            weights = torch.tensor([float(self.task.weight(b)) for b in batches])[torch.from_numpy(which)]
        return weights, leaves._replace(tensors=each, which=which)

    def seed_forward(self, seed: int, step: int, kind: int) -> None:
        """Seed what model and data draw, as `ModelEngine` does for a trial of this seed."""
        seed = self.stream(seed, step, kind)
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def stream(self, seed: int, step: int, kind: int) -> int:
        """Return the seed of what is drawn in an update."""
        return seeds.derive(self.root, "forward", seed, step, kind)

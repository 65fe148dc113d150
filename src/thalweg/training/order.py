"""In what order a trial visits the examples: a closed form of seed and step."""

import numpy as np
from numpy.typing import NDArray

from thalweg import seeds
from thalweg.training.control import Limits


class Order:
    """The examples of every update of one seed.

    Args:
        limits: how many examples there are, and in what batches.
        sampling: "shuffled", "in order" or "with replacement", anew in each epoch.
        root: the seed from which all streams derive.
        seed: of the trial.
    """

    def __init__(self, limits: Limits, sampling: str, root: int, seed: int) -> None:
        self._limits, self._sampling = limits, sampling
        self._root, self._seed = root, seed
        self._epoch = -1
        self._order: NDArray[np.int64] = np.empty(0, np.int64)

    def indices(self, step: int) -> NDArray[np.int64]:
        """Return the numbers of the examples of an update; the last batch of an epoch may be short."""
        epoch, place = divmod(step, self._limits.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._of_epoch(epoch)
        size = self._limits.batch_size
        return self._order[place * size : (place + 1) * size]

    def _of_epoch(self, epoch: int) -> NDArray[np.int64]:
        examples = self._limits.train_examples
        if self._sampling == "in order":
            return np.arange(examples)
        if self._sampling == "with replacement":
            return seeds.draws(examples, self._root, "order", self._seed, epoch)
        return seeds.order(self._root, self._seed, epoch, examples)

"""Splitting: which examples are kept aside, for a given seed, with the mix of classes kept."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thalweg.errors import TaskError
from thalweg.seeds import permutation
from thalweg.tasks.data.part import leaves, map_leaves


def tenth(examples: int) -> int:
    """Return how many examples a part that is split off gets: a tenth, at least one.

    >>> tenth(1797), tenth(4)
    (180, 1)
    """
    return max(1, round(examples / 10))


def kept_aside(
    count: int, shuffled: NDArray[np.int64], labels: NDArray[Any] | None = None
) -> NDArray[np.bool_]:
    """Choose ``count`` of n examples; True where an example is chosen.

    The examples are put in ``shuffled`` order, then, stably, in the order of their labels, and every
    (n / count)-th is taken. So each class of m examples gives ⌊m·count/n⌋ or one more, the total is
    exact, and which example of a class it is depends on the shuffling alone. Without labels all are
    one class: a simple random sample.

    >>> kept_aside(2, np.array([3, 1, 0, 2])).tolist()
    [False, True, True, False]
    >>> kept_aside(2, np.array([3, 1, 0, 2]), labels=np.array([0, 0, 1, 1])).tolist()
    [True, False, True, False]
    """
    n = len(shuffled)
    lined_up = shuffled if labels is None else shuffled[np.argsort(labels[shuffled], kind="stable")]
    place = np.arange(n)
    taken = (place + 1) * count // n > place * count // n
    mask = np.zeros(n, dtype=bool)
    mask[lined_up[taken]] = True
    return mask


def indices(
    examples: int, missing: int, seed: int, labels: NDArray[Any] | None = None
) -> list[NDArray[np.int64]]:
    """Split numbers of examples: first what remains for training, then ``missing`` parts of a tenth each.

    Each part keeps the order of the whole. Raises TaskError when nothing would remain.
    """
    if examples <= missing:
        raise TaskError(
            "data that is to be split",
            f"have at least {missing + 1} examples, one for each part",
            examples,
            "Give more examples, or the parts themselves.",
        )
    count, remaining, aside = tenth(examples), np.arange(examples), []
    for number in range(missing):
        left = None if labels is None else labels[remaining]
        mask = kept_aside(count, permutation(len(remaining), seed, "data", number), left)
        aside.append(remaining[mask])
        remaining = remaining[~mask]
    return [remaining, *aside]


def split(part: Any, seed: int, labels: ArrayLike | None = None) -> tuple[Any, Any, Any]:
    """Split arrays into training (80 %), validation (10 %) and test (10 %), in this order.

    ``part`` is an array or tensor, or a tuple or dict of them with equally many examples; ``labels``,
    if given, one class an example, so that the three keep the mix of classes. For a task that must
    see its training part before the others, e.g. to standardise.

    >>> train, validation, test = split((np.zeros((20, 3)), np.arange(20)), seed=0)
    >>> len(train[1]), len(validation[1]), len(test[1])
    (16, 2, 2)
    """
    examples = len(leaves(part)[0])
    classes = None if labels is None else np.asarray(labels)
    train, validation, test = indices(examples, 2, seed, classes)

    def rows(i: NDArray[np.int64]) -> Any:
        return map_leaves(lambda x: x[i], part)

    return rows(train), rows(validation), rows(test)

"""Preprocessing, each step fitted on training data alone and then applied to every part.

Arrays in, arrays out (a CPU tensor is read as an array); examples are rows, features columns.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thalweg.errors import TaskError

Array = NDArray[np.float64]


class ConstantFeatureWarning(UserWarning):
    """A feature has one value in all training data: it cannot be scaled and tells nothing."""


def _matrix(x: ArrayLike, who: str) -> Array:
    array = np.asarray(x, dtype=np.float64)
    if array.ndim != 2 or array.size == 0:
        raise TaskError(who, "get a table: one row an example, one column a feature", f"shape {array.shape}")
    if not np.isfinite(array).all():
        row, column = np.argwhere(~np.isfinite(array))[0]
        raise TaskError(who, "get finite numbers", f"{array[row, column]} in row {row}, column {column}")
    return array


def _without_zeros(spread: Array, x: Array, who: str) -> Array:
    """Replace the spread of constant features by 1, with a warning: they become 0, not NaN."""
    # min = max, not spread = 0: rounding gives the standard deviation of ten times 0.1 as 1e-17
    constant = x.min(axis=0) == x.max(axis=0)
    if constant.any():
        columns = ", ".join(map(str, np.flatnonzero(constant)[:10]))
        warnings.warn(
            f"{who}: {constant.sum()} of {len(constant)} features have one value in all training data "
            f"(column {columns}); they become 0. Leave them out.",
            ConstantFeatureWarning,
            stacklevel=3,
        )
    return np.where(constant, 1.0, spread)


@dataclass(frozen=True, eq=False)
class Standardise:
    """Give every feature mean 0 and variance 1 on the training data: z = (x − μ) / σ.

    μ and σ are the mean and the standard deviation (division by n) of each feature. A constant
    feature becomes 0, with a `ConstantFeatureWarning`.

    >>> scale = Standardise.fit([[1.0, 10.0], [3.0, 30.0]])
    >>> scale([[2.0, 40.0]]).tolist()
    [[0.0, 2.0]]
    """

    mean: Array
    deviation: Array

    @classmethod
    def fit(cls, train: ArrayLike) -> "Standardise":
        """Measure mean and deviation of the training data, of shape (examples, features)."""
        x = _matrix(train, "Standardise")
        return cls(x.mean(axis=0), _without_zeros(x.std(axis=0), x, "Standardise"))

    def __call__(self, x: ArrayLike) -> Array:
        """Standardise any part with the numbers of the training part."""
        return (np.asarray(x, dtype=np.float64) - self.mean) / self.deviation


@dataclass(frozen=True, eq=False)
class MinMax:
    """Bring every feature of the training data to [0, 1]: (x − min) / (max − min), per feature.

    Per feature, not over the whole table, which would flatten the features of small range. Other
    parts may leave [0, 1]. A constant feature becomes 0, with a `ConstantFeatureWarning`.

    >>> scale = MinMax.fit([[1.0, 10.0], [3.0, 30.0]])
    >>> scale([[2.0, 40.0]]).tolist()
    [[0.5, 1.5]]
    """

    low: Array
    span: Array

    @classmethod
    def fit(cls, train: ArrayLike) -> "MinMax":
        """Measure the range of the training data, of shape (examples, features)."""
        x = _matrix(train, "MinMax")
        return cls(x.min(axis=0), _without_zeros(np.ptp(x, axis=0), x, "MinMax"))

    def __call__(self, x: ArrayLike) -> Array:
        """Scale any part with the numbers of the training part."""
        return (np.asarray(x, dtype=np.float64) - self.low) / self.span


@dataclass(frozen=True, eq=False)
class PCA:
    """Turn features into their first principal components: z = (x − μ) Wᵀ.

    The rows of W are the unit directions of largest variance of the training data, found by
    scikit-learn's full singular value decomposition; ``explained`` is the share of the variance
    along each. Features are not scaled first: apply `Standardise` before if they have other units.

    >>> turn = PCA.fit([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]], components=1)
    >>> turn.explained.round(6).tolist(), abs(turn([[2.0, 2.0]])).round(6).tolist()
    ([1.0], [[1.414214]])
    """

    mean: Array
    directions: Array
    explained: Array

    @classmethod
    def fit(cls, train: ArrayLike, components: int) -> "PCA":
        """Find the directions in the training data, of shape (examples, features)."""
        from sklearn.decomposition import PCA as Reference

        x = _matrix(train, "PCA")
        most = min(x.shape)
        if not 1 <= components <= most:
            raise TaskError(
                "components of PCA", f"be a whole number in [1, {most}], for data of {x.shape}", components
            )
        if (x == x[0]).all():
            raise TaskError("PCA", "get examples that differ", "equal rows only")
        found: Any = Reference(components, svd_solver="full").fit(x)
        return cls(found.mean_, found.components_, found.explained_variance_ratio_)

    def __call__(self, x: ArrayLike) -> Array:
        """Turn any part with the directions of the training part."""
        turned: Array = (np.asarray(x, dtype=np.float64) - self.mean) @ self.directions.T
        return turned


def balanced_class_weights(labels: ArrayLike, classes: int) -> Array:
    """Return weights that give every class the same say: w_k = n / (K · n_k).

    n is the number of labels, n_k of those of class k; each label lies in [0, classes).

    >>> balanced_class_weights([0, 0, 0, 1], classes=2).round(4).tolist()
    [0.6667, 2.0]
    """
    counts = np.bincount(np.asarray(labels), minlength=classes)
    if len(counts) > classes or (counts == 0).any():
        raise TaskError(
            "labels to be balanced",
            f"contain each class from 0 to {classes - 1}",
            f"counts {counts.tolist()}",
        )
    weights: Array = counts.sum() / (classes * counts)
    return weights

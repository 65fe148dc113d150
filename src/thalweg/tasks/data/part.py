"""A part of the data (training, validation or test), from which any batch can be taken by number."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Subset, default_collate

from thalweg.errors import TaskError

Indices = NDArray[np.int64] | Tensor


def map_leaves(function: Callable[[Any], Any], tree: Any) -> Any:
    """Apply a function to every leaf of nested tuples, lists and dicts, keeping their structure.

    >>> map_leaves(lambda x: 2 * x, {"a": 1, "b": (2, 3)})
    {'a': 2, 'b': (4, 6)}
    """
    if isinstance(tree, Mapping):
        return {key: map_leaves(function, value) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        values = [map_leaves(function, value) for value in tree]
        return type(tree)(*values) if hasattr(tree, "_fields") else type(tree)(values)
    return function(tree)


def leaves(tree: Any) -> list[Any]:
    """Return the leaves of nested tuples, lists and dicts, in order."""
    found: list[Any] = []
    map_leaves(found.append, tree)
    return found


def as_tensor(value: Any) -> Any:
    """Turn an array or a Python number into a tensor; leave everything else as it is.

    float64 becomes float32, in which models are trained. Whole numbers become int64, except bytes of
    more than one dimension (images), which stay bytes. A tensor stays as its owner made it.

    >>> as_tensor(np.array([0.5])).dtype, as_tensor(np.array([3], np.uint8)).dtype
    (torch.float32, torch.int64)
    """
    if isinstance(value, Tensor):
        return value.detach()
    if hasattr(value, "to_numpy"):  # a table or column of pandas or polars
        value = value.to_numpy()
    if not isinstance(value, np.ndarray | np.generic | float | int):
        return value
    array = np.asarray(value)
    if array.dtype.kind == "f" and array.itemsize > 4:
        array = array.astype(np.float32)
    elif array.dtype.kind in "iu" and not (array.dtype == np.uint8 and array.ndim > 1):
        array = array.astype(np.int64)
    elif array.dtype.kind not in "fiub":
        return value
    if not (array.flags.writeable and array.flags.c_contiguous and array.dtype.isnative):
        array = array.astype(array.dtype.newbyteorder("="), order="C")  # torch shares memory: own it
    return torch.from_numpy(array)


class Part(ABC):
    """Examples that can be taken in any order. Its batches have the structure of what it was made of."""

    @property
    @abstractmethod
    def examples(self) -> int:
        """How many examples there are."""

    @abstractmethod
    def batch(self, indices: Indices) -> Any:
        """Return the examples with these numbers (1-d, each in [0, examples)) as one batch."""

    @abstractmethod
    def select(self, indices: Indices) -> "Part":
        """Return the part made of the examples with these numbers."""

    @abstractmethod
    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> "Part":
        """Return the part with its floating numbers in another type, or on another device."""

    @abstractmethod
    def batches(self, size: int) -> Iterator[Any]:
        """Yield all examples in their own order, ``size`` at a time; the last batch may be smaller."""


@dataclass(frozen=True, eq=False)
class TensorPart(Part):
    """Examples that lie in memory: a tensor, or tuples, lists and dicts of them.

    The first axis of every tensor counts the examples.

    >>> part = TensorPart((torch.arange(6.0).reshape(3, 2), torch.tensor([0, 1, 1])))
    >>> x, y = part.batch(np.array([2, 0]))
    >>> x.tolist(), y.tolist()
    ([[4.0, 5.0], [0.0, 1.0]], [1, 0])
    """

    fields: Any

    @property
    def examples(self) -> int:
        """How many examples there are."""
        return len(leaves(self.fields)[0])

    def batch(self, indices: Indices) -> Any:
        """Return the examples with these numbers as one batch."""
        numbers = torch.as_tensor(indices, dtype=torch.int64)
        return map_leaves(lambda x: x.index_select(0, numbers.to(x.device)), self.fields)

    def select(self, indices: Indices) -> "TensorPart":
        """Return the part made of the examples with these numbers."""
        return TensorPart(self.batch(indices))

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> "TensorPart":
        """Return the part with its floating numbers in another type, or on another device."""
        return TensorPart(moved(self.fields, dtype, device))

    def batches(self, size: int) -> Iterator[Any]:
        """Yield all examples in their own order, ``size`` at a time; copies, which a loss may change."""
        for start in range(0, self.examples, size):
            yield self.batch(np.arange(start, min(start + size, self.examples)))


@dataclass(frozen=True, eq=False)
class DatasetPart(Part):
    """Examples of a map-style dataset, fetched when they are needed and collated as PyTorch does.

    Arrays and numbers in an item follow the same rule of types as arrays in memory.
    """

    dataset: Any
    dtype: torch.dtype | None = None
    device: torch.device | str | None = None

    @property
    def examples(self) -> int:
        """How many examples there are."""
        return len(self.dataset)

    def batch(self, indices: Indices) -> Any:
        """Fetch the examples with these numbers and collate them into one batch."""
        items = [map_leaves(as_tensor, self.dataset[int(i)]) for i in indices]
        try:
            batch = default_collate(items)
        except (TypeError, RuntimeError) as error:
            raise TaskError(
                f"the items of {type(self.dataset).__name__}",
                "be tensors, arrays or numbers (or tuples and dicts of them) of one shape",
                str(error).splitlines()[0].rstrip("."),
                "Give the dataset a transform that makes tensors of equal size.",
            ) from error
        return moved(batch, self.dtype, self.device)

    def select(self, indices: Indices) -> "DatasetPart":
        """Return the part made of the examples with these numbers."""
        return replace(self, dataset=Subset(self.dataset, [int(i) for i in indices]))

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> "DatasetPart":
        """Return the part whose batches have floating numbers of another type, or another device."""
        return replace(self, dtype=dtype or self.dtype, device=device or self.device)

    def batches(self, size: int) -> Iterator[Any]:
        """Yield all examples in their own order, ``size`` at a time."""
        for start in range(0, self.examples, size):
            yield self.batch(np.arange(start, min(start + size, self.examples)))


def examples_in(batch: Any) -> int:
    """Return how many examples a batch holds: the length of its first tensor.

    >>> examples_in({"x": torch.zeros(3, 2), "y": torch.zeros(3)})
    3
    """
    return next(len(x) for x in leaves(batch) if isinstance(x, Tensor))


def moved(tree: Any, dtype: torch.dtype | None, device: torch.device | str | None) -> Any:
    """Return a batch with its floating numbers in another type, or on another device."""

    def move(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        return x.to(device=device, dtype=dtype if x.is_floating_point() else None)

    return map_leaves(move, tree)


@dataclass(frozen=True, eq=False)
class Data:
    """Training data, validation data (to choose by) and test data (read once, at the end)."""

    train: Part
    validation: Part
    test: Part

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> "Data":
        """Return the data with floating numbers in another type, or on another device."""
        return Data(*(part.to(dtype, device) for part in (self.train, self.validation, self.test)))

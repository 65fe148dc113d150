"""The mathematics that a rule's body may use: one name for NumPy arrays, torch tensors and numbers.

A body that keeps to these names, to arithmetic and to ``@`` runs unchanged on every backend. This
module knows torch only if somebody else imported it.
"""

import sys
from typing import Any

import numpy as np

Array = Any  # a NumPy array, a torch tensor, or a number


def _namespace(*arrays: Array) -> Any:
    torch = sys.modules.get("torch")
    if torch is not None and any(isinstance(x, torch.Tensor) for x in arrays):
        return torch
    return np


def sqrt(x: Array) -> Array:
    """Return the square root of every element.

    >>> float(sqrt(np.array(9.0)))
    3.0
    """
    return _namespace(x).sqrt(x)


def abs(x: Array) -> Array:
    """Return the absolute value of every element."""
    return _namespace(x).abs(x)


def sign(x: Array) -> Array:
    """Return −1, 0 or 1 for every element."""
    return _namespace(x).sign(x)


def maximum(x: Array, y: Array) -> Array:
    """Return the larger of two elements, place by place; either may be a number.

    >>> maximum(np.array([-1.0, 2.0]), 0.0).tolist()
    [0.0, 2.0]
    """
    space = _namespace(x, y)
    if space is not np:  # torch takes tensors only
        like = x if isinstance(x, space.Tensor) else y
        x, y = (space.as_tensor(z, dtype=like.dtype, device=like.device) for z in (x, y))
    return space.maximum(x, y)


def where(condition: Array, x: Array, y: Array) -> Array:
    """Return x where the condition holds, else y, place by place."""
    return _namespace(condition, x, y).where(condition, x, y)


def zeros_like(x: Array) -> Array:
    """Return zeros of the shape, type and device of x."""
    return _namespace(x).zeros_like(x)


def sum_over(x: Array, axes: tuple[int, ...]) -> Array:
    """Return the sum over some axes, which stay with length 1; all elements of one tensor of a replica.

    >>> sum_over(np.ones((2, 3)), (-1,)).tolist()
    [[3.0], [3.0]]
    """
    if not axes:
        return x
    return x.sum(axes, keepdims=True)


def spread(value: Array, like: Array) -> Array:
    """Make per-replica numbers ready to meet a stacked parameter: shape (K,) becomes (K, 1, …, 1).

    A plain number, a 0-d tensor and anything that is no array pass through; a tuple is spread entry by
    entry. Arrays, and NumPy's scalars, take the dtype of the parameter here and not earlier: what depends
    on the step was computed in float64.

    >>> spread(np.array([0.1, 0.2]), np.zeros((2, 3, 4))).shape
    (2, 1, 1)
    """
    if isinstance(value, tuple):
        entries = [spread(x, like) for x in value]
        return type(value)(*entries) if hasattr(value, "_fields") else tuple(entries)
    if not hasattr(value, "ndim") or (value.ndim == 0 and not isinstance(like, np.ndarray | np.generic)):
        return value
    if value.ndim == 0:
        return value.astype(like.dtype)  # NumPy would turn a float32 parameter into float64
    shaped = value.reshape(value.shape + (1,) * (like.ndim - 1))
    return shaped.astype(like.dtype) if isinstance(shaped, np.ndarray) else shaped.to(like.dtype)


def gather(x: Array, replicas: bool) -> Array:
    """Undo `spread`, in float64: (K, 1, …, 1) becomes (K,), and without replicas one number.

    >>> gather(np.ones((2, 1, 1), np.float32), replicas=True).tolist()
    [1.0, 1.0]
    """
    return in_float64(x).reshape(x.shape[:1] if replicas else ())


def in_float64(x: Array) -> Array:
    """Return an array in float64, and a number as it is.

    >>> in_float64(np.array([1, 2])).tolist(), in_float64(3)
    ([1.0, 2.0], 3)
    """
    if isinstance(x, np.ndarray | np.generic):
        return x.astype(np.float64)
    return x.to(_namespace(x).float64) if hasattr(x, "to") else x

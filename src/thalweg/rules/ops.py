"""The mathematics that a rule's body may use: one name for NumPy arrays, torch tensors and numbers.

A body that keeps to these names, to arithmetic and to ``@`` runs unchanged on every backend. This
module knows torch only if somebody else imported it.
"""

import math
import sys
from typing import Any

import numpy as np

Array = Any  # a NumPy array, a torch tensor, or a number


def _namespace(*arrays: Array) -> Any:
    for x in arrays:
        if (own := getattr(x, "namespace", None)) is not None:  # what a compiled backend traces
            return own
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
    """Return −1, 0 or 1 for every element, and NaN of NaN."""
    space = _namespace(x)
    if space.__name__ == "torch":  # whose sign of NaN is 0
        return space.where(x == x, space.sign(x), x)
    return space.sign(x)


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


def minimum(x: Array, y: Array) -> Array:
    """Return the smaller of two elements, place by place; either may be a number.

    >>> minimum(np.array([-1.0, 2.0]), 0.0).tolist()
    [-1.0, 0.0]
    """
    return -maximum(-x, -y)


def where(condition: Array, x: Array, y: Array) -> Array:
    """Return x where the condition holds, else y, place by place; each of the three may be a number.

    >>> where(np.array([True, False]), 1.0, 2.0).tolist()
    [1.0, 2.0]
    """
    space = _namespace(condition, x, y)
    if space is not np:  # torch takes a condition that is a tensor, and makes two numbers float32
        like = next(z for z in (x, y, condition) if isinstance(z, space.Tensor))
        condition = space.as_tensor(condition, device=like.device)
        if like is condition:
            x = space.as_tensor(x, dtype=space.float64, device=like.device)
    return space.where(condition, x, y)[()]  # of numbers a number, which torch can multiply with


def due(condition: Array) -> bool:
    """Tell whether a condition holds anywhere: whether what costs much must be computed for any replica.

    >>> due(np.array([0.0, 1.0])), due(False)
    (True, False)
    """
    return bool(condition.any()) if hasattr(condition, "any") else bool(condition)


def lerp(x: Array, y: Array, share: Array) -> Array:
    """Return the mean of x and y in which y has a share: x + share·(y − x), exact where the share is 0 or 1.

    >>> lerp(np.array(1.0), np.array(3.0), 0.25).item()
    1.5
    """
    space = _namespace(x, y)
    if space is not np:
        return space.lerp(x, y, cast(share, x) if hasattr(share, "to") else share)
    return np.where(np.abs(share) < 0.5, x + share * (y - x), y - (y - x) * (1 - share)).astype(x.dtype)


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


def norm_over(x: Array, axes: tuple[int, ...]) -> Array:
    """Return the Euclidean norm over some axes, which stay with length 1.

    >>> norm_over(np.array([[3.0, 4.0], [0.0, 1.0]]), (-1,)).tolist()
    [[5.0], [1.0]]
    """
    if _namespace(x) is np:
        return np.sqrt(sum_over(x * x, axes))
    return _namespace(x).linalg.vector_norm(x, dim=axes, keepdim=True) if axes else abs(x)


def total(numbers: list[Array]) -> Array:
    """Return the sum over all rows of a step, of one number each, or of (K,) where there are replicas.

    >>> total([1.0, 2.0])
    3.0
    """
    space = _namespace(*numbers)
    return space.total(numbers) if hasattr(space, "total") else sum(numbers[1:], numbers[0])


def any_of(conditions: list[Array]) -> Array:
    """Return whether a condition holds in any row of a step; (K,) where there are replicas.

    >>> any_of([False, True])
    True
    """
    space = _namespace(*conditions)
    if hasattr(space, "any_of"):
        return space.any_of(conditions)
    return sum(conditions[1:], conditions[0]) > 0


def mean_over(x: Array, axes: tuple[int, ...]) -> Array:
    """Return the mean over some axes, which stay with length 1; of no elements at all it is 0.

    >>> mean_over(np.array([3.0, 5.0]), (-1,)).tolist(), mean_over(np.ones((2, 0)), (-1,)).tolist()
    ([4.0], [[0.0], [0.0]])
    """
    return sum_over(x, axes) / (count(x, axes) or 1)


def machine_epsilon(x: Array) -> float:
    """Return the distance from 1 to the next number of the array's type.

    >>> machine_epsilon(np.ones(3, np.float32)) == 2**-23
    True
    """
    return float(_namespace(x).finfo(x.dtype).eps)


def count(x: Array, axes: tuple[int, ...]) -> int:
    """Return over how many elements `sum_over` adds up.

    >>> count(np.ones((4, 2, 3)), (-2, -1))
    6
    """
    if hasattr(x, "count"):  # what a compiled backend traces
        return x.count(axes)  # type: ignore[no-any-return]
    return math.prod(x.shape[axis] for axis in axes)


def spread(value: Array, like: Array) -> Array:
    """Make per-replica numbers ready to meet a stacked parameter: shape (K,) becomes (K, 1, …, 1).

    A plain number and anything that is no array pass through; a tuple is spread entry by entry. What would
    widen the parameter takes its dtype here and not earlier: what depends on the step was computed in
    float64.

    >>> spread(np.array([0.1, 0.2]), np.zeros((2, 3, 4))).shape
    (2, 1, 1)
    """
    if isinstance(value, tuple):
        entries = [spread(x, like) for x in value]
        return type(value)(*entries) if hasattr(value, "_fields") else tuple(entries)
    if not hasattr(value, "ndim"):
        return value
    if value.ndim == 0 and _namespace(like) is not np and isinstance(value, np.ndarray | np.generic):
        return value.item()  # a number of NumPy's would turn a float32 tensor into float64
    if value.ndim == 0 and _namespace(like) is not np and like.ndim > 0:
        return value
    if value.ndim == 0:
        return cast(value, like)  # it would turn a float32 parameter into float64
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


def cast(x: Array, like: Array) -> Array:
    """Return x in the dtype of another array.

    >>> cast(np.ones(2, np.float32), np.ones(1)).dtype.name
    'float64'
    """
    return x.astype(like.dtype) if isinstance(x, np.ndarray | np.generic) else x.to(like.dtype)


def bfloat16(x: Array) -> Array:
    """Return a tensor in bfloat16; NumPy has no such type, and an array stays as it is."""
    return x if _namespace(x) is np else x.bfloat16()


def as_matrix(x: Array, axes: tuple[int, ...]) -> Array:
    """Flatten all own axes behind the first: a filter becomes a matrix (out, everything else).

    A replica axis in front stays, numbers pass through, and so does a tuple entry by entry; what `spread`
    has made ready to meet the parameter meets its matrix.

    >>> as_matrix(np.zeros((5, 2, 3, 4)), (-3, -2, -1)).shape
    (5, 2, 12)
    """
    if isinstance(x, tuple):
        entries = [as_matrix(entry, axes) for entry in x]
        return type(x)(*entries) if hasattr(x, "_fields") else tuple(entries)
    if getattr(x, "ndim", 0) == 0:
        return x
    lead = x.ndim - len(axes) + 1
    return x.reshape(*x.shape[:lead], math.prod(x.shape[lead:]))


def identity(like: Array) -> Array:
    """Return the identity of the size of square matrices, in their dtype and on their device.

    >>> identity(np.zeros((3, 2, 2))).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    if _namespace(like) is np:
        return np.eye(like.shape[-1], dtype=like.dtype)
    return _namespace(like).eye(like.shape[-1], dtype=like.dtype, device=like.device)


def eigh(x: Array) -> tuple[Array, Array]:
    """Return eigenvalues, rising, as rows (…, 1, n), and eigenvectors, as columns, of symmetric matrices.

    Of a matrix with numbers that are not finite, which libraries refuse, the eigenvalues are NaN.

    >>> values, vectors = eigh(np.diag([2.0, 1.0]))
    >>> values.tolist(), np.abs(vectors).tolist()
    ([[1.0, 2.0]], [[0.0, 1.0], [1.0, 0.0]])
    """
    known = sum_over(~(abs(x) < math.inf), (-2, -1)) == 0
    values, vectors = _namespace(x).linalg.eigh(_wide(where(known, x, 0.0)))
    values = where(known[..., 0], values, math.nan)
    return cast(values[..., None, :], x), cast(vectors, x)


def orthonormal(x: Array) -> Array:
    """Return the factor Q of X = QR.

    >>> np.abs(orthonormal(np.array([[2.0, 1.0], [0.0, 3.0]]))).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    return cast(_namespace(x).linalg.qr(_wide(x))[0], x)


def falling(x: Array) -> Array:
    """Return the places of elements along the last axis, largest first; equal ones keep their order.

    >>> falling(np.array([1.0, 3.0, 2.0])).tolist()
    [1, 2, 0]
    """
    return np.argsort(-x, kind="stable") if _namespace(x) is np else (-x).argsort(stable=True)


def take(x: Array, places: Array, axis: int) -> Array:
    """Return the entries at some places along an axis; the other axes of `places` broadcast.

    >>> take(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1, 0]]), -1).tolist()
    [[2.0, 1.0], [4.0, 3.0]]
    """
    if _namespace(x) is np:
        return np.take_along_axis(x, places, axis)
    if places.numel() == places.shape[axis]:  # the same for all: much faster
        return x.index_select(axis, places.flatten())
    return _namespace(x).take_along_dim(x, places, axis)


def _wide(x: Array) -> Array:
    """Return half precision, which has no decompositions, as float32."""
    half = not isinstance(x, np.ndarray) and x.element_size() < 4
    return x.float() if half else x

"""Proximal operators in closed form, for NumPy arrays and torch tensors: argmin_z ½‖z − x‖² + t·penalty(z).

The wrapper of a rule (`thalweg.rules.proximal`) and the solvers (`thalweg.solvers.proximal`) both take
them from here. Everything that shrinks does so by a threshold t ≥ 0, in the units of x.
"""

from thalweg.rules.ops import Array, abs, maximum, minimum, norm_over, sign, where


def soft(x: Array, threshold: Array) -> Array:
    """Soft thresholding, the proximal operator of t·Σ|zᵢ|: sign(x)·max(|x| − t, 0), place by place.

    >>> import numpy as np
    >>> soft(np.array([2.0, -0.75, 0.25]), 0.5).tolist()
    [1.5, -0.25, 0.0]
    """
    return sign(x) * maximum(abs(x) - threshold, 0.0)


def elastic(x: Array, threshold: Array, share: Array) -> Array:
    """The proximal operator of t·(share·Σ|zᵢ| + ½(1 − share)·Σzᵢ²): soft thresholding, then division.

    >>> import numpy as np
    >>> elastic(np.array([2.0, 0.25]), 1.0, 0.5).tolist()
    [1.0, 0.0]
    """
    return soft(x, threshold * share) / (1 + threshold * (1 - share))


def shrink(x: Array, threshold: Array, axes: tuple[int, ...]) -> Array:
    """The proximal operator of t·‖z‖ over some axes: x·max(1 − t/‖x‖, 0), and 0 of 0.

    >>> import numpy as np
    >>> shrink(np.array([[3.0, 4.0], [0.3, 0.4]]), 2.5, (-1,)).tolist()
    [[1.5, 2.0], [0.0, 0.0]]
    """
    norm = norm_over(x, axes)
    return x * (maximum(norm - threshold, 0.0) / where(norm > 0, norm, 1.0))


def clip(x: Array, low: Array, high: Array) -> Array:
    """The proximal operator of bounds, which is the nearest point within them, place by place.

    >>> import numpy as np
    >>> clip(np.array([-3.0, 0.5, 3.0]), -1.0, 1.0).tolist()
    [-1.0, 0.5, 1.0]
    """
    return minimum(maximum(x, low), high)


def positive(x: Array) -> Array:
    """The proximal operator of z ≥ 0: max(x, 0), place by place.

    >>> import numpy as np
    >>> positive(np.array([-3.0, 0.5])).tolist()
    [0.0, 0.5]
    """
    return maximum(x, 0.0)

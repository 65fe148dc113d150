"""Products of large matrices for the bodies of rules: the same numbers as ``@`` but for rounding, sooner.

Like `ops`, it knows NumPy arrays and torch tensors, and torch only if somebody else imported it.
"""

from collections.abc import Callable

import numpy as np

from thalweg.rules.ops import Array, _namespace, cast, identity

_LARGE = 256  # the side from which matrices repay being copied for oneDNN
_BLOCK = 256  # the least side of the blocks of a symmetric product; it takes three to repay


def product(x: Array, y: Array) -> Array:
    """Return x @ y.

    PyTorch gives float32 on a CPU to MKL, which uses half the width of AMD's processors: large matrices go
    through its oneDNN instead, twice as fast there, and differ by rounding.

    >>> product(np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]])).tolist()
    [[11.0]]
    """
    if not _for_onednn(x, y):
        return x @ y
    return _namespace(x).nn.functional.linear(x.to_mkldnn(), y.mT.to_mkldnn()).to_dense()


def addmm(x: Array, y: Array, z: Array, beta: Array, alpha: Array) -> Array:
    """Return βx + α·(y @ z), rounded once on torch where β and α are plain numbers.

    >>> addmm(np.eye(1), np.eye(1), np.eye(1), 2.0, 3.0).tolist()
    [[5.0]]
    """
    if _namespace(x) is np or not _plain(beta, alpha):
        return cast(beta * x + alpha * product(y, z), x)
    if _for_onednn(y, z):
        return product(y, z).mul_(alpha).add_(x, alpha=beta)
    if x.ndim == 2:
        return _namespace(x).addmm(x, y, z, beta=beta, alpha=alpha)
    return _namespace(x).baddbmm(x, y, z, beta=beta, alpha=alpha)


def symmetric_product(x: Array, y: Array) -> Array:
    """Return x @ y where that is known to be symmetric: of a large one a good half is computed.

    >>> symmetric_product(np.array([[1.0], [2.0]]), np.array([[1.0, 2.0]])).tolist()
    [[1.0, 2.0], [2.0, 4.0]]
    """
    if not _in_blocks(x):
        return product(x, y)
    if _for_onednn(x, y):
        left, right = _laid_out(x, y)
        return _mirrored(x, lambda out, i, j: out.copy_(product(left[i], right[:, j])))
    return _mirrored(x, lambda out, i, j: _namespace(x).mm(x[i], y[:, j], out=out))


def symmetric_addmm(x: Array, y: Array, z: Array, beta: Array, alpha: Array) -> Array:
    """Return `addmm` where it is known to be symmetric: of a large one a good half is computed.

    >>> symmetric_addmm(np.eye(1), np.eye(1), np.eye(1), 2.0, 3.0).tolist()
    [[5.0]]
    """
    if not _in_blocks(x) or not _plain(beta, alpha):
        return addmm(x, y, z, beta, alpha)
    if _for_onednn(y, z):
        left, right = _laid_out(y, z)
        return _mirrored(x, lambda out, i, j: out.copy_(addmm(x[i, j], left[i], right[:, j], beta, alpha)))
    plus = _namespace(x).addmm
    return _mirrored(x, lambda out, i, j: plus(x[i, j], y[i], z[:, j], beta=beta, alpha=alpha, out=out))


def plus_identity(x: Array, share: Array) -> Array:
    """Return X + share·I for square matrices.

    >>> plus_identity(np.ones((2, 2)), 3.0).tolist()
    [[4.0, 1.0], [1.0, 4.0]]
    """
    if not _in_memory(x) or not _plain(share):
        return cast(x + share * identity(x), x)
    x = x.clone()
    x.diagonal().add_(share)
    return x


def _plain(*numbers: Array) -> bool:
    return all(isinstance(x, int | float) for x in numbers)


def _in_memory(x: Array) -> bool:
    """Tell whether this is a matrix of torch in memory, and none that is being traced."""
    torch = _namespace(x)
    return torch is not np and x.ndim == 2 and type(x) is torch.Tensor and x.device.type == "cpu"


def _for_onednn(x: Array, y: Array) -> bool:
    if not _in_memory(x) or min(*x.shape, y.shape[-1]) < _LARGE:
        return False
    torch = _namespace(x)
    return x.dtype is torch.float32 is y.dtype and torch.backends.mkldnn.is_available()


def _in_blocks(x: Array) -> bool:
    return _in_memory(x) and x.shape[0] >= 3 * _BLOCK


def _laid_out(x: Array, y: Array) -> tuple[Array, Array]:
    """Return the factors of a product as oneDNN reads them, so that no block of them is turned on its own."""
    return x.contiguous(), y.mT.contiguous().mT


def _mirrored(like: Array, put: Callable[[Array, slice, slice], Array]) -> Array:
    """Put a symmetric matrix together from its rows, each from the diagonal on, some rows at a time."""
    size = like.shape[0]
    whole = like.new_empty(size, size)
    step = max(_BLOCK, size // 4)
    for start in range(0, size, step):
        rows = slice(start, start + step)
        put(whole[rows, start:], rows, slice(start, size))
        if start:
            whole[rows, :start] = whole[:start, rows].mT
    return whole

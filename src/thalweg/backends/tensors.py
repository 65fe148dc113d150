"""What kernels must know of tensors before every step: whether they are as they were, and where they lie.

torch has both for its own compiler, thousands of tensors at a time. Where a version of torch has them not,
the same is asked tensor by tensor.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import numpy as np
from torch import Tensor

from thalweg.backends import loops, machine

try:
    from torch._C._dynamo import guards as _guards
except ImportError:
    _guards = None  # type: ignore[assignment]
_TensorGuards: Any = getattr(_guards, "TensorGuards", None)
_ADDRESS: int | None = getattr(_guards, "_torchinductor_pyobject_tensor_data_ptr", None)


class Likeness:
    """The types, devices, shapes and strides of tensors, to compare others with.

    >>> import torch
    >>> known = Likeness([torch.zeros(2), torch.zeros(3)])
    >>> known.holds([torch.ones(2), torch.ones(3)]), known.holds([torch.ones(2), torch.ones(4)])
    (True, False)
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.count = len(tensors)
        self.check: Any = None
        if _TensorGuards is not None and tensors:
            try:
                guards = _TensorGuards(
                    *tensors,
                    dynamic_dims_sizes=[list(x.shape) for x in tensors],
                    dynamic_dims_strides=[list(x.stride()) for x in tensors],
                )
                self.check = guards.check if guards.check(*tensors) else None
            except (TypeError, RuntimeError, ValueError):
                pass
        self.known = None if self.check is not None else [_nature(x) for x in tensors]

    def holds(self, tensors: Sequence[Any]) -> bool:
        """Tell whether other tensors, as many, are of the same kinds; nothing at all is of none."""
        if len(tensors) != self.count:
            return False
        if self.check is not None:
            return bool(self.check(*tensors))
        return [None if x is None else _nature(x) for x in tensors] == self.known


def _nature(x: Tensor) -> tuple[Any, ...]:
    layout = x.layout
    strides = x.stride() if str(layout) == "torch.strided" else None
    return type(x), x.dtype, x.device, layout, x.shape, strides, x.is_conj(), x.is_neg(), x._is_zerotensor()


class Places:
    """The addresses of as many tensors as were announced, read anew at each call; none of them is held.

    >>> import torch
    >>> x = torch.zeros(3)
    >>> Places(1).read([x]).tolist() == [x.data_ptr()]
    True
    """

    def __init__(self, count: int) -> None:
        self.ids: list[int] = []
        self.objects, self.places = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self.given = self.objects.ctypes.data, count, self.places.ctypes.data

    def read(self, tensors: Sequence[Tensor]) -> np.ndarray:
        """Return where tensors lie now, in an array that the next call overwrites."""
        read = _reader()
        if read is None:
            self.places[:] = [x.data_ptr() for x in tensors]
            return self.places
        ids = list(map(id, tensors))
        if ids != self.ids:
            self.ids, self.objects[:] = ids, ids
        read(*self.given)
        return self.places


@cache
def _reader() -> Any:
    """Return torch's own way from objects to addresses, looped over in compiled code; None without it."""
    if _ADDRESS is None:
        return None
    words = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p]
    kind = ctypes.PYFUNCTYPE(None, *words)  # which keeps Python's lock, as looking into objects needs
    return partial(_call, kind(machine.address_of(loops.POINTERS)), _ADDRESS)


def _call(loop: Any, address: int, objects: int, count: int, out: int) -> None:
    loop(objects, count, out, address)

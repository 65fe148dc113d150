"""Points as vectors: a number, an array, a tensor, or several of them by name, and back again."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import InputError
from thalweg.solvers.base import Vector


@dataclass(frozen=True)
class Layout:
    """How a vector is cut into the arrays or tensors of the start.

    >>> layout, x = layout_of({"w": [[1, 2], [3, 4]], "b": 5})
    >>> x.tolist(), layout.shapes
    ([1.0, 2.0, 3.0, 4.0, 5.0], {'w': (2, 2), 'b': ()})
    >>> float(layout.point(2 * x)["b"])
    10.0
    """

    kind: type  # dict, list, tuple; object for a single array
    shapes: Mapping[str, tuple[int, ...]]
    examples: Mapping[str, Any]  # the tensors of the start, whose type and device a point gets; else empty

    @property
    def is_torch(self) -> bool:
        """Whether the function takes tensors."""
        return bool(self.examples)

    def split(self, x: Vector) -> dict[str, NDArray[np.float64]]:
        """Return the parts of a vector by name, in their shapes."""
        parts, place = {}, 0
        for name, shape in self.shapes.items():
            size = int(np.prod(shape))
            parts[name] = x[place : place + size].reshape(shape)
            place += size
        return parts

    def join(self, parts: Mapping[str, Any]) -> Vector:
        """Return parts as one vector."""
        return np.concatenate([np.asarray(parts[name], np.float64).ravel() for name in self.shapes])

    def point(self, x: Vector) -> Any:
        """Return a vector as what the start was: its structure, and its kind of arrays or tensors."""
        if self.is_torch:
            torch = sys.modules["torch"]
            return self.built(
                {
                    name: torch.from_numpy(np.array(part)).to(self.examples[name])
                    for name, part in self.split(x).items()
                }
            )
        return self.built({name: np.array(part)[()] for name, part in self.split(x).items()})

    def built(self, parts: Mapping[str, Any]) -> Any:
        """Return named parts in the structure of the start."""
        if self.kind is dict:
            return dict(parts)
        if self.kind in (list, tuple):
            return self.kind(parts.values())
        return next(iter(parts.values()))

    def names(self) -> list[str]:
        """Return the name of each coordinate, for messages: ``w[0, 1]``."""
        return [
            f"{name or 'x'}[{', '.join(map(str, place))}]" if place else name or "x"
            for name, shape in self.shapes.items()
            for place in np.ndindex(shape)
        ]


def layout_of(start: Any, who: str = "the start x0") -> tuple[Layout, Vector]:
    """Return how a start is laid out, and the start as a vector of its own.

    Args:
        start: a number, a list of numbers, an array or a tensor; or a dict, or a list or tuple, of arrays
            or tensors. If there is a tensor, all are tensors, and so is what the function gets.
        who: what messages call it.

    Raises:
        InputError: it is something else, is empty, or is not finite.
    """
    if isinstance(start, Mapping):
        kind: type = dict
        parts = {str(name): part for name, part in start.items()}
    elif isinstance(start, list | tuple) and any(
        getattr(part, "shape", ()) or hasattr(part, "detach") for part in start
    ):
        kind = list if isinstance(start, list) else tuple
        parts = {str(place): part for place, part in enumerate(start)}
    else:
        kind, parts = object, {"": start}
    torch = sys.modules.get("torch")  # nobody has a tensor who did not import it
    tensors = torch is not None and any(isinstance(part, torch.Tensor) for part in parts.values())
    examples: dict[str, Any] = {}
    arrays: dict[str, NDArray[Any]] = {}
    for name, part in parts.items():
        if tensors:
            assert torch is not None
            tensor = torch.as_tensor(part).detach()
            tensor = tensor if tensor.is_floating_point() else tensor.to(torch.float64)
            examples[name] = tensor.flatten()[:0]
            part = tensor.cpu().double().numpy()
        try:
            array = np.asarray(part)
        except ValueError:  # rows of different length
            array = np.asarray(None)
        if array.dtype.kind not in "fiub":
            raise InputError(f"{who} {name}".rstrip(), "be real numbers", _short(part), "Such as [0.0, 1.0].")
        arrays[name] = array.astype(np.float64)
    layout = Layout(kind, {name: array.shape for name, array in arrays.items()}, examples)
    x = layout.join(arrays) if arrays else np.empty(0)
    if x.size == 0:
        raise InputError(who, "have a coordinate", "none")
    if not np.isfinite(x).all():
        place = int(np.flatnonzero(~np.isfinite(x))[0])
        raise InputError(who, "be finite numbers", f"{layout.names()[place]} = {x[place]}")
    return layout, x


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

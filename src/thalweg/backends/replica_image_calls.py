"""Torch's operations on images as `torch.vmap` calls them for all replicas, and what each is for one.

A convolution has replicas as groups of channels; pooling takes them for more examples. Each function returns
what it makes, and where the axis of the replicas is in each of that, counted from the last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from torch import Tensor

from thalweg.backends.replica_axes import of_one, shared
from thalweg.backends.replica_images import (
    Window,
    convolution,
    convolution_backward,
    largest,
    largest_backward,
    mean,
    mean_backward,
)
from thalweg.backends.replica_pieces import Place
from thalweg.backends.replica_values import Splat, Value, View, alike, value_of
from thalweg.backends.symbols import Untraceable


def _convolution(
    place: Place,
    x: Any,
    weight: Any,
    bias: Any,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> tuple[Value, tuple[int]]:
    rank = len(place.shape)
    back = rank - 1
    given = (
        _own(place, x, 0, back),
        _own(place, weight, 1, rank),
        None if bias is None else _own(place, bias, 2, 1),
    )
    window = Window(given[1].shape[2:], stride, padding, dilation)
    shape = of_one(place.shape, back, place.replicas)
    return convolution(place.steps, *given, shape, window, _groups(place, groups, transposed)), (back,)


def _convolution_backward(
    place: Place,
    g: Any,
    x: Any,
    weight: Any,
    bias: Any,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    mask: Sequence[bool],
) -> tuple[Any, tuple[int, ...]]:
    rank = place.node.args[2].meta["val"].dim()  # type: ignore[union-attr]
    gradient, source = _own(place, g, 0, rank - 1), _own(place, x, 1, rank - 1)
    kernels = _own(place, weight, 2, rank)
    window = Window(kernels.shape[2:], stride, padding, dilation)
    made = convolution_backward(
        place.steps, gradient, source, kernels, window, _groups(place, groups, transposed), mask
    )
    return made, (rank - 1, rank, 1)


def _groups(place: Place, groups: int, transposed: bool) -> int:
    """Return how many groups of channels one replica has."""
    if transposed or groups % place.replicas:
        raise place.mixed
    return groups // place.replicas


def _own(place: Place, x: Any, argument: int, back: int) -> Value:
    """Return an operand of one replica, whose axis of the replicas must be given."""
    if isinstance(x, Tensor):
        return value_of(shared(x, back, place.replicas))
    if place.back(place.node.args[argument]) != back:
        raise place.mixed
    return value_of(x)


def _images(place: Place, x: Any, argument: int = 0) -> Value:
    """Return images whose first axis, that of examples, holds replicas one after another."""
    value = _own(place, x, argument, 4)
    if len(value.shape) != 4:
        raise place.mixed
    return value


def _shape(place: Place) -> tuple[int, ...]:
    meta = place.node.meta["val"]
    shape = tuple((meta[0] if isinstance(meta, tuple) else meta).shape)
    return of_one(shape, len(shape), place.replicas)


def _pair(given: int | Sequence[int]) -> list[int]:
    listed = [given] if isinstance(given, int) else list(given)
    return listed * 2 if len(listed) == 1 else listed


def _window(kernel: Any, stride: Any, padding: Any, dilation: Any = 1) -> Window:
    return Window(_pair(kernel), _pair(stride or kernel), _pair(padding), _pair(dilation))


def _largest(
    place: Place,
    x: Any,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    dilation: Any = 1,
    ceil: bool = False,
) -> tuple[Any, tuple[int, ...]]:
    window = _window(kernel, stride, padding, dilation)
    return largest(place.steps, _images(place, x), _shape(place), window), (4, 4)


def _largest_backward(
    place: Place,
    g: Any,
    x: Any,
    kernel: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil: bool,
    indices: Any,
) -> tuple[Value, tuple[int]]:
    window = _window(kernel, stride, padding, dilation)
    return largest_backward(place.steps, _images(place, g), _images(place, x, 1), window), (4,)


def _tiles(image: Sequence[int], result: Sequence[int]) -> Window:
    """Return the windows that adapt to a shape, all of one size."""
    if any(n % m for n, m in zip(image[2:], result[2:], strict=True)):
        raise Untraceable(f"Windows must be of one size; got {tuple(image)} for {tuple(result)}.")
    return _window([n // m for n, m in zip(image[2:], result[2:], strict=True)], None, 0)


def _adaptive_largest(place: Place, x: Any, shape: Any) -> tuple[Any, tuple[int, ...]]:
    value = _images(place, x)
    return largest(place.steps, value, _shape(place), _tiles(value.shape, _shape(place))), (4, 4)


def _adaptive_largest_backward(place: Place, g: Any, x: Any, indices: Any) -> tuple[Value, tuple[int]]:
    value = _images(place, x, 1)
    gradient = _images(place, g)
    return largest_backward(place.steps, gradient, value, _tiles(value.shape, gradient.shape)), (4,)


def _divisor(
    window: Window, image: Sequence[int], result: Sequence[int], counted: bool, given: int | None
) -> int:
    """Return by what sums are divided, the same for all windows."""
    if given:
        return given
    for axis, padding in zip(window.axes(image[2:], result[2:]), window.padding, strict=True):
        if axis.end > axis.image + (padding if counted else 0) or (padding and not counted):
            raise Untraceable("The mean of a window must be of equally many numbers for all windows.")
    return prod(window.kernel)


def _mean(
    place: Place,
    x: Any,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil: bool = False,
    counted: bool = True,
    divisor: int | None = None,
) -> tuple[Value, tuple[int]]:
    value, window, shape = _images(place, x), _window(kernel, stride, padding), _shape(place)
    by = _divisor(window, value.shape, shape, counted, divisor)
    return mean(place.steps, value, shape, window, by), (4,)


def _mean_backward(
    place: Place,
    g: Any,
    x: Any,
    kernel: Any,
    stride: Any,
    padding: Any,
    ceil: bool,
    counted: bool,
    divisor: int | None,
) -> tuple[Value, tuple[int]]:
    gradient, window, shape = _images(place, g), _window(kernel, stride, padding), _shape(place)
    by = _divisor(window, shape, gradient.shape, counted, divisor)
    return mean_backward(place.steps, gradient, shape, window, by), (4,)


def _adaptive_mean(place: Place, x: Any, shape: Any) -> tuple[Value, tuple[int]]:
    value = _images(place, x)
    window = _tiles(value.shape, _shape(place))
    return mean(place.steps, value, _shape(place), window, prod(window.kernel)), (4,)


def _adaptive_mean_backward(place: Place, g: Any, x: Any) -> tuple[Value, tuple[int]]:
    gradient, shape = _images(place, g), _shape(place)
    window = _tiles(shape, gradient.shape)
    return mean_backward(place.steps, gradient, shape, window, prod(window.kernel)), (4,)


def _padded(place: Place, x: Value, padding: Sequence[int], number: float = 0) -> tuple[Value, tuple[int]]:
    """Put a number around an array, or cut it off where less than none is asked for."""
    view, back = place.steps.stored(x), place.back(place.node.args[0])
    around = [(0, 0)] * (len(x.shape) - len(padding) // 2)
    around += reversed(list(zip(padding[::2], padding[1::2], strict=True)))
    if any(around[len(x.shape) - back]):
        raise place.mixed
    inner = _part(view, [(max(0, -a), n - max(0, -b)) for n, (a, b) in zip(x.shape, around, strict=True)])
    if all(a <= 0 and b <= 0 for a, b in around):
        return inner, (back,)
    shape = of_one(place.shape, back, place.replicas)
    whole = alike(x, shape)
    place.steps.store(whole, Splat(number, shape, x.dtype))
    kept = [(max(0, a), n - max(0, b)) for n, (a, b) in zip(shape, around, strict=True)]
    place.steps.store(_part(whole, kept), inner)
    return whole, (back,)


def _part(x: View, ends: Sequence[tuple[int, int]]) -> View:
    offset = x.offset + sum(start * step for (start, _), step in zip(ends, x.strides, strict=True))
    return View(x.buffer, offset, tuple(stop - start for start, stop in ends), x.strides, x.dtype)


# By torch's name.
IMAGES: dict[str, Callable[..., tuple[Any, tuple[int, ...]]]] = {
    "constant_pad_nd": _padded,
    "convolution": _convolution,
    "convolution_backward": _convolution_backward,
    "max_pool2d_with_indices": _largest,
    "max_pool2d_with_indices_backward": _largest_backward,
    "adaptive_max_pool2d": _adaptive_largest,
    "adaptive_max_pool2d_backward": _adaptive_largest_backward,
    "avg_pool2d": _mean,
    "avg_pool2d_backward": _mean_backward,
    "_adaptive_avg_pool2d": _adaptive_mean,
    "_adaptive_avg_pool2d_backward": _adaptive_mean_backward,
}

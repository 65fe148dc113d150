"""What torch's operations on images take: convolutions and pooling of one replica.

Images are (examples, channels, rows, columns), or without rows; their arrays are laid out with the examples
innermost, and so is what follows from them element by element.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from thalweg.backends import replica_pooling as pooling
from thalweg.backends.replica_convolutions import Axis, Convolution, Images, convolve, correlate
from thalweg.backends.replica_pooling import Pooling
from thalweg.backends.replica_steps import Step, Steps
from thalweg.backends.replica_text import TYPES, Writer, floating
from thalweg.backends.replica_values import Buffer, Splat, Value, View, fresh, images
from thalweg.backends.symbols import Untraceable


class Window(NamedTuple):
    """How a kernel moves over images: numbers for rows and columns, or for columns only."""

    kernel: Sequence[int]
    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]

    def axes(self, image: Sequence[int], result: Sequence[int]) -> tuple[Axis, Axis]:
        """Return how it moves along rows and along columns of images without channels."""
        lists = [_pair(x, neutral) for x, neutral in zip(self, (1, 1, 0, 1), strict=True)]
        rows, columns = zip(_pair(image, 1), *lists, _pair(result, 1), strict=True)
        return Axis(*rows), Axis(*columns)


def _pair(given: Sequence[int], neutral: int) -> list[int]:
    return [neutral, *given] if len(given) == 1 else list(given)


def convolution(
    steps: Steps,
    x: Value,
    weight: Value,
    bias: Value | None,
    shape: Sequence[int],
    window: Window,
    groups: int,
) -> Value:
    """Return the convolution of images with weights (results, channels of a group, rows, columns).

    Args:
        steps: what it adds to.
        x: the images.
        weight: the kernels.
        bias: (results,), or none.
        shape: of the result.
        window: how the kernels move.
        groups: of channels, each of which is convolved on its own.
    """
    source, kernels, target = _innermost(steps, x), steps.stored(weight), images(shape, x.dtype)
    work = _convolution(source, kernels, target, window, groups)
    _add(steps, target, [source, kernels], lambda width, most: convolve(work, width, most, False))
    if bias is None:
        return target
    b = steps.stored(bias)
    after = len(shape) - 2
    return target + View(b.buffer, b.offset, (*b.shape, *[1] * after), (*b.strides, *[0] * after), b.dtype)


def convolution_backward(
    steps: Steps, g: Value, x: Value, weight: Value, window: Window, groups: int, mask: Sequence[bool]
) -> tuple[Value | None, Value | None, Value | None]:
    """Return the gradients of images, weights and bias, those that are asked for.

    Args:
        steps: what it adds to.
        g: the gradient of the result.
        x: the images.
        weight: the kernels.
        window: how the kernels move.
        groups: of channels, each of which is convolved on its own.
        mask: which gradients are asked for.
    """
    gradient, kernels = _innermost(steps, g), steps.stored(weight)
    of_images = of_weights = of_bias = None
    if mask[0]:
        of_images = images(x.shape, x.dtype)
        back = _convolution(of_images, kernels, gradient, window, groups)
        _add(steps, of_images, [gradient, kernels], lambda width, most: convolve(back, width, most, True))
    if mask[1]:
        of_weights = fresh(weight.shape, weight.dtype)
        source = _padded(steps, _innermost(steps, x), window.padding)
        work = _convolution(source, of_weights, gradient, window, groups)
        _add(steps, of_weights, [source, gradient], lambda width, most: correlate(work, width, most))
    if mask[2]:
        of_bias = steps.reduced("add", gradient, [0, *range(2, len(g.shape))], keep=False)
    return of_images, of_weights, of_bias


def largest(steps: Steps, x: Value, shape: Sequence[int], window: Window) -> tuple[View, View]:
    """Return the largest number of each window, and which of its image's pixels that is."""
    source, target, where = _innermost(steps, x), images(shape, x.dtype), images(shape, "int64")
    work = _pooling(source, target, window)
    _add(steps, target, [source], lambda width, _: pooling.largest(work, width))
    _add(steps, where, [source], lambda width, _: pooling.places(work, width))  # left out if nobody asks
    return target, where


def largest_backward(steps: Steps, g: Value, x: Value, window: Window) -> View:
    """Return the gradient of images whose largest numbers were taken."""
    source, gradient = _innermost(steps, x), _innermost(steps, g)
    made = images(x.shape, x.dtype)
    if source.strides[1:] != made.strides[1:]:  # one is found where the other is
        source = steps.store(images(x.shape, x.dtype), source)
    work = _pooling(made, gradient, window)
    _clear(steps, made, work)
    _add(steps, made, [gradient, source], lambda width, _: pooling.largest_backward(work, width))
    return made


def mean(steps: Steps, x: Value, shape: Sequence[int], window: Window, divisor: int) -> View:
    """Return the sum of each window, divided by a number."""
    source, target = _innermost(steps, x), images(shape, x.dtype)
    work = _pooling(source, target, window)
    _add(steps, target, [source], lambda width, _: pooling.mean(work, width, divisor))
    return target


def mean_backward(steps: Steps, g: Value, shape: Sequence[int], window: Window, divisor: int) -> View:
    """Return the gradient of images, given that of means of their windows."""
    gradient, made = _innermost(steps, g), images(shape, g.dtype)
    work = _pooling(made, gradient, window)
    _clear(steps, made, work)
    _add(steps, made, [gradient], lambda width, _: pooling.mean_backward(work, width, divisor))
    return made


def _add(steps: Steps, target: View, reads: Sequence[View], write: Callable[[int, int], Writer]) -> None:
    if not floating(reads[0].dtype):
        raise Untraceable(f"Images must be of floating point; got {reads[0].dtype}.")
    width = steps.machine.width * 4 // TYPES[reads[0].dtype][2]
    steps.steps.append(Step(target, reads, Buffer(0), lambda: write(width, steps.machine.registers)))


def _innermost(steps: Steps, x: Value) -> View:
    """Return images whose examples are innermost."""
    if isinstance(x, View) and (x.shape[0] == 1 or x.strides[0] == 1):
        return x
    if id(x) not in steps.turned:
        steps.turned[id(x)] = x, steps.store(images(x.shape, x.dtype), x)
    return steps.turned[id(x)][1]


def _padded(steps: Steps, x: View, padding: Sequence[int]) -> View:
    """Return images with zeros around them."""
    if not any(padding):
        return x
    around = [0, 0, *padding]
    whole = images([n + 2 * p for n, p in zip(x.shape, around, strict=True)], x.dtype)
    steps.store(whole, Splat(0.0, whole.shape, x.dtype))
    offset = sum(p * s for p, s in zip(around, whole.strides, strict=True))
    steps.store(View(whole.buffer, offset, x.shape, whole.strides, x.dtype), x)
    return whole


def _clear(steps: Steps, made: View, work: Pooling) -> None:
    if not work.tiles:
        steps.store(made, Splat(0.0, made.shape, made.dtype))


def _strides(x: View) -> Images:
    return Images(x.strides[1], *_pair(x.strides[2:], 0))


def _convolution(source: View, kernels: View, result: View, window: Window, groups: int) -> Convolution:
    rows, columns = window.axes(source.shape[2:], result.shape[2:])
    by_rows, by_columns = _pair(kernels.strides[2:], 0)
    return Convolution(
        source.shape[0],
        groups,
        kernels.shape[1],
        kernels.shape[0] // groups,
        rows,
        columns,
        _strides(source),
        _strides(result),
        (*kernels.strides[:2], by_rows, by_columns),
        source.dtype,
    )


def _pooling(source: View, result: View, window: Window) -> Pooling:
    axes = window.axes(source.shape[2:], result.shape[2:])
    return Pooling(source.shape[0], source.shape[1], *axes, _strides(source), _strides(result), source.dtype)

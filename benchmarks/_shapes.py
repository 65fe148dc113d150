"""The parameters that a step is measured on: five lists of shapes, written out by their architectures."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Tensors:
    """The shapes of a model's parameters, in the order in which its modules hold them."""

    title: str
    shapes: tuple[Shape, ...]
    # Places of matrices that methods for hidden matrices leave to AdamW: embeddings, first filters, head.
    aside: frozenset[int] = frozenset()

    @property
    def numbers(self) -> int:
        """How many numbers all tensors have together."""
        return sum(prod(shape) for shape in self.shapes)

    @property
    def hidden(self) -> tuple[int, ...]:
        """The places of the matrices and filters that methods for hidden matrices move."""
        return tuple(i for i, s in enumerate(self.shapes) if len(s) > 1 and i not in self.aside)

    def described(self) -> str:
        """Say what it is, and how large."""
        count = len(self.shapes)
        return f"{self.title}: {count:,} tensor{'s' * (count > 1)}, {self.numbers:,} numbers"


def resnet50() -> Iterator[Shape]:
    """Yield the shapes of ResNet-50 (He et al. 2015) for 1,000 classes, as torchvision builds it."""
    yield from filters(64, 3, 7)
    channels = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            yield from filters(width, channels, 1)
            yield from filters(width, width, 3)
            yield from filters(4 * width, width, 1)
            if block == 0:  # the way around a block whose output has other channels than its input
                yield from filters(4 * width, channels, 1)
            channels = 4 * width
    yield from linear(1000, channels)


def filters(out: int, into: int, side: int) -> Iterator[Shape]:
    """Yield a convolution without bias, and the scale and shift of the BatchNorm after it."""
    yield from ((out, into, side, side), (out,), (out,))


def gpt2(width: int = 768, layers: int = 12, words: int = 50_257, places: int = 1024) -> Iterator[Shape]:
    """Yield the shapes of GPT-2 small (Radford et al. 2019); its head is the first embedding, and comes once.

    Its matrices are (in, out), as OpenAI keeps them.
    """
    yield from ((words, width), (places, width))
    for _ in range(layers):
        yield from ((width,), (width,), (width, 3 * width), (3 * width,), (width, width), (width,))
        yield from ((width,), (width,), (width, 4 * width), (4 * width,), (4 * width, width), (width,))
    yield from ((width,), (width,))


def linear(out: int, into: int) -> Iterator[Shape]:
    """Yield a linear layer's weight and bias."""
    yield from ((out, into), (out,))


def _resnet50() -> Tensors:
    shapes = tuple(resnet50())
    return Tensors("ResNet-50", shapes, frozenset({0, len(shapes) - 2}))


SHAPES: Mapping[str, Tensors] = {
    "one": Tensors("One vector", ((25_000_000,),)),
    "resnet50": _resnet50(),
    "gpt2": Tensors("GPT-2 small", tuple(gpt2()), frozenset({0, 1})),
    "mlp": Tensors("MNIST MLP 784–128–10", (*linear(128, 784), *linear(10, 128)), frozenset({2})),
    "small": Tensors("Small vectors", ((1000,),) * 1000),
}
# What methods for matrices get instead of the one vector: as many numbers.
ONE_MATRIX = Tensors("One matrix", ((5000, 5000),))

"""Convolutions and pooling compiled replica by replica: what torch computes, for any shape and neighbours."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx import GraphModule
from torch.nn import functional

from thalweg.backends import replicas
from thalweg.backends.replica_graph import Lowered
from thalweg.backends.replica_steps import Machine
from thalweg.backends.replicas import Replicated
from thalweg.backends.symbols import Untraceable
from thalweg.training.fleet.recording import recorded

CLOSE = {torch.float64: 1e-12, torch.float32: 4e-6}  # relative to the largest entry of each result
DTYPES = [torch.float64, torch.float32]


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path_factory.getbasetemp() / "replicas"))


def numbers(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 1) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def squares(made: Tensor, *rest: Tensor) -> Tensor:
    return (made * made).mean()


class Fleet(NamedTuple):
    """The gradients of a model's replicas by their parameters, and by their images if these are asked for."""

    model: nn.Module
    inputs: list[Tensor]  # parameters, then the batch
    loss: Callable[..., Tensor] = squares
    by_images: bool = True

    @classmethod
    def of(cls, model: nn.Module, *batch: Tensor, **options: Any) -> "Fleet":
        x = batch[0]
        parameters = [
            0.3 * numbers(len(x), *p.shape, dtype=x.dtype, seed=i)
            for i, p in enumerate(model.parameters(), 2)
        ]
        return cls(model.to(x.dtype), [*parameters, *batch], **options)

    def gradients(self, *flat: Tensor) -> list[Tensor]:
        names = [name for name, _ in self.model.named_parameters()]
        count = len(names) + self.by_images

        def loss(flat: Sequence[Tensor]) -> Tensor:
            x, *rest = flat[len(names) :]
            return self.loss(functional_call(self.model, dict(zip(names, flat, strict=False)), (x,)), *rest)

        wanted = [x.detach().requires_grad_() for x in flat[:count]]
        with torch.enable_grad():
            found = torch.vmap(loss)([*wanted, *flat[count:]])
        return [found.detach(), *torch.autograd.grad(found, wanted, torch.ones_like(found))]

    def exact(self) -> list[Tensor]:
        return self.gradients(*(x.double() if x.is_floating_point() else x for x in self.inputs))


def graph_of(function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor]) -> GraphModule:
    """Record a function for two replicas, whatever number it will be called for."""
    return recorded(function, [x[:1].expand(2, *x.shape[1:]).contiguous() for x in inputs])


def computed(
    function: Callable[..., Sequence[Tensor]] | Replicated, inputs: Sequence[Tensor], threads: int = 2
) -> list[Tensor]:
    compiled = function if isinstance(function, Replicated) else Replicated(graph_of(function, inputs))
    outputs = [x.fill_(7) for x in compiled.outputs(len(inputs[0]))]
    compiled.run(inputs, [None] * len(inputs), outputs, threads)
    return outputs


def assert_close(got: Sequence[Tensor], wanted: Sequence[Tensor], dtype: torch.dtype) -> None:
    assert [x.shape for x in got] == [x.shape for x in wanted]
    for place, (a, b) in enumerate(zip(got, wanted, strict=True)):
        worst = ((a.double() - b).abs().max() / b.abs().max().clamp_min(1e-30)).item()
        assert worst <= CLOSE[dtype], f"result {place}: {worst:.1e} of its largest entry"


# Convolutions.

# (examples, channels, results, rows, columns), and what nn.Conv2d is told.
SHAPES: list[tuple[tuple[int, int, int, int, int], dict[str, Any]]] = [
    ((64, 1, 8, 28, 28), {"kernel_size": 3, "padding": 1}),
    ((33, 8, 16, 14, 14), {"kernel_size": 3, "padding": 1, "bias": False}),
    ((1, 1, 1, 5, 5), {"kernel_size": 1}),
    ((17, 3, 5, 7, 7), {"kernel_size": 3}),
    ((16, 17, 11, 5, 5), {"kernel_size": 3, "stride": 2, "padding": 1}),
    ((15, 13, 17, 5, 5), {"kernel_size": 1, "stride": 2}),
    ((2, 4, 6, 9, 8), {"kernel_size": 5, "stride": 2, "padding": 2}),
    ((3, 2, 3, 6, 6), {"kernel_size": 3, "padding": 2}),
    ((65, 4, 6, 9, 7), {"kernel_size": 3, "padding": 2, "dilation": 2, "groups": 2}),
    ((70, 4, 6, 9, 8), {"kernel_size": 3, "padding": 1, "dilation": 2, "stride": 2, "groups": 2}),
    ((20, 6, 6, 7, 7), {"kernel_size": 3, "padding": 1, "groups": 6}),
    ((9, 2, 5, 8, 8), {"kernel_size": (3, 5), "stride": (2, 1), "padding": (0, 2)}),
    ((4, 3, 7, 12, 12), {"kernel_size": 11, "stride": 4, "padding": 5}),
    ((130, 2, 3, 4, 4), {"kernel_size": 2, "padding": "same"}),
    ((4, 34, 40, 4, 4), {"kernel_size": 3, "padding": 1}),
    ((3, 2, 2, 1, 1), {"kernel_size": 2, "padding": 1, "dilation": 2}),  # one tap falls on a pixel, or none
]


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "told"), SHAPES)
def test_a_convolution_is_torchs(
    shape: tuple[int, int, int, int, int], told: dict[str, Any], dtype: torch.dtype
) -> None:
    """Its gradients by weights, bias and images are, to the rounding of their sums."""
    examples, channels, results, rows, columns = shape
    x = numbers(2, examples, channels, rows, columns, dtype=dtype)
    fleet = Fleet.of(nn.Conv2d(channels, results, **told), x)

    assert_close(computed(fleet.gradients, fleet.inputs), fleet.exact(), dtype)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    examples=st.integers(1, 40),
    channels=st.tuples(st.integers(1, 9), st.integers(1, 17)),
    image=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
)
def test_any_convolution_is_torchs(
    examples: int, channels: tuple[int, int], image: tuple[int, int], **window: tuple[int, int]
) -> None:
    """Windows of any size and step are placed as torch places them."""
    kernel, padding, dilation = (window[name] for name in ("kernel", "padding", "dilation"))
    axes = zip(image, kernel, padding, dilation, strict=True)
    assume(all(n + 2 * p >= (k - 1) * d + 1 for n, k, p, d in axes))
    x = numbers(2, examples, channels[0], *image, dtype=torch.float64)
    fleet = Fleet.of(nn.Conv2d(*channels, kernel, window["stride"], padding, dilation), x)

    assert_close(computed(fleet.gradients, fleet.inputs), fleet.exact(), torch.float64)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_convolution_along_one_axis_is_torchs(dtype: torch.dtype) -> None:
    """So are convolutions and pooling of series, which are images of one row."""
    model = nn.Sequential(
        *(nn.Conv1d(2, 5, 3, padding=1), nn.ReLU(), nn.MaxPool1d(2)),
        *(nn.Conv1d(5, 3, 3, stride=2, bias=False), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(3, 2)),
    )
    fleet = Fleet.of(model, numbers(2, 19, 2, 12, dtype=dtype))

    assert_close(computed(fleet.gradients, fleet.inputs), fleet.exact(), dtype)


@pytest.mark.parametrize("rank", [1, 2])
def test_replicas_as_groups_of_one_convolution_are_torchs(rank: int) -> None:
    """Also with a bias that is part of it, which `torch.vmap` adds apart."""
    shapes = [(2, 4, 3, *[3] * rank), (2, 4), (2, 5, 3, *[6] * rank)]
    inputs = [numbers(*shape, dtype=torch.float64, seed=i) for i, shape in enumerate(shapes)]
    convolution = functional.conv1d if rank == 1 else functional.conv2d

    def function(*inputs: Tensor) -> list[Tensor]:
        given = [x.detach().requires_grad_() for x in inputs]
        weight, bias, x = given
        with torch.enable_grad():
            merged = weight.flatten(0, 1), bias.flatten(), x.transpose(0, 1).flatten(1, 2)
            made = convolution(merged[2], merged[0], merged[1], groups=len(x), padding=1)
            apart = made.unflatten(1, (len(x), -1)).transpose(0, 1).square()
            gradients = torch.autograd.grad(apart, given, torch.ones_like(apart))
        return [apart.detach().contiguous(), *gradients]

    assert_close(computed(function, inputs), function(*inputs), torch.float64)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Sequential(nn.ZeroPad2d((1, 0, 2, -1)), nn.Conv2d(3, 2, 3)),
        nn.Sequential(nn.Conv2d(3, 2, 3), nn.ConstantPad2d(1, 0.5), nn.Conv2d(2, 2, 2)),
        nn.Sequential(nn.Conv2d(3, 2, 1), nn.ZeroPad2d(-1), nn.Conv2d(2, 2, 2)),
    ],
)
def test_images_can_be_padded(layer: nn.Module) -> None:
    """With numbers around them, or less than none."""
    fleet = Fleet.of(layer, numbers(2, 17, 3, 6, 5, dtype=torch.float64))

    assert_close(computed(fleet.gradients, fleet.inputs), fleet.exact(), torch.float64)


def test_a_gradient_can_be_the_same_for_all_replicas() -> None:
    """As that of a mean is."""
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.AvgPool2d(2), nn.Conv2d(3, 2, 2))
    fleet = Fleet.of(model, numbers(2, 9, 2, 7, 7, dtype=torch.float64), loss=torch.mean)

    assert_close(computed(fleet.gradients, fleet.inputs), fleet.exact(), torch.float64)


@pytest.mark.parametrize("machine", [Machine(8, 16), Machine(4, 16)])
def test_narrow_vectors_do_as_well(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are cut for what the processor has."""
    monkeypatch.setattr(replicas, "_machine", lambda: machine)
    model = nn.Sequential(nn.Conv2d(3, 7, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(7, 2, 5, padding=2))
    fleet = Fleet.of(model, numbers(2, 21, 3, 6, 6))

    assert_close(computed(fleet.gradients, fleet.inputs), fleet.exact(), torch.float32)


# Pooling.

POOLS: dict[str, tuple[nn.Module, tuple[int, int]]] = {
    "max": (nn.MaxPool2d(2), (6, 8)),
    "max, with pixels left over": (nn.MaxPool2d(2), (7, 5)),
    "max, rounded up": (nn.MaxPool2d(2, ceil_mode=True), (7, 5)),
    "max, overlapping": (nn.MaxPool2d(3, 2, 1), (7, 7)),
    "max, apart": (nn.MaxPool2d((1, 2), (2, 3), dilation=2), (6, 9)),
    "max of large windows": (nn.MaxPool2d(5, 4, 2, dilation=2), (12, 13)),
    "max of all": (nn.AdaptiveMaxPool2d(1), (7, 6)),
    "mean": (nn.AvgPool2d(2), (6, 8)),
    "mean, with pixels left over": (nn.AvgPool2d(2), (5, 7)),
    "mean, overlapping": (nn.AvgPool2d(3, 2, 1), (7, 7)),
    "mean, divided": (nn.AvgPool2d(2, 2, 1, count_include_pad=False, divisor_override=3), (6, 6)),
    "mean of large windows": (nn.AvgPool2d(4, 3), (13, 10)),
    "mean of all": (nn.AdaptiveAvgPool2d(1), (7, 6)),
    "mean of quarters": (nn.AdaptiveAvgPool2d(2), (6, 8)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("examples", [1, 16, 37])
def test_pooling_is_torchs(pool: str, examples: int, dtype: torch.dtype) -> None:
    """Largest numbers, means and their gradients are, behind a convolution and ahead of a layer."""
    layer, image = POOLS[pool]
    size = layer(torch.zeros(1, 3, *image)).numel()
    model = nn.Sequential(nn.Conv2d(2, 3, 1), layer, nn.Flatten(), nn.Linear(size, 4))
    fleet = Fleet.of(model, numbers(2, examples, 2, *image, dtype=dtype))

    assert_close(computed(fleet.gradients, fleet.inputs), fleet.exact(), dtype)


def _odd(dtype: torch.dtype) -> Tensor:
    """Images with ties, with NaN, and with windows of nothing but −∞."""
    x = numbers(3, 19, 2, 7, 7, dtype=dtype).mul(2).round()
    x[0, ::3, :, 1:4, ::2] = math.nan
    x[0, 1, :, 1, 1:4] = math.inf
    x[1] = -math.inf
    x[2, 4, 1] = -0.0
    x[2, 5, 0, :, 2] = math.nan
    return x


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "told",
    [{"kernel_size": 2}, {"kernel_size": 3, "stride": 2, "padding": 1}, {"kernel_size": 4, "stride": 3}],
)
def test_the_largest_is_the_one_that_torch_chooses(told: dict[str, Any], dtype: torch.dtype) -> None:
    """Of equals the first; NaN before all numbers; where nothing is larger than −∞ the first pixel."""
    x = _odd(dtype)

    def found(x: Tensor) -> list[Tensor]:
        def one(x: Tensor) -> tuple[Tensor, Tensor]:
            return functional.max_pool2d(x, **told, return_indices=True)

        given = x.detach().requires_grad_()
        with torch.enable_grad():
            values, places = torch.vmap(one)(given)
        shape = values.shape[1:]
        factors = torch.linspace(1, 2, math.prod(shape), dtype=dtype).reshape(shape)
        grad = torch.autograd.grad(values, given, factors.expand(values.shape))
        return [values.detach(), places, *grad]

    got, wanted = computed(found, [x]), found(x)

    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=0 if b.dtype == torch.int64 else 1e-6, atol=0, equal_nan=True)


def test_where_the_largest_stand_is_computed_only_for_those_who_ask() -> None:
    """A gradient looks for them itself."""
    fleet = Fleet.of(nn.MaxPool2d(2), numbers(2, 3, 1, 4, 4))
    steps = Lowered(graph_of(fleet.gradients, fleet.inputs), Machine(16, 32)).work.steps

    assert not any(step.target.dtype == "int64" for step in steps)


# Networks.


def classifier(channels: int = 1, size: int = 28) -> nn.Module:
    left = size // 4
    return nn.Sequential(
        *(nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(16 * left * left, 10)),
    )


def classified(replicas: int, examples: int, size: int = 28, dtype: torch.dtype = torch.float32) -> Fleet:
    x = numbers(replicas, examples, 1, size, size, dtype=dtype)
    labels = torch.randint(10, (replicas, examples), generator=torch.Generator().manual_seed(5))
    return Fleet.of(classifier(size=size), x, labels, loss=functional.cross_entropy, by_images=False)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("examples", [1, 6, 64])
def test_a_network_is_torchs(examples: int, dtype: torch.dtype) -> None:
    """The loss and all gradients of a classifier of images are."""
    fleet = classified(2, examples, dtype=dtype)

    assert_close(computed(fleet.gradients, fleet.inputs), fleet.exact(), dtype)


def test_all_kinds_of_layers_go_together() -> None:
    """Strides, groups, means, activations and sums across layers, as in networks of residues."""

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.start = nn.Conv2d(3, 6, 3, padding=1)
            self.wide, self.deep = nn.Conv2d(6, 12, 1), nn.Conv2d(12, 12, 3, padding=1, groups=12)
            self.down, self.short = nn.Conv2d(12, 8, 3, 2, 1), nn.Conv2d(6, 8, 1, 2, bias=False)
            self.head = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = functional.silu(self.start(x))
            y = functional.gelu(self.deep(functional.relu(self.wide(x))))
            x = functional.tanh(self.down(y) + self.short(x))
            return self.head(functional.adaptive_avg_pool2d(x, 1).flatten(1))

    fleet = Fleet.of(Network(), numbers(2, 18, 3, 9, 9, dtype=torch.float64))

    assert_close(computed(fleet.gradients, fleet.inputs), fleet.exact(), torch.float64)


def test_results_lie_as_torch_lays_them() -> None:
    """What a convolution makes can be a result, turned, cut and added up along any axes."""
    x, weight = numbers(2, 5, 3, 6, 7), numbers(2, 4, 3, 3, 3, seed=3)

    def one(x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        made = functional.conv2d(x, weight)
        axes = (
            made.sum(1),
            made.amax((0, 2)),
            made.mean((2, 3)),
            made.sum((0, 3), keepdim=True),
            made.argmax(1),
        )
        turned = made.permute(2, 0, 3, 1)
        return (
            made,
            made.relu(),
            turned,
            turned + 1,
            made[1:4, ::2, 1:] * 2,
            made.flatten(1).softmax(1),
            *axes,
        )

    def function(*given: Tensor) -> list[Tensor]:
        return list(torch.vmap(one)(*given))

    got, wanted = computed(function, [x, weight]), function(x, weight)

    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


# Replicas.


@pytest.mark.parametrize("threads", [1, 2])
def test_neighbours_change_nothing(threads: int) -> None:
    """A replica gets the same bits alone, among others, and beside one that has diverged."""
    fleet = classified(5, 9, size=12)
    compiled = Replicated(graph_of(fleet.gradients, fleet.inputs))
    together = computed(compiled, fleet.inputs, threads)
    broken = [x.clone() for x in fleet.inputs]
    for x in broken[:6]:
        x[1] = math.nan
    beside = computed(compiled, broken, threads)

    for k in range(5):
        alone = computed(compiled, [x[k : k + 1].clone() for x in fleet.inputs], 1)
        for a, b, c in zip(alone, together, beside, strict=True):
            assert torch.equal(a[0], b[k])
            assert torch.equal(a[0], c[k]) if k != 1 else bool(c[k].isnan().all())


# What is refused.


@pytest.mark.parametrize(
    "layer",
    [
        nn.ConvTranspose2d(2, 3, 2),
        nn.AdaptiveAvgPool2d(3),
        nn.AdaptiveMaxPool2d(3),
        nn.AvgPool2d(2, padding=1, count_include_pad=False),
        nn.AvgPool2d(2, ceil_mode=True),
    ],
)
def test_what_windows_do_not_share_is_refused(layer: nn.Module) -> None:
    """Torch then does it, replica beside replica."""
    fleet = Fleet.of(nn.Sequential(nn.Conv2d(2, 2, 1), layer), numbers(2, 3, 2, 7, 7))

    with pytest.raises(Untraceable):
        Replicated(graph_of(fleet.gradients, fleet.inputs))


def test_images_of_all_replicas_are_refused() -> None:
    """Replicas that share their weights would be convolved as one."""
    weight = numbers(3, 2, 3, 3)
    graph = recorded(
        lambda x: [torch.vmap(lambda x: functional.conv2d(x, weight))(x)], [numbers(2, 4, 2, 5, 5)]
    )

    with pytest.raises(Untraceable):
        Replicated(graph)

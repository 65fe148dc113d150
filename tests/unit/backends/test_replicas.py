"""The gradient of a network compiled replica by replica: what torch computes, for each replica on its own."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional

from thalweg.backends import replicas
from thalweg.backends.replica_steps import Machine
from thalweg.backends.replicas import Replicated
from thalweg.backends.symbols import Untraceable
from thalweg.errors import InputError
from thalweg.tasks import losses
from thalweg.tasks.models import mlp

# Relative to the largest entry of each result: sums of up to a thousand products, each of a few roundings.
CLOSE = {torch.float64: 1e-12, torch.float32: 4e-6}


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path_factory.getbasetemp() / "replicas"))


class Fleet(NamedTuple):
    """A traced gradient, and what it is given: parameters, then the batch."""

    graph: GraphModule
    inputs: list[Tensor]


def fleet(model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Fleet:
    """Trace the gradients of replicas with parameters of their own; x and y hold a batch for each."""
    model = model.to(x.dtype)
    names = [name for name, _ in model.named_parameters()]
    start = torch.Generator().manual_seed(0)
    parameters = [
        0.5 * torch.randn(len(x), *p.shape, dtype=x.dtype, generator=start) for p in model.parameters()
    ]

    def of_one(p: Sequence[Tensor], batch: Sequence[Tensor]) -> Tensor:
        made = functional_call(model, dict(zip(names, p, strict=True)), (batch[0],))
        return loss(made, batch[1])

    def gradients(ps: Sequence[Tensor], batch: Sequence[Tensor]) -> tuple[Tensor, ...]:
        ps = [p.detach().requires_grad_() for p in ps]
        found = torch.vmap(of_one, randomness="different")(ps, batch)
        grads = torch.autograd.grad(found, ps, torch.ones_like(found), allow_unused=True)
        return found.detach(), *(g for g in grads if g is not None)

    return Fleet(make_fx(gradients)(parameters, [x, y]), [*parameters, x, y])


def flat(graph: GraphModule, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Return what torch makes of the inputs, one operation after the other."""
    with torch.no_grad():
        return list(torch.fx.Interpreter(Bare(graph)).run(*inputs))


class Bare(GraphModule):
    """A graph that takes its inputs one by one."""

    def __init__(self, graph: GraphModule) -> None:
        bare = torch.fx.Graph()
        bare.output(bare.graph_copy(graph.graph, {}))
        super().__init__(graph, bare)


def computed(
    graph: GraphModule | Replicated,
    inputs: Sequence[Tensor],
    like: Sequence[Tensor],
    places: Sequence[np.ndarray | None] | None = None,
    threads: int = 2,
) -> list[Tensor]:
    """Return what compiled code makes of the inputs, in new tensors."""
    compiled = graph if isinstance(graph, Replicated) else Replicated(graph)
    outputs = [torch.full(x.shape, 7, dtype=x.dtype) for x in like]
    compiled.run(inputs, places or [None] * len(inputs), outputs, threads)
    return outputs


def assert_close(got: Sequence[Tensor], wanted: Sequence[Tensor], dtype: torch.dtype) -> None:
    assert len(got) == len(wanted)
    for place, (a, b) in enumerate(zip(got, wanted, strict=True)):
        scale = b.abs().max().clamp_min(1e-30)
        worst = ((a - b).abs().max() / scale).item()
        assert worst <= CLOSE[dtype], f"result {place}: {worst:.1e} of its largest entry"


def numbers(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 1) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def classes(*shape: int, count: int, seed: int = 2) -> Tensor:
    return torch.randint(count, shape, generator=torch.Generator().manual_seed(seed))


# Networks and losses.

WEIGHTS = torch.linspace(0.5, 2, 10, dtype=torch.float64)
ONE = (13, 7, 1)
CLASSIFICATION: dict[str, Any] = {
    "cross-entropy": losses.categorical_cross_entropy,
    "weighted": lambda z, y: losses.categorical_cross_entropy(z, y, WEIGHTS),
    "smoothed": lambda z, y: functional.cross_entropy(z, y, label_smoothing=0.1),
    "focal": losses.categorical_focal,
    "weighted focal": lambda z, y: losses.categorical_focal(z, y, WEIGHTS),
}
BINARY: dict[str, Any] = {
    "binary": losses.binary_cross_entropy,
    "weighted binary": lambda z, y: losses.binary_cross_entropy(z, y, WEIGHTS[:2]),
    "binary focal": losses.binary_focal,
}
REGRESSION: dict[str, Any] = {
    "squared": losses.mean_squared_error,
    "absolute": losses.mean_absolute_error,
    "huber": losses.huber,
    "smooth": functional.smooth_l1_loss,
}
ACTIVATIONS: dict[str, Any] = {
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "gelu of tanh": lambda: nn.GELU("tanh"),
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "leaky": nn.LeakyReLU,
    "softplus": nn.Softplus,
    "softsign": nn.Softsign,
    "log sigmoid": nn.LogSigmoid,
    "hard": nn.Hardtanh,
    "softmax": lambda: nn.Softmax(-1),
    "layer norm": lambda: nn.LayerNorm(7),
    "rms norm": lambda: nn.RMSNorm(7),
}


def network(sizes: Sequence[int], activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    return nn.Sequential(*(activation() if isinstance(x, nn.ReLU) else x for x in mlp(sizes)))


def case(name: str, dtype: torch.dtype, replicas: int = 3, batch: int = 29) -> Fleet:
    x = numbers(replicas, batch, 13, dtype=dtype)
    if name in CLASSIFICATION:
        return fleet(network((13, 7, 10)), CLASSIFICATION[name], x, classes(replicas, batch, count=10))
    if name in ACTIVATIONS:
        model = network((13, 7, 10), ACTIVATIONS[name])
        return fleet(model, functional.cross_entropy, x, classes(replicas, batch, count=10))
    model = nn.Sequential(network(ONE), nn.Flatten(0))
    if name in BINARY:
        return fleet(model, BINARY[name], x, classes(replicas, batch, count=2))
    return fleet(model, REGRESSION[name], x, numbers(replicas, batch, dtype=dtype, seed=3))


@pytest.mark.parametrize("name", [*CLASSIFICATION, *BINARY, *REGRESSION, *ACTIVATIONS])
def test_gradients_of_every_loss_and_activation_are_torchs(name: str) -> None:
    graph, inputs = case(name, torch.float64)

    assert_close(computed(graph, inputs, wanted := flat(graph, inputs)), wanted, torch.float64)


# Digits, MNIST, breast cancer, diabetes, wine: their widths and batches.
TASKS = [(64, 32, 10, 32), (784, 128, 10, 64), (30, 32, 2, 32), (10, 32, 1, 32), (13, 32, 3, 16)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("features", "width", "last", "batch"), TASKS)
def test_gradients_of_the_built_in_tasks_are_torchs(
    features: int, width: int, last: int, batch: int, dtype: torch.dtype
) -> None:
    loss: Any = functional.cross_entropy if last > 1 else functional.mse_loss
    y = classes(2, batch, count=last) if last > 1 else numbers(2, batch, 1, dtype=dtype)
    model = mlp([features, width, last])
    graph, inputs = fleet(model, loss, numbers(2, batch, features, dtype=dtype), y)
    exact = [x.double() if x.is_floating_point() else x for x in inputs]
    precise, _ = fleet(model, loss, exact[-2], exact[-1])

    got = computed(graph, inputs, flat(graph, inputs))

    assert {x.dtype for x in got} == {dtype}
    assert_close([x.double() for x in got], flat(precise, exact), dtype)


@settings(max_examples=12, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 35), min_size=2, max_size=4),
    batch=st.integers(1, 40),
    activation=st.sampled_from([nn.ReLU, nn.Tanh, nn.Sigmoid]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    small=st.booleans(),
)
def test_gradients_of_any_small_network_are_torchs(
    sizes: list[int], batch: int, activation: Any, dtype: torch.dtype, small: bool
) -> None:
    x = numbers(2, batch, sizes[0], dtype=dtype)
    graph, inputs = fleet(
        network(sizes, activation), functional.mse_loss, x, numbers(2, batch, sizes[-1], dtype=dtype)
    )
    with pytest.MonkeyPatch.context() as patch:
        if small:  # a processor of half the vectors, of half the length
            patch.setattr(replicas, "_machine", lambda: Machine(8, 16))

        got = computed(graph, inputs, wanted := flat(graph, inputs))

    assert_close(got, wanted, dtype)


# Single operations, on all that is special.

SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.0, -3.0, 1e-3, 20.0, -20.0, 90.0, -800.0, 1e30]
UNLIKE = [float("inf"), -float("inf"), float("nan")]
OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": lambda x, y: torch.add(x, y, alpha=2),
    "subtract": lambda x, y: torch.sub(x, y, alpha=3),
    "from a number": lambda x, y: 1 - x,
    "multiply": lambda x, y: x * y * 2.5,
    "divide": lambda x, y: x / y,
    "by a number": lambda x, y: x / 3,
    "negative": lambda x, y: -x,
    "relu": lambda x, y: torch.relu(x),
    "threshold": lambda x, y: torch.ops.aten.threshold_backward(y, x, 0),
    "sigmoid": lambda x, y: torch.sigmoid(x),
    "tanh": lambda x, y: torch.tanh(x),
    "absolute": lambda x, y: x.abs(),
    "sign": lambda x, y: x.sign(),
    "root": lambda x, y: x.sqrt(),
    "root below": lambda x, y: x.rsqrt(),
    "reciprocal": lambda x, y: x.reciprocal(),
    "square": lambda x, y: x.square(),
    "cube": lambda x, y: x**3,
    "power": lambda x, y: x.abs() ** 1.7,
    "exponential": lambda x, y: x.exp(),
    "exponential less one": lambda x, y: x.expm1(),
    "logarithm": lambda x, y: x.log(),
    "logarithm of one more": lambda x, y: x.log1p(),
    "error function": lambda x, y: x.erf(),
    "sine": lambda x, y: x.sin(),
    "equal": lambda x, y: x == y,
    "unequal": lambda x, y: x != 1,
    "less": lambda x, y: x < y,
    "at most": lambda x, y: x <= 0,
    "greater": lambda x, y: x > y,
    "at least": lambda x, y: x >= 0.5,
    "less of truths": lambda x, y: (x > 0) < (y > 0),
    "both as a product": lambda x, y: (x > 0) * (y > 0),
    "where": lambda x, y: torch.where(x > y, x, 0.0),
    "not": lambda x, y: torch.logical_not(x),
    "both": lambda x, y: (x > 0) & ~(y > 0),
    "either": lambda x, y: torch.logical_or(x, y > 0),
    "clamp": lambda x, y: x.clamp(-1, 2),
    "clamp below": lambda x, y: x.clamp_min(0.25),
    "larger": lambda x, y: torch.maximum(x, y),
    "smaller": lambda x, y: torch.minimum(x, y),
    "masked": lambda x, y: x.masked_fill(y > 0, -torch.inf),
    "as whole numbers": lambda x, y: (x > y).to(torch.int64),
    "as floating point": lambda x, y: (x > y).to(x.dtype),
    "zeros": lambda x, y: torch.zeros_like(x) + y,
    "full": lambda x, y: torch.full_like(x, 2.5),
    "sum of columns": lambda x, y: x.sum(1),
    "sum of rows": lambda x, y: x.sum(-1, keepdim=True),
    "sum of all": lambda x, y: x.sum((1, 2)),
    "mean": lambda x, y: (x * y).mean(2),
    "count": lambda x, y: (x > y).sum(2),
    "count of all": lambda x, y: torch.ones_like(x).sum((1, 2)),
    "count of truths": lambda x, y: torch.ones_like(x, dtype=torch.bool).sum(1),
    "one number": lambda x, y: torch.tensor(2.5, dtype=x.dtype).expand(x.shape[0]),
    "largest of columns": lambda x, y: x.amax(1),
    "largest of rows": lambda x, y: x.amax(2, keepdim=True),
    "smallest": lambda x, y: x.amin((1, 2)),
    "where the largest stands": lambda x, y: x.argmax(2),
    "where the largest of columns stands": lambda x, y: x.argmax(1, keepdim=True),
    "where the smallest stands": lambda x, y: y.argmin(-1),
    "largest, times where it stands": lambda x, y: x.max(2).values * x.max(2).indices,
    "smallest of columns": lambda x, y: y.min(1, keepdim=True).values,
    "softmax": lambda x, y: x.softmax(2),
    "softmax of columns": lambda x, y: x.softmax(1),
    "log softmax": lambda x, y: x.log_softmax(2),
    "log of the sum": lambda x, y: x.logsumexp(2),
    "transposed": lambda x, y: x.transpose(1, 2) * 2,
    "plus its transpose": lambda x, y: x[:, :, :3] + x[:, :, :3].transpose(1, 2),
    "part": lambda x, y: x[:, 1:, 2::3],
    "one row": lambda x, y: x[:, 1] + y[:, 0],
    "reshaped": lambda x, y: x.transpose(1, 2).reshape(x.shape[0], -1),
    "spread": lambda x, y: x[:, :, :1].expand(-1, -1, 5) + 0,
    "pieces": lambda x, y: x.split(2, 1)[0] * 2,
    "product": lambda x, y: torch.bmm(x, y.transpose(1, 2)),
    "product of a part": lambda x, y: torch.bmm(x[:, :, ::2], y[:, :, ::2].transpose(1, 2)),
    "product and sum": lambda x, y: torch.baddbmm(x[:, :, :3], x, y.transpose(1, 2), beta=2, alpha=3),
    "constants": lambda x, y: x + torch.arange(x.shape[2], dtype=x.dtype),
    "norm": lambda x, y: functional.layer_norm(x, x.shape[2:]),
}


def operands(dtype: torch.dtype, special: bool) -> list[Tensor]:
    if not special:
        return [numbers(3, 3, 19, dtype=dtype, seed=seed) for seed in (4, 5)]
    start = np.random.default_rng(6)
    return [torch.from_numpy(start.choice(SPECIAL + UNLIKE, (3, 3, 19))).to(dtype) for _ in range(2)]


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_operation_is_torchs(dtype: torch.dtype, special: bool) -> None:
    x, y = operands(dtype, special)
    graph = make_fx(lambda x, y: [f(x, y) for f in OPERATIONS.values()])(x, y)

    wanted = flat(graph, [x, y])
    got = computed(graph, [x, y], wanted)

    # Four units in the last place of what was rounded last, and what cancels.
    close = 4 * torch.finfo(dtype).eps
    for name, a, b in zip(OPERATIONS, got, wanted, strict=True):
        torch.testing.assert_close(
            a, b, rtol=close, atol=4 * close, equal_nan=True, msg=lambda m, n=name: n + m
        )


INDEXED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "looked up": lambda x, i: x.gather(2, i.unsqueeze(2)),
    "looked up in columns": lambda x, i: x.gather(1, i[:, :2].unsqueeze(1).expand(-1, 2, -1).clamp(max=2)),
    "scattered": lambda x, i: torch.zeros_like(x).scatter(2, i.unsqueeze(2), 1.0),
    "scattered and added": lambda x, i: x.scatter_add(2, i.unsqueeze(2), x[:, :, :1]),
    "weights": lambda x, i: torch.tensor([0.5, 1.0, 2.0, 4.0, 8.0])[i],
    "from the end": lambda x, i: torch.tensor([0.5, 1.0, 2.0, 4.0, 8.0])[i - 5],
    "chosen": lambda x, i: torch.where(i != 2, i, 0) * 2,
    "smallest whole number, and where it stands": lambda x, i: i.min(1).values * 10 + i.min(1).indices,
    "right": lambda x, i: (x[:, :, :5].argmax(2) == i).to(torch.float32).sum(1),
    "whole numbers": lambda x, i: i.sum(1) - (-i).amax(1) + i.abs().amin(1),
    "as floating point": lambda x, i: i.to(x.dtype) / 2,
}


def test_places_are_looked_up_as_torch_does() -> None:
    x, i = numbers(3, 3, 19), classes(3, 3, count=5)
    graph = make_fx(lambda x, i: [f(x, i) for f in INDEXED.values()])(x, i)

    for name, a, b in zip(
        INDEXED, computed(graph, [x, i], wanted := flat(graph, [x, i])), wanted, strict=True
    ):
        assert torch.equal(a, b), name


def test_an_index_that_points_outside_gives_nan() -> None:
    x, i = numbers(2, 3, 4), classes(2, 3, count=4)
    graph = make_fx(lambda x, i: x.gather(2, i.unsqueeze(2)))(x, i)

    for outside in (4, -1, 2**62):
        i[1, 2] = outside
        (got,) = computed(graph, [x, i], [x[:, :, :1]])
        assert got.isnan().nonzero().tolist() == [[1, 2, 0]]


def test_bytes_and_truths_are_read() -> None:
    x = torch.tensor([[0, 1, 200], [7, 0, 255]], dtype=torch.uint8)
    graph = make_fx(lambda x, t: [x.to(torch.float32) / 2, x > 100, torch.where(t, x, 3), x.sum(1)])
    truths = torch.tensor([[True, False, True], [False, False, True]])

    wanted = [x / 2, x > 100, torch.where(truths, x, 3), x.sum(1)]
    got = computed(graph(x, truths), [x, truths], wanted)

    assert [a.tolist() for a in got] == [b.tolist() for b in wanted]


# Functions of float32, against float64.

# The largest error in units of the last place.
ACCURACY = {"exp": 1.0, "log": 1.0, "tanh": 2.0, "log1p": 3.0, "erf": 2.0}


@pytest.mark.parametrize("name", ACCURACY)
def test_functions_of_float32_are_accurate_everywhere(name: str) -> None:
    f = getattr(torch, name)
    anything = np.random.default_rng(0).integers(0, 2**32, 50_000, np.uint32).view(np.float32)
    special = np.array([*SPECIAL, *UNLIKE, 1e-45, -1e-45, 88.72, 88.73, -87.4, -103.9, -104.1], np.float32)
    lines = [np.linspace(low, high, 50_000, dtype=np.float32) for low, high in ((-110, 95), (-1, 2))]
    x = torch.from_numpy(np.concatenate([anything, special, *lines]))[None]

    (got,) = computed(make_fx(f)(x), [x], [x])

    wanted = f(x.double())
    rounded = wanted.float()
    last = torch.from_numpy(np.spacing(rounded.abs().clamp(max=3e38).numpy())).double()
    error = ((got.double() - wanted).abs() / last)[rounded.isfinite()]
    assert error.max().item() <= ACCURACY[name]
    torch.testing.assert_close(got[~rounded.isfinite()], rounded[~rounded.isfinite()], equal_nan=True)


# Replicas.


def bits(x: Tensor) -> Tensor:
    return x.view(torch.int32)


def test_a_replica_gets_the_same_bits_whatever_the_others_are() -> None:
    graph, inputs = fleet(
        mlp([13, 17, 10]), functional.cross_entropy, numbers(70, 29, 13), classes(70, 29, count=10)
    )
    compiled, like = Replicated(graph), flat(graph, inputs)
    got = computed(compiled, inputs, like)

    alone = computed(compiled, [x[13:14] for x in inputs], [x[:1] for x in like], threads=1)
    broken = [torch.full_like(x, torch.nan) if x.is_floating_point() else x.clone() for x in inputs]
    broken[0][5:9] = torch.inf
    for x, y in zip(broken, inputs, strict=True):
        x[13] = y[13]
    among = computed(compiled, broken, like)
    single = computed(compiled, inputs, like, threads=1)

    assert_close(got, like, torch.float32)
    assert all(torch.equal(bits(a), bits(b)) for a, b in zip(got, single, strict=True))
    assert all(torch.equal(bits(a[13]), bits(b[0])) for a, b in zip(got, alone, strict=True))
    assert all(torch.equal(bits(a[13]), bits(b[13])) for a, b in zip(got, among, strict=True))
    assert all(bool(x[12].isnan().all()) for x in among[:1])


def test_code_does_not_depend_on_how_many_replicas_there_are() -> None:
    few, _ = case("cross-entropy", torch.float32, replicas=2)
    many, inputs = case("cross-entropy", torch.float32, replicas=70)
    single, _ = case("cross-entropy", torch.float32, replicas=1)

    assert Replicated(few).text == Replicated(many).text == Replicated(single).text
    assert_close(computed(few, inputs, wanted := flat(many, inputs)), wanted, torch.float32)


def test_replicas_share_a_batch_by_its_place() -> None:
    graph, inputs = case("cross-entropy", torch.float32, replicas=7)
    *parameters, x, y = inputs
    places = np.array([2, 0, 0, 1, 2, 2, 1])
    given: list[Any] = [None] * len(parameters) + [places, places]

    wanted = flat(graph, [*parameters, x[places], y[places]])
    compiled = Replicated(graph)
    got = computed(compiled, [*parameters, x[:3].clone(), y[:3].clone()], wanted, given)
    assert_close(got, wanted, torch.float32)

    places[:] = places[::-1].copy()  # in place: it is looked at in every call
    got = computed(compiled, [*parameters, x[:3].clone(), y[:3].clone()], wanted, given)
    assert_close(got, flat(graph, [*parameters, x[places], y[places]]), torch.float32)


def test_tensors_that_moved_are_followed() -> None:
    graph, inputs = case("squared", torch.float32)
    compiled, wanted = Replicated(graph), flat(graph, inputs)
    outputs = [torch.empty(x.shape) for x in wanted]
    compiled.run(inputs, [None] * len(inputs), outputs, 1)

    inputs[0].mul_(2)
    compiled.run(inputs, [None] * len(inputs), outputs, 1)
    assert_close(outputs, flat(graph, inputs), torch.float32)

    moved = [x.clone() for x in inputs]
    moved[1].add_(1)
    compiled.run(moved, [None] * len(inputs), outputs, 1)
    assert_close(outputs, flat(graph, moved), torch.float32)


def test_what_does_not_fit_is_refused_before_anything_is_read() -> None:
    x = numbers(3, 4, 5)
    compiled = Replicated(make_fx(lambda x: x * 2)(x))
    out = torch.empty(3, 4, 5)

    for wrong, place, problem in [
        (numbers(3, 5, 4), None, "be dense"),
        (x.double(), None, "be dense"),
        (numbers(3, 5, 4).transpose(1, 2), None, "be dense"),
        (numbers(2, 4, 5), None, "be 3 numbers from 0 to 1"),
        (x, np.array([0, 1, 3]), "be 3 numbers from 0 to 2"),
        (x, np.array([0, -1, 2]), "be 3 numbers from 0 to 2"),
        (x, np.array([0, 1]), "be 3 numbers from 0 to 2"),
    ]:
        with pytest.raises(InputError, match=problem):
            compiled.run([wrong], [place], [out], 1)
    with pytest.raises(InputError, match="be 1 inputs, as many places and 1 outputs"):
        compiled.run([x, x], [None, None], [out], 1)
    compiled.run([x], [None], [out], 1)
    assert torch.equal(out, x * 2)


def test_changes_in_place_are_seen_by_what_follows_them() -> None:
    def f(x: Tensor) -> list[Tensor]:
        y = x * 2
        z = y + 1
        y.add_(3).mul_(x)
        w = torch.empty_like(x).fill_(2).sub_(y)
        return [y, z, w, x.clone().exp_()]

    x = numbers(2, 3, 5)
    for a, b in zip(computed(make_fx(f)(x), [x], wanted := f(x)), wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_results_may_be_inputs_constants_and_one_another() -> None:
    def f(x: Tensor, y: Tensor) -> list[Tensor]:
        z = torch.bmm(x, y)
        return [x, z, z.transpose(1, 2), z, torch.ones_like(x), y.transpose(1, 2)]

    x, y = numbers(2, 3, 5), numbers(2, 5, 4)
    for a, b in zip(computed(make_fx(f)(x, y), [x, y], wanted := f(x, y)), wanted, strict=True):
        torch.testing.assert_close(a, b.contiguous())


# What is refused.


def changed_through_a_view(x: Tensor) -> Tensor:
    y = x * 2
    z = y[:, 0]
    y.add_(1)
    return z


REFUSED: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "dropout": (lambda x: functional.dropout(x), "draw numbers"),
    "noise": (lambda x: x + torch.randn(3, 4, 5), "draw numbers"),
    "unknown": (lambda x: x.cumsum(1), "must be known to be compiled; got: aten.cumsum"),
    "sum over replicas": (lambda x: x - x.sum(0, keepdim=True), "keep replicas apart"),
    "sum of everything": (lambda x: x * x.sum(), "keep replicas apart"),
    "where the largest of all stands": (lambda x: x.sum((1, 2)) * x.argmax(), "keep replicas apart"),
    "largest byte": (lambda x: x.to(torch.uint8).amax(1), "be of numbers with a sign"),
    "truths added": (lambda x: (x > 0) + (x > 1), "be of numbers with a sign"),
    "another order": (lambda x: x.transpose(0, 1) * 2, "keep replicas apart"),
    "one replica": (lambda x: x[0] * 2, "keep replicas apart"),
    "some replicas": (lambda x: x[1:] * 2, "keep replicas apart"),
    "merged": (lambda x: x.reshape(12, 5) * 2, "keep replicas apart|must be known here"),
    "a constant each": (lambda x: x + torch.arange(60.0).reshape(3, 4, 5), "same for all replicas"),
    "shapes that differ": (lambda x: x[:, :3, :3] + x[:, 0, 0], "operands of different ranks"),
    "an input changed": (lambda x: x.add_(1), "write into its inputs"),
    "a view changed": (changed_through_a_view, "seen twice and changed"),
    "complex": (lambda x: x * 1j, "must be of float32"),
    "empty": (lambda x: x[:, 2:2] + 1, "must not be empty"),
    "a large constant": (lambda x: x.sum((1, 2))[:, None] + torch.arange(1.0, 400_000), "must be small"),
    "a constant result": (lambda x: torch.ones(3), "follow from what differs"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_compiled_is_named(name: str) -> None:
    function, problem = REFUSED[name]
    graph = make_fx(function)(numbers(3, 4, 5))

    with pytest.raises(Untraceable, match=problem):
        Replicated(graph)


@pytest.mark.parametrize(
    ("layer", "problem"),
    [
        (nn.Dropout(0.5), "draw numbers"),
        (nn.BatchNorm1d(8, track_running_stats=False), "must be known to be compiled"),
    ],
)
def test_layers_that_draw_or_write_down_what_they_saw_are_left_to_torch(
    layer: nn.Module, problem: str
) -> None:
    graph, _ = fleet(
        nn.Sequential(nn.Linear(5, 8), layer), functional.mse_loss, numbers(3, 4, 5), numbers(3, 4, 8)
    )

    with pytest.raises(Untraceable, match=problem):
        Replicated(graph)

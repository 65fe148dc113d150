"""Embeddings, attention and views that merge the axis of the replicas with others, replica by replica."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx import GraphModule
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from thalweg.backends import replica_graph, replicas
from thalweg.backends.replica_axes import of_one, shared
from thalweg.backends.replicas import Replicated, TooLarge
from thalweg.backends.symbols import Untraceable
from thalweg.training.fleet.recording import recorded

CLOSE = {torch.float64: 1e-12, torch.float32: 1e-5}  # relative to the largest entry of each result
DTYPES = [torch.float64, torch.float32]


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path_factory.getbasetemp() / "replicas"))


def numbers(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 1) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def classes(*shape: int, count: int, seed: int = 2) -> Tensor:
    return torch.randint(count, shape, generator=torch.Generator().manual_seed(seed))


class Fleet:
    """A model whose replicas have parameters of their own, and batches (K, …)."""

    def __init__(self, model: nn.Module, batch: Sequence[Tensor], dtype: torch.dtype) -> None:
        self.model = model.to(dtype)
        self.names = [name for name, _ in model.named_parameters()]
        count = len(batch[0])
        parameters = [
            0.3 * numbers(count, *p.shape, dtype=dtype, seed=i) for i, p in enumerate(model.parameters())
        ]
        self.inputs = [*parameters, *(x.to(dtype) if x.is_floating_point() else x for x in batch)]

    def gradients(self, *flat: Tensor) -> list[Tensor]:
        def loss(ps: Sequence[Tensor], batch: Sequence[Tensor]) -> Tensor:
            made = functional_call(self.model, dict(zip(self.names, ps, strict=True)), tuple(batch))
            loss: Tensor = (made * made).mean() if made.dim() else made
            return loss

        count = len(self.names)
        ps = [p.detach().requires_grad_() for p in flat[:count]]
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            found = torch.vmap(loss)(ps, list(flat[count:]))
            grads = torch.autograd.grad(found, ps, torch.ones_like(found), allow_unused=True)
        return [found.detach(), *(g for g in grads if g is not None)]

    def graph(self) -> GraphModule:
        return recorded(self.gradients, [x[:1].expand(2, *x.shape[1:]).contiguous() for x in self.inputs])


def ran(compiled: Replicated, inputs: Sequence[Tensor], threads: int = 2) -> list[Tensor]:
    outputs = [x.fill_(7) for x in compiled.outputs(len(inputs[0]))]
    compiled.run(inputs, [None] * len(inputs), outputs, threads)
    return outputs


def assert_close(got: Sequence[Tensor], wanted: Sequence[Tensor], dtype: torch.dtype) -> None:
    assert len(got) == len(wanted)
    for place, (a, b) in enumerate(zip(got, wanted, strict=True)):
        worst = ((a.double() - b).abs().max() / b.abs().max().clamp_min(1e-30)).item()
        assert worst <= CLOSE[dtype], f"result {place}: {worst:.1e} of its largest entry"


def assert_torchs(model: nn.Module, batch: Sequence[Tensor], dtype: torch.dtype) -> None:
    fleet = Fleet(model, batch, dtype)
    got = ran(Replicated(fleet.graph()), fleet.inputs)

    exact = [x.double() if x.is_floating_point() else x for x in fleet.inputs]
    fleet.model.double()
    assert {x.dtype for x in got} == {dtype}
    assert_close(got, fleet.gradients(*exact), dtype)


# Models.


class Attention(nn.Module):
    """Causal attention, as it is written by hand or by torch."""

    def __init__(self, width: int, heads: int, by_hand: bool = True, pieces: str = "unbind") -> None:
        super().__init__()
        self.heads, self.by_hand, self.pieces = heads, by_hand, pieces
        self.inner = nn.Linear(width, 3 * width)
        self.outer = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        if self.pieces == "unbind":
            split = self.inner(x).unflatten(-1, (3, self.heads, x.shape[2] // self.heads))
            q, k, v = split.transpose(1, 3).unbind(2)
        else:
            parts = self.inner(x).chunk(3, -1)
            q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        if self.by_hand:
            later = torch.ones(length, length, dtype=torch.bool).triu(1)
            scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(later, -math.inf)
            y = scores.softmax(-1) @ v
        else:
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        made: Tensor = self.outer(y.transpose(1, 2).flatten(2))
        return made


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.attention = Attention(width, heads)
        self.network = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norms[0](x))
        made: Tensor = x + self.network(self.norms[1](x))
        return made


class Transformer(nn.Module):
    """Characters and positions by embeddings, blocks, and the loss of what follows."""

    def __init__(self, alphabet: int = 11, width: int = 12, heads: int = 3, length: int = 7) -> None:
        super().__init__()
        self.characters, self.positions = nn.Embedding(alphabet, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(Block(width, heads), Block(width, heads))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, alphabet))

    def forward(self, text: Tensor, following: Tensor) -> Tensor:
        x = self.characters(text) + self.positions(torch.arange(text.shape[1]))
        logits = self.head(self.blocks(x))
        return functional.cross_entropy(logits.flatten(0, -2), following.flatten())


class Looked(nn.Module):
    """Rows of a table, by a function of the table and indices."""

    def __init__(self, look: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(7, 19))
        self.look = look

    def forward(self, index: Tensor) -> Tensor:
        return self.look(self.table, index)


LOOKED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "embedding": lambda t, i: functional.embedding(i, t),
    "embedding of positions": lambda t, i: functional.embedding(torch.arange(5), t) * i.unsqueeze(-1),
    "indexed": lambda t, i: t[i],
    "indexed from the end": lambda t, i: t[i - 7],
    "indexed by positions": lambda t, i: t[torch.arange(5)] * i.unsqueeze(-1),
    "indexed in a table of all": lambda t, i: torch.arange(57.0).reshape(19, 3)[i].to(t.dtype) @ t[:3],
    "selected": lambda t, i: t.index_select(0, i.flatten()),
    "rows of a part": lambda t, i: functional.embedding(i[:, 1:4], t[:, ::2]),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LOOKED)
def test_rows_are_looked_up_and_their_gradients_added(name: str, dtype: torch.dtype) -> None:
    assert_torchs(Looked(LOOKED[name]), [classes(3, 6, 5, count=7)], dtype)  # 30 indices of 7 rows


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pieces", ["unbind", "chunk"])
@pytest.mark.parametrize("by_hand", [True, False])
def test_attention_is_torchs(by_hand: bool, pieces: str, dtype: torch.dtype) -> None:
    assert_torchs(Attention(12, 3, by_hand, pieces), [numbers(3, 4, 9, 12)], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [12, 32])
def test_a_block_and_a_norm_are_torchs(width: int, dtype: torch.dtype) -> None:
    assert_torchs(Block(width, 2), [numbers(2, 3, 17, width)], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_transformer_of_two_layers_is_torchs(dtype: torch.dtype) -> None:
    assert_torchs(Transformer(), [classes(3, 5, 7, count=11), classes(3, 5, 7, count=11, seed=3)], dtype)


# Views.

K = 3
VIEWS: dict[str, Callable[[Tensor], Tensor]] = {  # of (K, 4, 6, 5); the result begins with K
    "product of four axes": lambda x: x @ x.transpose(2, 3),
    "merged": lambda x: (x.reshape(K * 4, 30) * 2).reshape(K, 4, 30),
    "merged behind": lambda x: (
        (x.transpose(0, 1).reshape(4, K * 6, 5) + 1).reshape(4, K, 6, 5).transpose(0, 1)
    ),
    "second of two": lambda x: (x.transpose(0, 1) * 2).sum(0),
    "sum of what is before": lambda x: x.transpose(0, 2).sum((0, 1)).contiguous(),
    "largest of what is before": lambda x: x.transpose(0, 1).amax(0, keepdim=True)[0],
    "last": lambda x: (x.permute(1, 2, 3, 0) * torch.arange(5.0)[:, None]).permute(3, 0, 1, 2),
    "pieces of a merged one": lambda x: torch.split(x.reshape(K * 4, 30), 7, 1)[1].reshape(K, 28),
    "joined": lambda x: torch.cat([x, x[:, 1:], x.new_ones(K, 1, 6, 5)], 1),
    "joined before": lambda x: torch.cat([x.transpose(0, 1), x.transpose(0, 1)[:2]]).transpose(0, 1),
    "stacked": lambda x: torch.stack([x, x * 2, x.new_zeros(x.shape)], 3),
    "stacked before": lambda x: torch.stack([x, x * 2]).transpose(0, 1),
    "grown": lambda x: torch.ops.aten.slice_backward(x, [K, 4, 6, 9], 3, 1, 9, 2)[..., :8],
    "put in": lambda x: torch.ops.aten.select_backward(x, [K, 4, 7, 6, 5], 2, -2),
}  # fmt: skip


@pytest.mark.parametrize("name", VIEWS)
def test_the_axis_of_replicas_is_followed(name: str) -> None:
    x = numbers(K, 4, 6, 4 if name == "grown" else 5)
    (got,) = ran(Replicated(recorded(lambda x: [VIEWS[name](x)], [x])), [x])

    torch.testing.assert_close(got, VIEWS[name](x), rtol=1e-6, atol=1e-5)


def test_an_axis_within_others_is_found_as_convolutions_have_it() -> None:
    def f(x: Tensor) -> list[Tensor]:  # (K, batch, channels, height)
        images = (x.transpose(0, 1).reshape(2, K * 5, 6) * 2).relu()
        return [images.reshape(2, K, 5, 6).transpose(0, 1)]

    lowered = replica_graph.Lowered(recorded(f, [numbers(K, 2, 5, 6)]), replicas._machine())

    found = {node.name: (lowered.back.get(node), lowered.known[node].shape) for node in lowered.known}
    assert found["relu_default"] == (2, (2, 5, 6))
    assert of_one((2, K * 5, 6), 2, K) == (2, 5, 6)


MIXED: dict[str, Callable[[Tensor], Tensor]] = {
    "replicas inside": lambda x: x.transpose(0, 1).reshape(4 * K, 6, 5) * 2,
    "split apart": lambda x: x.reshape(K * 4, 6, 5).reshape(2, 2 * K, 6, 5) * 2,
    "sum over a merged axis": lambda x: x.reshape(K * 4, 6, 5).sum(0, keepdim=True) + x[:, 0],
    "part of a merged axis": lambda x: x.reshape(K * 4, 6, 5)[4:8] * 2,
    "diagonal": lambda x: x[:, :3].diagonal(0, 0, 1).contiguous(),
    "operands that differ": lambda x: x[:, :3, 0, :3] + x[:, :3, 0, :3].transpose(0, 1),
    "joined": lambda x: torch.cat([x, x]),
    "joined with another order": lambda x: torch.cat([x[:, :3], x[:, :3].transpose(0, 1)], 2),
    "product across": lambda x: torch.bmm(x[:, :, 0].transpose(0, 1), x[:, :, 0].permute(1, 2, 0)),
    "product over replicas": lambda x: torch.bmm(*[x[:, :3, 0, :3].transpose(0, 1)] * 2),
    "softmax across": lambda x: x.softmax(0),
    "merged result": lambda x: x.reshape(K * 4, 30) * 2,
    "embedding of another": lambda x: functional.embedding(torch.arange(K * 4), x.reshape(K * 4, 30)),
    "other numbers": lambda x: x.view(torch.int32) * 2,
    "shifted and more": lambda x: (x.to(torch.int64).amax((2, 3)) + torch.arange(0, 4 * K, 4)[:, None]) * 2,
}  # fmt: skip


@pytest.mark.parametrize("name", MIXED)
def test_views_that_mix_replicas_are_refused(name: str) -> None:
    graph = recorded(lambda x: [MIXED[name](x)], [numbers(K, 4, 6, 5)])

    with pytest.raises(Untraceable):
        Replicated(graph)


def test_a_constant_is_the_same_for_all_replicas() -> None:
    x = torch.arange(6.0).repeat(3)[:, None]

    assert torch.equal(shared(x, 2, 3), x[:6])
    assert torch.equal(shared(x, 1, 3), x)
    with pytest.raises(Untraceable, match="same for all"):
        shared(torch.arange(18.0)[:, None], 2, 3)


# Replicas, threads, scratch.


def text(count: int) -> Fleet:
    batch = [classes(count, 5, 7, count=11), classes(count, 5, 7, count=11, seed=3)]
    return Fleet(Transformer(), batch, torch.float32)


def test_a_replica_gets_the_same_bits_whatever_the_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "ON_STACK", 1 << 10)  # so that threads have areas
    fleet = text(9)
    compiled = Replicated(fleet.graph())
    got = ran(compiled, fleet.inputs)

    alone = ran(compiled, [x[4:5] for x in fleet.inputs], threads=1)
    broken = [x.clone() for x in fleet.inputs]
    for x in broken:
        if x.is_floating_point():
            x[:4], x[5:] = torch.nan, torch.inf
        else:
            x[:4] = x[4:8]
    among = ran(compiled, broken)

    assert compiled.scratch > replicas.ON_STACK
    for a, b, c, d in zip(got, ran(compiled, fleet.inputs, threads=1), alone, among, strict=True):
        assert torch.equal(a.view(torch.int32), b.view(torch.int32))
        assert torch.equal(a[4].view(torch.int32), c[0].view(torch.int32))
        assert torch.equal(a[4].view(torch.int32), d[4].view(torch.int32))
    assert bool(among[0][0].isnan())


def test_scratch_on_the_stack_and_in_areas_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = text(5)
    on_stack = Replicated(fleet.graph())
    monkeypatch.setattr(replicas, "ON_STACK", 0)
    in_areas = Replicated(fleet.graph())

    assert "alloca" in on_stack.text.split("@kernel")[1]
    assert "alloca" not in in_areas.text.split("@kernel")[1]
    for a, b in zip(ran(on_stack, fleet.inputs), ran(in_areas, fleet.inputs, threads=5), strict=True):
        assert torch.equal(a, b)


def test_what_needs_more_scratch_than_a_thread_gets_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = text(2).graph()
    needed = Replicated(graph).scratch

    assert Replicated(graph, most=needed).scratch == needed
    with pytest.raises(TooLarge, match="bytes of scratch at most"):
        Replicated(graph, most=needed - 1)
    monkeypatch.setattr(replicas, "LARGEST_SCRATCH", needed - 1)
    with pytest.raises(TooLarge, match="bytes of scratch at most"):
        Replicated(graph)


def test_an_index_that_points_outside_gives_nan_and_adds_nothing() -> None:
    fleet = Fleet(Looked(LOOKED["embedding"]), [classes(2, 6, 5, count=7)], torch.float32)
    compiled = Replicated(fleet.graph())
    index = fleet.inputs[1]
    index[1, 2, 3] = 7

    loss, gradient = ran(compiled, fleet.inputs)

    assert loss.isnan().tolist() == [False, True]
    used = fleet.inputs[0][1] * torch.bincount(index[1].flatten().clamp(max=7), minlength=8)[:7, None]
    torch.testing.assert_close(gradient[1], used * (2 / (30 * 19)))


def test_code_does_not_depend_on_how_many_replicas_there_are() -> None:
    fleet: Any = text(4)

    assert Replicated(fleet.graph()).text == Replicated(recorded(fleet.gradients, fleet.inputs)).text

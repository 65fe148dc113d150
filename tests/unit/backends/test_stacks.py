"""Matrix rules on torch: stacks of small parameters, pieces of large ones, and products by blocks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from oracles import ORACLES
from thalweg import optim
from thalweg.backends import eager
from thalweg.backends.reference import Reference
from thalweg.backends.stacks import MOST, SMALL, grouped, stacked
from thalweg.rules.catalogue import RULES
from thalweg.rules.products import plus_identity, product, symmetric_addmm, symmetric_product
from thalweg.rules.tail import Row

WHOLE = ("muon", "soap", "shampoo", "adafactor", "lamb", "lars")  # rules that see a whole parameter at once
LARGE = (256, 400)  # long enough for Muon's Gram matrices


def random(*shape: int, seed: int = 0, **kind: Any) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(**kind)


class Walkers:
    """Parameters of one group that walk over random gradients."""

    def __init__(self, name: str, shapes: Sequence[tuple[int, ...]], **values: Any) -> None:
        self.rule = RULES[name]
        complete = self.rule.checked(values)
        precise = {"precision": "parameter"} if "precision" in complete else {}
        self.values = self.rule.values(complete | precise)
        self.at = [random(*shape, seed=place) for place, shape in enumerate(shapes)]
        self.states = [self.rule.initial(p, self.values) for p in self.at]

    def rows(self, t: int) -> list[Row]:
        return [
            Row(self.rule, p, random(*p.shape, seed=100 * t + place), s, t, self.values)
            for place, (p, s) in enumerate(zip(self.at, self.states, strict=True))
        ]


@pytest.mark.parametrize("name", WHOLE)
def test_a_stack_moves_as_its_parameters_do_one_by_one(name: str) -> None:
    other = (5, 5) if name == "soap" else (3, 5)  # bases are unique for gradients of full rank only
    shapes = [(4, 4), (4, 4), other, (4, 4), other] + [(6,)] * 3 * (RULES[name].least_axes < 2)
    together, alone = Walkers(name, shapes, lr=0.1), Walkers(name, shapes, lr=0.1)
    assert len(grouped(together.rows(1))) == len(set(shapes))

    for t in range(1, 13):  # over a turning of SOAP's bases
        eager.advance(together.rows(t))
        for row in alone.rows(t):
            eager.advance([row])

    for ours, theirs in zip(together.at, alone.at, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-10)
    for mine, others in zip(together.states, alone.states, strict=True):
        assert all(x.shape == y.shape for x, y in zip(mine, others, strict=True))


def test_only_rows_that_have_all_but_their_numbers_in_common_are_grouped() -> None:
    rows = Walkers("muon", [(2, 3)] * 6).rows(1)
    rows[1] = rows[1]._replace(t=2)
    rows[2] = rows[2]._replace(values=rows[2].values._replace(lr=0.5))
    rows[3] = rows[3]._replace(gradient=rows[3].gradient.float())
    rows[4] = rows[4]._replace(replicas=True)

    assert grouped(rows) == [[0, 5], [1], [2], [3], [4]]


def test_large_parameters_and_those_of_elementwise_rules_are_not_stacked() -> None:
    assert len(grouped(Walkers("muon", [(64, 64)] * 3).rows(1))) == 1
    assert len(grouped(Walkers("muon", [(64, 65)] * 3).rows(1))) == 3
    assert len(grouped(Walkers("adam", [(2, 3)] * 3).rows(1))) == 3
    assert len(grouped(Walkers("muon", [(0, 3)] * 3).rows(1))) == 3


def test_a_stack_is_as_large_as_its_bound_and_no_larger() -> None:
    most = MOST // SMALL
    row = Walkers("muon", [(64, 64)]).rows(1)[0]

    assert [len(places) for places in grouped([row] * (2 * most + 1))] == [most, most, 1]
    assert stacked([row, row]).parameter.shape == (2, 64, 64)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("muon", {"weight_decay": 0.3}),
        ("muon", {"ns_steps": 4, "maximize": True, "adjust_lr_fn": "match_rms_adamw"}),
        ("shampoo", {"weight_decay": 0.3, "maximize": True, "momentum": 0.5}),
        ("adafactor", {"weight_decay": 0.3}),
    ],
)
@pytest.mark.parametrize("shape", [LARGE, LARGE[::-1], (300, 300)])
def test_a_parameter_in_pieces_moves_as_the_oracle_does(
    name: str, values: dict[str, Any], shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eager, "PIECE", 7000)
    walker = Walkers(name, [shape], lr=0.1, **values)
    begin, slopes = walker.at[0].numpy().copy(), [random(*shape, seed=100 * t).numpy() for t in (1, 2)]

    for t in (1, 2):
        eager.advance(walker.rows(t), factor=0.5)

    expected = ORACLES[name](begin, slopes, factors=[0.5, 0.5], lr=0.1, **values)[-1]
    assert np.abs(walker.at[0].numpy() - expected).max() <= 1e-10


def test_a_parameter_in_bfloat16_and_pieces_is_rounded_once_at_the_end_of_a_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(eager, "PIECE", 7000)
    walker = Walkers("muon", [LARGE], lr=0.1)
    reference = Reference(walker.rule, walker.values._asdict())
    at = {"p": walker.at[0].bfloat16()}
    walker.at = [at["p"].clone()]
    moved = {"p": at["p"].double().numpy()}

    for t in (1, 2):
        slope = walker.rows(t)[0].gradient.double()
        eager.advance([walker.rows(t)[0]._replace(gradient=slope.bfloat16())])
        moved = reference.step(moved, {"p": slope.bfloat16().double().numpy()})
        moved = {"p": torch.tensor(moved["p"]).bfloat16().double().numpy()}

    assert walker.at[0].dtype is torch.bfloat16
    unequal = walker.at[0].double().numpy() != moved["p"]
    assert unequal.mean() <= 1e-3  # what lies between two numbers may be rounded to either


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 7])
def test_steps_on_one_gram_matrix_give_the_polynomial_of_all_of_them(steps: int) -> None:
    begin, slope = np.zeros(LARGE), random(*LARGE).numpy()
    values = {"lr": 1.0, "weight_decay": 0.0, "ns_steps": steps}
    reference = Reference(RULES["muon"], RULES["muon"].defaults() | values)

    moved = reference.step({"w": begin}, {"w": slope})["w"]

    assert np.abs(moved - ORACLES["muon"](begin, [slope], **values)[-1]).max() <= 1e-12


def spectrum(kind: str) -> Tensor:
    rows, columns = LARGE
    if kind == "random":
        return random(rows, columns)
    i = torch.arange(1, rows + 1, dtype=torch.float64)
    sizes = {"slow": i**-0.5, "fast": 1 / i, "one large": torch.where(i < 2, 1.0, 0.01).double()}[kind]
    left, right = (torch.linalg.qr(random(n, rows, seed=n))[0] for n in (rows, columns))
    return (left * sizes) @ right.mT


@pytest.mark.parametrize("kind", ["random", "slow", "fast", "one large"])
def test_in_bfloat16_gram_matrices_are_as_exact_as_pytorchs_iteration_but_for_a_factor(kind: str) -> None:
    """Twice PyTorch's error was the most that was found over these and other spectra and sizes."""
    slope, values = spectrum(kind), {"lr": 1.0, "weight_decay": 0.0}
    exact = ORACLES["muon"](np.zeros(LARGE), [slope.numpy()], **values)[-1]
    errors = []
    for cls in (optim.Muon, torch.optim.Muon):
        leaf = torch.nn.Parameter(torch.zeros(LARGE))
        leaf.grad = slope.float()
        cls([leaf], **values).step()
        errors.append(np.linalg.norm(leaf.detach().numpy() - exact))

    assert errors[0] <= 2.5 * errors[1]
    assert errors[1] <= 0.1 * np.linalg.norm(exact)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("size", [100, 300, 768, 1000])
def test_products_are_those_of_torch_but_for_rounding(dtype: torch.dtype, size: int) -> None:
    x = random(size, 280, seed=1) / size**0.5
    near = {"rtol": 0.0, "atol": 40 * torch.finfo(dtype).eps}
    low = x.to(dtype)
    gram = symmetric_product(low, low.mT)

    assert torch.allclose(gram.double(), low.double() @ low.double().mT, **near)
    assert torch.equal(gram[256:, :256], gram[:256, 256:].mT) or size < 768
    g = gram.double()
    assert torch.allclose(symmetric_addmm(gram, gram, gram, -2.0, 0.5).double(), -2 * g + g @ g / 2, **near)
    assert torch.allclose(product(low.mT, gram).double(), low.double().mT @ g, **near)
    assert torch.equal(plus_identity(gram, 3.0), gram + 3 * torch.eye(size, dtype=dtype))


def test_products_of_replicas_with_coefficients_of_their_own_keep_their_type() -> None:
    x = random(2, 3, 3, dtype=torch.bfloat16)
    own = torch.tensor([1.0, 2.0]).reshape(2, 1, 1)

    found = symmetric_addmm(x, x, x, own, own)

    assert found.dtype is torch.bfloat16
    exact = own * x.double() + own * (x.double() @ x.double())
    assert torch.allclose(found.double(), exact, rtol=0.02, atol=0.05)
    assert torch.equal(plus_identity(x, own)[1], x[1] + 2 * torch.eye(3, dtype=torch.bfloat16))


def test_bases_that_are_not_due_are_not_written() -> None:
    walker = Walkers("soap", [(5, 4)], lr=0.1)
    eager.advance(walker.rows(1))
    version = walker.states[0].Q_L._version

    eager.advance(walker.rows(2))

    assert walker.states[0].Q_L._version == version
    assert walker.states[0].L._version > 1

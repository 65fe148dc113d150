"""Rows as kernels take them: what they may have in common, how they lie in memory, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kernel_walks import SHORT, Advance, by_kernels, plain, problem
from thalweg.backends import eager, kernels
from thalweg.backends.symbols import Untraceable
from thalweg.rules.catalogue import RULES
from thalweg.rules.sgd import SGD
from thalweg.rules.tail import Row
from thalweg.rules.wrap import wrapped
from thalweg.rules.wrappers import WRAPPERS


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path_factory.getbasetemp() / "kernels"))


def row(p: Tensor, g: Tensor, rule: Any = SGD, t: Any = 1, **more: Any) -> Row:
    """Make a row of hyperparameters that are the defaults but for those given, with a state of zeros."""
    of_row = {n: more.pop(n) for n in ("replicas", "multiplier", "group") if n in more}
    h = rule.values(rule.checked({}) | more)
    state = rule.initial(p.detach(), h, of_row.get("replicas", False))
    return Row(rule, p, g, state, t, h, **of_row)


# What rows have in common.


def test_no_rows_are_no_step() -> None:
    assert kernels.advance([]) == eager.advance([])


def test_rows_of_several_rules_types_groups_and_steps_move_together() -> None:
    kinds = [("lamb", 64), ("adam", 32), ("nadam", 64), ("lamb", 64), ("sgd", 32)]

    def rows() -> list[Row]:
        made = []
        for place, (name, bits) in enumerate(kinds):
            p = torch.linspace(-1, 1, 11, dtype=torch.float64 if bits == 64 else torch.float32)
            made.append(row(p, p**2 + 0.1, RULES[name], place + 1, lr=0.1 / (place + 1), group=place))
        return made

    ours, theirs = rows(), rows()
    kernels.advance(ours)
    eager.advance(theirs)

    for mine, other in zip(ours, theirs, strict=True):
        near = 1e-13 if other.parameter.dtype == torch.float64 else 1e-6  # rounding
        for x, y in zip((mine.parameter, *mine.state), (other.parameter, *other.state), strict=True):
            torch.testing.assert_close(x, y, rtol=near, atol=near)


def test_rows_of_one_group_with_other_numbers_each_keep_their_own() -> None:
    at = [torch.ones(2), torch.ones(2)]
    kernels.advance([row(p, torch.ones(2), lr=lr) for p, lr in zip(at, (0.5, 0.25), strict=True)])

    assert [p.tolist() for p in at] == [[0.5, 0.5], [0.75, 0.75]]


def test_rows_of_one_group_with_other_multipliers_each_keep_their_own() -> None:
    rule = wrapped(SGD, [WRAPPERS["decoupled_decay"](0.5, by="schedule")])
    at = [torch.ones(2), torch.ones(2)]
    kernels.advance(
        [row(p, torch.zeros(2), rule, multiplier=m, lr=1.0) for p, m in zip(at, (1.0, 0.5), strict=True)]
    )

    assert [p.tolist() for p in at] == [[0.5, 0.5], [0.75, 0.75]]


@pytest.mark.parametrize("group", [0, 1])
def test_the_step_of_each_row_is_its_own(group: int) -> None:
    at = [torch.ones(1, dtype=torch.float64) for _ in range(2)]
    rows = [
        row(p, torch.ones_like(p), RULES["adam"], t, lr=1.0, eps=0.0, group=group * place)
        for place, (p, t) in enumerate(zip(at, (1, 2), strict=True))
    ]
    kernels.advance(rows)

    second = (0.1 / (1 - 0.9**2)) / (0.001 / (1 - 0.999**2)) ** 0.5  # m̂/√v̂ of states that were zeros
    assert [p.item() for p in at] == pytest.approx([0.0, 1 - second], rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("name", ["lamb", "lars"])
def test_norms_too_large_for_a_number_are_nan_without_a_word_as_in_eager_steps(name: str) -> None:
    def moved(advance: Advance) -> list[Tensor]:
        at = [torch.full((3,), 1e200, dtype=torch.float64) for _ in range(2)]
        slopes = [torch.full((3,), x, dtype=torch.float64) for x in (1.0, 1e200)]
        rule = RULES[name]
        advance([row(p, g, rule, weight_decay=1.0) for p, g in zip(at, slopes, strict=True)])
        return at

    for x, y in zip(moved(kernels.advance), moved(eager.advance), strict=True):
        assert torch.equal(x.isnan(), y.isnan())


# Replicas.


def test_numbers_of_replicas_may_be_tensors_as_in_eager_steps() -> None:
    rates = torch.tensor([0.5, 0.25], dtype=torch.float64)

    def moved(advance: Advance) -> Tensor:
        p = torch.ones(2, 3, dtype=torch.float64)
        t, numbers = torch.tensor([1, 2]), {"lr": rates, "betas": (rates, 0.9)}
        advance([row(p, torch.ones_like(p), RULES["adamw"], t, replicas=True, **numbers)], {}, rates)
        return p

    torch.testing.assert_close(moved(kernels.advance), moved(eager.advance), rtol=1e-13, atol=0)


@pytest.mark.parametrize("replicas", [1, 2])
def test_what_is_told_of_replicas_has_one_entry_for_each(replicas: int) -> None:
    rule = wrapped(SGD, [WRAPPERS["skip_nonfinite"]()])
    p = torch.ones(replicas, 3)
    done = kernels.advance([row(p, torch.ones_like(p), rule, replicas=True, lr=np.full(replicas, 0.5))])

    assert done.skipped.shape == (replicas,)


def test_replicas_of_several_types_are_each_moved_as_alone() -> None:
    """Numbers of 2, 4 and 8 bytes: a replica begins at another byte in each."""
    rule, rates = RULES["adam"], np.array([0.5, 0.25, 0.125])
    p = torch.linspace(-1, 1, 15).reshape(3, 5).to(torch.bfloat16)
    g, h = torch.linspace(1, 2, 15).double().reshape(3, 5), rule.values(rule.checked({}) | {"lr": rates})
    state = rule.initial(p.float(), h._replace(lr=0.1))
    alone = [
        Row(
            rule,
            p[k].clone(),
            g[k],
            type(state)(*(x[k].clone() for x in state)),
            1,
            h._replace(lr=float(rates[k])),
        )
        for k in range(3)
    ]
    kernels.advance([Row(rule, p, g, state, 1, h, replicas=True)])
    for k, each in enumerate(alone):
        kernels.advance([each])
        for x, y in zip((p, *state), (each.parameter, *each.state), strict=True):
            assert torch.equal(x[k], y)


# Memory.


@pytest.mark.parametrize("advance", [eager.advance, kernels.advance], ids=["eager", "kernels"])
def test_autograd_is_told_that_parameters_have_changed(advance: Advance) -> None:
    w = torch.nn.Parameter(torch.ones(3))
    loss = (w * w).sum()
    advance([row(w, torch.ones(3), lr=0.5)])

    assert w.tolist() == [0.5, 0.5, 0.5]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 1025, 65_536, 2_200_001])
def test_every_element_moves_once_whatever_the_size(size: int, axes: int) -> None:
    """Around the ends of chunks, of which the largest parameter fills more than thirty."""
    p, g = torch.zeros(size), torch.arange(size, dtype=torch.float32)
    kernels.advance(
        [row(p.reshape(-1, 1) if axes == 2 else p, -(g.reshape(-1, 1) if axes == 2 else g), lr=1.0)]
    )

    assert torch.equal(p, g)  # float32 has all whole numbers up to 2²⁴


@pytest.mark.parametrize(
    "p",
    [
        torch.tensor(np.zeros(0)),  # whose stride is 0
        torch.zeros(3, 0),
        torch.ones(4, 1).t(),
        torch.ones(3, 2).t(),
        torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.ones(()),
        torch.ones(9)[2:7],
    ],
    ids=lambda p: f"{tuple(p.shape)} {p.stride()}",
)
def test_any_layout_without_gaps_is_moved_in_place(p: Tensor) -> None:
    place = p.data_ptr()
    kernels.advance([row(p, torch.ones_like(p), RULES["adam"], lr=0.5, eps=0.0)])

    assert p.data_ptr() == place
    assert (p == 0.5).all()  # Adam's first step is the rate


def test_axes_of_length_one_have_no_layout() -> None:
    p, g = torch.ones(4, 1), torch.ones(1, 4).t()  # strides (1, 1) and (1, 4)
    kernels.advance([row(p, g, lr=0.5)])

    assert (p == 0.5).all()


def test_what_lies_beside_a_parameter_is_left_alone() -> None:
    around = torch.ones(100)
    kernels.advance([row(around[20:57], torch.ones(37), lr=0.5)])

    assert (around[20:57] == 0.5).all()
    assert (around[:20] == 1).all()
    assert (around[57:] == 1).all()


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_every_kind_of_float32_is_rounded_to_half_precision_as_torch_does(half: torch.dtype) -> None:
    """To nearest even, with infinities, NaN, overflow and what is too small to be normal."""
    generator = np.random.default_rng(4)
    bits = generator.integers(0, 2**32, 50_000, np.uint32)
    ties = (generator.integers(0, 2**16, 5_000, np.uint32) << 16) + np.uint32(0x8000)
    x = torch.from_numpy(np.concatenate([bits, ties]).view(np.float32))
    p = torch.zeros(len(x), dtype=half)
    kernels.advance([row(p, -x, lr=1.0)])  # 0 + x, in the gradient's type

    expected = x.to(half)
    known = ~expected.isnan() & (x != 0)  # 0 − 0 is 0, also where the second is −0
    assert torch.equal(p.isnan(), expected.isnan())
    assert torch.equal(p[known].view(torch.int16), expected[known].view(torch.int16))
    assert p.isnan().any()
    assert p.isinf().any()


def test_a_gradient_in_less_precision_loses_nothing_of_its_parameter() -> None:
    p = torch.tensor([1 + 2.0**-40], dtype=torch.float64)
    kernels.advance([row(p, torch.tensor([0.5]), lr=0.5)])

    assert p.item() == 0.75 + 2.0**-40


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_a_number_in_the_state_in_half_precision_is_read_and_rounded(half: torch.dtype) -> None:
    given = row(torch.ones(3, dtype=half), torch.ones(3, dtype=half), RULES["nadam"])
    kernels.advance([given])
    kernels.advance([given._replace(t=2)])

    decay = RULES["nadam"].defaults()["momentum_decay"]
    once, twice = (0.9 * (1 - 0.5 * 0.96 ** (t * decay)) for t in (1, 2))
    rounded = torch.tensor(once, dtype=torch.float32).to(half).item()
    assert given.state.mu_product.item() == torch.tensor(rounded * twice, dtype=torch.float32).to(half).item()


# What is refused.


@pytest.mark.parametrize(
    ("p", "g"),
    [
        (torch.ones(6)[::2], torch.ones(3)),
        (torch.ones(6)[::2], torch.ones(6)[::2]),
        (torch.ones(3), torch.ones(1).expand(3)),
        (torch.ones(2, 3), torch.ones(3, 2).t()),
        (torch.ones(2, 2), torch.eye(2).to_sparse()),
        (torch.ones(2, dtype=torch.complex64), torch.ones(2, dtype=torch.complex64)),
        (torch.ones(2, device="meta"), torch.ones(2, device="meta")),
        (torch.ones(2, dtype=torch.int64), torch.ones(2)),
        (torch.ones(3), torch.ones(2)),
    ],
    ids=[
        "gaps",
        "the same gaps",
        "expanded",
        "turned",
        "sparse",
        "complex",
        "elsewhere",
        "whole",
        "of another shape",
    ],
)
def test_tensors_that_no_kernel_reads_are_refused_before_anything_moves(p: Tensor, g: Tensor) -> None:
    w = torch.ones(3)
    with pytest.raises(Untraceable, match=r"^A kernel must have .*\.$"):
        kernels.advance([row(w, torch.ones(3)), row(p, g)])
    assert (w == 1).all()


def test_replicas_in_another_order_than_their_memory_are_refused() -> None:
    p = torch.ones(3, 2).t()
    with pytest.raises(Untraceable, match="must have replicas one behind the other"):
        kernels.advance([row(p, torch.ones_like(p), replicas=True, lr=np.ones(2))])


def test_a_subclass_of_tensors_is_refused() -> None:
    class Own(torch.Tensor):
        pass

    with pytest.raises(Untraceable, match="must have ordinary tensors; got Own"):
        kernels.advance([row(torch.ones(3).as_subclass(Own), torch.ones(3))])


def test_nothing_is_written_but_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))
    by_kernels(SGD, plain(SGD), problem(SGD, shaped=SHORT))

    assert {path.name for path in tmp_path.iterdir()} <= {"cache"}

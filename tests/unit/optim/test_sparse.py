"""Sparse gradients of embeddings: only the rows that they name move."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from oracles import sparse
from thalweg import optim
from thalweg.errors import InputError

ROWS, WIDTH, STEPS = 7, 3, 40
CLOSE = 1e-12
NEVER = 6  # a row that is never looked up


def pairs(seed: int) -> list[tuple[np.ndarray, np.ndarray] | None]:
    """Make gradients as an embedding gives them: rows that repeat, none at some steps, and empty ones."""
    generator = np.random.default_rng(seed)
    made: list[tuple[np.ndarray, np.ndarray] | None] = []
    for step in range(STEPS):
        count = 0 if step == 5 else int(generator.integers(1, 6))
        rows, values = generator.integers(0, NEVER, count), generator.standard_normal((count, WIDTH))
        made.append(None if step % 9 == 8 else (rows, values))
    return made


def walk(
    make: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
    given: list[Any],
    factors: list[float] | None = None,
) -> list[np.ndarray]:
    start = np.random.default_rng(3).standard_normal((ROWS, WIDTH))
    table = nn.Embedding(ROWS, WIDTH, sparse=True).double()
    table.weight.data = torch.tensor(start)
    optimizer = make([table.weight])
    rate, path = optimizer.param_groups[0]["lr"], []
    for step, pair in enumerate(given):
        optimizer.zero_grad()
        if factors:
            optimizer.param_groups[0]["lr"] = rate * factors[step]
        if pair is not None:
            rows, values = pair
            (table(torch.tensor(rows)) * torch.tensor(values)).sum().backward()
            assert table.weight.grad is not None
            assert table.weight.grad.is_sparse
        optimizer.step()
        path.append(table.weight.detach().numpy().copy())
    return path


def start() -> np.ndarray:
    return np.random.default_rng(3).standard_normal((ROWS, WIDTH))


LAZY: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "sgd": (optim.SGD, sparse.sgd, {"lr": 0.1}),
    "sgd with momentum": (optim.SGD, sparse.sgd, {"lr": 0.1, "momentum": 0.8}),
    "adagrad": (
        optim.Adagrad,
        sparse.adagrad,
        {"lr": 0.1, "lr_decay": 0.05, "initial_accumulator_value": 0.2},
    ),
    "adam": (optim.Adam, sparse.adam_corrected, {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3}),
    "sparse adam": (optim.SparseAdam, sparse.adam, {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3}),
}


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("name", LAZY)
def test_lazy_steps_equal_the_oracle_and_leave_other_rows_alone(name: str, maximize: bool) -> None:
    method, oracle, values = LAZY[name]
    given, factors = pairs(1), [1 / (1 + step / 10) for step in range(STEPS)]

    path = walk(lambda p: method(p, maximize=maximize, **values), given, factors)

    expected = oracle(start(), given, factors=factors, maximize=maximize, **values)
    assert max(np.abs(a - b).max() for a, b in zip(path, expected, strict=True)) <= CLOSE
    assert (path[-1][NEVER] == start()[NEVER]).all()
    assert (path[-1][:NEVER] != start()[:NEVER]).all()
    before = start()
    for pair, at in zip(given, path, strict=True):
        still = sorted(set(range(ROWS)) - set([] if pair is None else pair[0]))
        assert (at[still] == before[still]).all()
        before = at


@pytest.mark.parametrize(
    ("ours", "theirs", "values"),
    [
        (optim.SGD, torch.optim.SGD, {"lr": 0.1}),
        (optim.Adagrad, torch.optim.Adagrad, {"lr": 0.1, "lr_decay": 0.05}),
        (optim.SparseAdam, torch.optim.SparseAdam, {"lr": 0.05, "betas": (0.8, 0.95)}),
    ],
)
@pytest.mark.filterwarnings(
    "ignore:Sparse invariant checks"
)  # PyTorch's Adagrad asks for them by saying nothing
def test_lazy_steps_equal_pytorchs(ours: Any, theirs: Any, values: dict[str, Any]) -> None:
    path, expected = (walk(lambda p, cls=cls: cls(p, **values), pairs(2)) for cls in (ours, theirs))

    assert max(np.abs(a - b).max() for a, b in zip(path, expected, strict=True)) <= CLOSE


def test_where_every_row_occurs_a_lazy_step_is_an_ordinary_one() -> None:
    generator = np.random.default_rng(0)
    given = [(np.arange(ROWS), generator.standard_normal((ROWS, WIDTH))) for _ in range(10)]
    weight = nn.Parameter(torch.tensor(start()))
    dense = optim.Adam([weight], lr=0.05)
    path = walk(lambda p: optim.Adam(p, lr=0.05), given)
    for _, values in given:
        weight.grad = torch.tensor(values)
        dense.step()

    assert np.abs(path[-1] - weight.detach().numpy()).max() <= CLOSE


def test_wrappers_that_see_each_gradient_by_itself_go_around_lazy_steps() -> None:
    given = pairs(4)
    path = walk(lambda p: optim.SGD(p, lr=0.1, wrappers=[optim.clip_norm(0.5)]), given)

    shortened = []
    for pair in given:
        if pair is not None:
            rows, values = pair
            summed = np.zeros((ROWS, WIDTH))
            np.add.at(summed, rows, values)
            pair = (np.arange(ROWS), summed * min(1.0, 0.5 / (np.sqrt((summed**2).sum()) + 1e-6)))
        shortened.append(pair)
    expected = sparse.sgd(start(), shortened, lr=0.1)
    assert max(np.abs(a - b).max() for a, b in zip(path, expected, strict=True)) <= CLOSE


def test_a_state_dtype_holds_for_sparse_gradients_too() -> None:
    table = nn.Embedding(4, 2, sparse=True).to(torch.bfloat16)
    before = table.weight.detach().clone()
    optimizer = optim.Adam(table, lr=0.1, state_dtype=torch.float32)
    table(torch.tensor([1, 1])).sum().backward()

    optimizer.step()

    assert optimizer.state[table.weight]["exp_avg"].dtype == torch.float32
    assert torch.equal(table.weight[1], (before[1].float() - 0.1).to(torch.bfloat16))
    assert torch.equal(table.weight[[0, 2, 3]], before[[0, 2, 3]])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda p: optim.Adam(p, weight_decay=0.1),
            "weight_decay of Adam must be 0 for parameters with sparse",
        ),
        (
            lambda p: optim.SGD(p, wrappers=[optim.l2(0.1)]),
            "weight_decay of SGD must be 0 for parameters with",
        ),
        (lambda p: optim.Lion(p), "the gradients that Lion is given must be dense; got one of layout"),
        (
            lambda p: optim.SGD(p, wrappers=[optim.ema()]),
            "the gradients that SGD is given must be dense; got one",
        ),
    ],
)
def test_what_would_have_to_move_all_rows_is_refused_before_anything_moves(make: Any, words: str) -> None:
    dense, table = nn.Parameter(torch.ones(2)), nn.Embedding(3, 2, sparse=True)
    before = table.weight.detach().clone()
    optimizer = make([dense, table.weight])
    dense.grad = torch.ones(2)
    table(torch.tensor([1])).sum().backward()

    with pytest.raises(InputError, match=words):
        optimizer.step()

    assert dense.tolist() == [1, 1]
    assert torch.equal(table.weight, before)

"""The oracles of lazy steps on sparse gradients against PyTorch, the dense forms and numbers by hand."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from noise import STEPS, WARMED, distance, float64_scalars, label, of_several_sizes
from oracles import adam, sgd, sparse

__all__ = ["float64_scalars"]  # a fixture


ROWS = 6
SPARSE = {
    "sgd": (sparse.sgd, torch.optim.SGD, [{}, {"lr": 0.3}, {"maximize": True}]),
    "adagrad": (
        sparse.adagrad,
        torch.optim.Adagrad,
        [
            {},
            {"lr_decay": 0.1, "lr": 0.3},
            {"initial_accumulator_value": 0.5},
            {"eps": 0.1},
            {"maximize": True},
        ],
    ),
    "adam": (
        sparse.adam,
        torch.optim.SparseAdam,
        [{}, {"lr": 0.3}, {"betas": (0.5, 0.7)}, {"betas": (0.0, 0.9)}, {"eps": 0.1}, {"maximize": True}],
    ),
}
SPARSE_RUNS = {**{name: entry[0] for name, entry in SPARSE.items()}, "adam_corrected": sparse.adam_corrected}


@pytest.fixture
def checked_sparse_tensors() -> Iterator[None]:
    """Let PyTorch check sparse tensors; it warns where nobody has said whether to."""
    with torch.sparse.check_sparse_tensor_invariants(True):
        yield


def _sparse_gradients(rest: tuple[int, ...]) -> tuple[np.ndarray, list[sparse.Pair | None]]:
    """Up to four rows a step, some repeated, row 0 never; steps without gradient, without rows, and zeros."""
    rng = np.random.default_rng(7)
    gradients: list[sparse.Pair | None] = []
    for _ in range(STEPS):
        rows = rng.integers(1, ROWS, rng.integers(1, 5))
        gradients.append((rows, rng.standard_normal((len(rows), *rest))))
    gradients[0] = gradients[40] = gradients[41] = None
    gradients[3] = gradients[50] = (np.zeros(0, dtype=np.int64), np.zeros((0, *rest)))
    gradients[20] = (np.array([2, 2]), np.zeros((2, *rest)))
    return rng.standard_normal((ROWS, *rest)), gradients


@pytest.mark.parametrize("rest", [(), (3,), (2, 2)], ids=str)
@pytest.mark.parametrize(
    ("name", "hyper"), [(name, case) for name, entry in SPARSE.items() for case in entry[2]], ids=label
)
@pytest.mark.usefixtures("checked_sparse_tensors")
def test_sparse_oracle_equals_torch_on_sparse_gradients(
    name: str, hyper: dict, rest: tuple[int, ...]
) -> None:
    run, optimizer_class, _ = SPARSE[name]
    theta0, gradients = _sparse_gradients(rest)
    parameter = torch.nn.Parameter(torch.tensor(theta0))
    optimizer = optimizer_class([parameter], **hyper)
    (group,) = optimizer.param_groups
    rate = group["lr"]
    expected = []
    for gradient, factor in zip(gradients, WARMED, strict=True):
        group["lr"] = rate * factor
        parameter.grad = None
        if gradient is not None:
            rows, values = map(torch.tensor, gradient)
            parameter.grad = torch.sparse_coo_tensor(rows[None], values, theta0.shape)
        optimizer.step()
        expected.append(parameter.detach().numpy().copy())

    actual = run(theta0, gradients, factors=WARMED, **hyper)

    assert distance(actual, expected, theta0) <= 1e-12


@pytest.mark.parametrize(
    ("name", "dense"),
    [
        ("sgd", lambda *a, **k: sgd.run(*a, momentum=0.7, **k)),
        ("adam", lambda *a, **k: adam.run(*a, eps=0.1, epsilon="uncorrected", **k)),
        ("adam_corrected", lambda *a, **k: adam.run(*a, eps=0.1, **k)),
    ],
)
def test_where_every_row_occurs_the_lazy_form_is_the_dense_one(name: str, dense: Callable) -> None:
    theta0, gradients = of_several_sizes((0, 5))
    pairs = [None if g is None else (np.array([2, 0, 1, 0]), g[[2, 0, 1, 0]] / 2) for g in gradients]
    # Row 0 twice at half its size is row 0; rows 1 and 2 have halves.
    halved = [None if g is None else g * np.array([[1.0], [0.5], [0.5]]) for g in gradients]
    hyper = {"momentum": 0.7} if name == "sgd" else {"eps": 0.1}

    actual = SPARSE_RUNS[name](theta0, pairs, factors=WARMED, **hyper)

    assert distance(actual, dense(theta0, halved, factors=WARMED), theta0) <= 1e-12


@pytest.mark.parametrize("name", SPARSE_RUNS)
def test_rows_that_do_not_occur_stay(name: str) -> None:
    hyper = {"momentum": 0.9} if name == "sgd" else {}
    theta0, gradients = _sparse_gradients((3,))

    points = [theta0, *SPARSE_RUNS[name](theta0, gradients, **hyper)]

    for before, after, gradient in zip(points[:-1], points[1:], gradients, strict=True):
        occurs = set() if gradient is None else set(gradient[0].tolist())
        moved = set(np.flatnonzero((before != after).any(axis=1)).tolist())
        assert moved <= occurs
    assert np.array_equal(points[-1][0], theta0[0])
    assert (points[-1][1:] != theta0[1:]).all()


def test_lazy_adam_corrects_for_the_steps_of_the_parameter_by_hand() -> None:
    """Row 1 occurs at t = 2 for the first time: with β₁ = β₂ = ½, m = 3, v = 18 and both corrections are ¾.

    So m̂ = 4 and √v̂ = √24; the uncorrected form has √¾/¾ · 3/(√18 + ε).
    """
    gradients = [(np.array([0]), np.array([1.0])), (np.array([1]), np.array([6.0]))]
    hyper = {"lr": 1.0, "betas": (0.5, 0.5), "eps": 2.0}

    corrected = sparse.adam_corrected(np.zeros(2), gradients, **hyper)[-1]
    uncorrected = sparse.adam(np.zeros(2), gradients, **hyper)[-1]

    assert corrected[1] == pytest.approx(-4 / (np.sqrt(24) + 2), abs=1e-14)
    assert uncorrected[1] == pytest.approx(-np.sqrt(0.75) / 0.75 * 3 / (np.sqrt(18) + 2), abs=1e-14)


def test_lazy_momentum_decays_with_the_rows_own_steps() -> None:
    """Row 1 moves by 4, rests, then by ½·4 + 0; in PyTorch its buffer would have moved it in between."""
    gradients = [(np.array([1]), np.array([4.0])), (np.array([0]), np.array([1.0]))]
    gradients += [(np.array([1]), np.array([0.0]))]

    path = sparse.sgd(np.zeros(2), gradients, lr=1.0, momentum=0.5)

    assert [theta.tolist() for theta in path] == [[0.0, -4.0], [-1.0, -4.0], [-1.0, -6.0]]


@pytest.mark.parametrize("name", SPARSE_RUNS)
def test_sparse_inputs_are_left_alone(name: str) -> None:
    theta0, gradients = _sparse_gradients((3,))
    copies = theta0.copy(), [None if g is None else (g[0].copy(), g[1].copy()) for g in gradients]

    path = SPARSE_RUNS[name](theta0, gradients, maximize=True)
    path[0][...] = 1e9

    assert np.array_equal(theta0, copies[0])
    for gradient, copy in zip(gradients, copies[1], strict=True):
        assert gradient is copy is None or all(map(np.array_equal, gradient, copy))
    assert (np.abs(path[1]) < 1e9).all()

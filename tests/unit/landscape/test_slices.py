"""Slices of a person's model: the right losses, as a fleet or one by one, and no trace."""

import copy
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from thalweg.errors import InputError, TaskError
from thalweg.landscape import difference, random_direction, slice_of
from thalweg.landscape.directions import weights_of
from thalweg.landscape.losses import Losses, OnBatch

AXIS = np.linspace(-1, 1, 7)


def network(dtype: torch.dtype = torch.float32) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 3)).to(
        dtype
    )


def batch(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(20, 4, generator=generator).to(dtype), torch.arange(20) % 3


def cross_entropy(model: nn.Module, batch: Any) -> Tensor:
    return functional.cross_entropy(model(batch[0]), batch[1])


def by_hand(model: nn.Module, batch: Any, directions: Any, *places: float) -> float:
    """Return the loss of a copy whose weights were moved."""
    moved = copy.deepcopy(model).eval()
    with torch.no_grad():
        for place, direction in zip(places, directions, strict=True):
            for name, d in direction.items():
                moved.get_parameter(name).add_(place * d)
        return cross_entropy(moved, batch).item()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
def test_a_plane_is_what_moving_the_weights_by_hand_gives(dtype: torch.dtype, tolerance: float) -> None:
    """Up to the rounding of products that are summed in another order."""
    model, given = network(dtype), batch(dtype)
    directions = [random_direction(model, 0, k) for k in (0, 1)]

    found = slice_of(model, cross_entropy, given, directions, [AXIS, AXIS[:3]])

    expected = [[by_hand(model, given, directions, x, y) for y in AXIS[:3]] for x in AXIS]
    assert found.shape == (7, 3)
    np.testing.assert_allclose(found, expected, rtol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
def test_a_fleet_agrees_with_one_by_one(dtype: torch.dtype, tolerance: float) -> None:
    model, given = network(dtype), batch(dtype)
    directions, places = [random_direction(model, 0)], AXIS[:, None]
    together = Losses(model, OnBatch(cross_entropy, model, given))
    alone = Losses(model, OnBatch(cross_entropy, model, given), fleet=False)

    found = [losses.around(weights_of(model), directions, places) for losses in (together, alone)]

    assert together.one_by_one == ""
    assert alone.one_by_one == "it was asked for"
    np.testing.assert_allclose(*found, rtol=tolerance)


def test_no_trace_is_left_in_the_model_or_in_the_generators() -> None:
    model = network().train()
    model[3].eval()  # modules may be in different modes
    cross_entropy(model, batch()).backward()
    model.zero_grad(set_to_none=False)
    model[4].seen = 0
    state = copy.deepcopy(model.state_dict())
    gradients = [p.grad for p in model.parameters()]
    parameters = list(model.parameters())
    generators = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()

    def noisy(model: nn.Module, batch: Any) -> Tensor:
        model[4].seen += 1
        model[1].running_mean.add_(1.0)  # type: ignore[operator]
        np.random.normal(), random.random()
        return cross_entropy(model, batch) + 0 * torch.randn(())

    found = slice_of(model, noisy, batch(), [random_direction(model, 0)], [AXIS])

    assert np.isfinite(found).all()
    assert all(torch.equal(x, state[name]) for name, x in model.state_dict().items())
    assert [m.training for m in model] == [True, True, True, False, True]
    assert model[4].seen == 0
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert all(p.grad is g and p.requires_grad for p, g in zip(model.parameters(), gradients, strict=True))
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert (np.random.get_state()[1] == generators[1]).all()
    assert random.getstate() == generators[2]


def test_an_error_of_the_loss_is_shown_as_one_and_leaves_no_trace_either() -> None:
    model = network().train()
    state = copy.deepcopy(model.state_dict())

    def broken(model: nn.Module, batch: Any) -> Tensor:
        model[1].running_mean.add_(1.0)  # type: ignore[operator]
        raise KeyError("no such thing")

    with pytest.raises(TaskError, match="no such thing"):
        slice_of(model, broken, batch(), [random_direction(model, 0)], [AXIS])
    assert all(torch.equal(x, state[name]) for name, x in model.state_dict().items())
    assert model.training
    assert model[1].training


def test_what_cannot_be_stacked_is_measured_one_by_one_and_the_reason_is_named() -> None:
    model, given = network(), batch()

    def branching(model: nn.Module, batch: Any) -> Tensor:
        loss = cross_entropy(model, batch)
        return loss if loss.item() > 0 else -loss

    losses = Losses(model, OnBatch(branching, model, given))
    directions = [random_direction(model, 0)]
    found = losses.around(weights_of(model), directions, AXIS[:, None])

    assert losses.one_by_one.startswith("it cannot be stacked: vmap: It looks like you're calling ")
    np.testing.assert_allclose(found, [by_hand(model, given, directions, x) for x in AXIS], rtol=1e-6)


def test_a_stack_that_computes_something_else_is_not_believed() -> None:
    model, given = network(), batch()

    def counting(model: nn.Module, batch: Any) -> Tensor:
        stacked = torch._C._functorch.is_batchedtensor(model[0].weight)
        return cross_entropy(model, batch) + (1.0 if stacked else 0.0)

    losses = Losses(model, OnBatch(counting, model, given))
    found = losses.around(weights_of(model), [], np.zeros((2, 0)))

    assert losses.one_by_one.startswith("its loss in a stack is ")
    assert found == pytest.approx([by_hand(model, given, [])] * 2, rel=1e-6)


def test_the_first_stack_whose_loss_is_finite_is_compared_with_that_alone() -> None:
    model = nn.Linear(1, 1, bias=False)

    def loss(model: nn.Module, batch: Any) -> Tensor:
        stacked = torch._C._functorch.is_batchedtensor(model.weight)  # in a stack it is another function
        found: Tensor = 1 / (model.weight - 1).abs().sum().floor() + stacked
        return found

    with torch.no_grad():
        model.weight.fill_(1.0)
    losses = Losses(model, OnBatch(loss, model, (torch.ones(1, 1),)))

    at = weights_of(model)
    assert np.isnan(losses.around(at, [{"weight": torch.ones(1, 1)}], [[0.0], [0.5]])).all()
    assert losses.around(at, [{"weight": torch.ones(1, 1)}], [[1.0], [2.0]]) == [1.0, 0.5]
    assert losses.one_by_one == "its loss in a stack is 2, and alone 1"


def test_random_numbers_of_the_loss_are_the_same_in_a_stack_and_alone() -> None:
    model = nn.Linear(1, 1, bias=False)

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return model.weight.sum() + torch.randn(())

    place = [[0.0], [0.5], [1.0]]
    found = [
        Losses(model, OnBatch(loss, model, (torch.ones(1, 1),)), fleet).around(
            weights_of(model), [{"weight": torch.ones(1, 1)}], place
        )
        for fleet in (True, False)
    ]

    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)


def test_a_loss_that_is_not_finite_is_nan_and_the_others_are_right() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)

    found = slice_of(
        model, lambda m, x: m(x).log().mean(), torch.ones(2, 1), [{"weight": torch.ones(1, 1)}], [[-2, -1, 0]]
    )

    assert np.isnan(found[:2]).all()
    assert found[2] == 0.0


def test_the_batch_is_never_cut() -> None:
    """The largest of a batch is no mean over its parts."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    x = torch.arange(3000.0)[:, None]

    found = slice_of(model, lambda m, x: m(x).max(), x, [{"weight": torch.ones(1, 1)}], [[0.0, 1.0]])

    assert found.tolist() == [2999.0, 5998.0]


def test_the_line_between_two_models_ends_at_the_second() -> None:
    first, second, given = network(), network(), batch()

    found = slice_of(first, cross_entropy, given, [difference(first, second)], [[0.0, 0.5, 1.0]])

    direction = difference(first, second)
    assert found[0] == pytest.approx(by_hand(first, given, []), rel=1e-6)
    assert found[2] == pytest.approx(by_hand(second, given, []), rel=1e-5)
    assert found[1] == pytest.approx(by_hand(first, given, [direction], 0.5), rel=1e-6)


def test_second_differences_agree_with_hessian_vector_products() -> None:
    """With h = 1e-4 the difference is wrong by about h²·L⁗/12 and by 4ε·L/h² = 1e-7, in float64."""
    model, given = network(torch.float64).eval(), batch(torch.float64)
    directions = [random_direction(model, 0, k) for k in (0, 1)]
    h = 1e-4

    found = slice_of(model, cross_entropy, given, directions, [[-h, 0, h]] * 2)

    parameters = {name: p for name, p in model.named_parameters() if name in directions[0]}
    slopes = torch.autograd.grad(cross_entropy(model, given), list(parameters.values()), create_graph=True)

    def curvature(a: Any, b: Any) -> float:
        along = sum((g * a[n]).sum() for n, g in zip(parameters, slopes, strict=True))
        product = torch.autograd.grad(along, list(parameters.values()), retain_graph=True)
        return sum(float((p * b[n]).sum()) for n, p in zip(parameters, product, strict=True))

    first, second = directions
    assert (found[2, 1] - 2 * found[1, 1] + found[0, 1]) / h**2 == pytest.approx(
        curvature(first, first), rel=1e-5
    )
    assert (found[1, 2] - 2 * found[1, 1] + found[1, 0]) / h**2 == pytest.approx(
        curvature(second, second), rel=1e-5
    )
    mixed = (found[2, 2] - found[2, 0] - found[0, 2] + found[0, 0]) / (4 * h**2)
    assert mixed == pytest.approx(curvature(first, second), rel=1e-5, abs=1e-6)


def test_tied_weights_move_together() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    x = torch.randn(5, 3)
    direction = {"0.weight": torch.eye(3)}

    (found,) = slice_of(model, lambda m, x: m(x).square().mean(), x, [direction], [[1.0]])

    moved = model[0].weight.detach() + torch.eye(3)
    assert found == pytest.approx((x @ moved.T @ moved.T).square().mean().item(), rel=1e-5)


@pytest.mark.parametrize(
    ("directions", "axes", "message"),
    [
        ([], [], "the axes of a slice must be as many as its directions; got 0 for 0."),
        ([{}], [], "the axes of a slice must be as many as its directions; got 0 for 1."),
        (
            [{"weight": torch.ones(2)}],
            [[0.0]],
            "a direction must have the shapes of what is",
        ),
        (
            [{"other": torch.ones(2)}],
            [[0.0]],
            "a direction must have the shapes of what is",
        ),
        ([{}], [[]], "an axis of a slice must be one or more finite numbers"),
        ([{}], [[np.nan]], "an axis of a slice must be one or more finite numbers"),
        ([{}], [[[1.0]]], "an axis of a slice must be one or more finite numbers"),
    ],
)
def test_what_does_not_fit_is_refused(directions: Any, axes: Any, message: str) -> None:
    with pytest.raises(InputError) as refused:
        slice_of(nn.Linear(1, 1), lambda m, x: m(x).mean(), torch.ones(1, 1), directions, axes)
    assert str(refused.value).startswith(message)

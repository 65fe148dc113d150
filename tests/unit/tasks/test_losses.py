"""Losses against closed forms in float64, and at logits where naive formulas fail."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from thalweg.errors import TaskError
from thalweg.tasks import losses

Array = NDArray[np.float64]
RNG = np.random.default_rng(0)
Z = 3 * RNG.standard_normal((50, 4))  # logits of four classes
Y = RNG.integers(0, 4, 50)
W = np.array([0.5, 1.0, 2.0, 4.0])
ROWS = np.arange(50)
TO_ROUNDING = {"rtol": 1e-12, "atol": 1e-14}  # float64, sums of 50 terms of order 1


def log_softmax(z: Array) -> Array:
    return z - np.logaddexp.reduce(z, axis=1, keepdims=True)


def log_sigmoid(z: Array) -> Array:
    return -np.logaddexp(0.0, -z)


def test_categorical_cross_entropy_is_the_closed_form() -> None:
    expected = -log_softmax(Z)[ROWS, Y].mean()

    actual = losses.categorical_cross_entropy(torch.tensor(Z), torch.tensor(Y))
    np.testing.assert_allclose(actual, expected, **TO_ROUNDING)


def test_class_weights_make_the_mean_one_over_weights() -> None:
    expected = -(W[Y] * log_softmax(Z)[ROWS, Y]).sum() / W[Y].sum()

    actual = losses.categorical_cross_entropy(torch.tensor(Z), torch.tensor(Y), torch.tensor(W))
    np.testing.assert_allclose(actual, expected, **TO_ROUNDING)


@pytest.mark.parametrize("weights", [None, W[:2]])
def test_binary_cross_entropy_is_the_closed_form(weights: Array | None) -> None:
    z, y = Z[:, 0], Y % 2
    w = np.ones(50) if weights is None else weights[y]
    expected = -(w * log_sigmoid(np.where(y == 1, z, -z))).sum() / w.sum()

    given_weights = None if weights is None else torch.tensor(weights)
    actual = losses.binary_cross_entropy(torch.tensor(z), torch.tensor(y), given_weights)
    np.testing.assert_allclose(actual, expected, **TO_ROUNDING)


@given(st.integers(1, 49))
def test_weighted_losses_of_two_micro_batches_add_up_to_that_of_the_batch(cut: int) -> None:
    z, y, w = torch.tensor(Z), torch.tensor(Y), torch.tensor(W)
    halves = [(z[:cut], y[:cut]), (z[cut:], y[cut:])]
    weights = [losses.label_weight(b, w) for _, b in halves]
    total = sum(
        losses.categorical_cross_entropy(a, b, w) * v for (a, b), v in zip(halves, weights, strict=True)
    )

    torch.testing.assert_close(
        total / sum(weights), losses.categorical_cross_entropy(z, y, w), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("alpha", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_binary_focal_is_the_closed_form_for_both_classes(alpha: float, gamma: float) -> None:
    z, y = Z[:, 0], Y % 2
    p = 1 / (1 + np.exp(-z))
    positive = -alpha * (1 - p) ** gamma * np.log(p)
    negative = -(1 - alpha) * p**gamma * np.log(1 - p)

    actual = losses.binary_focal(torch.tensor(z), torch.tensor(y), alpha, gamma)
    np.testing.assert_allclose(actual, np.where(y == 1, positive, negative).mean(), rtol=1e-11)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_categorical_focal_is_the_closed_form(gamma: float) -> None:
    log_p = log_softmax(Z)[ROWS, Y]
    expected = (-W[Y] * (1 - np.exp(log_p)) ** gamma * log_p).mean()

    actual = losses.categorical_focal(torch.tensor(Z), torch.tensor(Y), torch.tensor(W), gamma)
    np.testing.assert_allclose(actual, expected, rtol=1e-11)


def test_focal_of_two_classes_is_binary_focal() -> None:
    z, y = torch.tensor(Z[:, 0]), torch.tensor(Y % 2)
    two = torch.stack([torch.zeros_like(z), z], dim=1)

    actual = losses.categorical_focal(two, y, torch.tensor([0.75, 0.25]))
    torch.testing.assert_close(actual, losses.binary_focal(z, y), rtol=1e-12, atol=0)


def test_focal_with_gamma_0_is_cross_entropy() -> None:
    z, y = torch.tensor(Z), torch.tensor(Y)

    actual = losses.categorical_focal(z, y, gamma=0.0)
    torch.testing.assert_close(actual, losses.categorical_cross_entropy(z, y), rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e2, 1e4])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_is_finite_and_exact_at_extreme_logits(dtype: torch.dtype, size: float, gamma: float) -> None:
    z = torch.tensor([size, -size, size, -size], dtype=dtype, requires_grad=True)
    y = torch.tensor([1, 0, 0, 1])
    # right and sure: 0; wrong and sure: (1 − p_t)^γ = 1, −log p_t = size, weights 0.75 and 0.25
    value = losses.binary_focal(z, y, gamma=gamma)
    value.backward()

    assert value.item() == size / 4
    assert z.grad is not None
    # e⁻¹⁰⁰ is 4e-44, and its square root 2e-22: not quite 0
    assert z.grad.tolist() == pytest.approx([0.0, 0.0, 0.75 / 4, -0.25 / 4], rel=0, abs=1e-20)


@pytest.mark.parametrize("size", [1e2, 1e4])
@pytest.mark.parametrize("label", [0, 1])
def test_categorical_losses_are_finite_and_exact_at_extreme_logits(size: float, label: int) -> None:
    for loss in (losses.categorical_cross_entropy, losses.categorical_focal):
        z = torch.tensor([[size, -size, -size]], requires_grad=True)
        value = loss(z, torch.tensor([label]))
        value.backward()

        assert value.item() == (0.0 if label == 0 else 2 * size)
        assert z.grad is not None
        assert z.grad.tolist() == [[0.0, 0.0, 0.0] if label == 0 else [1.0, -1.0, 0.0]]


@given(st.lists(st.floats(-30, 30), min_size=2, max_size=5), st.floats(0, 4))
def test_gradients_of_focal_are_those_of_finite_differences(logits: list[float], gamma: float) -> None:
    z = torch.tensor([logits], dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(
        lambda x: losses.categorical_focal(x, torch.tensor([0]), gamma=gamma), (z,), rtol=1e-4, atol=1e-6
    )


def test_regression_losses_are_their_formulas() -> None:
    a, b = torch.tensor(Z[:, 0]), torch.tensor(Z[:, 1])
    r = np.abs(Z[:, 0] - Z[:, 1])
    hubers = np.where(r <= 1.5, r**2 / 2, 1.5 * (r - 0.75))

    np.testing.assert_allclose(losses.mean_squared_error(a, b), (r**2).mean(), **TO_ROUNDING)
    np.testing.assert_allclose(losses.mean_absolute_error(a, b), r.mean(), **TO_ROUNDING)
    np.testing.assert_allclose(losses.huber(a, b, delta=1.5), hubers.mean(), **TO_ROUNDING)


@pytest.mark.parametrize(
    "loss",
    [
        losses.mean_squared_error,
        losses.mean_absolute_error,
        losses.huber,
        losses.binary_cross_entropy,
        losses.binary_focal,
    ],
)
def test_shapes_that_would_be_broadcast_are_refused(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    with pytest.raises(TaskError, match=r"have the same shape; got \(3, 1\) and \(3,\)"):
        loss(torch.zeros(3, 1), torch.zeros(3))


def test_focal_of_one_class_is_refused() -> None:
    with pytest.raises(TaskError, match="K ≥ 2"):
        losses.categorical_focal(torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64))

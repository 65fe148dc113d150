"""Lion, LARS and LAMB, which PyTorch does not have: numbers by hand, recursions, what their steps keep."""

from itertools import pairwise

import numpy as np
import pytest

from noise import WARMED, distance, label, of_several_sizes
from oracles import adam, lamb, lars, lion


def test_lion_by_hand() -> None:
    """m = 0, then ¼·4 = 1; the second direction is ½·1 - ½·2 < 0. Both steps first halve θ, since γλ = ½."""
    gradients = [np.array(4.0), np.array(-2.0)]

    path = lion.run(np.array(8.0), gradients, lr=1.0, betas=(0.5, 0.75), weight_decay=0.5)
    halved = lion.run(
        np.array(8.0), gradients, factors=[1.0, 0.5], lr=1.0, betas=(0.5, 0.75), weight_decay=0.5
    )

    assert [float(theta) for theta in path] == [3.0, 2.5]
    assert [float(theta) for theta in halved] == [3.0, 2.75]  # ¾ · 3 + ½


@pytest.mark.parametrize("hyper", [{}, {"betas": (0.6, 0.8), "weight_decay": 0.3, "lr": 0.05}], ids=label)
def test_lion_is_its_recursion_written_out(hyper: dict) -> None:
    theta0, gradients = of_several_sizes(())
    beta1, beta2 = hyper.get("betas", (0.9, 0.99))
    theta, average, expected = theta0, np.zeros_like(theta0), []
    for gradient, factor in zip(gradients, WARMED, strict=True):
        rate = hyper.get("lr", 1e-4) * factor
        sign = np.sign(beta1 * average + (1 - beta1) * gradient)
        theta = theta - rate * (sign + hyper.get("weight_decay", 0.0) * theta)
        average = beta2 * average + (1 - beta2) * gradient
        expected.append(theta)

    assert distance(lion.run(theta0, gradients, factors=WARMED, **hyper), expected, theta0) <= 1e-12


@pytest.mark.parametrize("nesterov", [False, True])
def test_lars_is_its_recursion_written_out(nesterov: bool) -> None:
    theta0, gradients = of_several_sizes(())
    theta, buffer, expected = theta0, np.zeros_like(theta0), []
    for gradient, factor in zip(gradients, WARMED, strict=True):
        size = np.linalg.norm(theta)
        trust = 0.1 * size / (np.linalg.norm(gradient) + 0.2 * size + 1e-8)
        move = 0.5 * factor * trust * (gradient + 0.2 * theta)
        buffer = 0.8 * buffer + move
        theta = theta - (move + 0.8 * buffer if nesterov else buffer)
        expected.append(theta)

    hyper = {"lr": 0.5, "momentum": 0.8, "weight_decay": 0.2, "trust_coefficient": 0.1, "nesterov": nesterov}
    assert distance(lars.run(theta0, gradients, factors=WARMED, **hyper), expected, theta0) <= 1e-12


def test_lion_without_momentum_is_sign_descent() -> None:
    theta0, gradients = of_several_sizes(())

    path = lion.run(theta0, gradients, factors=WARMED, betas=(0.0, 0.9))

    expected = theta0 - 1e-4 * np.cumsum([f * np.sign(g) for f, g in zip(WARMED, gradients, strict=True)], 0)
    assert distance(path, expected, theta0) <= 1e-12


def test_lars_keeps_the_rate_inside_the_buffer() -> None:
    """‖θ‖ = ‖g‖ = 8 and then 4 = 4 give q = ½: b = 4 and ½·4 + ¼·½·4 = 2.5 (rate outside: ¼·(4 + 2) = 1)."""
    gradients = [np.array(8.0), np.array(4.0)]
    hyper = {"lr": 1.0, "momentum": 0.5, "trust_coefficient": 0.5, "eps": 0.0}

    path = lars.run(np.array(8.0), gradients, factors=[1.0, 0.25], **hyper)

    assert [float(theta) for theta in path] == [4.0, 1.5]


def test_lars_nesterov_and_decay_by_hand() -> None:
    """q = ½·8/(4 + ½·8) = ½, d = ½·(4 + ½·8) = 4, b = 4; Nesterov moves by 4 + ½·4."""
    hyper = {"lr": 1.0, "momentum": 0.5, "trust_coefficient": 0.5, "eps": 0.0, "weight_decay": 0.5}

    (plain,) = lars.run(np.array(8.0), [np.array(4.0)], **hyper)
    (nesterov,) = lars.run(np.array(8.0), [np.array(4.0)], nesterov=True, **hyper)

    assert (float(plain), float(nesterov)) == (4.0, 2.0)


def test_lars_takes_a_ratio_of_one_where_a_norm_is_zero() -> None:
    zero, one = np.zeros(2), np.ones(2)

    assert lars.run(zero, [one], lr=0.5)[0].tolist() == [-0.5, -0.5]
    assert lars.run(one, [zero], lr=0.5, weight_decay=0.5)[0].tolist() == [0.75, 0.75]


def test_lars_without_momentum_moves_by_a_given_part_of_the_norm() -> None:
    theta0, gradients = of_several_sizes(())

    path = lars.run(theta0, gradients, factors=WARMED, lr=0.5, momentum=0.0, trust_coefficient=0.1, eps=0.0)

    points = [theta0, *path]
    moved = [np.linalg.norm(b - a) / np.linalg.norm(a) for a, b in pairwise(points)]
    assert moved == pytest.approx([0.05 * f for f in WARMED], rel=1e-12, abs=1e-15)


def test_lamb_moves_by_a_given_part_of_the_norm_whatever_the_gradients_size() -> None:
    theta0, gradients = of_several_sizes(())
    gradients = [g + 0.01 for g in gradients]  # no column of zeros, since ε = 0

    path = lamb.run(theta0, gradients, factors=WARMED, lr=0.1, eps=0.0)
    larger = lamb.run(theta0, [1024 * g for g in gradients], factors=WARMED, lr=0.1, eps=0.0)

    points = [theta0, *path]
    moved = [np.linalg.norm(b - a) / np.linalg.norm(a) for a, b in pairwise(points)]
    assert moved == pytest.approx([0.1 * f for f in WARMED], rel=1e-12, abs=1e-15)
    assert np.array_equal(np.array(path), np.array(larger))  # 1024 is a power of two


def test_lamb_by_hand() -> None:
    """θ = (8, 6) has norm 10, r = (1, -1) + ½·(8, 6) = (5, 2)."""
    (theta,) = lamb.run(
        np.array([8.0, 6.0]), [np.array([3.0, -9.0])], lr=1.0, betas=(0.5, 0.75), eps=0.0, weight_decay=0.5
    )

    assert theta == pytest.approx([8 - 50 / np.sqrt(29), 6 - 20 / np.sqrt(29)], abs=1e-14)


def test_lamb_takes_adams_direction_and_a_ratio_of_one_from_zero() -> None:
    theta0, gradients = of_several_sizes(())
    hyper = {"betas": (0.8, 0.9), "eps": 1e-3}

    first = lamb.run(np.zeros((3, 4)), gradients[:1], lr=0.1, **hyper)
    path = lamb.run(theta0, gradients, lr=0.1, weight_decay=0.0, **hyper)

    assert np.array_equal(first[0], adam.run(np.zeros((3, 4)), gradients[:1], lr=0.1, **hyper)[0])
    ours = np.diff([theta0, *path], axis=0)
    theirs = np.diff([theta0, *adam.run(theta0, gradients, lr=0.1, **hyper)], axis=0)
    ours /= np.linalg.norm(ours, axis=(1, 2), keepdims=True)
    theirs /= np.linalg.norm(theirs, axis=(1, 2), keepdims=True)
    assert ours == pytest.approx(theirs, abs=1e-12)


def test_lamb_stays_where_nothing_pulls() -> None:
    """The norm of r is 0, and so the ratio 1."""
    (theta,) = lamb.run(np.ones(2), [np.zeros(2)], weight_decay=0.0)

    assert theta.tolist() == [1.0, 1.0]

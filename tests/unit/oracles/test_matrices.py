"""Muon, Shampoo and SOAP against PyTorch, their recursions, Adam in other coordinates, numbers by hand."""

import math

import numpy as np
import pytest
import torch

from noise import FALLING, SILENT, distance, start_and_gradients
from oracles import adam, muon, shampoo, soap

# Muon.


@pytest.mark.parametrize("silent", [(), SILENT])
@pytest.mark.parametrize("shape", [(3, 4), (6, 2), (4, 4), (1, 5)])
@pytest.mark.parametrize(
    "hyper",
    [
        {},
        {"lr": 0.02, "weight_decay": 0.0, "nesterov": False},
        {"lr": 0.1, "momentum": 0.5, "scale": "match_rms_adamw"},
        {"ns_coefficients": (2.0, -1.5, 0.5), "ns_steps": 12, "eps": 1e-3, "momentum": 0.0},
    ],
)
def test_muon_equals_torch_in_double_precision(hyper, shape, silent, monkeypatch) -> None:
    # A copy, as a conversion to another type would be: torch normalises it in place.
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda self: self.double().clone())
    theta0, gradients = start_and_gradients(shape, silent)
    options = {"adjust_lr_fn" if key == "scale" else key: value for key, value in hyper.items()}
    parameter = torch.nn.Parameter(torch.tensor(theta0))
    optimizer = torch.optim.Muon([parameter], **options)
    rate = optimizer.param_groups[0]["lr"]
    expected = []
    for gradient, factor in zip(gradients, FALLING, strict=True):
        parameter.grad = None if gradient is None else torch.tensor(gradient)
        optimizer.param_groups[0]["lr"] = rate * factor
        optimizer.step()
        expected.append(parameter.detach().numpy().copy())

    actual = muon.run(theta0, gradients, factors=FALLING, **hyper)

    # Five steps of slope 3.4 at 0 blow rounding errors of small singular values up by 500.
    assert distance(actual, expected, theta0) < 1e-10


def test_muon_by_hand() -> None:
    """u = diag(3, 4)/5; f(σ) = σ + σ³ + σ⁵."""
    path = muon.run(
        np.zeros((2, 2)),
        [np.diag([3.0, 4.0])],
        lr=1.0,
        weight_decay=0.0,
        ns_coefficients=(1.0, 1.0, 1.0),
        ns_steps=1,
    )

    assert -path[0] == pytest.approx(
        np.diag([0.6 + 0.216 + 0.07776, 0.8 + 0.512 + 0.32768]), rel=1e-14, abs=1e-15
    )


def test_muon_divides_by_eps_where_the_norm_is_less() -> None:
    """u = ½·0.4 + ½·(½·0.4) = 0.3 under ε = ½: 0.6; q = 0.2·√1."""
    path = muon.run(
        np.zeros((1, 1)),
        [np.array([[0.4]])],
        lr=1.0,
        weight_decay=0.0,
        momentum=0.5,
        ns_coefficients=(1.0, 0.0, 0.0),
        eps=0.5,
        scale="match_rms_adamw",
    )

    assert float(path[0][0, 0]) == pytest.approx(-0.12, rel=1e-14)


def test_muon_of_a_zero_gradient_decays_only() -> None:
    path = muon.run(np.full((2, 2), 8.0), [np.zeros((2, 2))], lr=0.5, weight_decay=0.5)

    assert path[0].tolist() == [[6.0, 6.0], [6.0, 6.0]]


# Shampoo.


def test_shampoo_of_diagonal_gradients_is_adagrad_with_eps_inside_the_root() -> None:
    """L = R = diag(ε + Σ g²): two quarter roots make a square root; momentum adds half of the first step."""
    gradients = [np.diag([3.0, 0.0]), np.diag([4.0, 1.0])]

    path = shampoo.run(np.zeros((2, 2)), gradients, lr=1.0, eps=1.0, momentum=0.5)

    first = 3 / math.sqrt(10)
    assert -np.diag(path[0]) == pytest.approx([first, 0.0], abs=1e-14)
    assert -np.diag(path[1]) == pytest.approx([1.5 * first + 4 / math.sqrt(26), 1 / math.sqrt(2)], rel=1e-14)
    assert path[1][0, 1] == path[1][1, 0] == 0.0


@pytest.mark.parametrize("update_every", [1, 3])
@pytest.mark.parametrize("shape", [(3, 4), (5, 2), (1, 3)])
def test_shampoo_equals_its_recursion(shape: tuple[int, int], update_every: int) -> None:
    theta0, gradients = start_and_gradients(shape, SILENT)
    decay, momentum, eps = 0.1, 0.7, 1e-2

    def root(matrix: np.ndarray) -> np.ndarray:
        values, vectors = np.linalg.eigh(matrix)
        return vectors @ np.diag(values**-0.25) @ vectors.T

    theta, ball, t = theta0, np.zeros(shape), 0
    left, right = eps * np.eye(shape[0]), eps * np.eye(shape[1])
    expected = []
    for raw, factor in zip(gradients, FALLING, strict=True):
        if raw is not None:
            g = decay * theta - raw
            left, right = left + g @ g.T, right + g.T @ g
            if t % update_every == 0:
                roots = root(left), root(right)
            t += 1
            ball = momentum * ball + roots[0] @ g @ roots[1]
            theta = theta - 0.3 * factor * ball
        expected.append(theta)

    actual = shampoo.run(
        theta0,
        gradients,
        factors=FALLING,
        lr=0.3,
        momentum=momentum,
        weight_decay=decay,
        eps=eps,
        update_every=update_every,
        maximize=True,
    )
    # eigh finds the least eigenvalues, about ε, to 1e-16 of the greatest, about 1e3.
    assert distance(actual, expected, theta0) < 1e-10


# SOAP.


def _orthogonal(size: int, seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))[0]


def test_soap_in_bases_that_stay_is_adam_in_rotated_coordinates() -> None:
    """But for the first gradient, which is skipped, and decay, taken after the step."""
    theta0, gradients = start_and_gradients((3, 4))
    left, right = _orthogonal(3, 1), _orthogonal(4, 2)

    path = soap.run(
        theta0,
        gradients,
        bases=(left, right),
        lr=0.1,
        betas=(0.9, 0.99),
        eps=0.0,
        weight_decay=0.0,
        update_every=1000,
    )
    rotated = adam.run(
        left.T @ theta0 @ right,
        [left.T @ g @ right for g in gradients[1:]],
        lr=0.1,
        betas=(0.9, 0.99),
        eps=0.0,
    )

    assert np.array_equal(path[0], theta0)
    assert distance(path[1:], [left @ theta @ right.T for theta in rotated], theta0) < 1e-12


def test_soap_of_a_vector_is_adam_without_the_first_gradient() -> None:
    theta0, gradients = start_and_gradients((5,))

    path = soap.run(theta0, gradients, lr=0.1, betas=(0.9, 0.99), eps=0.0, weight_decay=0.0)

    expected = adam.run(theta0, gradients[1:], lr=0.1, betas=(0.9, 0.99), eps=0.0)
    assert np.array_equal(path[0], theta0)
    assert distance(path[1:], expected, theta0) < 1e-12


def test_soap_decays_after_the_move() -> None:
    """Both bases of a 1 x 1 matrix are ±1: γ = ½, a step of ½ from 8½ to 8, of which a quarter is lost."""
    gradients = [np.array([[3.0]])] * 2

    path = soap.run(np.array([[8.5]]), gradients, lr=0.5, eps=0.0, weight_decay=0.5)

    assert [float(theta[0, 0]) for theta in path] == pytest.approx([8.5, 6.0], abs=1e-14)


def test_soap_adds_eps_to_the_root_before_its_correction() -> None:
    """β = (0, ¾), g = 4: √v = 2, √(1-β₂) = ½: ½·4/(2 + 2)."""
    path = soap.run(
        np.zeros((1, 1)), [np.array([[4.0]])] * 2, lr=1.0, betas=(0.0, 0.75), eps=2.0, weight_decay=0.0
    )

    assert float(path[1][0, 0]) == pytest.approx(-0.5, abs=1e-14)


@pytest.mark.parametrize(
    ("shape", "max_dimension", "update_every", "shampoo_beta"),
    [
        ((4, 4), 10000, 1, None),
        ((4, 4), 10000, 3, 0.8),
        ((4, 3), 3, 2, None),
        ((3, 4), 3, 2, 0.5),
        ((4, 4), 3, 2, None),
    ],
)
def test_soap_equals_its_recursion(shape, max_dimension, update_every, shampoo_beta) -> None:
    theta0, gradients = start_and_gradients(shape, SILENT)
    lr, beta1, beta2, eps, decay = 0.1, 0.9, 0.95, 1e-8, 0.1
    beta = beta2 if shampoo_beta is None else shampoo_beta

    sides = [side for side in (0, 1) if shape[side] <= max_dimension]
    gram = [np.zeros((size, size)) for size in shape]
    basis = [np.eye(size) for size in shape]
    m = v = np.zeros(shape)
    theta, t = theta0, -1
    expected = []
    for g, factor in zip(gradients, FALLING, strict=True):
        if g is not None:
            t += 1
            if t > 0:
                m = beta1 * m + (1 - beta1) * g
                v = beta2 * v + (1 - beta2) * (basis[0].T @ g @ basis[1]) ** 2
                rotated = basis[0].T @ m @ basis[1] / (np.sqrt(v) + eps)
                rate = lr * factor * np.sqrt(1 - beta2**t) / (1 - beta1**t)
                theta = theta - rate * basis[0] @ rotated @ basis[1].T
                theta = theta - lr * factor * decay * theta
            for side, product in ((0, g @ g.T), (1, g.T @ g)):
                gram[side] = beta * gram[side] + (1 - beta) * product
            for side in sides:
                if t == 0:
                    basis[side] = np.linalg.eigh(gram[side])[1][:, ::-1]
                elif t % update_every == 0:
                    order = np.argsort(-np.diag(basis[side].T @ gram[side] @ basis[side]))
                    basis[side] = np.linalg.qr(gram[side] @ basis[side][:, order])[0]
                    v = np.take(v, order, axis=side)
        expected.append(theta)

    actual = soap.run(
        theta0,
        gradients,
        factors=FALLING,
        lr=lr,
        betas=(beta1, beta2),
        shampoo_beta=shampoo_beta,
        eps=eps,
        weight_decay=decay,
        update_every=update_every,
        max_dimension=max_dimension,
    )
    # eigh of a Gram matrix is less exact than the oracle's singular vectors by the condition number of G.
    assert distance(actual, expected, theta0) < 1e-9


def test_neither_sign_nor_order_of_the_first_basis_matters_to_soap() -> None:
    theta0, gradients = start_and_gradients((4, 4))
    left, right = np.linalg.svd(gradients[0])[0], np.linalg.svd(gradients[0])[2].T
    signs = np.array([1.0, -1.0, -1.0, 1.0])

    path = soap.run(theta0, gradients, update_every=3)
    given = soap.run(theta0, gradients, update_every=3, bases=(left, right))
    turned = soap.run(theta0, gradients, update_every=3, bases=(left * signs, right * -signs))
    shuffled = soap.run(theta0, gradients, update_every=3, bases=(left[:, ::-1], right[:, [2, 0, 3, 1]]))
    other = soap.run(theta0, gradients, update_every=3, bases=(_orthogonal(4, 1), right))

    assert distance(given, path, theta0) < 1e-12
    assert distance(turned, path, theta0) < 1e-12
    assert distance(shuffled, path, theta0) < 1e-12
    assert distance(other, path, theta0) > 1e-3

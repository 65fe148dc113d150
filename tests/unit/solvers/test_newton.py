"""Newton's methods: steps by hand, subproblems against a search, saddles left."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.solvers.minimize import minimize
from thalweg.solvers.newton import downhill, within
from thalweg.solvers.outcome import Kind

NUMBERS = st.floats(-5, 5).filter(lambda x: x == 0 or abs(x) > 1e-3)


@pytest.mark.parametrize("method", ["newton", "trust-region"])
def test_a_quadratic_takes_one_step(method: str) -> None:
    """From (0, 1) the minimum (3, −1) is √13 away; the trust region is wide enough for it."""
    options = {"radius": 10.0} if method == "trust-region" else {}

    found = minimize(
        lambda x: (x[0] - 3) ** 2 + 25 * (x[1] + 1) ** 2,
        [0.0, 1.0],
        method,
        gradient=lambda x: [2 * (x[0] - 3), 50 * (x[1] + 1)],
        hessian=lambda x: [[2, 0], [0, 50]],
        **options,
    )

    assert found.steps == 1
    assert found.x == pytest.approx([3, -1], abs=1e-14)


def test_newton_cg_solves_a_quadratic_of_two_eigenvalues_in_a_few_products() -> None:
    """Conjugate gradients end after as many steps as there are different eigenvalues."""
    diagonal = np.repeat([1.0, 100.0], 10)

    found = minimize(
        lambda x: 0.5 * x @ (diagonal * x),
        np.ones(20),
        "newton-cg",
        gradient=lambda x: diagonal * x,
        hessian=lambda x: np.diag(diagonal),
    )

    assert found.kind is Kind.MINIMUM
    assert found.steps <= 3


@pytest.mark.parametrize("method", ["newton", "trust-region"])
@pytest.mark.parametrize("start", [[0.0, 0.0], [1.0, 0.0]])
def test_a_saddle_is_left_along_its_negative_curvature(method: str, start: list[float]) -> None:
    """f = x² + y⁴ − y² has a saddle at 0, to which a gradient on y = 0 leads, and minima −¼ at y = ±√½."""
    found = minimize(lambda x: x[0] ** 2 + x[1] ** 4 - x[1] ** 2, start, method)

    assert found.kind is Kind.MINIMUM
    assert found.value == pytest.approx(-0.25, abs=1e-10)
    if (method, start[0]) != ("trust-region", 1.0):  # whose steps turn aside before they get there
        assert "it left a saddle or a maximum" in found.outcome


def test_the_others_stop_at_the_saddle_and_say_so() -> None:
    found = minimize(lambda x: x[0] ** 2 + x[1] ** 4 - x[1] ** 2, [1.0, 0.0], "bfgs")

    assert found.kind is Kind.SADDLE
    assert "saddle: the Hessian has an eigenvalue of -2." in found.outcome


@given(st.tuples(NUMBERS, NUMBERS), st.tuples(NUMBERS, NUMBERS), st.floats(0.1, 5))
def test_no_step_on_a_fine_grid_of_the_region_is_better(
    values: tuple[float, float], slope: tuple[float, float], radius: float
) -> None:
    eigenvalues, g = np.sort(np.array(values)), np.array(slope)

    p = within(eigenvalues, g, radius)

    assert np.linalg.norm(p) <= radius * (1 + 1e-6)
    angles, shares = np.linspace(0, 2 * np.pi, 721), np.linspace(0, 1, 41)[:, None]
    steps = np.stack([shares * np.cos(angles), shares * np.sin(angles)], -1) * radius
    promised = steps @ g + 0.5 * (steps**2) @ eigenvalues
    size = np.abs(g).max() * radius + np.abs(eigenvalues).max() * radius**2
    assert g @ p + 0.5 * p @ (eigenvalues * p) <= promised.min() + 1e-6 * size


@given(st.lists(NUMBERS, min_size=6, max_size=6), st.lists(NUMBERS, min_size=3, max_size=3))
def test_the_direction_descends_whatever_the_hessian(entries: list[float], slope: list[float]) -> None:
    hessian = np.zeros((3, 3))
    hessian[np.triu_indices(3)] = entries
    hessian = hessian + np.triu(hessian, 1).T
    gradient = np.array(slope)

    direction, lowest = downhill(hessian, gradient)

    assert np.isfinite(direction).all()
    assert (direction @ gradient < 0) == bool(gradient.any())
    assert np.linalg.norm(lowest) == pytest.approx(1.0)


def test_the_direction_does_not_depend_on_the_units_of_the_coordinates() -> None:
    hessian, gradient = np.array([[2.0, 1.0], [1.0, -3.0]]), np.array([1.0, 2.0])
    units = np.array([1.0, 1e6])

    direction, _ = downhill(hessian, gradient)
    scaled, _ = downhill(hessian * np.outer(units, units), gradient * units)

    assert scaled * units == pytest.approx(direction, rel=1e-9)

"""Line searches are judged by the conditions that they promise, on lines made to be awkward."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.solvers.base import Vector
from thalweg.solvers.line_search import CURVATURE, DECREASE, armijo, strong_wolfe


class Line:
    """φ and φ′ as an objective of one coordinate, which counts."""

    size = 1

    def __init__(self, phi: Callable[[float], float], slope: Callable[[float], float]) -> None:
        self.phi, self.slope, self.values, self.gradients = phi, slope, 0, 0

    def value(self, x: Vector) -> float:
        self.values += 1
        return float(self.phi(float(x[0])))

    def gradient(self, x: Vector) -> Vector:
        self.gradients += 1
        return np.array([self.slope(float(x[0]))])

    def hessian(self, x: Vector) -> Vector:
        raise NotImplementedError

    def hessian_product(self, x: Vector, v: Vector) -> Vector:
        raise NotImplementedError


def barrier(a: float) -> float:
    return a * 0.5 - np.log(1 - a) if a < 1 else np.nan


# φ′(0) < 0 for all. The third is flat for long and then falls; the fourth is not defined from 1 on.
LINES = {
    "parabola": (lambda a: (a - 3) ** 2, lambda a: 2 * (a - 3)),
    "quartic": (lambda a: (a - 40) ** 4, lambda a: 4 * (a - 40) ** 3),
    "far": (lambda a: -a / (a**2 + 2), lambda a: (a**2 - 2) / (a**2 + 2) ** 2),
    "barrier": (lambda a: -2 * a + barrier(a), lambda a: -1.5 + 1 / (1 - a) if a < 1 else np.nan),
    "infinite": (
        lambda a: (a - 0.01) ** 2 if a < 0.05 else np.inf,
        lambda a: 2 * (a - 0.01) if a < 0.05 else np.nan,
    ),
    "waves": (lambda a: 0.1 * a**2 - a - np.sin(5 * a), lambda a: 0.2 * a - 1 - 5 * np.cos(5 * a)),
    "narrow": (lambda a: 1e6 * (a - 1e-5) ** 2, lambda a: 2e6 * (a - 1e-5)),
}


@pytest.mark.parametrize("first", [1e-6, 1e-2, 1.0, 50.0])
@pytest.mark.parametrize("name", LINES)
def test_strong_wolfe_ends_where_both_conditions_hold(name: str, first: float) -> None:
    line = Line(*LINES[name])
    value, slope = line.phi(0.0), line.slope(0.0)

    found = strong_wolfe(line, np.zeros(1), np.ones(1), value, slope, first=first)

    assert found is not None
    assert found.value <= value + DECREASE * found.length * slope
    assert found.slope is not None
    assert abs(found.slope[0]) <= CURVATURE * abs(slope)
    assert found.x[0] == found.length
    assert line.values <= 40  # a handful where the first length has the right size


@given(
    st.floats(-10, 10),
    st.floats(-10, 10),
    st.floats(0.01, 10),
    st.floats(1e-3, 1e3),
    st.sampled_from([0.1, 0.5, 0.9]),
)
def test_strong_wolfe_holds_on_random_quartics(
    b: float, c: float, d: float, first: float, curvature: float
) -> None:
    """φ = −α + bα² + cα³ + dα⁴ is bounded below, so there is such a point (Nocedal and Wright, lemma 3.1)."""
    line = Line(
        lambda a: -a + b * a**2 + c * a**3 + d * a**4,
        lambda a: -1 + 2 * b * a + 3 * c * a**2 + 4 * d * a**3,
    )

    found = strong_wolfe(line, np.zeros(1), np.ones(1), 0.0, -1.0, first=first, curvature=curvature)

    assert found is not None
    assert found.value <= -DECREASE * found.length
    assert abs(line.slope(found.length)) <= curvature


@pytest.mark.parametrize("first", [0.01, 1.0, 50.0])
@pytest.mark.parametrize("name", LINES)
def test_armijo_ends_with_enough_decrease_and_asks_for_no_gradient(name: str, first: float) -> None:
    line = Line(*LINES[name])
    value, slope = line.phi(0.0), line.slope(0.0)

    found = armijo(line, np.zeros(1), np.ones(1), value, slope, first=first)

    assert found is not None
    assert found.value <= value + DECREASE * found.length * slope
    assert line.gradients == 0


def test_a_gradient_is_not_computed_where_the_value_already_refuses() -> None:
    line = Line(*LINES["parabola"])

    found = strong_wolfe(line, np.zeros(1), np.ones(1), 9.0, -6.0, first=100.0)

    assert found is not None
    assert line.gradients < line.values


@pytest.mark.parametrize("search", [armijo, strong_wolfe])
def test_a_search_that_nothing_can_satisfy_says_so(search: Callable[..., object]) -> None:
    """The promised slope is a lie: the function rises."""
    line = Line(lambda a: a, lambda a: 1.0)

    assert search(line, np.ones(1), np.ones(1), 1.0, -1.0) is None


def test_slopes_decide_where_values_differ_by_rounding() -> None:
    """10⁶ + (α − 1)²·10⁻¹²: no value differs from the first in sixteen digits."""
    line = Line(lambda a: 1e6 + 1e-12 * (a - 1) ** 2, lambda a: 2e-12 * (a - 1))

    found = strong_wolfe(line, np.zeros(1), np.ones(1), 1e6, -2e-12)

    assert found is not None
    assert found.length == 1.0


def test_a_line_without_end_is_followed_as_far_as_tries_go() -> None:
    line = Line(lambda a: -a, lambda a: -1.0)

    found = strong_wolfe(line, np.zeros(1), np.ones(1), 0.0, -1.0)

    assert found is not None
    assert found.length > 1e20

"""The surface finds back the rate that is best at a horizon, from trainings that were much shorter."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from thalweg.finder.surface import HIGHER, LOWER, Surface, fit

Array = NDArray[np.float64]

SHORT, LONG = 48, 328  # updates of the short trainings, and of the two longer ones


def points(rates: Array, longer: Array) -> tuple[Array, Array]:
    """Return rate and updates of each measurement: four along each training."""
    each = [(rate, SHORT * k / 4) for rate in rates for k in (1, 2, 3, 4)]
    each += [(rate, LONG * k / 4) for rate in longer for k in (1, 2, 3, 4)]
    found = np.array(each)
    return found[:, 0], found[:, 1]


def formula(
    unit: float, power: float, floor: float, s: float, wall: float = 10.0
) -> Callable[[Array, Array], Array]:
    """Return L(η, t) = (1 + ηt/u)⁻ᵖ + F·η·(t/328)ˢ + (η/w)⁴, at most 2."""

    def loss(rates: Array, steps: Array) -> Array:
        falling = (1 + rates * steps / unit) ** -power
        return np.minimum(falling + floor * rates * (steps / LONG) ** s + (rates / wall) ** 4, 2.0)

    return loss


GRID = np.logspace(-4, 1, 2001)
CASES = {
    "a floor that stays": formula(unit=1.0, power=1.0, floor=0.3, s=0.0),
    "a floor that grows": formula(unit=1.0, power=1.0, floor=0.3, s=0.5),
    "a floor that falls": formula(unit=3.0, power=2.0, floor=0.5, s=-0.3),
    "a wall": formula(unit=5.0, power=1.0, floor=0.02, s=0.0, wall=0.8),
}


def fitted(loss: Callable[[Array, Array], Array], noise: float, seed: int, by: float = 1.0) -> Surface:
    rates, steps = points(np.array([0.01, 0.0316, 0.1, 0.316, 1.0]), np.array([0.126, 0.316]))
    drawn = np.random.default_rng(seed).normal(size=len(rates))
    found = fit(by * rates, steps, loss(rates, steps) * (1 + noise * drawn), start=1.0)
    assert found is not None
    return found


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("times", [1, 3])
def test_the_best_rate_of_its_own_formula_comes_back(name: str, times: int) -> None:
    loss = CASES[name]
    losses = loss(GRID, np.full(len(GRID), float(times * LONG)))
    # Rates that are this close to the best cannot be told from it after so much noise.
    near = GRID[losses <= losses.min() + 0.01]

    for seed in range(5):
        best = fitted(loss, 0.02, seed).best_rate(times * LONG)

        # Half a factor of two beyond those: the trainings end at a third of the longer time.
        assert near[0] / math.sqrt(2) <= best <= near[-1] * math.sqrt(2)


@pytest.mark.parametrize("name", CASES)
def test_the_rate_that_is_taken_costs_little(name: str) -> None:
    loss = CASES[name]
    steps = float(3 * LONG)
    least = loss(GRID, np.full(len(GRID), steps)).min()

    for seed in range(5):
        found = fitted(loss, 0.02, seed)
        taken = np.array([found.best_rate(steps)])

        assert loss(taken, np.array([steps]))[0] - least < 0.02


@settings(max_examples=15)
@given(
    st.floats(-6, 6).map(lambda power: 10.0**power),
    st.floats(-1e3, 1e3),
    st.floats(-6, 3).map(lambda power: 10.0**power),
)
def test_units_of_loss_and_rate_and_the_offset_of_the_loss_change_nothing(
    scale: float, offset: float, unit: float
) -> None:
    rates, steps = points(np.array([0.01, 0.0316, 0.1, 0.316, 1.0]), np.array([0.126, 0.316]))
    losses = CASES["a wall"](rates, steps)

    plain = fit(rates, steps, losses, start=1.0)
    found = fit(unit * rates, steps, scale * (losses + offset), start=scale * (1.0 + offset))

    assert plain is not None
    assert found is not None
    # Least squares stop at a parameter's eighth digit, on a path that rounding decides.
    assert found.best_rate(1000) == pytest.approx(unit * plain.best_rate(1000), rel=0.02)
    for end, expected in zip(found.equal(1000, 0.02), plain.equal(1000, 0.02), strict=True):
        assert end == pytest.approx(unit * expected, rel=0.05)
    assert found.gain == pytest.approx(scale * plain.gain, rel=1e-6)


def test_without_a_loss_below_the_start_there_is_none() -> None:
    rates, steps = points(np.array([0.1, 1.0]), np.array([]))

    assert fit(rates, steps, np.full(8, 1.0), start=1.0) is None
    assert fit(rates, steps, np.full(8, 3.0), start=1.0) is None
    assert fit(rates, steps, np.full(8, math.nan), start=1.0) is None
    assert fit(rates, steps, np.full(8, 0.5), start=math.nan) is None


def test_one_point_below_the_start_is_enough_for_an_answer() -> None:
    rates, steps = points(np.array([0.1, 1.0]), np.array([]))
    losses = np.full(8, math.nan)
    losses[3] = 0.5

    found = fit(rates, steps, losses, start=1.0)

    assert found is not None
    assert 0.01 <= found.best_rate(SHORT) <= 1.0


def test_nothing_is_suggested_from_a_rate_on_that_ended_badly() -> None:
    rates, steps = points(np.array([0.01, 0.0316, 0.1, 0.316, 1.0]), np.array([]))
    losses = 1 / (1 + rates * steps / 5)
    losses[rates == 0.316] = math.nan  # and yet 1.0 did well

    found = fit(rates, steps, losses, start=1.0)

    assert found is not None
    assert 10**found.high == pytest.approx(1.0 * 10**HIGHER)  # bad rates below the best do not bound it
    losses[rates == 1.0] = 0.9
    found = fit(rates, steps, losses, start=1.0)
    assert found is not None
    assert found.best_rate(SHORT) < 0.316
    assert 10**found.high == pytest.approx(0.316)


def test_a_rate_that_diverged_later_bounds_those_above_that_were_not_tried_as_long() -> None:
    rates, steps = points(np.array([0.1, 0.316, 1.0, 3.16]), np.array([0.5]))
    losses = 1 / (1 + rates * steps / 5)
    losses[(rates == 0.5) & (steps > 100)] = math.nan

    found = fit(rates, steps, losses, start=1.0)

    # 3.16 is best after 48 updates, and nobody knows what becomes of it after 328.
    assert found is not None
    assert found.grid()[-1] == pytest.approx(0.5)
    assert found.best_rate(1000) < 0.5


def test_rates_are_looked_for_a_decade_below_and_a_little_above_those_tried() -> None:
    rates, steps = points(np.array([0.01, 0.1]), np.array([]))

    found = fit(rates, steps, 1 - 0.5 * rates / 0.1 * steps / SHORT, start=1.0)

    assert found is not None
    assert found.grid()[0] == pytest.approx(0.01 / 10**LOWER)
    assert found.grid()[-1] == pytest.approx(0.1 * 10**HIGHER)
    assert found.best_rate(SHORT) > 0.05


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.2])
def test_equal_rates_lie_around_the_best_and_more_noise_makes_them_more(name: str, noise: float) -> None:
    for seed in range(5):
        found = fitted(CASES[name], noise, seed)
        low, high = found.equal(3 * LONG, 0.02)

        assert low <= found.best_rate(3 * LONG) <= high
        narrow_low, narrow_high = found.equal(3 * LONG, 0.0)
        assert low <= narrow_low <= narrow_high <= high


def test_the_error_is_that_of_the_fit_where_it_is_good() -> None:
    quiet, loud = (fitted(CASES["a wall"], noise, 0).error for noise in (0.0, 0.2))

    assert quiet < 0.01
    assert loud > 3 * quiet


def test_predicted_losses_are_those_that_were_measured_where_they_are_good() -> None:
    loss = CASES["a floor that stays"]
    rates, steps = points(np.array([0.01, 0.0316, 0.1, 0.316, 1.0]), np.array([0.126, 0.316]))

    found = fitted(loss, 0.0, 0)

    measured = loss(rates, steps)
    for time in np.unique(steps):
        here = (steps == time) & (measured < found.best + 0.5 * found.gain)
        assert found.losses(rates[here], float(time)) == pytest.approx(measured[here], abs=0.03 * found.gain)

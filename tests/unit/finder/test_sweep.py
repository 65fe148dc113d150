"""Sweeps are read without lag, the same in any unit of the loss, and noise alone is nothing."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom

from thalweg.finder import sweep
from thalweg.finder.sweep import Curve, read, smooth
from thalweg.records import Answer

Array = NDArray[np.float64]

RATES = np.logspace(-6, 2, 81)
X = np.log10(RATES[:-1])  # of the updates whose effect is seen: all but the last


def swept(after: Array, before: float | None = None) -> list[float]:
    """The losses of a sweep, where `after` are those that its rates led to."""
    return [float(after[0]) if before is None else before, *map(float, after)]


def valley(seed: int, noise: float = 0.02, best: float = -1.0) -> Array:
    """A loss that falls from 2 to 1 around a rate, and explodes a decade above it."""
    fall = 2 - 1 / (1 + 10 ** (-2 * (X - best + 1)))
    steep = 10 ** np.minimum(3 * (X - best - 1), 4)
    return fall + steep + noise * np.random.default_rng(seed).normal(size=len(X))


def three(noise: float = 0.02) -> list[list[float]]:
    return [swept(valley(seed, noise)) for seed in range(3)]


# Smoothing.


places = st.lists(st.integers(0, 400), min_size=2, max_size=40, unique=True)


@given(places, st.floats(0.05, 5), st.floats(-100, 100), st.floats(-100, 100), st.data())
def test_a_line_comes_back_as_it_is_however_its_points_are_spaced(
    placed: list[int], width: float, offset: float, slope: float, data: st.DataObject
) -> None:
    x = np.sort(placed) / 100
    at = np.array(data.draw(st.lists(st.floats(x[0], x[-1]), min_size=1, max_size=20)))

    found = smooth(x, offset + slope * x, at, width)

    known = np.isfinite(found)
    # Rounding of the values, magnified where the points that count are a hundredth apart.
    assert found[known] == pytest.approx((offset + slope * at)[known], rel=1e-9, abs=1e-9)
    # Two points within nine tenths of the width are enough anywhere.
    enough = (np.abs(x[None, :] - at[:, None]) < 0.9 * width).sum(1) >= 2
    assert known[enough].all()


def test_a_place_with_fewer_than_two_points_around_it_has_no_value() -> None:
    found = smooth(np.array([0.0, 0.5, 3.0]), np.array([1.0, 2.0, 3.0]), np.array([0.2, 1.4, 3.0, 9.0]), 1.0)

    assert np.isfinite(found).tolist() == [True, False, False, False]


@given(st.floats(-1e6, 1e6), places)
def test_a_constant_stays_the_same_number(value: float, placed: list[int]) -> None:
    x = np.sort(placed) / 100

    found = smooth(x, np.full(len(x), value), x, 5.0)

    assert found == pytest.approx(np.full(len(x), value), rel=1e-12)


@pytest.mark.parametrize("width", [0.3, 0.75, 2.0])
def test_each_value_is_that_of_the_line_which_weighted_least_squares_finds(width: float) -> None:
    random = np.random.default_rng(1)
    x, at = np.sort(random.uniform(0, 4, 60)), np.linspace(0.2, 3.8, 25)
    y = np.sin(x) + random.normal(size=60)

    found = smooth(x, y, at, width)

    for place, value in zip(at, found, strict=True):
        distance = abs(x - place) / width
        root = np.sqrt(np.where(distance < 1, (1 - distance**3) ** 3, 0.0).clip(0))
        line, *_ = np.linalg.lstsq(root[:, None] * np.stack([np.ones(60), x], 1), root * y, rcond=None)
        assert value == pytest.approx(line[0] + line[1] * place, rel=1e-9, abs=1e-9)


# Reading.


def test_a_loss_belongs_to_the_rate_of_the_update_before_it() -> None:
    line = 3 - 0.5 * X

    found = read(RATES, [swept(line, before=7.0)])

    # The loss that was there before the first update belongs to no rate.
    assert found.rates.tolist() == RATES[:-1].tolist()
    assert found.losses == pytest.approx(line, rel=1e-12)
    assert (found.answer, found.lowest) == (Answer.FOUND, pytest.approx(RATES[-2]))
    assert (found.broken_at, found.diverges_at) == (None, None)


@pytest.mark.parametrize("place", [40, 55, 79])
def test_the_edge_is_the_rate_whose_update_led_above_the_beginning(place: int) -> None:
    after = 3 - 0.5 * (X - X[0])
    after[place:] = 50.0

    found = read(RATES, [swept(after)] * 3)

    assert found.diverges_at == RATES[place]
    assert found.answer is Answer.FOUND
    assert found.lowest == pytest.approx(RATES[place - 1])


@pytest.mark.parametrize("place", [40, 55, 78])
def test_a_sweep_is_read_up_to_where_it_takes_back_half_of_its_fall(place: int) -> None:
    after = 3 - 0.5 * (X - X[0])
    after[place:] = 3 - 0.2 * (after[0] - after[place - 1])  # it takes back four fifths

    found = read(RATES, [swept(after)] * 3)

    assert found.broken_at == RATES[place]
    assert np.isfinite(found.losses).tolist() == [i < place for i in range(len(X))]
    assert found.diverges_at is None


@pytest.mark.parametrize("nothing", [None, math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_a_sweep_whichever_way_it_is_said(nothing: float | None) -> None:
    full = [swept(2 - 0.2 * (X - X[0]) + 0.01 * s) for s in range(3)]
    ended: list[list[float | None]] = [[*row[:61], *[nothing] * 20] for row in full]
    short: list[Sequence[float | None]] = [row[:61] for row in full]

    said, left_out = read(RATES, ended), read(RATES, short)

    assert said.diverges_at == left_out.diverges_at == RATES[60]
    assert said.broken_at == left_out.broken_at == RATES[60]
    assert said.lowest == left_out.lowest == pytest.approx(RATES[59])
    np.testing.assert_array_equal(said.losses, left_out.losses)


def test_the_edge_is_that_of_the_middle_sweep_and_none_where_most_come_back() -> None:
    def ended(places: Sequence[int]) -> float | None:
        line = swept(2 - 0.2 * (X - X[0]))
        return read(RATES, [line[: place + 1] for place in places]).diverges_at

    assert ended([50, 60, 70]) == RATES[60]
    assert ended([50, 80, 80]) is None


def test_nothing_but_numbers_that_are_none_is_divergence() -> None:
    for left in ([[None] * 81] * 3, [[]] * 3, [[2.0]] * 3):
        found = read(RATES, left)

        assert (found.answer, found.lowest) == (Answer.DIVERGED, None)
        assert found.diverges_at == RATES[0]
        assert not np.isfinite(found.losses).any()


def test_one_sweep_that_is_lost_does_not_lose_the_others() -> None:
    alone, beside = read(RATES, three()[:2]), read(RATES, [[None] * 81, *three()[:2]])

    assert beside.answer is alone.answer is Answer.FOUND
    assert beside.lowest == alone.lowest


def test_the_band_is_that_of_the_sweeps() -> None:
    line = 3 - 0.5 * (X - X[0])

    found = read(RATES, [swept(line + shift) for shift in (-0.1, 0.0, 0.4)])

    assert found.low == pytest.approx(line - 0.1)
    assert found.losses == pytest.approx(line + 0.1)
    assert found.high == pytest.approx(line + 0.4)


@given(
    st.floats(-3, 3).map(lambda power: 10.0**power),
    st.floats(-1e3, 1e3),
    st.floats(-2, 2).map(lambda power: 10.0**power),
)
def test_the_unit_of_loss_and_rate_and_where_they_begin_to_count_change_nothing(
    scale: float, offset: float, unit: float
) -> None:
    plain = read(RATES, three())

    found = read(unit * RATES, [[scale * v + offset for v in row] for row in three()])

    assert (plain.answer, found.answer) == (Answer.FOUND, Answer.FOUND)
    assert plain.lowest is not None
    assert plain.diverges_at is not None
    assert found.lowest == pytest.approx(unit * plain.lowest)
    assert found.diverges_at == pytest.approx(unit * plain.diverges_at)
    assert np.isfinite(found.losses).tolist() == np.isfinite(plain.losses).tolist()
    known = np.isfinite(plain.losses)
    # A loss of a thousandth beside an offset of a thousand has lost twelve of its sixteen digits.
    assert found.losses[known] == pytest.approx(scale * plain.losses[known] + offset, rel=1e-9, abs=1e-9)
    assert found.error == pytest.approx(scale * plain.error, rel=1e-6)


# Answers.


def answers(noise: Sequence[Array], updates: int) -> Counter[Answer]:
    rates = np.logspace(-6, 2, updates)
    return Counter(read(rates, list(one)).answer for one in noise)


@pytest.mark.parametrize("updates", [24, 100])
@pytest.mark.parametrize("start", [0.0, -5.0, 1000.0])
def test_noise_alone_is_nothing_but_for_two_times_in_a_hundred(updates: int, start: float) -> None:
    drawn = [start + np.random.default_rng(seed).normal(size=(3, updates)) for seed in range(200)]

    found = answers(drawn, updates)

    assert found[Answer.FLAT] >= 200 - binom.ppf(0.999, 200, 0.02)


def test_what_differs_between_seeds_is_no_fall() -> None:
    drawn = [
        np.random.default_rng(seed).normal(scale=0.01, size=(3, 100)) + np.array([[1.0], [2.0], [3.0]])
        for seed in range(200)
    ]

    assert answers(drawn, 100)[Answer.FLAT] >= 200 - binom.ppf(0.999, 200, 0.02)


@pytest.mark.parametrize("value", [0.0, -3.0, 1e-9, 1e9])
def test_a_loss_that_never_changes_is_flat_and_has_no_edge(value: float) -> None:
    found = read(RATES, [[value] * 81] * 3)

    assert (found.answer, found.lowest, found.broken_at, found.diverges_at) == (Answer.FLAT, None, None, None)
    assert found.losses == pytest.approx(np.full(80, value))


@pytest.mark.parametrize("noise", [0.02, 0.3])
def test_what_only_rises_is_said_to_rise_and_where_it_does(noise: float) -> None:
    found: list[Curve] = []
    for seed in range(100):
        drawn = np.random.default_rng(seed).normal(scale=noise, size=(3, len(X)))
        found.append(read(RATES, [swept(1 + 10 ** (3 * X) + row) for row in drawn]))

    rising = [curve for curve in found if curve.answer is Answer.RISING]
    assert len(rising) >= 100 - binom.ppf(0.999, 100, 0.02)
    # It has risen by a hundredth at η = 0.22 and by one at 1.
    for curve in rising:
        assert curve.diverges_at is not None
        assert 0.05 < curve.diverges_at < 1.5


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.1])
def test_a_valley_is_found_near_its_lowest_rate(noise: float) -> None:
    for first in range(0, 30, 3):
        found = read(RATES, [swept(valley(seed, noise)) for seed in range(first, first + 3)])

        assert found.answer is Answer.FOUND
        assert found.lowest is not None
        # Without noise it is lowest at 10^-0.68, and its floor is flat over a decade.
        assert 10**-1.7 < found.lowest < 10**0.1


def test_a_smoothed_value_is_as_uncertain_as_it_says() -> None:
    random = np.random.default_rng(0)
    line = 3 - 0.5 * np.maximum(X - X[30], 0)  # the first quarter tells how large the noise is
    middle = slice(8, 20)  # whole windows
    found = [
        read(RATES, [swept(line + random.normal(scale=0.1, size=len(X))) for _ in range(3)])
        for _ in range(100)
    ]

    off = np.array([curve.losses[middle] - line[middle] for curve in found])

    # It is computed from how many points lie within the width; the near ones count more than the far ones.
    assert np.mean([curve.error for curve in found]) == pytest.approx(off.std(), rel=0.5)


def test_a_sweep_that_comes_back_from_where_nothing_learns_is_read_up_to_there() -> None:
    # A network may come back from a rate that is far too high with a lower loss, its units dead.
    after = 3 - 0.5 * (X - X[0])
    after[50:55] = 10.0
    after[55:] = 0.5

    found = read(RATES, [swept(after)] * 3)

    assert found.lowest == pytest.approx(RATES[49])
    assert found.broken_at == RATES[50]
    assert found.diverges_at is None


def test_the_median_of_three_forgets_a_single_spike() -> None:
    spiked = 3 - 0.5 * (X - X[0])
    spiked[50] = 100.0
    found = read(RATES, [swept(spiked)] * 3)

    assert np.isfinite(found.losses).all()
    assert sweep._median_of_three(np.array([2.0, 1.0])).tolist() == [2.0, 1.0]


def test_what_is_lost_at_the_very_end_has_moved() -> None:
    random = np.random.default_rng(0)
    lost = [[*row, None] for row in 1 + random.normal(scale=0.1, size=(3, 80))]

    found = read(RATES, lost)

    assert (found.answer, found.lowest) == (Answer.RISING, None)
    assert found.diverges_at == RATES[79]


def test_sweeps_that_fall_and_rise_do_not_cancel() -> None:
    # The mean of a sweep that falls by one and one that rises by one stays where it is.
    fall = 1 / (1 + 10 ** (-2 * (X + 2)))
    random = np.random.default_rng(0)

    found = read(RATES, [swept(5 + sign * fall + random.normal(scale=0.1, size=80)) for sign in (1, -1)])

    assert found.answer is not Answer.FLAT


def test_a_fall_at_the_very_end_of_a_short_and_noisy_sweep_is_seen() -> None:
    rates = np.logspace(-8, 1, 24)
    x = np.log10(rates[:-1])
    missed = 0
    for seed in range(50):
        drawn = 0.3 * np.random.default_rng(seed).normal(size=(3, 23))
        after = 1 - 0.8 / (1 + 10 ** (-2 * (x + 0.5)))
        missed += read(rates, [swept(after + row) for row in drawn]).answer is not Answer.FOUND

    # Noise is .3, and what falls by two and a half of it are three updates of a sweep.
    assert missed <= 10

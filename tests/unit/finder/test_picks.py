"""The picks of others, by hand, and beside each definition written out the slow way."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.finder.picks import PICKS, minimum_tenth, picks, slide, steepest, valley

RATES = np.logspace(-5, 0, 6)

curves = st.lists(st.integers(-50, 50).map(float), min_size=3, max_size=12)
long_curves = st.lists(st.floats(-3, 3), min_size=17, max_size=40)


def rates_of(losses: Sequence[float]) -> list[float]:
    return [10.0 ** (i / 4 - 6) for i in range(len(losses))]


def slopes(losses: Sequence[float]) -> list[float]:
    """Central differences by place, one-sided at the ends."""
    last = len(losses) - 1
    inner = [(losses[i + 1] - losses[i - 1]) / 2 for i in range(1, last)]
    return [losses[1] - losses[0], *inner, losses[last] - losses[last - 1]]


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        # Central differences are −1.2, −1.15, −0.6, −0.2, 0.1, 0.3.
        ([3.0, 1.8, 0.7, 0.6, 0.3, 0.6], 1e-5),
        # −0.1, −0.5, −0.75, −0.35, 2.3, 4.7
        ([2.0, 1.9, 1.0, 0.4, 0.3, 5.0], 1e-3),
        # The last step alone falls.
        ([1.0, 1.0, 1.0, 1.0, 1.0, 0.0], 1.0),
        ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], None),
        ([1.0] * 6, None),
    ],
)
def test_the_steepest_place_by_hand(losses: list[float], expected: float | None) -> None:
    assert steepest(RATES, np.array(losses)) == (None if expected is None else pytest.approx(expected))


@given(curves)
def test_the_steepest_place_is_where_no_slope_is_lower(losses: list[float]) -> None:
    rates, slope = rates_of(losses), slopes(losses)

    found = steepest(np.array(rates), np.array(losses))

    assert found == (rates[slope.index(min(slope))] if min(slope) < 0 else None)


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([2.0, 1.9, 1.0, 0.4, 0.3, 5.0], 1e-2),
        ([2.0, 1.0, 3.0, 1.0, 3.0, 3.0], 1e-5),  # of two equal places the lower rate
        ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], None),  # lowest where it begins: it never fell
    ],
)
def test_a_tenth_of_the_lowest_place_by_hand(losses: list[float], expected: float | None) -> None:
    assert minimum_tenth(RATES, np.array(losses)) == (None if expected is None else pytest.approx(expected))


def longest_fall(losses: Sequence[float]) -> tuple[int, int]:
    """Length of the longest strictly falling subsequence, and the first place at which one ends: by trial."""
    for size in range(len(losses), 0, -1):
        ends = [
            places[-1]
            for places in itertools.combinations(range(len(losses)), size)
            if all(losses[a] > losses[b] for a, b in itertools.pairwise(places))
        ]
        if ends:
            return size, min(ends)
    raise AssertionError


@given(st.lists(st.integers(-9, 9).map(float), min_size=3, max_size=9))
def test_the_valley_is_that_of_its_definition(losses: list[float]) -> None:
    rates = rates_of(losses)
    size, end = longest_fall(losses)

    found = valley(np.array(rates), np.array(losses))

    third = size / 3
    place = (end - size) + math.floor(third) + math.floor(third / 2)
    assert found == (None if size < 3 else rates[max(place, 0)])


def test_the_valley_by_hand() -> None:
    # 6 5 4 3 2 fall beside the 9: ℓ = 5, and the 2 is at place 6; q = 5/3: place (6 − 5) + 1 + 0 = 2.
    losses = np.array([6.0, 5.0, 9.0, 4.0, 9.0, 3.0, 2.0, 7.0])
    assert valley(np.logspace(-7, 0, 8), losses) == pytest.approx(1e-5)


def slid(losses: Sequence[float], distance: int) -> int | None:
    """The place at which a window of slopes, moved from the right end, last had ends that differ."""
    slope, found = slopes(losses), None
    for right in range(len(losses) - 1, distance - 1, -1):
        left = right - distance
        if not abs(slope[right] - slope[left]) > 0.005:
            break
        found = left
    return found


@given(long_curves)
def test_the_slide_is_that_of_its_definition(losses: list[float]) -> None:
    rates, place = rates_of(losses), slid(losses, 15)

    assert slide(np.array(rates), np.array(losses)) == (None if place is None else rates[place])


def test_the_slide_by_hand() -> None:
    # Flat, then a line: slopes are 0 up to place 19, 0.25 at 20, and 0.5 from 21 on. A window is 15 wide, so
    # that both its ends lie on the line at once.
    losses = np.r_[np.zeros(21), np.arange(1, 20) / 2]
    rates = np.arange(1.0, 41.0)
    assert slide(rates, losses) is None

    # The line begins at 27: from 39 down to 27 the right end has a slope and the left has none. At 26, the
    # left end at 11, both have none: the last that was remembered is 12.
    losses = np.r_[np.zeros(28), np.arange(1, 13) / 2]
    assert slide(rates, losses) == rates[12]


def test_the_slide_of_a_curve_shorter_than_its_window_is_none() -> None:
    assert slide(RATES, np.array([2.0, 1.0, 0.5, 1.0, 4.0, 9.0])) is None


@given(st.sampled_from(sorted(PICKS)), long_curves, st.sampled_from([0.25, 4.0]), st.integers(-3, 3))
def test_all_but_the_slide_know_no_scale_and_no_offset(
    name: str, losses: list[float], scale: float, offset: int
) -> None:
    # Of losses in sixty-fourths, which stay exact.
    exact = np.round(np.array(losses) * 64) / 64
    rates = np.array(rates_of(losses))

    if name != "slide":
        assert PICKS[name](rates, scale * exact + offset) == PICKS[name](rates, exact)


def test_all_of_them_see_only_the_part_of_a_curve_that_is_a_number() -> None:
    losses = np.array([math.nan, 2.0, 1.0, 0.5, 3.0, math.nan])

    found = picks(RATES, losses)

    assert found == {name: pick(RATES[1:5], losses[1:5]) for name, pick in PICKS.items()}
    assert found["steepest"] == pytest.approx(1e-4)
    assert found["minimum/10"] == pytest.approx(1e-3)


@pytest.mark.parametrize("losses", [[math.nan] * 6, [math.nan, 1.0, 2.0, math.nan, math.nan, math.nan]])
def test_of_fewer_than_three_numbers_there_is_nothing_to_pick(losses: list[float]) -> None:
    assert picks(RATES, np.array(losses)) == dict.fromkeys(PICKS)

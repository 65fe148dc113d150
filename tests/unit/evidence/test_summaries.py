"""Summaries against what can be counted, integrated or drawn by hand."""

import itertools
import math
from fractions import Fraction
from statistics import fmean, stdev

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.errors import InputError
from thalweg.evidence import Basin, basin, best_of_k, interquartile_mean, rate_sensitivity
from thalweg.records import Direction

HIGHER, LOWER = Direction.HIGHER, Direction.LOWER
NUMBERS = st.floats(-1e6, 1e6)
SCORES = st.lists(st.none() | st.integers(-5, 5).map(float), min_size=1, max_size=7)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7.0], 7.0),
        ([1.0, 5.0], 3.0),
        ([0.0, 1.0, 5.0], (1 / 4 * 0 + 1 + 1 / 4 * 5) / 1.5),  # ¾ of a value is cut off at either end
        ([-1e6, 2.0, 4.0, 1e6], 3.0),
        ([8, 7, 6, 5, 4, 3, 2, 1], 4.5),
    ],
)
def test_the_interquartile_mean_by_hand(values: list[float], expected: float) -> None:
    assert interquartile_mean(values) == pytest.approx(expected, rel=1e-12)


def test_the_interquartile_mean_of_1_to_n_squared_is_its_closed_form() -> None:
    """Of i² for i = 1 … 4m: the mean of i² for i = m + 1 … 3m, from Σ i² = k(k + 1)(2k + 1)/6 up to k."""
    for m in (1, 5, 25):

        def squares(k: int) -> int:
            return k * (k + 1) * (2 * k + 1) // 6

        expected = Fraction(squares(3 * m) - squares(m), 2 * m)

        assert interquartile_mean([i * i for i in range(1, 4 * m + 1)]) == pytest.approx(float(expected))


@given(st.lists(NUMBERS, min_size=1, max_size=30))
def test_the_interquartile_mean_is_twice_the_integral_of_the_quantiles_over_the_middle(
    values: list[float],
) -> None:
    """Every value is repeated four times: then a quarter is a whole number of values, and all is exact."""
    middle = sorted(4 * values)[len(values) : 3 * len(values)]

    assert interquartile_mean(values) == pytest.approx(fmean(middle), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_an_interquartile_mean_of_nothing_finite_is_refused(values: list[float]) -> None:
    with pytest.raises(InputError, match="finite"):
        interquartile_mean(values)


@given(SCORES, st.sampled_from(Direction))
def test_the_best_of_k_is_the_mean_over_all_sets_of_k(
    scores: list[float | None], direction: Direction
) -> None:
    worst = -math.inf * direction.sign
    numbers = [worst if x is None else x for x in scores]
    choose = max if direction is HIGHER else min
    found = best_of_k(scores, direction)

    assert len(found) == len(scores)
    for k, value in enumerate(found, start=1):
        bests = [choose(draw) for draw in itertools.combinations(numbers, k)]
        expected = None if worst in bests else fmean(bests)
        assert value == (None if expected is None else pytest.approx(expected, abs=1e-12))


def test_the_best_of_all_is_the_best_and_of_one_the_mean() -> None:
    found = best_of_k([0.25, 1.0, 0.5, 0.25], HIGHER)

    assert (found[0], found[-1]) == (0.5, 1.0)
    assert best_of_k([None, None], LOWER) == (None, None)


@pytest.mark.parametrize("scores", [[], [1.0, math.nan], [math.inf, None]])
def test_a_best_of_nothing_or_of_what_is_not_finite_is_refused(scores: list[float | None]) -> None:
    with pytest.raises(InputError):
        best_of_k(scores, LOWER)


def test_the_sensitivity_of_a_parabola_in_log_rate_is_its_integral() -> None:
    """ℓ = (log₁₀ η + 2)² over two decades on both sides of 0.01: ∫ x² dx / 4 over −2 … 2 is 4/3.

    The trapezoid rule with steps h is too large by h² · (f'(b) − f'(a)) / 12 / 4 = h² / 6, here exactly.
    """
    for count in (5, 41):
        x = np.linspace(-2, 2, count)
        h = 4 / (count - 1)
        found = rate_sensitivity((10 ** (x - 2)).tolist(), (x**2).tolist(), initial_loss=10.0)

        assert found == pytest.approx(4 / 3 + h * h / 6, rel=1e-9)


def test_what_is_worse_than_the_start_or_diverged_counts_as_the_start() -> None:
    rates = [1.0, 0.1, 0.01]

    assert rate_sensitivity(rates, [None, 1.0, 1.0], 3.0) == pytest.approx((0 + (0 + 2) / 2) / 2)
    assert rate_sensitivity(rates, [1e9, 1.0, 1.0], 3.0) == rate_sensitivity(rates, [None, 1.0, 1.0], 3.0)
    assert rate_sensitivity(rates, [None, None, None], 3.0) == 0.0
    assert rate_sensitivity(rates, [None, None, None], 3.0, best_loss=1.0) == pytest.approx(2.0)


@given(
    st.lists(
        st.tuples(st.floats(1e-6, 1e3), st.floats(-10, 10)), min_size=2, max_size=8, unique_by=lambda p: p[0]
    )
)
def test_sensitivity_knows_no_order_unit_or_offset(pairs: list[tuple[float, float]]) -> None:
    rates, losses = zip(*pairs, strict=True)
    found = rate_sensitivity(rates, losses, 20.0)
    backwards = rate_sensitivity(rates[::-1], losses[::-1], 20.0)
    moved = rate_sensitivity([1e3 * r for r in rates], [x - 100 for x in losses], -80.0)

    assert found >= 0
    assert backwards == found
    # Rates that differ by 1e-16 of their size would be equal once they are multiplied; these tolerances
    # are those of the subtraction of 100.
    assert moved == pytest.approx(found, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("rates", [[], [0.1], [0.1, 0.1], [0.1, 0.0], [-0.1, 0.1], [0.1, math.inf]])
def test_rates_that_are_no_rates_are_refused(rates: list[float]) -> None:
    with pytest.raises(InputError, match="different numbers above 0"):
        rate_sensitivity(rates, [1.0] * len(rates), 2.0)
    if len(rates) != 1:
        with pytest.raises(InputError, match="different numbers above 0"):
            basin(rates, [[1.0]] * len(rates), LOWER)


def test_another_number_of_losses_than_of_rates_is_refused() -> None:
    with pytest.raises(InputError, match="one entry each"):
        rate_sensitivity([0.1, 1.0], [1.0], 2.0)
    with pytest.raises(InputError, match="finite"):
        rate_sensitivity([0.1, 1.0], [1.0, math.nan], 2.0)


def test_a_basin_by_hand_with_both_ends_between_rates() -> None:
    """Scores 1 ± 0.1 at 0.1, 0.8 ± 0.1 at both neighbours: s² = 3 · 0.02 / 3, s = √0.02 = 0.1414.

    The line from 1 to 0.8 falls by that after 0.1414 / 0.2 of the decade.
    """
    scores = [[0.1], [0.7, 0.9], [0.9, 1.1], [0.9, 0.7], [0.0]]
    found = basin([0.001, 0.01, 0.1, 1.0, 10.0], scores, HIGHER)
    share = math.sqrt(0.02) / 0.2

    assert found is not None
    assert (found.open_low, found.open_high, found.open) == (False, False, False)
    assert found.low == pytest.approx(10 ** (-1 - share))
    assert found.high == pytest.approx(10 ** (-1 + share))
    assert found.decades == pytest.approx(2 * share)


def test_a_basin_is_open_where_it_reaches_what_was_tried_and_keeps_those_rates_as_they_are() -> None:
    found = basin([0.3, 0.03, 3.0], [[1.0, 2.0], [1.1, 1.9], [1.2, 2.0]], LOWER)

    assert found == Basin(0.03, 3.0, pytest.approx(2.0), open_low=True, open_high=True)


def test_a_basin_ends_at_the_last_rate_before_one_that_diverged() -> None:
    found = basin([0.01, 0.1, 1.0], [[None, 5.0], [1.0, 2.0], [1.0, 2.0]], HIGHER)

    assert found == Basin(0.1, 1.0, pytest.approx(1.0), open_low=False, open_high=True)


def test_a_basin_takes_no_rate_from_beyond_a_hole() -> None:
    """What is good again on the far side of a bad rate is not reached from the best one."""
    found = basin([0.01, 0.1, 1.0], [[2.1, 2.1], [0.0, 0.2], [2.2, 2.2]], HIGHER)

    assert found == Basin(pytest.approx(10 ** (-0.1 / 2.1)), 1.0, pytest.approx(0.1 / 2.1), False, True)


def test_the_deviation_is_that_within_rates_not_between_them() -> None:
    """Were all scores near the best thrown together, the spread between rates would widen the basin."""
    rates, scores = [0.01, 0.1, 1.0], [[0.0, 0.02], [1.0, 1.02], [0.0, 0.02]]
    found = basin(rates, scores, HIGHER)
    s = math.sqrt(3 * 0.0002 / 3)

    assert stdev([0.0, 0.02, 1.0, 1.02, 0.0, 0.02]) > 20 * s
    assert found is not None
    assert found.decades == pytest.approx(2 * s / 1.0)


def test_there_is_no_basin_where_all_diverged_or_no_rate_has_two_seeds() -> None:
    assert basin([0.1, 1.0], [[None], [None, 1.0]], LOWER) is None
    assert basin([0.1, 1.0], [[0.5], [0.6]], LOWER) is None
    assert basin([0.1, 1.0], [[0.5], [0.6, 0.8]], LOWER) is not None


@given(st.lists(st.lists(st.integers(0, 5).map(float), min_size=2, max_size=3), min_size=1, max_size=6))
def test_a_basin_holds_the_best_rate_and_is_the_same_for_negated_scores(scores: list[list[float]]) -> None:
    rates = [10.0**i for i in range(len(scores))]
    found = basin(rates, scores, HIGHER)
    mirrored = basin(rates[::-1], [[-x for x in own] for own in scores[::-1]], LOWER)
    best = max(range(len(scores)), key=lambda i: fmean(scores[i]))

    assert found is not None
    assert found.low <= rates[best] <= found.high
    assert 0 <= found.decades <= len(scores) - 1 + 1e-9
    if sum(fmean(own) == fmean(scores[best]) for own in scores) == 1:  # else either may be called the best
        assert mirrored == found


def test_a_basin_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="one or more scores"):
        basin([0.1], [[]], LOWER)
    with pytest.raises(InputError, match="finite"):
        basin([0.1], [[math.inf]], LOWER)

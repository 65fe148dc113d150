"""The sign-flip test, its interval and Holm's correction against slow and foreign counterparts."""

import itertools
from fractions import Fraction
from statistics import NormalDist, fmean

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from thalweg.errors import InputError
from thalweg.evidence import (
    advantages,
    holm,
    minimum_seeds,
    probability_better,
    sign_flip_interval,
    sign_flip_p,
)
from thalweg.records import Direction

HIGHER, LOWER = Direction.HIGHER, Direction.LOWER
counts = st.lists(st.integers(-30, 30), min_size=1, max_size=9)
reals = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=9)


def p_by_enumeration(differences: list[Fraction]) -> float:
    """Count all 2^n sign patterns in exact arithmetic."""
    observed = abs(sum(differences))
    patterns = list(itertools.product((-1, 1), repeat=len(differences)))
    hits = sum(abs(sum(s * d for s, d in zip(p, differences, strict=True))) >= observed for p in patterns)
    return hits / len(patterns)


def interval_by_bisection(x: list[float], level: float) -> tuple[float, float]:
    """Search the ends of {c : p(x − c) > 1 − level} outwards from the mean, where p is 1."""

    def end(outside: float) -> float:
        inside = fmean(x)
        for _ in range(60):
            middle = (inside + outside) / 2
            accepted = sign_flip_p([v - middle for v in x]) > 1 - level
            inside, outside = (middle, outside) if accepted else (inside, middle)
        return inside

    return end(min(x) - 1), end(max(x) + 1)


# The test


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("n", [2, 5, 8, 11])
def test_p_is_that_of_scipy_s_exact_permutation_test(n: int, seed: int) -> None:
    d = np.random.default_rng(seed).normal(0.5, 1.0, n)

    result = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf)

    assert sign_flip_p(d) == result.pvalue


@given(counts, st.sampled_from([7, 360, 10_000, 1_000_000]))
def test_ties_between_fractions_are_counted_as_in_exact_arithmetic(hits: list[int], examples: int) -> None:
    base = examples * 9 // 10
    scores = [((base + h) / examples, base / examples) for h in hits]

    p = sign_flip_p([a - b for a, b in scores])

    assert p == p_by_enumeration([Fraction(h) for h in hits])


@given(reals)
def test_p_ignores_which_is_called_a_and_the_unit(d: list[float]) -> None:
    p = sign_flip_p(d)

    assert 2.0 ** (1 - len(d)) <= p <= 1
    assert sign_flip_p([-x for x in d]) == p
    assert sign_flip_p([1024 * x for x in d]) == p


@pytest.mark.parametrize("n", [1, 6, 16, 20])
def test_equal_signs_give_the_smallest_p_there_is(n: int) -> None:
    assert sign_flip_p([0.5 + i for i in range(n)]) == 2.0 ** (1 - n)


def test_one_huge_difference_does_not_hide_that_all_signs_agree() -> None:
    assert sign_flip_p([1e12, 1, 2, 1, 3, 1, 2]) == 2.0**-6


def test_no_difference_at_all_gives_p_1() -> None:
    assert sign_flip_p([0.0] * 12) == 1
    assert sign_flip_p([0.0] * 30) == 1


def test_beyond_20_values_p_is_that_of_the_binomial_sign_test_to_sampling_error() -> None:
    """With |d| = 1 the sign-flip test is the sign test, whose p is known in closed form."""
    d = [1.0] * 19 + [-1.0] * 8
    expected = stats.binomtest(19, 27).pvalue  # 0.052

    p = sign_flip_p(d)

    standard_error = (expected * (1 - expected) / 99_999) ** 0.5
    assert abs(p - expected) < 4 * standard_error
    assert sign_flip_p(d) == p


@pytest.mark.parametrize("n", [21, 64, 65, 200])
def test_beyond_20_values_equal_signs_give_one_over_the_draws(n: int) -> None:
    assert sign_flip_p(np.linspace(1, 2, n)) == pytest.approx(1e-5, rel=1e-3)  # few draws may be dropped


@pytest.mark.parametrize("function", [sign_flip_p, sign_flip_interval])
@pytest.mark.parametrize("bad", [[], [1.0, float("nan")], [float("inf")], [1e308, 1e308], [[1.0, 2.0]]])
def test_what_is_not_a_list_of_finite_numbers_is_refused(function, bad) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match="must be"):
        function(bad)


# The interval


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("n", [6, 7, 9, 12])
@pytest.mark.parametrize("draw", ["normal", "exponential", "standard_cauchy"])
def test_interval_is_where_bisection_of_the_test_ends(draw: str, n: int, level: float) -> None:
    x = list(map(float, getattr(np.random.default_rng(n), draw)(size=n)))

    interval = sign_flip_interval(x, level)

    # The test rounds ties to 1e-9 of a part's size, which shifts the end that it sees by as much.
    scale = max(map(abs, x))
    assert interval == pytest.approx(interval_by_bisection(x, level), rel=0, abs=4e-9 * scale)


@given(st.lists(st.integers(-50, 50), min_size=6, max_size=10), st.integers(-60, 60))
def test_interval_holds_exactly_the_centres_that_the_test_accepts(x: list[int], c: int) -> None:
    interval = sign_flip_interval(x)
    assert interval is not None
    low, high = interval
    assume(min(abs(c - low), abs(c - high)) > 1e-6)  # at an end, rounding decides

    accepted = p_by_enumeration([Fraction(v - c) for v in x]) > 0.05

    assert (low < c < high) == accepted


@pytest.mark.parametrize("n", [6, 16, 20, 40])
def test_interval_moves_and_grows_with_the_values_and_holds_their_mean(n: int) -> None:
    x = np.random.default_rng(n).normal(size=n)

    low, high = sign_flip_interval(x) or (np.nan, np.nan)

    assert low < x.mean() < high
    assert sign_flip_interval(10 - 3 * x) == pytest.approx((10 - 3 * high, 10 - 3 * low), rel=1e-12)


def test_interval_does_not_jump_where_all_patterns_give_way_to_drawn_ones() -> None:
    """From 20 to 22 values by one pair that lies far inside, the width changes by a few percent."""
    x = np.random.default_rng(3).normal(size=20)
    low, high = sign_flip_interval(x) or (np.nan, np.nan)
    padded = sign_flip_interval([*x, x.mean() - 0.01, x.mean() + 0.01]) or (np.nan, np.nan)

    assert padded[1] - padded[0] == pytest.approx((high - low) * 20 / 22, rel=0.05)


@pytest.mark.parametrize("n", range(1, 6))
def test_there_is_no_95_percent_interval_below_six_values(n: int) -> None:
    assert sign_flip_interval([1.0, 2.0, 3.0, 4.0, 5.0][:n]) is None


def test_interval_of_equal_values_is_that_value() -> None:
    assert sign_flip_interval([0.1] * 8) == (0.1, 0.1)


@pytest.mark.parametrize("level", [0, 1, -0.5, 95, float("nan")])
def test_a_level_outside_0_and_1_is_refused(level: float) -> None:
    with pytest.raises(InputError, match=r"in \(0, 1\)"):
        sign_flip_interval([1.0] * 6, level)
    with pytest.raises(InputError, match=r"in \(0, 1\)"):
        minimum_seeds(2, level)


# Holm's correction and the number of seeds


def test_holm_gives_what_was_calculated_by_hand() -> None:
    """Sorted .005, .01, .03, .04 times 4, 3, 2, 1 is .02, .03, .06, .04; the last is raised to .06."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02], rel=1e-15)
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_keeps_the_order_and_lies_between_p_and_bonferroni(p: list[float]) -> None:
    adjusted = holm(p)

    assert all(x <= y <= min(1, len(p) * x) for x, y in zip(p, adjusted, strict=True))
    assert sorted(adjusted) == [adjusted[i] for i in np.argsort(p, kind="stable")]


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_holm_refuses_what_is_no_p(bad: float) -> None:
    with pytest.raises(InputError, match=r"\[0, 1\]"):
        holm([0.5, bad])


@pytest.mark.parametrize(("k", "seeds"), [(1, 6), (2, 6), (3, 7), (4, 8), (5, 9), (10, 11)])
def test_minimum_seeds_are_the_fewest_that_pass_holms_strictest_step(k: int, seeds: int) -> None:
    pairs = max(1, k * (k - 1) // 2)

    assert minimum_seeds(k) == seeds
    assert holm([sign_flip_p([1.0] * seeds)] + [1.0] * (pairs - 1))[0] <= 0.05
    assert holm([sign_flip_p([1.0] * (seeds - 1))] + [1.0] * (pairs - 1))[0] > 0.05


def test_no_optimizer_needs_no_answer() -> None:
    with pytest.raises(InputError, match="at least 1"):
        minimum_seeds(0)


# Comparing seed by seed


def test_lower_is_better_where_the_direction_says_so() -> None:
    assert list(advantages([1.0, 2.0], [3.0, 1.5], LOWER)) == [2.0, -0.5]
    assert probability_better([1.0, 2.0], [3.0, 1.5], LOWER) == 0.5
    assert probability_better([1.0, 1.0], [3.0, 1.5], LOWER) == 1.0


def test_scores_that_differ_by_rounding_are_equal() -> None:
    assert list(advantages([0.1 + 0.2], [0.3], HIGHER)) == [0.0]


@pytest.mark.parametrize("direction", [HIGHER, LOWER])
def test_a_diverged_seed_outweighs_all_others_together_in_both_directions(direction: Direction) -> None:
    a, b = [9.0, 1.0, None, None], [1.0, 4.0, 5.0, None]

    d = advantages(a, b, direction)

    assert d[2] < -abs(d[0]) - abs(d[1])
    assert d[3] == 0
    assert list(advantages(b, a, direction)) == list(-d)


@given(
    st.lists(st.tuples(st.none() | st.integers(0, 9), st.none() | st.integers(0, 9)), min_size=1, max_size=9)
)
def test_what_stands_for_a_divergence_gives_the_p_of_any_far_larger_number(pairs: list[tuple]) -> None:  # type: ignore[type-arg]
    a, b = map(list, zip(*pairs, strict=True))
    far = [
        Fraction(10**9 * ((x is not None) - (y is not None)) if None in (x, y) else x - y) for x, y in pairs
    ]

    assert sign_flip_p(advantages(a, b, HIGHER)) == p_by_enumeration(far)


def test_at_one_standard_deviation_the_better_one_is_ahead_on_76_percent_of_the_seeds() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(1, 1, 20_000), rng.normal(0, 1, 20_000)

    assert probability_better(a, b, HIGHER) == pytest.approx(NormalDist().cdf(0.5**0.5), abs=4 * 0.003)


def test_scores_of_different_seeds_or_without_a_value_are_refused() -> None:
    with pytest.raises(InputError, match="the same seeds; got 2 and 1"):
        advantages([1.0, 2.0], [1.0], HIGHER)
    with pytest.raises(InputError, match="finite or None"):
        probability_better([float("nan")], [1.0], HIGHER)

"""Planned looks and how many seeds would decide: against sums, searches and simulated races."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from thalweg.errors import InputError
from thalweg.evidence import minimum_seeds, seeds_to_decide, sign_flip_p
from thalweg.evidence.looks import levels

INCREASING = st.lists(st.integers(1, 500), min_size=1, max_size=6, unique=True).map(sorted)


@given(INCREASING, st.sampled_from([0.05, 0.01]))
def test_the_levels_of_all_looks_add_up_to_the_whole_and_the_last_gets_most_of_equal_steps(
    looks: list[int], level: float
) -> None:
    spent = levels(looks, level)

    assert math.fsum(spent) == pytest.approx(level, rel=1e-12)
    assert all(x > 0 for x in spent)
    for i, n in enumerate(looks):
        assert math.fsum(spent[: i + 1]) == pytest.approx(level * n * n / looks[-1] ** 2)


def test_a_race_without_looks_is_judged_at_the_whole_level_exactly() -> None:
    assert [levels([n]) for n in range(1, 60)] == [(0.05,)] * 59


@pytest.mark.parametrize("looks", [[], [0], [6, 6], [8, 6], [-1, 3]])
def test_looks_that_do_not_increase_are_refused(looks: list[int]) -> None:
    with pytest.raises(InputError, match="increasing"):
        levels(looks)


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1])
def test_a_level_that_is_no_level_is_refused(level: float) -> None:
    with pytest.raises(InputError, match="level"):
        levels([8], level)


def differences(effect: float, n: int = 10) -> list[float]:
    """Return numbers of mean `effect` and standard deviation 1."""
    x = np.arange(n) - (n - 1) / 2
    return (effect + x / x.std(ddof=1)).tolist()


@pytest.mark.parametrize(("effect", "pairs"), [(1.0, 1), (0.5, 1), (0.7, 6), (2.0, 6), (1.5, 45), (0.2, 3)])
def test_the_advised_number_is_the_first_whose_t_test_has_80_percent_power(effect: float, pairs: int) -> None:
    """Against SciPy's noncentral t, at the level that the signs of n seeds attain."""

    def power(n: int) -> float:
        attained = math.floor(0.05 / pairs * 2 ** (n - 1)) / 2 ** (n - 1)
        if attained == 0:
            return 0.0
        bound = stats.t.ppf(1 - attained / 2, n - 1)
        return float(stats.nct.sf(bound, n - 1, math.sqrt(n) * effect))

    found = seeds_to_decide(differences(effect), pairs)

    assert found == next(n for n in range(2, 1001) if power(n) >= 0.8)


@pytest.mark.slow
@pytest.mark.parametrize(("effect", "pairs"), [(1.0, 1), (1.5, 1), (0.8, 1), (1.2, 6), (2.5, 6)])
def test_the_advised_number_of_seeds_decides_in_about_80_percent_of_races(effect: float, pairs: int) -> None:
    """The sign-flip test has, to about a percent, the power of the t-test that the advice goes by.

    3,000 races: a share of 78.5 % would be 2 standard errors below the promise.
    """
    n, rng, races = seeds_to_decide(differences(effect), pairs), np.random.default_rng(3), 3_000
    assert n is not None
    found = sum(sign_flip_p(rng.normal(effect, 1, size=n)) <= 0.05 / pairs for _ in range(races))

    assert found / races >= 0.785


def test_a_larger_difference_takes_fewer_seeds_and_more_pairs_take_more() -> None:
    effects = [seeds_to_decide(differences(x), 1) for x in (0.15, 0.3, 0.6, 1.2, 2.4)]
    by_pairs = [seeds_to_decide(differences(0.6), pairs) for pairs in (1, 3, 6, 45)]

    assert effects == sorted(effects, key=lambda n: -(n or 0))
    assert by_pairs == sorted(by_pairs, key=lambda n: n or 0)
    assert None not in effects + by_pairs


@given(st.lists(st.integers(-9, 9), min_size=2, max_size=12), st.integers(1, 45))
def test_sign_and_unit_of_the_advantages_do_not_matter(x: list[int], pairs: int) -> None:
    found = seeds_to_decide(x, pairs)

    assert seeds_to_decide([-4.0 * d for d in x], pairs) == found
    k = (1 + math.isqrt(1 + 8 * pairs)) // 2  # optimizers of so many pairs, or fewer
    assert found is None or found >= minimum_seeds(k)


def test_there_is_no_advice_without_a_difference_or_a_spread_or_beyond_a_thousand_seeds() -> None:
    assert seeds_to_decide([1.0, -1.0, 2.0, -2.0], 1) is None
    assert seeds_to_decide([0.0, 0.0], 1) is None
    assert seeds_to_decide([0.1, -0.1 - 1e-18], 1) is None
    assert seeds_to_decide([1.0], 1) is None
    assert seeds_to_decide([], 1) is None
    # 80 % power at 1000 seeds: √1000 · d̄/s = 1.96 + 0.84
    assert seeds_to_decide(differences(0.0880), 1) is None
    assert seeds_to_decide(differences(0.0888), 1) in range(990, 1001)


def test_equal_differences_take_the_fewest_seeds_that_can_decide() -> None:
    assert [seeds_to_decide([0.1] * 5, k * (k - 1) // 2) for k in (2, 4, 10)] == [6, 8, 11]


def test_advantages_that_are_not_finite_and_no_pairs_are_refused() -> None:
    with pytest.raises(InputError, match="finite"):
        seeds_to_decide([math.inf, 1.0], 1)
    with pytest.raises(InputError, match="1 or more"):
        seeds_to_decide([2.0, 1.0], 0)

"""Streams are a function of their names alone, and never change."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.seeds import PURPOSES, derive, draws, order, permutation

WHOLE = st.integers(-(2**70), 2**70)


def test_a_seed_is_63_bits_of_blake2b_of_its_name() -> None:
    digest = hashlib.blake2b(b"-1/forward/2/100000000000000000000", digest_size=8).hexdigest()

    assert derive(-1, "forward", 2, 10**20) == int(digest, 16) // 2


def test_seeds_have_the_values_that_stored_races_were_run_with() -> None:
    assert derive(0, "data") == 2460214435513486726
    assert derive(0, "initial weights", 3) == 3167905915955241131


def test_orders_have_the_values_that_stored_races_were_run_with() -> None:
    assert order(root=0, seed=0, epoch=0, examples=10).tolist() == [2, 6, 9, 0, 4, 3, 7, 8, 5, 1]
    assert order(root=0, seed=0, epoch=1, examples=10).tolist() == [7, 3, 2, 1, 5, 6, 8, 0, 4, 9]
    assert order(root=7, seed=1, epoch=0, examples=10).tolist() == [4, 9, 1, 2, 5, 7, 6, 3, 0, 8]


@given(WHOLE, st.sampled_from(PURPOSES), st.lists(WHOLE, max_size=3))
def test_a_seed_fits_into_63_bits(root: int, purpose: str, numbers: list[int]) -> None:
    assert 0 <= derive(root, purpose, *numbers) < 2**63


@given(st.sets(st.tuples(WHOLE, st.sampled_from(PURPOSES), WHOLE, WHOLE), min_size=2, max_size=20))
def test_different_names_give_different_seeds(names: set[tuple[int, str, int, int]]) -> None:
    assert len({derive(*name) for name in names}) == len(names)


def test_numbers_are_not_run_together() -> None:
    assert len({derive(0, "order", 1, 23), derive(0, "order", 12, 3), derive(0, "order", 123)}) == 3


@given(st.integers(0, 200), st.integers(0, 2**31), st.integers(0, 1000))
def test_an_order_visits_every_example_once(examples: int, root: int, epoch: int) -> None:
    assert sorted(order(root, 0, epoch, examples)) == list(range(examples))


def test_every_order_of_three_is_equally_likely() -> None:
    draws = 6000
    seen = [tuple(permutation(3, 0, "order", i)) for i in range(draws)]

    counts = np.array([seen.count(p) for p in set(seen)])
    assert len(counts) == 6
    # chi-squared with 5 degrees of freedom exceeds 25.7 with probability 1e-4; the seeds are fixed
    assert ((counts - draws / 6) ** 2 / (draws / 6)).sum() < 25.7


def test_numpy_integers_name_the_same_stream() -> None:
    assert derive(np.int64(5), "data", np.uint8(1)) == derive(5, "data", 1)


def test_draws_with_replacement_are_pinned_and_even() -> None:
    assert draws(4, 0, "order", 0, 0).tolist() == [2, 3, 0, 2]
    counts = np.bincount(draws(100_000, 1, "order", 0, 0) // 10_000, minlength=10)
    # 10,000 are expected in each tenth, with a standard deviation of 95: five of them are allowed
    assert counts.sum() == 100_000
    assert abs(counts - 10_000).max() < 475


def test_an_unknown_purpose_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be one of data, initial weights, order.*; got 'weights'"):
        derive(0, "weights")


def test_a_number_that_is_not_whole_is_refused() -> None:
    with pytest.raises(TypeError):
        derive(0, "data", 1.5)  # type: ignore[arg-type]

"""Times of escape: theory against measurement, exact intervals, and no escape without noise."""

import math
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from thalweg.errors import InputError
from thalweg.functions.catalogue import surface
from thalweg.functions.escape import escapes, median_ranks, predicted_median, saddle_of, share_interval
from thalweg.functions.paths import compare
from thalweg.functions.walks import method, visited


def measured(text, name="sgd", rate=0.1, start=(1.0, 0.0), runs=1000, steps=500, noise=0.01, seed=0, **more):
    entry, using = surface(text), method(name, more)
    (path,) = compare(entry, [using], 1, start, {name: [rate]}).paths
    return escapes(entry, using, path, start, saddle_of(entry, start), runs, steps, noise, seed)


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "rmsprop", "adam", "lion"])
def test_without_noise_no_method_ever_leaves_the_line_that_runs_into_the_saddle(name):
    walk = visited(surface("saddle").expression, method(name), np.array([0.01]), (1.0, 0.0), None)

    assert all(point[0, 1] == 0 for point in islice(walk, 3000))


@pytest.mark.parametrize(("rate", "noise"), [(0.1, 0.01), (0.01, 0.01), (0.01, 1e-6)])
def test_the_linear_theory_predicts_the_median_on_a_quadratic_saddle(rate, noise):
    found = measured("x^2 - y^2", rate=rate, noise=noise, steps=2000)

    # The measured time is the first whole step beyond. 1000 runs place the median within its interval.
    low, high = found.median_interval
    assert low - 1 <= found.predicted <= high
    assert found.escaped == 1000


def test_the_prediction_is_that_of_a_simulated_recursion():
    eta, lam, s, y = 0.05, 2.0, 0.04, 1.0
    random, runs = np.random.default_rng(1), 4000
    at, times = np.zeros(runs), np.full(runs, np.inf)
    for step in range(1, 400):
        at = (1 + eta * lam) * at - eta * math.sqrt(s) * random.standard_normal(runs)
        times[np.isinf(times) & (np.abs(at) > y)] = step

    entry = surface("x^2 - y^2")
    predicted = predicted_median(entry.expression, saddle_of(entry, (1.0, 0.0)), eta, s)

    # The median of 4000 has a deviation of about a quarter of a step here, and whole steps round up.
    assert 0 <= np.median(times) - predicted <= 2


def test_more_noise_and_higher_rates_escape_earlier():
    medians = [
        measured("saddle", rate=rate, noise=s).median for rate, s in ((0.1, 0.01), (0.1, 1.0), (0.3, 1.0))
    ]

    assert medians == sorted(medians, reverse=True)
    assert len(set(medians)) == 3


def test_runs_that_stay_leave_times_open():
    none = measured("saddle", rate=1e-3, steps=50)
    some = measured("saddle", rate=0.01, steps=250)

    assert (none.escaped, none.median, none.quartiles, none.median_interval) == (
        0, None, (None, None), (None, None),
    )  # fmt: skip
    assert none.share_interval[0] == 0
    assert 250 < some.escaped < 500
    assert some.quartiles[0] is not None
    assert some.median is some.quartiles[1] is None


def test_runs_are_decided_by_their_seed():
    assert measured("saddle", seed=5) == measured("saddle", seed=5)
    assert measured("saddle", seed=5) != measured("saddle", seed=6)


def test_theory_is_for_plain_descent_from_one_negative_eigenvalue():
    assert measured("saddle", runs=20).predicted is not None
    assert measured("saddle", "momentum", 0.01, runs=20).predicted is None
    assert measured("saddle", runs=20, momentum=0.5).predicted is None
    assert measured("monkey-saddle", start=(0.3, 0.0), runs=20).predicted is None


def test_the_saddle_of_a_formula_is_looked_for_from_the_start():
    found = saddle_of(surface("(x - 1)^2 - (y - 2)^2"), (1.5, 2.0))

    assert (found.at, found.value, found.drop, found.known) == ((1.0, 2.0), 0.0, 1.0, False)
    assert saddle_of(surface("monkey-saddle"), (0.3, 0.0)).drop == pytest.approx(27 / 512, rel=1e-15)
    for text in ("booth", "x^2 + y^2", "x + y"):
        with pytest.raises(InputError, match="have a saddle to begin at"):
            saddle_of(surface(text), (1.0, 1.0))


@given(st.integers(1, 300), st.data())
def test_the_interval_of_a_share_is_the_exact_one(runs, data):
    hits = data.draw(st.integers(0, runs))

    expected = stats.binomtest(hits, runs).proportion_ci(0.95, "exact")

    assert share_interval(hits, runs) == pytest.approx((expected.low, expected.high), abs=1e-10)


@given(st.integers(6, 2000))
def test_the_ranks_around_the_median_cover_it_and_are_the_narrowest(runs):
    low, high = median_ranks(runs)

    def outside(place):  # P(fewer than place + 1 of the runs lie below the median)
        return stats.binom.cdf(place, runs, 0.5)

    assert high == runs - 1 - low
    assert outside(low) <= 0.025 < outside(low + 1)

"""Profiles against the integral that defines them, and times to a target read by hand."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from made_up import race as made_up
from thalweg.errors import InputError
from thalweg.evidence import geometric_mean_ratio, performance_profile, time_to_target
from thalweg.evidence.profile import MeanRatio
from thalweg.records import Direction, Evaluation

COSTS = st.lists(st.none() | st.integers(1, 50), min_size=4, max_size=4)


def test_a_profile_by_hand() -> None:
    found = performance_profile({"a": [10, 20, None, 8], "b": [5, 20, None, None], "c": [20, 25, None, 40]})

    assert found.ratios == {
        "a": (2.0, 1.0, None, 1.0),
        "b": (1.0, 1.0, None, None),
        "c": (4.0, 1.25, None, 5.0),
    }
    assert found.misses == {"a": 1, "b": 2, "c": 1}
    assert found.scores == pytest.approx({"a": (2 + 3 + 3) / 12, "b": (3 + 3) / 12, "c": 2.75 / 12})
    assert [found.share("c", tau) for tau in (1, 1.25, 4, 5)] == [0, 0.25, 0.5, 0.75]


@given(st.fixed_dictionaries({"a": COSTS, "b": COSTS, "c": COSTS}))
def test_the_score_is_the_mean_height_of_the_profile_up_to_four(times: dict[str, list[int | None]]) -> None:
    """Against the sum of ρ over a grid; a step of ρ in between is off by at most one of 3000 cells."""
    found = performance_profile(times)
    grid = np.linspace(1, 4, 3001)
    for name in times:
        heights = [found.share(name, tau) for tau in grid]

        assert found.scores[name] == pytest.approx(np.mean(heights), abs=2e-3)
        assert heights == sorted(heights)
        assert found.share(name, math.inf) == 1 - found.misses[name] / 4


@given(st.fixed_dictionaries({"a": COSTS, "b": COSTS}), st.integers(2, 9))
def test_the_unit_of_time_does_not_matter(times: dict[str, list[int | None]], unit: int) -> None:
    other = {name: [None if t is None else t * 2.0**unit for t in own] for name, own in times.items()}

    assert performance_profile(other) == performance_profile(times)


@pytest.mark.parametrize(
    "times",
    [{}, {"a": []}, {"a": [1], "b": [1, 2]}, {"a": [0]}, {"a": [-1.0]}, {"a": [math.inf]}, {"a": [math.nan]}],
)
def test_times_that_do_not_compare_are_refused(times: dict[str, Sequence[float]]) -> None:
    with pytest.raises(InputError):
        performance_profile(times)


def test_the_mean_ratio_is_geometric_and_says_what_it_leaves_out() -> None:
    assert geometric_mean_ratio([1, 2, None, 5], [8, 1, 3, None]) == MeanRatio(pytest.approx(2.0), 2, 1, 1)
    assert geometric_mean_ratio([None], [1]) == MeanRatio(None, 0, 1, 0)
    with pytest.raises(InputError, match="same tasks"):
        geometric_mean_ratio([1], [1, 2])


@given(st.lists(st.tuples(st.integers(1, 99), st.integers(1, 99)), min_size=1, max_size=9))
def test_the_mean_ratio_the_other_way_round_is_its_inverse(pairs: list[tuple[int, int]]) -> None:
    a, b = zip(*pairs, strict=True)
    there, back = geometric_mean_ratio(a, b).ratio, geometric_mean_ratio(b, a).ratio

    assert there is not None
    assert back is not None
    assert there * back == pytest.approx(1.0)


TRACE = made_up(optimizers=("adam",), final_seeds=2).traces[0]


def seen(*values: tuple[int, float | None, float | None]) -> tuple[Evaluation, ...]:
    return tuple(Evaluation(step, step / 10, loss, {"accuracy": a}) for step, loss, a in values)


@pytest.mark.parametrize(
    ("target", "metric", "direction", "expected"),
    [
        (0.8, "accuracy", Direction.HIGHER, 20),  # reached exactly
        (0.81, "accuracy", Direction.HIGHER, 40),
        (0.95, "accuracy", Direction.HIGHER, None),
        (0.5, "loss", Direction.LOWER, 10),
        (0.2, "loss", Direction.LOWER, 40),
        (0.1, "loss", Direction.LOWER, None),
    ],
)
def test_the_first_evaluation_at_the_target_counts(
    target: float, metric: str, direction: Direction, expected: int | None
) -> None:
    evaluations = seen((10, 0.5, 0.7), (20, 0.6, 0.8), (30, None, None), (40, 0.2, 0.9), (50, 0.3, 0.5))
    trace = replace(TRACE, evaluations=evaluations)

    assert time_to_target(trace, target, metric, direction) == expected


def test_an_unknown_metric_or_an_infinite_target_is_refused() -> None:
    with pytest.raises(InputError, match="among loss, "):
        time_to_target(TRACE, 0.5, "acuracy", Direction.HIGHER)
    with pytest.raises(InputError, match="finite"):
        time_to_target(TRACE, math.nan, "loss", Direction.LOWER)

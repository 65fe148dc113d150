"""Paths of weights, and the plane that shows most of them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from small_tasks import EXECUTION, cliff, linear, recipe, trial, workload
from thalweg.finder.paths import POINTS, plane, walk
from thalweg.schedules import Step


def ways(seed: int, counts: list[int], size: int) -> list[np.ndarray]:
    drawn = np.random.default_rng(seed)
    return [np.cumsum(drawn.normal(size=(n, size)), axis=0).astype(np.float32) for n in counts]


@given(st.integers(0, 1000), st.lists(st.integers(2, 12), min_size=1, max_size=3), st.integers(3, 8))
def test_plane_is_that_of_the_weighted_covariance(seed, counts, size):
    """The oracle: the singular values of the points themselves, each path with the same weight."""
    paths = ways(seed, counts, size)
    found = plane(paths)
    points = np.concatenate(paths).astype(float)
    share = np.concatenate([np.full(n, 1 / (n * len(counts))) for n in counts])
    centred = (points - share @ points) * np.sqrt(share)[:, None]
    squares = np.linalg.svd(centred, compute_uv=False) ** 2

    assert found.explained == pytest.approx(squares[:2].sum() / squares.sum(), rel=1e-9)
    assert [len(xy) for xy in found.coordinates] == counts
    flat = np.concatenate(found.coordinates)
    assert share @ np.square(flat) == pytest.approx(np.pad(squares, (0, 2))[:2], rel=1e-6, abs=1e-9)
    assert all(0 <= own <= 1 for own in found.own)
    assert found.coordinates[0][-1, 0] >= found.coordinates[0][0, 0]


def test_ways_in_one_plane_keep_their_distances():
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32)
    found = plane([square])
    (flat,) = found.coordinates

    assert found.explained == pytest.approx(1.0)
    assert np.linalg.norm(np.diff(flat, axis=0), axis=1) == pytest.approx([1, 1, 1], abs=1e-9)


def test_a_way_that_goes_nowhere_is_a_point():
    found = plane([np.zeros((3, 4), np.float32)])

    assert not found.coordinates[0].any()
    assert found.explained == 1.0


@pytest.mark.parametrize("batch_size", [1, 5, "all"])
def test_length_counts_every_update_and_ends_are_kept(batch_size):
    work = workload(linear())
    found = walk(work, trial(recipe(batch_size=batch_size, rate=0.05), 30), EXECUTION)
    steps = np.linalg.norm(np.diff(found.points.astype(float), axis=0), axis=1)

    assert len(found.points) == 31  # all, for there are fewer than are kept
    assert found.length == pytest.approx(steps.sum(), rel=1e-5)  # float32
    assert found.distance == pytest.approx(np.linalg.norm(found.points[-1] - found.points[0]), rel=1e-5)
    assert found.length >= found.distance * (1 - 1e-6)


def test_of_long_ways_some_points_are_kept_and_the_length_is_still_that_of_all():
    work = workload(linear())
    found = walk(work, trial(recipe(batch_size=1, rate=0.05), 2 * POINTS), EXECUTION)
    kept = np.linalg.norm(np.diff(found.points.astype(float), axis=0), axis=1).sum()

    assert len(found.points) == POINTS
    assert found.length > 1.05 * kept  # what lies between two kept points zigzags


def test_small_batches_zigzag_more_than_the_full_batch():
    work = workload(linear())
    ratios = [
        (w.length / w.distance)
        for size in ("all", 5, 1)
        for w in [walk(work, trial(recipe(batch_size=size, rate=0.02), 110), EXECUTION)]
    ]

    assert ratios == sorted(ratios)


def test_a_way_follows_the_schedule():
    work = workload(linear())
    still = recipe(rate=0.05, schedule=Step(every=5, ratio=1e-30))
    found = walk(work, trial(still, 12), EXECUTION)

    assert len(found.points) == 13
    assert (found.points[5:] == found.points[5]).all()
    assert (found.points[5] != found.points[4]).any()


def test_a_way_ends_before_it_stops_being_numbers():
    found = walk(workload(cliff()), trial(recipe(rate=10.0), 5), EXECUTION)

    assert np.isfinite(found.points).all()
    assert math.isfinite(found.length)

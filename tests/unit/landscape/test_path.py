"""The path of a training: recorded without changing it, and its plane beside NumPy's decomposition."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import small_tasks
from thalweg.landscape.path import NoPath, principal_plane, random_walk_explained, record
from thalweg.records import Stage
from thalweg.tasks import Task, check_task
from thalweg.training.recipe import Recipe
from thalweg.training.trial import Trial, Workload


def workload(task: Task) -> Workload:
    data = task.data(small_tasks.ROOT)
    checked = check_task(task, data, small_tasks.BATCH)
    return Workload(task, data, task.fingerprint(data), checked.metric, checked.direction)


def recorded(task: Task, moments: int = 101, steps: int = 12, **recipe: Any):
    made = Recipe(**{"optimizer": "momentum", "rate": 0.05, "batch_size": small_tasks.BATCH, **recipe})
    trial = Trial(made.optimizer, Stage.SINGLE, made, 0, steps)
    return record(workload(task), trial, small_tasks.EXECUTION, moments)


def test_a_path_begins_before_the_first_update_and_ends_at_the_trained_weights() -> None:
    found = recorded(small_tasks.network(), steps=12)
    one = recorded(small_tasks.network(), steps=5)

    assert found.steps == tuple(range(13))
    for name, p in found.model.named_parameters():
        assert torch.equal(found.weights[name][-1], p.detach())
        assert torch.equal(found.weights[name][0], one.weights[name][0])
        assert torch.equal(found.weights[name][5], one.model.get_parameter(name).detach())
    assert found.buffers == {}
    assert not found.restored
    assert found.nbytes == 13 * 4 * (3 * 8 + 8 + 8 * 3 + 3)


def test_moments_are_evenly_spaced_with_both_ends() -> None:
    assert recorded(small_tasks.linear(), moments=5, steps=12).steps == (0, 3, 6, 9, 12)


def test_running_statistics_are_kept_beside_the_weights() -> None:
    found = recorded(small_tasks.batch_norm())

    assert set(found.buffers) == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert found.buffers["1.num_batches_tracked"].tolist() == list(range(13))


def test_averaged_weights_are_those_that_are_kept() -> None:
    found = recorded(small_tasks.network(), optimizer="schedule-free-sgd", rate=0.1)

    for name, p in found.model.named_parameters():
        assert torch.equal(found.weights[name][-1], p.detach())


def test_best_weights_that_returned_are_said_to_be_of_another_moment() -> None:
    found = recorded(small_tasks.network(), steps=200, rate=0.5, patience=2)

    assert found.restored
    assert found.steps[-1] < 200
    assert any(
        not torch.equal(found.weights[name][-1], p.detach()) for name, p in found.model.named_parameters()
    )


def test_what_is_not_trained_is_no_part_of_the_path() -> None:
    assert set(recorded(small_tasks.frozen()).weights) == {"unused", "0.bias", "1.weight", "1.bias"}


def test_a_training_that_diverges_has_no_path() -> None:
    with pytest.raises(NoPath, match=r"the training diverged at update \d+, and there is no trained network"):
        recorded(small_tasks.cliff(), optimizer="sgd", rate=10.0, steps=40)


@given(
    arrays.arrays(np.float64, (5, 7), elements=st.floats(-10, 10, width=32)),
)
def test_the_plane_is_that_of_the_singular_value_decomposition(path: np.ndarray) -> None:
    """The Gram matrix squares singular values: those below 1e-5 of the first are not compared."""
    trained = path[-1]
    rows = path - trained
    _, sigma, _ = np.linalg.svd(rows, full_matrices=False)
    if not sigma[1] > 1e-4 * sigma[0]:
        return

    stacks = {"a": torch.from_numpy(path[:, :4].reshape(5, 2, 2)), "b": torch.from_numpy(path[:, 4:])}
    found = principal_plane(
        stacks, {"a": torch.from_numpy(trained[:4].reshape(2, 2)), "b": torch.from_numpy(trained[4:])}
    )

    flat = np.array([np.concatenate([d["a"].flatten(), d["b"]]) for d in found.directions])
    scale = sigma[0]
    np.testing.assert_allclose(flat @ flat.T, np.eye(2), atol=1e-6)
    np.testing.assert_allclose(rows @ flat.T, found.places, atol=1e-6 * scale)
    assert found.explained == pytest.approx(tuple(sigma[:2] ** 2 / (sigma**2).sum()), abs=1e-9)
    remainder = rows - found.places @ flat
    np.testing.assert_allclose(np.linalg.norm(remainder, axis=1), found.off, atol=1e-6 * scale)
    assert (found.places[0] >= -1e-9 * scale).all()


def test_a_path_along_a_line_has_no_plane() -> None:
    along = torch.arange(5.0)[:, None] * torch.tensor([[1.0, 2.0, 3.0]])

    for path in (along, torch.zeros(5, 3)):
        with pytest.raises(NoPath, match="their path spans no plane"):
            principal_plane({"w": path}, {"w": path[-1]})


def test_more_columns_than_are_computed_at_once_give_the_same_plane() -> None:
    """Two blocks of columns; rounding of 10⁵ squares in float64."""
    path = np.random.default_rng(0).normal(size=(4, 100_000)).cumsum(0)
    _, sigma, v = np.linalg.svd(path - path[-1], full_matrices=False)

    found = principal_plane({"w": torch.from_numpy(path)}, {"w": torch.from_numpy(path[-1])})

    assert found.explained == pytest.approx(tuple(sigma[:2] ** 2 / (sigma**2).sum()), rel=1e-10)
    for direction, expected in zip(found.directions, v[:2], strict=True):
        assert abs(float(direction["w"] @ torch.from_numpy(expected))) == pytest.approx(1.0, abs=1e-9)


def test_the_shares_of_a_random_walk_are_those_of_a_walk_that_was_simulated() -> None:
    """Shares vary by about 1/√P; with P = 50,000 dimensions, 0.01 is more than twice that."""
    for moments in (3, 20, 101):
        steps = np.random.default_rng(moments).standard_normal((moments - 1, 50_000)).astype(np.float32)
        walk = np.vstack([np.zeros((1, steps.shape[1]), np.float32), steps.cumsum(0)])
        found = principal_plane({"w": torch.from_numpy(walk)}, {"w": torch.from_numpy(walk[-1])})

        assert found.explained == pytest.approx(random_walk_explained(moments), abs=0.01)


def test_the_shares_of_a_random_walk_are_eigenvalues_over_the_trace() -> None:
    for moments in (3, 4, 50):
        n = np.arange(1, moments)
        values = np.linalg.eigvalsh(np.minimum.outer(n, n).astype(float))[::-1]

        assert random_walk_explained(moments) == pytest.approx(tuple(values[:2] / values.sum()), rel=1e-12)
    assert random_walk_explained(10**6) == pytest.approx((8 / np.pi**2, 8 / (9 * np.pi**2)), rel=1e-5)

"""All that is measured around a small network, against weights that are moved by hand."""

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import small_tasks
from thalweg.landscape.directions import random_direction, weights_of
from thalweg.landscape.losses import Losses, OnPart
from thalweg.landscape.path import principal_plane, record
from thalweg.landscape.survey import View, survey
from thalweg.records import Stage, from_data, to_data
from thalweg.records.landscapes import Landscape
from thalweg.tasks import Task, check_task
from thalweg.training.measuring import measured
from thalweg.training.recipe import Recipe
from thalweg.training.trial import Trial, Workload

VIEW = View(grid=5, span=0.5, directions=3)


def made(
    task: Task, precision: str = "float32", optimizer: str = "momentum", rate: float = 0.1
) -> tuple[Workload, Trial, Any]:
    data = task.data(small_tasks.ROOT)
    checked = check_task(task, data, small_tasks.BATCH)
    workload = Workload(task, data, task.fingerprint(data), checked.metric, checked.direction)
    recipe = Recipe(optimizer, rate, batch_size=small_tasks.BATCH, precision=precision)
    trial = Trial(optimizer, Stage.SINGLE, recipe, 0, 30)
    return workload, trial, record(workload, trial, small_tasks.EXECUTION, 11)


def looked_at(task: Task, fleet: bool = True, precision: str = "float32") -> tuple[Landscape, Any, Workload]:
    workload, trial, recorded = made(task, precision)
    part = workload.data.train
    found = survey(workload, trial, small_tasks.EXECUTION, recorded, part, "train", VIEW, fleet)
    return found, recorded, workload


def loss_of(workload: Workload, model: nn.Module, state: dict[str, Tensor], dtype: torch.dtype) -> float:
    """Return the training loss of a copy with other weights and buffers."""
    own = copy.deepcopy(model).eval()
    own.load_state_dict({**own.state_dict(), **state})
    part = workload.data.train.to(dtype)
    found = measured(dataclasses.replace(workload.task, metrics=None), own, part, lambda batch: batch)["loss"]
    assert found is not None
    return found


@pytest.mark.parametrize("task", [small_tasks.network(), small_tasks.batch_norm(), small_tasks.logistic()])
@pytest.mark.parametrize(
    ("precision", "tolerance"), [("float32", 2e-5), ("float64", 1e-12)]
)  # rounding of weights on the plane, and of sums in another order
def test_everything_is_what_moving_the_weights_by_hand_gives(
    task: Task, precision: str, tolerance: float
) -> None:
    found, recorded, workload = looked_at(task, precision=precision)
    model, trained = recorded.model, weights_of(recorded.model)
    dtype = next(model.parameters()).dtype
    plane = principal_plane(recorded.weights, trained)
    random = [random_direction(model, small_tasks.ROOT, k) for k in range(3)]

    def moved(directions: Any, *places: float) -> float:
        state = dict(trained)
        for place, direction in zip(places, directions, strict=True):
            state |= {n: state[n] + place * d for n, d in direction.items()}
        return loss_of(workload, model, state, dtype)

    def real(moment: int) -> float:
        kept = {**recorded.weights, **recorded.buffers}
        return loss_of(workload, model, {n: x[moment] for n, x in kept.items()}, dtype)

    assert found.one_by_one == ""
    for seen, directions in ((found.random, random[:2]), (found.principal, plane.directions)):
        expected = [[moved(directions, x, y) for x in seen.x] for y in seen.y]
        np.testing.assert_allclose(seen.losses, expected, rtol=tolerance)
    expected_lines = [[moved([d], x) for x in found.line.positions] for d in random]
    np.testing.assert_allclose(found.line.losses, expected_lines, rtol=tolerance)
    path = found.path
    drawn = [moved(plane.directions, x, y) for x, y in zip(path.x, path.y, strict=True)]
    np.testing.assert_allclose(path.loss_on_plane, drawn, rtol=tolerance)
    np.testing.assert_allclose(path.loss_real, [real(i) for i in range(len(path.steps))], rtol=tolerance)
    assert found.center_loss == pytest.approx(moved([]), rel=tolerance)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("float64", 1e-13)])
def test_a_fleet_agrees_with_one_by_one(precision: str, tolerance: float) -> None:
    together, _, _ = looked_at(small_tasks.batch_norm(), precision=precision)
    alone, _, _ = looked_at(small_tasks.batch_norm(), fleet=False, precision=precision)

    assert (together.one_by_one, alone.one_by_one) == ("", "it was asked for")
    assert together.points == alone.points == VIEW.points(11)
    for a, b in (
        (together.random.losses, alone.random.losses),
        (together.principal.losses, alone.principal.losses),
        (together.line.losses, alone.line.losses),
        (together.path.loss_on_plane, alone.path.loss_on_plane),
        (together.path.loss_real, alone.path.loss_real),
    ):
        np.testing.assert_allclose(a, b, rtol=tolerance)


def test_the_drawn_path_is_on_the_contours() -> None:
    """A grid laid through points of the path has the losses of the path there, to the last bit."""
    workload, _, recorded = made(small_tasks.network())
    trained = weights_of(recorded.model)
    plane = principal_plane(recorded.weights, trained)
    losses = Losses(recorded.model, OnPart(workload.task, recorded.model, workload.data.train))
    x, y = plane.places[3:6].T

    path = losses.around(trained, plane.directions, plane.places)
    grid = losses.around(trained, plane.directions, np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2))

    assert np.reshape(grid, (3, 3)).diagonal().tolist() == path[3:6]


def test_a_path_within_a_plane_hides_nothing() -> None:
    """Two numbers that are trained: every path lies in their plane."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.tensor([[2.0, -1.0]]))

    def bowl(model: nn.Module, batch: Any) -> Tensor:
        return model.w[0, 0] ** 2 + 3 * model.w[0, 1] ** 2 + 0 * batch[0].sum()  # type: ignore[index, operator]

    task = dataclasses.replace(small_tasks.linear(), make_model=Two, loss=bowl, name="bowl", source="bowl")
    found, _, _ = looked_at(task, precision="float64")

    assert sum(found.path.explained) == pytest.approx(1.0, abs=1e-12)
    assert max(found.path.off) == pytest.approx(0.0, abs=1e-6)
    np.testing.assert_allclose(found.path.loss_on_plane, found.path.loss_real, rtol=1e-9)


def test_off_the_plane_the_losses_differ() -> None:
    found, _, _ = looked_at(small_tasks.network())
    gaps = np.abs(np.subtract(found.path.loss_on_plane, found.path.loss_real))

    assert sum(found.path.explained) < 1
    assert found.path.off[-1] == pytest.approx(0.0, abs=1e-9)
    assert gaps[-1] < 1e-6
    assert max(found.path.off) > 1e-3
    assert gaps.max() > 1e-4


def test_the_record_says_what_was_looked_at_and_comes_back_from_data() -> None:
    found, recorded, _ = looked_at(small_tasks.batch_norm())

    assert from_data(Landscape, to_data(found)) == found
    assert (found.part, found.examples, found.steps, found.statistics) == ("train", 22, 30, True)
    assert (found.filters, found.still, found.parameters) == (8 + 3, 8 + 8 + 8 + 3, 3 * 8 + 8 * 3 + 27)
    assert found.center_loss == found.random.losses[2][2] == found.line.losses[0][8]
    assert (found.random.x, found.random.y) == ((-0.5, -0.25, 0.0, 0.25, 0.5),) * 2
    assert len(found.line.positions) == 17
    assert found.line.positions[8] == 0.0
    assert found.principal.lengths == pytest.approx((1.0, 1.0), abs=1e-6)
    assert found.principal.cosine == pytest.approx(0.0, abs=1e-6)
    weights = weights_of(recorded.model)
    own = sum(float(weights[n].square().sum()) for n in ("0.weight", "3.weight")) ** 0.5
    assert found.random.lengths == pytest.approx((own, own), rel=1e-6)
    for axis, places in ((found.principal.x, found.path.x), (found.principal.y, found.path.y)):
        assert axis[0] < min(places)
        assert max(places) < axis[-1]
    assert found.path_bytes == recorded.nbytes


def test_the_model_is_left_as_the_training_left_it() -> None:
    workload, trial, recorded = made(small_tasks.batch_norm())
    before = copy.deepcopy(recorded.model.state_dict())
    modes = [m.training for m in recorded.model.modules()]
    state = torch.get_rng_state()

    survey(workload, trial, small_tasks.EXECUTION, recorded, workload.data.train, "train", VIEW)

    assert all(torch.equal(x, before[n]) for n, x in recorded.model.state_dict().items())
    assert [m.training for m in recorded.model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)


def test_what_cannot_be_stacked_has_the_same_landscape() -> None:
    def branching(model: nn.Module, batch: Any) -> Tensor:
        loss = small_tasks.cross_entropy(model, batch)
        return loss if loss.item() > -1 else -loss

    plain = small_tasks.network()
    stacked, _, _ = looked_at(plain)
    alone, _, _ = looked_at(dataclasses.replace(plain, loss=branching))

    assert alone.one_by_one.startswith("it cannot be stacked: ")
    np.testing.assert_allclose(alone.principal.losses, stacked.principal.losses, rtol=1e-5)


def test_losses_that_are_not_finite_are_none() -> None:
    """√w has no value to the left of 0."""

    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.tensor([[4.0], [1.0]]))

    def roots(model: nn.Module, batch: Any) -> Tensor:
        return model.w.sqrt().sum() + model.w[1, 0] ** 2 + 0 * batch[0].sum()  # type: ignore[index, operator]

    task = dataclasses.replace(small_tasks.linear(), make_model=Root, loss=roots, name="root", source="root")
    workload, trial, recorded = made(task, optimizer="sgd", rate=0.01)
    view = View(grid=5, span=2.0, directions=2)
    part = workload.data.train
    found = survey(workload, trial, small_tasks.EXECUTION, recorded, part, "train", view)

    flat = [x for row in found.line.losses for x in row]
    assert None in flat
    assert all(x is None or np.isfinite(x) for x in flat)
    assert found.center_loss is not None

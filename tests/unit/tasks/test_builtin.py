"""Every built-in task keeps the contract of tasks, and its own row of the listing."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.func import functional_call, stack_module_state, vmap

from thalweg.errors import TaskError
from thalweg.records import Direction
from thalweg.tasks import BUILTIN, Classification, Data, Listing, Task, check_task, load_task

DATA = os.environ.get("THALWEG_DATA")
needs_files = pytest.mark.skipif(not DATA, reason="THALWEG_DATA is unset: no folder with the MNIST files")


def row(listing: Listing) -> Any:
    return pytest.param(listing.name, marks=needs_files if listing.files else (), id=listing.name)


ALL = pytest.mark.parametrize("name", [row(listing) for listing in BUILTIN.values()])
_MADE: dict[str, tuple[Task, Data]] = {}


def made(name: str) -> tuple[Task, Data]:
    """The task and its data for seed 0, read once."""
    if name not in _MADE:
        task = load_task(name)
        _MADE[name] = task, task.data(0)
    return _MADE[name]


@ALL
def test_the_listing_says_what_the_data_are(name: str) -> None:
    task, data = made(name)
    x, _ = data.train.batch(np.array([0]))
    listing = BUILTIN[name]

    counts = (data.train.examples, data.validation.examples, data.test.examples)
    assert counts == (listing.train, listing.validation, listing.test)
    assert x.shape == (1, listing.features)
    assert listing.classes == (task.kind.classes if isinstance(task.kind, Classification) else None)
    assert (task.name, task.description) == (name, listing.description)
    assert (task.epochs, task.batch_size) == (listing.epochs, listing.batch_size)


@ALL
def test_the_task_passes_the_check_with_its_own_batch_size(name: str) -> None:
    task, data = made(name)
    checked = check_task(task, data, task.batch_size)

    expected = ("r2", Direction.HIGHER) if BUILTIN[name].classes is None else ("accuracy", Direction.HIGHER)
    assert (checked.metric, checked.direction) == expected


@ALL
def test_loss_and_metrics_of_stacked_models_are_those_of_each(name: str) -> None:
    task, data = made(name)
    models = [task.model(seed) for seed in (0, 1, 2)]
    batches = [data.train.batch(np.arange(5 * k, 5 * k + 5)) for k in range(3)]
    stacked, _ = stack_module_state(models)
    batch = tuple(torch.stack(field) for field in zip(*batches, strict=True))

    class Called(torch.nn.Module):
        def __init__(self, parameters: dict[str, torch.Tensor]) -> None:
            super().__init__()
            self.held = parameters

        def forward(self, x: torch.Tensor) -> Any:
            return functional_call(models[0], self.held, (x,))

    def measure(parameters: dict[str, torch.Tensor], batch: Any) -> Any:
        model = Called(parameters)
        return task.loss(model, batch), task.metrics(model, batch)  # type: ignore[misc]

    losses, metrics = vmap(measure)(stacked, batch)
    for k in range(3):
        # float32, another order of summation in the stacked matrix products
        torch.testing.assert_close(losses[k], task.loss(models[k], batches[k]), rtol=1e-4, atol=1e-6)
        for key, value in task.metrics(models[k], batches[k]).items():  # type: ignore[misc]
            stacked_value = metrics[key]
            for a, b in zip(
                *((v if isinstance(v, tuple) else (v,)) for v in (stacked_value, value)), strict=True
            ):
                torch.testing.assert_close(a[k], b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["breast-cancer", "diabetes", "wine"])
def test_tables_are_standardised_on_the_training_part_and_raw_ones_are_not(name: str) -> None:
    train = made(name)[1].train.batch(np.arange(BUILTIN[name].train))[0]
    test = made(name)[1].test.batch(np.arange(BUILTIN[name].test))[0]
    raw = made(f"{name}-raw")[1].train.batch(np.arange(BUILTIN[name].train))[0]

    torch.testing.assert_close(train.mean(0), torch.zeros(train.shape[1]), rtol=0, atol=1e-5)
    torch.testing.assert_close(train.std(0, correction=0), torch.ones(train.shape[1]), rtol=1e-4, atol=0)
    assert test.mean(0).abs().max() > 0.01
    assert raw.std(0).max() / raw.std(0).min() > 50


def test_digits_are_the_published_ones() -> None:
    data = made("digits")[1]
    x, y = zip(
        *(p.batch(np.arange(p.examples)) for p in (data.train, data.validation, data.test)), strict=True
    )

    assert torch.cat(y).bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert set((torch.cat(x).unique() * 16).tolist()) == set(range(17))


@needs_files
@pytest.mark.parametrize(
    ("name", "counts", "mean", "deviation"),
    [
        ("mnist", [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949], 0.1307, 0.3081),
        ("fashion-mnist", [6000] * 10, 0.2860, 0.3530),
    ],
)
def test_images_are_the_published_ones_normalised(
    name: str, counts: list[int], mean: float, deviation: float
) -> None:
    data = made(name)[1]
    (x, y), (x_val, y_val) = (p.batch(np.arange(p.examples)) for p in (data.train, data.validation))

    assert torch.cat([y, y_val]).bincount().tolist() == counts
    pixels = torch.cat([x, x_val]) * deviation + mean
    assert pixels.mean().item() == pytest.approx(mean, abs=5e-5)
    assert pixels.std().item() == pytest.approx(deviation, abs=5e-5)
    np.testing.assert_allclose([n / 10 for n in counts], y_val.bincount(), atol=1)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_missing_files_are_said_when_the_task_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=f"hold the files of {name}.*--download"):
        load_task(name, data_dir=tmp_path)


def test_files_of_another_data_set_are_refused_by_their_checksum(tmp_path: Path) -> None:
    for file in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (tmp_path / f"{file}-ubyte.gz").write_bytes(b"")
    task = load_task("mnist", data_dir=tmp_path)
    with pytest.raises(TaskError, match="published checksum"):
        task.data(0)

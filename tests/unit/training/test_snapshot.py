"""A snapshot file holds exactly what was put in, whole or not at all, and nothing else is taken for one."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from thalweg.errors import InputError
from thalweg.records import Evaluation, Outcome
from thalweg.training import snapshot
from thalweg.training.control import Progress

TENSORS = {
    "model.w": torch.tensor([[0.1, -2.5e-300]], dtype=torch.float64),
    "model.count": torch.tensor(3),
    "optimizer.0.step": torch.tensor(4.0),
    "kept.w": torch.empty(0, 2),
}
PROGRESS = Progress(
    step=4,
    outcome=Outcome.STOPPED_EARLY,
    initial_loss=0.1 + 0.2,
    losses=[1 / 3, None],
    loss_steps=[2, 4],
    evaluations=[Evaluation(4, 0.8, 1e-7, {"accuracy": None})],
    best_at=0,
)


def test_what_was_written_is_read_bit_by_bit(tmp_path: Path) -> None:
    snapshot.write(tmp_path / "s", TENSORS, PROGRESS, "key")
    tensors, progress = snapshot.read(tmp_path / "s", "key")

    assert progress == PROGRESS
    assert list(tensors) == sorted(TENSORS)
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert tensors[name].shape == tensor.shape
        assert torch.equal(tensors[name], tensor)


def test_a_new_snapshot_replaces_the_old_one_and_leaves_no_other_file(tmp_path: Path) -> None:
    snapshot.write(tmp_path / "s", TENSORS, Progress(step=1), "key")
    snapshot.write(tmp_path / "s", TENSORS, Progress(step=2), "key")

    assert snapshot.read(tmp_path / "s", "key")[1].step == 2
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_a_snapshot_of_another_trial_is_refused(tmp_path: Path) -> None:
    snapshot.write(tmp_path / "s", TENSORS, PROGRESS, "key")

    with pytest.raises(InputError, match=r"must belong to this task, recipe, .*; got one of trial key\."):
        snapshot.read(tmp_path / "s", "other")


@pytest.mark.parametrize("kept", [0, 7, 40, -1])
def test_a_damaged_snapshot_is_refused(tmp_path: Path, kept: int) -> None:
    snapshot.write(tmp_path / "s", TENSORS, PROGRESS, "key")
    (tmp_path / "s").write_bytes((tmp_path / "s").read_bytes()[:kept])

    with pytest.raises(InputError, match="must be a file that Thalweg wrote"):
        snapshot.read(tmp_path / "s", "key")


def test_a_snapshot_that_is_not_there_and_a_foreign_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be a file that Thalweg wrote"):
        snapshot.read(tmp_path / "none", "key")
    save_file(TENSORS, tmp_path / "foreign")
    with pytest.raises(InputError, match="must belong to this task"):
        snapshot.read(tmp_path / "foreign", "key")


@pytest.mark.parametrize("place", ["file/s", "folder"])
def test_a_snapshot_that_cannot_be_written_is_refused_and_nothing_is_lost(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder").mkdir()

    with pytest.raises(InputError, match="must be one that can be written"):
        snapshot.write(tmp_path / place, TENSORS, PROGRESS, "key")
    assert (tmp_path / "file").read_text() == "kept"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder"]

"""The example tasks: what they read, what they refuse, and that they can be learnt."""

import dataclasses
import importlib.util
import itertools
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import thalweg
from end_to_end.program import Call
from thalweg.errors import InputError
from thalweg.tasks import Data, Task, load_task

EXAMPLES = Path(__file__).parents[2] / "examples"
CIFAR, SHAKESPEARE = EXAMPLES / "cifar10.py", EXAMPLES / "shakespeare.py"


def example(path: Path, data_folder: Path) -> Task:
    """The task, where its data are there and can be read."""
    inside = {CIFAR: "cifar10/cifar10_jpeg_full.npz", SHAKESPEARE: "tiny_shakespeare/input.txt"}[path]
    if not (data_folder / inside).exists():
        pytest.skip(f"the folder of THALWEG_DATA has no {inside}")
    if path == CIFAR and importlib.util.find_spec("PIL") is None:
        pytest.skip("Pillow is not installed: it reads the JPEG images of CIFAR-10")
    return load_task(path)


def fields(data: Data) -> list[Any]:
    return [next(part.batches(part.examples)) for part in (data.train, data.validation, data.test)]


def check_that_it_learns(task: Task, folder: Path, by: float) -> None:
    whole = task.data(seed=0)
    some = Data(*(part.select(np.arange(200)) for part in (whole.train, whole.validation, whole.test)))
    few = dataclasses.replace(
        task, make_data=lambda seed: some
    )  # measuring all of it takes longer than learning
    trace = thalweg.train(few, {"optimizer": "adam", "rate": 0.003}, steps=40, out=folder).trace

    assert (trace.outcome, trace.steps) == ("completed", 40)
    assert all(map(math.isfinite, trace.losses))
    assert trace.validation["loss"] < trace.initial_loss - by


@pytest.mark.slow
def test_cifar_has_standardised_images_and_the_mix_of_classes(data_folder: Path) -> None:
    task = example(CIFAR, data_folder)
    data = task.data(seed=0)

    (x, y), (x_validation, _), (x_test, y_test) = fields(data)
    assert [len(x), len(x_validation), len(x_test)] == [10_000, 2_000, 5_000]
    assert (x.shape[1:], x.dtype, y.dtype) == ((3, 32, 32), torch.float32, torch.int64)
    # 30 million numbers, standardised in double precision, then rounded to single.
    assert x.mean((0, 2, 3), dtype=torch.float64).abs().max() < 1e-5
    torch.testing.assert_close(x.double().std((0, 2, 3)), torch.ones(3).double(), rtol=1e-5, atol=0)
    assert 0 < x_test.mean().abs() < 0.05  # by the statistics of the training part, not its own
    # A tenth each of the whole; a random share of 10,000 strays by less than 5 of its deviations, 0.003.
    assert (torch.bincount(y, minlength=10) / 10_000 - 0.1).abs().max() < 0.015
    assert len(torch.bincount(y_test, minlength=10)) == 10


@pytest.mark.slow
def test_cifar_is_learnt_in_a_few_updates(data_folder: Path, tmp_path: Path) -> None:
    check_that_it_learns(example(CIFAR, data_folder), tmp_path, by=0.05)


def test_cifar_reads_the_published_records_and_draws_by_the_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THALWEG_DATA", str(tmp_path / "data"))
    task = small_cifar(tmp_path)
    random = np.random.default_rng(0)
    folder = tmp_path / "data" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    records = random.integers(0, 256, (240, 3073), dtype=np.uint8)
    records[:, 0] = np.arange(240) % 10
    records[:, 1] = np.arange(240)  # the first red pixel tells which image it is
    for i in range(5):
        (folder / f"data_batch_{i + 1}.bin").write_bytes(records[40 * i : 40 * i + 40].tobytes())
    (folder / "test_batch.bin").write_bytes(records[200:].tobytes())

    (x, y), (x_validation, y_validation), (x_test, y_test) = fields(task.data(seed=1))
    assert [len(y), len(y_validation), len(y_test)] == [60, 20, 30]
    # Standardising is x ↦ (x − mean) / deviation per channel: undone by what it does to red 0 and 255.
    together = torch.cat([x, x_validation])
    chosen = records[np.random.default_rng(1).permutation(200)[:80]]
    pixels = torch.from_numpy(chosen[:, 1:].reshape(-1, 3, 32, 32).astype(np.float64))
    mean = pixels[:60].mean((0, 2, 3), keepdim=True)
    deviation = pixels[:60].var((0, 2, 3), correction=0, keepdim=True).sqrt()
    torch.testing.assert_close(together.double() * deviation + mean, pixels, rtol=0, atol=1e-4)
    assert torch.cat([y, y_validation]).tolist() == chosen[:, 0].tolist()
    assert ((x_test[:, 0, 0, 0].double() * deviation[0, 0] + mean[0, 0]).round() % 10).flatten().tolist() == (
        y_test.tolist()  # labels of the test batch: the number of the image, modulo ten
    )

    again, other = (fields(task.data(seed=seed))[0] for seed in (1, 2))
    assert torch.equal(again[0], x)
    assert again[1].tolist() != other[1].tolist()

    (folder / "data_batch_3.bin").write_bytes(records[0].tobytes()[:-1])
    with pytest.raises(InputError, match="must hold records of 3073 bytes; got 3072 bytes"):
        task.data(seed=0)
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(InputError, match=r"data_batch_3\.bin must be readable; got No such file"):
        task.data(seed=0)


def small_cifar(folder: Path) -> Task:
    """The same file, with fewer images of each part."""
    text = CIFAR.read_text()
    assert "= 10_000, 2_000, 5_000" in text
    (folder / "cifar10.py").write_text(text.replace("= 10_000, 2_000, 5_000", "= 60, 20, 30"))
    shutil.copy(EXAMPLES / "data_files.py", folder)
    return load_task(folder / "cifar10.py")


def test_shakespeare_asks_for_the_character_after_each(data_folder: Path) -> None:
    task = example(SHAKESPEARE, data_folder)
    alphabet = sorted(set((data_folder / "tiny_shakespeare" / "input.txt").read_text()))
    parts = fields(task.data(seed=0))

    assert [len(x) for x, _ in parts] == [16_000, 871, 871]
    for x, y in parts:
        assert (x.shape[1:], y.shape[1:], x.dtype) == ((64,), (64,), torch.int64)
        assert torch.equal(x[:, 1:], y[:, :-1])
    assert parts[0][0].unique().tolist() == list(range(len(alphabet)))  # every character is met
    # Windows of the test part lie side by side, and end within the text.
    text = (data_folder / "tiny_shakespeare" / "input.txt").read_text()
    said = "".join(alphabet[i] for i in parts[2][0].flatten())
    assert said == text[len(text) * 95 // 100 :][: 871 * 64]


def test_shakespeare_is_learnt_in_a_few_updates(data_folder: Path, tmp_path: Path) -> None:
    check_that_it_learns(example(SHAKESPEARE, data_folder), tmp_path, by=0.8)


def test_a_transformer_never_sees_the_characters_to_come() -> None:
    model = load_task(SHAKESPEARE).model(seed=0)
    text = torch.randint(65, (2, 64))
    changed = text.clone()
    changed[:, 40:] = (text[:, 40:] + 1) % 65

    before, after = model(text), model(changed)
    assert before.shape == (2, 64, 65)
    torch.testing.assert_close(after[:, :40], before[:, :40])
    assert (after[:, 40] - before[:, 40]).abs().max() > 1e-3


def test_bits_are_the_loss_over_log_2_and_start_near_those_of_65_characters() -> None:
    task = load_task(SHAKESPEARE)
    model, text = task.model(seed=0), torch.randint(65, (4, 65))
    batch = text[:, :-1], text[:, 1:]

    with torch.no_grad():
        bits = task.metrics(model, batch)["bits_per_character"]  # type: ignore[misc]
        nats = task.loss(model, batch)
    assert float(bits) == pytest.approx(float(nats) / math.log(2), rel=1e-6)
    # Knowing nothing costs log₂ 65 = 6.02 bits; fresh weights guess a little worse.
    assert 6.0 < float(bits) < 6.7


def test_a_loss_of_attention_can_be_differentiated_twice() -> None:
    task = load_task(SHAKESPEARE)
    model, text = task.model(seed=0), torch.randint(65, (2, 65))
    parameters = list(model.parameters())

    loss = task.loss(model, (text[:, :-1], text[:, 1:]))
    gradients = torch.autograd.grad(loss, parameters, create_graph=True)
    curvature = torch.autograd.grad(sum(g.square().sum() for g in gradients), parameters)
    assert all(torch.isfinite(c).all() for c in curvature)


@pytest.mark.parametrize(
    ("path", "name", "inside"),
    [
        (CIFAR, "CIFAR-10", "cifar10_jpeg_full.npz"),
        (SHAKESPEARE, "tiny Shakespeare", "tiny_shakespeare/input.txt"),
    ],
    ids=["cifar10", "shakespeare"],
)
def test_data_that_are_not_there_are_refused_with_what_to_do(
    path: Path, name: str, inside: str, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said() -> str:
        done = call("train", str(path))
        assert (done.code, done.out) == (2, "")
        return " ".join(done.err.split())

    unset = said()
    assert f"the data folder of {name} must be named; got none. Set THALWEG_DATA=DIR, with DIR/" in unset
    assert inside in unset
    assert "https://" in unset
    monkeypatch.setenv("THALWEG_DATA", str(tmp_path / "nowhere"))
    assert "must be a folder; got no such folder. Set THALWEG_DATA to another folder." in said()
    monkeypatch.setenv("THALWEG_DATA", str(tmp_path))
    assert f"must hold the data of {name}; got a folder without. Add DIR/" in said()
    assert not any(tmp_path.iterdir())


def test_a_character_outside_the_alphabet_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THALWEG_DATA", str(tmp_path))
    (tmp_path / "tiny_shakespeare").mkdir()
    (tmp_path / "tiny_shakespeare" / "input.txt").write_text("To be, or not to be 7")

    with pytest.raises(InputError, match="must hold the characters of ALPHABET only; got '7'"):
        load_task(SHAKESPEARE).data(seed=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "length", "quantity"),
    [
        ("flatness", ("--epochs", "0.02"), "largest eigenvalue"),
        ("decay", ("--epochs", "0.02"), "length of the weights"),
    ],
)
def test_an_experiment_compares_every_pair_and_writes_what_it_found(
    script: str, length: tuple[str, str], quantity: str, data_folder: Path, tmp_path: Path
) -> None:
    command = [sys.executable, EXAMPLES / f"{script}.py", *length, "--seeds", "2", "--out", tmp_path]
    environment = {**os.environ, "THALWEG_DATA": str(data_folder)}

    subprocess.run(command, check=True, capture_output=True, env=environment)

    found = json.loads((tmp_path / f"{script}.json").read_text())
    contenders = list(found["runs"])
    assert all([run["seed"] for run in runs] == [1, 2] for runs in found["runs"].values())
    pairs = found["differences"][quantity]
    assert [(p["a"], p["b"]) for p in pairs] == list(itertools.combinations(contenders, 2))
    for pair in pairs:
        each = [[run[quantity] for run in found["runs"][pair[side]]] for side in ("a", "b")]
        assert pair["mean"] == pytest.approx(sum(each[0]) / 2 - sum(each[1]) / 2, abs=1e-9)

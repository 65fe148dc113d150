"""`thalweg batch` and `thalweg.find_batch_size`: one answer, from noise, clock and rates; no trace of it."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import thalweg
from end_to_end.program import TASK, Call, contents, interrupt
from small_tasks import amounts, batch_norm, dropout, inputs
from thalweg.errors import InputError

# Sixty points less the validation and test parts.
SIZES = [1, 2, 4, 8, 10, 16, 32, 48]


def said(call: Call, *arguments: str) -> str:
    done = call("batch", *arguments)
    assert (done.code, done.err) == (0, "")
    return done.out


def test_the_answer_names_both_reasons_and_the_rates(tmp_path: Path, call: Call) -> None:
    (tmp_path / "task.py").write_text(TASK)

    found = json.loads(said(call, "task.py", "--optimizer", "momentum", "--json"))

    assert [row["batch_size"] for row in found["sizes"]] == SIZES
    best = next(row for row in found["sizes"] if row["batch_size"] == found["batch_size"])
    assert best["predicted"] == min(row["predicted"] for row in found["sizes"]) == 1.0
    assert found["low"] <= found["batch_size"] <= found["high"]
    scale = found["noise_scale"]
    assert 0 < scale["low"] <= scale["value"] <= scale["high"]
    assert scale["value"] == scale["after"]["value"]
    for row in found["sizes"]:
        assert row["examples_per_second"] == row["batch_size"] / row["update_seconds"]
        time = (1 + scale["value"] / row["batch_size"]) * row["update_seconds"]
        least = (1 + scale["value"] / best["batch_size"]) * best["update_seconds"]
        assert row["predicted"] == pytest.approx(time / least, rel=1e-12)
    assert [rate["batch_size"] for rate in found["rates"]] == list(dict.fromkeys([10, found["batch_size"]]))
    assert all(rate["optimizer"] == "momentum" for rate in found["rates"])
    assert any(sentence.startswith("Noise: ") for sentence in found["sentences"])
    assert any(sentence.startswith("Time: ") for sentence in found["sentences"])


def test_the_answer_as_text_has_the_same_sentences_and_a_row_for_each_size(
    tmp_path: Path, call: Call
) -> None:
    (tmp_path / "task.py").write_text(TASK)

    lines = said(call, "task.py").splitlines()

    assert lines[0].startswith("Take batches of ")
    head = next(place for place, line in enumerate(lines) if line.split()[:2] == ["batch", "size"])
    rows = lines[head + 1 : head + 1 + len(SIZES)]
    assert [int(row.replace("→", "").split()[0]) for row in rows] == SIZES
    assert max(map(len, lines)) <= 100


def test_nothing_is_written_and_nothing_is_noticed(tmp_path: Path, call: Call) -> None:
    (tmp_path / "task.py").write_text(TASK)
    state = torch.get_rng_state(), np.random.get_state()[1].tolist(), torch.get_num_threads()

    said(call, "task.py")

    assert set(contents(tmp_path)) <= {"task.py", "task.log", "__pycache__"}
    assert torch.equal(torch.get_rng_state(), state[0])
    assert (np.random.get_state()[1].tolist(), torch.get_num_threads()) == state[1:]


def test_noise_does_not_depend_on_the_clock() -> None:
    first, second = (thalweg.find_batch_size((inputs(), amounts()), "sgd") for _ in range(2))

    assert first.noise == second.noise
    assert first.variances() == second.variances()


@pytest.mark.parametrize("task", [batch_norm(), dropout()], ids=lambda task: task.name)
def test_models_with_statistics_or_random_numbers_have_an_answer(task: Any) -> None:
    found = thalweg.find_batch_size(task, "adam", rate=0.01)

    assert found.batch_size in [timing.batch_size for timing in found.timings.sizes]
    assert found.rate == 0.01


def test_a_limit_of_memory_is_kept(tmp_path: Path, call: Call) -> None:
    # Weights, gradients and Adam's averages of 547 parameters take some 9 kB, and an example up to 0.5 kB.
    found = json.loads(said(call, "wine", "--memory", "20kB", "--json"))

    assert [row["batch_size"] for row in found["sizes"]] == [1, 2, 4, 8, 16]
    assert (found["end"], found["memory_limit"]) == ("the next one takes more memory than it may", 20_000.0)
    assert "The present 32 takes more memory than it may." in found["sentences"]
    taken = [row["memory"] for row in found["sizes"]]
    assert taken == sorted(taken)
    assert taken[-1] <= 20_000


@pytest.mark.parametrize(
    ("arguments", "begins"),
    [
        (
            ("digits", "--optimizer", "adm"),
            "the optimizer must be one that Thalweg knows; got 'adm'. Did you",
        ),
        (("digts",), "the task must be a built-in name or a file path/to/task.py; got 'digts'."),
        (("digits", "--rate", "-1"), "rate of the recipe must be a finite number above 0; got -1.0."),
        (("digits", "--rate", "fast"), "--rate must be a number; got 'fast'."),
        (("digits", "--memory", "much"), "--memory must be a size such as 500MB or 2GB; got 'much'."),
        (("digits", "--memory", "1B"), "the memory of a training must hold one batch of the smallest size;"),
        (("digits", "--seed", "-1"), "seed of the run must be a whole number in [0, 1e+09]; got -1."),
        (("digits", "--threads", "0"), "threads of the run must be a whole number of at least 1; got 0."),
        (("digits", "--device", "potato"), "the device must be one that torch can use here; got "),
    ],
)
def test_what_cannot_work_is_refused(call: Call, arguments: tuple[str, ...], begins: str) -> None:
    done = call("batch", *arguments)

    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"thalweg: {begins}")


def test_in_python_a_memory_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match=r"memory of the run must be a finite number above 0; got 0\."):
        thalweg.find_batch_size("digits", memory=0.0)


def test_ctrl_c_ends_it_with_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(TASK)

    done = interrupt(tmp_path, 300, signal.SIGINT, "batch", "task.py")

    assert (done.code, done.out) == (130, "")
    assert done.err == "\nthalweg: interrupted. Nothing is kept of it; the same command measures anew.\n"
    assert set(contents(tmp_path)) <= {"task.py", "task.log", "__pycache__"}


@pytest.mark.slow
def test_the_experiment_counts_the_updates_that_batches_save(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "batch_size.py"

    subprocess.run(
        [sys.executable, example, "--task", "wine", "--seeds", "1", "--out", tmp_path], check=True, text=True
    )

    found = json.loads((tmp_path / "batch-size-wine-adam.json").read_text())
    counts = {int(size): updates for size, (updates, _) in found["updates"].items()}
    assert sorted(counts) == [8, 16, 32, 64, 128, 142]
    assert 1 <= counts[142] <= counts[8] < 1000
    assert found["noise_scale"]["low"] > 0

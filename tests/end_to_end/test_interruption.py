"""Ctrl-C, `kill -9` and a full disk: what was finished stays, and the same command goes on from there."""

import json
import random
import shlex
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from end_to_end.program import (
    PROGRAM,
    TASK,
    Call,
    Done,
    calls,
    environment,
    interrupt,
    run,
    timeless,
    traces,
)

# Every stage: a finder, tuning with halving, final trials with looks, then schedules under the winner.
RACE = (
    *("showdown", "task.py", "--optimizers", "sgd,adam", "--epochs", "3"),
    *("--seeds", "6,9", "--executor", "serial", "--json", "--out", "runs"),
)
# 2 × 8 final trials only.
SHORT_RACE = (
    *("showdown", "task.py", "--optimizers", "sgd,adam", "--rates", "sgd=0.1,adam=0.01"),
    *("--epochs", "2", "--seeds", "8", "--json", "--out", "runs", "--schedules", "none"),
)
TRAINING = (
    *("train", "task.py", "--optimizer", "momentum", "--rate", "0.05", "--schedule", "cosine"),
    *("--epochs", "30", "--json", "--out", "runs"),
)
UPDATES = 150

SENTENCE = (  # below the ^C that a terminal shows
    "\nthalweg: interrupted. What was finished is kept; "
    "the same command goes on (with --fresh it begins anew).\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the task, in which commands are interrupted."""
    place = tmp_path / "interrupted"
    place.mkdir()
    (place / "task.py").write_text(TASK)
    return place


@pytest.fixture
def undisturbed(tmp_path: Path, call: Call) -> Any:
    """Return a function that runs a command without interruption elsewhere: its answer and its losses."""
    (tmp_path / "task.py").write_text(TASK)

    def run_there(*arguments: str) -> tuple[Any, int]:
        done = call(*arguments)
        assert (done.code, done.err) == (0, "")
        return answer_of(done, tmp_path), calls(tmp_path)

    return run_there


def final(folder: Path, *arguments: str) -> Any:
    """Run a command to its end; return its answer."""
    done = run(folder, *arguments)
    assert (done.code, done.err) == (0, "")
    return answer_of(done, folder)


def answer_of(done: Done, folder: Path) -> Any:
    """The answer of a command, in which the place of the task does not count."""
    return json.loads(done.out.replace(str(folder.resolve()), "."))


def weights(folder: Path, found: Any) -> bytes:
    return (folder / found["folder"] / "model.safetensors").read_bytes()


def test_a_race_that_ctrl_c_ends_goes_on_where_it_was(folder: Path, undisturbed: Any) -> None:
    stopped = interrupt(folder, 100, signal.SIGINT, *SHORT_RACE)
    finished = traces(folder / "runs")

    assert (stopped.code, stopped.out, stopped.err) == (130, "", SENTENCE)
    assert 0 < len(finished) < 16
    before = calls(folder)
    found = final(folder, *SHORT_RACE)
    expected, losses = undisturbed(*SHORT_RACE)
    assert timeless(found) == timeless(expected)
    # Equal records, with the times that they took: none of the finished trials was run again.
    assert finished.items() <= traces(folder / "runs").items()
    assert len(traces(folder / "runs")) == 16
    assert calls(folder) - before < losses


def test_a_training_that_ctrl_c_ends_goes_on_to_the_same_bits(
    tmp_path: Path, folder: Path, undisturbed: Any
) -> None:
    stopped = interrupt(folder, 100, signal.SIGINT, *TRAINING)

    assert (stopped.code, stopped.out, stopped.err) == (130, "", SENTENCE)
    assert len(list((folder / "runs").glob("*/snapshot.safetensors"))) == 1
    assert list((folder / "runs").glob("*/model.safetensors")) == []
    before = calls(folder)
    found = final(folder, *TRAINING)
    expected, losses = undisturbed(*TRAINING)
    assert timeless(found) == timeless(expected)
    assert found["steps"] == UPDATES
    assert weights(folder, found) == weights(tmp_path, expected)
    assert calls(folder) - before < losses - 50


@pytest.mark.slow
def test_a_training_that_is_killed_goes_on_from_its_last_snapshot_to_the_same_bits(
    tmp_path: Path, folder: Path, undisturbed: Any
) -> None:
    often = (*TRAINING, "--snapshot-every", "7")
    killed = interrupt(folder, 100, signal.SIGKILL, *often)

    assert killed.code == -signal.SIGKILL
    before = calls(folder)
    found = final(folder, *often)
    expected, losses = undisturbed(*TRAINING)
    assert timeless(found) == timeless(expected)
    assert weights(folder, found) == weights(tmp_path, expected)
    assert calls(folder) - before < losses - 50


@pytest.mark.slow
def test_killed_ten_times_at_random_moments_a_race_ends_as_if_undisturbed(
    tmp_path: Path, folder: Path, undisturbed: Any
) -> None:
    expected, losses = undisturbed(*RACE)
    moments = random.Random(2)
    finished: dict[str, str] = {}
    for _ in range(10):
        killed = interrupt(folder, moments.randint(1, losses // 9), signal.SIGKILL, *RACE)
        assert killed.code == -signal.SIGKILL
        now = traces(folder / "runs")
        assert finished.items() <= now.items()
        finished = now

    whole = traces(tmp_path / "runs")
    assert 0 < len(finished) < len(whole)
    found = final(folder, *RACE)
    assert timeless(found) == timeless(expected)
    assert finished.items() <= traces(folder / "runs").items()
    assert traces(folder / "runs").keys() == whole.keys()
    assert [path.name for path in sorted((folder / "runs").iterdir())] == [
        *(Path(found["report"]).name, "thalweg.sqlite")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_training_that_is_ended_again_and_again_ends_with_the_same_bits(
    tmp_path: Path, folder: Path, undisturbed: Any, number: signal.Signals
) -> None:
    moments = random.Random(3)
    often = (*TRAINING, "--snapshot-every", "1")
    for _ in range(6):
        stopped = interrupt(folder, moments.randint(1, 30), number, *often)
        assert stopped.code == (130 if number is signal.SIGINT else -signal.SIGKILL)
        assert stopped.err == (SENTENCE if number is signal.SIGINT else "")

    found = final(folder, *often)
    expected, _ = undisturbed(*TRAINING)
    assert timeless(found) == timeless(expected)
    assert weights(folder, found) == weights(tmp_path, expected)


@pytest.mark.slow
def test_a_race_that_runs_anew_and_is_killed_leaves_its_old_result(folder: Path) -> None:
    old = final(folder, *RACE)
    killed = interrupt(folder, 250, signal.SIGKILL, *RACE, "--fresh")

    assert killed.code == -signal.SIGKILL
    assert final(folder, *RACE)["finished_at"] == old["finished_at"]
    new = final(folder, *RACE, "--fresh")
    assert timeless(new) == timeless(old)
    assert new["ledger"]["total_seconds"] != old["ledger"]["total_seconds"]
    races = json.loads(run(folder, "runs", "runs", "--json").out)["races"]
    assert [race["vary"] for race in races] == ["schedule", ""]  # one each


# A disk of one's own: seen by these commands only, and gone with them.
FULL_DISK = """
mount -t tmpfs -o size=8m tmpfs runs || exit 77
head -c $((8 * 1024 * 1024 - 80 * 1024)) /dev/zero > runs/filler
{race} > full.out 2> full.err; echo $? > full.code
cp runs/thalweg.sqlite full.sqlite
rm runs/filler
{race} > freed.out 2> freed.err; echo $? > freed.code
cp runs/thalweg.sqlite freed.sqlite
"""


@pytest.mark.slow
def test_a_full_disk_is_said_in_words_and_with_room_the_race_goes_on(
    tmp_path: Path, folder: Path, undisturbed: Any
) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed: there is no disk to fill")
    (folder / "runs").mkdir()
    script = FULL_DISK.format(race=shlex.join([str(PROGRAM), *RACE]))
    shell = ["unshare", "--user", "--mount", "--map-root-user", "sh", "-c", script]
    done = subprocess.run(shell, cwd=folder, env=environment(), capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no disk of its own can be mounted here: {done.stderr.strip()}")

    def said(name: str) -> str:
        return (folder / name).read_text()

    for name in ("full", "freed"):
        (folder / name).mkdir()
        (folder / f"{name}.sqlite").rename(folder / name / "thalweg.sqlite")
    finished = traces(folder / "full")
    assert (said("full.code"), said("full.out")) == ("2\n", "")
    assert said("full.err") == (
        "thalweg: store runs/thalweg.sqlite must have room to grow; got a full disk. "
        "Free some space and run the same again, what has finished is kept; or use another folder (--out).\n"
    )
    expected, _ = undisturbed(*RACE)
    whole = traces(tmp_path / "runs")
    assert 0 < len(finished) < len(whole)
    assert (said("freed.code"), said("freed.err")) == ("0\n", "")
    freed = json.loads(said("freed.out").replace(str(folder.resolve()), "."))
    assert timeless(freed) == timeless(expected)
    assert finished.items() <= traces(folder / "freed").items()
    assert traces(folder / "freed").keys() == whole.keys()

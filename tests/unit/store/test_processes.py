"""Processes that are killed, and processes that share a store."""

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from thalweg.records import Race, Trace, from_data, to_data
from thalweg.store import FILE_NAME, Store

# Keeps traces and attaches them to the race, and says so after each: arguments are the folder, a trace
# to copy, the first of their names, and how many.
WRITER = """
import json, sys
from dataclasses import replace
from pathlib import Path
from thalweg.records import Trace, from_data
from thalweg.store import Store

folder, template, name, count = sys.argv[1:]
trace = from_data(Trace, json.loads(Path(template).read_text()))
with Store.open(folder) as store:
    for i in range(int(count)):
        store.save_trace(replace(trace, key=f"{name}-{i}", seed=i))
        store.attach("race", f"{name}-{i}")
        print(i, flush=True)
"""

# Changes every trace, far enough for SQLite to have begun to write the file itself, and dies.
DIES_WHILE_WRITING = """
import os, signal, sys
from thalweg.store import Store

store = Store.open(sys.argv[1])
with store._writing():
    store._connection.execute("PRAGMA cache_size = 1")
    store._connection.execute("UPDATE traces SET record = replace(record, 'a', 'b')")
    store._connection.execute("DELETE FROM races")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def template(tmp_path: Path, race: Race) -> Path:
    """A trace of some length in a file: writing it takes long enough to be interrupted."""
    steps = tuple(range(2_000))
    trace = replace(race.traces[0], loss_steps=steps, losses=tuple(step / 7 for step in steps))
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(to_data(trace)))
    return path


@pytest.fixture
def begun(tmp_path: Path, race: Race) -> Path:
    """A folder whose store holds a begun race without traces."""
    with Store.open(tmp_path / "runs") as store:
        store.save_race("race", race.plan, race.command, race.environment, race.started_at)
    return tmp_path / "runs"


def check(folder: Path) -> str:
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchone()[0]


def test_whenever_a_process_is_killed_everything_that_it_had_finished_is_there(
    begun: Path, template: Path
) -> None:
    moments = random.Random(0)
    trace = from_data(Trace, json.loads(template.read_text()))
    before = 0
    for attempt in range(10):
        writer = start(WRITER, begun, template, attempt, 10_000)
        assert writer.stdout is not None
        said = [writer.stdout.readline() for _ in range(moments.randint(1, 5))]
        time.sleep(moments.uniform(0, 0.02))
        writer.send_signal(signal.SIGKILL)
        said += writer.stdout.readlines()
        writer.stdout.close()
        assert writer.wait() == -signal.SIGKILL

        with Store.open(begun, create=False) as store:
            kept = store.race("race").traces[before:]
        # All that it had said, whole; at most one more, which it was about to say.
        assert len(kept) - len(said) in (0, 1)
        assert kept == tuple(replace(trace, key=f"{attempt}-{i}", seed=i) for i in range(len(kept)))
        before += len(kept)
    assert check(begun) == "ok"


def test_a_process_killed_while_it_writes_the_file_leaves_no_trace_of_what_it_began(
    folder: Path, race: Race
) -> None:
    before = (folder / FILE_NAME).read_bytes()
    dying = start(DIES_WHILE_WRITING, folder)
    dying.communicate()
    assert dying.returncode == -signal.SIGKILL
    assert (folder / FILE_NAME).read_bytes() != before  # it was in the middle of it
    assert (folder / f"{FILE_NAME}-journal").exists()

    with Store.open(folder, create=False) as store:
        assert store.race(race.key) == race
    assert (folder / FILE_NAME).read_bytes() == before
    assert [path.name for path in folder.iterdir()] == [FILE_NAME]


def test_two_processes_write_to_one_store_while_a_third_reads(begun: Path, template: Path) -> None:
    writers = {name: start(WRITER, begun, template, name, 25) for name in "ab"}
    counts = []
    with Store.open(begun, create=False) as store:
        while any(writer.poll() is None for writer in writers.values()):
            counts.append(store.races()[0].trials_done)
            time.sleep(0.01)
        kept = [trace.key for trace in store.race("race").traces]
    for writer in writers.values():
        assert writer.stdout is not None
        writer.stdout.close()

    assert [writer.returncode for writer in writers.values()] == [0, 0]
    assert counts == sorted(counts)
    for name in writers:
        assert [key for key in kept if key.startswith(name)] == [f"{name}-{i}" for i in range(25)]
    assert len(kept) == 50
    assert check(begun) == "ok"


def test_processes_that_make_the_same_store_at_once_all_succeed(tmp_path: Path) -> None:
    opens = "import sys; from thalweg.store import Store; Store.open(sys.argv[1]).close()"
    processes = [start(opens, tmp_path / "runs") for _ in range(4)]
    for process in processes:
        process.communicate()

    assert [process.returncode for process in processes] == [0] * 4
    with Store.open(tmp_path / "runs", create=False) as store:
        assert store.races() == ()


def test_the_store_is_free_of_torch() -> None:
    loaded = start("import thalweg.store, sys; print('torch' in sys.modules)").communicate()[0]

    assert loaded == "False\n"

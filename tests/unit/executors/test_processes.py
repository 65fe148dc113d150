"""Trials in processes: the same numbers, whatever happens to a process, and no process is left."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from small_tasks import (
    EXECUTION,
    batch_norm,
    dataset,
    dropout,
    network,
    numbers,
    recipe,
    trial,
    workload,
)
from thalweg import schedules
from thalweg.errors import InputError, TaskError, ThalwegError
from thalweg.executors import processes, serial
from thalweg.executors.worker import _pickled
from thalweg.records import Stage, Trace
from thalweg.tasks import Task, load_task
from thalweg.training.trial import Trial, Workload

# A person's file. Each process that makes a model for training writes its number into a file beside it,
# and then does what the test wants ({then}).
FILE = """
import os
import signal
import sys
import time
from pathlib import Path

import torch
from torch import nn

import beside

FOLDER = Path(__file__).parent
batch_size = 5


def make_model():
    seed = torch.initial_seed()
    if (FOLDER / "armed").exists():
        with (FOLDER / "began").open("a") as began:
            began.write(f"{{os.getpid()}}\\n")
        {then}
    return nn.Linear(beside.WIDTH, 1)


def make_data(seed):
    x = torch.randn(40, 3)
    return x, x.sum(1, keepdim=True)


def loss(model, batch):
    return {loss}
"""
SQUARED = "(model(batch[0]) - batch[1]).square().mean()"


def never(trial: Trial) -> bool:
    return False


def trials(count: int, optimizer: str = "sgd", steps: int = 12) -> list[Trial]:
    return [trial(recipe(optimizer, 0.01), steps, seed, Stage.FINAL) for seed in range(count)]


def by_key(traces: Sequence[Trace]) -> dict[str, dict[str, Any]]:
    """The numbers of traces, without how often they were begun."""
    return {t.key: {n: v for n, v in numbers(t).items() if n != "attempts"} for t in traces}


def gone(process: int) -> bool:
    """Whether a process neither runs nor waits for somebody to ask how it ended."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture
def at_work(tmp_path: Path) -> Callable[..., Workload]:
    """Return a function that writes a person's file and loads it."""

    def make(then: str = "pass", loss: str = SQUARED) -> Workload:
        (tmp_path / "beside.py").write_text("WIDTH = 3\n")
        (tmp_path / "task.py").write_text(FILE.format(then=then, loss=loss))
        found = workload(load_task(str(tmp_path / "task.py")))
        (tmp_path / "armed").touch()
        return found

    return make


def began(folder: Path) -> list[int]:
    """The processes that made a model, in order."""
    file = folder / "began"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def same_as_serial(task: Task, asked: Sequence[Trial]) -> None:
    work = workload(task)
    expected = by_key(list(serial.run(work, asked, EXECUTION, never)))
    found = list(processes.run(work, asked, EXECUTION, never))
    assert by_key(found) == expected
    assert len(found) == len(asked)
    assert {t.attempts for t in found} == {1}


def test_numbers_are_those_of_serial_to_the_bit() -> None:
    asked = [t for name in ("sgd", "adam", "muon", "soap", "lion") for t in trials(2, name, 30)]
    same_as_serial(load_task("digits"), asked)


def test_numbers_that_a_model_draws_are_those_of_serial_to_the_bit() -> None:
    same_as_serial(dropout(), trials(4, "adam"))


@pytest.mark.slow
@pytest.mark.parametrize("task", [dataset(), batch_norm(), network()], ids=lambda task: task.name)
def test_datasets_buffers_and_methods_of_two_gradients_are_those_of_serial_to_the_bit(task: Task) -> None:
    same_as_serial(task, [*trials(3, "adam"), *trials(2, "sophia-g"), *trials(2, "schedule-free-adamw")])


@pytest.mark.slow
def test_arrays_and_a_persons_file_are_those_of_serial(at_work: Callable[..., Workload]) -> None:
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0)).numpy()
    same_as_serial(load_task((x, (x.argmax(1)))), trials(2))
    work = at_work()
    assert by_key(list(processes.run(work, trials(3), EXECUTION, never))) == by_key(
        list(serial.run(work, trials(3), EXECUTION, never))
    )


def test_a_killed_process_is_replaced_and_counted_and_the_numbers_are_the_same(
    tmp_path: Path, at_work: Callable[..., Workload]
) -> None:
    # The first process that comes to it dies in its trial.
    work = at_work(
        'try:\n            (FOLDER / "first").touch(exist_ok=False)\n        except FileExistsError:\n'
        "            pass\n        else:\n            os.kill(os.getpid(), signal.SIGKILL)"
    )
    asked = trials(5)
    found = list(processes.run(work, asked, EXECUTION, never))

    assert sorted(t.attempts for t in found) == [1, 1, 1, 1, 2]
    assert by_key(found) == by_key(list(serial.run(work, asked, EXECUTION, never)))
    assert all(map(gone, set(began(tmp_path)) - {os.getpid()}))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("then", "got", "do"),
    [
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            "was ended by SIGKILL",
            "Perhaps memory runs short: take a smaller batch. ",
        ),
        ("os._exit(0)", "ended itself with code 0", ""),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was ended by SIGSEGV", ""),
    ],
)
def test_a_trial_whose_process_dies_three_times_is_given_up_in_words(
    then: str, got: str, do: str, tmp_path: Path, at_work: Callable[..., Workload]
) -> None:
    work = at_work(then)
    with pytest.raises(ThalwegError) as caught:
        list(processes.run(work, trials(1), EXECUTION, never))
    assert str(caught.value) == (
        f"the trial of sgd at rate 0.01 with seed 0 must run to its end; got a process that {got}, "
        f"3 times in a row. {do}Take --executor serial."
    )
    assert len(began(tmp_path)) == 3
    assert all(map(gone, began(tmp_path)))


def test_an_error_in_a_trial_is_raised_with_the_lines_of_the_persons_file(
    tmp_path: Path, at_work: Callable[..., Workload]
) -> None:
    work = at_work(loss=f'1 // 0 if (FOLDER / "armed").exists() else {SQUARED}')
    with pytest.raises(TaskError) as expected:
        list(serial.run(work, trials(1), EXECUTION, never))
    with pytest.raises(TaskError) as caught:
        list(processes.run(work, trials(4), EXECUTION, never))
    assert str(caught.value) == str(expected.value)
    assert "task.py, line" in str(caught.value)
    assert all(map(gone, set(began(tmp_path)) - {os.getpid()}))


class Odd(Exception):
    """An error that can be pickled and not be read again."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def test_foreign_errors_arrive_with_the_lines_where_they_were_raised() -> None:
    import pickle

    def raised(error: Exception) -> BaseException:
        try:
            raise error
        except Exception as caught:
            return pickle.loads(_pickled(caught))

    plain, odd = raised(ValueError("no")), raised(Odd(1, 2))
    assert (type(plain), str(plain)) == (ValueError, "no")
    assert (type(odd), str(odd)) == (RuntimeError, "Odd: 1 and 2")
    for error in (plain, odd):
        (note,) = error.__notes__
        assert note.startswith("In a worker process:\nTraceback")
        assert "    raise error\n" in note


def test_closing_the_generator_ends_all_processes_at_once(
    tmp_path: Path, at_work: Callable[..., Workload]
) -> None:
    # All but the first process to come work forever.
    work = at_work(
        'try:\n            (FOLDER / "first").touch(exist_ok=False)\n        except FileExistsError:\n'
        "            time.sleep(1000)"
    )
    with closing(processes.run(work, trials(3), EXECUTION, never)) as traces:
        next(traces)
        while len(began(tmp_path)) < min(3, processes.workers()):
            time.sleep(0.01)
        assert not all(map(gone, began(tmp_path)))
    assert all(map(gone, began(tmp_path)))


def test_what_is_to_be_skipped_is_not_run_and_without_trials_no_process_starts(
    tmp_path: Path, at_work: Callable[..., Workload]
) -> None:
    work, asked = at_work(), trials(4)
    assert list(processes.run(work, [], EXECUTION, never)) == []
    assert list(processes.run(work, asked, EXECUTION, lambda trial: True)) == []
    assert began(tmp_path) == []
    (found,) = processes.run(work, asked, EXECUTION, lambda trial: trial is not asked[2])
    assert found.seed == 2
    assert len(began(tmp_path)) == 1


def test_processes_of_a_pool_stay_for_the_next_round_and_are_gone_afterwards(
    tmp_path: Path, at_work: Callable[..., Workload]
) -> None:
    work = at_work()
    rounds = [trials(2), trials(1, "adam"), trials(3, "momentum")]
    with processes.Pool() as pool:
        found = [list(pool.run(work, asked, EXECUTION, never)) for asked in rounds]
        assert not all(map(gone, began(tmp_path)))
    used = set(began(tmp_path))

    assert all(map(gone, used))
    assert len(used) <= processes.workers()
    assert len(began(tmp_path)) == 6
    for asked, traces in zip(rounds, found, strict=True):
        assert by_key(traces) == by_key(list(serial.run(work, asked, EXECUTION, never)))


def test_a_pool_replaces_a_process_that_died_while_it_waited(
    tmp_path: Path, at_work: Callable[..., Workload]
) -> None:
    work = at_work()
    with processes.Pool() as pool:
        list(pool.run(work, trials(1), EXECUTION, never))
        (first,) = began(tmp_path)
        os.kill(first, signal.SIGKILL)
        (found,) = pool.run(work, trials(1, "adam"), EXECUTION, never)

    assert (found.contender, found.attempts) == ("adam", 2)
    assert first not in began(tmp_path)[1:]


def test_an_error_in_a_round_ends_the_processes_of_a_pool(
    tmp_path: Path, at_work: Callable[..., Workload]
) -> None:
    work = at_work(loss=f'1 // 0 if (FOLDER / "broken").exists() else {SQUARED}')
    with processes.Pool() as pool:
        list(pool.run(work, trials(2), EXECUTION, never))
        (tmp_path / "broken").touch()
        with pytest.raises(TaskError):
            list(pool.run(work, trials(1), EXECUTION, never))
        assert all(map(gone, began(tmp_path)))


@pytest.mark.slow
def test_a_pool_holds_several_tasks_at_once(at_work: Callable[..., Workload]) -> None:
    works = [at_work(), workload(network())]
    with processes.Pool() as pool:
        for _ in range(2):
            for work in works:
                (found,) = pool.run(work, trials(1), EXECUTION, never)
                assert found.task == work.task.name


def test_a_trial_that_cannot_be_sent_is_refused_in_words() -> None:
    lock = threading.Lock()
    schedule = schedules.Custom(lambda t: float(lock.locked()))
    asked = [trial(recipe("sgd", 0.01, schedule=schedule), 3)]

    with pytest.raises(
        InputError, match=r"what network is trained with must be something that can be sent to"
    ):
        list(processes.run(workload(network()), asked, EXECUTION, never))


@pytest.mark.slow
def test_what_a_task_prints_goes_to_standard_error_and_what_it_leaves_for_the_end_is_done(
    at_work: Callable[..., Workload], capfd: pytest.CaptureFixture[str]
) -> None:
    work = at_work(
        'print("printed", flush=False)\n        os.write(1, b"written\\n")\n'
        '        sys.stdout.write("half")\n'
        '        import atexit\n        atexit.register(os.write, 1, b" a line")'
    )
    assert len(list(processes.run(work, trials(1), EXECUTION, never))) == 1
    out, err = capfd.readouterr()
    assert (out, err) == ("", "printed\nwritten\nhalf a line")


@pytest.mark.slow
def test_processes_map_the_data_instead_of_copying_them(
    tmp_path: Path, at_work: Callable[..., Workload]
) -> None:
    # The mapped files in which the parts of the data lie, one line for each process.
    work = at_work(
        "import gc\n"
        "        from thalweg.tasks.data.part import TensorPart\n"
        "        ranges = [(*(int(n, 16) for n in line.split()[0].split('-')), line.split()[4])\n"
        "                  for line in Path('/proc/self/maps').read_text().splitlines()]\n"
        "        places = [x.data_ptr() for part in gc.get_objects() if isinstance(part, TensorPart)\n"
        "                  for x in part.fields]\n"
        "        found = {inode for x in places for low, high, inode in ranges if low <= x < high}\n"
        "        with (FOLDER / 'inodes').open('a') as file:\n"
        "            file.write(' '.join(sorted(found)) + '\\n')\n"
        "        time.sleep(0.3)"
    )
    list(processes.run(work, trials(4), EXECUTION, never))
    assert len(set(began(tmp_path))) == min(4, processes.workers())
    (inode,) = set((tmp_path / "inodes").read_text().splitlines())
    assert int(inode) > 0


# A script without `if __name__ == "__main__":`. Its folder is where Python looks for modules.
SCRIPT = """
import json, os, sys, time, ctypes
from pathlib import Path

import torch
from torch import nn

import modules_of_mine
from small_tasks import EXECUTION, recipe, trial, workload
from thalweg.executors import processes, serial
from thalweg.tasks import Task

FOLDER = Path(__file__).parent
with (FOLDER / "runs").open("a") as runs:
    runs.write("ran ")
torch.set_default_dtype(torch.float64)


class Net(nn.Linear):
    pass


def make_model():
    if (FOLDER / "armed").exists():
        with (FOLDER / "began").open("a") as began:
            began.write(f"{{os.getpid()}}\\n")
        {then}
    return Net(modules_of_mine.WIDTH, 1)


def loss(model, batch):
    import modules_of_mine  # not before it is needed
    assert type(model) is Net
    print("a loss")
    return modules_of_mine.squared(model(batch[0]), batch[1])


torch.manual_seed(0)
sys.stdout = sys.stderr
x = torch.randn(40, 3)
work = workload(Task(make_model, lambda seed: (x, x.sum(1, keepdim=True)), loss, batch_size=5))
asked = [trial(recipe("adam", 0.01), 10, seed) for seed in range(3)]
(FOLDER / "armed").touch()
before = list(serial.run(work, asked, EXECUTION, lambda t: False)) if {compare} else []
sys.stdout = sys.__stdout__
found = list(processes.run(work, asked, EXECUTION, lambda t: False))
print(json.dumps({{t.key: t.losses for t in found}} == {{t.key: t.losses for t in before}}))
"""


def script(folder: Path, then: str = "pass", compare: bool = True) -> subprocess.Popen[str]:
    (folder / "modules_of_mine.py").write_text(
        "WIDTH = 3\n\ndef squared(a, b):\n    return (a - b).square().mean()\n"
    )
    (folder / "script.py").write_text(SCRIPT.format(then=then, compare=compare))
    tests = str(Path(__file__).parents[2])
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(folder / "script.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": tests, "PYTHONUNBUFFERED": "1"},  # lines are whole all the same
    )


@pytest.mark.slow
def test_a_script_without_guard_runs_once_and_its_functions_run_in_the_processes(tmp_path: Path) -> None:
    process = script(tmp_path)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (0, "true\n"), err
    assert set(err.splitlines()) == {"a loss"}
    assert (tmp_path / "runs").read_text() == "ran "
    assert len(set(began(tmp_path))) == 1 + min(3, processes.workers())


# The second holds Python's lock all the time, so that no thread of the process can end it.
FOREVER = ["time.sleep(1000)", "ctypes.PyDLL(None).sleep(1000)"]


def wait_for_all(folder: Path) -> list[int]:
    end = time.monotonic() + 60
    while len(began(folder)) < min(3, processes.workers()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return began(folder)


@pytest.mark.slow
@pytest.mark.parametrize("then", FOREVER)
def test_a_killed_parent_leaves_no_process(then: str, tmp_path: Path) -> None:
    process = script(tmp_path, then, compare=False)
    started = wait_for_all(tmp_path)
    process.kill()
    process.communicate()
    end = time.monotonic() + 30
    while not all(map(gone, started)):
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("then", FOREVER)
def test_ctrl_c_ends_all_processes_and_only_the_parent_says_so(then: str, tmp_path: Path) -> None:
    process = script(tmp_path, then, compare=False)
    started = wait_for_all(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert all(map(gone, started))
    assert process.returncode == -signal.SIGINT
    assert err.count("Traceback") == err.count("KeyboardInterrupt") == 1
    assert "Warning" not in err


@pytest.mark.slow
def test_ctrl_c_while_processes_start_ends_them_without_a_word_of_theirs(tmp_path: Path) -> None:
    process = script(tmp_path, compare=False)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    end = time.monotonic() + 60
    while not (started := children.read_text().split()):
        assert time.monotonic() < end
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert all(gone(int(child)) for child in started)
    assert began(tmp_path) == []
    assert err.count("Traceback") == err.count("KeyboardInterrupt") == 1


def test_there_are_as_many_processes_as_cores_that_may_be_used() -> None:
    before = os.sched_getaffinity(0)
    assert processes.workers() == len(before)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert processes.workers() == 1
    finally:
        os.sched_setaffinity(0, before)

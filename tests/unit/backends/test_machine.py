"""Code that is compiled once: kept on disk between processes, shared by threads, run on several of them."""

import ctypes
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from thalweg import optim
from thalweg.backends import machine
from thalweg.backends.symbols import Untraceable

# In another process: reads one number by a small kernel, without torch; a compiler that must not be asked.
READ = """
import numpy as np
from thalweg.backends import machine

x, out = np.array([2.5], np.float32), np.zeros(1)
machine.reader("float32")(np.array([x.ctypes.data]).ctypes.data, 1, out.ctypes.data)
print(out[0])
"""
NO_COMPILER = """
import llvmlite.binding

def asked(*_, **__):
    raise SystemExit("the compiler was asked")

llvmlite.binding.create_pass_builder = asked
"""


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))


def python(script: str, cache: Path | None = None, **environment: str) -> str:
    """Run a script in a process of its own; return what it prints."""
    given = {**os.environ, **environment} | ({} if cache is None else {"THALWEG_CACHE": str(cache)})
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], env=given, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# On disk.


STORY = """
import json
import multiprocessing
import os
import signal
import sys

import torch
from thalweg import optim

def steps(seed):
    w = torch.nn.Parameter(torch.arange(20_000.0) / 20_000)
    optimizer = optim.LAMB([w], lr=0.1 * (seed + 1), backend="kernels")
    for _ in range(3):
        w.grad = 0.5 - w.detach()  # too small for torch to use its own threads, which a fork would miss
        optimizer.step()
    return optimizer.runs, w.tolist()[::1000]

def steps_without_a_compiler(seed):
    import llvmlite.binding

    def asked(*_, **__):
        raise RuntimeError("the compiler was asked")

    llvmlite.binding.create_pass_builder = asked
    return steps(seed)

def forked():
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(0 if steps(0) == own[0] else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

if __name__ == "__main__":
    torch.set_num_threads(2)
    own = [steps(seed) for seed in (0, 1)]
    written = {name: os.stat(os.path.join(sys.argv[1], name)).st_mtime_ns for name in os.listdir(sys.argv[1])}
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        spawned = pool.map(steps_without_a_compiler, (0, 1), chunksize=1)
    found = {name: os.stat(os.path.join(sys.argv[1], name)).st_mtime_ns for name in os.listdir(sys.argv[1])}
    told = {"own": own, "spawned": spawned, "written": written, "found": found, "forked": forked()}
    print(json.dumps(told | {"again": steps(0)}))
"""


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Let one process step, then two that it spawns, whose compilers break, then one that it forks."""
    folder = tmp_path_factory.mktemp("story")
    (folder / "steps.py").write_text(STORY)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(folder / "steps.py"), str(folder / "cache")],
        env={**os.environ, "THALWEG_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_a_second_and_a_third_process_find_the_code_of_the_first(story: dict[str, Any]) -> None:
    """LAMB's two passes, the loop over chunks, and what reads and writes counts of steps."""
    assert len(story["written"]) >= 4
    assert all(re.fullmatch("[0-9a-f]{64}", name) for name in story["written"])
    assert story["found"] == story["written"]  # the moments of writing as well


def test_spawned_processes_step_as_their_parent(story: dict[str, Any]) -> None:
    assert [runs for runs, _ in story["own"]] == ["Parameters moved: 1 by compiled kernels."] * 2
    assert story["spawned"] == story["own"]


def test_a_child_that_was_forked_steps_without_the_threads_of_its_parent(story: dict[str, Any]) -> None:
    assert story["forked"] == 0
    assert story["again"] == story["own"][0]


def test_without_the_code_on_disk_the_compiler_is_asked(tmp_path: Path) -> None:
    """Else the test above would be blind."""
    with pytest.raises(AssertionError, match="the compiler was asked"):
        python(NO_COMPILER + READ, tmp_path / "cache")


def test_a_folder_that_cannot_be_written_to_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")

    assert python(READ, tmp_path / "file" / "below") == "2.5"
    assert python(READ, tmp_path / "file") == "2.5"
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can become someone who has no home")
def test_a_user_without_a_home_compiles_anew() -> None:
    homeless = """
import os

import llvmlite.binding
import numpy

for name in ("HOME", "XDG_CACHE_HOME", "THALWEG_CACHE"):
    os.environ.pop(name, None)
from thalweg.backends import machine

os.setuid(54321)
"""
    assert python(homeless + READ) == "2.5"


@pytest.mark.parametrize(
    "damage",
    [
        lambda code: b"",
        lambda code: code[:20],
        lambda code: code[:-1],
        lambda code: code + b"\0",
        lambda code: code[:100] + bytes([code[100] ^ 1]) + code[101:],
        lambda code: bytes(len(code)),
    ],
    ids=["empty", "short", "truncated", "longer", "one bit", "zeros"],
)
def test_a_damaged_file_is_ignored_and_replaced(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    assert python(READ, tmp_path) == "2.5"
    ((name, whole),) = files(tmp_path).items()
    (tmp_path / name).write_bytes(damage(whole))

    assert python(READ, tmp_path) == "2.5"
    assert files(tmp_path) == {name: whole}
    assert python(NO_COMPILER + READ, tmp_path) == "2.5"


def test_a_folder_that_others_may_write_to_is_neither_read_nor_written(tmp_path: Path) -> None:
    """Else they could run their code in our processes."""
    assert python(READ, tmp_path) == "2.5"
    written = files(tmp_path)
    tmp_path.chmod(0o777)

    with pytest.raises(AssertionError, match="the compiler was asked"):
        python(NO_COMPILER + READ, tmp_path)
    assert python(READ.replace("float32", "float64"), tmp_path) == "2.5"
    assert files(tmp_path) == written
    tmp_path.chmod(0o700)
    assert python(NO_COMPILER + READ, tmp_path) == "2.5"


def test_processes_that_compile_the_same_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: python(READ, tmp_path), range(3)))

    assert found == ["2.5"] * 3
    assert len(files(tmp_path)) == 1
    assert python(NO_COMPILER + READ, tmp_path) == "2.5"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"THALWEG_CACHE": "/a/b"}, "/a/b"),
        ({"THALWEG_CACHE": "", "XDG_CACHE_HOME": "/c"}, "/c/thalweg"),
        ({"THALWEG_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/d"}, "/d/.cache/thalweg"),
    ],
)
def test_code_is_kept_where_the_user_says_or_caches_are(
    environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert machine.folder() == Path(expected)


# What is compiled.

TWICE = """
define double @kernel(double %x) {
  %y = fmul double %x, FACTOR
  ret double %y
}
"""


def times(factor: float) -> float:
    """Return 1 times a factor that stands in the text."""
    address = machine.address_of(TWICE.replace("FACTOR", repr(factor)))
    return float(ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(address)(1.0))


def test_another_text_is_other_code_and_the_same_text_is_compiled_once(tmp_path: Path) -> None:
    """Two rules that differ in one constant of their bodies differ so."""
    assert times(2.5) == 2.5
    assert len(files(tmp_path / "cache")) == 1
    assert times(3.5) == 3.5
    assert times(2.5) == 2.5
    assert len(files(tmp_path / "cache")) == 2


def test_threads_that_ask_for_the_same_code_at_once_get_the_same(tmp_path: Path) -> None:
    ready, text = threading.Barrier(4), TWICE.replace("FACTOR", "7.5")

    def ask(_: int) -> int:
        ready.wait()
        return machine.address_of(text)

    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(ask, range(4)))

    assert len(found) == 1
    assert len(files(tmp_path / "cache")) == 1


def test_threads_that_are_the_first_to_compile_get_each_its_own_code(tmp_path: Path) -> None:
    """LLVM is started once: a second start would free the code of the first."""
    script = f'''
import ctypes
import gc
import threading
from thalweg.backends import machine

ready, found = threading.Barrier(8), {{}}

def first(factor):
    ready.wait()
    machine.available()
    address = machine.address_of("""{TWICE}""".replace("FACTOR", repr(factor)))
    found[factor] = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(address)

threads = [threading.Thread(target=first, args=(place + 0.5,)) for place in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
gc.collect()
print(sorted(found) == sorted(function(1.0) for function in found.values()))
'''
    assert python(script, tmp_path) == "True"


def test_code_that_would_call_a_library_which_is_not_there_is_refused() -> None:
    """LLVM would end the process when it loads it."""
    text = """
define void @kernel(ptr %x) {
  %d = load double, ptr %x
  %q = fpext double %d to fp128
  %h = fptrunc fp128 %q to half
  store half %h, ptr %x
  ret void
}
"""
    with pytest.raises(Untraceable, match="must have a processor that converts its numbers"):
        machine.address_of(text)


def test_a_mistake_in_a_text_leaves_the_compiler_ready() -> None:
    with pytest.raises(Untraceable, match="parsing error"):
        machine.address_of("define void @kernel() { nothing }")

    assert times(4.5) == 4.5


# Single numbers.

NUMBERS = [0.0, -0.0, 1.5, -2.75, 3e4, 1e-7, np.inf, -np.inf, np.nan, 1 / 3, 65504.0, 2.0**-149]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_single_numbers_are_read_and_written_as_torch_rounds_them(dtype: torch.dtype) -> None:
    kind, out = str(dtype).removeprefix("torch."), np.array(NUMBERS)
    tensors = [torch.zeros((), dtype=dtype) for _ in NUMBERS]
    places = np.array([x.data_ptr() for x in tensors])
    machine.writer(kind)(places.ctypes.data, len(places), out.ctypes.data)
    written = [x.item() for x in tensors]
    machine.reader(kind)(places.ctypes.data, len(places), out.ctypes.data)

    rounded = torch.tensor(NUMBERS, dtype=torch.float64).to(dtype).tolist()
    np.testing.assert_array_equal([written, out.tolist()], [rounded, rounded])  # NaN among them


# Threads.


def chunks(count: int, work: Any) -> tuple[np.ndarray, np.ndarray]:
    """Make a table of chunks, each of which calls a function with its number as the start."""
    table = np.zeros((count, 7), np.int64)
    table[:, 0] = ctypes.cast(work, ctypes.c_void_p).value
    table[:, 4] = np.arange(count)
    return table, np.array([0, count, table.ctypes.data], np.int64)


@pytest.mark.parametrize("openmp", [True, False], ids=["openmp", "threads of Python"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_chunk_is_worked_on_once_on_as_many_threads_as_asked(
    threads: int, openmp: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not openmp:
        monkeypatch.setattr(machine, "_openmp", lambda: None)
    together, done = threading.Barrier(threads), []

    @ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
    def work(places: Any, gradient: Any, numbers: Any, start: int, stop: int, sums: Any) -> None:
        if start < threads:  # the first chunks wait for each other: each has a thread of its own
            together.wait(timeout=30)
        done.append((start, threading.get_ident()))

    _table, job = chunks(20, work)
    machine.run(job.ctypes.data, threads)

    assert sorted(start for start, _ in done) == list(range(20))
    assert len({thread for _, thread in done}) == threads


def steps(name: str, seed: int) -> list[float]:
    """Return where a walk of twenty steps leads."""
    generator = torch.Generator().manual_seed(seed)
    leaves = [torch.nn.Parameter(torch.randn(s, generator=generator)) for s in ((40, 50), (300,), (20_000,))]
    optimizer = optim.BY_RULE[name](leaves, lr=0.01 * (seed + 1), backend="kernels")
    for _ in range(20):
        for p in leaves:
            p.grad = torch.randn(p.shape, generator=generator)
        optimizer.step()
    assert "eager" not in optimizer.runs
    return [x for p in leaves for x in p.flatten().tolist()]


def test_threads_that_step_at_once_take_the_paths_that_they_take_one_after_the_other() -> None:
    walks = [(name, seed) for seed in range(2) for name in ("adam", "lamb", "nadam", "prodigy")]
    ready = threading.Barrier(len(walks))

    def walk(each: tuple[str, int]) -> list[float]:
        ready.wait()
        return steps(*each)

    with ThreadPoolExecutor(len(walks)) as pool:
        together = list(pool.map(walk, walks))

    assert together == [steps(*each) for each in walks]

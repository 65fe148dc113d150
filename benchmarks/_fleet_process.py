"""A candidate of `fleet.py` in a fresh process: started, watched, and what it found."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from _fleet_work import CANDIDATES, Job

LONGEST = 1800.0  # seconds that a process may take
CACHES = ("THALWEG_CACHE", "TORCHINDUCTOR_CACHE_DIR")  # name the folders of compiled code
LOOK = 0.3  # seconds from one look at the memory to the next


class Failed(Exception):
    """A candidate could not be imported, or ended otherwise than with its figures."""


def measure(job: Job, longest: float = LONGEST) -> dict[str, Any]:
    """Run a job in a process of its own; return its figures, with the whole seconds and peak memory."""
    script = Path(__file__).with_name(CANDIDATES[job.candidate].script)
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, str(script), job.to_json()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {name: job.cache for name in CACHES if job.cache},
    ) as process:
        watch = Watch(process.pid)
        try:
            said, wrong = process.communicate(timeout=longest)
        except subprocess.TimeoutExpired:
            raise Failed(f"it took over {longest:.0f} s") from None
        finally:
            watch.done.set()
            if process.poll() is None:
                end(process)
    whole = time.perf_counter() - start
    answers = [line for line in said.splitlines() if line.startswith("{")]
    if process.returncode or not answers:
        raise Failed(last_line(wrong) or f"it ended with {process.returncode}")
    found: dict[str, Any] = json.loads(answers[-1])
    watch.join()
    return figures(found, whole, watch.peak)


def figures(found: dict[str, Any], whole: float, peak: int) -> dict[str, Any]:
    """Return what a process reported, and what was seen of it from outside."""
    whole -= found.pop("extra", 0.0)
    return found | {"whole": whole, "peak": max(peak, found.pop("own_peak"))}


def last_line(text: str) -> str:
    """Return the line of a traceback that says what was wrong."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith((" ", "\t"))]
    return lines[-1].strip()[:200] if lines else ""


def end(process: subprocess.Popen[str]) -> None:
    """End a process and all that it started."""
    for pid in family(process.pid)[::-1]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def family(root: int) -> list[int]:
    """Return a process and its descendants."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(path.parent.name))
    found = [root]
    for pid in found:  # grows meanwhile
        found += parents.get(pid, [])
    return found


def memory(pid: int) -> int:
    """Return the bytes of a process, of what is shared its share; 0 when it has gone."""
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return 0


class Watch(threading.Thread):
    """Notes the peak of the memory of a process and its descendants."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self.root, self.peak, self.done = root, 0, threading.Event()
        self.start()

    def run(self) -> None:
        while not self.done.wait(LOOK):
            self.peak = max(self.peak, sum(map(memory, family(self.root))))

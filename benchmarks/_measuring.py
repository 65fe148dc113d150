"""Measure one rule on tensors of some shapes: ours and its peers in turn, as memory and time allow."""

import gc
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from _bandwidth import Triad
from _candidates import Candidate, Eager, bytes_moved, bytes_needed, ours, slopes_of, theirs
from _common import interleaved_within, ratios
from _peers import LEFT_OUT, PEERS
from _shapes import ONE_MATRIX, Tensors
from torch import Tensor

from thalweg.rules.catalogue import CATALOGUE, Preset

OURS, TRIAD = "thalweg", "triad"
LONGEST = 60.0  # seconds that a step may take
FIRST = 5  # times as long may the first take, which compiles, fills buffers and takes bases
BATCH = 0.05  # seconds of steps that are timed at once, so that the clock's own time does not count
WARM = 1.0  # seconds of steps up to which one step that is not timed comes before the others
SPARE = 1e9  # bytes of memory that stay free, beside four copies of the parameters for what a step makes
PERIOD = {"soap": 10}  # steps from one costly step to the next, where only whole periods compare
MATRIX_RULES = ("adafactor",)  # take vectors, too, but are about matrices


class TooLong(Exception):
    """A step has not ended in the time that it was given."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Break off what takes longer, as soon as a single operation of it ends."""

    def stop(*_: object) -> None:
        raise TooLong(f"a step takes over {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclass
class Ready:
    """A candidate that has taken its first steps, and how many to take at once."""

    candidate: Candidate
    count: int
    warm: bool

    def seconds(self) -> float:
        """Return the seconds of a step."""
        self.candidate.refill()
        if self.warm:  # other candidates' threads come to rest, and ours awake
            self.candidate.advance(1)
        start = time.perf_counter()
        self.candidate.advance(self.count)
        return (time.perf_counter() - start) / self.count


def ready(make: Callable[[], Candidate], period: int, longest: float = LONGEST) -> Ready:
    """Make a candidate and let it take its first steps."""
    candidate = make()
    with within(FIRST * longest):
        candidate.advance(1)
    candidate.refill()
    with within(longest):
        candidate.advance(1)
        start = time.perf_counter()
        candidate.advance(1)
    took = time.perf_counter() - start
    count = period * math.ceil(max(1, BATCH / took) / period)
    return Ready(candidate, count, warm=period == 1 and took < WARM)


def free_memory() -> float:
    """Return the bytes that can be had without swapping; infinity where the system does not say."""
    said = Path("/proc/meminfo")
    if not said.exists():
        return math.inf
    lines = said.read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))


@dataclass(frozen=True)
class Setting:
    """What holds for all measurements of a run."""

    triad: Triad
    seconds: float  # of a rule on a shape
    peers: Sequence[str] = tuple(PEERS)
    options: Mapping[str, Any] = field(default_factory=dict)  # of our classes
    longest: float = LONGEST


def tensors_for(preset: Preset, tensors: Tensors) -> Tensors:
    """Return the tensors, or a matrix in place of one vector where the rule is about matrices."""
    about_matrices = preset.rule.least_axes or preset.name in MATRIX_RULES
    return ONE_MATRIX if about_matrices and len(tensors.shapes) == 1 else tensors


def measured(name: str, tensors: Tensors, setting: Setting) -> dict[str, Any]:
    """Return milliseconds, bytes and ratios of a preset on these tensors, and what was left out, and why.

    All candidates are measured in turn with ours. Those for which there is no memory left wait, and are
    measured in turn with ours again when the others are gone.
    """
    preset = CATALOGUE[name]
    tensors = tensors_for(preset, tensors)
    left_out = {peer: LEFT_OUT[peer, name] for peer in setting.peers if (peer, name) in LEFT_OUT}
    found: dict[str, Any] = {"tensors": tensors.described(), "peers": {}, "left_out": left_out}
    if preset.rule.least_axes and not tensors.hidden:
        return found | {"skipped": f"no matrices for {preset.rule.title}"}
    slopes = slopes_of(tensors)
    need = bytes_needed(preset, tensors) + 4 * 4 * tensors.numbers + SPARE

    def make_ours() -> Candidate:
        return ours(preset, tensors, slopes, **setting.options)

    waiting = [peer for peer in setting.peers if name in PEERS[peer].ways]
    while True:
        again, batch = list(waiting), {}
        problem = _add(batch, OURS, make_ours, need, name, setting)
        if problem:
            return found | {"skipped": problem}
        for peer in again:
            make = _maker(peer, preset, tensors, slopes)
            problem = _add(batch, peer, make, need, name, setting)
            if problem != NO_MEMORY:
                waiting.remove(peer)
            if problem and problem != NO_MEMORY:
                found["left_out"][peer] = problem
        if waiting == again and again:  # not even one beside ours
            found["left_out"] |= dict.fromkeys(waiting, NO_MEMORY)
            waiting = []
        _compare(found, name, batch, setting)
        del batch
        _tidy()
        if not waiting:
            return found


NO_MEMORY = "not enough memory"


def _maker(peer: str, preset: Preset, tensors: Tensors, slopes: list[Tensor]) -> Callable[[], Candidate]:
    return lambda: theirs(PEERS[peer], preset, tensors, slopes)


def _add(
    batch: dict[str, Ready],
    who: str,
    make: Callable[[], Candidate],
    need: float,
    name: str,
    setting: Setting,
) -> str:
    """Add a candidate to those that are measured in turn; return why not, else nothing."""
    if need > free_memory():
        return NO_MEMORY
    try:
        batch[who] = ready(make, PERIOD.get(name, 1), setting.longest)
    except TooLong as error:
        return str(error)
    except Exception as error:  # of one method of one package: the others can still be measured
        return f"failed: {type(error).__name__}: {error}"[:200]
    return ""


def _compare(found: dict[str, Any], name: str, batch: dict[str, Ready], setting: Setting) -> None:
    """Measure all candidates of a batch in turn, and add what was found."""
    ways: dict[str, Callable[[], float]] = {who: each.seconds for who, each in batch.items()}
    times = interleaved_within(ways | {TRIAD: setting.triad.seconds}, setting.seconds)
    own = batch[OURS].candidate
    assert isinstance(own, Eager)
    buffers = own.state_bytes()
    if "milliseconds" not in found:
        moved = bytes_moved(name, own)
        speeds = [moved / t for t in times[OURS]]
        of_triad = [v * t / setting.triad.bytes for v, t in zip(speeds, times[TRIAD], strict=True)]
        found |= {
            "milliseconds": 1e3 * median(times[OURS]),
            "bytes": moved,
            "gb_per_s": 1e-9 * median(speeds),
            "of_triad": median(of_triad),
            "state_bytes": buffers,
        }
        found["rounds"] = len(times[OURS])
    for who, each in batch.items():
        if who != OURS:
            theirs_bytes = each.candidate.state_bytes()
            found["peers"][who] = {
                "milliseconds": 1e3 * median(times[who]),
                "times_ours": median(ratios(times, who, OURS)),
                "state_bytes": theirs_bytes,
                "same_state": abs(theirs_bytes - buffers) <= 0.01 * max(buffers, theirs_bytes),
            }


def _tidy() -> None:
    """Give memory back, also what a compiled function of JAX holds on to."""
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
    gc.collect()

"""What `fleet.py` has done: four workloads, who does them, and the job that each fresh process is given.

Free of torch, so that a candidate that does without it does not wait for it.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

START = time.perf_counter()  # imported first by every candidate: what comes after it are its imports

GRIDS = {"sgd": (-3, 0.5), "momentum": (-4, -0.5), "rmsprop": (-5, -1), "adam": (-5, -1)}  # powers of ten
RATES = {name: [10 ** (a + (b - a) * i / 8) for i in range(9)] for name, (a, b) in GRIDS.items()}
SEEDS = (0, 1, 2)
ALL = len(GRIDS) * 9 * len(SEEDS)


@dataclass(frozen=True)
class Work:
    """A network and its data, and which of the 108 trainings are done: the rest is extrapolated."""

    title: str
    steps: int
    batch_size: int
    positions: tuple[int, ...] = tuple(range(9))  # in the grid of rates
    seeds: tuple[int, ...] = SEEDS

    @property
    def runs(self) -> int:
        return len(GRIDS) * len(self.positions) * len(self.seeds)


WORKS = {
    "digits": Work("digits, MLP 64–32–10", 450, 32),
    "mnist": Work("MNIST, MLP 784–128–10", 300, 64),
    "cnn": Work("Fashion-MNIST, CNN 1–8–16", 100, 64, seeds=(0,)),
    "text": Work("Shakespeare, transformer of two layers, width 64", 60, 16, (2, 4, 6), (0,)),
}


@dataclass(frozen=True)
class Candidate:
    """Someone who does a workload: a script and how it is called in tables."""

    title: str
    script: str
    works: tuple[str, ...] = tuple(WORKS)
    torch_threads: bool = False  # whether one thread or all are faster is tried out first


MLPS = ("digits", "mnist")
CANDIDATES = {
    "optuna": Candidate("Optuna, DataLoader", "_fleet_optuna.py", torch_threads=True),
    "memory": Candidate("Optuna, tensors in memory", "_fleet_optuna.py", torch_threads=True),
    "ray": Candidate("Ray Tune", "_fleet_ray.py"),
    "jax": Candidate("JAX, vmap + scan", "_fleet_jax.py", MLPS),
    "jax-shared": Candidate("JAX, rates share batches", "_fleet_jax.py", MLPS),
    "serial": Candidate("thalweg, serial", "_fleet_ours.py"),
    "processes": Candidate("thalweg, processes", "_fleet_ours.py"),
    "fleet": Candidate("thalweg, fleet", "_fleet_ours.py"),
    "auto": Candidate("thalweg, auto", "_fleet_ours.py"),
}


@dataclass(frozen=True)
class Job:
    """What one process is to do."""

    work: str
    candidate: str
    steps: int
    batch_size: int
    positions: Sequence[int]
    seeds: Sequence[int]
    threads: int
    split: str  # file with the rows of the training and the validation part, where they are drawn
    cache: str = ""  # folder of compiled code

    def runs(self) -> Iterator[tuple[str, float, int]]:
        """Yield optimizer, rate and seed of each training."""
        for optimizer in GRIDS:
            for rate in self.rates(optimizer):
                for seed in self.seeds:
                    yield optimizer, rate, seed

    def rates(self, optimizer: str) -> list[float]:
        return [RATES[optimizer][i] for i in self.positions]

    @property
    def count(self) -> int:
        return len(GRIDS) * len(self.positions) * len(self.seeds)

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def job_of_this_process() -> Job:
    return Job(**json.loads(sys.argv[1]))


def shrunk(work: Work, scale: float, quick: bool = False) -> Work:
    """Return the work with fewer steps, and a tiny one if it is to be quick."""
    if quick:
        return replace(work, steps=6, positions=(3, 5), seeds=(0,))
    return replace(work, steps=max(3, round(scale * work.steps)))


def cores() -> int:
    return len(os.sched_getaffinity(0))


def report(
    ready: float,
    first: float,
    end: float,
    steady: float,
    losses: Iterable[tuple[str, float, int, float | None]],
    **more: Any,
) -> None:
    """Print what a process found, as JSON.

    Args:
        ready: when all was imported (all moments on the clock of this process).
        first: when the first update was done, or what is compiled ready to run.
        end: when the last validation loss was there.
        steady: seconds of one update of one replica, once all runs, evaluations left out.
        losses: optimizer, rate, seed and validation loss (None: diverged) of each training.
        more: what else is to be known: ``ending``, seconds from the last training to the end; ``extra``,
            seconds that went into measuring only.
    """
    found = {
        "imports": ready - START,
        "prepared": first - ready,
        "total": end - ready,
        "steady_us": 1e6 * steady,
        "own_peak": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "losses": list(losses),
    }
    print(json.dumps(found | more))

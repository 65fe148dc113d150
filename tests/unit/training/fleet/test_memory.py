"""What a fleet takes: arithmetic, what the system says, and that what is foretold is what a process takes."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from small_tasks import EXECUTION, batch_norm, network, recipe, trial, workload
from thalweg.tasks import Task
from thalweg.training.fleet.memory import Footprint, Line, Peak, available, footprint

FLEET = replace(EXECUTION, executor="fleet", wave=4)


def test_bytes_are_a_part_for_all_and_one_for_each() -> None:
    takes = Footprint(Line(1000.0, 250.0), Line(1400.0, 10.0))

    assert [takes.of(count) for count in (0, 1, 4, 100)] == [1400.0, 1410.0, 2000.0, 26000.0]
    assert [takes.most(allowed) for allowed in (0, 1409, 1410, 1999.9, 2000, 26001)] == [0, 0, 1, 3, 4, 100]


LINES = st.builds(Line, st.integers(0, 10**9).map(float), st.integers(1, 10**8).map(float))


@given(updating=LINES, measuring=LINES, allowed=st.integers(0, 10**11))
def test_the_most_replicas_fit_and_one_more_would_not(updating: Line, measuring: Line, allowed: int) -> None:
    takes = Footprint(updating, measuring)
    most = takes.most(allowed)

    assert most == 0 or takes.of(most) <= allowed
    assert takes.of(most + 1) > allowed


def test_what_is_available_is_some_of_the_memory_there_is() -> None:
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    assert 0 < available() < physical


def test_the_peak_counts_what_is_alive_at_once_and_views_not_at_all() -> None:
    before = torch.zeros(1000)
    with Peak() as peak:
        a = torch.zeros(250)  # 1,000 bytes
        b = a.view(10, 25).T[:5]
        before.add_(1)
        c = torch.zeros(500)  # 2,000
        assert peak.bytes == 3000
        del a
        assert b.shape == (5, 10)  # holds on to its storage
        del b, c
        d = torch.zeros(600)
        assert peak.bytes == 3000
        e = torch.zeros(200)
        assert peak.bytes == 3200
        del d, e
    assert peak.bytes == 3200


def test_a_replica_takes_more_with_more_state_and_at_least_weights_gradients_and_states() -> None:
    work = workload(network())
    parameters = 3 * 8 + 8 + 8 * 3 + 3
    sgd, adam = (
        footprint(work, [trial(recipe(name, 0.1, precision="float64"), 10)], FLEET).updating
        for name in ("sgd", "adam")
    )

    assert sgd.replica >= 2 * 8 * parameters  # weights and gradients
    assert adam.replica - sgd.replica >= 2 * 8 * parameters
    assert adam.replica < 50 * 8 * parameters
    assert sgd.fixed >= 0 <= adam.fixed


def test_several_kinds_of_trials_count_as_their_mean() -> None:
    work = workload(batch_norm())
    trials = [trial(recipe(name, 0.1, precision="float64"), 10) for name in ("sgd", "adam")]
    one, other = (footprint(work, [t], FLEET).updating for t in trials)
    both = footprint(work, trials, FLEET).updating

    assert both.replica == pytest.approx((one.replica + other.replica) / 2, rel=0.1)


def test_what_measuring_takes_does_not_hide_what_many_replicas_take_to_be_updated() -> None:
    """Two replicas take most while the validation part is measured, and a hundred in their updates."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(600, 40, generator=draw)
    cut = {"train": slice(0, 40), "validation": slice(40, 590), "test": slice(590, 600)}
    work = workload(
        Task(
            lambda: nn.Linear(40, 1),
            lambda seed: {name: (x[rows], x[rows, :1]) for name, rows in cut.items()},
            lambda model, batch: nn.functional.mse_loss(model(batch[0]), batch[1]),
            batch_size=20,
        )
    )
    trials = [trial(recipe("sgd", 0.1, batch_size=20), 10, seed) for seed in range(100)]
    takes = footprint(work, trials[:1], FLEET)

    assert takes.of(2) == takes.measuring.fixed + 2 * takes.measuring.replica
    batch = 4 * 20 * 41  # bytes that each replica is shown
    assert takes.of(100) > 100 * (batch + 2 * 4 * 41)  # with its weights and gradients


# The most memory that a process of its own has while a fleet runs, beyond what it has before. The system's
# `ru_maxrss` would count what the parent had when it started the process.
MEASURE = """
import ctypes, gc, json, re, sys
from pathlib import Path
sys.path.insert(0, sys.argv[4])
import torch
from torch import nn
from dataclasses import replace
from small_tasks import EXECUTION, recipe, trial, workload
from thalweg.executors.fleet import run_wave
from thalweg.tasks import Task
from thalweg.training.fleet.memory import footprint

def perceptron(*between):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), *between, nn.ReLU(), nn.Linear(128, 10))

def convolutions():
    first = nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
    return nn.Sequential(*first, nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Flatten(), nn.Linear(16 * 7 * 7, 10))

what, model, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
make_model = {"perceptron": perceptron, "convolutions": convolutions,
              "normalised": lambda: perceptron(nn.BatchNorm1d(128))}[model]

def make_data(seed):
    x = torch.randn(4000, 1, 28, 28)
    y = torch.randint(10, (4000,))
    return {"train": (x[:3000], y[:3000]), "validation": (x[3000:3500], y[3000:3500]),
            "test": (x[3500:], y[3500:])}

def loss(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])

work = workload(Task(make_model, make_data, loss, batch_size=64))
how = replace(EXECUTION, executor="fleet", wave=count)
trials = [trial(recipe("adam", 1e-3, batch_size=64), 50, seed) for seed in range(count)]
told = footprint(work, trials[:1], how).of(count) if what == "foretell" else 0
run_wave(work, trials[:2], how)  # what is imported and compiled once is no part of it
gc.collect()
ctypes.CDLL(None).malloc_trim(0)  # what compiling took is given back before, and not meanwhile
Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here

def status(field):
    return 1024 * int(re.search(field + r":\\s+([0-9]+)", Path("/proc/self/status").read_text())[1])

before = status("VmRSS")
run_wave(work, trials, how)
grown = status("VmHWM") - before
print(json.dumps([told, grown]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "replicas"),
    [("perceptron", 100), ("convolutions", 500), ("normalised", 100)],
)
def test_what_is_foretold_is_what_a_process_grows_by(model: str, replicas: int) -> None:
    """Compiled ones and those that torch replays, whose activations are held for all replicas at once."""

    def measured(what: str) -> tuple[float, float]:
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, what, model, str(replicas), str(Path(__file__).parents[3])],
            capture_output=True,
            text=True,
            # Large blocks go back to the system at once: else the allocator's holes decide, and a process
            # grows by 300 or 515 MB for the same 210 MB of tensors.
            env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "131072"},
        )
        assert done.returncode == 0, done.stderr
        told, grown = json.loads(done.stdout)
        return told, grown

    # In two processes, so that what foretelling itself takes is not what is already there.
    (told, _), (_, grown) = measured("foretell"), measured("run")

    assert told == pytest.approx(grown, rel=0.2)

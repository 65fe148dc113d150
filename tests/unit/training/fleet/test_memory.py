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

from small_tasks import EXECUTION, batch_norm, network, recipe, trial, workload
from thalweg.training.fleet.memory import Footprint, Peak, available, footprint

FLEET = replace(EXECUTION, executor="fleet", wave=4)


def test_bytes_are_a_part_for_all_and_one_for_each() -> None:
    takes = Footprint(1000.0, 250.0)

    assert [takes.of(count) for count in (0, 1, 4, 100)] == [1000.0, 1250.0, 2000.0, 26000.0]
    assert [takes.most(allowed) for allowed in (0, 1249, 1250, 1999.9, 2000, 26001)] == [0, 0, 1, 3, 4, 100]
    assert Footprint(0.0, 3.0).most(2.0) == 0
    assert Footprint(0.0, 3.0).most(300.0) == 100


@given(fixed=st.integers(0, 10**9), replica=st.integers(1, 10**8), allowed=st.integers(0, 10**11))
def test_the_most_replicas_fit_and_one_more_would_not(fixed: int, replica: int, allowed: int) -> None:
    takes = Footprint(float(fixed), float(replica))
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
        footprint(work, [trial(recipe(name, 0.1, precision="float64"), 10)], FLEET)
        for name in ("sgd", "adam")
    )

    assert sgd.replica >= 2 * 8 * parameters  # weights and gradients
    assert adam.replica - sgd.replica >= 2 * 8 * parameters
    assert adam.replica < 50 * 8 * parameters
    assert sgd.fixed >= 0 <= adam.fixed


def test_several_kinds_of_trials_count_as_their_mean() -> None:
    work = workload(batch_norm())
    trials = [trial(recipe(name, 0.1, precision="float64"), 10) for name in ("sgd", "adam")]
    one, other = (footprint(work, [t], FLEET) for t in trials)
    both = footprint(work, trials, FLEET)

    assert both.replica == pytest.approx((one.replica + other.replica) / 2, rel=0.1)


# The most memory that a process of its own has while a fleet runs, beyond what it has before. The system's
# `ru_maxrss` would count what the parent had when it started the process.
MEASURE = """
import json, re, sys
from pathlib import Path
import torch
from torch import nn
from dataclasses import replace
from small_tasks import EXECUTION, recipe, trial, workload
from thalweg.executors.fleet import run_wave
from thalweg.tasks import Task
from thalweg.training.fleet.memory import footprint

def make_model():
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))

def make_data(seed):
    x = torch.randn(4000, 784)
    y = torch.randint(10, (4000,))
    return {"train": (x[:3000], y[:3000]), "validation": (x[3000:3500], y[3000:3500]),
            "test": (x[3500:], y[3500:])}

def loss(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])

work = workload(Task(make_model, make_data, loss, batch_size=64))
how = replace(EXECUTION, executor="fleet", wave=100)
trials = [trial(recipe("adam", 1e-3, batch_size=64), 50, seed) for seed in range(100)]
told = footprint(work, trials[:1], how).of(100) if sys.argv[1] == "foretell" else 0
run_wave(work, trials[:2], how)  # what is imported and compiled once is no part of it
Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here

def status(field):
    return 1024 * int(re.search(field + r":\\s+([0-9]+)", Path("/proc/self/status").read_text())[1])

before = status("VmRSS")
run_wave(work, trials, how)
grown = status("VmHWM") - before
print(json.dumps([told, grown]))
"""


@pytest.mark.slow
def test_what_is_foretold_of_100_replicas_of_a_perceptron_is_what_a_process_grows_by() -> None:
    tests = str(Path(__file__).parents[3])

    def measured(what: str) -> tuple[float, float]:
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, what],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": tests, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        told, grown = json.loads(done.stdout)
        return told, grown

    # In two processes, so that what foretelling itself takes is not what is already there.
    (told, _), (_, grown) = measured("foretell"), measured("run")

    assert told == pytest.approx(grown, rel=0.2)

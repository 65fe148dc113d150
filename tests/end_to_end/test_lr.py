"""`thalweg lr` beside the call in Python: the same answer, no trace, and words where there is none."""

import json
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import thalweg
from end_to_end.program import TASK, Call, contents, interrupt
from thalweg.records import to_data

# A loss that depends on the batch alone: gradients are there, and all of them 0.
NOTHING = """\
import torch
from torch import nn

from thalweg.tasks import Regression

kind = Regression()
batch_size = 8


def make_model():
    return nn.Linear(2, 1)


def make_data(seed):
    noise = torch.randn(200, 3, generator=torch.Generator().manual_seed(seed))
    return noise[:, :2], noise[:, 2:]


def loss(model, batch):
    x, y = batch
    return y.square().mean() + 0 * model(x).mean()
"""


def answer(call: Call, *arguments: str) -> Any:
    done = call("lr", *arguments, "--json")
    assert (done.code, done.err) == (0, "")
    return json.loads(done.out)


def test_command_and_call_give_the_same_answer(call: Call) -> None:
    said = answer(call, "wine", "--optimizer", "sgd", "--steps", "150", "--executor", "serial", "--seed", "3")

    found = thalweg.find_lr("wine", "sgd", steps=150, executor="serial", seed=3)

    expected = json.loads(json.dumps(to_data(found)))
    shared = said.keys() & expected.keys()
    assert shared >= {"optimizer", "suggestion", "low", "high", "outcome", "diverges_at", "rates", "losses"}
    assert {name: said[name] for name in shared} == {name: expected[name] for name in shared}


def test_wrappers_and_epochs_count(call: Call) -> None:
    asked = ("wine", "--optimizer", "sgd", "--executor", "serial", "--batch-size", "16")

    # 142 examples are nine batches of 16.
    plain = answer(call, *asked, "--epochs", "15")
    assert plain == answer(call, *asked, "--steps", "135")
    assert answer(call, *asked, "--epochs", "15", "--wrap", "clip_norm:0.001")["losses"] != plain["losses"]


def test_the_answer_as_text_says_it_first_and_what_others_would_pick_last(call: Call) -> None:
    done = call("lr", "wine", "--steps", "100", "--executor", "serial")
    found = thalweg.find_lr("wine", steps=100, executor="serial")

    assert (done.code, done.err) == (0, "")
    sentences, picks = " ".join(done.out.splitlines()).split(" From the sweeps alone")
    assert sentences == " ".join(found.sentences)
    assert picks.startswith(" others would pick: steepest ")
    assert max(map(len, done.out.splitlines())) <= 100


def test_no_answer_is_an_answer(tmp_path: Path, call: Call) -> None:
    (tmp_path / "nothing.py").write_text(NOTHING)

    said = answer(call, "nothing.py", "--steps", "100")

    assert (said["outcome"], said["suggestion"], said["low"], said["high"]) == ("flat", None, None, None)
    assert said["sentences"][0].startswith("adam: no answer; no rate from 1e-09 to 0.045 moved the loss")


def test_nothing_is_written_and_nothing_is_noticed(tmp_path: Path, call: Call) -> None:
    (tmp_path / "task.py").write_text(TASK)
    before = torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()
    threads = torch.get_num_threads()

    answer(call, "task.py", "--steps", "40")

    assert set(contents(tmp_path)) <= {"task.py", "task.log", "__pycache__"}
    assert (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()) == before
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("arguments", "begins"),
    [
        (("wine", "--optimizer", ""), "the optimizers must be one or more different names; got []."),
        (
            ("wine", "--optimizer", "sgd,sgd"),
            "the optimizers must be one or more different names; got ['sg",
        ),
        (("wine", "--epochs", "1", "--steps", "9"), "the budget must be given in one of epochs, steps and"),
        (("wine", "--steps", "0"), "steps of the budget must be a whole number of at least 1; got 0."),
        (("wine", "--batch-size", "999"), "batch size for wine must be a whole number from 1 to 142"),
        (("wine", "--memory", "much"), "--memory must be a size such as 500MB or 2GB; got 'much'."),
        (("wine", "--wrap", "clip:1"), "--wrap must name a wrapper; got 'clip'."),
        (("wine", "--report", "."), "--report must name a file; got the folder .. Such as report.html."),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(
    tmp_path: Path, call: Call, arguments: tuple[str, ...], begins: str
) -> None:
    done = call("lr", *arguments)

    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"thalweg: {begins}")
    assert contents(tmp_path) == {}


def test_ctrl_c_ends_it_with_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(TASK)

    done = interrupt(tmp_path, 60, signal.SIGINT, "lr", "task.py")

    assert (done.code, done.out) == (130, "")
    assert done.err == "\nthalweg: interrupted. Nothing is kept of it; the same command measures anew.\n"
    assert set(contents(tmp_path)) <= {"task.py", "task.log", "__pycache__"}

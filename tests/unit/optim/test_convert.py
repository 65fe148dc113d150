"""States to and from the packages in which methods were first published; each test needs its package."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from thalweg import optim
from thalweg.errors import InputError
from thalweg.optim import convert

SHAPES = [(3, 2), (4,), ()]
# Rounding of float64 over 10 steps; estimates of the rate are quotients of sums, which enlarge it.
CLOSE = 1e-10


def package(module: str, name: str) -> Any:
    return getattr(pytest.importorskip(module), name)


# Our class and theirs, with the same hyperparameters.
PAIRS: dict[str, tuple[Any, str, str, dict[str, Any]]] = {
    "lion": (optim.Lion, "lion_pytorch", "Lion", {"lr": 0.01, "betas": (0.8, 0.9), "weight_decay": 0.1}),
    "prodigy": (optim.Prodigy, "prodigyopt", "Prodigy", {"d0": 1e-3, "weight_decay": 0.01}),
    "prodigy without momentum": (optim.Prodigy, "prodigyopt", "Prodigy", {"d0": 1e-3, "betas": (0.0, 0.9)}),
    "dadapt-adam": (optim.DAdaptationAdam, "dadaptation", "DAdaptAdam", {"d0": 1e-3, "betas": (0.8, 0.9)}),
    "dadapt-sgd": (optim.DAdaptationSGD, "dadaptation", "DAdaptSGD", {"d0": 1e-3, "momentum": 0.5}),
    "schedule-free adamw": (
        optim.ScheduleFreeAdamW, "schedulefree", "AdamWScheduleFree",
        {"lr": 0.05, "warmup_steps": 5, "r": 0.5},
    ),
    "schedule-free sgd": (
        optim.ScheduleFreeSGD, "schedulefree", "SGDScheduleFree", {"lr": 0.05, "weight_decay": 0.1}
    ),
}  # fmt: skip


def leaves() -> list[nn.Parameter]:
    generator = np.random.default_rng(0)
    return [nn.Parameter(torch.tensor(generator.standard_normal(shape))) for shape in SHAPES]


def walk(optimizer: Any, parameters: list[nn.Parameter], seed: int) -> None:
    generator = np.random.default_rng(seed)
    if not isinstance(optimizer, optim.RuleOptimizer) and hasattr(optimizer, "train"):
        optimizer.train()
    for _ in range(10):
        for p in parameters:
            p.grad = torch.tensor(generator.standard_normal(p.shape) + 1.0)
        optimizer.step()


def assert_close(a: list[nn.Parameter], b: list[nn.Parameter]) -> None:
    for x, y in zip(a, b, strict=True):
        assert (x - y).abs().max() <= CLOSE * max(1, float(x.detach().abs().max()))


def make(pair: str) -> tuple[Callable[[Any], optim.RuleOptimizer], Callable[[Any], Any]]:
    ours, module, name, values = PAIRS[pair]
    theirs = package(module, name)
    extra = {"foreach": False} if module == "schedulefree" else {}
    return lambda p: ours(p, **values), lambda p: theirs(p, **values, **extra)


WITH_MOMENTUM = [pair for pair in PAIRS if pair != "prodigy without momentum"]


@pytest.mark.slow  # the packages are there only then
@pytest.mark.parametrize("pair", PAIRS)
def test_a_state_comes_from_the_package_in_the_middle_of_a_run(pair: str) -> None:
    ours, theirs = make(pair)
    first, second = leaves(), leaves()
    giver, taker = theirs(first), ours(second)
    walk(giver, first, 1)
    for p, q in zip(first, second, strict=True):
        q.data = p.data.clone()

    taker.load_state_dict(convert.from_package(taker, copy.deepcopy(giver.state_dict())))

    if pair in WITH_MOMENTUM:  # without, the package takes its step with the new d
        walk(giver, first, 2)
        walk(taker, second, 2)
        assert_close(first, second)
    else:
        assert not any(state["exp_avg"].any() for state in taker.state.values())


@pytest.mark.slow  # the packages are there only then
@pytest.mark.parametrize("pair", WITH_MOMENTUM)
def test_a_state_goes_to_the_package_in_the_middle_of_a_run(pair: str) -> None:
    ours, theirs = make(pair)
    first, second = leaves(), leaves()
    giver, taker = ours(first), theirs(second)
    walk(giver, first, 1)
    for p, q in zip(first, second, strict=True):
        q.data = p.data.clone()

    taker.load_state_dict(convert.to_package(giver))

    walk(giver, first, 2)
    walk(taker, second, 2)
    assert_close(first, second)


@pytest.mark.slow  # the packages are there only then
@pytest.mark.parametrize("pair", ["schedule-free adamw", "schedule-free sgd"])
def test_schedule_free_weights_saved_for_evaluation_are_taken_and_given_as_such(pair: str) -> None:
    ours, theirs = make(pair)
    first, second, third = leaves(), leaves(), leaves()
    giver, taker, back = theirs(first), ours(second), theirs(third)
    walk(giver, first, 1)
    giver.eval()
    for p, q in zip(first, second, strict=True):
        q.data = p.data.clone()

    taker.load_state_dict(convert.from_package(taker, copy.deepcopy(giver.state_dict())))
    assert taker.evaluates
    for p, q in zip(second, third, strict=True):
        q.data = p.data.clone()
    back.load_state_dict(convert.to_package(taker))

    taker.train()
    walk(giver, first, 2)
    walk(taker, second, 2)
    walk(back, third, 2)
    assert_close(first, second)
    assert_close(first, third)


def test_what_the_other_form_cannot_say_is_refused() -> None:
    parameters = leaves()
    optimizer = optim.ScheduleFreeSGD(parameters)
    walk(optimizer, parameters, 1)
    parameters[0].grad = None
    optimizer.step()
    with pytest.raises(InputError, match="step of the parameters of a group must be the same"):
        convert.to_package(optimizer)
    with pytest.raises(InputError, match=r"must be one of dadapt-adam, .* without wrappers; got Adam"):
        convert.to_package(optim.Adam(parameters))
    with pytest.raises(InputError, match="got Lion with wrappers"):
        convert.from_package(optim.Lion(parameters, wrappers=[optim.cautious()]), {})
    prodigy = optim.Prodigy(parameters)
    theirs = convert.to_package(prodigy)
    theirs["param_groups"][0]["slice_p"] = 11
    with pytest.raises(InputError, match=r"slice_p in the state of prodigyopt\.Prodigy must be 1; got 11"):
        convert.from_package(prodigy, theirs)
    theirs["param_groups"][0]["params"] = [0]
    with pytest.raises(InputError, match=r"must have groups of \[3\] parameters; got \[1\]"):
        convert.from_package(prodigy, theirs)

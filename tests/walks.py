"""Walks of torch optimizers over given gradients, for tests: ours, PyTorch's, and in plain NumPy."""

import copy
from collections.abc import Callable, Iterable, Iterator
from inspect import signature
from typing import Any

import numpy as np
import pytest
import torch

from cases import Path, Problem, starts
from thalweg.optim import BY_RULE

# The methods that PyTorch has. SparseAdam takes sparse gradients alone, and Muon computes in bfloat16: they
# have tests of their own.
NAMES = [
    name for name, cls in BY_RULE.items()
    if hasattr(torch.optim, cls.__name__) and name not in ("sparse-adam", "muon")
]  # fmt: skip
THEIRS: dict[str, type[torch.optim.Optimizer]] = {n: getattr(torch.optim, BY_RULE[n].__name__) for n in NAMES}
# Every buffer that a class can have.
RICH: dict[str, dict[str, Any]] = {
    "sgd": {"lr": 0.05, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01},
    "adagrad": {"lr": 0.05, "lr_decay": 0.01, "initial_accumulator_value": 0.1},
    "rmsprop": {"lr": 0.01, "momentum": 0.8, "centered": True, "alpha": 0.9},
    "adam": {"lr": 0.05, "amsgrad": True, "weight_decay": 0.01, "betas": (0.8, 0.9)},
    "adamw": {"lr": 0.05, "amsgrad": True, "weight_decay": 0.1, "betas": (0.8, 0.9)},
    "adadelta": {"lr": 0.5, "rho": 0.8, "eps": 1e-3, "weight_decay": 0.01},
    "adamax": {"lr": 0.05, "betas": (0.8, 0.9), "weight_decay": 0.01},
    "nadam": {"lr": 0.05, "betas": (0.8, 0.9), "weight_decay": 0.01, "momentum_decay": 0.01},
    "radam": {"lr": 0.05, "betas": (0.8, 0.9), "weight_decay": 0.01},
    "rprop": {"lr": 0.05, "etas": (0.6, 1.3)},
    "asgd": {"lr": 0.05, "lambd": 0.01, "t0": 3.0, "weight_decay": 0.01},
    "adafactor": {"lr": 0.05, "beta2_decay": -0.7, "weight_decay": 0.01},
}
# Rounding in float64 is 1.1e-16 a step and coordinate, and 100 steps are compared. Where a square root or
# a bias correction multiplies it, it stays below 1e-12 for gradients and hyperparameters within bounds.
CLOSE = 1e-12


def parameter(name: str, start: np.ndarray, dtype: torch.dtype = torch.float64) -> torch.nn.Parameter:
    """Make a leaf that lies in memory as its name says."""
    values = torch.tensor(start, dtype=dtype)
    if name == "strided":
        longer = torch.zeros(2 * len(start), dtype=dtype)
        longer[::2] = values
        values = longer[::2]
    if name == "transposed":
        values = values.t().contiguous().t()
    return torch.nn.Parameter(values)


def parameters(begin: dict[str, np.ndarray], dtype: torch.dtype = torch.float64) -> dict[str, Any]:
    return {name: parameter(name, start, dtype) for name, start in begin.items()}


def give(leaves: dict[str, torch.nn.Parameter], slopes: dict[str, np.ndarray | None]) -> None:
    for name, leaf in leaves.items():
        slope = slopes[name]
        leaf.grad = None if slope is None else torch.tensor(slope, dtype=leaf.dtype)


def now(leaves: dict[str, torch.nn.Parameter]) -> dict[str, np.ndarray]:
    return {name: leaf.detach().numpy().copy() for name, leaf in leaves.items()}


def walk(
    optimizer: torch.optim.Optimizer,
    leaves: dict[str, torch.nn.Parameter],
    slopes: Iterable[dict[str, np.ndarray | None]],
    after: Callable[[], object] = lambda: None,
    factors: Iterable[float] = (),
) -> Path:
    path = []
    rates = [group["lr"] for group in optimizer.param_groups]
    given = list(factors)
    for step, at in enumerate(slopes):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            if given:
                group["lr"] = rate * given[step]
        give(leaves, at)
        optimizer.step()
        after()
        path.append(now(leaves))
    return path


def solve(cls: Any, problem: Problem, **flags: Any) -> Path:
    leaves = parameters(problem.starts)
    foreign = cls.__module__.startswith("torch.optim")
    known = [
        {n: x for n, x in values.items() if not foreign or n in signature(cls).parameters}
        for _, values in problem.groups
    ]
    groups = [
        {"params": [leaves[n] for n in names], **values}
        for (names, _), values in zip(problem.groups, known, strict=True)
    ]
    defaults = {**known[0], **flags}  # PyTorch's Adagrad does not look for its initial value in a group
    return walk(cls(groups, **defaults), leaves, problem.gradients, factors=problem.factors)


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    """PyTorch makes some scalars of NAdam and ASGD in the default type, whatever the parameter's."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def begin_for(name: str, seed: int) -> dict[str, np.ndarray]:
    """Make parameters that PyTorch's class can take: its Adafactor divides by zero on an empty one."""
    return {n: x for n, x in starts(seed).items() if x.size or name != "adafactor"}


def real_only(name: str) -> bool:
    """Tell whether PyTorch's class takes no complex parameters."""
    return name == "adafactor"


def solve_in_numpy(cls: Any, problem: Problem) -> Path:
    path: Path = [{} for _ in problem.gradients]
    for names, values in problem.groups:
        optimizer = cls(**values)
        at = {name: problem.starts[name] for name in names}
        for step, slopes in enumerate(problem.gradients):
            at = optimizer.step(at, {name: slopes[name] for name in names}, problem.factor(step))
            path[step].update(at)
    return path


def buffers(optimizer: torch.optim.Optimizer) -> dict[int, dict[str, torch.Tensor]]:
    kept = copy.deepcopy(optimizer.state_dict()["state"])
    return {place: {n: x for n, x in state.items() if n != "step"} for place, state in kept.items() if state}


def assert_same_bits(a: dict[int, dict[str, torch.Tensor]], b: dict[int, dict[str, torch.Tensor]]) -> None:
    assert a.keys() == b.keys()
    for place in a:
        assert a[place].keys() == b[place].keys()
        for name, value in a[place].items():
            assert value.dtype == b[place][name].dtype
            assert torch.equal(value, b[place][name]), (place, name)

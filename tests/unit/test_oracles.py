"""The oracles against PyTorch's own classes, and forms that PyTorch does not have against those it has."""

import ast
import inspect
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import oracles
from oracles import ORACLES

TORCH = {
    "sgd": torch.optim.SGD,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}

_ADAM_CASES = [
    {},
    {"lr": 0.3},
    {"betas": (0.5, 0.7)},
    {"betas": (0.0, 0.99)},
    {"betas": (0.9, 0.0)},
    {"betas": (0.99, 0.9), "lr": 0.01},
    {"eps": 0.1},
    {"weight_decay": 0.3},
    {"weight_decay": 0.0},
    {"amsgrad": True, "betas": (0.9, 0.5)},
    {"amsgrad": True, "betas": (0.6, 0.8), "weight_decay": 0.1, "lr": 0.05},
    {"maximize": True},
    {"maximize": True, "weight_decay": 0.5, "lr": 0.1},
    {"maximize": True, "amsgrad": True, "weight_decay": 0.2, "betas": (0.8, 0.6), "eps": 1e-3},
]

CASES = {
    "sgd": [
        {},
        {"lr": 0.1},
        {"weight_decay": 0.2},
        {"momentum": 0.9},
        {"momentum": 0.5, "lr": 0.05},
        {"momentum": 0.9, "dampening": 0.9},
        {"momentum": 0.7, "dampening": 0.3, "weight_decay": 0.1, "lr": 0.02},
        {"dampening": 0.5},
        {"momentum": 0.9, "nesterov": True},
        {"momentum": 0.8, "nesterov": True, "weight_decay": 0.05, "lr": 0.03},
        {"maximize": True},
        {"maximize": True, "weight_decay": 0.3, "lr": 0.05},
        {"maximize": True, "momentum": 0.9, "dampening": 0.2, "weight_decay": 0.1, "lr": 0.01},
        {"maximize": True, "momentum": 0.6, "nesterov": True, "weight_decay": 0.1},
    ],
    "adagrad": [
        {},
        {"lr": 0.5},
        {"lr_decay": 0.1},
        {"lr_decay": 1.0, "lr": 0.2},
        {"weight_decay": 0.2},
        {"initial_accumulator_value": 0.1},
        {"initial_accumulator_value": 3.0, "lr": 1.0},
        {"eps": 0.1},
        {"eps": 1e-3, "weight_decay": 0.1, "lr_decay": 0.01},
        {"maximize": True},
        {"maximize": True, "weight_decay": 0.5, "lr": 0.1},
        {"maximize": True, "lr_decay": 0.05, "initial_accumulator_value": 0.5, "eps": 1e-2},
    ],
    "rmsprop": [
        {},
        {"lr": 0.1},
        {"alpha": 0.9},
        {"alpha": 0.0},
        {"eps": 0.1},
        {"weight_decay": 0.2},
        {"momentum": 0.9},
        {"momentum": 0.5, "alpha": 0.8, "weight_decay": 0.1},
        {"centered": True},
        {"centered": True, "alpha": 0.9, "eps": 1e-3},
        {"centered": True, "momentum": 0.8, "weight_decay": 0.05, "lr": 1e-3},
        {"maximize": True},
        {"maximize": True, "weight_decay": 0.4, "lr": 0.05},
        {"maximize": True, "centered": True, "momentum": 0.6, "alpha": 0.95, "weight_decay": 0.1},
    ],
    "adam": _ADAM_CASES,
    "adamw": _ADAM_CASES,
}

# (base, change): with everything else at the base, the change must move the path.
EFFECTS = {
    "sgd": [
        ({}, {"lr": 2e-3}),
        ({}, {"momentum": 0.9}),
        ({"momentum": 0.9}, {"dampening": 0.5}),
        ({}, {"weight_decay": 0.1}),
        ({"momentum": 0.9}, {"nesterov": True}),
        ({}, {"maximize": True}),
    ],
    "adagrad": [
        ({}, {"lr": 2e-2}),
        ({}, {"lr_decay": 0.1}),
        ({}, {"weight_decay": 0.1}),
        ({}, {"initial_accumulator_value": 0.1}),
        ({}, {"eps": 0.1}),
        ({}, {"maximize": True}),
    ],
    "rmsprop": [
        ({}, {"lr": 2e-2}),
        ({}, {"alpha": 0.9}),
        ({}, {"eps": 0.1}),
        ({}, {"weight_decay": 0.1}),
        ({}, {"momentum": 0.9}),
        ({}, {"centered": True}),
        ({}, {"maximize": True}),
    ],
    "adam": [
        ({}, {"lr": 2e-3}),
        ({}, {"betas": (0.8, 0.999)}),
        ({}, {"betas": (0.9, 0.9)}),
        ({}, {"eps": 0.1}),
        ({}, {"weight_decay": 0.1}),
        ({"betas": (0.9, 0.5)}, {"amsgrad": True}),
        ({}, {"maximize": True}),
    ],
}
EFFECTS["adamw"] = EFFECTS["adam"]

# What PyTorch does not have: forms of other libraries and of the papers, and the schedule, which is not a
# hyperparameter. They have tests of their own below and in oracles/test_by_hand.py.
NOT_TORCH = {"theta0", "gradients", "factors", "epsilon", "buffer", "decay_by"}

STEPS = 60
# A warm-up, a level, a drop, and a rate of zero for one step.
FACTORS = [min(1.0, (k + 1) / 10) * (0.3 if k > 40 else 1.0) * (k != 50) for k in range(STEPS)]
# Steps without a gradient: none; the first, two in a row, one alone and the last.
SILENT = [(), (0, 5, 6, 30, STEPS - 1)]


def _start_and_gradients(
    silent: tuple[int, ...], shape: tuple[int, ...] = (3, 4)
) -> tuple[np.ndarray, list[np.ndarray | None]]:
    """A start of order 1 and noisy gradients of several sizes, one coordinate having none at all.

    Independent noise keeps v - ḡ² of centred RMSprop at the size of v, where both sides are accurate.
    """
    rng = np.random.default_rng(20260)
    sizes = 10.0 ** rng.uniform(-2, 1, shape)
    if shape:
        sizes[..., :1] = 0.0
    gradients = [sizes * rng.standard_normal(shape) for _ in range(STEPS)]
    return rng.standard_normal(shape), [None if k in silent else g for k, g in enumerate(gradients)]


def _torch_path(
    name: str,
    theta0: np.ndarray,
    gradients: list[np.ndarray | None],
    factors: list[float] | None,
    **hyper: object,
) -> list[np.ndarray]:
    parameter = torch.nn.Parameter(torch.tensor(theta0, dtype=torch.float64))
    optimizer = TORCH[name]([parameter], foreach=False, **hyper)
    (group,) = optimizer.param_groups
    rate = group["lr"]
    path = []
    for gradient, factor in zip(gradients, factors or [1.0] * len(gradients), strict=True):
        group["lr"] = rate * factor
        parameter.grad = None if gradient is None else torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        path.append(parameter.detach().numpy().copy())
    return path


def _label(case: object) -> str:
    return ",".join(f"{key}={value}" for key, value in case.items()) if isinstance(case, dict) else str(case)


@pytest.mark.parametrize("factors", [None, FACTORS], ids=["constant", "scheduled"])
@pytest.mark.parametrize("silent", SILENT, ids=["every-step", "with-silent-steps"])
@pytest.mark.parametrize(
    ("name", "hyper"), [(name, case) for name, cases in CASES.items() for case in cases], ids=_label
)
def test_oracle_equals_torch(
    name: str, hyper: dict, silent: tuple[int, ...], factors: list[float] | None
) -> None:
    theta0, gradients = _start_and_gradients(silent)

    expected = np.array(_torch_path(name, theta0, gradients, factors, **hyper))
    actual = np.array(ORACLES[name](theta0, gradients, factors=factors, **hyper))

    # The distance travelled, not |θ|, is the scale: a small rate must not hide an error in the direction.
    scale = np.abs(expected - theta0).max()
    assert np.isfinite(expected).all()
    assert scale > 0
    assert np.abs(actual - expected).max() <= 1e-11 * scale


@pytest.mark.parametrize(
    ("name", "base", "change"),
    [(name, base, change) for name, effects in EFFECTS.items() for base, change in effects],
    ids=_label,
)
def test_each_hyperparameter_moves_the_path(name: str, base: dict, change: dict) -> None:
    theta0, gradients = _start_and_gradients(())

    before = np.array(ORACLES[name](theta0, gradients, **base))
    after = np.array(ORACLES[name](theta0, gradients, **base, **change))

    # Far above the tolerance of the comparison with torch, which therefore sees a wrong use of it.
    assert np.abs(after - before).max() > 1e-3 * np.abs(before - theta0).max()


@pytest.mark.parametrize("name", TORCH)
def test_effects_and_cases_cover_every_hyperparameter(name: str) -> None:
    keywords = set(inspect.signature(ORACLES[name]).parameters) - NOT_TORCH

    assert {key for _, change in EFFECTS[name] for key in change} == keywords
    assert {key for case in CASES[name] for key in case} == keywords


@pytest.mark.parametrize("name", TORCH)
def test_defaults_are_those_of_torch(name: str) -> None:
    theirs = inspect.signature(TORCH[name]).parameters
    ours = {
        key: parameter.default
        for key, parameter in inspect.signature(ORACLES[name]).parameters.items()
        if key not in NOT_TORCH
    }

    assert ours == {key: theirs[key].default for key in ours}


@pytest.mark.parametrize("shape", [(), (0,), (1, 2, 2)])
@pytest.mark.parametrize("name", TORCH)
def test_shape_and_type_are_kept_for_every_shape(name: str, shape: tuple[int, ...]) -> None:
    theta0, gradients = _start_and_gradients((0, 3), shape)

    path = ORACLES[name](theta0, gradients)

    assert [(type(theta), theta.shape, theta.dtype) for theta in path] == [
        (np.ndarray, shape, np.float64)
    ] * STEPS


@pytest.mark.parametrize("name", TORCH)
def test_a_silent_step_leaves_no_trace(name: str) -> None:
    theta0, gradients = _start_and_gradients((0, 5, 6, 30))
    path = ORACLES[name](theta0, gradients, factors=FACTORS, weight_decay=0.1)

    heard = [k for k, gradient in enumerate(gradients) if gradient is not None]
    alone = ORACLES[name](
        theta0, [gradients[k] for k in heard], factors=[FACTORS[k] for k in heard], weight_decay=0.1
    )

    assert np.array_equal(path[0], theta0)
    assert np.array_equal(path[6], path[4])
    assert np.array_equal(np.array([path[k] for k in heard]), np.array(alone))


@pytest.mark.parametrize("name", TORCH)
def test_inputs_are_left_alone_and_results_share_no_memory(name: str) -> None:
    theta0, gradients = _start_and_gradients((0, 5))
    copies = theta0.copy(), [None if g is None else g.copy() for g in gradients]

    path = ORACLES[name](theta0, gradients)
    later = path[5].copy()
    path[0][...] = path[4][...] = 1e9  # steps 0 and 5 are silent: equal to their predecessors, not the same

    assert np.array_equal(theta0, copies[0])
    assert all(a is b is None or np.array_equal(a, b) for a, b in zip(gradients, copies[1], strict=True))
    assert np.array_equal(path[5], later)


@pytest.mark.parametrize("nesterov", [False, True])
def test_averaged_momentum_is_summed_momentum_at_a_smaller_rate(nesterov: bool) -> None:
    theta0, gradients = _start_and_gradients(SILENT[1])
    hyper = {"momentum": 0.75, "weight_decay": 0.1, "nesterov": nesterov, "factors": FACTORS}

    mean = np.array(ORACLES["sgd"](theta0, gradients, lr=0.04, buffer="mean", **hyper))
    total = np.array(ORACLES["sgd"](theta0, gradients, lr=0.01, **hyper))

    assert np.abs(mean - total).max() <= 1e-12 * np.abs(total - theta0).max()


@pytest.mark.parametrize("name", ["adam", "adamw"])
@pytest.mark.parametrize("amsgrad", [False, True])
def test_the_place_of_no_epsilon_does_not_matter(name: str, amsgrad: bool) -> None:
    theta0, gradients = _start_and_gradients((5,))
    gradients = [None if g is None else g + 0.01 for g in gradients]  # ε = 0 wants gradients everywhere
    hyper = {"eps": 0.0, "lr": 0.1, "betas": (0.8, 0.7), "amsgrad": amsgrad, "factors": FACTORS}

    outside, inside, uncorrected = (
        np.array(ORACLES[name](theta0, gradients, epsilon=epsilon, **hyper))
        for epsilon in ("outside", "inside", "uncorrected")
    )

    scale = np.abs(outside - theta0).max()
    assert np.abs(inside - outside).max() <= 1e-12 * scale
    assert np.abs(uncorrected - outside).max() <= 1e-12 * scale


def test_decay_by_the_schedule_is_decay_by_the_rate_with_the_decay_over_the_rate() -> None:
    theta0, gradients = _start_and_gradients(SILENT[1])
    hyper = {"lr": 0.05, "factors": FACTORS}

    schedule = np.array(ORACLES["adamw"](theta0, gradients, weight_decay=0.01, decay_by="schedule", **hyper))
    rate = np.array(ORACLES["adamw"](theta0, gradients, weight_decay=0.2, **hyper))

    assert np.abs(schedule - rate).max() <= 1e-12 * np.abs(rate - theta0).max()


def test_oracles_import_only_numpy_and_the_standard_library() -> None:
    roots = set()
    for file in Path(oracles.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                roots |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                roots.add(str(node.module).partition(".")[0])

    assert roots - sys.stdlib_module_names == {"numpy", "oracles"}

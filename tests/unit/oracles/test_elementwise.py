"""The oracles of elementwise and per-tensor methods: all alike, PyTorch's against its classes."""

import inspect
from collections.abc import Callable

import numpy as np
import pytest
import torch

from noise import SILENT, STEPS, WARMED, Gradients, distance, float64_scalars, label, of_several_sizes
from oracles import (
    adadelta,
    adafactor,
    adamax,
    asgd,
    lamb,
    lars,
    lion,
    nadam,
    radam,
    rprop,
)

__all__ = ["float64_scalars"]  # a fixture

TORCH = {
    "adadelta": torch.optim.Adadelta,
    "adamax": torch.optim.Adamax,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "rprop": torch.optim.Rprop,
    "asgd": torch.optim.ASGD,
    "adafactor": torch.optim.Adafactor,
}
RUNS: dict[str, Callable] = {
    "adadelta": adadelta.run,
    "adamax": adamax.run,
    "nadam": nadam.run,
    "radam": radam.run,
    "rprop": rprop.run,
    "asgd": asgd.run,
    "asgd_evaluated": asgd.evaluated,
    "adafactor": adafactor.run,
    "lion": lion.run,
    "lars": lars.run,
    "lamb": lamb.run,
}

_NADAM_AND_RADAM = [
    {},
    {"lr": 0.1},
    {"betas": (0.5, 0.7)},
    {"betas": (0.0, 0.9)},
    {"betas": (0.8, 0.0)},
    {"betas": (0.9, 0.5)},
    {"eps": 0.1},
    {"weight_decay": 0.3},
    {"weight_decay": 0.3, "decoupled_weight_decay": True, "lr": 0.05},
    {"maximize": True},
    {"maximize": True, "weight_decay": 0.2, "lr": 0.01, "betas": (0.8, 0.99)},
    {"maximize": True, "weight_decay": 0.2, "decoupled_weight_decay": True, "lr": 0.05},
]

CASES = {
    "adadelta": [
        {},
        {"lr": 0.1},
        {"rho": 0.5},
        {"rho": 0.0},
        {"eps": 1e-2},
        {"weight_decay": 0.3},
        {"maximize": True, "weight_decay": 0.5, "rho": 0.95, "eps": 1e-3},
    ],
    "adamax": [
        {},
        {"lr": 0.1},
        {"betas": (0.5, 0.7)},
        {"betas": (0.0, 0.9)},
        {"betas": (0.9, 0.0)},
        {"eps": 0.1},
        {"weight_decay": 0.3},
        {"maximize": True, "weight_decay": 0.5, "lr": 0.05},
    ],
    "nadam": [
        *_NADAM_AND_RADAM,
        {"momentum_decay": 0.0},
        {"momentum_decay": 0.5, "betas": (0.7, 0.9)},
    ],
    "radam": _NADAM_AND_RADAM,
    "rprop": [
        {},
        {"lr": 0.5},
        {"lr": 1e-9},
        {"etas": (0.3, 3.0)},
        {"step_sizes": (5e-3, 2e-2)},
        {"step_sizes": (1e-6, 5e-3)},
        {"maximize": True, "lr": 0.1},
    ],
    "asgd": [
        {},
        {"lr": 0.1, "lambd": 0.1},
        {"lambd": 0.5, "alpha": 0.5, "lr": 0.2},
        {"t0": 0.0},
        {"t0": 20.0},
        {"t0": 7.5, "lambd": 0.1},
        {"t0": -3.0},
        {"weight_decay": 0.3, "t0": 5.0},
        {"maximize": True, "weight_decay": 0.3, "lambd": 0.2, "t0": 10.0, "alpha": 1.0},
    ],
    "adafactor": [
        {},
        {"lr": 0.5},
        {"lr": 1.0},
        {"beta2_decay": -0.3},
        {"beta2_decay": 0.0},
        {"eps": (0.1, 1e-3)},
        {"eps": (3.0, 1e-3)},
        {"eps": (None, 2.0)},
        {"d": 3.0},
        {"weight_decay": 0.3},
        {"maximize": True, "weight_decay": 0.5, "lr": 0.05, "d": 1.5},
    ],
}

# (base, change): with everything else at the base, the change must move the path.
EFFECTS = {
    "adadelta": [
        ({}, {"lr": 0.5}),
        ({}, {"rho": 0.5}),
        ({}, {"eps": 1e-3}),
        ({}, {"weight_decay": 0.1}),
        ({}, {"maximize": True}),
    ],
    "adamax": [
        ({}, {"lr": 4e-3}),
        ({}, {"betas": (0.8, 0.999)}),
        ({}, {"betas": (0.9, 0.9)}),
        ({}, {"eps": 0.1}),
        ({}, {"weight_decay": 0.1}),
        ({}, {"maximize": True}),
    ],
    "nadam": [
        ({}, {"lr": 4e-3}),
        ({}, {"betas": (0.8, 0.999)}),
        ({}, {"betas": (0.9, 0.9)}),
        ({}, {"eps": 0.1}),
        ({}, {"weight_decay": 0.1}),
        ({}, {"momentum_decay": 0.5}),
        ({"weight_decay": 0.1}, {"decoupled_weight_decay": True}),
        ({}, {"maximize": True}),
    ],
    "radam": [
        ({}, {"lr": 4e-3}),
        ({}, {"betas": (0.8, 0.999)}),
        ({}, {"betas": (0.9, 0.9)}),
        ({}, {"eps": 0.1}),
        ({}, {"weight_decay": 0.1}),
        ({"weight_decay": 0.1}, {"decoupled_weight_decay": True}),
        ({}, {"maximize": True}),
    ],
    "rprop": [
        ({}, {"lr": 0.1}),
        ({}, {"etas": (0.4, 1.2)}),
        ({}, {"etas": (0.5, 1.3)}),
        ({}, {"step_sizes": (5e-3, 50.0)}),
        ({}, {"step_sizes": (1e-6, 1e-2)}),
        ({}, {"maximize": True}),
    ],
    "asgd": [
        ({}, {"lr": 2e-2}),
        ({}, {"lambd": 0.1}),
        ({"lambd": 0.1}, {"alpha": 0.5}),
        ({}, {"weight_decay": 0.1}),
        ({}, {"maximize": True}),
    ],
    "asgd_evaluated": [
        ({}, {"lr": 2e-2}),
        ({}, {"lambd": 0.1}),
        ({"lambd": 0.1}, {"alpha": 0.5}),
        ({}, {"t0": 5.0}),
        ({}, {"weight_decay": 0.1}),
        ({}, {"maximize": True}),
    ],
    "adafactor": [
        ({}, {"lr": 2e-2}),
        ({}, {"beta2_decay": -0.5}),
        ({}, {"eps": (3.0, 1e-3)}),
        ({}, {"eps": (None, 2.0)}),
        ({}, {"d": 2.0}),
        ({}, {"weight_decay": 0.1}),
        ({}, {"maximize": True}),
    ],
    "lion": [
        ({}, {"lr": 2e-4}),
        ({}, {"betas": (0.5, 0.99)}),
        ({}, {"betas": (0.9, 0.5)}),
        ({}, {"weight_decay": 1.0}),
        ({}, {"maximize": True}),
    ],
    "lars": [
        ({}, {"lr": 0.2}),
        ({}, {"momentum": 0.5}),
        ({}, {"weight_decay": 0.1}),
        ({}, {"trust_coefficient": 0.01}),
        ({}, {"eps": 1.0}),
        ({}, {"nesterov": True}),
        ({}, {"maximize": True}),
    ],
    "lamb": [
        ({}, {"lr": 2e-3}),
        ({}, {"betas": (0.8, 0.999)}),
        ({}, {"betas": (0.9, 0.9)}),
        ({}, {"eps": 0.1}),
        ({}, {"weight_decay": 0.3}),
        ({}, {"maximize": True}),
    ],
}


def _torch_paths(
    name: str, theta0: np.ndarray, gradients: Gradients, factors: list[float], **hyper: object
) -> tuple[np.ndarray, np.ndarray]:
    """The parameter and, for ASGD, its average after each step; the rate is changed before each."""
    parameter = torch.nn.Parameter(torch.tensor(theta0))
    optimizer = TORCH[name]([parameter], foreach=False, **hyper)
    (group,) = optimizer.param_groups
    rate = group["lr"]
    path, averages = [], []
    for gradient, factor in zip(gradients, factors, strict=True):
        group["lr"] = rate * factor
        parameter.grad = None if gradient is None else torch.tensor(gradient)
        optimizer.step()
        path.append(parameter.detach().numpy().copy())
        averages.append(optimizer.state[parameter].get("ax", parameter.detach()).numpy().copy())
    return np.array(path), np.array(averages)


@pytest.mark.parametrize("factors", [None, WARMED], ids=["constant", "scheduled"])
@pytest.mark.parametrize("silent", [(), SILENT], ids=["every-step", "with-silent-steps"])
@pytest.mark.parametrize(
    ("name", "hyper"), [(name, case) for name, cases in CASES.items() for case in cases], ids=label
)
def test_oracle_equals_torch(
    name: str, hyper: dict, silent: tuple[int, ...], factors: list[float] | None
) -> None:
    theta0, gradients = of_several_sizes(silent)

    expected, averages = _torch_paths(name, theta0, gradients, factors or [1.0] * STEPS, **hyper)
    actual = RUNS[name](theta0, gradients, factors=factors, **hyper)

    assert distance(actual, expected, theta0) <= 1e-12
    if name == "asgd":
        evaluated = asgd.evaluated(theta0, gradients, factors=factors, **hyper)
        assert distance(evaluated, averages, theta0) <= 1e-12


@pytest.mark.parametrize("shape", [(), (5,), (4, 1), (1, 4), (2, 3, 4), (2, 3, 2, 2)], ids=str)
def test_adafactor_factors_the_last_two_axes_as_torch_does(shape: tuple[int, ...]) -> None:
    theta0, gradients = of_several_sizes((3,), shape)
    gradients = [None if g is None else g + 0.1 for g in gradients]  # () and (4, 1) had nothing else

    expected, _ = _torch_paths("adafactor", theta0, gradients, WARMED, lr=0.3)
    actual = adafactor.run(theta0, gradients, factors=WARMED, lr=0.3)

    assert distance(actual, expected, theta0) <= 1e-12


@pytest.mark.parametrize("name", TORCH)
def test_defaults_are_those_of_torch(name: str) -> None:
    theirs = inspect.signature(TORCH[name]).parameters
    ours = _hyperparameters(name)

    assert ours == {key: theirs[key].default for key in ours}


def _hyperparameters(name: str) -> dict[str, object]:
    parameters = inspect.signature(RUNS[name]).parameters
    return {
        key: value.default
        for key, value in parameters.items()
        if key not in ("theta0", "gradients", "factors")
    }


@pytest.mark.parametrize(
    ("name", "base", "change"),
    [(name, base, change) for name, effects in EFFECTS.items() for base, change in effects],
    ids=label,
)
def test_each_hyperparameter_moves_the_path(name: str, base: dict, change: dict) -> None:
    theta0, gradients = of_several_sizes(())

    before = np.array(RUNS[name](theta0, gradients, **base))
    after = np.array(RUNS[name](theta0, gradients, **base, **change))

    # Far above the tolerance of the comparison with torch, which therefore sees a wrong use of it.
    assert np.abs(after - before).max() > 1e-3 * np.abs(before - theta0).max()


@pytest.mark.parametrize("name", RUNS)
def test_effects_cover_every_hyperparameter(name: str) -> None:
    # t0 is in the signature of asgd.run for the sake of one signature; it acts on the average alone.
    idle = {"t0"} if name == "asgd" else set()

    assert {key for _, change in EFFECTS[name] for key in change} == set(_hyperparameters(name)) - idle


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (1, 2, 2)], ids=str)
@pytest.mark.parametrize("name", RUNS)
def test_shape_and_type_are_kept_for_every_shape(name: str, shape: tuple[int, ...]) -> None:
    theta0, gradients = of_several_sizes((0, 3), shape)

    path = RUNS[name](theta0, gradients)

    assert [(type(theta), theta.shape, theta.dtype) for theta in path] == [
        (np.ndarray, shape, np.float64)
    ] * STEPS
    assert np.isfinite(np.array(path)).all()


@pytest.mark.parametrize("name", RUNS)
def test_a_silent_step_leaves_no_trace(name: str) -> None:
    theta0, gradients = of_several_sizes((0, 5, 6, 30))
    hyper = {"weight_decay": 0.1} if "weight_decay" in _hyperparameters(name) else {}
    path = RUNS[name](theta0, gradients, factors=WARMED, **hyper)

    heard = [k for k, gradient in enumerate(gradients) if gradient is not None]
    alone = RUNS[name](theta0, [gradients[k] for k in heard], factors=[WARMED[k] for k in heard], **hyper)

    assert np.array_equal(path[0], theta0)
    assert np.array_equal(path[6], path[4])
    assert np.array_equal(np.array([path[k] for k in heard]), np.array(alone))


@pytest.mark.parametrize("name", RUNS)
def test_inputs_are_left_alone_and_results_share_no_memory(name: str) -> None:
    theta0, gradients = of_several_sizes((0, 5))
    copies = theta0.copy(), [None if g is None else g.copy() for g in gradients]

    path = RUNS[name](theta0, gradients)
    later = path[5].copy()
    path[0][...] = path[4][...] = 1e9  # steps 0 and 5 are silent: equal to their predecessors, not the same

    assert np.array_equal(theta0, copies[0])
    assert all(a is b is None or np.array_equal(a, b) for a, b in zip(gradients, copies[1], strict=True))
    assert np.array_equal(path[5], later)


def test_radam_takes_five_plain_steps_before_it_adapts() -> None:
    """With β₂ = 0.999, ρ_5 < 5 < ρ_6; plain steps by a constant gradient of 4 are 4γ, adapted ones r γ."""
    path = radam.run(np.array(0.0), [np.array(4.0)] * 6, lr=1.0, eps=0.0)

    steps = -np.diff([0.0, *map(float, path)])

    assert steps[:5] == pytest.approx([4.0] * 5, abs=1e-12)
    assert 0 < steps[5] < 0.05  # r_6² ≈ (2 · 4 / 6) / ρ_∞ ≈ 1.33/1999: r_6 ≈ 0.026


def test_rprop_takes_the_rate_at_the_first_step_of_the_parameter_only() -> None:
    gradients = [None, np.array(1.0), np.array(1.0)]

    path = rprop.run(np.array(10.0), gradients, factors=[7.0, 3.0, 100.0], lr=0.5, etas=(0.5, 2.0))

    assert [float(theta) for theta in path] == [10.0, 8.5, 5.5]


def test_asgd_follows_the_rate_one_step_late() -> None:
    path = asgd.run(np.array(10.0), [np.array(1.0)] * 3, factors=[1.0, 2.0, 4.0], lr=1.0, lambd=0.0)

    assert [float(theta) for theta in path] == [9.0, 8.0, 6.0]


def test_adafactor_by_hand() -> None:
    """V = RCᵀ/mean(R) of [[1, 1], [7, 7]]² with R = (1, 49), C = (25, 25) is [[1, 1], [49, 49]]; then U = 1.

    RMS(θ) = 2, so that α = 2γ; the decay of a half leaves 1.
    """
    theta0, gradient = np.full((2, 2), 2.0), np.array([[1.0, 1.0], [7.0, 7.0]])

    (theta,) = adafactor.run(theta0, [gradient], lr=0.25, weight_decay=2.0)

    assert theta == pytest.approx(np.full((2, 2), 0.5), abs=1e-14)

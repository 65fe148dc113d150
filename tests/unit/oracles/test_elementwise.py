"""The oracles of elementwise and per-tensor methods against PyTorch's own classes and numbers by hand."""

import inspect
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch

from oracles import (
    adadelta,
    adafactor,
    adam,
    adamax,
    asgd,
    lamb,
    lars,
    lion,
    nadam,
    radam,
    rprop,
    sgd,
    sparse,
)

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

STEPS = 100
# Steps without a gradient: none; the first, two in a row, one alone and the last.
SILENT = [(), (0, 5, 6, 30, STEPS - 1)]
# A warm-up, a level, a drop, and a rate of zero for one step.
FACTORS = [min(1.0, (k + 1) / 10) * (0.3 if k > 60 else 1.0) * (k != 80) for k in range(STEPS)]

Gradients = list[np.ndarray | None]


@pytest.fixture(autouse=True)
def float64_scalars() -> Iterator[None]:
    """Let PyTorch keep its scalar states (ASGD's η, NAdam's product of μ) in double precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def checked_sparse_tensors() -> Iterator[None]:
    """Let PyTorch check sparse tensors; it warns where nobody has said whether to."""
    with torch.sparse.check_sparse_tensor_invariants(True):
        yield


def _start_and_gradients(
    silent: tuple[int, ...], shape: tuple[int, ...] = (3, 4)
) -> tuple[np.ndarray, Gradients]:
    """A start of order 1 and noisy gradients of several sizes, one column having none at all."""
    rng = np.random.default_rng(20261)
    sizes = 10.0 ** rng.uniform(-2, 1, shape)
    if shape:
        sizes[..., :1] = 0.0
    # A drift beside the noise, so that signs agree often enough for Rprop's steps to grow.
    gradients = [sizes * (0.5 + rng.standard_normal(shape)) for _ in range(STEPS)]
    return rng.standard_normal(shape), [None if k in silent else g for k, g in enumerate(gradients)]


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


def _assert_close(actual: np.ndarray, expected: np.ndarray, theta0: np.ndarray) -> None:
    # The distance travelled, not |θ|, is the scale: a small rate must not hide an error in the direction.
    scale = np.abs(expected - theta0).max()
    assert np.isfinite(expected).all()
    assert scale > 0
    assert np.abs(actual - expected).max() <= 1e-12 * scale


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

    expected, averages = _torch_paths(name, theta0, gradients, factors or [1.0] * STEPS, **hyper)

    _assert_close(np.array(RUNS[name](theta0, gradients, factors=factors, **hyper)), expected, theta0)
    if name == "asgd":
        _assert_close(np.array(asgd.evaluated(theta0, gradients, factors=factors, **hyper)), averages, theta0)


@pytest.mark.parametrize("shape", [(), (5,), (4, 1), (1, 4), (2, 3, 4), (2, 3, 2, 2)], ids=str)
def test_adafactor_factors_the_last_two_axes_as_torch_does(shape: tuple[int, ...]) -> None:
    theta0, gradients = _start_and_gradients((3,), shape)
    gradients = [None if g is None else g + 0.1 for g in gradients]  # () and (4, 1) had nothing else

    expected, _ = _torch_paths("adafactor", theta0, gradients, FACTORS, lr=0.3)

    _assert_close(np.array(adafactor.run(theta0, gradients, factors=FACTORS, lr=0.3)), expected, theta0)


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
    ids=_label,
)
def test_each_hyperparameter_moves_the_path(name: str, base: dict, change: dict) -> None:
    theta0, gradients = _start_and_gradients(())

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
    theta0, gradients = _start_and_gradients((0, 3), shape)

    path = RUNS[name](theta0, gradients)

    assert [(type(theta), theta.shape, theta.dtype) for theta in path] == [
        (np.ndarray, shape, np.float64)
    ] * STEPS
    assert np.isfinite(np.array(path)).all()


@pytest.mark.parametrize("name", RUNS)
def test_a_silent_step_leaves_no_trace(name: str) -> None:
    theta0, gradients = _start_and_gradients((0, 5, 6, 30))
    hyper = {"weight_decay": 0.1} if "weight_decay" in _hyperparameters(name) else {}
    path = RUNS[name](theta0, gradients, factors=FACTORS, **hyper)

    heard = [k for k, gradient in enumerate(gradients) if gradient is not None]
    alone = RUNS[name](theta0, [gradients[k] for k in heard], factors=[FACTORS[k] for k in heard], **hyper)

    assert np.array_equal(path[0], theta0)
    assert np.array_equal(path[6], path[4])
    assert np.array_equal(np.array([path[k] for k in heard]), np.array(alone))


@pytest.mark.parametrize("name", RUNS)
def test_inputs_are_left_alone_and_results_share_no_memory(name: str) -> None:
    theta0, gradients = _start_and_gradients((0, 5))
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


def test_lion_by_hand() -> None:
    """m = 0, then ¼·4 = 1; the second direction is ½·1 - ½·2 < 0. Both steps first halve θ, since γλ = ½."""
    gradients = [np.array(4.0), np.array(-2.0)]

    path = lion.run(np.array(8.0), gradients, lr=1.0, betas=(0.5, 0.75), weight_decay=0.5)
    halved = lion.run(
        np.array(8.0), gradients, factors=[1.0, 0.5], lr=1.0, betas=(0.5, 0.75), weight_decay=0.5
    )

    assert [float(theta) for theta in path] == [3.0, 2.5]
    assert [float(theta) for theta in halved] == [3.0, 2.75]  # ¾ · 3 + ½


@pytest.mark.parametrize("hyper", [{}, {"betas": (0.6, 0.8), "weight_decay": 0.3, "lr": 0.05}], ids=_label)
def test_lion_is_its_recursion_written_out(hyper: dict) -> None:
    theta0, gradients = _start_and_gradients(())
    beta1, beta2 = hyper.get("betas", (0.9, 0.99))
    theta, average, expected = theta0, np.zeros_like(theta0), []
    for gradient, factor in zip(gradients, FACTORS, strict=True):
        rate = hyper.get("lr", 1e-4) * factor
        sign = np.sign(beta1 * average + (1 - beta1) * gradient)
        theta = theta - rate * (sign + hyper.get("weight_decay", 0.0) * theta)
        average = beta2 * average + (1 - beta2) * gradient
        expected.append(theta)

    _assert_close(np.array(lion.run(theta0, gradients, factors=FACTORS, **hyper)), np.array(expected), theta0)


@pytest.mark.parametrize("nesterov", [False, True])
def test_lars_is_its_recursion_written_out(nesterov: bool) -> None:
    theta0, gradients = _start_and_gradients(())
    theta, buffer, expected = theta0, np.zeros_like(theta0), []
    for gradient, factor in zip(gradients, FACTORS, strict=True):
        size = np.linalg.norm(theta)
        trust = 0.1 * size / (np.linalg.norm(gradient) + 0.2 * size + 1e-8)
        move = 0.5 * factor * trust * (gradient + 0.2 * theta)
        buffer = 0.8 * buffer + move
        theta = theta - (move + 0.8 * buffer if nesterov else buffer)
        expected.append(theta)

    hyper = {"lr": 0.5, "momentum": 0.8, "weight_decay": 0.2, "trust_coefficient": 0.1, "nesterov": nesterov}
    _assert_close(np.array(lars.run(theta0, gradients, factors=FACTORS, **hyper)), np.array(expected), theta0)


def test_lion_without_momentum_is_sign_descent() -> None:
    theta0, gradients = _start_and_gradients(())

    path = lion.run(theta0, gradients, factors=FACTORS, betas=(0.0, 0.9))

    expected = theta0 - 1e-4 * np.cumsum([f * np.sign(g) for f, g in zip(FACTORS, gradients, strict=True)], 0)
    _assert_close(np.array(path), expected, theta0)


def test_lars_keeps_the_rate_inside_the_buffer() -> None:
    """‖θ‖ = ‖g‖ = 8 and then 4 = 4 give q = ½: b = 4 and ½·4 + ¼·½·4 = 2.5 (rate outside: ¼·(4 + 2) = 1)."""
    gradients = [np.array(8.0), np.array(4.0)]
    hyper = {"lr": 1.0, "momentum": 0.5, "trust_coefficient": 0.5, "eps": 0.0}

    path = lars.run(np.array(8.0), gradients, factors=[1.0, 0.25], **hyper)

    assert [float(theta) for theta in path] == [4.0, 1.5]


def test_lars_nesterov_and_decay_by_hand() -> None:
    """q = ½·8/(4 + ½·8) = ½, d = ½·(4 + ½·8) = 4, b = 4; Nesterov moves by 4 + ½·4."""
    hyper = {"lr": 1.0, "momentum": 0.5, "trust_coefficient": 0.5, "eps": 0.0, "weight_decay": 0.5}

    (plain,) = lars.run(np.array(8.0), [np.array(4.0)], **hyper)
    (nesterov,) = lars.run(np.array(8.0), [np.array(4.0)], nesterov=True, **hyper)

    assert (float(plain), float(nesterov)) == (4.0, 2.0)


def test_lars_takes_a_ratio_of_one_where_a_norm_is_zero() -> None:
    zero, one = np.zeros(2), np.ones(2)

    assert lars.run(zero, [one], lr=0.5)[0].tolist() == [-0.5, -0.5]
    assert lars.run(one, [zero], lr=0.5, weight_decay=0.5)[0].tolist() == [0.75, 0.75]


def test_lars_without_momentum_moves_by_a_given_part_of_the_norm() -> None:
    theta0, gradients = _start_and_gradients(())

    path = lars.run(theta0, gradients, factors=FACTORS, lr=0.5, momentum=0.0, trust_coefficient=0.1, eps=0.0)

    points = [theta0, *path]
    moved = [np.linalg.norm(b - a) / np.linalg.norm(a) for a, b in pairwise(points)]
    assert moved == pytest.approx([0.05 * f for f in FACTORS], rel=1e-12, abs=1e-15)


def test_lamb_moves_by_a_given_part_of_the_norm_whatever_the_gradients_size() -> None:
    theta0, gradients = _start_and_gradients(())
    gradients = [g + 0.01 for g in gradients]  # no column of zeros, since ε = 0

    path = lamb.run(theta0, gradients, factors=FACTORS, lr=0.1, eps=0.0)
    larger = lamb.run(theta0, [1024 * g for g in gradients], factors=FACTORS, lr=0.1, eps=0.0)

    points = [theta0, *path]
    moved = [np.linalg.norm(b - a) / np.linalg.norm(a) for a, b in pairwise(points)]
    assert moved == pytest.approx([0.1 * f for f in FACTORS], rel=1e-12, abs=1e-15)
    assert np.array_equal(np.array(path), np.array(larger))  # 1024 is a power of two


def test_lamb_by_hand() -> None:
    """θ = (8, 6) has norm 10, r = (1, -1) + ½·(8, 6) = (5, 2)."""
    (theta,) = lamb.run(
        np.array([8.0, 6.0]), [np.array([3.0, -9.0])], lr=1.0, betas=(0.5, 0.75), eps=0.0, weight_decay=0.5
    )

    assert theta == pytest.approx([8 - 50 / np.sqrt(29), 6 - 20 / np.sqrt(29)], abs=1e-14)


def test_lamb_takes_adams_direction_and_a_ratio_of_one_from_zero() -> None:
    theta0, gradients = _start_and_gradients(())
    hyper = {"betas": (0.8, 0.9), "eps": 1e-3}

    first = lamb.run(np.zeros((3, 4)), gradients[:1], lr=0.1, **hyper)
    path = lamb.run(theta0, gradients, lr=0.1, weight_decay=0.0, **hyper)

    assert np.array_equal(first[0], adam.run(np.zeros((3, 4)), gradients[:1], lr=0.1, **hyper)[0])
    ours = np.diff([theta0, *path], axis=0)
    theirs = np.diff([theta0, *adam.run(theta0, gradients, lr=0.1, **hyper)], axis=0)
    ours /= np.linalg.norm(ours, axis=(1, 2), keepdims=True)
    theirs /= np.linalg.norm(theirs, axis=(1, 2), keepdims=True)
    assert ours == pytest.approx(theirs, abs=1e-12)


def test_lamb_stays_where_nothing_pulls() -> None:
    """The norm of r is 0, and so the ratio 1."""
    (theta,) = lamb.run(np.ones(2), [np.zeros(2)], weight_decay=0.0)

    assert theta.tolist() == [1.0, 1.0]


ROWS = 6
SPARSE = {
    "sgd": (sparse.sgd, torch.optim.SGD, [{}, {"lr": 0.3}, {"maximize": True}]),
    "adagrad": (
        sparse.adagrad,
        torch.optim.Adagrad,
        [
            {},
            {"lr_decay": 0.1, "lr": 0.3},
            {"initial_accumulator_value": 0.5},
            {"eps": 0.1},
            {"maximize": True},
        ],
    ),
    "adam": (
        sparse.adam,
        torch.optim.SparseAdam,
        [{}, {"lr": 0.3}, {"betas": (0.5, 0.7)}, {"betas": (0.0, 0.9)}, {"eps": 0.1}, {"maximize": True}],
    ),
}
SPARSE_RUNS = {**{name: entry[0] for name, entry in SPARSE.items()}, "adam_corrected": sparse.adam_corrected}


def _sparse_gradients(rest: tuple[int, ...]) -> tuple[np.ndarray, list[sparse.Pair | None]]:
    """Up to four rows a step, some repeated, row 0 never; steps without gradient, without rows, and zeros."""
    rng = np.random.default_rng(7)
    gradients: list[sparse.Pair | None] = []
    for _ in range(STEPS):
        rows = rng.integers(1, ROWS, rng.integers(1, 5))
        gradients.append((rows, rng.standard_normal((len(rows), *rest))))
    gradients[0] = gradients[40] = gradients[41] = None
    gradients[3] = gradients[50] = (np.zeros(0, dtype=np.int64), np.zeros((0, *rest)))
    gradients[20] = (np.array([2, 2]), np.zeros((2, *rest)))
    return rng.standard_normal((ROWS, *rest)), gradients


def _dense(pair: sparse.Pair | None, like: np.ndarray) -> np.ndarray | None:
    if pair is None:
        return None
    dense = np.zeros_like(like)
    np.add.at(dense, *pair)
    return dense


@pytest.mark.parametrize("rest", [(), (3,), (2, 2)], ids=str)
@pytest.mark.parametrize(
    ("name", "hyper"), [(name, case) for name, entry in SPARSE.items() for case in entry[2]], ids=_label
)
@pytest.mark.usefixtures("checked_sparse_tensors")
def test_sparse_oracle_equals_torch_on_sparse_gradients(
    name: str, hyper: dict, rest: tuple[int, ...]
) -> None:
    run, optimizer_class, _ = SPARSE[name]
    theta0, gradients = _sparse_gradients(rest)
    parameter = torch.nn.Parameter(torch.tensor(theta0))
    optimizer = optimizer_class([parameter], **hyper)
    (group,) = optimizer.param_groups
    rate = group["lr"]
    expected = []
    for gradient, factor in zip(gradients, FACTORS, strict=True):
        group["lr"] = rate * factor
        parameter.grad = None
        if gradient is not None:
            rows, values = map(torch.tensor, gradient)
            parameter.grad = torch.sparse_coo_tensor(rows[None], values, theta0.shape)
        optimizer.step()
        expected.append(parameter.detach().numpy().copy())

    actual = run(theta0, gradients, factors=FACTORS, **hyper)

    _assert_close(np.array(actual), np.array(expected), theta0)


@pytest.mark.parametrize(
    ("name", "dense"),
    [
        ("sgd", lambda *a, **k: sgd.run(*a, momentum=0.7, **k)),
        ("adam", lambda *a, **k: adam.run(*a, eps=0.1, epsilon="uncorrected", **k)),
        ("adam_corrected", lambda *a, **k: adam.run(*a, eps=0.1, **k)),
    ],
)
def test_where_every_row_occurs_the_lazy_form_is_the_dense_one(name: str, dense: Callable) -> None:
    theta0, gradients = _start_and_gradients((0, 5))
    pairs = [None if g is None else (np.array([2, 0, 1, 0]), g[[2, 0, 1, 0]] / 2) for g in gradients]
    # Row 0 twice at half its size is row 0; rows 1 and 2 have halves.
    halved = [None if g is None else g * np.array([[1.0], [0.5], [0.5]]) for g in gradients]
    hyper = {"momentum": 0.7} if name == "sgd" else {"eps": 0.1}

    actual = SPARSE_RUNS[name](theta0, pairs, factors=FACTORS, **hyper)

    _assert_close(np.array(actual), np.array(dense(theta0, halved, factors=FACTORS)), theta0)


@pytest.mark.parametrize("name", SPARSE_RUNS)
def test_rows_that_do_not_occur_stay(name: str) -> None:
    hyper = {"momentum": 0.9} if name == "sgd" else {}
    theta0, gradients = _sparse_gradients((3,))

    points = [theta0, *SPARSE_RUNS[name](theta0, gradients, **hyper)]

    for before, after, gradient in zip(points[:-1], points[1:], gradients, strict=True):
        occurs = set() if gradient is None else set(gradient[0].tolist())
        moved = set(np.flatnonzero((before != after).any(axis=1)).tolist())
        assert moved <= occurs
    assert np.array_equal(points[-1][0], theta0[0])
    assert (points[-1][1:] != theta0[1:]).all()


def test_lazy_adam_corrects_for_the_steps_of_the_parameter_by_hand() -> None:
    """Row 1 occurs at t = 2 for the first time: with β₁ = β₂ = ½, m = 3, v = 18 and both corrections are ¾.

    So m̂ = 4 and √v̂ = √24; the uncorrected form has √¾/¾ · 3/(√18 + ε).
    """
    gradients = [(np.array([0]), np.array([1.0])), (np.array([1]), np.array([6.0]))]
    hyper = {"lr": 1.0, "betas": (0.5, 0.5), "eps": 2.0}

    corrected = sparse.adam_corrected(np.zeros(2), gradients, **hyper)[-1]
    uncorrected = sparse.adam(np.zeros(2), gradients, **hyper)[-1]

    assert corrected[1] == pytest.approx(-4 / (np.sqrt(24) + 2), abs=1e-14)
    assert uncorrected[1] == pytest.approx(-np.sqrt(0.75) / 0.75 * 3 / (np.sqrt(18) + 2), abs=1e-14)


def test_lazy_momentum_decays_with_the_rows_own_steps() -> None:
    """Row 1 moves by 4, rests, then by ½·4 + 0; in PyTorch its buffer would have moved it in between."""
    gradients = [(np.array([1]), np.array([4.0])), (np.array([0]), np.array([1.0]))]
    gradients += [(np.array([1]), np.array([0.0]))]

    path = sparse.sgd(np.zeros(2), gradients, lr=1.0, momentum=0.5)

    assert [theta.tolist() for theta in path] == [[0.0, -4.0], [-1.0, -4.0], [-1.0, -6.0]]


@pytest.mark.parametrize("name", SPARSE_RUNS)
def test_sparse_inputs_are_left_alone(name: str) -> None:
    theta0, gradients = _sparse_gradients((3,))
    copies = theta0.copy(), [None if g is None else (g[0].copy(), g[1].copy()) for g in gradients]

    path = SPARSE_RUNS[name](theta0, gradients, maximize=True)
    path[0][...] = 1e9

    assert np.array_equal(theta0, copies[0])
    for gradient, copy in zip(gradients, copies[1], strict=True):
        assert gradient is copy is None or all(map(np.array_equal, gradient, copy))
    assert (np.abs(path[1]) < 1e9).all()

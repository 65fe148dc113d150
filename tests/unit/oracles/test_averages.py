"""The averages' oracle and SAM's gradient, against PyTorch, SciPy, and numbers worked out by hand."""

import ast
import inspect
import sys

import numpy as np
import pytest
import torch
from scipy import optimize

from oracles import averages, wrappers
from oracles.wrappers import evaluated, run, sam_gradient

SHAPES = {"weight": (3, 4), "bias": (3,), "scale": ()}
STEPS = 100


def start_values():
    random = np.random.default_rng(7)
    return {name: random.normal(size=shape) for name, shape in SHAPES.items()}


def gradient_values():
    random = np.random.default_rng(8)
    return [{name: random.normal(size=shape) for name, shape in SHAPES.items()} for _ in range(STEPS)]


def assert_same(ours, theirs):
    for number, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        for name in SHAPES:
            # Sums of up to a hundred terms in another order: a few hundred roundings of 1e-16.
            np.testing.assert_allclose(
                mine[name], other[name], rtol=1e-12, atol=1e-14, err_msg=f"{name}, {number}"
            )


def one(theta, gradients, *around, values=None, show=run):
    """Walk one parameter by gradient descent, at rate 1 unless told otherwise."""
    path = show(
        {"w": np.array(theta)},
        [{"w": None if g is None else np.array(g)} for g in gradients],
        method="sgd",
        method_values=values or {"lr": 1.0},
        wrappers=list(around),
    )
    return [float(thetas["w"]) for thetas in path]


# Averages


def averaged_by_torch(gradients, average, first_step):
    """PyTorch's AveragedModel around Adam, from ``first_step`` on (0: from the start)."""
    parameters = torch.nn.ParameterDict({name: torch.tensor(x) for name, x in start_values().items()})
    averaged = torch.optim.swa_utils.AveragedModel(parameters, avg_fn=average)
    if first_step == 0:
        averaged.update_parameters(parameters)
    optimizer = torch.optim.Adam(parameters.values(), lr=0.1, foreach=False)
    path = []
    for number, gradient in enumerate(gradients, start=1):
        for name, parameter in parameters.items():
            parameter.grad = torch.tensor(gradient[name])
        optimizer.step()
        if number >= first_step:
            averaged.update_parameters(parameters)
        shown = averaged.module if number >= first_step else parameters
        path.append({name: shown[name].detach().numpy().copy() for name in SHAPES})
    return path


@pytest.mark.parametrize(
    ("around", "average", "first_step"),
    [
        (("ema", {"memory": 0.9}), torch.optim.swa_utils.get_ema_avg_fn(0.9), 0),
        (("swa", {}), torch.optim.swa_utils.get_swa_avg_fn(), 1),
        (("swa", {"start": 40}), torch.optim.swa_utils.get_swa_avg_fn(), 41),
    ],
)
def test_averages_are_those_of_torchs_averaged_model(around, average, first_step):
    gradients = gradient_values()
    settings = {"method": "adam", "method_values": {"lr": 0.1}}
    ours = evaluated(start_values(), gradients, wrappers=[around], **settings)
    assert_same(ours, averaged_by_torch(gradients, average, first_step))
    # Averages look on: what is trained does not notice.
    assert_same(
        run(start_values(), gradients, wrappers=[around], **settings),
        run(start_values(), gradients, **settings),
    )


def test_ema_is_its_recursion_with_and_without_correction():
    path = [np.array([float(t), 3.0 - t * t]) for t in range(1, 51)]
    plain, from_zero = np.array([7.0, 7.0]), np.zeros(2)
    for t, theta in enumerate(path, start=1):
        plain = 0.8 * plain + 0.2 * theta
        from_zero = 0.8 * from_zero + 0.2 * theta
        ours = averages.exponential(np.array([7.0, 7.0]), path[:t], memory=0.8)
        np.testing.assert_allclose(ours, plain, rtol=1e-12)
        ours = averages.exponential(np.array([7.0, 7.0]), path[:t], memory=0.8, corrected=True)
        np.testing.assert_allclose(ours, from_zero / (1 - 0.8**t), rtol=1e-12)


def test_averages_count_a_parameters_own_steps():
    gradients = [None, 2.0, None, 2.0, 2.0]  # θ: 10, 8, 8, 6, 4
    ema = one(10.0, gradients, ("ema", {"memory": 0.5}), show=evaluated)
    assert ema == [10.0, 9.0, 9.0, 7.5, 5.75]
    corrected = one(10.0, gradients[:4], ("ema", {"memory": 0.5, "corrected": True}), show=evaluated)
    assert corrected == pytest.approx([10.0, 8.0, 8.0, 20 / 3], rel=1e-15)  # (0.25·8 + 0.5·6)/0.75
    swa = one(10.0, gradients, ("swa", {"start": 1}), show=evaluated)
    assert swa == [10.0, 8.0, 8.0, 6.0, 5.0]


def test_swa_takes_each_so_many_steps_after_its_start():
    shown = one(0.0, [-1.0] * 7, ("swa", {"start": 2, "every": 2}), show=evaluated)  # θ = 1 ... 7
    assert shown == [1.0, 2.0, 3.0, 4.0, 4.0, 5.0, 5.0]


def test_lookahead_pulls_the_parameter_back_after_so_many_own_steps():
    around = ("lookahead", {"every": 2, "alpha": 0.25})
    gradients = [-4.0, None, -4.0, -4.0, -4.0]
    assert one(0.0, gradients, around) == [4.0, 4.0, 2.0, 6.0, 4.0]  # φ: 0 → 2 → 4
    assert one(0.0, gradients, around, show=evaluated) == [0.0, 0.0, 2.0, 2.0, 4.0]


def test_lookahead_defaults_to_five_steps_and_a_half_and_leaves_momentum_alone():
    walked = one(0.0, [-1.0] + [0.0] * 5, ("lookahead", {}), values={"lr": 1.0, "momentum": 1.0})
    assert walked == [1.0, 2.0, 3.0, 4.0, 2.5, 3.5]


def test_an_average_over_lookahead_sees_the_synchronised_parameter():
    around = (("ema", {"memory": 0.5}), ("lookahead", {"every": 2, "alpha": 0.25}))
    assert one(0.0, [-4.0, -4.0], *around, show=evaluated) == [2.0, 2.0]  # of 0; 4, then 2 (not 8)


def test_without_averages_one_evaluates_what_one_trains():
    settings = {"method": "lion", "method_values": {"lr": 0.1}}
    trained = run(start_values(), gradient_values(), **settings)
    assert_same(evaluated(start_values(), gradient_values(), **settings), trained)


# Sharpness


def bowl(at):
    """Gradient of ½(a² + 4b²)."""
    return {"a": at["a"], "b": 4 * at["b"]}


def test_sam_climbs_along_the_joint_gradient():
    # g = (3, 4): e = 0.5·(0.6, 0.8).
    at = sam_gradient(bowl, {"a": np.array(3.0), "b": np.array(1.0)}, 0.5, False)
    assert float(at["a"]) == pytest.approx(3.3, rel=1e-15)
    assert float(at["b"]) == pytest.approx(4 * 1.4, rel=1e-15)


def test_asam_climbs_in_proportion_to_the_parameters():
    # T = (3, 1), g = (3, 4), Tg = (9, 4), T²g = (27, 4).
    at = sam_gradient(bowl, {"a": np.array(3.0), "b": np.array(1.0)}, 0.5, True, eta=0.0)
    assert float(at["a"]) == pytest.approx(3 + 13.5 / np.sqrt(97), rel=1e-15)
    assert float(at["b"]) == pytest.approx(4 * (1 + 2 / np.sqrt(97)), rel=1e-15)


def test_asam_of_a_scaled_parameter_climbs_as_much_in_proportion():
    # The same loss in a' = 2a: g' = g/2, T' = 2T, so T'g' = Tg and e' = 2e. Its gradient is half as large.
    plain = sam_gradient(bowl, {"a": np.array(3.0), "b": np.array(1.0)}, 0.5, True, eta=0.0)
    scaled = sam_gradient(
        lambda at: {"a": at["a"] / 4, "b": 4 * at["b"]},
        {"a": np.array(6.0), "b": np.array(1.0)},
        0.5,
        True,
        eta=0.0,
    )
    assert float(scaled["a"]) == pytest.approx(float(plain["a"]) / 2, rel=1e-15)
    assert float(scaled["b"]) == pytest.approx(float(plain["b"]), rel=1e-15)


def test_asam_moves_a_zero_parameter_by_eta_only():
    # One parameter: e = ρT²g/|Tg| = ±ρT, T = 0.01.
    at = sam_gradient(lambda at: {"w": at["w"] - 1.0}, {"w": np.array(0.0)}, 0.5, True)
    assert float(at["w"]) == pytest.approx(-0.005 - 1.0, rel=1e-15)


def test_sam_leaves_what_has_no_gradient_and_a_stationary_point():
    def one_sided(at):
        return {"a": at["a"] * at["b"], "b": None}

    at = sam_gradient(one_sided, {"a": np.array(2.0), "b": np.array(3.0)}, 0.5)
    assert float(at["a"]) == 7.5
    assert at["b"] is None
    still = sam_gradient(bowl, {"a": np.array(0.0), "b": np.array(0.0)}, 0.5)
    assert (float(still["a"]), float(still["b"])) == (0.0, 0.0)


@pytest.mark.parametrize("adaptive", [False, True])
def test_sams_ascent_is_the_worst_of_its_ball_for_a_linear_loss(adaptive):
    # Over ‖e/T‖ ≤ ρ the linear loss gᵀe is largest at SAM's e, with value ρ‖Tg‖: found by SciPy here.
    theta, g = np.array([2.0, -0.5, 1.0]), np.array([1.0, 3.0, -2.0])
    scale = np.abs(theta) + 0.01 if adaptive else np.ones(3)
    seen = []

    def gradient(at):
        seen.append(at["w"])
        return {"w": g}

    sam_gradient(gradient, {"w": theta}, 0.3, adaptive)
    worst = optimize.minimize(
        lambda e: -g @ e,
        np.zeros(3),
        constraints={"type": "ineq", "fun": lambda e: 0.3**2 - np.sum((e / scale) ** 2)},
        method="SLSQP",
        options={"ftol": 1e-14},
    )
    np.testing.assert_allclose(seen[1] - theta, worst.x, atol=1e-5)


# Independence


@pytest.mark.parametrize("module", [averages, wrappers])
def test_the_oracle_imports_numpy_and_the_standard_library_only(module):
    tree = ast.parse(inspect.getsource(module))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    roots = {name.partition(".")[0] for name in names}
    assert roots - set(sys.stdlib_module_names) <= {"numpy", "oracles"}

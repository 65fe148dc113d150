"""The oracles with sequences, estimates of the rate, matrices or curvature.

Against hand-worked numbers, closed forms, torch.optim where PyTorch has the method, and end points computed
with the authors' own packages in double precision.
"""

import math

import numpy as np
import pytest
import torch

from oracles import adam, dadaptation, muon, prodigy, schedule_free, sgd, shampoo, soap, sophia

STEPS = 100
# The schedule's factor changes twice on the way.
FACTORS = [1.0] * 40 + [0.5] * 30 + [0.1] * 30
SILENT = (0, 5, 6, 30, STEPS - 1)

SINGLE = {
    "schedule_free.sgd": schedule_free.sgd,
    "schedule_free.sgd_evaluated": schedule_free.sgd_evaluated,
    "schedule_free.adamw": schedule_free.adamw,
    "schedule_free.adamw_evaluated": schedule_free.adamw_evaluated,
    "muon": muon.run,
    "shampoo": shampoo.run,
    "soap": soap.run,
    "sophia": lambda theta0, gradients, **hyper: sophia.run(
        theta0, gradients, hessians=[None if g is None else g**2 for g in gradients], **hyper
    ),
}
GLOBAL = {"prodigy": prodigy.run, "dadaptation.adam": dadaptation.adam, "dadaptation.sgd": dadaptation.sgd}


def _start_and_gradients(shape: tuple[int, ...] = (3, 4), silent: tuple[int, ...] = (), steps: int = STEPS):
    rng = np.random.default_rng(20261)
    start = rng.standard_normal(shape)
    gradients = [rng.standard_normal(shape) for _ in range(steps)]
    return start, [None if k in silent else g for k, g in enumerate(gradients)]


def _global_problem() -> tuple[dict, list[dict], list[float]]:
    """Two parameters, one of which is silent at the first step and twice later; the rate falls twice."""
    gradients = [
        {
            "w": np.array([2 + math.cos(i), -1 + math.sin(2 * i)]),
            "b": None if i in (0, 7, 8) else np.array(0.5 + math.cos(3 * i)),
        }
        for i in range(40)
    ]
    return {"w": np.array([1.0, -2.0]), "b": np.array(0.5)}, gradients, [1.0] * 15 + [0.5] * 10 + [0.1] * 15


def _distance(actual: list[np.ndarray], expected: list[np.ndarray], start: np.ndarray) -> float:
    """The largest difference, in units of the distance travelled."""
    scale = np.abs(np.array(expected) - start).max()
    assert np.isfinite(scale)
    assert scale > 0
    return float(np.abs(np.array(actual) - np.array(expected)).max() / scale)


# All of them.


@pytest.mark.parametrize("name", SINGLE)
def test_a_silent_step_leaves_no_trace(name: str) -> None:
    theta0, gradients = _start_and_gradients(silent=SILENT)
    heard = [k for k in range(STEPS) if k not in SILENT]

    path = SINGLE[name](theta0, gradients, weight_decay=0.1, factors=FACTORS)
    alone = SINGLE[name](
        theta0, [gradients[k] for k in heard], weight_decay=0.1, factors=[FACTORS[k] for k in heard]
    )

    assert np.array_equal(path[0], theta0)
    assert np.array_equal(path[6], path[4])
    assert np.array_equal(np.array([path[k] for k in heard]), np.array(alone))
    assert np.abs(path[-1] - theta0).max() > 0


@pytest.mark.parametrize("name", SINGLE)
def test_maximize_turns_the_gradient_and_not_the_decay(name: str) -> None:
    theta0, gradients = _start_and_gradients(steps=30)

    up = SINGLE[name](theta0, gradients, weight_decay=0.1, maximize=True)
    down = SINGLE[name](theta0, [-g for g in gradients], weight_decay=0.1)

    assert np.array_equal(np.array(up), np.array(down))


@pytest.mark.parametrize("name", SINGLE)
def test_a_factor_multiplies_the_rate(name: str) -> None:
    theta0, gradients = _start_and_gradients(steps=30)

    by_factor = SINGLE[name](theta0, gradients, lr=0.5, factors=[0.25] * 30)
    by_rate = SINGLE[name](theta0, gradients, lr=0.125)

    assert np.array_equal(np.array(by_factor), np.array(by_rate))


@pytest.mark.parametrize("name", SINGLE)
def test_inputs_are_left_alone_and_results_share_no_memory(name: str) -> None:
    theta0, gradients = _start_and_gradients(silent=SILENT, steps=10)
    copies = theta0.copy(), [None if g is None else g.copy() for g in gradients]

    path = SINGLE[name](theta0, gradients)
    later = path[5].copy()
    path[0][...] = path[4][...] = 1e9

    assert np.array_equal(theta0, copies[0])
    assert all(a is b is None or np.array_equal(a, b) for a, b in zip(gradients, copies[1], strict=True))
    assert np.array_equal(path[5], later)


@pytest.mark.parametrize("name", ["muon", "shampoo", "soap"])
def test_more_than_two_axes_are_a_matrix_of_the_first_axis_and_the_rest(name: str) -> None:
    theta0, gradients = _start_and_gradients((2, 3, 2), steps=30)

    path = SINGLE[name](theta0, gradients)
    flat = SINGLE[name](theta0.reshape(2, 6), [g.reshape(2, 6) for g in gradients])

    assert np.array_equal(np.array(path), np.array(flat).reshape(-1, 2, 3, 2))


@pytest.mark.parametrize("name", ["muon", "shampoo"])
def test_a_vector_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"two axes or more; got shape \(3,\)"):
        SINGLE[name](np.zeros(3), [np.ones(3)])


@pytest.mark.parametrize("name", GLOBAL)
def test_a_step_without_any_gradient_or_of_rate_0_leaves_no_trace(name: str) -> None:
    theta0, gradients, factors = _global_problem()
    nothing = {"w": None, "b": None}
    longer = [*gradients[:5], nothing, gradients[5], *gradients[5:]]

    path = GLOBAL[name](theta0, gradients, factors=factors, weight_decay=0.1, d0=1e-3, growth_rate=1.2)
    padded = GLOBAL[name](
        theta0,
        longer,
        factors=[*factors[:5], 1.0, 0.0, *factors[5:]],
        weight_decay=0.1,
        d0=1e-3,
        growth_rate=1.2,
    )

    for key in theta0:
        values = [theta[key] for theta in padded]
        assert np.array_equal(values[5], values[4])
        assert np.array_equal(values[6], values[4])
        assert np.array_equal([*values[:5], *values[7:]], [theta[key] for theta in path])


@pytest.mark.parametrize("name", GLOBAL)
def test_the_rate_is_one_for_all_parameters(name: str) -> None:
    """One parameter cut into two named pieces moves as before."""
    _, gradients, factors = _global_problem()
    gradients = [step["w"] for step in gradients]
    start = np.array([1.0, -2.0])
    hyper = {"weight_decay": 0.1, "d0": 1e-3, "growth_rate": 1.5, "factors": factors}

    whole = GLOBAL[name]({"w": start}, [{"w": g} for g in gradients], **hyper)
    pieces = GLOBAL[name](
        {"x": start[:1], "y": start[1:]}, [{"x": g[:1], "y": g[1:]} for g in gradients], **hyper
    )

    joined = [np.concatenate([theta["x"], theta["y"]]) for theta in pieces]
    assert _distance(joined, [theta["w"] for theta in whole], start) < 1e-11


@pytest.mark.parametrize("name", GLOBAL)
def test_a_parameter_without_gradient_neither_moves_nor_counts(name: str) -> None:
    theta0, gradients, _ = _global_problem()
    mute = [{"w": step["w"], "b": None} for step in gradients]

    path = GLOBAL[name](theta0, mute, weight_decay=0.1, d0=1e-3, growth_rate=1.2)
    alone = GLOBAL[name](
        {"w": theta0["w"]}, [{"w": g["w"]} for g in mute], weight_decay=0.1, d0=1e-3, growth_rate=1.2
    )

    assert all(np.array_equal(theta["b"], theta0["b"]) for theta in path)
    assert np.array_equal([theta["w"] for theta in path], [theta["w"] for theta in alone])


@pytest.mark.parametrize("name", GLOBAL)
def test_maximize_turns_the_gradients_and_not_the_decay_of_global_methods(name: str) -> None:
    theta0, gradients, _ = _global_problem()
    turned = [{key: None if g is None else -g for key, g in step.items()} for step in gradients]
    hyper = {"weight_decay": 0.1, "d0": 1e-3, "growth_rate": 1.2}

    up = GLOBAL[name](theta0, gradients, maximize=True, **hyper)
    down = GLOBAL[name](theta0, turned, **hyper)

    assert all(np.array_equal(a[key], b[key]) for a, b in zip(up, down, strict=True) for key in theta0)


# Schedule-free.


def test_schedule_free_with_beta_0_is_gradient_descent_and_its_mean() -> None:
    theta0, gradients = _start_and_gradients()

    trained = schedule_free.sgd(theta0, gradients, lr=0.1, momentum=0.0)
    evaluated = schedule_free.sgd_evaluated(theta0, gradients, lr=0.1, momentum=0.0)
    plain = np.array(sgd.run(theta0, gradients, lr=0.1))

    assert _distance(trained, plain, theta0) < 1e-13
    assert _distance(evaluated, [plain[: k + 1].mean(axis=0) for k in range(STEPS)], theta0) < 1e-13


def test_schedule_free_weights_by_hand() -> None:
    """Warm-up over 2 steps: rates ½, 1, so z = 9½, 8½; weights 1·½ and 2·1 (r = 1, power 1)."""
    hyper = {"momentum": 0.5, "warmup_steps": 2, "r": 1.0, "weight_lr_power": 1.0}
    gradients = [np.array(1.0)] * 2

    evaluated = schedule_free.sgd_evaluated(np.array(10.0), gradients, **hyper)
    trained = schedule_free.sgd(np.array(10.0), gradients, **hyper)

    assert [float(x) for x in evaluated] == pytest.approx([9.5, 8.7], abs=1e-14)
    assert [float(y) for y in trained] == pytest.approx([9.5, 8.6], abs=1e-14)


def test_schedule_free_decay_is_taken_where_the_gradient_is() -> None:
    """z: 10 - 1 - ½·10 = 4 = x = y, then 4 - 1 - ½·4 = 1; x = 2½; y = ¾·1 + ¼·2½."""
    path = schedule_free.sgd(np.array(10.0), [np.array(1.0)] * 2, momentum=0.25, weight_decay=0.5)

    assert [float(y) for y in path] == pytest.approx([4.0, 1.375], abs=1e-14)


def test_schedule_free_stays_while_all_weights_are_0() -> None:
    path = schedule_free.sgd(np.array(10.0), [np.array(1.0)] * 2, factors=[0.0, 1.0], momentum=0.5)

    assert [float(y) for y in path] == [10.0, 9.0]


@pytest.mark.parametrize("silent", [(), SILENT])
def test_schedule_free_equals_the_form_that_keeps_no_average(silent: tuple[int, ...]) -> None:
    """Only y and z are kept: y moves a part c of the way to the old z, then by γ(β(1-c) - 1)u."""
    theta0, gradients = _start_and_gradients(silent=silent)
    beta, lr, decay, warmup, r, power = 0.9, 0.3, 0.1, 12, 0.5, 2.0

    y, z, v = theta0.copy(), theta0.copy(), np.zeros_like(theta0)
    total, largest, t = 0.0, 0.0, 0
    trained, evaluated = [], []
    for g, factor in zip(gradients, FACTORS, strict=True):
        if g is not None:
            t += 1
            v = 0.95 * v + 0.05 * g * g
            u = g / (np.sqrt(v / (1 - 0.95**t)) + 1e-6) + decay * y
            rate = lr * factor * min(1.0, t / warmup)
            largest = max(largest, rate)
            weight = t**r * largest**power
            total += weight
            c = weight / total
            y = y + c * (z - y) + rate * (beta * (1 - c) - 1) * u
            z = z - rate * u
        trained.append(y)
        evaluated.append(y + (1 - 1 / beta) * (z - y))

    hyper = {
        "factors": FACTORS,
        "lr": lr,
        "betas": (beta, 0.95),
        "eps": 1e-6,
        "weight_decay": decay,
        "warmup_steps": warmup,
        "r": r,
        "weight_lr_power": power,
    }
    assert _distance(schedule_free.adamw(theta0, gradients, **hyper), trained, theta0) < 1e-12
    assert _distance(schedule_free.adamw_evaluated(theta0, gradients, **hyper), evaluated, theta0) < 1e-12


OTHERS = {"momentum": 0.5, "weight_decay": 0.1, "warmup_steps": 10, "r": 1.0, "weight_lr_power": 1.0}
OTHERS_ADAMW = {key: value for key, value in OTHERS.items() if key != "momentum"}


@pytest.mark.parametrize(
    ("trained", "evaluated", "hyper", "y", "x"),
    [
        (
            schedule_free.sgd,
            schedule_free.sgd_evaluated,
            {},
            [-2.2478397215833392, -0.45841495735597076],
            [-2.1215735054309524, -0.5201823179778731],
        ),
        (
            schedule_free.sgd,
            schedule_free.sgd_evaluated,
            OTHERS,
            [-2.1017511399473654, -0.25362800167298355],
            [-1.8540986367283523, -0.3910763681865353],
        ),
        (
            schedule_free.adamw,
            schedule_free.adamw_evaluated,
            {},
            [-0.42608712016834427, -0.6930534899890012],
            [-0.36772090742770835, -0.7440587510209463],
        ),
        (
            schedule_free.adamw,
            schedule_free.adamw_evaluated,
            OTHERS_ADAMW | {"betas": (0.5, 0.9), "eps": 1e-3},
            [-0.5120624927147837, -0.5250351659808448],
            [-0.3898232707843331, -0.6401214042723855],
        ),
    ],
)
def test_schedule_free_ends_where_schedulefree_1_4_1_does(trained, evaluated, hyper, y, x) -> None:
    theta0, steps, factors = _global_problem()
    gradients = [step["w"] for step in steps]

    # The package moves y in place and recovers x from it, which costs digits.
    assert trained(theta0["w"], gradients, factors=factors, lr=0.1, **hyper)[-1] == pytest.approx(
        y, rel=1e-11
    )
    assert evaluated(theta0["w"], gradients, factors=factors, lr=0.1, **hyper)[-1] == pytest.approx(
        x, rel=1e-11
    )


# Estimates of the rate. The end points are those of the authors' packages in double precision.


@pytest.mark.parametrize(
    ("hyper", "end"),
    [
        ({}, [-18563.225826303194, 16557.41380614461, -14124.468816123212]),
        (
            {"betas": (0.8, 0.95), "weight_decay": 0.05, "d0": 1e-3, "use_bias_correction": True},
            [-7.636175544121718, 5.745723142015772, -4.984226018928503],
        ),
        (
            {"safeguard_warmup": True, "d_coef": 0.5, "beta3": 0.9, "eps": 1e-3, "lr": 0.5},
            [0.9988601234929637, -1.9990313553476764, 0.4993132212287194],
        ),
        (
            {"growth_rate": 1.2, "d0": 1e-4},
            [0.4854827747130658, -1.5549200828421743, 0.1402609471836591],
        ),
    ],
)
def test_prodigy_ends_where_prodigyopt_1_1_does(hyper: dict, end: list[float]) -> None:
    theta0, gradients, factors = _global_problem()

    last = prodigy.run(theta0, gradients, factors=factors, **hyper)[-1]

    assert [*last["w"], float(last["b"])] == pytest.approx(end, rel=1e-11)


ADAM_ENDS = [
    (
        {"growth_rate": 1.2, "d0": 1e-4},
        [0.7701433390121345, -1.7985515526614855, 0.3639113088910885],
    ),
    (
        {"betas": (0.8, 0.95), "weight_decay": 0.05, "d0": 1e-3, "use_bias_correction": True},
        [-1.6494949661554659, 0.39019967296718466, -1.04225759292512],
    ),
    (
        {"decouple": True, "weight_decay": 0.2, "eps": 1e-3, "lr": 0.5, "d0": 1e-3, "growth_rate": 1.2},
        [-0.14305340947108852, -0.9137804308926345, -0.17205935784402432],
    ),
]
SGD_ENDS = [
    ({}, [0.990086158200792, -1.9952270162617065, 0.49787011408306814]),
    (
        {"momentum": 0.9, "weight_decay": 0.05, "d0": 1e-3},
        [-6.279022530877671, 2.022003168301773, -1.2054327516618255],
    ),
    ({"lr": 0.5, "d0": 0.1}, [-14.051423036288595, 5.403111685652561, -2.807148839447172]),
    (
        {"growth_rate": 1.2, "d0": 1e-4, "momentum": 0.5},
        [0.9724815285570717, -1.9865842106968805, 0.4938540692379063],
    ),
]


@pytest.mark.parametrize(
    ("method", "hyper", "end"),
    [(dadaptation.adam, *case) for case in ADAM_ENDS] + [(dadaptation.sgd, *case) for case in SGD_ENDS],
)
def test_d_adaptation_ends_where_dadaptation_3_2_does(method, hyper: dict, end: list[float]) -> None:
    theta0, gradients, factors = _global_problem()

    last = method(theta0, gradients, factors=factors, **hyper)[-1]

    assert [*last["w"], float(last["b"])] == pytest.approx(end, rel=1e-11)


def test_prodigy_by_hand() -> None:
    """β = (0, 0), β₃ = 1, d0 = 1, g = 1: d̂ = 0, 1/2, (1 + 2)/3, (1 + 2 + 3)/4; the rate is the old d, so that
    only the fifth step is 1½ long."""
    path = prodigy.run(
        {"w": np.array(0.0)}, [{"w": np.array(1.0)}] * 5, betas=(0.0, 0.0), beta3=1.0, eps=0.0, d0=1.0
    )

    assert [float(theta["w"]) for theta in path] == pytest.approx([-1.0, -2.0, -3.0, -4.0, -5.5], abs=1e-14)


def test_prodigy_takes_the_new_estimate_into_eps_and_not_into_the_rate() -> None:
    """As above with ε = ½: steps 1/(1 + ½) = ⅔ while d is 1, d̂ = ⅔·(0 + 1 + ... + (k-1))/k = (k-1)/3, so that
    d becomes 4/3 at the fifth step, which is 1·1/(1 + ½·4/3) = ⅗ long."""
    path = prodigy.run(
        {"w": np.array(0.0)}, [{"w": np.array(1.0)}] * 5, betas=(0.0, 0.0), beta3=1.0, eps=0.5, d0=1.0
    )

    assert [float(theta["w"]) for theta in path] == pytest.approx(
        [-2 / 3, -4 / 3, -2.0, -8 / 3, -8 / 3 - 3 / 5], abs=1e-14
    )


def test_prodigy_remembers_an_estimate_that_growth_rate_held_back() -> None:
    """The first steps as by hand: the first rise, to 1½, is free. At the fifth
    d̂ = (1 + 2 + 3 + 1½²·4)/(4 + 1½²) = 2.4, held back to 1½·1¼. Then the gradient turns and d̂ is negative,
    but d goes on rising, a quarter at a time, to 2.4."""
    gradients = [{"w": np.array(1.0)}] * 5 + [{"w": np.array(-1.0)}] * 4
    hyper = {"betas": (0.0, 0.0), "beta3": 1.0, "eps": 0.0, "d0": 1.0}

    path = prodigy.run({"w": np.array(0.0)}, gradients, growth_rate=1.25, **hyper)

    moves = np.diff([0.0] + [float(theta["w"]) for theta in path])
    assert moves == pytest.approx([-1, -1, -1, -1, -1.5, 1.875, 2.34375, 2.4, 2.4], abs=1e-13)


def test_d_adapted_adam_by_hand() -> None:
    """β = (0, ¼), ε = 1, d0 = 1, g = 2, 2. √β₂ = ½; v = 3, 3¾; s = 1, 1½; N = 0, ½·2·1/(√3 + 1);
    d̂ = N / (½·1½) = 4 / (3(√3 + 1)) < 1: both steps 2/(√v + 1)."""
    path = dadaptation.adam(
        {"w": np.array(0.0)}, [{"w": np.array(2.0)}] * 2, betas=(0.0, 0.25), eps=1.0, d0=1.0
    )

    first = 2 / (math.sqrt(3) + 1)
    second = 2 / (math.sqrt(3.75) + 1)
    assert [float(theta["w"]) for theta in path] == pytest.approx([-first, -first - second], abs=1e-14)


def test_d_adapted_adam_weighs_the_gradient_with_the_root_before_it() -> None:
    """β = (0, ¼), ε = 1, d0 = 1, γ = 10, g = 2, 30: s = 10, 5 + 150; d̂ = ½·10·30·10/(√3 + 1) / (½·155) > 1,
    which the third step, of gradient 1, shows."""
    steps = [{"w": np.array(2.0)}, {"w": np.array(30.0)}, {"w": np.array(1.0)}]
    path = dadaptation.adam({"w": np.array(0.0)}, steps, lr=10.0, betas=(0.0, 0.25), eps=1.0, d0=1.0)

    d = 300 / (15.5 * (math.sqrt(3) + 1))
    third = float(path[1]["w"] - path[2]["w"])
    v = 0.75 * (4 / 16 + 900 / 4 + 1)
    assert third == pytest.approx(10 * d / (math.sqrt(v) + 1), rel=1e-13)


def test_d_adapted_momentum_averages_the_way_to_the_target() -> None:
    """θ_k = ½θ_{k-1} + ½(θ_0 - s_k), s = 1, 2."""
    path = dadaptation.sgd({"w": np.array(8.0)}, [{"w": np.array(2.0)}] * 2, d0=1.0, momentum=0.5)

    assert [float(theta["w"]) for theta in path] == [7.5, 6.75]


def test_the_first_norm_of_d_adapted_descent_is_without_decay() -> None:
    """g = 2 and λθ = 4: a step of (2 + 4)/2."""
    path = dadaptation.sgd({"w": np.array(8.0)}, [{"w": np.array(2.0)}], d0=1.0, weight_decay=0.5)

    assert float(path[0]["w"]) == 5.0


@pytest.mark.parametrize("name", GLOBAL)
def test_the_path_comes_near_the_solution_from_a_rate_far_too_small(name: str) -> None:
    """On |θ - 3| from 0, θ comes near 3, although the first step is a ten-thousandth of that."""
    gradients: list[dict] = []
    theta = 0.0
    seen = []
    for _ in range(80):
        gradients.append({"w": np.array([np.sign(theta - 3.0)])})
        theta = float(GLOBAL[name]({"w": np.array([0.0])}, gradients, d0=3e-4)[-1]["w"][0])
        seen.append(theta)

    assert abs(seen[0]) < 1e-3
    assert min(abs(value - 3.0) for value in seen) < 1.0


# Muon.


@pytest.mark.parametrize("silent", [(), SILENT])
@pytest.mark.parametrize("shape", [(3, 4), (6, 2), (4, 4), (1, 5)])
@pytest.mark.parametrize(
    "hyper",
    [
        {},
        {"lr": 0.02, "weight_decay": 0.0, "nesterov": False},
        {"lr": 0.1, "momentum": 0.5, "scale": "match_rms_adamw"},
        {"ns_coefficients": (2.0, -1.5, 0.5), "ns_steps": 12, "eps": 1e-3, "momentum": 0.0},
    ],
)
def test_muon_equals_torch_in_double_precision(hyper, shape, silent, monkeypatch) -> None:
    # A copy, as a conversion to another type would be: torch normalises it in place.
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda self: self.double().clone())
    theta0, gradients = _start_and_gradients(shape, silent)
    options = {"adjust_lr_fn" if key == "scale" else key: value for key, value in hyper.items()}
    parameter = torch.nn.Parameter(torch.tensor(theta0))
    optimizer = torch.optim.Muon([parameter], **options)
    rate = optimizer.param_groups[0]["lr"]
    expected = []
    for gradient, factor in zip(gradients, FACTORS, strict=True):
        parameter.grad = None if gradient is None else torch.tensor(gradient)
        optimizer.param_groups[0]["lr"] = rate * factor
        optimizer.step()
        expected.append(parameter.detach().numpy().copy())

    actual = muon.run(theta0, gradients, factors=FACTORS, **hyper)

    # Five steps of slope 3.4 at 0 blow rounding errors of small singular values up by 500.
    assert _distance(actual, expected, theta0) < 1e-10


def test_muon_by_hand() -> None:
    """u = diag(3, 4)/5; f(σ) = σ + σ³ + σ⁵."""
    path = muon.run(
        np.zeros((2, 2)),
        [np.diag([3.0, 4.0])],
        lr=1.0,
        weight_decay=0.0,
        ns_coefficients=(1.0, 1.0, 1.0),
        ns_steps=1,
    )

    assert -path[0] == pytest.approx(
        np.diag([0.6 + 0.216 + 0.07776, 0.8 + 0.512 + 0.32768]), rel=1e-14, abs=1e-15
    )


def test_muon_divides_by_eps_where_the_norm_is_less() -> None:
    """u = ½·0.4 + ½·(½·0.4) = 0.3 under ε = ½: 0.6; q = 0.2·√1."""
    path = muon.run(
        np.zeros((1, 1)),
        [np.array([[0.4]])],
        lr=1.0,
        weight_decay=0.0,
        momentum=0.5,
        ns_coefficients=(1.0, 0.0, 0.0),
        eps=0.5,
        scale="match_rms_adamw",
    )

    assert float(path[0][0, 0]) == pytest.approx(-0.12, rel=1e-14)


def test_muon_of_a_zero_gradient_decays_only() -> None:
    path = muon.run(np.full((2, 2), 8.0), [np.zeros((2, 2))], lr=0.5, weight_decay=0.5)

    assert path[0].tolist() == [[6.0, 6.0], [6.0, 6.0]]


# Shampoo.


def test_shampoo_of_diagonal_gradients_is_adagrad_with_eps_inside_the_root() -> None:
    """L = R = diag(ε + Σ g²): two quarter roots make a square root; momentum adds half of the first step."""
    gradients = [np.diag([3.0, 0.0]), np.diag([4.0, 1.0])]

    path = shampoo.run(np.zeros((2, 2)), gradients, lr=1.0, eps=1.0, momentum=0.5)

    first = 3 / math.sqrt(10)
    assert -np.diag(path[0]) == pytest.approx([first, 0.0], abs=1e-14)
    assert -np.diag(path[1]) == pytest.approx([1.5 * first + 4 / math.sqrt(26), 1 / math.sqrt(2)], rel=1e-14)
    assert path[1][0, 1] == path[1][1, 0] == 0.0


@pytest.mark.parametrize("update_every", [1, 3])
@pytest.mark.parametrize("shape", [(3, 4), (5, 2), (1, 3)])
def test_shampoo_equals_its_recursion(shape: tuple[int, int], update_every: int) -> None:
    theta0, gradients = _start_and_gradients(shape, SILENT)
    decay, momentum, eps = 0.1, 0.7, 1e-2

    def root(matrix: np.ndarray) -> np.ndarray:
        values, vectors = np.linalg.eigh(matrix)
        return vectors @ np.diag(values**-0.25) @ vectors.T

    theta, ball, t = theta0, np.zeros(shape), 0
    left, right = eps * np.eye(shape[0]), eps * np.eye(shape[1])
    expected = []
    for raw, factor in zip(gradients, FACTORS, strict=True):
        if raw is not None:
            g = decay * theta - raw
            left, right = left + g @ g.T, right + g.T @ g
            if t % update_every == 0:
                roots = root(left), root(right)
            t += 1
            ball = momentum * ball + roots[0] @ g @ roots[1]
            theta = theta - 0.3 * factor * ball
        expected.append(theta)

    actual = shampoo.run(
        theta0,
        gradients,
        factors=FACTORS,
        lr=0.3,
        momentum=momentum,
        weight_decay=decay,
        eps=eps,
        update_every=update_every,
        maximize=True,
    )
    # eigh finds the least eigenvalues, about ε, to 1e-16 of the greatest, about 1e3.
    assert _distance(actual, expected, theta0) < 1e-10


# SOAP.


def _orthogonal(size: int, seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))[0]


def test_soap_in_bases_that_stay_is_adam_in_rotated_coordinates() -> None:
    """But for the first gradient, which is skipped, and decay, taken after the step."""
    theta0, gradients = _start_and_gradients((3, 4))
    left, right = _orthogonal(3, 1), _orthogonal(4, 2)

    path = soap.run(
        theta0,
        gradients,
        bases=(left, right),
        lr=0.1,
        betas=(0.9, 0.99),
        eps=0.0,
        weight_decay=0.0,
        update_every=1000,
    )
    rotated = adam.run(
        left.T @ theta0 @ right,
        [left.T @ g @ right for g in gradients[1:]],
        lr=0.1,
        betas=(0.9, 0.99),
        eps=0.0,
    )

    assert np.array_equal(path[0], theta0)
    assert _distance(path[1:], [left @ theta @ right.T for theta in rotated], theta0) < 1e-12


def test_soap_of_a_vector_is_adam_without_the_first_gradient() -> None:
    theta0, gradients = _start_and_gradients((5,))

    path = soap.run(theta0, gradients, lr=0.1, betas=(0.9, 0.99), eps=0.0, weight_decay=0.0)

    expected = adam.run(theta0, gradients[1:], lr=0.1, betas=(0.9, 0.99), eps=0.0)
    assert np.array_equal(path[0], theta0)
    assert _distance(path[1:], expected, theta0) < 1e-12


def test_soap_decays_after_the_move() -> None:
    """Both bases of a 1 x 1 matrix are ±1: γ = ½, a step of ½ from 8½ to 8, of which a quarter is lost."""
    gradients = [np.array([[3.0]])] * 2

    path = soap.run(np.array([[8.5]]), gradients, lr=0.5, eps=0.0, weight_decay=0.5)

    assert [float(theta[0, 0]) for theta in path] == pytest.approx([8.5, 6.0], abs=1e-14)


def test_soap_adds_eps_to_the_root_before_its_correction() -> None:
    """β = (0, ¾), g = 4: √v = 2, √(1-β₂) = ½: ½·4/(2 + 2)."""
    path = soap.run(
        np.zeros((1, 1)), [np.array([[4.0]])] * 2, lr=1.0, betas=(0.0, 0.75), eps=2.0, weight_decay=0.0
    )

    assert float(path[1][0, 0]) == pytest.approx(-0.5, abs=1e-14)


@pytest.mark.parametrize(
    ("shape", "max_dimension", "update_every", "shampoo_beta"),
    [
        ((4, 4), 10000, 1, None),
        ((4, 4), 10000, 3, 0.8),
        ((4, 3), 3, 2, None),
        ((3, 4), 3, 2, 0.5),
        ((4, 4), 3, 2, None),
    ],
)
def test_soap_equals_its_recursion(shape, max_dimension, update_every, shampoo_beta) -> None:
    theta0, gradients = _start_and_gradients(shape, SILENT)
    lr, beta1, beta2, eps, decay = 0.1, 0.9, 0.95, 1e-8, 0.1
    beta = beta2 if shampoo_beta is None else shampoo_beta

    sides = [side for side in (0, 1) if shape[side] <= max_dimension]
    gram = [np.zeros((size, size)) for size in shape]
    basis = [np.eye(size) for size in shape]
    m = v = np.zeros(shape)
    theta, t = theta0, -1
    expected = []
    for g, factor in zip(gradients, FACTORS, strict=True):
        if g is not None:
            t += 1
            if t > 0:
                m = beta1 * m + (1 - beta1) * g
                v = beta2 * v + (1 - beta2) * (basis[0].T @ g @ basis[1]) ** 2
                rotated = basis[0].T @ m @ basis[1] / (np.sqrt(v) + eps)
                rate = lr * factor * np.sqrt(1 - beta2**t) / (1 - beta1**t)
                theta = theta - rate * basis[0] @ rotated @ basis[1].T
                theta = theta - lr * factor * decay * theta
            for side, product in ((0, g @ g.T), (1, g.T @ g)):
                gram[side] = beta * gram[side] + (1 - beta) * product
            for side in sides:
                if t == 0:
                    basis[side] = np.linalg.eigh(gram[side])[1][:, ::-1]
                elif t % update_every == 0:
                    order = np.argsort(-np.diag(basis[side].T @ gram[side] @ basis[side]))
                    basis[side] = np.linalg.qr(gram[side] @ basis[side][:, order])[0]
                    v = np.take(v, order, axis=side)
        expected.append(theta)

    actual = soap.run(
        theta0,
        gradients,
        factors=FACTORS,
        lr=lr,
        betas=(beta1, beta2),
        shampoo_beta=shampoo_beta,
        eps=eps,
        weight_decay=decay,
        update_every=update_every,
        max_dimension=max_dimension,
    )
    # eigh of a Gram matrix is less exact than the oracle's singular vectors by the condition number of G.
    assert _distance(actual, expected, theta0) < 1e-9


def test_neither_sign_nor_order_of_the_first_basis_matters_to_soap() -> None:
    theta0, gradients = _start_and_gradients((4, 4))
    left, right = np.linalg.svd(gradients[0])[0], np.linalg.svd(gradients[0])[2].T
    signs = np.array([1.0, -1.0, -1.0, 1.0])

    path = soap.run(theta0, gradients, update_every=3)
    given = soap.run(theta0, gradients, update_every=3, bases=(left, right))
    turned = soap.run(theta0, gradients, update_every=3, bases=(left * signs, right * -signs))
    shuffled = soap.run(theta0, gradients, update_every=3, bases=(left[:, ::-1], right[:, [2, 0, 3, 1]]))
    other = soap.run(theta0, gradients, update_every=3, bases=(_orthogonal(4, 1), right))

    assert _distance(given, path, theta0) < 1e-12
    assert _distance(turned, path, theta0) < 1e-12
    assert _distance(shuffled, path, theta0) < 1e-12
    assert _distance(other, path, theta0) > 1e-3


# Sophia.


def test_sophia_without_curvature_takes_steps_of_length_gamma() -> None:
    theta0, gradients = _start_and_gradients()

    path = sophia.run(theta0, gradients, hessians=[None] * STEPS, betas=(0.0, 0.99), weight_decay=0.0)

    expected = theta0 - 1e-4 * np.cumsum([np.sign(g) for g in gradients], axis=0)
    assert _distance(path, expected, theta0) < 1e-11


def test_sophia_by_hand() -> None:
    """m = ½g, h = ½H: m/(ρh) = 1/(2·8), 1/(2·¼) > 1, -1/(2·8); then H < 0, a full step; then m = 0."""
    path = sophia.run(
        np.full(5, 8.0),
        [np.array([2.0, 2.0, -2.0, -2.0, 0.0])],
        hessians=[np.array([16.0, 0.5, 16.0, -16.0, 1.0])],
        lr=1.0,
        betas=(0.5, 0.5),
        rho=2.0,
        weight_decay=0.25,
    )

    assert path[0].tolist() == [6 - 1 / 16, 5.0, 6 + 1 / 16, 7.0, 6.0]


def test_sophia_averages_what_was_handed_over_and_keeps_it() -> None:
    """β₂ = ½: h = 0, 4, 4, 2 + 8; g = 1 throughout, the second estimate before a silent step too."""
    gradients = [np.array(1.0), np.array(1.0), None, np.array(1.0)]
    hessians = [None, np.array(8.0), None, np.array(16.0)]
    hyper = {"lr": 1.0, "betas": (0.0, 0.5), "rho": 1.0, "weight_decay": 0.0}

    path = sophia.run(np.array(0.0), gradients, hessians=hessians, **hyper)
    early = sophia.run(
        np.array(0.0), gradients, hessians=[None, np.array(8.0), np.array(16.0), None], **hyper
    )

    assert [-float(theta) for theta in path] == pytest.approx([1.0, 1.25, 1.25, 1.35], abs=1e-14)
    assert np.array_equal(path, early)


def test_sophia_bounds_the_denominator_by_eps() -> None:
    """ρh = 1 under ε = 4."""
    path = sophia.run(
        np.array(0.0),
        [np.array(2.0)],
        hessians=[np.array(1.0)],
        lr=1.0,
        betas=(0.0, 0.0),
        rho=1.0,
        eps=4.0,
        weight_decay=0.0,
    )

    assert float(path[0]) == -0.5

"""Prodigy and D-Adaptation: numbers by hand, and where the authors' packages end in double precision."""

import math

import numpy as np
import pytest

from noise import global_problem
from oracles import dadaptation, prodigy


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
    theta0, gradients, factors = global_problem()

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
    theta0, gradients, factors = global_problem()

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

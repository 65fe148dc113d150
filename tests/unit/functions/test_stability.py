"""Stability limits: by the spectral radius of each recursion, and by running the rules on both sides."""

import math

import numpy as np
import pytest

from thalweg import reference
from thalweg.errors import InputError
from thalweg.functions.stability import (
    DIVIDING,
    OPTIMIZERS,
    best_fixed_rate,
    best_momentum,
    contraction,
    largest_stable_rate,
    noise_ball,
    stability_limit,
    steps_to_shrink,
)
from thalweg.rules.catalogue import CATALOGUE

HUGE = 1e9  # an ε beside which √v̂ does not count: what the rule divides by then stands still

# What one step makes of (w, buffer) on ½w², where x is rate × eigenvalue; written down from the formulas, not
# from the rules.
B = 0.9
RECURSIONS = {
    "sgd": lambda x: [[1 - x]],
    "momentum": lambda x: [[1 - x, -x * B], [1, B]],
    "nesterov": lambda x: [[1 - x - x * B, -x * B * B], [1, B]],
    "rmsprop": lambda x: [[1 - x]],
    "adagrad": lambda x: [[1 - x]],
    **{
        name: lambda x: [[1 - x * (1 - B), -x * B], [1 - B, B]]
        for name in ("adam", "adamw", "amsgrad", "radam", "adamax")
    },
    "nadam": lambda x: [[1 - x * (1 - B) * (1 + B), -x * B * B], [1 - B, B]],
}
FIXED = {
    **{name: {"eps": HUGE} for name in DIVIDING},
    "nadam": {"eps": HUGE, "momentum_decay": 100.0},  # its momentum is then 0.9 from the start
    "adamw": {"eps": HUGE, "weight_decay": 0.0},
    # Its correction is 1 soon where the memory is short.
    "radam": {"eps": HUGE, "betas": (0.9, 0.9)},
}


def radius(name: str, x: float) -> float:
    return float(np.abs(np.linalg.eigvals(np.array(RECURSIONS[name](x), float))).max())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_spectral_radius_is_1_at_the_limit_and_on_the_right_side_of_it_around(name: str) -> None:
    limit = stability_limit(name)

    assert radius(name, limit) == pytest.approx(1, abs=1e-7)  # a double root costs half of the digits
    assert radius(name, limit * 0.999) < 1 < radius(name, limit * 1.001)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_rule_itself_converges_below_the_limit_and_diverges_above(name: str) -> None:
    curvature, divisor = 4.0, HUGE if name in DIVIDING else 1.0
    preset = CATALOGUE[name]
    kind = getattr(reference, preset.rule.class_name)
    sizes = []
    for share in (0.99, 1.01):
        rate = share * largest_stable_rate(name, curvature) * divisor
        optimizer = kind(lr=rate, **{**preset.fixed, **FIXED.get(name, {})})
        w = np.array(0.0)
        for _ in range(200):  # at the minimum, until corrections of the first steps are over
            w = optimizer.step(w, curvature * w)
        w, path = np.array(1e-12), []
        for _ in range(3000):
            w = optimizer.step(w, curvature * w)
            path.append(abs(float(w)))
        sizes.append((max(path), path[-1]))

    # Above the limit a method that divides grows until √v̂ counts beside ε, and then comes back.
    (below, end), (above, _) = sizes
    assert below < 1e-10
    assert end < 1e-13
    assert above > 1


def test_limits_follow_the_hyperparameters() -> None:
    assert stability_limit("sgd") == 2
    assert stability_limit("momentum") == pytest.approx(3.8)
    assert stability_limit("momentum", momentum=0.5, dampening=0.5) == pytest.approx(6)
    assert stability_limit("momentum", buffer="mean") == pytest.approx(38)
    assert stability_limit("nesterov") == pytest.approx(3.8 / 2.8)
    assert stability_limit("adam", betas=(0.95, 0.999)) == pytest.approx(78)


def test_an_optimizer_without_a_known_limit_is_refused() -> None:
    with pytest.raises(InputError, match="must be one with a known limit; got 'lion'"):
        stability_limit("lion")
    with pytest.raises(InputError, match="must be a number above 0"):
        largest_stable_rate("sgd", 0.0)


def test_the_figures_of_eigenvalues_1_and_100() -> None:
    assert best_fixed_rate(1, 100) == 2 / 101
    assert contraction(1, 100) == 99 / 101
    assert steps_to_shrink(contraction(1, 100) ** 2) == 346
    assert steps_to_shrink(contraction(1, 100)) == 691
    assert steps_to_shrink(contraction(1, 100, 0.01) ** 2) == 688


def test_the_best_setting_of_momentum_has_the_least_spectral_radius_around() -> None:
    best = best_momentum(1.0, 25.0)

    def worst(rate: float, beta: float) -> float:
        return max(
            float(np.abs(np.linalg.eigvals([[1 + beta - rate * a, -beta], [1, 0]])).max())
            for a in (1.0, 25.0)
        )

    assert best == pytest.approx((4 / 36, 4 / 9, 2 / 3))
    assert worst(best.rate, best.momentum) == pytest.approx(2 / 3, abs=1e-7)  # a double root
    for rate, beta in ((1.02, 1.0), (0.98, 1.0), (1.0, 1.02), (1.0, 0.98)):
        assert worst(best.rate * rate, best.momentum * beta) > 2 / 3 + 1e-4


@pytest.mark.parametrize("factor", [0.0, 0.1, 0.5, 0.999])
def test_the_number_of_steps_is_the_first_that_is_enough(factor: float) -> None:
    n = steps_to_shrink(factor, 1000.0)

    assert n is not None
    assert factor**n <= 1e-3 * (1 + 1e-9)
    assert n == 1 or factor ** (n - 1) > 1e-3


def test_what_does_not_shrink_takes_no_number_of_steps() -> None:
    assert steps_to_shrink(1.0) is None
    assert steps_to_shrink(1.5) is None


def test_the_noise_ball_reproduces_itself() -> None:
    rate, a, s = 0.3, 2.0, 5.0
    ball = noise_ball(rate, a, s)

    assert ball is not None
    assert (1 - rate * a) ** 2 * ball + rate**2 * s == pytest.approx(ball)
    assert noise_ball(1.0, 2.0, 1.0) is None
    assert math.isclose(noise_ball(0.5, 2.0, 4.0) or 0, 1.0)

"""Penalties: their proximal operators by what defines them, by brute force, and by hand."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import optimize

from thalweg.backends.reference import Reference
from thalweg.errors import InputError
from thalweg.rules.sgd import SGD
from thalweg.rules.wrap import wrapped
from thalweg.rules.wrappers import WRAPPERS
from thalweg.solvers.proximal import (
    L1,
    Box,
    ElasticNet,
    Except,
    Group,
    Nonnegative,
    NoPenalty,
    NuclearNorm,
    Penalty,
    Simplex,
    refuse_size,
)

SIZE = 6
PENALTIES: dict[str, Penalty] = {
    "none": NoPenalty(),
    "l1": L1(0.7),
    "elastic_net": ElasticNet(0.9, 0.3),
    "group": Group(0.8, [[0, 2], [1, 3, 4]]),
    "group, not by size": Group(0.8, [[0, 2], [1, 3, 4]], by_size=False),
    "box": Box(-0.5, 2.0),
    "box of bounds": Box([-1.0] * SIZE, list(range(SIZE))),
    "nonnegative": Nonnegative(),
    "simplex": Simplex(),
    "simplex of 3": Simplex(3.0),
    "nuclear": NuclearNorm(0.6, (2, 3)),
    "except": Except(L1(0.7), [0, 3]),
    "except of a group": Except(Group(0.8, [[0, 1], [2, 3]]), [2, 5]),
}
# The proximal operator of the conjugate, by a formula that does not use the penalty's: the nearest point of
# the ball of the dual norm. What is free in a penalty has the conjugate's ball {0}.
BALLS: dict[str, Any] = {
    "l1": lambda x: np.clip(x, -0.7, 0.7),
    "group": lambda x: _balls(x, {(0, 2): 0.8 * math.sqrt(2), (1, 3, 4): 0.8 * math.sqrt(3)}),
    "group, not by size": lambda x: _balls(x, {(0, 2): 0.8, (1, 3, 4): 0.8}),
    "nuclear": lambda x: _spectral(x, 0.6),
    "except": lambda x: np.where(np.isin(np.arange(SIZE), [0, 3]), 0.0, np.clip(x, -0.7, 0.7)),
    "none": lambda x: 0 * x,
}
POINTS = arrays.arrays(np.float64, SIZE, elements=st.floats(-10, 10, width=32))
STEPS = st.floats(1e-3, 10)
NAMES = st.sampled_from(sorted(PENALTIES))


def _balls(x: np.ndarray, radii: dict[tuple[int, ...], float]) -> np.ndarray:
    found = np.zeros_like(x)
    for places, radius in radii.items():
        part = x[list(places)]
        found[list(places)] = part * min(1.0, radius / max(float(np.linalg.norm(part)), 1e-300))
    return found


def _spectral(x: np.ndarray, radius: float) -> np.ndarray:
    left, values, right = np.linalg.svd(x.reshape(2, 3), full_matrices=False)
    return (left @ np.diag(np.minimum(values, radius)) @ right).ravel()


@given(name=NAMES, x=POINTS, y=POINTS, step=STEPS)
def test_a_proximal_operator_is_firmly_nonexpansive(name, x, y, step):
    at_x, at_y = (PENALTIES[name].prox(z, step) for z in (x, y))
    gap = at_x - at_y
    # ‖p(x) − p(y)‖² ≤ ⟨p(x) − p(y), x − y⟩; rounding of sums of terms up to 400
    assert gap @ gap <= gap @ (x - y) + 1e-12


@given(name=NAMES, x=POINTS, step=STEPS, z=POINTS)
def test_a_proximal_operator_minimises_what_it_says_against_every_other_point(name, x, step, z):
    """Optimality: (x − p)/η is a subgradient at p, so penalty(z) ≥ penalty(p) + ⟨(x − p)/η, z − p⟩."""
    penalty = PENALTIES[name]
    p = penalty.prox(x, step)
    assert math.isfinite(penalty.value(p))
    inside = penalty.prox(z, 1e-3)  # where a constraint is met, so that the inequality says something
    for other in (z, inside, p + 1e-3 * (inside - p)):
        needed = step * (penalty.value(p) - penalty.value(other)) + (x - p) @ (other - p)
        assert needed <= 1e-11  # rounding of products up to 4000


@given(name=st.sampled_from(sorted(BALLS)), x=POINTS, step=STEPS)
def test_moreau_x_is_the_proximal_point_plus_that_of_the_conjugate(name, x, step):
    """x = prox_ηg(x) + η·prox_{g*/η}(x/η); of a norm the latter is the nearest point of the dual ball."""
    rest = step * BALLS[name](x / step)
    np.testing.assert_allclose(PENALTIES[name].prox(x, step) + rest, x, atol=1e-13)


@pytest.mark.parametrize("name", ["l1", "elastic_net", "group", "box", "nonnegative", "nuclear", "simplex"])
def test_a_proximal_operator_agrees_with_an_optimiser_that_knows_values_only(name):
    """A penalty on 2 coordinates, or a 2 × 1 matrix, by a grid that is refined around its best point."""
    penalty: Penalty = {
        "group": Group(0.8, [[0, 1]]),
        "nuclear": NuclearNorm(0.6, (2, 1)),
    }.get(name, PENALTIES[name])
    for x in np.random.default_rng(0).uniform(-3, 3, (5, 2)):
        found = penalty.prox(x, 0.5)
        if name == "simplex":  # one degree of freedom
            best = optimize.minimize_scalar(
                lambda a, x=x: float((a - x[0]) ** 2 + (1 - a - x[1]) ** 2), bounds=(0, 1), method="bounded"
            )
            assert found[0] == pytest.approx(best.x, abs=1e-5)  # its own tolerance
            continue
        centre, width = np.zeros(2), 4.0
        for _ in range(20):
            axis = np.linspace(-width, width, 21)
            grid = [centre + np.array([a, b]) for a in axis for b in axis]
            centre = min(grid, key=lambda z: float(0.5 * (z - x) @ (z - x)) + 0.5 * penalty.value(z))
            width /= 2
        np.testing.assert_allclose(found, centre, atol=4 * width)


@given(x=POINTS, total=st.floats(1e-3, 100))
def test_the_simplex_is_met_with_a_shift_common_to_all_that_stay(x, total):
    p = Simplex(total).prox(x, 1.0)
    assert p.sum() == pytest.approx(total, rel=1e-14)
    assert np.all(p >= 0)
    assert Simplex(total).value(p) == 0.0
    shift = (x - p)[p > 0]
    assert np.ptp(shift) <= 1e-12 * max(1.0, total)
    assert np.all(x[p == 0] <= shift.max() + 1e-12 * max(1.0, total))


def test_a_point_far_from_the_simplex_still_lands_on_it():
    for x in ([1e20, -1e20, 1e20], [1e300, 0.0, 1.0], [-1e16, -1e16, -1e16]):
        assert Simplex().value(Simplex().prox(np.array(x), 1.0)) == 0.0


def test_points_by_hand():
    x = np.array([3.0, -4.0, 1.0])
    assert L1(2.0).prox(x, 0.5).tolist() == [2.0, -3.0, 0.0]
    assert ElasticNet(2.0, 0.5).prox(x, 1.0).tolist() == [1.0, -1.5, 0.0]  # (|x| − 1)/2
    assert Group(2.5, [[0, 1]], by_size=False).prox(x, 1.0).tolist() == [1.5, -2.0, 1.0]  # 1 − 2.5/5
    assert Group(1.0, [[0, 1]]).value(x) == math.sqrt(2) * 5
    assert Simplex().prox(np.array([2.0, 2.0]), 1.0).tolist() == [0.5, 0.5]
    assert Except(L1(2.0), [1]).value(x) == 8.0
    assert NuclearNorm(1.0, (1, 3)).value(x) == pytest.approx(math.sqrt(26), rel=1e-15)


@pytest.mark.parametrize(
    ("penalty", "around"),
    [
        (L1(0.3), {"penalty": "l1", "strength": 0.3}),
        (ElasticNet(0.3, 0.25), {"penalty": "elastic_net", "strength": 0.3, "l1_share": 0.25}),
        (Group(0.3, [range(SIZE)], by_size=False), {"penalty": "group", "strength": 0.3}),
        (Box(-0.5, 0.25), {"penalty": "box", "low": -0.5, "high": 0.25}),
        (Nonnegative(), {"penalty": "nonnegative"}),
    ],
    ids=["l1", "elastic_net", "group", "box", "nonnegative"],
)
def test_a_rule_with_the_proximal_wrapper_steps_as_the_penalty_says_bit_for_bit(penalty, around):
    rng = np.random.default_rng(1)
    x, gradient = rng.normal(size=SIZE), rng.normal(size=SIZE)
    rule = wrapped(SGD, [WRAPPERS["proximal"](**around)])
    moved = Reference(rule, {**rule.defaults(), "lr": 0.5}).step({"x": x}, {"x": gradient})
    np.testing.assert_array_equal(moved["x"], penalty.prox(x - 0.5 * gradient, 0.5))


@pytest.mark.parametrize(
    "make",
    [
        lambda: L1(-1.0),
        lambda: L1(math.nan),
        lambda: ElasticNet(1.0, 1.5),
        lambda: ElasticNet(math.inf),
        lambda: Group(-1.0, [[0]]),
        lambda: Group(1.0, [[0, 1], [1]]),
        lambda: Group(1.0, [[]]),
        lambda: Group(1.0, [[-1]]),
        lambda: Box(1.0, 0.0),
        lambda: Box(math.nan, 0.0),
        lambda: Box([0.0], [1.0, 2.0]),
        lambda: Simplex(0.0),
        lambda: NuclearNorm(-1.0, (1, 1)),
        lambda: Except(L1(1.0), [-1]),
    ],
)
def test_a_penalty_that_makes_no_sense_is_refused(make):
    with pytest.raises(InputError):
        make()


@pytest.mark.parametrize(
    "penalty",
    [
        Group(1.0, [[0, 6]]),
        NuclearNorm(1.0, (2, 2)),
        Box([0.0], [1.0]),
        Except(L1(1.0), [6]),
        Except(NuclearNorm(1.0, (2, 3)), [0]),
    ],
)
def test_a_penalty_that_does_not_fit_the_vector_is_refused(penalty):
    with pytest.raises(InputError):
        refuse_size(penalty, SIZE)


@pytest.mark.parametrize("name", sorted(PENALTIES))
def test_a_penalty_that_fits_passes_and_has_words(name):
    refuse_size(PENALTIES[name], SIZE)
    assert PENALTIES[name].words

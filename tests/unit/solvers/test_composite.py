"""ISTA and FISTA: their bounds at every step, their orders, and real data against scikit-learn."""

import math
from typing import Any

import numpy as np
import pytest
from scipy import optimize
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import ElasticNet as PeerElasticNet
from sklearn.linear_model import Lasso, LogisticRegression

from thalweg.backends.reference import Reference
from thalweg.errors import InputError
from thalweg.rules.sgd import SGD
from thalweg.rules.wrap import wrapped
from thalweg.rules.wrappers import WRAPPERS
from thalweg.solvers.base import Iterate
from thalweg.solvers.composite import fista, ista
from thalweg.solvers.minimize import minimize
from thalweg.solvers.outcome import Ending
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
)


class LeastSquares:
    """f(x) = ‖Ax − b‖²/(2n), and the Lipschitz constant of its gradient, σ₁(A)²/n."""

    def __init__(self, a: np.ndarray, b: np.ndarray) -> None:
        self.a, self.b, self.size = a, b, a.shape[1]
        self.lipschitz = float(np.linalg.norm(a, 2) ** 2) / len(b)

    def value(self, x: np.ndarray) -> float:
        return float(np.sum((self.a @ x - self.b) ** 2)) / (2 * len(self.b))

    def gradient(self, x: np.ndarray) -> np.ndarray:
        return self.a.T @ (self.a @ x - self.b) / len(self.b)

    def hessian(self, x: np.ndarray) -> np.ndarray:
        return self.a.T @ self.a / len(self.b)

    def hessian_product(self, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        return self.hessian(x) @ v


def diabetes() -> tuple[np.ndarray, np.ndarray]:
    """Return the 10 features in front of a column of ones, and the target."""
    data, target = load_diabetes(return_X_y=True)
    return np.hstack([np.ones((len(data), 1)), data]), target


def first(iterates: Any, steps: int) -> list[Iterate]:
    return [item for item, _ in zip(iterates, range(steps + 1), strict=False)]


def ill_conditioned() -> tuple[LeastSquares, L1, np.ndarray, np.ndarray, float]:
    """Return a lasso of condition 10⁷, a start, a minimiser with 40 zeros among 100, and the minimum.

    The minimiser is made: with λs a subgradient of the penalty at x*, b = A(x* + (AᵀA/n)⁻¹λs) gives
    ∇f(x*) = −λs exactly. The eigenvalues that belong to the coordinates that are not zero are as many in
    each decade, and the start is equally far in each direction, so that the sublinear phase is long and
    smooth: there Σ λᵢ(1 − λᵢ/L)²ᵏ falls as 1/k.
    """
    rng = np.random.default_rng(3)
    n, size, kept, strength = 200, 100, 60, 1e-4
    left, _ = np.linalg.qr(rng.normal(size=(n, size)))
    turned, _ = np.linalg.qr(rng.normal(size=(kept, kept)))
    a = math.sqrt(n) * left
    a[:, :kept] = a[:, :kept] @ (np.sqrt(np.logspace(0, -7, kept))[:, None] * turned)
    x = np.where(np.arange(size) < kept, rng.choice([-1.0, 1.0], size) * rng.uniform(1, 2, size), 0.0)
    signs = np.where(x == 0, rng.uniform(-0.9, 0.9, size), np.sign(x))
    b = a @ x + n * a @ np.linalg.solve(a.T @ a, strength * signs)
    smooth, penalty = LeastSquares(a, b), L1(strength)
    np.testing.assert_allclose(smooth.gradient(x), -strength * signs, atol=1e-14)
    start = x.copy()
    start[:kept] += turned.sum(axis=0)
    return smooth, penalty, start, x, smooth.value(x) + penalty.value(x)


@pytest.mark.parametrize("backtracked", [False, True], ids=["constant step", "backtracking"])
def test_both_keep_their_bounds_at_every_step_and_fista_gains_an_order(backtracked):
    smooth, penalty, start, x_star, minimum = ill_conditioned()
    # 1 + 1e-12: the norm that L is computed with is rounded.
    lipschitz = smooth.lipschitz * (1 + 1e-12)
    step = None if backtracked else 1 / lipschitz
    distance = float(np.sum((start - x_star) ** 2))
    steps = np.arange(1, 2001)
    gaps = {}
    for name, iterates in {
        "ista": ista(smooth, start, penalty=penalty, step=step),
        "fista": fista(smooth, start, penalty=penalty, step=step, restart=None),
    }.items():
        gaps[name] = np.array([item.value for item in first(iterates, 2000)]) - minimum
    worst = 2 * lipschitz if backtracked else lipschitz
    rounding = 1e-13  # of F, about 0.05 here, and of F*
    assert np.all(gaps["ista"][1:] <= worst * distance / (2 * steps) + rounding)
    assert np.all(gaps["fista"][1:] <= 2 * worst * distance / (steps + 1) ** 2 + rounding)
    assert np.all(np.diff(gaps["ista"]) <= rounding)

    def order(gap: np.ndarray) -> float:
        part = slice(10, 1001)
        return float(np.polyfit(np.log(steps[part]), np.log(gap[1:][part]), 1)[0])

    assert order(gaps["ista"]) <= -0.9, order(gaps["ista"])
    assert order(gaps["fista"]) <= -1.9, order(gaps["fista"])
    assert order(gaps["fista"]) <= order(gaps["ista"]) - 0.7


PEERS: dict[str, tuple[Penalty, Any]] = {
    f"{'lasso' if share == 1 else f'elastic net of share {share}'}, strength {strength}": (
        L1(strength) if share == 1 else ElasticNet(strength, share),
        # 1e-14: of the gap between primal and dual, relative to the sum of squares.
        Lasso(strength, tol=1e-14, max_iter=10**6)
        if share == 1
        else PeerElasticNet(strength, l1_ratio=share, tol=1e-14, max_iter=10**6),
    )
    for share, strength in [(1, 1.0), (1, 0.1), (1, 0.02), (0.9, 0.01), (0.5, 0.1), (0.99, 0.05)]
}


@pytest.mark.parametrize("name", PEERS)
def test_real_data_has_the_solution_of_scikit_learn_with_exactly_its_zeros(name):
    """Both minimise ‖y − Xw − w₀‖²/(2n) + penalty(w), with a free intercept w₀."""
    penalty, peer = PEERS[name]
    data, target = diabetes()
    smooth = LeastSquares(data, target)
    found = minimize(
        smooth.value,
        np.zeros(11),
        "fista",
        gradient=smooth.gradient,
        penalty=Except(penalty, [0]),
        tolerance=1e-10,
    )
    peer.fit(data[:, 1:], target)
    expected = np.r_[peer.intercept_, peer.coef_]
    assert found.converged, str(found)
    np.testing.assert_allclose(found.x, expected, rtol=0, atol=1e-6)
    assert (found.x == 0).tolist() == (expected == 0).tolist()
    # Not because of coarse numbers: the same, one by one, from the conditions of a minimum.
    slope = smooth.gradient(found.x)[1:]
    if isinstance(penalty, L1):
        assert np.all(np.abs(slope[found.x[1:] == 0]) < penalty.strength)


def standardised() -> LeastSquares:
    """Return diabetes with features of mean 0 and variance 1, and a target of mean 0: condition about 470."""
    data, target = load_diabetes(return_X_y=True)
    return LeastSquares(data / data.std(axis=0), target - target.mean())


def test_ista_arrives_at_the_same_point_in_more_steps():
    smooth = standardised()
    ends = [
        minimize(smooth.value, np.zeros(10), name, gradient=smooth.gradient, penalty=L1(2.0), tolerance=1e-9)
        for name in ("ista", "fista")
    ]
    assert all(end.converged for end in ends)
    np.testing.assert_allclose(ends[0].x, ends[1].x, rtol=0, atol=1e-6)
    assert ends[1].steps < ends[0].steps


def cancer() -> tuple[np.ndarray, np.ndarray]:
    data, label = load_breast_cancer(return_X_y=True)
    data = (data - data.mean(axis=0)) / data.std(axis=0)
    return np.hstack([np.ones((len(data), 1)), data]), np.where(label == 1, 1.0, -1.0)


class Logistic:
    """f(x) = (1/n)·Σ log(1 + exp(−yᵢ aᵢᵀx))."""

    def __init__(self, a: np.ndarray, y: np.ndarray) -> None:
        self.rows, self.size = y[:, None] * a, a.shape[1]

    def value(self, x: np.ndarray) -> float:
        return float(np.logaddexp(0, -self.rows @ x).mean())

    def gradient(self, x: np.ndarray) -> np.ndarray:
        return -self.rows.T @ (0.5 - 0.5 * np.tanh(self.rows @ x / 2)) / len(self.rows)


def test_logistic_regression_with_l1_has_the_solution_of_scikit_learn_with_exactly_its_zeros():
    """scikit-learn minimises C·Σ losses + Σ|w|: n times ours with strength 1/(C·n)."""
    data, label = cancer()
    smooth = Logistic(data, label)
    found = minimize(
        smooth.value,
        np.zeros(31),
        "fista",
        gradient=smooth.gradient,
        penalty=Except(L1(0.01), [0]),
        tolerance=1e-10,
    )
    peer = LogisticRegression(
        C=1 / (0.01 * len(label)), l1_ratio=1, solver="saga", tol=1e-12, max_iter=10**5, random_state=0
    ).fit(data[:, 1:], label)
    expected = np.r_[peer.intercept_, peer.coef_[0]]
    assert found.converged, str(found)
    assert 10 < np.count_nonzero(expected == 0) < 30
    np.testing.assert_allclose(found.x, expected, rtol=0, atol=1e-6)
    assert (found.x == 0).tolist() == (expected == 0).tolist()


def by_rule(smooth: LeastSquares, around: dict[str, Any], strength_in_loss: float = 0.0) -> np.ndarray:
    """Return where SGD with a wrapper, on the loss and L1 in it, is after 3000 steps of a rate of 1/L."""
    rule = wrapped(SGD, [WRAPPERS[name](**values) for name, values in around.items()])
    optimizer = Reference(rule, {**rule.defaults(), "lr": 1 / smooth.lipschitz})
    x = np.zeros(smooth.size)
    for _ in range(3000):
        gradient = smooth.gradient(x) + strength_in_loss * np.sign(x)
        x = optimizer.step({"x": x}, {"x": gradient})["x"]
    return x


def test_proximal_steps_make_exact_zeros_and_neither_l1_in_the_loss_nor_weight_decay_does():
    smooth, strength = standardised(), 2.0
    exact = minimize(
        smooth.value, np.zeros(10), "fista", gradient=smooth.gradient, penalty=L1(strength), tolerance=1e-9
    ).x
    zeros = exact == 0
    assert 0 < np.count_nonzero(zeros) < 10
    # The same penalty by the wrapper of a rule: the same point, with the same zeros.
    around = by_rule(smooth, {"proximal": {"penalty": "l1", "strength": strength}})
    np.testing.assert_allclose(around, exact, rtol=0, atol=1e-6)
    assert (around == 0).tolist() == zeros.tolist()
    # In the loss: near the same point, and no zero; nor with steps that shrink, as 1/√t.
    inside = by_rule(smooth, {}, strength)
    assert np.all(inside != 0)
    np.testing.assert_allclose(inside, exact, rtol=0, atol=2 * strength / smooth.lipschitz)
    shrinking = minimize(
        lambda x: smooth.value(x) + strength * float(np.abs(x).sum()),
        np.zeros(10),
        "subgradient",
        gradient=lambda x: smooth.gradient(x) + strength * np.sign(x),
        rate=1 / smooth.lipschitz,
        max_steps=3000,
    ).x
    assert np.all(shrinking != 0)
    np.testing.assert_allclose(shrinking, exact, rtol=0, atol=0.5)
    # Weight decay shrinks every weight by a factor.
    for decay in (0.01, 0.1, 1.0):
        decayed = by_rule(smooth, {"decoupled_decay": {"weight_decay": decay}})
        assert np.all(decayed != 0)


@pytest.mark.parametrize(
    "penalty",
    [
        NoPenalty(),
        L1(0.2),
        ElasticNet(0.2, 0.5),
        Group(0.1, [[0, 1, 2], [3, 4]]),
        Box(-0.1, 0.3),
        Nonnegative(),
        Simplex(),
        NuclearNorm(0.2, (2, 3)),
        Except(L1(0.2), [1]),
    ],
    ids=lambda penalty: type(penalty).__name__,
)
@pytest.mark.parametrize("method", ["ista", "fista"])
def test_every_penalty_is_minimised_as_an_optimiser_that_knows_no_proximal_operator_finds(penalty, method):
    rng = np.random.default_rng(5)
    smooth = LeastSquares(rng.normal(size=(30, 6)), rng.normal(size=30))
    found = minimize(
        smooth.value, np.full(6, 0.4), method, gradient=smooth.gradient, penalty=penalty, tolerance=1e-10
    )
    assert found.converged
    total = smooth.value(found.x) + penalty.value(found.x)
    assert found.value == pytest.approx(total, rel=1e-14)
    # No point near it is lower, in 2000 directions and at three distances; for a convex F that is enough.
    for length in (1e-3, 1e-2, 1e-1):
        for direction in rng.normal(size=(2000, 6)):
            other = penalty.prox(found.x + length * direction, 1e-9)
            assert smooth.value(other) + penalty.value(other) >= total - 1e-14


def test_nonnegative_least_squares_and_bounded_ones_are_those_of_scipy():
    rng = np.random.default_rng(6)
    smooth = LeastSquares(rng.normal(size=(40, 8)), rng.normal(size=40))
    nonnegative = minimize(
        smooth.value, np.ones(8), "fista", gradient=smooth.gradient, penalty=Nonnegative(), tolerance=1e-12
    ).x
    expected = optimize.nnls(smooth.a, smooth.b)[0]
    np.testing.assert_allclose(nonnegative, expected, rtol=0, atol=1e-10)
    assert ((nonnegative == 0) == (expected == 0)).all()
    bounded = minimize(
        smooth.value, np.zeros(8), "ista", gradient=smooth.gradient, penalty=Box(-0.1, 0.1), tolerance=1e-12
    ).x
    expected = optimize.lsq_linear(smooth.a, smooth.b, (-0.1, 0.1), tol=1e-14).x
    np.testing.assert_allclose(bounded, expected, rtol=0, atol=1e-6)  # an interior point method


def test_restarts_end_the_swinging_around_a_minimum_that_is_strongly_convex():
    smooth = LeastSquares(np.diag([1.0, 0.1]) * math.sqrt(2), np.array([1.0, 1.0]))  # eigenvalues 1 and 0.01
    steps = {
        restart: minimize(
            smooth.value,
            np.zeros(2),
            "fista",
            gradient=smooth.gradient,
            penalty=NoPenalty(),
            step=1.0,
            restart=restart,
            tolerance=1e-10,
        ).steps
        for restart in (None, "gradient", "value")
    }
    assert steps["gradient"] < steps[None] / 2
    assert steps["value"] < steps[None] / 2


def test_the_slope_of_fista_is_no_shorter_than_the_gradient_mapping_of_the_point():
    smooth, penalty, start, _, _ = ill_conditioned()
    step = 1 / smooth.lipschitz
    for item in first(fista(smooth, start, penalty=penalty, step=step), 200):
        mapping = (item.x - penalty.prox(item.x - step * smooth.gradient(item.x), step)) / step
        assert np.linalg.norm(mapping) <= np.linalg.norm(item.slope) * (1 + 1e-9) + 1e-15


def test_tensors_by_name_have_the_same_solution_as_arrays():
    import torch

    smooth, penalty = standardised(), L1(2.0)
    exact = minimize(
        smooth.value, np.zeros(10), "fista", gradient=smooth.gradient, penalty=penalty, tolerance=1e-9
    )
    a, b = torch.from_numpy(smooth.a), torch.from_numpy(smooth.b)
    found = minimize(
        lambda w: ((a[:, :4] @ w["first"] + a[:, 4:] @ w["rest"].flatten() - b) ** 2).mean() / 2,
        {"first": torch.zeros(4, dtype=torch.float64), "rest": torch.zeros(2, 3, dtype=torch.float64)},
        "fista",
        penalty=penalty,
        tolerance=1e-9,
    )
    assert found.converged
    together = np.concatenate([found.x["first"].numpy(), found.x["rest"].numpy().ravel()])
    np.testing.assert_allclose(together, exact.x, rtol=0, atol=1e-7)
    assert ((together == 0) == (exact.x == 0)).all()


def test_a_step_costs_one_value_and_one_gradient_and_backtracked_fista_one_value_more():
    smooth = standardised()
    for method, step, values in (("ista", 0.1, 1), ("ista", None, 1), ("fista", 0.1, 1), ("fista", None, 2)):
        found = minimize(
            smooth.value,
            np.zeros(10),
            method,
            gradient=smooth.gradient,
            penalty=L1(2.0),
            step=step,
            tolerance=1e-300,
            max_steps=20,
        )
        # Two gradients and three values more: the first step's length, and what it is halved by.
        assert 20 <= found.evaluations.gradient <= 23
        # And two fewer: the first two steps of FISTA are from points that it has been at.
        assert 20 * values - 2 <= found.evaluations.value <= 20 * values + 4


def test_a_start_that_is_not_allowed_is_replaced_by_its_proximal_point():
    smooth = LeastSquares(np.eye(3), np.zeros(3))
    for method in ("ista", "fista"):
        found = minimize(
            smooth.value, [5.0, 0.0, 0.0], method, gradient=smooth.gradient, penalty=Simplex(), step=1.0
        )
        assert found.path.x is not None
        assert found.path.x[0].tolist() == [1.0, 0.0, 0.0]
        np.testing.assert_allclose(found.x, np.full(3, 1 / 3), atol=1e-5)  # 3 times the tolerance


def test_a_function_with_a_kink_or_a_wrong_gradient_ends_with_a_sentence():
    for method in ("ista", "fista"):
        found = minimize(
            lambda x: float(np.abs(x).sum()) if np.any(x != 0.3) else -1.0,
            np.array([1.0]),
            method,
            gradient=lambda x: np.where(x == 1.0, 1.0, -1e9),
            penalty=NoPenalty(),
            step=None,
        )
        assert found.ending is Ending.STUCK
        assert "no step along the gradient is short enough" in str(found)


def test_a_step_that_is_too_short_to_move_anything_is_not_taken_for_a_solution():
    smooth = LeastSquares(np.eye(2), np.ones(2))
    for method in ("ista", "fista"):
        found = minimize(
            smooth.value, np.ones(2) / 2, method, gradient=smooth.gradient, penalty=L1(0.1), step=1e-30
        )
        assert found.ending is Ending.STUCK
        assert found.gradient_norm == pytest.approx(0.15)  # |∇f + 0.1| = |−0.25 + 0.1|


def test_a_step_that_is_too_long_diverges_and_says_so():
    smooth = LeastSquares(np.eye(2), np.ones(2))
    found = minimize(smooth.value, np.zeros(2), "ista", gradient=smooth.gradient, penalty=L1(0.1), step=50.0)
    assert found.ending in (Ending.DIVERGED, Ending.UNBOUNDED)


def test_what_cannot_work_is_refused():
    smooth = LeastSquares(np.eye(2), np.ones(2))
    with pytest.raises(InputError, match="step of ista"):
        minimize(smooth.value, np.zeros(2), "ista", penalty=L1(0.1), step=0.0)
    with pytest.raises(InputError, match="restart of fista"):
        minimize(smooth.value, np.zeros(2), "fista", penalty=L1(0.1), restart="often")
    with pytest.raises(InputError, match="be given penalty"):
        minimize(smooth.value, np.zeros(2), "ista")
    with pytest.raises(InputError, match="shape of NuclearNorm"):
        minimize(smooth.value, np.zeros(2), "ista", penalty=NuclearNorm(1.0, (2, 2)))
    with pytest.raises(InputError, match="without penalty"):
        minimize(smooth.value, np.zeros(2), "lbfgs", penalty=L1(0.1))

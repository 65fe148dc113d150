"""Finite sums: SVRG and SAGA are linear where SGD stalls, and follow loops that are written out plainly."""

import numpy as np
import pytest
import torch
from scipy import optimize
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression

from thalweg import seeds
from thalweg.errors import InputError
from thalweg.solvers.finite_sum import FiniteSum
from thalweg.solvers.minimize import minimize
from thalweg.solvers.outcome import Ending
from thalweg.solvers.proximal import L1, Except, NoPenalty
from thalweg.solvers.variance_reduced import saga, stochastic, svrg

RIDGE = 1e-3
METHODS = {"svrg": svrg, "saga": saga, "stochastic": stochastic}


def cancer() -> tuple[np.ndarray, np.ndarray]:
    """Return 569 rows of length 1, of 30 standardised features and a one, and labels of −1 and 1."""
    data, label = load_breast_cancer(return_X_y=True)
    data = np.hstack([np.ones((len(data), 1)), (data - data.mean(axis=0)) / data.std(axis=0)])
    return data / np.linalg.norm(data, axis=1, keepdims=True), np.where(label == 1, 1.0, -1.0)


def logistic() -> FiniteSum:
    """Return log(1 + exp(−y aᵀw)) + ½·RIDGE·‖w‖² for each row: L = ¼ + RIDGE, μ = RIDGE."""
    return FiniteSum(
        lambda w, a, y: np.logaddexp(0, -y * (a @ w)) + 0.5 * RIDGE * w @ w,
        *cancer(),
        gradients=lambda w, a, y: (-y * (0.5 - 0.5 * np.tanh(y * (a @ w) / 2)))[:, None] * a + RIDGE * w,
    )


@pytest.fixture(scope="module")
def solution() -> np.ndarray:
    """Return the minimum as scikit-learn finds it, after a look at what SciPy finds."""
    data, label = cancer()
    peer = LogisticRegression(
        C=1 / (RIDGE * len(label)), solver="newton-cholesky", tol=1e-14, fit_intercept=False
    )
    w = peer.fit(data, label).coef_[0]
    total = logistic()
    other = optimize.minimize(total, np.zeros(31), jac=total.gradient, method="BFGS", options={"gtol": 1e-10})
    np.testing.assert_allclose(w, other.x, rtol=0, atol=1e-6)
    return w


def gaps(name: str, rounds: int, w: np.ndarray, **settings) -> tuple[np.ndarray, np.ndarray]:
    """Return F − F* of each round, and the gradients of terms until then, in passes over the data."""
    total = logistic()
    values, passes = [], []
    for item, _ in zip(METHODS[name](total, np.zeros(31), **settings), range(rounds), strict=False):
        values.append(item.value - total(w))
        passes.append(total.evaluated / total.examples)
    return np.array(values), np.array(passes)


def line(gap: np.ndarray) -> tuple[float, float]:
    """Return by which factor a gap falls from round to round, and R² of log gap as a line; above rounding."""
    logs = np.log(gap[: int(np.argmax(gap < 1e-12)) or None])
    rounds = np.arange(len(logs))
    fit = np.polyfit(rounds, logs, 1)
    left = logs - np.polyval(fit, rounds)
    return float(np.exp(fit[0])), float(1 - left @ left / np.sum((logs - logs.mean()) ** 2))


@pytest.mark.slow
def test_svrg_and_saga_fall_linearly_to_the_minimum_and_sgd_with_the_same_rate_stalls_above_it(solution):
    rate = 1 / (3 * (0.25 + RIDGE))
    for seed in (0, 1):
        by_svrg, cost_svrg = gaps("svrg", 16, solution, rate=rate, seed=seed)
        by_saga, cost_saga = gaps("saga", 50, solution, rate=rate, seed=seed)
        by_sgd, cost_sgd = gaps("stochastic", 80, solution, rate=rate, seed=seed)
        slower, _ = gaps("stochastic", 80, solution, rate=rate / 4, seed=seed)

        # What is counted: SVRG's round is n for the whole gradient and 2 · 2n, told after its first n.
        assert cost_svrg.tolist() == [1 + 5 * count for count in range(16)]
        assert cost_saga.tolist() == [1 + count for count in range(50)]
        assert cost_sgd.tolist() == list(range(80))

        factor, straight = line(by_svrg)
        assert factor < 0.12  # measured 0.06 and 0.08 per round of 5 passes
        assert straight > 0.98
        factor, straight = line(by_saga)
        assert factor < 0.45  # measured 0.38 and 0.33 per pass
        assert straight > 0.95
        # After the same 50 gradients of each term: to rounding, and not at all.
        assert by_svrg[cost_svrg <= 61][-1] < 1e-12
        assert by_saga[cost_saga <= 50][-1] < 1e-12
        assert by_sgd[cost_sgd <= 50][-1] > 1e-3
        # The floor of SGD does not fall with time, and does with the rate.
        floor = by_sgd[40:].mean()
        assert 0.5 < by_sgd[40:60].mean() / by_sgd[60:].mean() < 2
        assert slower[40:].mean() < floor / 2


def test_saga_is_faster_than_its_theorem_promises(solution):
    """‖x_k − x*‖² ≤ (1 − min(1/(4n), μ/(3L)))ᵏ·(‖x₀ − x*‖² + 2n/(3L)·(F(x₀) − F*)), the mean over seeds."""
    n, lipschitz = 569, 0.25 + RIDGE
    total = logistic()
    first = solution @ solution + 2 * n / (3 * lipschitz) * (total(np.zeros(31)) - total(solution))
    shrinking = 1 - min(1 / (4 * n), RIDGE / (3 * lipschitz))
    for count, (item, _) in enumerate(
        zip(saga(logistic(), np.zeros(31), rate=1 / (3 * lipschitz)), range(10), strict=False)
    ):
        assert np.sum((item.x - solution) ** 2) <= shrinking ** (count * n) * first


def test_through_minimize_they_agree_with_scikit_learn(solution):
    rate = 1 / (3 * (0.25 + RIDGE))
    for name in ("svrg", "saga", "lbfgs", "fista"):
        total = logistic()
        random = {"rate": rate, "seed": 3} if name in ("svrg", "saga") else {}
        penalty = {"penalty": NoPenalty()} if name == "fista" else {}
        found = minimize(total, np.zeros(31), name, tolerance=1e-9, **random, **penalty)
        assert found.converged, str(found)
        # 1e-9/μ: how far a point with a gradient of that size may be.
        np.testing.assert_allclose(found.x, solution, rtol=0, atol=1e-5)
        assert (total.evaluated > 0) == bool(random)


@pytest.mark.parametrize("name", ["svrg", "saga"])
def test_with_a_penalty_they_reach_the_point_of_fista_with_its_zeros(name):
    penalty = Except(L1(0.01), [0])
    total = logistic()
    exact = minimize(total, np.zeros(31), "fista", penalty=penalty, tolerance=1e-10)
    found = minimize(total, np.zeros(31), name, penalty=penalty, tolerance=1e-9, rate=4 / 3)
    assert exact.converged
    assert found.converged
    assert 5 < np.count_nonzero(exact.x == 0) < 30
    np.testing.assert_allclose(found.x, exact.x, rtol=0, atol=1e-5)  # 1e-9/μ is 1e-6
    assert (found.x == 0).tolist() == (exact.x == 0).tolist()


def plainly(name: str, total: FiniteSum, rate: float, rounds: int, batch: int, inner: int = 1) -> np.ndarray:
    """Return where a method is after some rounds, by its formula: means are computed anew, not updated."""
    n, x = total.examples, np.zeros(31)
    table = {i: total.rows(x, np.array([i]))[0] for i in range(n)}
    for count in range(rounds):
        anchor = x
        for number in range(inner):
            drawn = seeds.draws(n, 7, "order", count, number)
            for start in range(0, n, batch):
                places = drawn[start : start + batch]
                now = {i: total.rows(x, np.array([i]))[0] for i in places}
                if name == "stochastic":
                    direction = np.mean([now[i] for i in places], axis=0)
                elif name == "svrg":
                    then = {i: total.rows(anchor, np.array([i]))[0] for i in places}
                    direction = np.mean([now[i] - then[i] for i in places], axis=0) + total.gradient(anchor)
                else:
                    mean = np.mean(list(table.values()), axis=0)
                    direction = np.mean([now[i] - table[i] for i in places], axis=0) + mean
                    table |= now
                x = x - rate * direction
    return x


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("batch", [1, 50], ids=["one term", "batches with terms drawn twice"])
def test_a_method_does_what_its_formula_says(name, batch):
    data, label = cancer()
    whole = logistic()
    total = FiniteSum(whole.losses, data[:60], label[:60], gradients=whole.gradients)
    settings = {"inner": 1} if name == "svrg" else {}
    iterates = METHODS[name](total, np.zeros(31), rate=0.5, batch=batch, seed=7, **settings)
    third = [item for item, _ in zip(iterates, range(4), strict=False)][3]
    np.testing.assert_allclose(third.x, plainly(name, total, 0.5, 3, batch), rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", METHODS)
def test_tensors_and_autograd_give_the_same_steps_as_arrays_and_formulas(name):
    data, label = cancer()
    whole = logistic()
    arrays = FiniteSum(whole.losses, data[:40], label[:40], gradients=whole.gradients)
    tensors = FiniteSum(
        lambda w, a, y: torch.nn.functional.softplus(-y * (a @ w)) + 0.5 * RIDGE * w @ w,
        torch.from_numpy(data[:40]),
        torch.from_numpy(label[:40]),
    )
    x = np.linspace(-1, 1, 31)
    assert tensors(x) == pytest.approx(arrays(x), rel=1e-14)
    np.testing.assert_allclose(tensors.gradient(x), arrays.gradient(x), rtol=0, atol=1e-15)
    places = np.array([3, 1, 3])
    np.testing.assert_allclose(tensors.rows(x, places), arrays.rows(x, places), rtol=0, atol=1e-15)
    ends = [minimize(total, x, name, rate=0.5, batch=4, max_steps=3).x for total in (arrays, tensors)]
    np.testing.assert_allclose(ends[0], ends[1], rtol=0, atol=1e-12)


def test_tensors_of_half_the_precision_and_a_start_that_is_a_tensor():
    data, label = (torch.from_numpy(array).float() for array in cancer())
    total = FiniteSum(lambda w, a, y: torch.nn.functional.softplus(-y * (a @ w)), data, label)
    assert total.rows(np.zeros(31), np.arange(2)).dtype == np.float64
    found = minimize(total, torch.zeros(31), "svrg", rate=1.0, max_steps=2)
    assert found.x.dtype == torch.float32
    assert found.value < 0.2


def test_a_seed_determines_everything_and_another_one_changes_it():
    runs = [
        minimize(logistic(), np.zeros(31), "saga", rate=1.0, max_steps=2, seed=seed).x for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert np.any(runs[0] != runs[2])


def test_a_rate_that_is_too_large_is_said_to_diverge():
    total = FiniteSum(
        lambda x, a: 0.5 * (a @ x) ** 2, np.eye(3) * 10, gradients=lambda x, a: (a @ x)[:, None] * a
    )
    found = minimize(total, np.ones(3), "svrg", rate=1.0)
    assert found.ending in (Ending.DIVERGED, Ending.UNBOUNDED)


def test_what_cannot_work_is_refused():
    total, data = logistic(), np.ones((4, 2))
    with pytest.raises(InputError, match=r"rate must be given .* 1/\(3L\)"):
        minimize(total, np.zeros(31), "svrg")
    with pytest.raises(InputError, match="rate of saga"):
        minimize(total, np.zeros(31), "saga", rate=-1.0)
    with pytest.raises(InputError, match="FiniteSum"):
        minimize(lambda x: float(x @ x), np.zeros(3), "svrg", rate=0.1)
    with pytest.raises(InputError, match="FiniteSum"):
        next(svrg(lambda x: 0.0, np.zeros(3), rate=0.1))
    with pytest.raises(InputError, match="be one vector"):
        minimize(total, {"w": np.zeros(30), "b": np.zeros(1)}, "svrg", rate=0.1)
    with pytest.raises(InputError, match="gradients of a sum must be given"):
        FiniteSum(lambda x, a: a @ x, data)
    with pytest.raises(InputError, match="one number of examples"):
        FiniteSum(lambda x, a, b: a @ x, data, np.ones(3), gradients=lambda x, a, b: a)
    with pytest.raises(InputError, match="one number of examples"):
        FiniteSum(lambda x: x, gradients=lambda x: x)
    with pytest.raises(InputError, match=r"one loss an example, \(4,\)"):
        FiniteSum(lambda x, a: (a @ x).mean(), data, gradients=lambda x, a: a)(np.ones(2))
    with pytest.raises(InputError, match=r"one row an example, \(4, 2\)"):
        FiniteSum(lambda x, a: a @ x, data, gradients=lambda x, a: a.mean(axis=0)).gradient(np.ones(2))
    wrong = FiniteSum(lambda x, a: 0.5 * (a @ x) ** 2, data, gradients=lambda x, a: (a @ x)[:, None] * a * 2)
    with pytest.raises(InputError, match="agree with differences"):
        minimize(wrong, np.ones(2), "saga", rate=0.1)

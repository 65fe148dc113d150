"""BFGS and L-BFGS: the secant equation, agreement of the two, and descent."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.solvers.minimize import minimize
from thalweg.solvers.quasi_newton import _Dense, _Pairs


@given(st.integers(0, 10**6), st.integers(1, 12))
def test_both_models_satisfy_the_secant_equation(seed: int, updates: int) -> None:
    """H y = s for the last pair, whatever went before."""
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((5, 5))
    hessian = root @ root.T + np.eye(5)
    dense, pairs = _Dense(), _Pairs(4)
    for _ in range(updates):
        s = rng.standard_normal(5)
        y = hessian @ s
        dense.learn(s, y)
        pairs.learn(s, y)

    for model in (dense, pairs):
        assert -model(y) == pytest.approx(s, rel=1e-7, abs=1e-7)


def test_after_one_pair_the_models_are_the_same() -> None:
    s, y, g = np.array([1.0, 2.0]), np.array([3.0, 1.0]), np.array([1.0, -1.0])
    dense, pairs = _Dense(), _Pairs(10)
    dense.learn(s, y)
    pairs.learn(s, y)

    assert dense(g) == pytest.approx(pairs(g), rel=1e-14)


def test_the_model_by_hand() -> None:
    """With s = (1, 0), y = (2, 0) and H₀ = ½I, H stays ½I."""
    dense = _Dense()
    dense.learn(np.array([1.0, 0.0]), np.array([2.0, 0.0]))

    assert dense(np.array([2.0, 4.0])).tolist() == [-1.0, -2.0]


@pytest.mark.parametrize("method", ["bfgs", "lbfgs"])
def test_values_never_rise(method: str) -> None:
    found = minimize(lambda x: 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2, [-1.2, 1.0], method)

    assert found.x == pytest.approx([1, 1], abs=1e-5)
    assert (np.diff(found.path.value) <= 1e-14).all()


def test_memory_is_an_option_of_lbfgs() -> None:
    f = lambda x: (x**4).sum() + (np.arange(1, 21) * x**2).sum()  # noqa: E731

    few, many = (minimize(f, np.ones(20), "lbfgs", memory=m) for m in (1, 30))

    assert few.converged
    assert many.converged
    assert many.steps < few.steps


def test_a_large_problem_needs_no_matrix() -> None:
    """10⁵ coordinates: a matrix would take 80 GB."""
    scale = np.linspace(1, 10, 10**5)

    found = minimize(
        lambda x: float(scale @ (x - 1) ** 2),
        np.zeros(10**5),
        gradient=lambda x: 2 * scale * (x - 1),
        path=False,
    )

    assert found.converged
    assert found.kind is None
    assert "was not looked at" in found.outcome
    assert np.abs(found.x - 1).max() < 1e-6

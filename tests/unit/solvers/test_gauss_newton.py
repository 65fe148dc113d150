"""Sums of squares: linear problems in a step, and SciPy's least squares as the oracle of the others."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize

from thalweg.solvers.minimize import minimize
from thalweg.solvers.outcome import Kind

METHODS = ("gauss-newton", "levenberg-marquardt")
DESIGN = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
SEEN = np.array([6.0, 0.0, 0.0])


def line(x: Any) -> Any:
    """Return the residuals of a straight line through (0, 6), (1, 0), (2, 0): the best is 5 − 3t."""
    return DESIGN @ x - SEEN


def decay(x: Any) -> Any:
    """Return the residuals of 2e^(−t/2) fitted by ae^(−bt)."""
    t = np.arange(8.0)
    return x[0] * np.exp(-x[1] * t) - 2 * np.exp(-t / 2)


@pytest.mark.parametrize("method", ["gauss-newton", "natural-gradient"])
def test_a_straight_line_is_fitted_in_one_step(method: str) -> None:
    found = minimize(None, [0.0, 0.0], method, residuals=line, jacobian=lambda x: DESIGN)

    assert found.steps == 1
    assert found.x == pytest.approx([5, -3])
    assert found.value == pytest.approx(0.5 * 6)  # residuals −1, 2, −1
    assert found.kind is Kind.MINIMUM


@pytest.mark.parametrize("method", [*METHODS, "newton", "lbfgs"])
@pytest.mark.parametrize("start", [[1.0, 1.0], [10.0, 0.1]])
def test_a_decay_is_found_by_every_method(method: str, start: list[float]) -> None:
    found = minimize(None, start, method, residuals=decay)

    assert found.x == pytest.approx([2, 0.5], abs=1e-5)


def test_levenberg_marquardt_ends_where_scipy_does() -> None:
    """Residuals that do not vanish, and coordinates of very different units."""

    def residuals(x: Any) -> Any:
        t = np.arange(1.0, 13.0)
        return x[0] * np.exp(-1e3 * x[1] * t) + x[2] - 1 / t

    start = [1.0, 1e-3, 0.0]
    theirs = optimize.least_squares(residuals, start, method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15)

    ours = minimize(None, start, "levenberg-marquardt", residuals=residuals, tolerance=1e-4)

    assert ours.value == pytest.approx(theirs.cost, rel=1e-8)


def test_tensors_have_their_jacobian_from_autograd() -> None:
    t = torch.arange(8, dtype=torch.float64)
    found = minimize(
        None,
        torch.tensor([1.0, 1.0], dtype=torch.float64),
        "levenberg-marquardt",
        residuals=lambda x: x[0] * torch.exp(-x[1] * t) - 2 * torch.exp(-t / 2),
    )

    assert found.gradient_by == "PyTorch's autograd"
    assert found.x.tolist() == pytest.approx([2, 0.5], abs=1e-6)


def test_a_jacobian_without_full_rank_gives_the_shortest_step() -> None:
    """x₀ + x₁ = 2 from 0: (1, 1), and the Hessian does not decide."""
    found = minimize(None, [0.0, 0.0], "gauss-newton", residuals=lambda x: x[:1] + x[1:] - 2)

    assert found.x == pytest.approx([1, 1])
    assert found.kind is Kind.DEGENERATE


def test_the_natural_gradient_does_not_depend_on_the_parameters() -> None:
    """With x = Az the iterates z are those of x, multiplied by A⁻¹; those of plain descent are not."""
    a = np.array([[2.0, 1.0], [0.0, 0.1]])
    options = {"method": "natural-gradient", "lr": 0.3, "max_steps": 5}

    x = minimize(None, [1.0, 1.0], residuals=decay, **options)
    z = minimize(None, np.linalg.solve(a, [1.0, 1.0]), residuals=lambda z: decay(a @ z), **options)

    assert z.path.x @ a.T == pytest.approx(x.path.x, rel=1e-6)


def test_a_metric_may_be_given() -> None:
    """The Fisher matrix of a Bernoulli variable with log-odds w is p(1 − p): one step at w = 0 by hand.

    f = −log p(w) for the outcome one has the gradient −½ at 0, and the metric ¼: w = 2.
    """
    found = minimize(
        lambda w: float(np.log1p(np.exp(-w))),
        0.0,
        "natural-gradient",
        gradient=lambda w: -1 / (1 + np.exp(w)),
        metric=lambda w: [[np.exp(-w) / (1 + np.exp(-w)) ** 2]],
        max_steps=1,
    )

    assert float(found.x) == pytest.approx(2.0)

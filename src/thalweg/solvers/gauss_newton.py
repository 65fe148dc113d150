"""Sums of squares by their Jacobian: Gauss–Newton, Levenberg–Marquardt, and the natural gradient."""

from collections.abc import Iterator

import numpy as np

from thalweg.hyper import ABOVE_0, AT_LEAST_0, Real
from thalweg.solvers.base import Iterate, Need, Solver, Vector
from thalweg.solvers.descent import BACKTRACKING, STUCK, landed, until_rounding
from thalweg.solvers.line_search import armijo
from thalweg.solvers.objective import Counted

TINY = 1e-300


@until_rounding
def gauss_newton(objective: Counted, x: Vector, *, decrease: float) -> Iterator[Iterate]:
    """Yield the iterates of Gauss–Newton with backtracking.

    The step solves the linear problem by singular values, so that it is the shortest one where the
    Jacobian has not full rank.
    """
    here = Iterate(x, objective.value(x), objective.gradient(x))
    while True:
        yield here
        solved = np.linalg.lstsq(objective.jacobian(here.x), -objective.residuals(here.x), rcond=None)[0]
        step = np.asarray(solved, np.float64)
        slope = float(here.slope @ step)
        landing = armijo(objective, here.x, step, here.value, slope, decrease=decrease) if slope < 0 else None
        if landing is None:
            yield here._replace(note=STUCK)
            return
        here = landed(objective, landing)


def levenberg_marquardt(objective: Counted, x: Vector, *, damping: float) -> Iterator[Iterate]:
    """Yield the iterates of Levenberg–Marquardt: μ falls after good steps, and rises until a step is one."""
    here = Iterate(x, objective.value(x), objective.gradient(x))
    scale = np.full(len(x), TINY)
    mu, growth = damping, 2.0
    while True:
        yield here
        slopes, r = objective.jacobian(here.x), objective.residuals(here.x)
        # Moré's scale of a coordinate is the largest column norm so far: steps do not depend on its unit.
        scale = np.maximum(scale, np.linalg.norm(slopes, axis=0))
        scaled = np.where(scale > TINY, scale, 1.0)
        while True:
            below = np.diag(np.sqrt(mu) * scaled)
            step = np.linalg.lstsq(
                np.vstack([slopes, below]), np.concatenate([-r, np.zeros(len(x))]), rcond=None
            )[0]
            point = here.x + step
            if np.array_equal(point, here.x) or not np.isfinite(mu):
                yield here._replace(note=STUCK)
                return
            value = objective.value(point)
            linear = r + slopes @ step
            promised = 0.5 * float(r @ r - linear @ linear)
            share = (here.value - value) / promised if promised > 0 and np.isfinite(value) else -1.0
            if share > 1e-4:
                gradient = objective.gradient(point)
                if np.isfinite(gradient).all():
                    break
            mu, growth = mu * growth, 2 * growth
        mu, growth = max(mu * max(1 / 3, 1 - (2 * share - 1) ** 3), TINY), 2.0
        here = Iterate(point, value, gradient)


def natural_gradient(objective: Counted, x: Vector, *, lr: float, damping: float) -> Iterator[Iterate]:
    """Yield the iterates of the natural gradient at a fixed rate."""
    while True:
        gradient = objective.gradient(x)
        yield Iterate(x, objective.value(x), gradient)
        metric = objective.metric(x) + damping * np.eye(len(x))
        x = x - lr * np.linalg.lstsq(metric, gradient, rcond=None)[0]


GAUSS_NEWTON: tuple[Solver, ...] = (
    Solver(
        "gauss-newton",
        "Gauss–Newton",
        gauss_newton,
        "x ← x + αp, p the shortest minimiser of ‖r(x) + J(x)p‖; α by backtracking from 1",
        "Gauss 1809; Nocedal and Wright, section 10.3",
        "Sums of squares that are small at the minimum.",
        BACKTRACKING,
        frozenset({Need.RESIDUALS}),
    ),
    Solver(
        "levenberg-marquardt",
        "Levenberg–Marquardt",
        levenberg_marquardt,
        "x ← x + p, p the minimiser of ‖r + Jp‖² + μ‖Dp‖², D the largest column norms of J so far",
        "Levenberg 1944; Marquardt 1963; Moré 1978 (D); Nielsen 1999, IMM-REP-1999-05 (μ)",
        "Sums of squares: the first choice.",
        {"damping": Real(1e-3, "the first μ", ABOVE_0)},
        frozenset({Need.RESIDUALS}),
    ),
    Solver(
        "natural-gradient",
        "Natural gradient",
        natural_gradient,
        "x ← x − η(F(x) + λI)⁻¹∇f(x), F the Fisher matrix; of residuals with unit Gaussian noise JᵀJ",
        "Amari 1998, Neural Computation 10(2); for residuals a damped Gauss–Newton step at a fixed rate",
        "Models with a known Fisher matrix; to see steps that do not depend on the parameters' units.",
        {
            "lr": Real(1.0, "η, the rate", ABOVE_0),
            "damping": Real(0.0, "λ, added to the metric's diagonal", AT_LEAST_0),
        },
        frozenset({Need.METRIC}),
    ),
)

"""Non-smooth problems and finite sums: steps and seconds beside scikit-learn, gradients beside L-BFGS.

    python benchmarks/proximal.py

Lasso: ISTA and FISTA, and scikit-learn's coordinate descent, each stopped at the first step (or sweep) whose
F is within 1e-6 of the minimum, relative to the minimum; then these runs are timed in turn, on one thread.
Sums: logistic regression on real data, gradients of single terms until F − F* ≤ 1e-6, each stochastic method
at its best rate of the grid, medians over seeds.
"""

import time
import warnings
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from _common import conditions, interleaved, markdown, ratios, save, versions
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso
from threadpoolctl import threadpool_limits

from thalweg.solvers.composite import fista, ista
from thalweg.solvers.finite_sum import FiniteSum
from thalweg.solvers.minimize import minimize
from thalweg.solvers.proximal import L1
from thalweg.solvers.variance_reduced import saga, stochastic, svrg

REPEATS = 9
CLOSE = 1e-6
SEEDS = (0, 1, 2)
RATES = (1 / 48, 1 / 24, 1 / 12, 1 / 6, 1 / 3, 2 / 3, 4 / 3)  # times 1/L
PASSES = 60  # gradients of each term at most
PEER = "scikit-learn, coordinate descent"


class Smooth:
    """‖Xw − y‖²/(2n)."""

    def __init__(self, a: np.ndarray, b: np.ndarray) -> None:
        self.a, self.b, self.size = a, b, a.shape[1]

    def value(self, x: np.ndarray) -> float:
        rest = self.a @ x - self.b
        return float(rest @ rest) / (2 * len(self.b))

    def gradient(self, x: np.ndarray) -> np.ndarray:
        return self.a.T @ (self.a @ x - self.b) / len(self.b)


def lassos() -> dict[str, tuple[Smooth, float]]:
    """Return problems with a strength of a hundredth of the one that makes all weights zero."""
    data, target = load_diabetes(return_X_y=True)
    diabetes = Smooth(data / data.std(axis=0), target - target.mean())
    rng = np.random.default_rng(0)
    n, size = 500, 1000
    made = rng.normal(size=(n, size))
    for place in range(1, size):  # neighbours correlate by 0.9
        made[:, place] = 0.9 * made[:, place - 1] + np.sqrt(1 - 0.81) * made[:, place]
    weights = np.where(rng.random(size) < 0.03, rng.normal(size=size), 0.0)
    wide = Smooth(made, made @ weights + rng.normal(size=n))
    found = {"diabetes, 442 × 10": diabetes, "made, 500 × 1000, neighbours correlate by 0.9": wide}
    return {
        name: (smooth, 0.01 * float(np.abs(smooth.gradient(np.zeros(smooth.size))).max()))
        for name, smooth in found.items()
    }


def coordinate_descent(smooth: Smooth, strength: float, sweeps: int, tolerance: float = 0.0) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        peer = Lasso(strength, fit_intercept=False, tol=tolerance, max_iter=sweeps)
        return peer.fit(smooth.a, smooth.b).coef_


def ours(smooth: Smooth, strength: float, steps: int, method: str, **options: Any) -> np.ndarray:
    return minimize(
        smooth.value,
        np.zeros(smooth.size),
        method,
        penalty=L1(strength),
        tolerance=1e-300,
        max_steps=steps,
        path=False,
        **options,
    ).x


def seconds(run: Callable[[], Any]) -> float:
    """Return the time that the one core has worked, which others on the machine disturb less."""
    start = time.process_time()
    run()
    return time.process_time() - start


def lasso(name: str, smooth: Smooth, strength: float) -> dict[str, Any]:
    penalty = L1(strength)

    def total(x: np.ndarray) -> float:
        return smooth.value(x) + penalty.value(x)

    exact = coordinate_descent(smooth, strength, 10**6, 1e-15)
    minimum = total(exact)
    enough = minimum * (1 + CLOSE)
    methods = {
        "ISTA": (ista, {}),
        "FISTA, no restart": (fista, {"restart": None}),
        "FISTA": (fista, {}),
    }
    steps = {}
    runs: dict[str, Callable[[], Any]] = {}
    for label, (method, options) in methods.items():
        iterates = method(smooth, np.zeros(smooth.size), penalty=penalty, **options)
        steps[label] = next(count for count, item in enumerate(iterates) if item.value <= enough)
        settings = {"gradient": smooth.gradient, **options}
        runs[label] = lambda k=steps[label], m=method.__name__, s=settings: ours(smooth, strength, k, m, **s)
    steps[PEER] = next(k for k in range(1, 10**5) if total(coordinate_descent(smooth, strength, k)) <= enough)
    runs[PEER] = lambda: coordinate_descent(smooth, strength, steps[PEER])
    for label, run in runs.items():
        assert total(run()) <= enough * (1 + 1e-12), label
    measured = interleaved({label: lambda r=run: seconds(r) for label, run in runs.items()}, REPEATS)
    return {
        "problem": name,
        "zeros": int(np.count_nonzero(exact == 0)),
        "methods": {
            label: {
                "steps": steps[label],
                "seconds": median(measured[label]),
                "ratio": median(ratios(measured, label, PEER)),
            }
            for label in runs
        },
    }


def sums() -> dict[str, tuple[Callable[[], FiniteSum], float]]:
    """Return regularised logistic regressions with rows of length 1, and L."""
    digits, digit = load_digits(return_X_y=True)
    problems = {"breast cancer, 569 × 31": load_breast_cancer(return_X_y=True)}
    problems["digits, odd or even, 1797 × 65"] = (digits, digit % 2)
    found = {}
    for name, (data, label) in problems.items():
        deviation = data.std(axis=0)
        data = (data - data.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
        data = np.hstack([np.ones((len(data), 1)), data])
        data /= np.linalg.norm(data, axis=1, keepdims=True)
        ridge, sign = 1e-3, np.where(label == 1, 1.0, -1.0)
        found[name] = (lambda a=data, s=sign, r=ridge: logistic(a, s, r), 0.25 + ridge)
    return found


def logistic(data: np.ndarray, sign: np.ndarray, ridge: float) -> FiniteSum:
    return FiniteSum(
        lambda w, a, y: np.logaddexp(0, -y * (a @ w)) + 0.5 * ridge * w @ w,
        data,
        sign,
        gradients=lambda w, a, y: (-y * (0.5 - 0.5 * np.tanh(y * (a @ w) / 2)))[:, None] * a + ridge * w,
    )


def passes(
    make: Callable[[], FiniteSum], method: Any, rate: float, seed: int, minimum: float
) -> tuple[float, float]:
    """Return after how many gradients of each term F − F* ≤ 1e-6, or infinity, and the last F − F*."""
    total = make()
    x = np.zeros(total.data[0].shape[1])
    gap = float("inf")
    for item in method(total, x, rate=rate, seed=seed):
        done, gap = total.evaluated / total.examples, item.value - minimum
        if gap <= CLOSE:
            return done, gap
        if done >= PASSES or not np.isfinite(gap):
            return float("inf"), gap
    raise AssertionError("a method without an end")


def finite_sum(name: str, make: Callable[[], FiniteSum], lipschitz: float) -> dict[str, Any]:
    size = make().data[0].shape[1]
    minimum = minimize(make(), np.zeros(size), "lbfgs", tolerance=1e-12).value
    found: dict[str, Any] = {}
    for label, method in {"SGD, constant rate": stochastic, "SVRG": svrg, "SAGA": saga}.items():
        rows = []
        for rate in RATES:
            runs = [passes(make, method, rate / lipschitz, seed, minimum) for seed in SEEDS]
            rows.append((median(run[0] for run in runs), median(run[1] for run in runs), rate))
        best = min(rows)
        found[label] = {
            "passes": best[0] if np.isfinite(best[0]) else None,
            "gap": best[1],
            "rate_times_L": best[2],
        }
    path = minimize(make(), np.zeros(size), "lbfgs", tolerance=1e-12).path.value
    needed = next(count for count, value in enumerate(path) if value - minimum <= CLOSE)
    made = minimize(make(), np.zeros(size), "lbfgs", tolerance=1e-300, max_steps=needed)
    found["L-BFGS"] = {
        "passes": made.evaluations.gradient,
        "gap": made.value - minimum,
        "rate_times_L": None,
    }
    return {"problem": name, "methods": found}


def main() -> None:
    lassos_found = [lasso(name, *problem) for name, problem in lassos().items()]
    sums_found = [finite_sum(name, *problem) for name, problem in sums().items()]
    rows: list[tuple[str, ...]] = [("lasso", "method", "steps or sweeps", "CPU time, scikit-learn's = 1")]
    for result in lassos_found:
        for label, row in result["methods"].items():
            rows.append((result["problem"], label, f"{row['steps']}", f"{row['ratio']:.3g}"))
    print(markdown(rows), "\n")
    rows = [("sum", "method", "gradients of each term", "best rate × L", "F − F* then")]
    for result in sums_found:
        for label, row in result["methods"].items():
            count = f"{row['passes']:g}" if row["passes"] is not None else f"not in {PASSES}"
            rate = f"{row['rate_times_L']:.3g}" if row["rate_times_L"] else ""
            rows.append((result["problem"], label, count, rate, f"{row['gap']:.1e}"))
    print(markdown(rows), "\n")
    where = conditions(threads=1) | versions(["scikit-learn"])
    save("proximal", where, {"lasso": lassos_found, "sums": sums_found})


if __name__ == "__main__":
    with threadpool_limits(1):
        main()

"""Newton, Newton-CG, BFGS and L-BFGS beside SciPy's, on forty standard problems.

    .venv/bin/python benchmarks/solvers.py

Both libraries get the same function, gradient and Hessian from the same start, and what they ask for is
counted in the same place. Both stop by one rule: the largest component of the gradient is at most 1e-6.
SciPy's own rules that would stop it earlier are set to zero, and where a method of SciPy has another rule (a
step, or the length of the gradient), its callback stops it by this one, with a gradient that is not counted.
Each has 2000 steps. A minimum is reached where the value is one of the known ones, to six digits.
"""

from collections.abc import Mapping
from statistics import median
from typing import Any

import numpy as np
import torch
from _common import conditions, markdown, save, show, versions
from _problems import PROBLEMS, CountedProblem, Problem
from scipy import optimize

from thalweg.solvers.minimize import minimize

TOLERANCE = 1e-6
STEPS = 2000
PEERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "newton": ("trust-exact", {"gtol": 0.0}),
    "trust-region": ("trust-exact", {"gtol": 0.0}),
    "newton-cg": ("Newton-CG", {"xtol": 0.0}),
    "bfgs": ("BFGS", {"gtol": TOLERANCE, "norm": np.inf}),
    "lbfgs": ("L-BFGS-B", {"gtol": TOLERANCE, "ftol": 0.0, "maxcor": 10, "maxfun": 10**6, "maxls": 60}),
}


def ours(problem: Problem, method: str) -> dict[str, Any]:
    """Minimise by Thalweg."""
    counted = CountedProblem(problem)
    found = minimize(counted, list(problem.start), method, tolerance=TOLERANCE, max_steps=STEPS)
    return _row(problem, counted, found.value, found.gradient_norm, found.steps)


def theirs(problem: Problem, method: str) -> dict[str, Any]:
    """Minimise by SciPy's method that is the nearest."""
    counted = CountedProblem(problem)
    name, options = PEERS[method]
    steps = 0

    def stop(intermediate_result: Any) -> None:
        nonlocal steps
        steps += 1
        if np.abs(counted.exact_slope(intermediate_result.x)).max() <= TOLERANCE:
            raise StopIteration

    with np.errstate(all="ignore"):
        found = optimize.minimize(
            counted,
            problem.start,
            method=name,
            jac=counted.slope,
            hess=counted.curvature if name in ("trust-exact", "Newton-CG") else None,
            options={**options, "maxiter": STEPS},
            callback=stop,
        )
    norm = float(np.abs(counted.exact_slope(found.x)).max())
    return _row(problem, counted, float(found.fun), norm, steps)


def _row(problem: Problem, counted: CountedProblem, value: float, norm: float, steps: int) -> dict[str, Any]:
    return {
        "evaluations": counted.counts["value"] + counted.counts["gradient"],
        **counted.counts,
        "steps": steps,
        "found": value,
        "gradient_norm": norm,
        "reached": problem.reached(value),
        "lowest": value - problem.minima[0] <= 1e-6 * max(1.0, abs(problem.minima[0])),
    }


def compare(method: str, problems: tuple[Problem, ...] = PROBLEMS) -> dict[str, Any]:
    """Run a method and its peer on problems, and sum up."""
    rows = [
        {"number": p.number, "name": p.name, "ours": ours(p, method), "theirs": theirs(p, method)}
        for p in problems
    ]
    both = [row for row in rows if row["ours"]["reached"] and row["theirs"]["reached"]]
    counts = [(row["ours"]["evaluations"], row["theirs"]["evaluations"]) for row in both]
    return {
        "peer": PEERS[method][0],
        "reached": sum(row["ours"]["reached"] for row in rows),
        "reached_by_peer": sum(row["theirs"]["reached"] for row in rows),
        "lowest": sum(row["ours"]["lowest"] for row in rows),
        "lowest_by_peer": sum(row["theirs"]["lowest"] for row in rows),
        "both": len(both),
        "median_ratio": median(a / b for a, b in counts),
        "total_ratio": sum(a for a, _ in counts) / sum(b for _, b in counts),
        "rows": rows,
    }


def summary(results: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the table of methods."""
    head = ("method", "SciPy's", "reached", "by SciPy", "evaluations: median ratio", "ratio of totals")
    return [
        head,
        *(
            (
                name,
                found["peer"],
                str(found["reached"]),
                str(found["reached_by_peer"]),
                f"{found['median_ratio']:.2f}",
                f"{found['total_ratio']:.2f}",
            )
            for name, found in results.items()
        ),
    ]


def table(results: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the table of problems: evaluations of ours / SciPy's, − where no known minimum was reached."""

    def cell(row: Mapping[str, Any]) -> str:
        return " / ".join(
            f"{row[who]['evaluations']}{'' if row[who]['reached'] else ' −'}" for who in ("ours", "theirs")
        )

    return [
        ("problem", *results),
        *(
            (f"{p.number} {p.name}", *(cell(found["rows"][place]) for found in results.values()))
            for place, p in enumerate(PROBLEMS)
        ),
    ]


def main() -> None:
    torch.set_num_threads(1)
    results = {method: compare(method) for method in PEERS}
    show(table(results))
    print()
    show(summary(results))
    print()
    print(markdown(table(results)))
    save("solvers", {**conditions(1), **versions(["scipy"])}, results)


if __name__ == "__main__":
    main()

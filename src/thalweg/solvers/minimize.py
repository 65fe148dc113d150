"""`minimize`: one loop for every method, which stops it and says how it ended."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from thalweg.errors import InputError, nearest
from thalweg.hyper import ABOVE_0, Integer, Interval, Real, check_all
from thalweg.solvers.base import Iterate, Need, Penalty, Solver
from thalweg.solvers.catalogue import METHODS
from thalweg.solvers.derivatives import check_gradient, derivatives_of
from thalweg.solvers.finite_sum import FiniteSum
from thalweg.solvers.layout import layout_of
from thalweg.solvers.objective import Counted, Spent
from thalweg.solvers.outcome import Classified, Ending, Kind, Path, Solution, classify, sentence
from thalweg.solvers.proximal import refuse_size

KEPT = 10_000_000  # numbers of the path's points; a longer path is kept without its points
ENDLESS = 1e30  # a value below −ENDLESS: the function has no minimum
AWAY = 1e100  # a coordinate beyond it: the method diverges

_LIMITS = {
    "tolerance": Real(1e-6, "the largest component that a gradient taken for zero has", ABOVE_0),
    "max_steps": Integer(10_000, "how many steps at most", Interval(0)),
    "max_evaluations": Integer(None, "how many values and gradients at most", Interval(1)),
    "seed": Integer(0, "of what is random", Interval(0)),
}


def minimize(
    f: Callable[[Any], Any] | None,
    x0: Any,
    method: str = "lbfgs",
    *,
    gradient: Callable[[Any], Any] | None = None,
    hessian: Callable[[Any], Any] | None = None,
    residuals: Callable[[Any], Any] | None = None,
    jacobian: Callable[[Any], Any] | None = None,
    metric: Callable[[Any], Any] | None = None,
    penalty: Penalty = None,
    tolerance: float = 1e-6,
    max_steps: int = 10_000,
    max_evaluations: int | None = None,
    path: bool = True,
    seed: int = 0,
    **options: Any,
) -> Solution:
    """Minimise a function of numbers, arrays or tensors, and say what was found.

    It stops where the largest component of the gradient is at most the tolerance, and then looks at the
    Hessian: a point with zero gradient may be a minimum, a maximum or a saddle.

    Args:
        f: the function, (point) → number. It gets what `x0` is: a NumPy array, or a tensor if `x0` is one.
            An `Expression` of `thalweg.functions` takes points as they are. None with `residuals`.
        x0: the start: a number, a list of numbers, an array or a tensor; or a dict, list or tuple of arrays
            or of tensors.
        method: a name of `METHODS`: "lbfgs", "newton", "adam"…
        gradient: (point) → what has the shape of the point. It is compared with differences once, at the
            start. If None: the expression's own, PyTorch's for tensors, else central differences.
        hessian: (point) → (n, n), for the methods that use it, and to classify the point; else the
            expression's own, PyTorch's, or differences of gradients.
        residuals: r, (point) → (m,), in place of f = ½‖r‖².
        jacobian: of the residuals, (point) → (m, n).
        metric: the Fisher matrix, (point) → (n, n), for "natural-gradient".
        penalty: what is added to f, for the methods that take one (see docs/proximal.md).
        tolerance: above 0.
        max_steps, max_evaluations: when to stop at the latest; evaluations are values and gradients.
        path: whether the points of the path are kept, up to ten million numbers.
        seed: of the methods that are random.
        options: of the method, as its row of the catalogue declares them: lr=0.1, memory=20…

    Raises:
        InputError: an unknown method, option or shape; something that the method needs is missing; a gradient
            that is wrong; a value that is not finite at the start. What `f` raises passes through.

    >>> solution = minimize(lambda x: (x[0] - 3) ** 2 + 25 * x[1] ** 2, [0.0, 1.0])
    >>> solution.x.round(4).tolist(), solution.gradient_by
    ([3.0, 0.0], 'central differences')
    >>> print(minimize(lambda w: w**4 - 2 * w**2, 0.0))
    The gradient is zero to 1e-06 at the start; the point is a maximum: the largest eigenvalue of the
    Hessian is -4.
    """
    if method not in METHODS:
        raise InputError("the method of minimize", "be one it knows", repr(method), nearest(method, METHODS))
    solver = METHODS[method]
    limits = {"tolerance": tolerance, "max_steps": max_steps, "seed": seed}
    if max_evaluations is not None:
        limits["max_evaluations"] = max_evaluations
    check_all("minimize", _LIMITS, limits)
    settings = _settings(solver, options)
    function = _function(solver, f, residuals, jacobian, gradient, metric, penalty)
    layout, x = layout_of(x0)
    refuse_size(penalty, x.size)
    several = residuals is not None
    derivatives = derivatives_of(
        function, layout, jacobian if several else gradient, hessian, several=several
    )
    objective = Counted(function, layout, derivatives, is_residuals=several, metric=metric)
    if solver.needs & {Need.PENALTY}:
        settings["penalty"] = penalty
    if solver.random:
        settings["seed"] = seed
    with np.errstate(all="ignore"):  # a line search may look where f is not defined
        _check_start(objective, x)
        if gradient is not None or jacobian is not None or getattr(f, "gradients", None) is not None:
            check_gradient(objective, x)
        objective.limit = np.inf if max_evaluations is None else max_evaluations
        return _run(solver, objective, x, settings, tolerance, max_steps, path, penalty is not None)


def _run(
    solver: Solver,
    objective: Counted,
    x: Any,
    settings: Mapping[str, Any],
    tolerance: float,
    max_steps: int,
    keep: bool,
    penalty: bool,
) -> Solution:
    points: list[Any] = []
    values: list[float] = []
    norms: list[float] = []
    left: list[int] = []  # the steps at which the method left a saddle or a maximum
    here = None
    ending: Ending | None = Ending.STUCK
    note = "the method has ended"
    classified: Classified | None = None
    iterates: Iterator[Iterate] = solver.run(objective, x, **settings)
    try:
        for found in iterates:
            norm = float(np.abs(found.slope).max())
            if not np.isfinite(norm) or not np.isfinite(found.value) or not np.isfinite(found.x).all():
                ending = Ending.DIVERGED
                break
            if found.note and here is not None and np.array_equal(found.x, here.x):
                if ending is not Ending.CONVERGED:  # it could not leave a saddle, or got stuck elsewhere
                    ending, note = Ending.STUCK, found.note
                break
            if classified is not None:
                left.append(len(values) - 1)
            values.append(float(found.value))
            norms.append(norm)
            if keep and len(values) * objective.size <= KEPT:
                points.append(found.x.copy())
            here, classified = found, None
            ending, note = _ending(found, norm, len(values) - 1, tolerance, max_steps)
            if ending is Ending.CONVERGED and not penalty:
                with objective.uncounted():
                    classified = classify(objective, here.x, here.slope)
                down = classified is not None and classified.kind in (Kind.SADDLE, Kind.MAXIMUM)
                if down and solver.leaves_saddles and len(values) <= max_steps:
                    continue
            if ending is not None:
                break
    except Spent:
        if ending is not Ending.CONVERGED:
            ending = Ending.EVALUATIONS
    assert here is not None  # the start is finite
    assert ending is not None
    steps = len(values) - 1
    return Solution(
        x=objective.layout.point(here.x),
        value=float(here.value),
        gradient=here.slope.copy(),
        gradient_norm=norms[-1],
        steps=steps,
        evaluations=objective.evaluations,
        gradient_by=objective.derivatives.by,
        method=solver.name,
        ending=ending,
        classified=classified,
        outcome=sentence(
            ending, steps, float(here.value), norms[-1], note, objective, classified,
            start=values[0], tolerance=tolerance, penalty=penalty, left=left,
        ),
        path=Path(
            np.array(points) if len(points) == len(values) else None, np.array(values), np.array(norms)
        ),
    )  # fmt: skip


def _ending(
    found: Iterate, norm: float, steps: int, tolerance: float, max_steps: int
) -> tuple[Ending | None, str]:
    """Return why to stop after an iterate, None to go on, and what the method says."""
    if norm <= tolerance:
        return Ending.CONVERGED, found.note
    if found.value < -ENDLESS:
        return Ending.UNBOUNDED, found.note
    if np.abs(found.x).max() > AWAY:
        return Ending.DIVERGED, found.note
    if found.note:
        return Ending.STUCK, found.note
    return (Ending.STEPS if steps >= max_steps else None), ""


def _settings(solver: Solver, options: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in options.items():
        if name not in solver.options:
            known = f"be among {', '.join(solver.options)}" if solver.options else "be none"
            hint = nearest(name, solver.options) if solver.options else ""
            raise InputError(f"the options of {solver.name}", known, repr(name), hint)
        solver.options[name].check(name, solver.name, value)
    return {name: options.get(name, declared.default) for name, declared in solver.options.items()}


def _function(
    solver: Solver,
    f: Any,
    residuals: Any,
    jacobian: Any,
    gradient: Any,
    metric: Any,
    penalty: Any,
) -> Any:
    """Return the function to minimise, or say what is missing or too much."""
    if (f is None) == (residuals is None):
        raise InputError(
            "minimize",
            "be given either f or residuals",
            "neither" if f is None else "both",
            "Pass None for f to minimise ½‖r‖² of residuals r.",
        )
    missing = {
        Need.RESIDUALS: residuals is None,
        Need.METRIC: residuals is None and metric is None,
        Need.PENALTY: penalty is None and Need.TERMS not in solver.needs,
        Need.TERMS: not isinstance(f, FiniteSum),
    }
    for need in solver.needs:
        if missing[need]:
            raise InputError(f"{solver.title}", f"be given {need.value}", "none", "See docs/minimize.md.")
    unused = {
        "penalty": penalty is not None and Need.PENALTY not in solver.needs,
        "metric": metric is not None and Need.METRIC not in solver.needs,
        "jacobian": jacobian is not None and residuals is None,
        "gradient": gradient is not None and residuals is not None,
    }
    for name, is_unused in unused.items():
        if is_unused:
            do = "Give the Jacobian of the residuals as jacobian." if name == "gradient" else ""
            raise InputError(f"{solver.title}", f"be called without {name}, which it would not use", name, do)
    function = f if residuals is None else residuals
    if not callable(function):
        raise InputError("the function", "be a function of a point", repr(function)[:60])
    return function


def _check_start(objective: Counted, x: Any) -> None:
    """Refuse a start where the function or its gradient is not a finite number."""
    value, do = objective.value(x), "Start where the function is defined."
    if not np.isfinite(value):
        raise InputError("the function at the start x0", "be finite", value, do)
    slope = objective.gradient(x)
    if not np.isfinite(slope).all():
        place = int(np.flatnonzero(~np.isfinite(slope))[0])
        name = objective.layout.names()[place]
        raise InputError("the gradient at the start x0", "be finite", f"{slope[place]} for {name}", do)

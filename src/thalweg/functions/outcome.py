"""Where a descent has ended, in sentences; a gradient of zero is never just called a minimum."""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from thalweg.functions.expression import Expression

_SMALL: Final = 1e-6  # of the largest gradient on the way: nearly zero


def stationary(f: Expression, point: Sequence[float]) -> tuple[str, tuple[float, ...]]:
    """Say what a point with zero gradient is, from the eigenvalues of the exact Hessian.

    Returns:
        "minimum", "maximum", "saddle", or "undecided" where an eigenvalue is zero or there is no Hessian;
        and the eigenvalues, rising. Local: nothing is said about points further away.

    >>> from thalweg.functions.expression import parse
    >>> stationary(parse("w^4 - 2*w^2"), [0.0])
    ('maximum', (-4.0,))
    """
    hessian = np.asarray(f.curvature(list(point)), np.float64)
    if not np.isfinite(hessian).all():
        return "undecided", ()
    values = np.linalg.eigvalsh(hessian)
    zero = len(values) * np.finfo(np.float64).eps * np.abs(values).max()
    found = tuple(float(x) for x in values)
    if values[0] > zero:
        return "minimum", found
    if values[-1] < -zero:
        return "maximum", found
    return ("saddle" if values[0] < -zero and values[-1] > zero else "undecided"), found


def outcome(f: Expression, rows: Sequence[Any], evaluates: bool) -> tuple[str, ...]:
    """Return the sentences below a trace.

    Args:
        f: the function.
        rows: the rows of the trace, one at least.
        evaluates: whether the method has other parameters to evaluate with than those it moves.
    """
    last = rows[-1]
    if not last.next:
        what = "loss" if not math.isfinite(last.loss) else "gradient"
        value = last.loss if what == "loss" else next(x for x in last.gradient if not math.isfinite(x))
        kind = "is not defined" if math.isnan(value) else "is infinite, or too large for a number"
        return (
            f"At step {last.step} the {what} {kind} at {_place(f, last.parameters)}. The trace stops there.",
        )
    if not all(map(math.isfinite, last.next)):
        return (
            f"Step {last.step} leads to {_place(f, last.next)}: the steps explode. The trace stops there.",
        )
    end = float(f(last.next))
    said = [_change(f, rows[0].loss, end, last)]
    if evaluates:
        point = last.quantities["evaluated"]
        said.append(
            f"This method is evaluated at {_place(f, point)}, where the loss is {_number(float(f(point)))}."
        )
    gradient = np.asarray(f.slope(last.next), np.float64)
    size = float(np.linalg.norm(gradient))
    largest = max(float(np.linalg.norm(row.gradient)) for row in rows)
    if size == 0:
        said.append(_at_zero(f, last.next))
    elif size <= _SMALL * largest:
        said.append(
            f"The gradient has shrunk to {size:.3g}, which alone is no proof of a minimum: "
            f"thalweg analyse '{f}' classifies what is near."
        )
    return tuple(said)


def _change(f: Expression, first: float, end: float, last: Any) -> str:
    where = f"After {last.step} step{'s' if last.step > 1 else ''}: {_place(f, last.next)}, "
    if not math.isfinite(end):
        kind = "is not defined" if math.isnan(end) else "is infinite, or too large for a number"
        return f"{where}where the loss {kind}."
    if end > first:
        return f"{where}loss {_number(end)}, above the {_number(first)} of the start."
    return f"{where}loss {_number(end)}, from {_number(first)}."


def _at_zero(f: Expression, point: Sequence[float]) -> str:
    kind, values = stationary(f, point)
    listed = ", ".join(_number(x) for x in values)
    have = (
        f"the Hessian there is {listed}"
        if len(values) == 1
        else f"the eigenvalues of the Hessian are {listed}"
    )
    verdict = {
        "minimum": f"{have}: a local minimum.",
        "maximum": f"{have}: a local maximum, which gradient descent cannot leave.",
        "saddle": f"{have}: a saddle, which gradient descent cannot leave without noise.",
        "undecided": (have if values else "there is no finite Hessian") + ", which does not decide.",
    }[kind]
    return f"The gradient is exactly zero there, which alone is no proof of a minimum: {verdict}"


def _place(f: Expression, point: Sequence[float]) -> str:
    return ", ".join(f"{name} = {_number(x)}" for name, x in zip(f.variables, point, strict=True))


def _number(x: float) -> str:
    return f"{x + 0.0:.11g}"

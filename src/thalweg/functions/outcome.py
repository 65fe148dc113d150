"""Where a descent has ended, in sentences; a gradient of zero is never just called a minimum."""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from thalweg.functions.critical import classified
from thalweg.functions.expression import Expression

_SMALL: Final = 1e-6  # of the largest gradient on the way: nearly zero


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
    """Say what a point with zero gradient is.

    >>> from thalweg.functions.expression import parse
    >>> _at_zero(parse("w^4"), [0.0]).partition("minimum. ")[2]
    'It is a local minimum: all values around are higher: by sampling, because the Hessian cannot tell (0).'
    """
    found = classified(f, np.array(point, np.float64))
    kind = {
        "minimum": "a local minimum: ",
        "maximum": "a local maximum, which gradient descent cannot leave: ",
        "saddle": "a saddle, which gradient descent cannot leave without noise: ",
    }.get(found.kind, "")
    values = f" ({', '.join(_number(x) for x in found.eigenvalues)})" if found.eigenvalues else ""
    return (
        "The gradient is exactly zero there, which alone is no proof of a minimum. "
        f"It is {kind}{found.why}{values}."
    )


def _place(f: Expression, point: Sequence[float]) -> str:
    return ", ".join(f"{name} = {_number(x)}" for name, x in zip(f.variables, point, strict=True))


def _number(x: float) -> str:
    return f"{x + 0.0:.11g}"

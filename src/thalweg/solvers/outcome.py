"""What `minimize` found, in numbers and in a sentence; a point with zero gradient is classified."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np

from thalweg.solvers.base import Matrix, Vector
from thalweg.solvers.objective import Counted, Evaluations

LARGEST = 1000  # coordinates for which the eigenvalues of an exact Hessian are computed
LARGEST_BY_DIFFERENCES = 100
ZERO = 1e-11  # eigenvalues of the scaled Hessian below this are taken for zero
ZERO_BY_DIFFERENCES = 1e-5
NEAR = 1e-6  # a Newton step shorter than this share of ‖x‖ does not change the Hessian visibly


class Ending(StrEnum):
    """Why a run of `minimize` ended."""

    CONVERGED = "converged"  # the gradient is zero, to the tolerance
    STUCK = "stuck"  # the method can go no further
    STEPS = "steps"
    EVALUATIONS = "evaluations"
    DIVERGED = "diverged"  # a value or a gradient is not finite
    UNBOUNDED = "unbounded"  # the values fall without end


class Kind(StrEnum):
    """What a point with zero gradient is."""

    MINIMUM = "minimum"
    MAXIMUM = "maximum"
    SADDLE = "saddle"
    DEGENERATE = "degenerate"  # the Hessian is singular there and semidefinite: it does not decide


class Classified(NamedTuple):
    """What the Hessian says of a point with zero gradient."""

    kind: Kind
    smallest: float  # eigenvalues
    largest: float


class Path(NamedTuple):
    """Where a run went: the start, and one row a step."""

    x: Vector | None  # (steps + 1, n), None where it was not kept
    value: Vector  # (steps + 1,)
    gradient_norm: Vector  # (steps + 1,), the largest component


@dataclass(frozen=True, eq=False)
class Solution:
    """What a run of `minimize` found. Print `outcome` first.

    `x` has the structure of the start: a number, an array, a tensor, or several. `value` is f(x), with
    `residuals` ½‖r(x)‖², under a penalty the sum. `gradient` is a vector, (n,), under a penalty the gradient
    mapping; `gradient_norm` its largest component.
    """

    x: Any
    value: float
    gradient: Vector
    gradient_norm: float
    steps: int
    evaluations: Evaluations  # without those that checked a given gradient or classified the point
    gradient_by: str
    method: str
    ending: Ending
    classified: Classified | None  # of a point with zero gradient, where the Hessian was computed
    outcome: str  # a sentence or two
    path: Path

    @property
    def converged(self) -> bool:
        """Whether the gradient is zero to the tolerance; a minimum needs more: see `kind`."""
        return self.ending is Ending.CONVERGED

    @property
    def kind(self) -> Kind | None:
        """What the point is; None where the gradient is not zero, or nobody has looked."""
        return self.classified.kind if self.classified else None

    def __str__(self) -> str:
        return self.outcome


def classify(objective: Counted, x: Vector, gradient: Vector) -> Classified | None:
    """Say what a point with zero gradient is, by the eigenvalues of the Hessian; None if there are too many.

    Signs are those of the Hessian scaled to a diagonal of ±1, which are the same (Sylvester's law of inertia)
    and do not drown in rounding where the units of coordinates differ much. The gradient is zero to a
    tolerance only: where the smallest eigenvalue changes by more than a tenth on a Newton step towards the
    exact point (as that of w³ or w⁴ does near 0), it counts as zero.
    """
    exact = objective.exact_hessian
    if objective.size > (LARGEST if exact else LARGEST_BY_DIFFERENCES):
        return None
    hessian = objective.hessian(x)
    if not np.isfinite(hessian).all():
        return None
    own = np.linalg.eigvalsh(hessian)
    scale = np.sqrt(np.abs(np.diag(hessian)))
    scale[scale <= 1e-8 * scale.max()] = scale.max() or 1.0
    signs = np.linalg.eigvalsh(hessian / np.outer(scale, scale))
    zero = ZERO if exact else ZERO_BY_DIFFERENCES
    if not exact and np.abs(own).max() < ZERO_BY_DIFFERENCES:
        zero = np.inf  # the differences themselves are no better
    if signs[0] < -zero and signs[-1] > zero:
        kind = Kind.SADDLE
    elif np.abs(signs).min() <= zero or _wanders(objective, x, gradient, hessian, scale):
        kind = Kind.DEGENERATE
    else:
        kind = Kind.MINIMUM if signs[0] > 0 else Kind.MAXIMUM
    return Classified(kind, float(own[0]), float(own[-1]))


def _wanders(objective: Counted, x: Vector, gradient: Vector, hessian: Matrix, scale: Vector) -> bool:
    step = np.linalg.solve(hessian / np.outer(scale, scale), -gradient / scale) / scale
    if np.linalg.norm(step) <= NEAR * max(1.0, float(np.linalg.norm(x))):
        return False
    there = objective.hessian(x + step)
    if not np.isfinite(there).all():
        return True
    before, after = (
        float(np.abs(np.linalg.eigvalsh(h / np.outer(scale, scale))).min()) for h in (hessian, there)
    )
    return abs(after - before) > 0.1 * before


def sentence(
    ending: Ending,
    steps: int,
    value: float,
    norm: float,
    note: str,
    objective: Counted,
    classified: Classified | None,
    *,
    start: float,
    tolerance: float,
    penalty: bool,
    left: Sequence[int] = (),
) -> str:
    """Return how a run ended, in words; `left` are the steps at which it left a saddle or a maximum."""
    if left:
        stops = f"step{'s' * (len(left) > 1)} {', '.join(map(str, left))}"
        ended = sentence(
            ending, steps, value, norm, note, objective, classified,
            start=start, tolerance=tolerance, penalty=penalty,
        )  # fmt: skip
        return f"{ended} At {stops} it left a saddle or a maximum."
    zero = "The gradient mapping" if penalty else "The gradient"
    after = "at the start" if steps == 0 else f"after {steps} step{'s' * (steps != 1)}"
    size = f"{zero} is {norm:.3g}, the tolerance {tolerance:.3g}."
    if ending is Ending.CONVERGED:
        found = f"{zero} is zero to {tolerance:.3g} {after}"
        if penalty:
            return (
                f"{found}: no small step lowers the sum, which makes it a minimum if the function is convex."
            )
        if classified is None:
            return (
                f"{found}; what the point is was not looked at: the Hessian of {objective.size} coordinates "
                "is too large, or not finite."
            )
        return f"{found}; {_KINDS[classified.kind](classified)}"
    if ending is Ending.STUCK:
        rounding = (
            " Differences are good to about 1e-10 of the value."
            if objective.derivatives.gradient is None
            else ""
        )
        return f"Stopped {after}: {note}. {size}{rounding}"
    higher = f" The value is {value:.6g}, no lower than the {start:.6g} at the start." * (value >= start)
    if ending is Ending.STEPS:
        return f"Stopped {after}, as many as were allowed. {size}{higher}"
    if ending is Ending.EVALUATIONS:
        made = objective.evaluations
        return (
            f"Stopped {after} and {made.value} values and {made.gradient} gradients, as many evaluations as "
            f"were allowed. {size}{higher}"
        )
    if ending is Ending.DIVERGED:
        return (
            f"Diverged: the point is the last where all is finite, {after}; the value there is {value:.6g}, "
            f"and was {start:.6g} at the start."
        )
    return f"The values fall without end, to {value:.3g} {after}: the function seems to have no minimum."


def _undecided(found: Classified) -> str:
    if found.smallest == found.largest == 0:
        return "the point may be a minimum or not: the Hessian is zero there and does not decide."
    values = f"{found.smallest:.3g}"
    if found.largest != found.smallest:
        values += f" to {found.largest:.3g}"
    return (
        "the point may be a minimum or not: the Hessian is singular there, or too near to it to decide "
        f"(eigenvalues {values})."
    )


_KINDS: dict[Kind, Callable[[Classified], str]] = {
    Kind.MINIMUM: lambda found: (
        f"the point is a local minimum: the smallest eigenvalue of the Hessian is {found.smallest:.3g}."
    ),
    Kind.MAXIMUM: lambda found: (
        f"the point is a maximum: the largest eigenvalue of the Hessian is {found.largest:.3g}."
    ),
    Kind.SADDLE: lambda found: (
        f"the point is a saddle: the Hessian has an eigenvalue of {found.smallest:.3g}."
    ),
    Kind.DEGENERATE: _undecided,
}

"""The subgradient method, for convex functions with kinks: |x|, max(0, 1 − x), a largest value.

A subgradient g at x supports f from below: f(z) ≥ f(x) + ⟨g, z − x⟩ for every z. At a kink there are many.
A step along −g need not lower f, however short, and g does not become small near a minimum: so the step must
shrink by itself, there is no zero slope to stop at, and what is handed out is the best point so far.
"""

import math
from collections.abc import Iterator

import numpy as np

from thalweg.hyper import ABOVE_0, ANY, Real
from thalweg.solvers.base import Iterate, Objective, Solver, Vector


def subgradient(
    objective: Objective, x: Vector, *, rate: float = 0.1, minimum: float | None = None
) -> Iterator[Iterate]:
    """Yield the best point so far of x_{t+1} = x_t − η_t g_t, t from 1.

    η_t is rate/√t; where the minimum f* is known, Polyak's (f(x_t) − f*)/‖g_t‖², which never takes x further
    from a minimiser.

    Args:
        objective: f, convex; its gradient is to be a subgradient where it has a kink, as autograd's is
            for sums and largest values of |x| and max(x, 0).
        x: the start, (n,).
        rate: above 0; not used where the minimum is known.
        minimum: f*, or None. A number below f* makes steps too long to settle.

    Polyak's step solves |x| at once; 1/√t, from 1.6, goes to 0.6 and −0.107, and on to 0.47, which is worse:

    >>> class Size:
    ...     size = 1
    ...     def value(self, x): return float(abs(x[0]))
    ...     def gradient(self, x): return np.sign(x)
    >>> [item.x.tolist() for item in subgradient(Size(), np.array([3.0]), minimum=0.0)]
    [[3.0], [0.0]]
    >>> iterates = subgradient(Size(), np.array([1.6]), rate=1.0)
    >>> [round(float(next(iterates).x[0]), 3) for _ in range(4)]
    [1.6, 0.6, -0.107, -0.107]

    Source: `SUBGRADIENT`.
    """
    best, t = Iterate(x, objective.value(x), objective.gradient(x)), 1
    here = best
    while True:
        note = ""
        if minimum is not None and here.value <= minimum:
            note = "it has the value that was given as the minimum"
        elif not here.slope.any():
            note = "0 is a subgradient, so that for a convex function it is a minimum"
        yield best._replace(note=note)
        if note:
            return
        if minimum is None:
            size = rate / math.sqrt(t)
        else:
            size = (here.value - minimum) / float(here.slope @ here.slope)
        x = here.x - size * here.slope
        here = Iterate(x, objective.value(x), objective.gradient(x))
        if here.value < best.value or not np.isfinite(here.value):
            best = here
        t += 1


SUBGRADIENT = Solver(
    name="subgradient",
    title="Subgradient method",
    run=subgradient,
    formula="x ← x − η_t g, g a subgradient; η_t = rate/√t, or (f(x) − f*)/‖g‖² where f* is known",
    source="Shor 1962; Polyak 1969. The steps are not divided by ‖g‖, as some have them.",
    use="Convex functions with kinks that no proximal operator is known for; slow, as 1/√t.",
    options={
        "rate": Real(0.1, "the first step, before it is divided by √t", ABOVE_0),
        "minimum": Real(None, "the value of the minimum, for Polyak's step", ANY, optional=True),
    },
)

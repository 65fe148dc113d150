"""The one list of methods that `minimize` knows: name → `Solver`."""

from collections.abc import Mapping

from thalweg.solvers.base import Solver
from thalweg.solvers.descent import DESCENT
from thalweg.solvers.quasi_newton import QUASI_NEWTON

METHODS: Mapping[str, Solver] = {
    solver.name: solver
    for solver in (
        *DESCENT,
        *QUASI_NEWTON,
    )
}

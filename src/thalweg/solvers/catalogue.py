"""The one list of methods that `minimize` knows: name → `Solver`."""

from collections.abc import Mapping

from thalweg.solvers.base import Solver
from thalweg.solvers.composite import COMPOSITE
from thalweg.solvers.descent import DESCENT
from thalweg.solvers.gauss_newton import GAUSS_NEWTON
from thalweg.solvers.newton import NEWTON
from thalweg.solvers.quasi_newton import QUASI_NEWTON
from thalweg.solvers.rules import RULE_METHODS
from thalweg.solvers.subgradient import SUBGRADIENT
from thalweg.solvers.variance_reduced import VARIANCE_REDUCED

METHODS: Mapping[str, Solver] = {
    solver.name: solver
    for solver in (
        *DESCENT,
        *NEWTON,
        *QUASI_NEWTON,
        *GAUSS_NEWTON,
        SUBGRADIENT,
        *COMPOSITE,
        *VARIANCE_REDUCED,
        *RULE_METHODS,
    )
}

"""What all solvers share: what they are given, and what they hand out step by step.

A *method* is a generator: it is given an objective and a start, and yields an `Iterate` for the start and
for every step. It knows neither when to stop nor what is kept: one loop (`minimize`) takes what it yields,
keeps the path, applies the stopping rules and words the outcome.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from thalweg.hyper import Hyperparameter

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


class Objective(Protocol):
    """A function of a vector, counted: each call adds one to the count of what it computes."""

    @property
    def size(self) -> int:
        """How many coordinates there are."""

    def value(self, x: Vector) -> float:
        """Return f(x)."""

    def gradient(self, x: Vector) -> Vector:
        """Return ∇f(x), (n,)."""

    def hessian(self, x: Vector) -> Matrix:
        """Return ∇²f(x), (n, n)."""

    def hessian_product(self, x: Vector, v: Vector) -> Vector:
        """Return ∇²f(x) v, (n,)."""


class Iterate(NamedTuple):
    """Where a method is after a step.

    `slope` is what is zero at a solution: the gradient; under a penalty the gradient mapping
    (x − prox(x − η∇f(x)))/η. `note` says in words why the method can go no further, else it is empty; a
    method that ends by itself yields a last iterate with a note.
    """

    x: Vector
    value: float  # of the whole objective, the penalty with it
    slope: Vector
    note: str = ""


Method = Callable[..., Iterator[Iterate]]
Penalty = Any  # see `thalweg.solvers.proximal`


class Need(Enum):
    """What a method is given beside the objective; the value says it in words."""

    RESIDUALS = "residuals, the function r of f = ½‖r‖²"
    METRIC = "a metric: residuals, or metric, a function that returns the Fisher matrix at x"
    PENALTY = "penalty, what is added to the smooth function"
    TERMS = "a thalweg.solvers.finite_sum.FiniteSum, whose terms can be asked for one by one"


@dataclass(frozen=True)
class Solver:
    """A method as a row of the catalogue.

    `run(objective, x, **options)` yields the iterates. The objective of `minimize` is an
    `thalweg.solvers.objective.Counted`: it also has `function` (what the caller passed), `layout` (how the
    vector is split into named arrays), `residuals`, `jacobian` and `metric`. A method with `Need.PENALTY`
    is passed `penalty` too, and one that is `random` the `seed`. One that `leaves_saddles` is asked for one
    more step where the gradient is zero and the Hessian has a negative eigenvalue.
    """

    name: str
    title: str
    run: Method
    formula: str
    source: str  # where it comes from, and every departure
    use: str  # when to take it, in one line
    options: Mapping[str, Hyperparameter] = field(default_factory=dict)
    needs: frozenset[Need] = frozenset()
    random: bool = False
    leaves_saddles: bool = False

"""What all solvers share: what they are given, and what they hand out step by step.

A *method* is a generator: it is given an objective and a start, and yields an `Iterate` for the start and
for every step. It knows neither when to stop nor what is kept: one loop (`minimize`) takes what it yields,
keeps the path, applies the stopping rules and words the outcome.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

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

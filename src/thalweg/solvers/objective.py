"""The objective of `minimize`: a function with its derivatives, whoever computes them, and counts of both."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import InputError
from thalweg.solvers.base import Matrix, Vector
from thalweg.solvers.layout import Layout

ROUNDING = float(np.finfo(np.float64).eps)


class Evaluations(NamedTuple):
    """How often what was computed."""

    value: int = 0  # f(x), or the residuals at x
    gradient: int = 0  # ∇f(x), or the Jacobian; one by differences takes 2n values as well
    hessian: int = 0
    product: int = 0  # the Hessian times a vector


class Spent(Exception):
    """The evaluations that were allowed have been made."""


@dataclass(frozen=True)
class Derivatives:
    """A function of a vector and what is known of its derivatives; None where they are found by differences.

    `by` says in words who computes the gradient.
    """

    value: Callable[[Vector], Any]
    gradient: Callable[[Vector], Any] | None = None
    hessian: Callable[[Vector], Any] | None = None
    product: Callable[[Vector, Vector], Any] | None = None
    by: str = "central differences"


class Counted:
    """A function with derivatives, counted; what was computed last at a point is not computed again.

    Args:
        function: what the caller passed.
        layout: how a vector becomes what the function takes.
        derivatives: the function on vectors; with `residuals`, r, and its gradient the Jacobian.
        is_residuals: whether f(x) = ½‖r(x)‖².
        metric: a function that returns the metric of a natural gradient at x, (n, n).

    `limit` is how many values and gradients may be computed; then `Spent` is raised.
    """

    def __init__(
        self,
        function: Any,
        layout: Layout,
        derivatives: Derivatives,
        *,
        is_residuals: bool = False,
        metric: Callable[[Any], Any] | None = None,
    ) -> None:
        self.function, self.layout, self.derivatives = function, layout, derivatives
        self.is_residuals, self.metric_of, self.limit = is_residuals, metric, np.inf
        self.size = sum(int(np.prod(shape)) for shape in layout.shapes.values())
        self.evaluations = Evaluations()
        self._last: dict[str, tuple[Vector, Any]] = {}

    def value(self, x: Vector) -> float:
        """Return f(x)."""
        if self.is_residuals:
            r = self.residuals(x)
            with np.errstate(over="ignore", invalid="ignore"):
                return 0.5 * float(r @ r)
        return float(self._remembered("value", x, self._value))

    def gradient(self, x: Vector) -> Vector:
        """Return ∇f(x), (n,)."""
        if self.is_residuals:
            with np.errstate(over="ignore", invalid="ignore"):
                slope: Vector = self.jacobian(x).T @ self.residuals(x)
                return slope
        return self._remembered("gradient", x, self._gradient)

    def residuals(self, x: Vector) -> Vector:
        """Return r(x), (m,)."""
        return self._remembered("value", x, self._value)

    def jacobian(self, x: Vector) -> Matrix:
        """Return the Jacobian of the residuals, (m, n)."""
        return self._remembered("gradient", x, self._gradient)

    def metric(self, x: Vector) -> Matrix:
        """Return the metric of a natural gradient: given, or JᵀJ, the Fisher matrix of unit noise."""
        if self.metric_of is None:
            slopes = self.jacobian(x)
            return slopes.T @ slopes
        return _shaped(self.metric_of(self.layout.point(x)), (self.size, self.size), "the metric")

    def hessian(self, x: Vector) -> Matrix:
        """Return ∇²f(x), (n, n): exact, or by differences of gradients."""
        return self._remembered("hessian", x, self._hessian)

    def hessian_product(self, x: Vector, v: Vector) -> Vector:
        """Return ∇²f(x) v, (n,): exact, or by a difference of gradients."""
        if self.derivatives.product is not None:
            self._count(product=1)
            return _shaped(self.derivatives.product(x, v), (self.size,), "the Hessian product")
        if self.derivatives.hessian is not None:
            return self.hessian(x) @ v
        length = float(np.linalg.norm(v))
        if length == 0:
            return np.zeros_like(v)
        step = self._step() * max(1.0, float(np.linalg.norm(x))) / length
        return (self.gradient(x + step * v) - self.gradient(x - step * v)) / (2 * step)

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Compute without counting, and without a limit."""
        evaluations, limit = self.evaluations, self.limit
        self.limit = np.inf
        try:
            yield
        finally:
            self.evaluations, self.limit = evaluations, limit

    @property
    def exact_hessian(self) -> bool:
        """Whether second derivatives are more than differences."""
        return self.derivatives.hessian is not None

    def _step(self) -> float:
        """Return the relative step of a difference of gradients: the cube root of their relative error."""
        error = ROUNDING if self.derivatives.gradient is not None else ROUNDING ** (2 / 3)
        return float(error ** (1 / 3))

    def _value(self, x: Vector) -> Any:
        self._count(value=1)
        found = self.derivatives.value(x)
        if not self.is_residuals:
            return found
        return np.asarray(found, np.float64).ravel()

    def _gradient(self, x: Vector) -> NDArray[np.float64]:
        here = self.residuals(x) if self.is_residuals else None
        self._count(gradient=1)
        if self.derivatives.gradient is None:
            return differences(self._value, x, self.value(x) if here is None else here)
        if here is None:
            return _shaped(self.derivatives.gradient(x), (self.size,), "the gradient")
        return _shaped(self.derivatives.gradient(x), (len(here), self.size), "the Jacobian")

    def _hessian(self, x: Vector) -> Matrix:
        if self.derivatives.hessian is not None:
            self._count(hessian=1)
            found = _shaped(self.derivatives.hessian(x), (self.size, self.size), "the Hessian")
            return (found + found.T) / 2
        rows = []
        for place in range(self.size):
            step = self._step() * max(1.0, abs(float(x[place])))
            above, below = x.copy(), x.copy()
            above[place] += step
            below[place] -= step
            rows.append((self.gradient(above) - self.gradient(below)) / (above[place] - below[place]))
        found = np.array(rows)
        return (found + found.T) / 2

    def _remembered(self, what: str, x: Vector, compute: Callable[[Vector], Any]) -> NDArray[np.float64]:
        if what not in self._last or not np.array_equal(self._last[what][0], x):
            self._last[what] = (x.copy(), compute(x))
        found: NDArray[np.float64] = self._last[what][1]
        return found

    def _count(self, **made: int) -> None:
        if self.evaluations.value + self.evaluations.gradient >= self.limit and "hessian" not in made:
            raise Spent
        counts = {name: getattr(self.evaluations, name) + more for name, more in made.items()}
        self.evaluations = self.evaluations._replace(**counts)


def differences(f: Callable[[Vector], Any], x: Vector, here: Any, longer: float = 1.0) -> NDArray[np.float64]:
    """Return the gradient, or the Jacobian, by central differences with steps ε^⅓ max(1, |xᵢ|).

    Where f is not finite on one side, the difference to the other side is taken.

    Args:
        f: the function, of one value or several.
        x: where, (n,).
        here: f(x).
        longer: a factor of the steps.

    >>> differences(lambda x: x[0] ** 2 + 3 * x[1], np.array([1.0, 0.0]), 1.0).round(6).tolist()
    [2.0, 3.0]
    """
    columns = []
    for place in range(len(x)):
        step = longer * ROUNDING ** (1 / 3) * max(1.0, abs(float(x[place])))
        above, below = x.copy(), x.copy()
        above[place] += step
        below[place] -= step
        up, down = f(above), f(below)
        if not np.isfinite(up).all():
            up, above = here, x
        elif not np.isfinite(down).all():
            down, below = here, x
        with np.errstate(invalid="ignore"):
            columns.append((np.asarray(up) - np.asarray(down)) / (above[place] - below[place]))
    return np.stack(columns, -1).astype(np.float64)


def plain(found: Any) -> NDArray[np.float64]:
    """Return numbers, an array or a tensor as an array."""
    found = found.detach().cpu().double().numpy() if hasattr(found, "detach") else found
    return np.asarray(found, np.float64)


def _shaped(found: Any, shape: tuple[int, ...], who: str) -> NDArray[np.float64]:
    array = plain(found)
    if array.shape != shape:
        raise InputError(who, f"have the shape {shape}", array.shape, "One number for each coordinate.")
    return array

"""Penalties that are not smooth, and constraints, as records: what they add, and their proximal operator.

prox(x, η) = argmin_z ½‖z − x‖² + η·penalty(z). A constraint is a penalty of 0 inside and infinity outside;
its proximal operator is the nearest point inside, whatever η is. The formulas that a rule's proximal step
uses too are in `thalweg.rules.shrinkage`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from thalweg.errors import InputError
from thalweg.rules.shrinkage import clip, elastic, positive, shrink, soft
from thalweg.solvers.base import Vector


class Penalty(Protocol):
    """What is added to a smooth function; any object with these three will do."""

    @property
    def words(self) -> str:
        """The penalty as a formula."""

    def value(self, x: Vector) -> float:
        """Return the penalty at x, infinity where x is not allowed."""

    def prox(self, x: Vector, step: float) -> Vector:
        """Return argmin_z ½‖z − x‖² + step·penalty(z)."""


@dataclass(frozen=True)
class NoPenalty:
    """No penalty: 0 everywhere, and its proximal operator changes nothing.

    >>> NoPenalty().prox(np.array([2.0]), 1.0).tolist()
    [2.0]
    """

    words: str = "0"

    def value(self, x: Vector) -> float:
        """Return 0."""
        del x
        return 0.0

    def prox(self, x: Vector, step: float) -> Vector:
        """Return x."""
        del step
        return x


@dataclass(frozen=True)
class L1:
    """strength·Σ|xᵢ|: the lasso; its proximal operator, soft thresholding, makes exact zeros.

    >>> L1(0.5).value(np.array([2.0, -1.0])), L1(0.5).prox(np.array([2.0, -0.25]), 1.0).tolist()
    (1.5, [1.5, -0.0])

    Raises InputError for a strength below 0. Source: Tibshirani 1996; Donoho 1995.
    """

    strength: float

    def __post_init__(self) -> None:
        _refuse_strength("L1", self.strength)

    @property
    def words(self) -> str:
        """The penalty as a formula."""
        return f"{self.strength:g}·Σ|xᵢ|"

    def value(self, x: Vector) -> float:
        """Return strength·Σ|xᵢ|."""
        return self.strength * float(np.abs(x).sum())

    def prox(self, x: Vector, step: float) -> Vector:
        """Return sign(x)·max(|x| − step·strength, 0)."""
        return _vector(soft(x, step * self.strength))


@dataclass(frozen=True)
class ElasticNet:
    """strength·(l1_share·Σ|xᵢ| + ½(1 − l1_share)·Σxᵢ²): scikit-learn's, with alpha and l1_ratio.

    >>> ElasticNet(1.0, 0.5).value(np.array([2.0])), ElasticNet(1.0, 0.5).prox(np.array([2.0]), 1.0).tolist()
    (2.0, [1.0])

    Raises InputError for a strength below 0 or a share outside [0, 1]. Source: Zou and Hastie 2005.
    """

    strength: float
    l1_share: float = 0.5

    def __post_init__(self) -> None:
        _refuse_strength("ElasticNet", self.strength)
        if not 0 <= self.l1_share <= 1:
            raise InputError("l1_share of ElasticNet", "be a number in [0, 1]", self.l1_share, "Try 0.5.")

    @property
    def words(self) -> str:
        """The penalty as a formula."""
        squares = f"{(1 - self.l1_share) / 2:g}·Σxᵢ²"
        return f"{self.strength:g}·({self.l1_share:g}·Σ|xᵢ| + {squares})"

    def value(self, x: Vector) -> float:
        """Return strength·(l1_share·Σ|xᵢ| + ½(1 − l1_share)·Σxᵢ²)."""
        ridge = 0.5 * (1 - self.l1_share) * float(x @ x)
        return self.strength * (self.l1_share * float(np.abs(x).sum()) + ridge)

    def prox(self, x: Vector, step: float) -> Vector:
        """Return soft(x, step·strength·l1_share)/(1 + step·strength·(1 − l1_share))."""
        return _vector(elastic(x, step * self.strength, self.l1_share))


@dataclass(frozen=True)
class Group:
    """strength·Σ_g c_g·‖x_g‖ over groups of coordinates: whole groups become zero together.

    `groups` holds the places of each group, which no two share; a coordinate of none is not penalised.
    c_g is √(size of the group), as Yuan and Lin have it, so that large groups are not favoured; with
    `by_size=False` it is 1, as in the wrapper of a rule.

    >>> penalty = Group(2.5, [[0, 1], [2]], by_size=False)
    >>> penalty.value(np.array([3.0, 4.0, 1.0])), penalty.prox(np.array([3.0, 4.0, 1.0]), 1.0).tolist()
    (15.0, [1.5, 2.0, 0.0])

    Raises InputError for a strength below 0 and for groups that are empty or overlap. Source: Yuan and Lin
    2006.
    """

    strength: float
    groups: Sequence[Sequence[int]]
    by_size: bool = True

    def __post_init__(self) -> None:
        _refuse_strength("Group", self.strength)
        places = [place for group in self.groups for place in group]
        if not all(len(group) for group in self.groups) or min(places, default=0) < 0:
            raise InputError("groups of Group", "be lists of places from 0 on", self.groups)
        if len(set(places)) < len(places):
            raise InputError(
                "groups of Group",
                "share no coordinate",
                self.groups,
                "Overlapping groups have no closed form.",
            )

    @property
    def words(self) -> str:
        """The penalty as a formula."""
        return f"{self.strength:g}·Σ_g {'√size_g·' if self.by_size else ''}‖x_g‖"

    def _weight(self, group: Sequence[int]) -> float:
        return self.strength * (math.sqrt(len(group)) if self.by_size else 1.0)

    def value(self, x: Vector) -> float:
        """Return strength·Σ_g c_g·‖x_g‖."""
        return float(sum(self._weight(group) * np.linalg.norm(x[list(group)]) for group in self.groups))

    def prox(self, x: Vector, step: float) -> Vector:
        """Return x_g·max(1 − step·strength·c_g/‖x_g‖, 0) for each group."""
        found = x.copy()
        for group in self.groups:
            found[list(group)] = shrink(x[list(group)], step * self._weight(group), (-1,))
        return found


@dataclass(frozen=True)
class Box:
    """low ≤ xᵢ ≤ high; the bounds are numbers, or sequences with one for each coordinate.

    >>> Box(-1.0, 1.0).prox(np.array([-3.0, 0.5]), 1.0).tolist(), Box(-1.0, 1.0).value(np.array([2.0]))
    ([-1.0, 0.5], inf)

    Raises InputError where a lower bound is above its upper one, or a bound is NaN.
    """

    low: float | Sequence[float]
    high: float | Sequence[float]

    def __post_init__(self) -> None:
        if np.ndim(self.low) and np.ndim(self.high) and np.shape(self.low) != np.shape(self.high):
            raise InputError("low and high of Box", "have one length", f"{self.low} and {self.high}")
        if not np.all(np.asarray(self.low) <= np.asarray(self.high)):
            raise InputError("low of Box", "be at most high", f"low={self.low}, high={self.high}")

    @property
    def words(self) -> str:
        """The constraint as a formula."""
        return f"{self.low} ≤ xᵢ ≤ {self.high}"

    def value(self, x: Vector) -> float:
        """Return 0 within the bounds, else infinity."""
        return 0.0 if np.all((x >= np.asarray(self.low)) & (x <= np.asarray(self.high))) else math.inf

    def prox(self, x: Vector, step: float) -> Vector:
        """Return the nearest point within the bounds."""
        del step
        return _vector(clip(x, np.asarray(self.low, np.float64), np.asarray(self.high, np.float64)))


@dataclass(frozen=True)
class Nonnegative:
    """xᵢ ≥ 0.

    >>> Nonnegative().prox(np.array([-3.0, 0.5]), 1.0).tolist(), Nonnegative().value(np.array([-3.0]))
    ([0.0, 0.5], inf)
    """

    words: str = "xᵢ ≥ 0"

    def value(self, x: Vector) -> float:
        """Return 0 where no coordinate is below 0, else infinity."""
        return 0.0 if np.all(x >= 0) else math.inf

    def prox(self, x: Vector, step: float) -> Vector:
        """Return max(x, 0)."""
        del step
        return _vector(positive(x))


@dataclass(frozen=True)
class Simplex:
    """xᵢ ≥ 0 and Σxᵢ = total: probabilities, mixtures, portfolios. The sum is met to rounding.

    The nearest point is max(x − τ, 0) with the τ that gives the sum; sorting finds it: with u the
    coordinates, largest first, τ is the last (Σⱼ≤ᵢ uⱼ − total)/i that is below uᵢ.

    >>> Simplex().prox(np.array([1.0, 0.5, -2.0]), 1.0).tolist()  # τ = (1 + 0.5 − 1)/2 = 0.25
    [0.75, 0.25, 0.0]

    Raises InputError for a total that is not above 0. Source: Held, Wolfe and Crowder 1974.
    """

    total: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.total < math.inf:
            raise InputError("total of Simplex", "be a finite number above 0", self.total)

    @property
    def words(self) -> str:
        """The constraint as a formula."""
        return f"xᵢ ≥ 0, Σxᵢ = {self.total:g}"

    def value(self, x: Vector) -> float:
        """Return 0 on the simplex, to rounding, else infinity."""
        rounding = 4 * x.size * np.finfo(np.float64).eps * self.total
        return 0.0 if np.all(x >= 0) and abs(x.sum() - self.total) <= rounding else math.inf

    def prox(self, x: Vector, step: float) -> Vector:
        """Return the nearest point of the simplex."""
        del step
        falling = np.sort(x)[::-1]
        shifts = (np.cumsum(falling) - self.total) / np.arange(1, x.size + 1)
        # The first always is below; in floating point it may not be, where x is huge beside the total.
        last = max(int(np.count_nonzero(shifts < falling)), 1)
        found = _vector(positive(x - shifts[last - 1]))
        mass = found.sum()
        if not mass > 0:  # the total is below the rounding of x: all of it to the largest
            found[np.argmax(x)], mass = self.total, self.total
        return _vector(found * (self.total / mass))


@dataclass(frozen=True)
class NuclearNorm:
    """strength·Σ singular values of x as a matrix of a shape, row by row: low rank.

    >>> penalty = NuclearNorm(1.0, (2, 2))
    >>> penalty.prox(np.array([3.0, 0.0, 0.0, 0.5]), 1.0).round(12).tolist()  # singular values 3 and 0.5
    [2.0, 0.0, 0.0, 0.0]

    Raises InputError for a strength below 0. Source: Cai, Candès and Shen 2010.
    """

    strength: float
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        _refuse_strength("NuclearNorm", self.strength)

    @property
    def words(self) -> str:
        """The penalty as a formula."""
        return f"{self.strength:g}·Σ σᵢ(X), X {self.shape[0]} × {self.shape[1]}"

    def value(self, x: Vector) -> float:
        """Return strength·Σ σᵢ."""
        return self.strength * float(np.linalg.svd(x.reshape(self.shape), compute_uv=False).sum())

    def prox(self, x: Vector, step: float) -> Vector:
        """Return U·diag(max(σ − step·strength, 0))·Vᵀ."""
        left, values, right = np.linalg.svd(x.reshape(self.shape), full_matrices=False)
        return _vector(((left * soft(values, step * self.strength)) @ right).ravel())


@dataclass(frozen=True)
class Except:
    """A penalty on all coordinates but some, which are free: an intercept.

    >>> Except(L1(1.0), [0]).prox(np.array([5.0, 5.0]), 1.0).tolist()
    [5.0, 4.0]

    `free` are places from 0 on; the penalty sees the others, in their order.
    """

    penalty: Penalty
    free: Sequence[int]

    def __post_init__(self) -> None:
        if min(self.free, default=0) < 0:
            raise InputError("free of Except", "be places from 0 on", self.free)

    @property
    def words(self) -> str:
        """The penalty as a formula."""
        return f"{self.penalty.words}, without x{', x'.join(map(str, self.free))}"

    def _rest(self, x: Vector) -> Vector:
        return np.delete(x, list(self.free))

    def value(self, x: Vector) -> float:
        """Return the penalty of the other coordinates."""
        return self.penalty.value(self._rest(x))

    def prox(self, x: Vector, step: float) -> Vector:
        """Return x with the other coordinates replaced by their proximal operator."""
        found = x.copy()
        found[np.delete(np.arange(x.size), list(self.free))] = self.penalty.prox(self._rest(x), step)
        return found


def refuse_size(penalty: Penalty | None, size: int) -> None:
    """Raise InputError where a penalty of this module does not fit a vector of `size` coordinates.

    >>> refuse_size(NuclearNorm(1.0, (2, 3)), 6)
    >>> refuse_size(NuclearNorm(1.0, (2, 3)), 5)
    Traceback (most recent call last):
    ...
    thalweg.errors.InputError: shape of NuclearNorm must have as many entries as x, 5; got (2, 3).
    """
    match penalty:
        case Group(groups=groups) if max((max(group) for group in groups), default=0) >= size:
            raise InputError("groups of Group", f"name coordinates of x, below {size}", groups)
        case NuclearNorm(shape=shape) if math.prod(shape) != size:
            raise InputError("shape of NuclearNorm", f"have as many entries as x, {size}", shape)
        case Box(low=low, high=high) if any(np.ndim(b) and np.shape(b) != (size,) for b in (low, high)):
            raise InputError(
                "bounds of Box", f"be numbers, or one for each of {size} coordinates", (low, high)
            )
        case Except(penalty=inner, free=free):
            if max(free, default=0) >= size:
                raise InputError("free of Except", f"name coordinates of x, below {size}", free)
            refuse_size(inner, size - len(set(free)))


def _refuse_strength(name: str, strength: float) -> None:
    if not 0 <= strength < math.inf:
        raise InputError(f"strength of {name}", "be a finite number of at least 0", strength)


def _vector(x: Vector) -> Vector:
    return np.asarray(x, dtype=np.float64)

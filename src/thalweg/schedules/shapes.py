"""The shapes with a formula of their own, from easy to hard. N is a length, t the clock, from 0.

Each factor is a closed form of t. A shape that ends holds its last factor; it
does not swing up again, as PyTorch's `CosineAnnealingLR` does after T_max.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from thalweg.errors import InputError
from thalweg.hyper import ABOVE_0, AT_LEAST_0, Choice, Hyperparameter, Integer, Interval, Real
from thalweg.schedules.base import CLOCKS, Array, FromRun, Schedule, Shape, declared, known

UNIT_CLOSED = Interval(0, 1)
RATIO = Interval(0, 1, closed="right")


def whole_run(schedule: Any, run: int) -> int:
    """Fill an open length: the whole run."""
    del schedule
    return run


def warmup_of(schedule: Any, run: int) -> int:
    """Fill an open warm-up: a twentieth of the run, rounded down."""
    del schedule
    return run // 20


def length(meaning: str) -> Any:
    """Declare a length that is by default the whole run."""
    given = Integer(1, meaning, Interval(1))
    return declared(FromRun(None, f"{meaning} (the whole run)", given, whole_run))


def warmup(meaning: str) -> Any:
    """Declare a warm-up that is by default a twentieth of the run; 0 is none."""
    given = Integer(0, meaning, AT_LEAST_0)
    return declared(FromRun(None, f"{meaning} (a twentieth of the run)", given, warmup_of))


def floor() -> Any:
    """Declare the factor at the end of a fall."""
    return declared(Real(0.0, "the factor at the end", UNIT_CLOSED))


@dataclass(frozen=True)
class Milestones(Hyperparameter):
    """Whole numbers above 0, each larger than the one before."""

    @property
    def must(self) -> str:
        """What a value must be."""
        return "whole numbers above 0, each larger than the one before"

    def accepts(self, value: Any) -> bool:
        """Tell whether the value is a tuple or list of increasing whole numbers above 0."""
        whole = Integer(1, "", Interval(1))
        return (
            isinstance(value, tuple | list)
            and all(whole.accepts(x) for x in value)
            and all(a < b for a, b in itertools.pairwise(value))
        )

    def invalid(self) -> Iterator[Any]:
        """Yield tuples that do not increase, or hold something else, and a bare number."""
        yield from ((2, 1), (1, 1), (0, 1), (1, 2.5), ("a",), (True,), 3, None)

    def parse(self, text: str) -> tuple[int, ...]:
        """Read whole numbers between commas."""
        return tuple(int(x) for x in text.split(","))


@dataclass(frozen=True, kw_only=True)
class Constant(Shape):
    """The same factor at every tick.

    >>> Constant()(1000)
    1.0
    """

    name: ClassVar[str] = "constant"
    factor: float = declared(Real(1.0, "the factor", AT_LEAST_0))

    def _values(self, t: Array) -> Array:
        return np.full_like(t, self.factor)


def _third(schedule: Any, run: int) -> int:
    del schedule
    return -(-run // 3)  # rounded up: a last drop just before the end would be wasted


@dataclass(frozen=True, kw_only=True)
class Step(Shape):
    """r^⌊t/k⌋: multiplied by r every k ticks.

    >>> [Step(every=10, ratio=0.5)(t) for t in (0, 9, 10, 25)]
    [1.0, 1.0, 0.5, 0.25]
    """

    name: ClassVar[str] = "step"
    every: int | None = declared(
        FromRun(None, "k: ticks between drops (a third of the run)", Integer(1, "", Interval(1)), _third)
    )
    ratio: float = declared(Real(0.1, "r: what each drop multiplies by", RATIO))

    def _values(self, t: Array) -> Array:
        return self.ratio ** (t // known(self.every))


def _half_and_three_quarters(schedule: Any, run: int) -> tuple[int, ...]:
    del schedule
    return tuple(sorted({run // 2, 3 * run // 4} - {0}))


@dataclass(frozen=True, kw_only=True)
class Multistep(Shape):
    """r^n, n the number of milestones that are ≤ t.

    >>> [Multistep(milestones=(30, 60), ratio=0.5)(t) for t in (29, 30, 60)]
    [1.0, 0.5, 0.25]
    """

    name: ClassVar[str] = "multistep"
    milestones: tuple[int, ...] | None = declared(
        FromRun(
            None,
            "ticks of the drops (a half and three quarters of the run)",
            Milestones((), ""),
            _half_and_three_quarters,
        )
    )
    ratio: float = declared(Real(0.1, "r: what each drop multiplies by", RATIO))

    def _values(self, t: Array) -> Array:
        passed: Array = np.searchsorted(known(self.milestones), t, side="right").astype(np.float64)
        return self.ratio**passed


def _to_one_hundredth(schedule: Any, run: int) -> float:
    del schedule
    return float(np.log(100.0)) / run


@dataclass(frozen=True, kw_only=True)
class Exponential(Shape):
    """e^(−kt). PyTorch's γ per step is e^(−k).

    >>> round(Exponential(decay=0.1)(10), 6)
    0.367879
    """

    name: ClassVar[str] = "exponential"
    decay: float | None = declared(
        FromRun(
            None,
            "k: decay per tick (so that the run ends at a hundredth)",
            Real(0.0, "", AT_LEAST_0),
            _to_one_hundredth,
        )
    )

    def _values(self, t: Array) -> Array:
        return np.exp(-known(self.decay) * t)


def _share(parts: int) -> Callable[[Any, int], float]:
    return lambda schedule, run: run / parts


@dataclass(frozen=True, kw_only=True)
class InverseTime(Shape):
    """1/(1 + t/t₀): Ση = ∞ and Ση² < ∞, as Robbins and Monro ask.

    >>> [InverseTime(scale=10.0)(t) for t in (0, 10, 30)]
    [1.0, 0.5, 0.25]
    """

    name: ClassVar[str] = "inverse-time"
    scale: float | None = declared(
        FromRun(None, "t₀: ticks until it is halved (a tenth of the run)", Real(1.0, "", ABOVE_0), _share(10))
    )

    def _values(self, t: Array) -> Array:
        return 1.0 / (1.0 + t / known(self.scale))


@dataclass(frozen=True, kw_only=True)
class InverseSquareRoot(Shape):
    """1/√(1 + t/t₀). After a warm-up of t₀ ticks this is the Transformer's √(t₀/s), s from the start.

    >>> [InverseSquareRoot(scale=100.0)(t) for t in (0, 300)]
    [1.0, 0.5]
    """

    name: ClassVar[str] = "inverse-square-root"
    scale: float | None = declared(
        FromRun(
            None,
            "t₀: a third of the ticks until it is halved (a hundredth of the run)",
            Real(1.0, "", ABOVE_0),
            _share(100),
        )
    )

    def _values(self, t: Array) -> Array:
        return 1.0 / np.sqrt(1.0 + t / known(self.scale))


@dataclass(frozen=True, kw_only=True)
class Linear(Shape):
    """a + (b − a)·min(t/N, 1). The last of N updates has 1/N of the way left: it is not wasted at b = 0.

    >>> [Linear(length=4)(t) for t in (0, 1, 3, 4)]
    [1.0, 0.75, 0.25, 0.0]
    """

    name: ClassVar[str] = "linear"
    length: int | None = length("N: ticks from the first factor to the last")
    start: float = declared(Real(1.0, "a: the factor at tick 0", AT_LEAST_0))
    stop: float = declared(Real(0.0, "b: the factor at tick N", AT_LEAST_0))

    def _values(self, t: Array) -> Array:
        part = np.minimum(t / known(self.length), 1.0)
        return self.start * (1.0 - part) + self.stop * part  # exact at both ends, unlike a + (b − a)·part


@dataclass(frozen=True, kw_only=True)
class Polynomial(Shape):
    """f + (1 − f)·(1 − min(t/N, 1))^p.

    >>> [Polynomial(length=10, power=2.0)(t) for t in (0, 5, 10)]
    [1.0, 0.25, 0.0]
    """

    name: ClassVar[str] = "polynomial"
    length: int | None = length("N: ticks until the floor")
    power: float = declared(Real(0.9, "p: below 1 it falls late, above 1 early", ABOVE_0))
    floor: float = floor()

    def _values(self, t: Array) -> Array:
        return self.floor + (1.0 - self.floor) * (1.0 - np.minimum(t / known(self.length), 1.0)) ** self.power


def _half_cosine(start: float, stop: float, part: Array) -> Array:
    """Go from `start` at part 0 to `stop` at part 1 along half a cosine wave."""
    return stop + (start - stop) * (1.0 + np.cos(np.pi * part)) / 2.0


@dataclass(frozen=True, kw_only=True)
class Cosine(Shape):
    """f + (1 − f)·(1 + cos(π·min(t/N, 1)))/2.

    >>> [Cosine(length=10, floor=0.5)(t) for t in (0, 5, 10, 99)]
    [1.0, 0.75, 0.5, 0.5]
    """

    name: ClassVar[str] = "cosine"
    length: int | None = length("N: ticks until the floor")
    floor: float = floor()

    def _values(self, t: Array) -> Array:
        return _half_cosine(1.0, self.floor, np.minimum(t / known(self.length), 1.0))


@dataclass(frozen=True, kw_only=True)
class Warmup(Shape):
    """min((t + 1)/N, 1): the first of N updates has 1/N of the peak, the N-th (t = N − 1) all of it.

    With (t + 1) no update is wasted at rate zero. N = 0 is no warm-up.

    >>> [Warmup(length=4)(t) for t in (0, 1, 3, 9)]
    [0.25, 0.5, 1.0, 1.0]
    """

    name: ClassVar[str] = "warmup"
    length: int | None = warmup("N: ticks until the peak")

    def _values(self, t: Array) -> Array:
        return np.minimum((t + 1.0) / max(known(self.length), 1), 1.0)


def first_of_three_cycles(multiplier: int, run: int) -> int:
    """Return the shortest T₀ with which three cycles, T₀(1 + m + m²), last for the run.

    >>> first_of_three_cycles(2, 70), first_of_three_cycles(2, 71)
    (10, 11)
    """
    return -(-run // (1 + multiplier + multiplier**2))


@dataclass(frozen=True, kw_only=True)
class WarmRestarts(Shape):
    """SGDR: half a cosine from 1 to f over T₀ ticks, again over T₀·m, T₀·m², …

    In cycle n, which begins at s(n) = T₀·(mⁿ − 1)/(m − 1), or at n·T₀ for m = 1, the factor is
    f + (1 − f)·(1 + cos(π·(t − s(n))/(T₀·mⁿ)))/2.

    >>> restarts = WarmRestarts(first=10, multiplier=2)
    >>> [round(restarts(t), 6) for t in (5, 10, 15, 35)]
    [0.5, 1.0, 0.853553, 0.96194]
    """

    name: ClassVar[str] = "warm-restarts"
    first: int | None = declared(
        FromRun(
            None,
            "T₀: ticks of the first cycle (so that three cycles fill the run)",
            Integer(1, "", Interval(1)),
            lambda schedule, run: first_of_three_cycles(schedule.multiplier, run),
        )
    )
    multiplier: int = declared(Integer(2, "m: each cycle is m times as long as the last", Interval(1)))
    floor: float = floor()

    def _values(self, t: Array) -> Array:
        m, first = self.multiplier, known(self.first)
        if m == 1:
            return _half_cosine(1.0, self.floor, (t % first) / first)
        n = np.floor(np.log1p(t / first * (m - 1)) / np.log(m))
        # The logarithm may round across a boundary; the powers themselves are exact, so they decide.
        n = n - (self._begin(n) > t)
        n = n + (self._begin(n + 1) <= t)
        return _half_cosine(1.0, self.floor, (t - self._begin(n)) / (first * float(m) ** n))

    def _begin(self, n: Array) -> Array:
        return known(self.first) * ((float(self.multiplier) ** n - 1.0) / (self.multiplier - 1))


@dataclass(frozen=True, kw_only=True)
class OneCycle(Shape):
    """Up from a to 1 along half a cosine until tick p = sN − 1, then down to b at tick N − 1.

    PyTorch's `OneCycleLR` with `three_phase=False`: a = 1/div_factor, b = a/final_div_factor, s =
    pct_start. Only the rate; the momentum, which falls while the rate rises, is not touched.

    >>> one = OneCycle(length=20, rise=0.5, start=0.0, stop=0.0)  # the peak is at tick 9
    >>> [round(one(t), 6) for t in (0, 3, 9, 14, 19)]
    [0.0, 0.25, 1.0, 0.5, 0.0]
    """

    name: ClassVar[str] = "one-cycle"
    length: int | None = length("N: ticks of the cycle")
    rise: float = declared(Real(0.3, "s: share of the length that rises", Interval(0, 1, closed="neither")))
    start: float = declared(Real(0.04, "a: the factor at tick 0", UNIT_CLOSED))
    stop: float = declared(Real(4e-6, "b: the factor at the last tick", UNIT_CLOSED))

    def _values(self, t: Array) -> Array:
        length = known(self.length)
        last = length - 1
        peak = min(max(self.rise * length - 1.0, 0.0), last)
        # A cycle of a tick or two has nothing to rise or fall through: no division by zero then.
        up = _half_cosine(self.start, 1.0, np.minimum(t / (peak or 1.0), 1.0))
        down = _half_cosine(1.0, self.stop, np.clip((t - peak) / ((last - peak) or 1.0), 0.0, 1.0))
        return np.where(t < peak, up, down)


@dataclass(frozen=True)
class Custom(Schedule):
    """Any Python function from the clock to a factor. It cannot be written to a file.

    The function is given one float at a time; `InputError` where it returns anything but a finite
    number of at least 0.

    >>> Custom(lambda t: 1.0 if t < 10 else 0.1)(10)
    0.1
    """

    function: Callable[[float], float]
    clock: str = "steps"

    name: ClassVar[str] = "custom"
    open: ClassVar[tuple[str, ...]] = ()
    end: ClassVar[None] = None

    def __post_init__(self) -> None:
        Choice("steps", "what one tick is", CLOCKS).check("clock", "the schedule custom", self.clock)
        if not callable(self.function):
            raise InputError("function of the schedule custom", "be callable", repr(self.function))

    def resolve(self, total: int) -> "Custom":
        """Return itself: nothing is open."""
        del total
        return self

    def _values(self, t: Array) -> Array:
        factors = [self._factor(tick) for tick in t.ravel().tolist()]
        return np.array(factors, dtype=np.float64).reshape(t.shape)

    def _factor(self, tick: float) -> float:
        factor = self.function(tick)
        Real(1.0, "", AT_LEAST_0).check(f"what the function returns at tick {tick:g}", self.name, factor)
        return float(factor)

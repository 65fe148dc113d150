"""What a schedule is: a frozen value and a closed-form function of its clock.

A schedule multiplies a recipe's peak rate: ``rate = peak × schedule(t)``. Its clock ``t`` counts the
updates done before this one ("steps"), or the examples or tokens. There is no state, so that a run
resumes at any ``t``. On the clocks of examples and tokens give the last tick of the update (ticks
done including this update, minus one): a warm-up of N tokens then equals one of N/B updates of B.

A field that is None is left open until the length of the run is known; `Schedule.resolve` fills it.
"""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import InputError
from thalweg.hyper import AT_LEAST_0, Choice, Hyperparameter, Integer, Interval

Array = NDArray[np.float64]
T = TypeVar("T")

CLOCKS = ("steps", "examples", "tokens")
TICKS = Integer(0, "ticks of the clock", AT_LEAST_0)
TOTAL = Integer(1, "ticks of the whole run", Interval(1))


class Schedule(ABC):
    """A function of the clock: factor of the peak rate, finite and at least 0. Abstract."""

    name: ClassVar[str]

    @property
    @abstractmethod
    def clock(self) -> str:
        """What one tick is: "steps", "examples" or "tokens"."""

    @property
    @abstractmethod
    def open(self) -> tuple[str, ...]:
        """The fields that are left open until the length of the run is known."""

    @property
    @abstractmethod
    def end(self) -> int | None:
        """The tick from which on the factor stays as it is; None: never, or not known yet."""

    @abstractmethod
    def resolve(self, total: int) -> "Schedule":
        """Return the schedule for a run of `total` ticks, with every open field filled in.

        Raises `InputError` where `total` is no whole number of at least 1, or too short.
        """

    @abstractmethod
    def _values(self, t: Array) -> Array:
        """Return the factors at ticks `t` (of any shape); nothing is open and every t is valid."""

    @overload
    def __call__(self, t: float) -> float: ...
    @overload
    def __call__(self, t: NDArray[Any]) -> Array: ...
    def __call__(self, t: Any) -> Any:
        """Return the factor at tick `t`: a float for a number, an array for an array.

        Raises `InputError` where a field is still open, or a tick is negative or not finite.
        """
        if self.open:
            raise InputError(
                f"{' and '.join(self.open)} of the schedule {self.name}",
                "be known before the schedule is read",
                None,
                "Give a value, or call resolve(total) with the length of the run.",
            )
        ticks = np.asarray(t, dtype=np.float64)
        valid = 0 <= t < math.inf if ticks.ndim == 0 else ((ticks >= 0) & (ticks < math.inf)).all()
        if not valid:
            raise InputError(
                f"the clock of the schedule {self.name}", "be a finite number of at least 0", repr(t)
            )
        values = self._values(ticks)
        return values if ticks.ndim else float(values)

    def then(self, second: "Schedule", after: int | None = None) -> "Join":
        """Return this schedule for `after` ticks (None: until its end), then `second` from its tick 0.

        >>> from thalweg.schedules import Cosine, Warmup
        >>> joined = Warmup(length=4).then(Cosine(length=8))
        >>> [joined(t) for t in (0, 3, 4, 8, 12)]
        [0.25, 1.0, 1.0, 0.5, 0.0]
        """
        return Join(self, second, after)

    def __mul__(self, second: "Schedule") -> "Product":
        return Product(self, second) if isinstance(second, Schedule) else NotImplemented


def _check_pair(first: Schedule, second: Schedule) -> None:
    for part in (first, second):
        if not isinstance(part, Schedule):
            raise InputError(
                "each part of a join or product",
                "be a schedule",
                repr(part),
                "A function of the clock is given as Custom(function).",
            )
    if first.clock != second.clock:
        raise InputError(
            f"the clock of the schedule {second.name}",
            f"be that of {first.name}, {first.clock}",
            second.clock,
            "Give both the same clock.",
        )


@dataclass(frozen=True)
class Join(Schedule):
    """Joined in time: a(t) for t < n, then b(t − n)."""

    first: Schedule
    second: Schedule
    after: int | None = None

    name: ClassVar[str] = "join"

    def __post_init__(self) -> None:
        _check_pair(self.first, self.second)
        if self.after is not None:
            TICKS.check("after", self.name, self.after)
            object.__setattr__(self, "after", int(self.after))
        elif self.first.end is None and not self.first.open:
            raise InputError(
                f"after of join, where {self.first.name} comes first",
                "be given, because that schedule has no end",
                None,
                "Say after how many ticks the second one begins.",
            )

    @property
    def clock(self) -> str:
        """The clock of both parts."""
        return self.first.clock

    @cached_property
    def open(self) -> tuple[str, ...]:
        """The open fields of both parts."""
        return _unique(self.first.open + self.second.open)

    @property
    def _begin(self) -> int | None:
        return self.first.end if self.after is None else self.after

    @property
    def end(self) -> int | None:
        """Where the second part ends."""
        begin, end = self._begin, self.second.end
        return None if begin is None or end is None else begin + end

    def resolve(self, total: int) -> "Join":
        """Give the first part the whole run, and the second one what is left of it."""
        TOTAL.check("total", self.name, total)
        first = self.first.resolve(total)
        begin = Join(first, self.second, self.after)._begin
        if begin is None or begin >= total:
            if self.second.open:
                raise InputError(
                    f"the part of join before {self.second.name}",
                    f"end before the run does, at tick {total}",
                    begin,
                    "Shorten it, or train longer.",
                )
            return Join(first, self.second, self.after)
        return Join(first, self.second.resolve(total - begin), self.after)

    def _values(self, t: Array) -> Array:
        begin = known(self._begin)  # a resolved first part has an end, or `after` was given
        early = t < begin
        second = self.second._values(np.maximum(t - begin, 0.0))
        return np.where(early, self.first._values(t), second)


@dataclass(frozen=True)
class Product(Schedule):
    """Multiplied: a(t) · b(t), on one clock."""

    first: Schedule
    second: Schedule

    name: ClassVar[str] = "product"

    def __post_init__(self) -> None:
        _check_pair(self.first, self.second)

    @property
    def clock(self) -> str:
        """The clock of both parts."""
        return self.first.clock

    @cached_property
    def open(self) -> tuple[str, ...]:
        """The open fields of both parts."""
        return _unique(self.first.open + self.second.open)

    @property
    def end(self) -> int | None:
        """Where the later of the two parts ends."""
        ends = (self.first.end, self.second.end)
        return None if ends[0] is None or ends[1] is None else max(ends[0], ends[1])

    def resolve(self, total: int) -> "Product":
        """Give both parts the whole run."""
        return Product(self.first.resolve(total), self.second.resolve(total))

    def _values(self, t: Array) -> Array:
        return self.first._values(t) * self.second._values(t)


def known(value: T | None) -> T:
    """Narrow the type of a field where nothing is open any more."""
    assert value is not None
    return value


def _unique(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


@dataclass(frozen=True)
class FromRun(Hyperparameter):
    """A value that may be left open (None), and is then filled in from the length of the run."""

    given: Hyperparameter  # what a value that is given must be
    fill: Callable[[Any, int], Any]  # (the schedule as far as it is filled, length) -> value

    @property
    def must(self) -> str:
        """What a value must be."""
        return self.given.must

    def accepts(self, value: Any) -> bool:
        """Tell whether the value is open, or valid."""
        return value is None or self.given.accepts(value)

    def invalid(self) -> Iterator[Any]:
        """Yield what is invalid when given; None is not."""
        yield from (value for value in self.given.invalid() if value is not None)

    def parse(self, text: str) -> Any:
        """Read a value that is given."""
        return self.given.parse(text)

    def check(self, name: str, owner: str, value: Any) -> None:
        """Refuse an invalid value in words; the default depends on the run, so it is not named."""
        if not self.accepts(value):
            do = "Leave it out, and it follows from the length of the run."
            raise InputError(f"{name} of {owner}", f"be {self.must}", repr(value), do)


def declared(declaration: Hyperparameter) -> Any:
    """Make a dataclass field of a declaration: its default, and what validates it."""
    return dataclasses.field(default=declaration.default, metadata={"declaration": declaration})


@dataclass(frozen=True, kw_only=True)
class Shape(Schedule):
    """A schedule with declared fields, from which checks, messages and documentation follow. Abstract.

    A shape with a field `length` ends there and holds its last factor.
    """

    clock: str = declared(Choice("steps", "what one tick is", CLOCKS))

    @classmethod
    def declarations(cls) -> Mapping[str, Hyperparameter]:
        """The declared fields, the clock last."""
        rows = {f.name: f.metadata["declaration"] for f in dataclasses.fields(cls)}
        return {**{name: row for name, row in rows.items() if name != "clock"}, "clock": rows["clock"]}

    def __post_init__(self) -> None:
        for name, declaration in self.declarations().items():
            value = _plain(getattr(self, name))
            declaration.check(name, f"the schedule {self.name}", value)
            object.__setattr__(self, name, value)
        self._check_fit()

    def _check_fit(self) -> None:
        """Refuse fields that are each valid and do not fit together; for shapes where that can be."""

    @cached_property
    def open(self) -> tuple[str, ...]:
        """The fields that are None."""
        return tuple(name for name in self.declarations() if getattr(self, name) is None)

    @property
    def end(self) -> int | None:
        """The length, for a shape that has one."""
        length: int | None = vars(self).get("length")
        return length

    def resolve(self, total: int) -> Self:
        """Fill the length first; the other open fields are shares of it, or else of the run."""
        TOTAL.check("total", f"the schedule {self.name}", total)
        filled, run, declarations = self, total, self.declarations()
        for name in sorted(self.open, key=lambda name: name != "length"):
            declaration = declarations[name]
            assert isinstance(declaration, FromRun)  # nothing else accepts None
            run = filled.end or total
            filled = dataclasses.replace(filled, **{name: declaration.fill(filled, run)})
        return filled


def _plain(value: Any) -> Any:
    """Turn NumPy's scalars into Python's, and lists into tuples, so that equal schedules are equal."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        return tuple(_plain(x) for x in value)
    return value

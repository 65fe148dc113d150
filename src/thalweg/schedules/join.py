"""The shapes that are made of others, by joining in time: no formula of their own."""

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from thalweg.errors import InputError
from thalweg.hyper import Integer, Interval
from thalweg.schedules.base import Array, FromRun, Schedule, Shape, declared, known
from thalweg.schedules.shapes import (
    Constant,
    Cosine,
    Linear,
    WarmRestarts,
    Warmup,
    first_of_three_cycles,
    floor,
    length,
    warmup,
)


@dataclass(frozen=True, kw_only=True)
class Joined(Shape):
    """A shape that is a name for a composition of others. Abstract."""

    @abstractmethod
    def parts(self) -> Schedule:
        """Return the composition; nothing is open."""

    @cached_property
    def _whole(self) -> Schedule:
        return self.parts()

    def _values(self, t: Array) -> Array:
        return self._whole._values(t)


def _check_room(name: str, taken: int | None, length: int | None, what: str, least: int) -> None:
    if taken is not None and length is not None and taken + least > length:
        raise InputError(
            f"length of the schedule {name}",
            f"be at least {taken + least}, because {what} takes {taken}",
            length,
            f"Shorten {what}, or train longer.",
        )


@dataclass(frozen=True, kw_only=True)
class WarmupCosine(Joined):
    """Linear warm-up, then a cosine to a floor in what is left of the length.

    >>> schedule = WarmupCosine(warmup=2, length=10)
    >>> [round(schedule(t), 6) for t in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """

    name: ClassVar[str] = "warmup-cosine"
    length: int | None = length("N: ticks, warm-up included, until the floor")
    warmup: int | None = warmup("W: ticks of the warm-up")
    floor: float = floor()

    def _check_fit(self) -> None:
        _check_room(self.name, self.warmup, self.length, "the warm-up", 1)

    def parts(self) -> Schedule:
        """``Warmup(W).then(Cosine(N − W, floor))``."""
        fall = Cosine(length=known(self.length) - known(self.warmup), floor=self.floor, clock=self.clock)
        return Warmup(length=self.warmup, clock=self.clock).then(fall)


@dataclass(frozen=True, kw_only=True)
class WarmupLinear(Joined):
    """Linear warm-up, then a straight line to a floor in what is left of the length.

    >>> schedule = WarmupLinear(warmup=2, length=10)
    >>> [schedule(t) for t in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """

    name: ClassVar[str] = "warmup-linear"
    length: int | None = length("N: ticks, warm-up included, until the floor")
    warmup: int | None = warmup("W: ticks of the warm-up")
    floor: float = floor()

    def _check_fit(self) -> None:
        _check_room(self.name, self.warmup, self.length, "the warm-up", 1)

    def parts(self) -> Schedule:
        """``Warmup(W).then(Linear(N − W, 1 → floor))``."""
        fall = Linear(length=known(self.length) - known(self.warmup), stop=self.floor, clock=self.clock)
        return Warmup(length=self.warmup, clock=self.clock).then(fall)


def _first_after_warmup(schedule: Any, run: int) -> int:
    _check_room(schedule.name, schedule.warmup, run, "the warm-up", 1)
    return first_of_three_cycles(schedule.multiplier, run - schedule.warmup)


@dataclass(frozen=True, kw_only=True)
class WarmupRestarts(Joined):
    """Linear warm-up, then warm restarts.

    >>> schedule = WarmupRestarts(warmup=4, first=10)
    >>> [round(schedule(t), 6) for t in (0, 4, 9, 14)]
    [0.25, 1.0, 0.5, 1.0]
    """

    name: ClassVar[str] = "warmup-restarts"
    warmup: int | None = warmup("W: ticks of the warm-up")
    first: int | None = declared(
        FromRun(
            None,
            "T₀: ticks of the first cycle (so that three cycles fill what the warm-up leaves)",
            Integer(1, "", Interval(1)),
            _first_after_warmup,
        )
    )
    multiplier: int = declared(Integer(2, "m: each cycle is m times as long as the last", Interval(1)))
    floor: float = floor()

    def parts(self) -> Schedule:
        """``Warmup(W).then(WarmRestarts(T₀, m, floor))``."""
        restarts = WarmRestarts(
            first=self.first, multiplier=self.multiplier, floor=self.floor, clock=self.clock
        )
        return Warmup(length=self.warmup, clock=self.clock).then(restarts)


def _fifth(schedule: Any, run: int) -> int:
    del schedule
    return max(1, run // 5)


@dataclass(frozen=True, kw_only=True)
class Trapezoid(Joined):
    """Warm-up, stable, decay (WSD): up a line, along the peak, down a line to a floor.

    >>> schedule = Trapezoid(warmup=2, length=10, decay=4)
    >>> [schedule(t) for t in (0, 1, 5, 6, 8, 10)]
    [0.5, 1.0, 1.0, 1.0, 0.5, 0.0]
    """

    name: ClassVar[str] = "trapezoid"
    length: int | None = length("N: ticks, all three parts together")
    warmup: int | None = warmup("W: ticks of the warm-up")
    decay: int | None = declared(
        FromRun(None, "D: ticks of the decay (a fifth of the run)", Integer(1, "", Interval(1)), _fifth)
    )
    floor: float = floor()

    def _check_fit(self) -> None:
        if self.warmup is not None:
            parts = self.warmup + (self.decay or 1)
            _check_room(self.name, parts, self.length, "warm-up and decay", 0)
        else:
            _check_room(self.name, self.decay, self.length, "the decay", 0)

    def parts(self) -> Schedule:
        """``Warmup(W).then(Constant().then(Linear(D, 1 → floor), after=N − W − D))``."""
        fall = Linear(length=self.decay, stop=self.floor, clock=self.clock)
        stable = known(self.length) - known(self.warmup) - known(self.decay)
        return Warmup(length=self.warmup, clock=self.clock).then(
            Constant(clock=self.clock).then(fall, after=stable)
        )

"""Hyperparameters as data: one declaration, from which everything else is derived.

A declaration (`Real`, `Reals`, `Integer`, `Flag`, `Choice`) validates a value and words the
refusal, fills a row of the documentation, describes a command-line option, and produces invalid
samples, so that a test can prove that each of them is refused.
"""

import math
import numbers
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from thalweg.errors import InputError, nearest


@dataclass(frozen=True)
class Interval:
    """A range of numbers, finite unless `infinite` says otherwise, each end open or closed.

    >>> str(Interval(0, 1, closed="left")), 0 in Interval(0, 1, closed="left")
    ('[0, 1)', True)
    >>> 1 in Interval(0, 1, closed="left"), float("nan") in Interval()
    (False, False)
    """

    low: float = -math.inf
    high: float = math.inf
    closed: str = "both"  # "both", "left", "right" or "neither"; an infinite end is open
    infinite: bool = False  # whether infinity itself belongs to a range without upper end

    def __contains__(self, x: float) -> bool:
        if not math.isfinite(x):
            return self.infinite and x == self.high
        above = x >= self.low if self.closed in ("both", "left") else x > self.low
        below = x <= self.high if self.closed in ("both", "right") else x < self.high
        return above and below

    def __str__(self) -> str:
        left = "[" if self.closed in ("both", "left") and math.isfinite(self.low) else "("
        closed = self.closed in ("both", "right") and math.isfinite(self.high)
        right = "]" if closed or self.infinite else ")"
        return f"{left}{_short(self.low)}, {_short(self.high)}{right}"

    @property
    def words(self) -> str:
        """The range in words, for a message: ``a number in [0, 1)``, ``a finite number above 0``."""
        if math.isinf(self.low) and math.isinf(self.high):
            return "a finite number"
        if math.isinf(self.high):
            end = "of at least" if self.closed in ("both", "left") else "above"
            kind = "a number" if self.infinite else "a finite number"
            return f"{kind} {end} {_short(self.low)}"
        return f"a number in {self}"

    def outside(self) -> Iterator[float]:
        """Yield numbers that are not in the range: just over each end, and the non-finite ones."""
        yield from (x for x in (math.nan, math.inf, -math.inf) if x not in self)
        if math.isfinite(self.low):
            yield self.low - 1
            if self.closed not in ("both", "left"):
                yield self.low
        if math.isfinite(self.high):
            yield self.high + 1
            if self.closed not in ("both", "right"):
                yield self.high


ANY: Final = Interval()
AT_LEAST_0: Final = Interval(0.0)
ABOVE_0: Final = Interval(0.0, closed="neither")
UNIT: Final = Interval(0.0, 1.0, closed="left")  # [0, 1): the memory of an average


def _short(x: float) -> str:
    return f"{x:g}"


@dataclass(frozen=True)
class Hyperparameter:
    """What all declarations share: the default and one line of meaning. Abstract."""

    default: Any
    meaning: str
    optional: bool = field(default=False, kw_only=True)  # whether None is a value too

    @property
    def must(self) -> str:
        """What a value must be, to follow the word *must be* in a message."""
        raise NotImplementedError

    def accepts(self, value: Any) -> bool:
        """Tell whether the value is valid."""
        raise NotImplementedError

    def invalid(self) -> Iterator[Any]:
        """Yield values that must be refused, for tests."""
        raise NotImplementedError

    def parse(self, text: str) -> Any:
        """Read a value as a person types it on the command line; raises ValueError."""
        raise NotImplementedError

    def check(self, name: str, owner: str, value: Any) -> None:
        """Refuse an invalid value in words.

        >>> Real(0.001, "learning rate", ABOVE_0).check("lr", "Adam", -1.0)
        Traceback (most recent call last):
        thalweg.errors.InputError: lr of Adam must be a finite number above 0; got -1.0. The default
        is 0.001.
        """
        if not self.accepts(value):
            do = "" if self.default is None else f"The default is {self.default}."
            raise InputError(f"{name} of {owner}", f"be {self.must}", repr(value), do)


def _is_whole(value: Any) -> bool:
    return False if isinstance(value, bool) else isinstance(value, numbers.Integral)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _number(text: str, optional: bool) -> float | None:
    return None if optional and text.strip().lower() == "none" else float(text)


@dataclass(frozen=True)
class Real(Hyperparameter):
    """One real number in an interval."""

    interval: Interval = ANY

    @property
    def must(self) -> str:
        """What a value must be."""
        return f"{self.interval.words}, or None" if self.optional else self.interval.words

    def accepts(self, value: Any) -> bool:
        """Tell whether the value is a number of the interval; a bool is not a number here."""
        if value is None:
            return self.optional
        return _is_number(value) and float(value) in self.interval

    def invalid(self) -> Iterator[Any]:
        """Yield numbers outside the interval and things that are no number."""
        yield from self.interval.outside()
        yield from ("a", True, *(() if self.optional else (None,)))

    def parse(self, text: str) -> float | None:
        """Read one number."""
        return _number(text, self.optional)


@dataclass(frozen=True)
class Reals(Hyperparameter):
    """A fixed number of reals, as many as the default has, all of one interval; None where the default is."""

    interval: Interval = ANY

    @property
    def must(self) -> str:
        """What a value must be."""
        words = f"{len(self.default)} numbers, each {self.interval.words}"
        places = [str(place) for place, default in enumerate(self.default, 1) if default is None]
        return f"{words}, or None in place {', '.join(places)}" if places else words

    def accepts(self, value: Any) -> bool:
        """Tell whether the value is a tuple or list of the right length with valid entries."""
        return (
            isinstance(value, tuple | list)
            and len(value) == len(self.default)
            and all(
                (x is None and default is None) or (_is_number(x) and float(x) in self.interval)
                for x, default in zip(value, self.default, strict=True)
            )
        )

    def invalid(self) -> Iterator[Any]:
        """Yield tuples with one bad entry, of the wrong length, and a bare number."""
        for bad in self.interval.outside():
            for place in range(len(self.default)):
                yield tuple(bad if i == place else x for i, x in enumerate(self.default))
        yield self.default[:-1]
        yield self.default[0]

    def parse(self, text: str) -> tuple[float | None, ...]:
        """Read numbers between commas."""
        words = text.split(",")
        defaults = (*self.default, *words)  # a tuple of the wrong length is refused later, in words
        return tuple(_number(x, default is None) for x, default in zip(words, defaults, strict=False))


@dataclass(frozen=True)
class Integer(Hyperparameter):
    """One whole number in an interval."""

    interval: Interval = ANY

    @property
    def must(self) -> str:
        """What a value must be."""
        return self.interval.words.replace("finite number", "number").replace("number", "whole number")

    def accepts(self, value: Any) -> bool:
        """Tell whether the value is a whole number of the interval; 2.0 is not."""
        return _is_whole(value) and int(value) in self.interval

    def invalid(self) -> Iterator[Any]:
        """Yield numbers outside the interval and things that are no whole number."""
        yield from self.interval.outside()
        yield from (1.5, "a", None, True)

    def parse(self, text: str) -> int:
        """Read one whole number."""
        return int(text)


@dataclass(frozen=True)
class Flag(Hyperparameter):
    """Yes or no. It chooses the structure of a method, so it never varies inside one update."""

    @property
    def must(self) -> str:
        """What a value must be."""
        return "True or False"

    def accepts(self, value: Any) -> bool:
        """Tell whether the value is a bool."""
        return isinstance(value, bool)

    def invalid(self) -> Iterator[Any]:
        """Yield things that are no bool."""
        yield from (1.5, "yes", None)

    def parse(self, text: str) -> bool:
        """Read true or false."""
        words = {"true": True, "false": False}
        if text.lower() not in words:
            raise ValueError(f"neither true nor false: {text!r}")
        return words[text.lower()]


@dataclass(frozen=True)
class Choice(Hyperparameter):
    """One name out of several. Like a flag it never varies inside one update."""

    options: tuple[str, ...] = ()

    @property
    def must(self) -> str:
        """What a value must be."""
        words = f"one of {', '.join(self.options)}"
        return f"{words}, or None" if self.optional else words

    def accepts(self, value: Any) -> bool:
        """Tell whether the value is one of the names."""
        return (value is None and self.optional) or value in self.options

    def invalid(self) -> Iterator[Any]:
        """Yield things that are none of the names."""
        yield from ("none of these", 1, *(() if self.optional else (None,)))

    def parse(self, text: str) -> str | None:
        """Read a name."""
        return None if self.optional and text.lower() == "none" else text


def check_all(owner: str, declared: Mapping[str, Hyperparameter], values: Mapping[str, Any]) -> None:
    """Refuse an unknown name or an invalid value, in words.

    >>> check_all("Adam", {"lr": Real(0.001, "learning rate", ABOVE_0)}, {"lrr": 1.0})
    Traceback (most recent call last):
    thalweg.errors.InputError: the hyperparameters of Adam must be among lr; got 'lrr'. Did you mean lr?
    """
    for name, value in values.items():
        if name not in declared:
            raise InputError(
                f"the hyperparameters of {owner}",
                f"be among {', '.join(declared)}",
                repr(name),
                nearest(name, declared),
            )
        declared[name].check(name, owner, value)


def documentation_rows(declared: Mapping[str, Hyperparameter]) -> list[tuple[str, str, str, str]]:
    """Return one row a hyperparameter: name, default, what it must be, meaning."""
    return [(name, str(h.default), h.must, h.meaning) for name, h in declared.items()]

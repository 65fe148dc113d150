"""What a translation answers: values, each with its range, its source, and how far to trust it."""

import math
from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple


class Trust(Enum):
    """How far to trust a translated value, most first."""

    EXACT = "exact"  # an identity: both take the same steps, up to rounding
    DERIVED = "derived"  # follows from the formulas, under a condition that is named
    RULE_OF_THUMB = "rule of thumb"  # somebody's experience
    UNKNOWN = "none known"  # to be measured

    @property
    def rank(self) -> int:
        """Return 0 for the most trusted."""
        return list(Trust).index(self)


class Translated(NamedTuple):
    """One hyperparameter of the target."""

    name: str
    value: Any  # None where no rule is known
    low: float | None  # the range that the source gives; both ends the value where it gives none
    high: float | None
    trust: Trust
    why: str  # the rule, in the letters of the field, and its condition
    source: str

    def times(self, low: float, high: float, because: "Because") -> "Translated":
        """Return the value multiplied by the geometric middle of a range of factors."""
        if self.value is None or self.low is None or self.high is None:
            return self
        return self._replace(
            value=self.value * math.sqrt(low * high), low=self.low * low, high=self.high * high
        ).further(because)

    def further(self, because: "Because") -> "Translated":
        """Return it with one reason more: the trust is that of the weakest."""
        return self._replace(
            trust=max(self.trust, because.trust, key=lambda trust: trust.rank),
            why="; ".join(filter(None, (self.why, because.why))),
            source=self.source if because.source in self.source else _joined(self.source, because.source),
        )


class Because(NamedTuple):
    """Why a value is translated as it is."""

    trust: Trust
    why: str
    source: str = "by its formula"


class Translation(NamedTuple):
    """Hyperparameters carried over, and what else changes with them."""

    of: str
    to: str
    given: Mapping[str, Any]  # what was started from: the values given, completed by the defaults
    values: tuple[Translated, ...]
    notes: tuple[str, ...]

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Return the values for which there is a rule, to be passed on."""
        return {each.name: each.value for each in self.values if each.value is not None}

    def __str__(self) -> str:
        lines = [f"{self.of} → {self.to}"]
        lines += [f"{v.name} = {words(v)} [{v.trust.value}] {v.why} ({v.source})" for v in self.values]
        return "\n".join([*lines, *self.notes])


def words(item: Translated) -> str:
    """Return a value with its range, as one reads it.

    >>> words(Translated("lr", 2.0, 1.0, 4.0, Trust.RULE_OF_THUMB, "", ""))
    '2 (1 to 4)'
    """
    if item.value is None:
        return "?"
    shown = ",".join(map(_short, item.value)) if isinstance(item.value, tuple) else _short(item.value)
    if item.low is None or item.high is None or math.isclose(item.low, item.high):
        return shown
    return f"{shown} ({_short(item.low)} to {_short(item.high)})"


def number(name: str, value: Any) -> Translated:
    """Return a value that was given: nothing is to be said about it yet."""
    end = None if isinstance(value, tuple | list | str | bool) else value
    return Translated(name, value, end, end, Trust.EXACT, "", "")


def unknown(name: str, why: str, source: str = "") -> Translated:
    """Return that no rule is known."""
    return Translated(name, None, None, None, Trust.UNKNOWN, why, source or "no source known")


def _joined(first: str, second: str) -> str:
    return "; ".join(filter(None, (first, second)))


def _short(x: Any) -> str:
    return f"{x:.4g}" if isinstance(x, float) else str(x)

"""The recipe: everything that decides how the weights move, as one value."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Self

import tomli_w

from thalweg import schedules
from thalweg.errors import InputError, nearest
from thalweg.hyper import (
    ABOVE_0,
    AT_LEAST_0,
    Choice,
    Hyperparameter,
    Integer,
    Interval,
    Real,
    Reals,
    check_all,
)
from thalweg.rules.catalogue import Preset, preset
from thalweg.rules.wrap import Applied, wrapped
from thalweg.rules.wrappers import WRAPPERS

WHOLE: Final = Interval(1.0)

# The numbers and names of a recipe as data; `optimizer`, `hyperparameters`, `wrappers`, `schedule` and
# `plateau` have checks of their own, and None stands for "not used" where it is the default.
FIELDS: Final[Mapping[str, Hyperparameter]] = {
    "rate": Real(None, "peak rate, which the schedule multiplies", ABOVE_0),
    "batch_size": Integer(32, "examples whose mean gradient makes one update", WHOLE),
    "micro_batch": Integer(None, "examples computed at once; changes memory, not the mathematics", WHOLE),
    "sampling": Choice(
        "shuffled", "how an epoch visits the examples", ("shuffled", "in order", "with replacement")
    ),
    "patience": Integer(
        None, "evaluations without improvement after which training stops and the best weights return", WHOLE
    ),
    "precision": Choice(
        "float32",
        "float64 converts weights and floating data; float32 leaves them as they are",
        ("float32", "float64"),
    ),
}


@dataclass(frozen=True)
class Plateau:
    """Multiply the rate by `factor` after `patience` evaluations without a better validation loss.

    An evaluation is better when the loss falls by more than `threshold` times the size of the best one.
    """

    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4

    FIELDS = {
        "factor": Real(0.1, "what the rate is multiplied with", Interval(0.0, 1.0, closed="neither")),
        "patience": Integer(10, "evaluations without improvement that are endured", WHOLE),
        "threshold": Real(1e-4, "smallest relative improvement that counts", AT_LEAST_0),
    }

    def __post_init__(self) -> None:
        check_all("plateau", self.FIELDS, {name: getattr(self, name) for name in self.FIELDS})


@dataclass(frozen=True)
class Recipe:
    """How to train: optimizer, rate, schedule, batches, clipping, when to stop.

    A recipe is complete and frozen: a field left out takes its default here, so that two equal recipes
    train equally.

    Args:
        optimizer: a name of the catalogue (``thalweg optimizers`` lists them).
        rate: the peak rate; None: the centre of the optimizer's search, a starting point, not advice.
        hyperparameters: others of the optimizer, e.g. ``{"betas": (0.9, 0.95)}``.
        wrappers: what goes around the optimizer, by name, with values: ``{"clip_norm": {"limit": 1.0}}``. A
            bare value is the wrapper's first: ``{"clip_norm": 1.0, "cautious": {}}``.
        schedule: a schedule, which multiplies the rate; open lengths become those of the run.
        batch_size: examples of one update, or "all".
        micro_batch: see `FIELDS`, as for the rest.

    Raises:
        InputError: a name is unknown or a value out of range.

    >>> Recipe("adam", rate=0.01).with_rate(0.1).rate
    0.1
    >>> Recipe.from_toml(Recipe("momentum", 0.1).to_toml()) == Recipe("momentum", 0.1)
    True
    """

    optimizer: str = "adam"
    rate: float | None = None
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    wrappers: Mapping[str, Any] = field(default_factory=dict)
    schedule: schedules.Schedule = field(default_factory=schedules.Constant)
    batch_size: int | str = 32
    micro_batch: int | None = None
    sampling: str = "shuffled"
    plateau: Plateau | None = None
    patience: int | None = None
    precision: str = "float32"

    def __post_init__(self) -> None:
        _check_kind("the optimizer", "be a name", str, self.optimizer)
        _check_kind(
            "the hyperparameters of a recipe", "be a table of names and values", Mapping, self.hyperparameters
        )
        _check_kind("the wrappers of a recipe", "be a table of names and values", Mapping, self.wrappers)
        _check_kind("the schedule of a recipe", "be a schedule", schedules.Schedule, self.schedule)
        _check_kind("plateau of a recipe", "be a Plateau", Plateau | None, self.plateau)
        if self.rate is None:
            object.__setattr__(self, "rate", self.preset.centre)
        for name, declared in FIELDS.items():
            value = getattr(self, name)
            unused = value is None and declared.default is None
            whole = name == "batch_size" and value == "all"
            if not (unused or whole):
                declared.check(name, "the recipe", value)
                object.__setattr__(self, name, _plain(declared, value))
        if "lr" in self.hyperparameters:
            raise InputError(
                "the hyperparameters of a recipe", "leave the rate out", "lr", "Pass it as rate=…."
            )
        declared_by_rule = self.preset.rule.hyper
        given = {n: _from_toml(v) for n, v in self.hyperparameters.items()}
        object.__setattr__(self, "hyperparameters", given)
        self.values()
        plain = {n: _plain(declared_by_rule[n], v) for n, v in given.items()}
        for name, value in self.preset.fixed.items():
            if isinstance(value, bool) and plain.get(name, value) is not value:
                raise InputError(
                    f"{name} of {self.optimizer}",
                    f"be {value}, which makes it what it is",
                    plain[name],
                    "Take another optimizer (see: thalweg optimizers).",
                )
        object.__setattr__(self, "hyperparameters", plain)
        around = {name: _wrapper_values(name, given) for name, given in self.wrappers.items()}
        object.__setattr__(self, "wrappers", around)
        wrapped(self.preset.rule, self.applied())

    @property
    def preset(self) -> Preset:
        """The optimizer's entry in the catalogue."""
        return preset(self.optimizer)

    def values(self) -> dict[str, Any]:
        """Return all hyperparameters of the rule: given ones over the preset's over the defaults."""
        return self.preset.rule.checked(self.given())

    def given(self) -> dict[str, Any]:
        """Return the hyperparameters that are not the rule's defaults; a wrapper may have another default."""
        return {"lr": self.rate, **self.preset.fixed, **self.hyperparameters}

    def applied(self) -> list[Applied]:
        """Return the wrappers with their values."""
        return [WRAPPERS[name](**values) for name, values in self.wrappers.items()]

    def with_rate(self, rate: float) -> "Recipe":
        """Return the same recipe with another peak rate."""
        return replace(self, rate=rate)

    def to_data(self) -> dict[str, Any]:
        """Return the recipe as what TOML knows; what is not used is left out."""
        data: dict[str, Any] = {}
        for name in (f.name for f in fields(self)):
            value = getattr(self, name)
            if value is None or (name in ("hyperparameters", "wrappers") and not value):
                continue
            if isinstance(value, schedules.Schedule):
                value = schedules.to_data(value)
            elif isinstance(value, Plateau):
                value = {f: getattr(value, f) for f in Plateau.FIELDS}
            elif isinstance(value, Mapping):
                value = {n: _to_toml(v) for n, v in value.items()}
            data[name] = value
        return data

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """Build a recipe from what `to_data` made; an unknown name is refused in words."""
        known = {f.name for f in fields(cls)}
        for name in data:
            if name not in known:
                raise InputError(
                    "the fields of a recipe",
                    f"be among {', '.join(sorted(known))}",
                    repr(name),
                    nearest(name, known),
                )
        given = dict(data)
        if "schedule" in given:
            given["schedule"] = schedules.from_data(given["schedule"])
        if "plateau" in given:
            _check_kind("plateau of a recipe", "be a table", Mapping, given["plateau"])
            check_all("plateau", Plateau.FIELDS, given["plateau"])
            given["plateau"] = Plateau(**given["plateau"])
        return cls(**given)

    def to_toml(self) -> str:
        """Return the recipe as a TOML document."""
        return tomli_w.dumps(self.to_data())

    @classmethod
    def from_toml(cls, text: str) -> Self:
        """Read a recipe from a TOML document; a mistake in it is refused in words, with its line."""
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise InputError("the recipe", "be a TOML document", str(error), "Mend that line.") from error
        return cls.from_data(data)


def _to_toml(value: Any) -> Any:
    """Return a value as TOML knows it: None, which it does not know, is the word none."""
    if isinstance(value, tuple):
        return [_to_toml(x) for x in value]
    return "none" if value is None else value


def _from_toml(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_from_toml(x) for x in value)
    return None if value == "none" else value


def _wrapper_values(name: str, given: Any) -> dict[str, Any]:
    """Return the values of a wrapper in Python's own types; a bare value is the first."""
    if name not in WRAPPERS:
        raise InputError(
            "the wrappers of a recipe", f"be among {', '.join(WRAPPERS)}", repr(name), nearest(name, WRAPPERS)
        )
    wrapper = WRAPPERS[name]
    applied = wrapper(**given) if isinstance(given, Mapping) else wrapper(given)
    return {wrapper.short(key): _plain(wrapper.hyper[key], value) for key, value in applied.values.items()}


def _check_kind(who: str, must: str, kind: Any, value: Any) -> None:
    if not isinstance(value, kind):
        raise InputError(who, must, repr(value))


def _plain(declared: Hyperparameter, value: Any) -> Any:
    """Return a valid value in Python's own type, so that equal recipes are written and hashed alike."""
    match declared:
        case _ if value is None:
            return None
        case Real():
            return float(value)
        case Reals():
            return tuple(None if x is None else float(x) for x in value)
        case Integer():
            return int(value)
    return value

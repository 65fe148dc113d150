"""Pages: all that there is to say about a method or a wrapper, as plain data.

The command line and the documentation show these pages, and say nothing of their own.

    >>> page("adamw")["state"]["words"], page("clip_norm")["name"]
    ('2', 'clip_norm')
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from thalweg.errors import InputError, nearest
from thalweg.hyper import Hyperparameter, documentation_rows
from thalweg.rules.about import FAMILIES
from thalweg.rules.base import Rule, Values
from thalweg.rules.catalogue import CATALOGUE, Preset
from thalweg.rules.wrap import Wrapper, wrapped
from thalweg.rules.wrappers import WRAPPERS

Page = dict[str, Any]

_SIDES = (8, 16, 32)  # of square matrices, whose states are counted


def page(name: str) -> Page:
    """Return the page of a method, a preset or a wrapper; an unknown name raises `InputError`.

    >>> page("nesterov")["rule"], page("nesterov")["fixed"]
    ('SGD', {'momentum': 0.9, 'nesterov': True})
    """
    if name in CATALOGUE:
        return method_page(CATALOGUE[name])
    if name in WRAPPERS:
        return wrapper_page(WRAPPERS[name])
    do = nearest(name, [*CATALOGUE, *WRAPPERS])
    raise InputError("the optimizer or wrapper", "be one that Thalweg knows", repr(name), do)


def methods() -> Iterator[Page]:
    """Yield the pages of all methods, one family after the other."""
    order = [*FAMILIES, ""]
    entries = sorted(CATALOGUE.values(), key=lambda entry: order.index(entry.rule.about.family))
    return map(method_page, entries)


def wrappers() -> Iterator[Page]:
    """Yield the pages of all wrappers."""
    return map(wrapper_page, WRAPPERS.values())


def method_page(entry: Preset) -> Page:
    """Return the page of one entry of the catalogue."""
    rule = entry.rule
    about = rule.about
    values = rule.values(rule.checked(dict(entry.fixed)))
    return {
        "kind": "method",
        "name": entry.name,
        "rule": rule.title,
        "use": entry.use,
        "fixed": dict(entry.fixed),
        "family": about.family,
        "year": about.year,
        "paper": about.paper,
        "cost": about.cost,
        "state": state(rule, values),
        "centre": entry.centre,
        "formula": rule.formula.strip("\n"),
        "hyperparameters": _hyperparameters(rule.hyper),
        "take": about.take,
        "avoid": about.avoid,
        "differs": list(about.differs),
        "wrong": list(about.wrong),
        "source": rule.source,
    }


def wrapper_page(wrapper: Wrapper) -> Page:
    """Return the page of a wrapper."""
    declared = {wrapper.short(key): hyper for key, hyper in wrapper.hyper.items()}
    return {
        "kind": "wrapper",
        "name": wrapper.name,
        "title": wrapper.title,
        "use": wrapper.use,
        "state": _state_of_wrapper(wrapper),
        "formula": wrapper.formula.strip("\n"),
        "hyperparameters": _hyperparameters(declared),
        "source": wrapper.source,
    }


def state(rule: Rule, values: Values) -> dict[str, Any]:
    """Return how many numbers a rule keeps for a parameter, counted on square n × n matrices.

    The count is a·n² + b·n + c: `per_parameter` is a, `per_side` b, `per_tensor` c.
    """
    counts = []
    for side in _SIDES:
        parameter = np.zeros((side, side))
        counts.append(sum(np.size(field) for field in rule.initial(parameter, values)))
    powers = [[side**2, side, 1] for side in _SIDES]
    a, b, c = (round(float(x), 6) for x in np.linalg.solve(powers, counts))
    names = list(rule.state_fields(values, (_SIDES[0], _SIDES[0])))
    return {
        "per_parameter": _whole(a),
        "per_side": _whole(b),
        "per_tensor": _whole(c),
        "words": state_words(a, b, c),
        "fields": names,
    }


def state_words(a: float, b: float, c: float) -> str:
    """Return the numbers of state per parameter of an n × n matrix, as one reads them.

    >>> state_words(2, 0, 0), state_words(0, 2, 0), state_words(1, 0, 2), state_words(0, 0, 0)
    ('2', '2/n', '1 + 2/n²', '0')
    """
    parts = [f"{a:g}" if a else "", f"{b:g}/n" if b else "", f"{c:g}/n²" if c else ""]
    return " + ".join(part for part in parts if part) or "0"


def _state_of_wrapper(wrapper: Wrapper) -> dict[str, Any]:
    """Return what a wrapper adds to the state of plain descent."""
    plain = CATALOGUE["sgd"].rule
    around = wrapped(plain, [wrapper()])
    return state(around, around.values(around.defaults()))


def _hyperparameters(declared: Mapping[str, Hyperparameter]) -> list[dict[str, str]]:
    names = ("name", "default", "must", "meaning")
    return [dict(zip(names, row, strict=True)) for row in documentation_rows(declared)]


def _whole(x: float) -> float:
    return int(x) if x == int(x) else x

"""One field of a recipe, named by its path, that takes one value after the other: what a race may vary.

A path is a field of the recipe (``batch_size``, ``schedule``, ``plateau.factor``), a hyperparameter of its
optimizer (``weight_decay``, ``betas.1`` for one entry of several), or a wrapper (``clip_norm``,
``lookahead.every``).
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from thalweg import schedules
from thalweg.errors import InputError, nearest
from thalweg.hyper import Hyperparameter, Real, Reals
from thalweg.rules.wrappers import WRAPPERS
from thalweg.training.recipe import FIELDS, Plateau, Recipe

WHO: Final = "the field to vary"
_NOT_HERE: Final = {
    "optimizer": "Name several optimizers instead.",
    "lr": "It is the field rate.",
}


class Field(NamedTuple):
    """Where in the data of a recipe a value stands, and what it may be."""

    place: tuple[str | int, ...]
    declared: Hyperparameter | None  # None: a schedule


def fields_of(recipe: Recipe) -> dict[str, Field]:
    """Return every field of a recipe that can vary, by its path.

    >>> fields_of(Recipe("adam"))["betas.1"].place
    ('hyperparameters', 'betas', 1)
    """
    found = {name: Field((name,), declared) for name, declared in FIELDS.items()}
    found["schedule"] = Field(("schedule",), None)
    found |= {f"plateau.{name}": Field(("plateau", name), x) for name, x in Plateau.FIELDS.items()}
    for name, wrapper in WRAPPERS.items():
        declared = {wrapper.short(key): hyper for key, hyper in wrapper.hyper.items()}
        found |= {f"{name}.{short}": Field(("wrappers", name, short), x) for short, x in declared.items()}
        if declared:  # a bare value is the first, as in a recipe
            first = next(iter(declared))
            found[name] = found[f"{name}.{first}"]
    # Last, because a hyperparameter of the rule comes before a wrapper of the same name.
    for name, hyper in recipe.preset.rule.hyper.items():
        if name == "lr":
            continue
        found[name] = Field(("hyperparameters", name), hyper)
        if isinstance(hyper, Reals):
            one = Real(None, hyper.meaning, hyper.interval)
            for place in range(len(hyper.default)):
                found[f"{name}.{place}"] = Field(("hyperparameters", name, place), one)
    return found


def field_of(recipe: Recipe, path: str) -> Field:
    """Return one field by its path; refuse what there is not, with what is meant."""
    known = fields_of(recipe)
    if path not in known:
        do = _NOT_HERE.get(path) or nearest(path, known)
        raise InputError(WHO, f"be one of a recipe with {recipe.optimizer}", repr(path), do)
    return known[path]


def varied(recipe: Recipe, path: str, value: Any) -> Recipe:
    """Return the recipe with another value in one field.

    >>> varied(Recipe("adam"), "betas.1", 0.95).hyperparameters
    {'betas': (0.9, 0.95)}
    >>> varied(Recipe("sgd"), "clip_norm", 2).wrappers
    {'clip_norm': {'limit': 2.0}}

    Raises:
        InputError: there is no such field, or the value is out of its range.
    """
    place = field_of(recipe, path).place
    data = recipe.to_data()
    if isinstance(value, schedules.Schedule):
        value = schedules.to_data(value)
    elif place == ("schedule",) and isinstance(value, str):
        value = schedules.to_data(schedules.parse(value))
    if isinstance(place[-1], int):
        entries = list(recipe.values()[str(place[-2])])
        entries[place[-1]] = value
        place, value = place[:-1], tuple(entries)
    *outer, last = map(str, place)
    table = data
    for name in outer:
        table[name] = dict(table.get(name, {}))
        table = table[name]
    if value is None and len(place) == 1:
        table.pop(last, None)  # None: the field is not used
    else:
        table[last] = value
    return Recipe.from_data(data)


def read(recipe: Recipe, path: str, text: str) -> list[Any]:
    """Read the values of a field as they are typed, between commas.

    >>> read(Recipe("adam"), "batch_size", "32,all")
    [32, 'all']
    >>> [schedule.name for schedule in read(Recipe(), "schedule", "constant,step:every=10,ratio=0.5,cosine")]
    ['constant', 'step', 'cosine']
    """
    declared = field_of(recipe, path).declared
    if declared is None:
        return [schedules.parse(one) for one in schedule_texts(text)]
    if isinstance(declared, Reals):
        entries = ", ".join(f"{path}.{place}" for place in range(len(declared.default)))
        raise InputError(WHO, "be one number", f"{path}, which is several", f"Take one of {entries}.")
    return [_read(declared, path, word.strip()) for word in text.split(",")]


def _read(declared: Hyperparameter, path: str, word: str) -> Any:
    if path == "batch_size" and word == "all":
        return word
    if word == "none" and declared.default is None and not isinstance(declared, Real):
        return None
    try:
        return declared.parse(word)
    except ValueError:
        raise InputError(path, f"be {declared.must}", repr(word)) from None


def schedule_texts(text: str) -> list[str]:
    """Cut schedules that are typed between commas, whose fields have commas between them too.

    >>> schedule_texts("constant, multistep:milestones=30,60,ratio=0.5, cosine")
    ['constant', 'multistep:milestones=30,60,ratio=0.5', 'cosine']
    """
    return [one.strip() for one in re.split(r",(?=\s*[a-z][a-z-]*\s*(?::|,|$))", text)]


def named(path: str, values: Iterable[Any]) -> dict[str, Any]:
    """Return values under the names that they race with.

    >>> named("clip_norm", (0.5, None, 2))
    {'clip_norm=0.5': 0.5, 'clip_norm=none': None, 'clip_norm=2': 2}
    """
    listed = list(values)
    names = [f"{path}={said(value)}" for value in listed]
    if len(listed) < 2 or len(set(names)) < len(names):
        got = ", ".join(map(said, listed)) or "none"
        raise InputError(f"the values of {path}", "be two or more different ones", got)
    return dict(zip(names, listed, strict=True))


def said(value: Any) -> str:
    """Return a value as a person types it."""
    if isinstance(value, schedules.Schedule):
        value = schedules.to_data(value)
    if isinstance(value, Mapping):
        parts = [f"{name}={said(x)}" for name, x in value.items() if name != "name"]
        return f"{value.get('name', '')}{':' if parts else ''}{','.join(parts)}"
    if isinstance(value, bool | None):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return ",".join(map(said, value))
    return f"{value:.10g}" if isinstance(value, float) else str(value)

"""How a class takes its arguments: signature, documentation, positions; and what it refuses."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from thalweg.errors import InputError
from thalweg.rules.base import Rule
from thalweg.rules.wrap import Applied, Wrapper

EXECUTION = {"state_dtype": None, "stochastic_rounding": False, "backend": "auto"}  # of every class


def positions(rule: Rule) -> list[str]:
    """Return the hyperparameters that PyTorch knows, or would: those declared before `maximize`.

    PyTorch has execution flags there, or a bar; what a rule declares later is Thalweg's own.
    """
    names = list(rule.hyper)
    return names[: names.index("maximize")]


def signature(rule: Rule) -> inspect.Signature:
    """Return the signature of the class of a rule."""
    either, named = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    options = [
        inspect.Parameter(name, either if name in positions(rule) else named, default=h.default)
        for name, h in rule.hyper.items()
    ]
    own: dict[str, Any] = {"wrappers": ()} | ({"fallback": None} if rule.least_axes else {}) | EXECUTION
    options += [inspect.Parameter(name, named, default=default) for name, default in own.items()]
    return inspect.Signature([inspect.Parameter("params", either), *options])


def documentation(rule: Rule) -> str:
    """Return what the documentation of the class of a rule says of it."""
    rows = "\n".join(f"    {name}: {h.meaning}; {h.must}" for name, h in rule.hyper.items())
    rest = ", ".join(["wrappers", *["fallback"] * bool(rule.least_axes), *EXECUTION])
    return f"{rule.formula}\n\n{rows}\n    {rest}: see RuleOptimizer\n\n{rule.source}"


def by_place(rule: Rule, positional: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """Return hyperparameters by name that were given by position and name.

    Raises:
        InputError: there are too many, or one comes twice.
    """
    places = positions(rule)
    if len(positional) > len(places):
        raise InputError(
            rule.title,
            f"take at most {len(places)} hyperparameters by position",
            len(positional),
            "Pass them by name.",
        )
    given = dict(zip(places, positional, strict=False))
    if twice := sorted(given.keys() & named.keys()):
        raise InputError(f"{twice[0]} of {rule.title}", "be given once", "two values", "Pass it by name.")
    return given | dict(named)


def refuse_twice(rule: Rule, given: Mapping[str, Any], wrappers: Sequence[Applied]) -> None:
    """Refuse a hyperparameter, which can be `weight_decay` only, for which a wrapper has a value too."""
    for applied in wrappers:
        for name in applied.values.keys() & given.keys():
            raise InputError(
                f"{name} of {rule.title}", "be given once", f"it beside {applied}",
                "Leave it out: the wrapper takes its place.",
            )  # fmt: skip


def worn(rule: Rule, given: Any) -> tuple[Applied, ...]:
    """Return the wrappers of a rule; refuse what is no list of wrappers with values."""
    if not _is_list(given) or not all(isinstance(x, Applied) for x in given):
        must = "be a list of wrappers with their values"
        raise InputError(f"the wrappers of {rule.title}", must, _shown(given), "Write [clip_norm(1.0)].")
    return tuple(given)


def _is_list(given: Any) -> bool:
    return isinstance(given, list | tuple) and not isinstance(given, Applied)  # which is a tuple too


def _shown(given: Any) -> str:
    if isinstance(given, Wrapper):
        return f"{given.name} without its brackets"
    return f"[{', '.join(map(_shown, given))}]" if _is_list(given) else repr(given)


def refuse_no_model(who: str, given: Any) -> None:
    """Refuse what is no model."""
    if not isinstance(given, nn.Module):
        raise InputError(who, "be a torch.nn.Module", type(given).__name__)

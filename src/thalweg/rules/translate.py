"""Translation: a method's rate, decay and memories for another method, convention or batch size.

Little of this is exact, and most of it is somebody's experience: each value says which.

    >>> print(translate("adamw", "lion", lr=3e-4, weight_decay=0.1).hyperparameters["betas"])
    (0.9, 0.99)
"""

from collections.abc import Mapping
from typing import Any

from thalweg.errors import InputError, nearest
from thalweg.hyper import Integer, Interval
from thalweg.rules.base import Decay
from thalweg.rules.catalogue import CATALOGUE, Preset
from thalweg.rules.translation import adaptive, batches, descent
from thalweg.rules.translation.answer import Because, Translated, Translation, Trust, number, unknown
from thalweg.rules.translation.conventions import CONVENTIONS, given_items, home, wanted_items

_FIXED = Because(Trust.EXACT, "as asked for", "the target")

__all__ = ["Translated", "Translation", "Trust", "translate"]


def translate(
    of: str,
    to: str | None = None,
    *,
    batch_size: int | None = None,
    to_batch_size: int | None = None,
    wanted: Mapping[str, Any] | None = None,
    **given: Any,
) -> Translation:
    """Carry hyperparameters over to another method, convention or batch size.

    Args:
        of: a method or preset of the catalogue, or a convention such as ``adamw-by-schedule``.
        to: the same, or None where only the batch size changes.
        batch_size: examples of one update so far.
        to_batch_size: examples of one update from now on; not together with `to`.
        wanted: values that the target has anyway, such as ``{"buffer": "mean"}``.
        given: hyperparameters of `of`; its defaults stand for the others.

    Returns:
        What is known about each value; `hyperparameters` of it are those with a rule.

    Raises:
        InputError: an unknown name, a bad value, nothing or two things to translate into.

    >>> path = translate("momentum", "momentum", wanted={"buffer": "mean"}, lr=0.01)
    >>> path.values[0].trust, round(path.hyperparameters["lr"], 9)
    (<Trust.EXACT: 'exact'>, 0.1)
    >>> translate("sgd", "adam").values[0].trust
    <Trust.UNKNOWN: 'none known'>
    >>> translate("sgd", batch_size=256, to_batch_size=1024, lr=0.1).hyperparameters["lr"]
    0.4
    """
    _refuse_unclear(to, batch_size, to_batch_size, wanted)
    start = method(of)
    source = _values(start, given)
    started = {name: value for name, value in source.items() if name != "maximize"}
    if batch_size is not None and to_batch_size is not None:
        _refuse_convention(of)
        found = batches.across(start.rule.name, source, _apart(start, source), to_batch_size / batch_size)
        return Translation(of, f"{of} at batches of {to_batch_size}", started, tuple(found), batches.NOTES)
    assert to is not None
    goal = method(to)
    target = _target(goal, wanted or {})
    items = given_items(of, {name: number(name, value) for name, value in source.items()})
    ours = {name: item.value for name, item in items.items()}
    found = _between(start, ours, items, goal, target, wanted or {})
    carried = wanted_items(to, {item.name: item for item in found})
    fixed = dict(goal.fixed) | dict(wanted or {})
    asked = [number(name, value).further(_FIXED) for name, value in fixed.items() if name not in carried]
    note = f"Measure what is not exact: thalweg showdown TASK --optimizers {_racing(of, to)}"
    return Translation(of, to, started, (*carried.values(), *asked), (note,))


def _between(
    entry: Preset,
    source: Mapping[str, Any],
    items: Mapping[str, Translated],
    goal: Preset,
    target: dict[str, Any],
    wanted: Mapping[str, Any],
) -> list[Translated]:
    """Return the values of one method for another, in our conventions."""
    of, to = entry.rule.name, goal.rule.name
    lr = items["lr"]
    if of in descent.MEMBERS and to in descent.MEMBERS:
        found = []
        if of == to == "sgd":
            target["momentum"] = descent.momentum(source, target, "momentum" in wanted, entry is goal)
            found = [number("momentum", target["momentum"]).further(descent.chosen(source, target))]
        found = [descent.rate(of, source, to, target, lr), *found]
        return [*found, descent.penalty(items["weight_decay"], of, to)]
    of, to = adaptive.member(of, source), adaptive.member(to, target)
    if of in adaptive.LINKS and to in adaptive.LINKS:
        if to == "muon" and "adjust_lr_fn" not in wanted:
            target["adjust_lr_fn"] = "match_rms_adamw" if of != "muon" else source["adjust_lr_fn"]
        new = adaptive.rate(of, source, to, target, lr)
        found = [new, *adaptive.memories(of, source, to, target)]
        if to == "muon":
            found.append(number("adjust_lr_fn", target["adjust_lr_fn"]).further(adaptive.SCALE))
        if "weight_decay" in target:
            apart = (_apart(entry, source), _apart(goal, target))
            old = items.get("weight_decay", number("weight_decay", 0.0))
            found.append(adaptive.decay((of, to), apart, old, new))
        return found
    if of == to:
        names = [name for name in target if name not in ("maximize", *wanted)]
        return [items[name].further(adaptive.SAME) for name in names]
    reasons = [adaptive.NO_RATE[name] for name in (to, of) if name in adaptive.NO_RATE]
    return [
        unknown(
            "lr", reasons[0] if reasons else "a step of SGD grows with the gradient, one of Adam does not"
        )
    ]


def _apart(entry: Preset, values: Mapping[str, Any]) -> bool:
    """Tell whether a method's decay is apart from the gradient."""
    rule = entry.rule
    apart = rule.name in adaptive.APART or bool(values.get("decouple"))
    return apart or rule.decays(rule.values(values)) is Decay.DECOUPLED


def method(name: str) -> Preset:
    """Return the method of that name, or the one that a convention is of; an unknown one is refused."""
    if not isinstance(name, str):
        raise InputError("the optimizer", "be a name", repr(name), "See: thalweg optimizers.")
    known = home(name)
    if known not in CATALOGUE:
        do = nearest(name, [*CATALOGUE, *CONVENTIONS])
        raise InputError("the optimizer", "be one that Thalweg knows", repr(name), do)
    return CATALOGUE[known]


def _values(entry: Preset, given: Mapping[str, Any]) -> dict[str, Any]:
    return entry.rule.checked(dict(entry.fixed) | dict(given))


def _target(goal: Preset, wanted: Mapping[str, Any]) -> dict[str, Any]:
    for name in ("lr", "weight_decay"):
        if name in wanted:
            raise InputError(
                f"{name} of the target", "be left out", wanted[name], "It is what is translated."
            )
    return _values(goal, wanted)


def _racing(of: str, to: str) -> str:
    return ",".join(dict.fromkeys((home(of), home(to))))


def _refuse_convention(name: str) -> None:
    if name in CONVENTIONS:
        raise InputError(
            "a change of the batch size", "start from a method", repr(name),
            f"Translate it into {home(name)} first.",
        )  # fmt: skip


def _refuse_unclear(
    to: str | None, batch_size: int | None, to_batch_size: int | None, wanted: Mapping[str, Any] | None
) -> None:
    sizes = (batch_size, to_batch_size)
    if (to is None) == (sizes == (None, None)) or (to is not None and sizes != (None, None)):
        got = "neither" if to is None else "both"
        raise InputError(
            "a translation", "be into another method or to another batch size", got,
            "For both, translate the method first, then its values to the batch size.",
        )  # fmt: skip
    if to is None and wanted:
        raise InputError("wanted values", "come with a method to translate into", dict(wanted))
    if to is None and None in sizes:
        raise InputError("a change of the batch size", "name the old size and the new one", sizes)
    for name, size in zip(("batch_size", "to_batch_size"), sizes, strict=True):
        if size is not None:
            Integer(None, "", Interval(1.0)).check(name, "a translation", size)

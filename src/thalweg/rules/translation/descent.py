"""Between the forms of gradient descent: with and without momentum, as a sum and as a mean.

All are compared by the rate at which a constant gradient moves the parameter in the end.
"""

from collections.abc import Mapping
from typing import Any, Final

from thalweg.rules.translation.answer import Because, Translated, Trust, number, unknown

MEMBERS: Final = ("sgd", "asgd", "schedule-free-sgd", "dadapt-sgd")  # names of rules

_SUM = Because(Trust.EXACT, "γ_sum = (1 − μ)·γ_mean: the same path at a constant rate")
_KEPT = Because(Trust.EXACT, "the same μ and the same form: nothing to carry over")
_EFFECTIVE = Because(
    Trust.DERIVED, "equal effective rate γ/(1 − μ): the same steps where the gradient changes slowly",
    "Qian 1999, On the momentum term in gradient descent learning algorithms",
)  # fmt: skip
_ASGD = Because(
    Trust.DERIVED, "the same steps while (1 + λγt)^α is near 1; the average is taken beside the path",
    "Polyak and Juditsky 1992",
)  # fmt: skip
_FREE = Because(
    Trust.RULE_OF_THUMB,
    "10 to 50 times the classical rate (taken here as one with a momentum of 0.9), constant, with a warm-up",
    "the authors' package schedulefree (Defazio et al. 2024, arXiv 2405.15682)",
)
_ADAPTED = Because(
    Trust.RULE_OF_THUMB, "the method estimates the rate; lr = 1 takes the estimate as it is",
    "Defazio and Mishchenko 2023 (arXiv 2301.07733)",
)  # fmt: skip
_PENALTY = Because(Trust.EXACT, "λ is part of the gradient in both: γλ changes with γ alone")


def effective(values: Mapping[str, Any]) -> float:
    """Return by what the rate of SGD is multiplied for a constant gradient, in the end.

    >>> round(effective({"momentum": 0.9, "dampening": 0.0, "buffer": "sum"}), 6)
    10.0
    """
    if values["buffer"] == "mean" or values["momentum"] == 0:
        return 1.0
    return float((1 - values["dampening"]) / (1 - values["momentum"]))


def momentum(source: Mapping[str, Any], target: Mapping[str, Any], own: bool, same: bool) -> float:
    """Return the momentum of the target: its own if asked for, else the source's where both have one.

    Into the same method, of which only a convention changes, the source's stays.
    """
    both = same or (source["momentum"] > 0 and target["momentum"] > 0)
    return float(source["momentum"] if both and not own else target["momentum"])


def chosen(source: Mapping[str, Any], target: Mapping[str, Any]) -> Because:
    """Return why the target has its momentum."""
    return Because(
        Trust.EXACT, "μ stays" if source["momentum"] == target["momentum"] else "the target's own μ"
    )


def rate(
    of: str, source: Mapping[str, Any], to: str, target: Mapping[str, Any], lr: Translated
) -> Translated:
    """Return the rate of one rule of this family for another; the target's momentum is settled already."""
    if of == to == "sgd":
        factor = effective(source) / effective(target)
        return lr.times(factor, factor, _between(source, target))
    if of == to:
        return lr.further(_KEPT)
    if to == "dadapt-sgd":
        return number("lr", 1.0).further(_ADAPTED)
    if of == "dadapt-sgd":
        return unknown("lr", "run it, and read the rate that it found from its state: d·lr", _ADAPTED.source)
    one, other = _through(of, source), _through(to, target)
    middle = lr if one is None else lr.times(1 / one[1], 1 / one[0], one[2])
    return middle if other is None else middle.times(*other)


def penalty(decay: Translated, of: str, to: str) -> Translated:
    """Return the decay: an L2 penalty in all of these methods."""
    if of != to and {of, to} & {"asgd", "schedule-free-sgd"}:
        return decay.further(Because(Trust.DERIVED, "λ stays; it is taken at another point of the path"))
    return decay.further(_PENALTY)


def _between(source: Mapping[str, Any], target: Mapping[str, Any]) -> Because:
    """Return why the effective rates of two settings of SGD may be made equal."""
    undampened = source["dampening"] == target["dampening"]
    same_path = all(source[name] == target[name] for name in ("momentum", "nesterov")) and undampened
    if not same_path or (source["buffer"] != target["buffer"] and source["dampening"] != 0):
        return _EFFECTIVE
    return _KEPT if source["buffer"] == target["buffer"] or source["momentum"] == 0 else _SUM


def _through(name: str, values: Mapping[str, Any]) -> tuple[float, float, Because] | None:
    """Return the rate of a rule as a range of multiples of the effective rate; None: it is that rate."""
    if name == "sgd":
        factor = 1 / effective(values)
        return None if factor == 1 else (factor, factor, _EFFECTIVE)
    return (1.0, 5.0, _FREE) if name == "schedule-free-sgd" else (1.0, 1.0, _ASGD)

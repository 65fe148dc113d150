"""What papers and other libraries compute under a method's name, and how their values become ours.

A convention is written like a method: ``adamw-by-schedule`` is AdamW with the decay of its paper.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from thalweg.rules.translation.answer import Because, Translated, Trust, unknown

Items = Mapping[str, Translated]


class Convention(NamedTuple):
    """Another convention for the values of one method."""

    home: str  # the method, as the catalogue has it
    title: str
    here: Callable[[Items], Items]  # its values as ours
    there: Callable[[Items], Items]  # ours as its


_SCHEDULED = Because(
    Trust.EXACT,
    "λ_rate = λ_schedule / γ_peak, under any schedule of the rate",
    "Loshchilov and Hutter 2019 (arXiv 1711.05101)",
)
_INSIDE = Because(
    Trust.EXACT,
    "at a constant rate the same path; once γ changes, old gradients keep their old rate inside the buffer",
    "Sutskever et al. 2013",
)
_HAT = Because(
    Trust.DERIVED,
    "ε̂ = ε√(1 − β₂ᵗ) at step t, from ε√(1 − β₂) at the first on; the same after some 1/(1 − β₂) steps",
    "Kingma and Ba 2015 (arXiv 1412.6980), section 2, the form for speed",
)


def _by_rate(items: Items) -> Items:
    peak = items["lr"].value
    if not peak:
        return {**items, "weight_decay": unknown("weight_decay", "λ_schedule / γ_peak needs a rate above 0")}
    return {**items, "weight_decay": items["weight_decay"].times(1 / peak, 1 / peak, _SCHEDULED)}


def _by_schedule(items: Items) -> Items:
    low, peak, high = items["lr"].low, items["lr"].value, items["lr"].high
    if not peak or low is None or high is None:
        return {**items, "weight_decay": unknown("weight_decay", "γ_peak·λ_rate needs a rate above 0")}
    decay = items["weight_decay"]
    if decay.low is None or decay.high is None:
        return items
    # A range of λ comes from that of γ, the lowest with the highest: γλ has hardly any.
    ends = sorted((decay.low * high, decay.high * low))
    scheduled = decay._replace(value=decay.value * peak, low=ends[0], high=ends[1]).further(_SCHEDULED)
    return {**items, "weight_decay": scheduled}


def _kept(items: Items) -> Items:
    return {**items, "lr": items["lr"].further(_INSIDE)}


def _from_hat(items: Items) -> Items:
    return _with_epsilon(items, lambda root: (1.0, 1 / root))


def _to_hat(items: Items) -> Items:
    return _with_epsilon(items, lambda root: (root, 1.0))


def _with_epsilon(items: Items, ends: Callable[[float], tuple[float, float]]) -> Items:
    if "eps" not in items or "betas" not in items:
        return items
    eps = items["eps"]
    low, high = ends(math.sqrt(1 - items["betas"].value[1]))
    # The limit, and not the middle: the first steps are few.
    limit = eps._replace(low=eps.value * low, high=eps.value * high).further(_HAT)
    return {**items, "eps": limit}


CONVENTIONS: Final[Mapping[str, Convention]] = {
    "adamw-by-schedule": Convention(
        "adamw",
        "AdamW whose decay is multiplied by the schedule's factor alone: its paper",
        _by_rate,
        _by_schedule,
    ),
    "momentum-inside": Convention(
        "momentum", "momentum with the rate inside the buffer: TensorFlow, Keras", _kept, _kept
    ),
    "adam-epsilon-hat": Convention(
        "adam", "Adam with ε̂ beside the uncorrected root √v: TensorFlow, Keras", _from_hat, _to_hat
    ),
}


def home(name: str) -> str:
    """Return the method of which this is a convention; a method is its own."""
    return CONVENTIONS[name].home if name in CONVENTIONS else name


def given_items(name: str, items: dict[str, Any]) -> dict[str, Any]:
    """Return values in a convention as ours."""
    return dict(CONVENTIONS[name].here(items)) if name in CONVENTIONS else items


def wanted_items(name: str, items: dict[str, Any]) -> dict[str, Any]:
    """Return our values in a convention."""
    return dict(CONVENTIONS[name].there(items)) if name in CONVENTIONS else items

"""The one list of optimizers: name → rule, fixed values, where to search for the rate."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from thalweg.errors import InputError, nearest
from thalweg.rules.adagrad import ADAGRAD
from thalweg.rules.adam import ADAM, ADAMW
from thalweg.rules.base import Rule
from thalweg.rules.rmsprop import RMSPROP
from thalweg.rules.sgd import SGD


@dataclass(frozen=True)
class Preset:
    """A rule with fixed values and a sensible centre of the search for its rate."""

    name: str
    rule: Rule
    centre: float  # the middle of the grid of rates; a starting point, not advice
    use: str  # when to take it, in one line
    fixed: Mapping[str, Any] = field(default_factory=dict)  # values that make it this preset


CATALOGUE: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("sgd", SGD, 0.1, "The baseline; no state at all."),
        Preset("momentum", SGD, 0.03, "Vision networks, with a falling rate.", {"momentum": 0.9}),
        Preset(
            "nesterov", SGD, 0.03, "As momentum, a little more stable.", {"momentum": 0.9, "nesterov": True}
        ),
        Preset("adagrad", ADAGRAD, 0.03, "Rare features: words, clicks."),
        Preset("rmsprop", RMSPROP, 1e-3, "Recurrent networks, reinforcement learning."),
        Preset("adam", ADAM, 1e-3, "Works nearly everywhere with little tuning."),
        Preset("amsgrad", ADAM, 1e-3, "Adam where its divisor must not fall.", {"amsgrad": True}),
        Preset("adamw", ADAMW, 1e-3, "Transformers; Adam with decay that acts on all weights alike."),
    )
}


def preset(name: str) -> Preset:
    """Return the preset of that name; an unknown one raises `InputError` with the nearest names.

    >>> preset("momentum").fixed
    {'momentum': 0.9}
    """
    if name not in CATALOGUE:
        raise InputError("the optimizer", "be one that Thalweg knows", repr(name), nearest(name, CATALOGUE))
    return CATALOGUE[name]

"""The one list of optimizers: name → rule, fixed values, where to search for the rate."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from thalweg.errors import InputError, nearest
from thalweg.rules.adadelta import ADADELTA
from thalweg.rules.adafactor import ADAFACTOR
from thalweg.rules.adagrad import ADAGRAD
from thalweg.rules.adam import ADAM, ADAMW, SPARSE_ADAM
from thalweg.rules.adamax import ADAMAX
from thalweg.rules.asgd import ASGD
from thalweg.rules.base import Rule
from thalweg.rules.dadaptation import DADAPTATION_ADAM, DADAPTATION_SGD
from thalweg.rules.large_batch import LAMB, LARS
from thalweg.rules.lion import LION
from thalweg.rules.muon import MUON
from thalweg.rules.nadam import NADAM
from thalweg.rules.prodigy import PRODIGY
from thalweg.rules.radam import RADAM
from thalweg.rules.rmsprop import RMSPROP
from thalweg.rules.rprop import RPROP
from thalweg.rules.schedule_free import SCHEDULE_FREE_ADAMW, SCHEDULE_FREE_SGD
from thalweg.rules.sgd import SGD
from thalweg.rules.shampoo import SHAMPOO
from thalweg.rules.soap import SOAP
from thalweg.rules.sophia import SOPHIA_G, SOPHIA_H


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
        Preset("adadelta", ADADELTA, 1.0, "Where no rate can be searched for."),
        Preset("adamax", ADAMAX, 2e-3, "Rare, large gradients, as of embeddings."),
        Preset("nadam", NADAM, 1e-3, "As Adam, a little quicker to turn."),
        Preset("radam", RADAM, 1e-3, "Adam without a warm-up to tune."),
        Preset("sparse-adam", SPARSE_ADAM, 1e-3, "Large embeddings with sparse gradients."),
        Preset("rprop", RPROP, 1e-2, "The full batch of a small problem."),
        Preset("asgd", ASGD, 0.1, "Convex problems: the average of the path.", {"t0": 1.0}),
        Preset("lion", LION, 3e-4, "Large batches; half of Adam's memory."),
        Preset("lars", LARS, 3.0, "Convolutional networks at very large batches."),
        Preset("lamb", LAMB, 1e-2, "Transformers at very large batches."),
        Preset("adafactor", ADAFACTOR, 1e-2, "Large matrices, little memory."),
        Preset(
            "schedule-free-sgd", SCHEDULE_FREE_SGD, 1.0, "Vision networks whose training may end at any time."
        ),
        Preset(
            "schedule-free-adamw",
            SCHEDULE_FREE_ADAMW,
            2.5e-3,
            "As AdamW, and may end at any time.",
        ),
        Preset("prodigy", PRODIGY, 1.0, "Adam that finds its own rate; still needs a falling schedule."),
        Preset("dadapt-adam", DADAPTATION_ADAM, 1.0, "Adam that finds its own rate; Prodigy came after it."),
        Preset("dadapt-sgd", DADAPTATION_SGD, 1.0, "Gradient descent that finds its own rate."),
        Preset(
            "muon",
            MUON,
            1e-3,
            "Hidden matrices; AdamW moves the rest, at the same rate.",
            {"adjust_lr_fn": "match_rms_adamw"},
        ),
        Preset(
            "shampoo", SHAMPOO, 0.1, "Small matrices with correlated rows or columns; AdamW moves the rest."
        ),
        Preset("soap", SOAP, 3e-3, "Language models where fewer, dearer steps pay; AdamW moves vectors."),
        Preset("sophia-h", SOPHIA_H, 3e-4, "Curvature from products with the Hessian every ten steps."),
        Preset("sophia-g", SOPHIA_G, 3e-4, "Language models: curvature from labels that the model draws."),
    )
}

RULES: Mapping[str, Rule] = {entry.rule.name: entry.rule for entry in CATALOGUE.values()}


def preset(name: str) -> Preset:
    """Return the preset of that name; an unknown one raises `InputError` with the nearest names.

    >>> preset("momentum").fixed
    {'momentum': 0.9}
    """
    if name not in CATALOGUE:
        raise InputError("the optimizer", "be one that Thalweg knows", repr(name), nearest(name, CATALOGUE))
    return CATALOGUE[name]

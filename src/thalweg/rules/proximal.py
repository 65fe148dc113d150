"""The proximal step: penalties that are not smooth, and bounds, met exactly after every step.

Soft thresholding by γ · strength = 0.5 sets small weights to zero::

    >>> import numpy as np
    >>> from thalweg.rules.sgd import SGD
    >>> from thalweg.rules.wrap import wrapped
    >>> rule = wrapped(SGD, [PROXIMAL("l1", strength=0.5)])
    >>> h = rule.values(rule.defaults())
    >>> PROXIMAL.project(np.array([2.0, -0.75, 0.25]), h, ProximalClock(0.5, (-1,))).tolist()
    [1.5, -0.25, 0.0]
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from thalweg.hyper import ANY, AT_LEAST_0, Choice, Interval, Real
from thalweg.rules.base import Clock, Rule, Scope, Surroundings, Values, refuse_together, unit_axes
from thalweg.rules.ops import Array
from thalweg.rules.shrinkage import clip, elastic, positive, shrink, soft
from thalweg.rules.wrap import Wrapper

PENALTIES = ("l1", "elastic_net", "group", "box", "nonnegative")


class ProximalClock(NamedTuple):
    """The threshold γ · strength, and the parameter's own axes."""

    threshold: Array
    axes: tuple[int, ...]


def _clock(t: Array, h: Values, around: Surroundings) -> Clock:
    del t
    return ProximalClock(around.rate * h.proximal_strength, around.axes)


def _project(p: Array, h: Values, c: Clock) -> Array:
    match h.proximal_penalty:
        case "l1":
            return soft(p, c.threshold)
        case "elastic_net":
            return elastic(p, c.threshold, h.proximal_l1_share)
        case "group":
            return shrink(p, c.threshold, unit_axes(c.axes))
        case "box":
            return clip(p, h.proximal_low, h.proximal_high)
        case _:
            return positive(p)


def _refuse_unknown_steps(rule: Rule) -> None:
    if rule.tail is not None or rule.initial_shared is not None:
        refuse_together(
            f"proximal around {rule.title}",
            "go around a method whose step is the rate times a direction",
            "one with a step of its own, to which the threshold γ · strength does not belong",
            "Take SGD or AdamW.",
        )


def _refuse_empty_box(values: Mapping[str, Any]) -> None:
    low, high = values["proximal_low"], values["proximal_high"]
    if low > high:
        refuse_together("low of proximal", "be at most high", f"low={low}, high={high}", "Exchange them.")


PROXIMAL = Wrapper(
    name="proximal",
    title="Proximal step",
    formula="""
θ ← argmin_z ½‖z − θ‖² + γ · strength · penalty(z), after the step, γ the scheduled rate
l1: Σ|zᵢ|        elastic_net: share·Σ|zᵢ| + ½(1 − share)·Σzᵢ²        group: Σ‖row‖
box: low ≤ zᵢ ≤ high        nonnegative: zᵢ ≥ 0""",
    source=(
        "ISTA: Daubechies, Defrise and De Mol 2004, Beck and Teboulle 2009; elastic net: Zou and Hastie "
        "2005; rows: Yuan and Lin 2006, here without their factor √(size of a row). A row is a slice along "
        "the first axis; a vector is one. Around an adaptive method the threshold is the same for all "
        "entries, and not divided as the gradient is, as the proximal step in that method's metric would be."
    ),
    use="Weights that are to be exactly zero, whole rows of them, or within bounds.",
    hyper={
        "proximal_penalty": Choice("l1", "what is penalised, or the bounds", PENALTIES),
        "proximal_strength": Real(1e-4, "strength of the penalty; bounds have none", AT_LEAST_0),
        "proximal_l1_share": Real(0.5, "share of l1 in elastic_net", Interval(0.0, 1.0)),
        "proximal_low": Real(-1.0, "lower bound of box", ANY),
        "proximal_high": Real(1.0, "upper bound of box", ANY),
    },
    clock=_clock,
    project=_project,
    scope=Scope.TENSOR,
    conflict=_refuse_unknown_steps,
    together=_refuse_empty_box,
)

"""What leaving out a method's bias correction does, beside the trace of the method as it is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from thalweg.errors import InputError
from thalweg.functions.outcome import outcome
from thalweg.functions.trace import Calculation, Numbers, Row, Trace
from thalweg.rules.base import Clock, Rule, Surroundings, Values
from thalweg.rules.catalogue import preset


@dataclass(frozen=True)
class Uncorrected:
    """The same method without its bias correction.

    `ratios` say, row by row of the corrected trace, how many times as large the step would be without, from
    the same point and the same averages; NaN where there is no step. `rows` are the steps of the uncorrected
    method on its own way, from the same start.
    """

    corrections: tuple[str, ...]  # the numbers of the clock that are replaced by 1
    ratios: tuple[Numbers, ...]
    rows: tuple[Row, ...]
    outcome: tuple[str, ...]


def without_correction(trace: Trace) -> Uncorrected:
    """Return what the steps of a trace would be without bias correction: with 1 in place of 1/(1 − βᵗ).

    At a constant gradient the step is (1 − β₁ᵗ)/√(1 − β₂ᵗ) times as large: too large, not too small.

    Raises:
        InputError: the method has no such correction.

    >>> from thalweg.functions.trace import trace
    >>> found = without_correction(trace("w", "adam", start=1, steps=12, lr=0.1, eps=0.0))
    >>> round(found.ratios[0][0], 4), round(found.ratios[11][0], 2)
    (3.1623, 6.57)
    """
    rule = preset(trace.optimizer).rule
    values = trace.hyperparameters
    names = corrections(rule, rule.values(values))
    if not names:
        raise InputError(
            "the method of a trace without bias correction",
            "have one in its clock",
            f"{trace.optimizer}, which has none",
            "Such as adam, adamw, nadam.",
        )
    start = np.array(trace.rows[0].parameters)
    plain = _uncorrected(rule, names)
    corrected, beside, apart = (
        Calculation(trace.expression, each, trace.wrappers, values, start) for each in (rule, plain, plain)
    )
    ratios: list[Numbers] = []
    rows: list[Row] = []
    with np.errstate(all="ignore"):
        for place, row in enumerate(trace.rows):
            factor = 1.0 if trace.schedule is None else float(trace.schedule(place))
            if not rows or (rows[-1].next and all(map(math.isfinite, rows[-1].next))):
                rows.append(apart.step(factor))
            beside.follow(corrected)
            corrected.step(factor)
            other = beside.step(factor)
            pairs = zip(other.direction, row.direction, strict=True) if row.direction else ()
            ratios.append(tuple(x / y if y else math.nan for x, y in pairs))
        said = outcome(trace.expression, rows, evaluates=rule.evaluated is not None)
    return Uncorrected(names, tuple(ratios), tuple(rows), (_sizes(ratios), *said))


def corrections(rule: Rule, h: Values) -> tuple[str, ...]:
    """Return the numbers of a rule's clock that correct an average for starting at zero.

    They are called so in every clock, and tend to 1: one that does not move corrects nothing.

    >>> from thalweg.rules.adam import ADAM
    >>> corrections(ADAM, ADAM.values(ADAM.defaults()))
    ('correct1', 'correct2')
    """
    if rule.initial_shared is not None:
        return ()
    around = Surroundings((-1,), None, h.lr, 1.0)
    with np.errstate(all="ignore"):  # what else a clock has need not have a limit
        first, last = (_fields(rule.clock(np.float64(t), h, around)) for t in (1.0, math.inf))
    return tuple(name for name in first if name.startswith("correct") and first[name] != last[name])


def _sizes(ratios: Sequence[Numbers]) -> str:
    """Say how the steps compare: at the first, where they differ most, and at the last."""
    known = {t: x[0] for t, x in enumerate(ratios, 1) if x and math.isfinite(x[0])}
    if not known:
        return "No step can be compared."
    most = max(known, key=lambda t: abs(math.log(known[t])) if known[t] > 0 else 0.0)
    told = [f"× {known[t]:.5g} at step {t}" for t in dict.fromkeys((min(known), most, max(known)))]
    return f"From the same point and averages the step is {', '.join(told)}."


def _fields(clock: Clock) -> dict[str, Any]:
    return clock._asdict()  # type: ignore[no-any-return]


def _uncorrected(rule: Rule, names: tuple[str, ...]) -> Rule:
    """Return the rule with a clock whose corrections are what they tend to, and ε what comes with that."""

    def clock(t: Any, h: Values, around: Surroundings) -> Clock:
        now, end = rule.clock(t, h, around), rule.clock(np.float64(math.inf), h, around)
        beside = [name for name in now._fields if name == "outside"]  # ε of an uncorrected root
        return now._replace(**{name: getattr(end, name) for name in (*names, *beside)})

    return replace(rule, clock=clock)

"""Every rule of the catalogue as a method: the same text that trains networks, on a function."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from thalweg.backends.reference import Reference
from thalweg.errors import InputError
from thalweg.rules.base import Curvature, Rule
from thalweg.rules.catalogue import CATALOGUE, Preset
from thalweg.solvers.base import Iterate, Solver, Vector
from thalweg.solvers.objective import Counted


def _follow(
    objective: Counted, x: Vector, *, rule: Rule, name: str, seed: int = 0, **values: Any
) -> Iterator[Iterate]:
    """Yield the iterates of a rule.

    Where a rule is evaluated at other parameters than it trains (Schedule-Free: at their average), an iterate
    is the point of evaluation, with a value and a gradient of its own.
    """
    layout = objective.layout
    small = [part for part, shape in layout.shapes.items() if len(shape) < rule.least_axes]
    if small:
        raise InputError(
            f"the start of {name}",
            f"consist of arrays with {rule.least_axes} axes or more",
            f"{small[0] or 'x0'} of shape {layout.shapes[small[0]]}",
            "Its method takes matrices; take adamw for the others.",
        )
    complete = rule.checked(values)
    work, h = Reference(rule, complete), rule.values(complete)
    signs, every = np.random.default_rng(seed), int(complete.get("update_every", 1))
    t = 0
    yield Iterate(x, objective.value(x), objective.gradient(x))
    while True:
        parts = layout.split(x)
        slopes = layout.split(objective.gradient(x))
        if rule.curvature is not None and t % every == 0:
            u: Vector = signs.choice(np.array([-1.0, 1.0]), x.shape)
            work.refresh(parts, layout.split(u * objective.hessian_product(x, u)))
        x = layout.join(work.step(parts, dict(slopes)))
        t += 1
        shown = x
        if rule.evaluated is not None:
            moved = layout.split(x)
            shown = layout.join({n: rule.evaluated(p, work.states[n], h) for n, p in moved.items()})
        yield Iterate(shown, objective.value(shown), objective.gradient(shown))


def _solver(entry: Preset) -> Solver:
    rule = entry.rule
    options = {name: declared for name, declared in rule.hyper.items() if name != "maximize"}
    options |= {name: replace(options[name], default=value) for name, value in entry.fixed.items()}
    return Solver(
        name=entry.name,
        title=rule.title,
        run=partial(_follow, rule=rule, name=entry.name),
        formula=rule.formula,
        source=rule.source,
        use=entry.use,
        options=options,
        random=rule.curvature is not None,
    )


# A rule that is handed labels drawn from a model has none on a function.
RULE_METHODS = tuple(
    _solver(entry) for entry in CATALOGUE.values() if entry.rule.curvature is not Curvature.SAMPLED
)

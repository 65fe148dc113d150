"""Walks of rules by compiled kernels and by the reference, with all that a step changes, for tests."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cases import Problem, curvature, factors, gradients, starts, structures
from fleets import shared_at_first
from thalweg.backends import kernels
from thalweg.backends.eager import Advanced
from thalweg.backends.reference import Reference
from thalweg.hyper import Choice, Flag, Integer
from thalweg.rules import tail
from thalweg.rules.base import Rule, Scope
from thalweg.rules.catalogue import RULES
from thalweg.rules.tail import Row

# They multiply matrices, or add up over some axes only.
NOT_COMPILED = ("adafactor", "muon", "shampoo", "soap")
COMPILED = [name for name in RULES if name not in NOT_COMPILED]
# No size is a multiple of a vector's, but those of nothing and of one number; the longest are several chunks.
SHAPES: dict[str, tuple[int, ...]] = {
    "matrix": (3, 5),
    "filter": (2, 3, 2, 2),
    "vector": (7,),
    "0-d": (),
    "one": (1,),
    "empty": (0,),
    "long": (20_011,),
}
SHORT = {name: shape for name, shape in SHAPES.items() if name != "long"}
STEPS = 6

Record = dict[str, np.ndarray]  # all that a step changes, by name
Advance = Callable[..., Advanced]


def tensor(x: Any) -> Tensor:
    """Copy an array into memory of torch's own making."""
    given = torch.as_tensor(x)
    return torch.empty(given.shape, dtype=given.dtype).copy_(given)


def plain(rule: Rule) -> dict[str, Any]:
    """Return the structure in which most is left off."""
    return structures(rule)[0]


def rich(rule: Rule) -> dict[str, Any]:
    """Return the structure that differs most from the plain one."""
    first = plain(rule)
    return max(structures(rule), key=lambda values: sum(values[name] != first[name] for name in first))


def problem(
    rule: Rule, dtype: Any = np.float64, shaped: Any = SHAPES, seed: int = 7, silent: float = 0.2
) -> Problem:
    """Make a problem in which every parameter moves at first, and is left out of some later steps."""
    slope = 1.0 if rule.scope is Scope.GLOBAL else 0.0
    slopes = [
        *gradients(seed + 1, shaped, 1, 0.0, dtype, slope),
        *gradients(seed, shaped, STEPS - 1, silent, dtype, slope),
    ]
    return Problem(starts(seed, shaped, dtype), slopes, [], factors(seed, STEPS))


def by_reference(rule: Rule, values: dict[str, Any], given: Problem, dtype: Any = np.float64) -> list[Record]:
    """Walk in NumPy, in any type, from the numbers of a problem."""
    work, records = Reference(rule, values), []
    at: dict[str, Any] = {name: x.astype(dtype) for name, x in given.starts.items()}
    for step, slopes in enumerate(given.gradients):
        wide = {name: None if g is None else g.astype(dtype) for name, g in slopes.items()}
        if rule.refresh is not None:
            work.refresh(at, {n: x.astype(dtype) for n, x in curvature(given, step).items()})
        at = work.step(at, wide, given.factor(step))
        records.append(record(at, work.states, work.shared))
    return records


def by_kernels(rule: Rule, values: dict[str, Any], given: Problem) -> list[Record]:
    """Walk by kernels, in the type of the problem; each step is of the parameters that have a gradient."""
    h = rule.values(values)
    at = {name: tensor(x) for name, x in given.starts.items()}
    states = {name: rule.initial(p, h) for name, p in at.items()}
    times, shared, records = dict.fromkeys(at, 0), shared_at_first(rule, h), []
    for step, slopes in enumerate(given.gradients):
        for n, diagonal in (curvature(given, step) if rule.refresh else {}).items():
            handed = tensor(diagonal)
            states[n] = tail.refreshed(Row(rule, at[n], handed, states[n], times[n] + 1, h), handed)
        moving = [name for name in at if slopes[name] is not None]
        for name in moving:
            times[name] += 1
        rows = [Row(rule, at[n], tensor(slopes[n]), states[n], times[n], h) for n in moving]
        shared = kernels.advance(rows, shared, given.factor(step)).shared
        records.append(record(at, states, shared))
    return records


def record(at: Any, states: Any, shared: Any) -> Record:
    """Copy parameters, states and shared scalars."""
    found = {name: _copy(x) for name, x in at.items()}
    for name, numbers in [*states.items(), *shared.items()]:
        found |= {f"{name}.{field}": _copy(x) for field, x in numbers._asdict().items()}
    return found


def _copy(x: Any) -> np.ndarray:
    return np.asarray(x).astype(np.float64)


def assert_same_path(ours: list[Record], theirs: list[Record], tolerance: float) -> None:
    """Compare all that a step changes, each as a share of its largest number on the whole path."""
    for name in theirs[-1]:
        a, b = (np.array([at[name].ravel() for at in path]) for path in (ours, theirs))
        if b.size:
            scale = np.abs(b).max()
            assert np.isfinite(scale), name
            assert np.abs(a - b).max() <= tolerance * scale, (name, np.abs(a - b).max() / scale)


# Replicas.


def shrunk(rule: Rule, values: dict[str, Any], share: float) -> dict[str, Any]:
    """Return values in which every number that may differ between replicas is smaller."""

    def smaller(x: Any) -> Any:
        return None if x is None else tuple(map(smaller, x)) if isinstance(x, tuple) else share * x

    return {n: x if _structural(rule, n) else smaller(x) for n, x in values.items()}


def columns(rule: Rule, each: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the hyperparameters of replicas together, each number as (K,)."""
    return {name: _column(rule, each, name) for name in rule.hyper}


def _structural(rule: Rule, name: str) -> bool:
    return isinstance(rule.hyper[name], Flag | Choice | Integer)


def _column(rule: Rule, each: list[dict[str, Any]], name: str) -> Any:
    first = each[0][name]
    if _structural(rule, name) or first is None:
        return first
    if isinstance(first, tuple):
        return tuple(np.array([values[name][place] for values in each]) for place in range(len(first)))
    return np.array([values[name] for values in each])


def stacked_states(rule: Rule, begin: dict[str, np.ndarray], h: Any) -> dict[str, Any]:
    """Make the states of replicas, from hyperparameters in NumPy's arrays."""
    made = {name: rule.initial(x, h, replicas=True) for name, x in begin.items()}
    return {name: type(s)(*map(tensor, s)) for name, s in made.items()}

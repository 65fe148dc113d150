"""The one table of rules and hyperparameters: every newcomer passes every contract.

All is derived from the rules' declarations. What a declaration cannot say stands here: the bounds within
which draws are compared to 1e-12, and why. Gradients are given, not computed (open loop), so that rounding
is not fed back through a loss.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from thalweg.errors import InputError
from thalweg.hyper import Flag
from thalweg.rules.base import Rule
from thalweg.rules.catalogue import CATALOGUE

RULES: dict[str, Rule] = {preset.rule.name: preset.rule for preset in CATALOGUE.values()}
STEPS = 100


def _log_uniform(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(np.log10(low), np.log10(high)).map(lambda exponent: float(10**exponent))


def _zero_or(drawn: st.SearchStrategy[float]) -> st.SearchStrategy[float]:
    return st.just(0.0) | drawn


BOUNDS: dict[str, st.SearchStrategy[Any]] = {
    "lr": _log_uniform(1e-3, 1e-1),
    "momentum": _zero_or(st.floats(0.1, 0.95)),
    "dampening": _zero_or(st.floats(-0.5, 0.9)),
    # Decay feeds the parameter back into the gradient: small enough that the loop contracts.
    "weight_decay": _zero_or(_log_uniform(1e-3, 3e-2)),
    # A mean square with a shorter memory can be almost zero, and dividing by it enlarges rounding.
    "betas": st.tuples(st.floats(0.0, 0.95), st.floats(0.8, 0.9999)),
    "alpha": st.floats(0.8, 0.999),
    "eps": _log_uniform(1e-10, 1e-2),
    "lr_decay": _zero_or(_log_uniform(1e-3, 1.0)),
    "initial_accumulator_value": _zero_or(_log_uniform(1e-2, 10.0)),
}

# Values that show each structure: what is zero or not, and every flag, decides which code runs.
SHOWN: dict[str, tuple[Any, ...]] = {
    "lr": (0.05,),
    "momentum": (0.0, 0.9),
    "dampening": (0.0, 0.3),
    "weight_decay": (0.0, 0.02),
    "betas": ((0.8, 0.95),),
    "alpha": (0.9,),
    "eps": (1e-4,),
    "lr_decay": (0.0, 0.1),
    "initial_accumulator_value": (0.0, 0.5),
}


def legal(rule: Rule, values: dict[str, Any]) -> bool:
    """Tell whether the combination has a meaning."""
    try:
        rule.checked(values)
    except InputError:
        return False
    return True


def structures(rule: Rule) -> list[dict[str, Any]]:
    """Return hyperparameters for every structure of a rule."""
    columns = [
        (False, True) if isinstance(declared, Flag) else SHOWN[name] for name, declared in rule.hyper.items()
    ]
    combined = [dict(zip(rule.hyper, row, strict=True)) for row in itertools.product(*columns)]
    return [values for values in combined if legal(rule, values)]


STRUCTURES = [(name, values) for name, rule in RULES.items() for values in structures(rule)]


def label(value: Any) -> str | None:
    """Name a row of the table by what is not the first choice."""
    if isinstance(value, dict):
        chosen = {n: x for n, x in value.items() if x != SHOWN.get(n, (False,))[0]}
        return ",".join(n if x is True else f"{n}={x}" for n, x in chosen.items()) or "plain"
    return None


def hyperparameters(rule: Rule) -> st.SearchStrategy[dict[str, Any]]:
    """Draw all hyperparameters of a rule, within the bounds."""
    drawn = {n: st.booleans() if isinstance(h, Flag) else BOUNDS[n] for n, h in rule.hyper.items()}
    return st.fixed_dictionaries(drawn).filter(lambda values: legal(rule, values))


@dataclass(frozen=True)
class Problem:
    """Parameters in groups, and the gradients that they are given."""

    starts: dict[str, np.ndarray]
    gradients: list[dict[str, np.ndarray | None]]
    groups: list[tuple[list[str], dict[str, Any]]]  # names of parameters, and hyperparameters


SHAPES: dict[str, tuple[int, ...]] = {
    "0-d": (),
    "empty": (0,),
    "strided": (3,),  # every second number of a longer tensor
    "transposed": (2, 3),
    "filter": (2, 1, 2, 2),
    "idle": (2,),  # never has a gradient
}


def gradients(
    seed: int,
    shapes: dict[str, tuple[int, ...]] = SHAPES,
    steps: int = STEPS,
    silent: float = 0.2,
    dtype: Any = np.float64,
) -> list[dict[str, np.ndarray | None]]:
    """Make noise of several sizes, missing at some steps.

    It is independent and around zero, because centred RMSprop forms v − ḡ², which cancels (in PyTorch down
    to NaN) for gradients that hardly vary; and no coordinate is always zero, because L2 would then send
    the parameter to where Adam's direction jumps from one sign to the other.
    """
    generator = np.random.default_rng(seed)
    sizes = {name: 10 ** generator.uniform(-0.5, 0.5, shape) for name, shape in shapes.items()}
    return [
        {
            name: None
            if generator.random() < silent or name == "idle"
            else (sizes[name] * generator.standard_normal(shape)).astype(dtype)
            for name, shape in shapes.items()
        }
        for _ in range(steps)
    ]


def starts(
    seed: int, shapes: dict[str, tuple[int, ...]] = SHAPES, dtype: Any = np.float64
) -> dict[str, np.ndarray]:
    """Make parameters of order 1."""
    generator = np.random.default_rng(seed + 1)
    return {name: np.asarray(generator.standard_normal(s), dtype) for name, s in shapes.items()}


@st.composite
def problems(draw: st.DrawFn, rule: Rule) -> Problem:
    """Draw a problem of one to three groups, each with hyperparameters of its own."""
    seed = draw(st.integers(0, 2**32 - 1))
    members: list[list[str]] = [[] for _ in range(draw(st.integers(1, 3)))]
    for place, name in enumerate(SHAPES):
        members[place % len(members)].append(name)
    values = [draw(hyperparameters(rule)) for _ in members]
    for each in values[1:]:  # PyTorch's Adagrad takes this from the constructor, whatever a group says
        each.update({n: x for n, x in values[0].items() if n == "initial_accumulator_value"})
    groups = list(zip(members, values, strict=True))
    return Problem(starts(seed), gradients(seed), groups)


Path = list[dict[str, np.ndarray]]


def deviation(ours: Path, theirs: Path, begin: dict[str, np.ndarray]) -> float:
    """Return the largest difference of two paths, a share of the scale of each parameter's path."""
    worst = 0.0
    for name, start in begin.items():
        if start.size == 0:
            continue
        a = np.array([at[name] for at in ours])
        b = np.array([at[name] for at in theirs])
        scale = max(np.abs(b).max(), np.abs(start).max())
        assert np.isfinite(scale), f"{name} left all bounds: the draw is not one to compare on"
        worst = max(worst, float(np.abs(a - b).max() / scale))
    return worst


def oracle_path(run: Any, problem: Problem) -> Path:
    """Let an oracle walk every parameter on its own."""
    steps: Path = [{} for _ in problem.gradients]
    for names, values in problem.groups:
        for name in names:
            given = [at[name] for at in problem.gradients]
            for at, position in zip(steps, run(problem.starts[name], given, **values), strict=True):
                at[name] = position
    return steps


def invalid_values(rule: Rule) -> Sequence[tuple[str, Any]]:
    """Return every value that the declarations say must be refused, with its name."""
    return [(name, bad) for name, declared in rule.hyper.items() for bad in declared.invalid()]

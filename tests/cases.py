"""The one table of rules and hyperparameters: every newcomer passes every contract.

All is derived from the rules' declarations. What a declaration cannot say stands here: the bounds within
which draws are compared, and why. Gradients are given, not computed (open loop), so that rounding is not fed
back through a loss.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from oracles import GLOBAL, ORACLES
from thalweg.errors import InputError
from thalweg.hyper import Choice, Flag, Hyperparameter, Integer
from thalweg.rules.base import Rule, Scope
from thalweg.rules.catalogue import RULES

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
    "rho": st.floats(0.8, 0.99),
    "eps": _log_uniform(1e-10, 1e-2),
    "lr_decay": _zero_or(_log_uniform(1e-3, 1.0)),
    "initial_accumulator_value": _zero_or(_log_uniform(1e-2, 10.0)),
    "momentum_decay": _log_uniform(1e-3, 1e-1),
    "etas": st.tuples(st.floats(0.3, 0.9), st.floats(1.05, 1.5)),
    "step_sizes": st.tuples(_log_uniform(1e-4, 1e-3), st.floats(0.5, 5.0)),
    "lambd": _log_uniform(1e-4, 1e-1),
    "t0": st.floats(1.0, 50.0),
    "trust_coefficient": _log_uniform(1e-2, 1.0),
    "beta2_decay": st.floats(-0.9, -0.5),
    "d": st.floats(1.0, 2.0),
    "d0": _log_uniform(1e-3, 1e-1),
    "d_coef": st.floats(0.5, 2.0),
    "growth_rate": st.just(float("inf")) | st.floats(1.01, 1.5),
    "beta3": st.none() | st.floats(0.8, 0.99),
    "shampoo_beta": st.none() | st.floats(0.8, 0.99),
    "r": _zero_or(st.floats(0.1, 1.0)),
    "weight_lr_power": st.floats(0.0, 2.0),
    "warmup_steps": st.integers(0, 20),
    "update_every": st.integers(1, 5),
    "ns_steps": st.integers(1, 5),
    "ns_coefficients": st.just((3.4445, -4.7750, 2.0315)) | st.just((2.0, -1.5, 0.5)),
    "max_dimension": st.sampled_from([1, 10000]),
}
# Where a name has another range in one rule.
OWN_BOUNDS: dict[tuple[str, str], st.SearchStrategy[Any]] = {
    ("adafactor", "eps"): st.tuples(st.none() | _log_uniform(1e-10, 1e-3), _log_uniform(1e-3, 1e-1)),
    ("asgd", "alpha"): st.floats(0.5, 1.0),
    # One beta for the factors and the second moment: a basis from a short memory is ill-conditioned.
    ("soap", "betas"): st.tuples(st.floats(0.0, 0.95), st.floats(0.8, 0.99)),
    ("shampoo", "eps"): _log_uniform(1e-4, 1e-1),
    ("muon", "eps"): _log_uniform(1e-7, 10.0),
    ("sophia-h", "eps"): _log_uniform(1e-12, 1.0),
    ("sophia-g", "eps"): _log_uniform(1e-12, 1.0),
    ("sophia-g", "rho"): _log_uniform(1e-2, 1.0),
    ("sophia-h", "rho"): _log_uniform(1e-2, 1.0),
    # The estimate of the distance multiplies it.
    ("prodigy", "lr"): st.floats(0.2, 1.0),
    ("dadapt-adam", "lr"): st.floats(0.2, 1.0),
    ("dadapt-sgd", "lr"): st.floats(0.2, 1.0),
}

# Values that show each structure: what is zero or not, every flag and choice, decides which code runs.
SHOWN: dict[str, tuple[Any, ...]] = {
    "lr": (0.05,),
    "momentum": (0.0, 0.9),
    "dampening": (0.0, 0.3),
    "weight_decay": (0.0, 0.02),
    "betas": ((0.8, 0.95),),
    "alpha": (0.9,),
    "rho": (0.9,),
    "eps": (1e-4,),
    "lr_decay": (0.0, 0.1),
    "initial_accumulator_value": (0.0, 0.5),
    "momentum_decay": (0.01,),
    "lambd": (0.01,),
    "t0": (10.0,),
    "trust_coefficient": (0.1,),
    "d": (1.0, 1.5),
    "d0": (0.01,),
    "growth_rate": (float("inf"), 1.1),
    "beta3": (None, 0.9),
    "shampoo_beta": (None, 0.9),
    "r": (0.0, 0.5),
    "warmup_steps": (0, 5),
    "update_every": (1, 3),
    "max_dimension": (10000, 1),
}
OWN_SHOWN: dict[tuple[str, str], tuple[Any, ...]] = {
    ("muon", "precision"): ("parameter",),  # bfloat16 is compared with PyTorch's bits elsewhere
    ("adafactor", "eps"): ((None, 1e-2), (0.5, 0.2)),
    # Bounds from below, once where they bind.
    ("muon", "eps"): (1e-4, 10.0),
    ("sophia-h", "eps"): (1e-4, 1.0),
    ("sophia-g", "eps"): (1e-4, 1.0),
    ("rprop", "step_sizes"): ((1e-6, 50.0), (0.03, 0.06)),
    ("prodigy", "lr"): (1.0,),
    ("dadapt-adam", "lr"): (1.0,),
    ("dadapt-sgd", "lr"): (1.0,),
}


def shown(rule: Rule, name: str) -> tuple[Any, ...]:
    """Return the values of a hyperparameter that show its structures, the plain one first."""
    declared = rule.hyper[name]
    if (rule.name, name) in OWN_SHOWN:
        return OWN_SHOWN[rule.name, name]
    if isinstance(declared, Flag):
        return (False, True)
    if isinstance(declared, Choice):
        return (declared.default, *(x for x in declared.options if x != declared.default))
    return SHOWN.get(name, (declared.default,))


def drawn(rule: Rule, name: str) -> st.SearchStrategy[Any]:
    """Draw a hyperparameter within the bounds."""
    declared = rule.hyper[name]
    if isinstance(declared, Flag):
        return st.booleans()
    if isinstance(declared, Choice):
        return st.sampled_from(shown(rule, name))
    return OWN_BOUNDS.get((rule.name, name), BOUNDS.get(name, st.just(declared.default)))


def structural(declared: Hyperparameter) -> bool:
    """Tell whether a hyperparameter is the same for all replicas of one call."""
    return isinstance(declared, Flag | Choice | Integer)


def extras(rule: Rule) -> list[str]:
    """Return the hyperparameters that are Thalweg's own: declared after `maximize`."""
    names = list(rule.hyper)
    return names[names.index("maximize") + 1 :]


def legal(rule: Rule, values: dict[str, Any]) -> bool:
    """Tell whether the combination has a meaning."""
    try:
        rule.checked(values)
    except InputError:
        return False
    return True


def structures(rule: Rule) -> list[dict[str, Any]]:
    """Return hyperparameters for every structure of a rule; where they are many, one change at a time."""
    columns = {name: shown(rule, name) for name in rule.hyper}
    if np.prod([len(column) for column in columns.values()]) <= 64:
        combined = [dict(zip(columns, row, strict=True)) for row in itertools.product(*columns.values())]
    else:
        plain = {name: column[0] for name, column in columns.items()}
        rich = {name: column[-1] for name, column in columns.items()}
        combined = [plain, rich]
        combined += [{**plain, name: x} for name, column in columns.items() for x in column[1:]]
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
    return st.fixed_dictionaries({n: drawn(rule, n) for n in rule.hyper}).filter(
        lambda values: legal(rule, values)
    )


@dataclass(frozen=True)
class Problem:
    """Parameters in groups, the gradients that they are given, and what a schedule does to the rate."""

    starts: dict[str, np.ndarray]
    gradients: list[dict[str, np.ndarray | None]]
    groups: list[tuple[list[str], dict[str, Any]]]  # names of parameters, and hyperparameters
    factors: list[float] = field(default_factory=list)  # one a step; none: all ones

    def factor(self, step: int) -> float:
        return self.factors[step] if self.factors else 1.0


SHAPES: dict[str, tuple[int, ...]] = {
    "0-d": (),
    "empty": (0,),
    "strided": (3,),  # every second number of a longer tensor
    "transposed": (2, 3),
    "filter": (2, 1, 2, 2),
    "idle": (2,),  # never has a gradient
}
# A basis from a matrix that lacks rank is not unique, and products of squares make it so: SOAP is compared on
# square matrices.
SQUARES: dict[str, tuple[int, ...]] = {"square": (3, 3), "square filter": (4, 1, 2, 2)}


def shapes(rule: Rule) -> dict[str, tuple[int, ...]]:
    """Return the shapes on which a rule is compared."""
    if rule.name == "soap":
        return SQUARES
    return {name: shape for name, shape in SHAPES.items() if len(shape) >= rule.least_axes}


def factors(seed: int, steps: int = STEPS) -> list[float]:
    """Make a schedule: a warm-up, a fall, and jumps."""
    generator = np.random.default_rng(seed + 2)
    return [float(x) for x in np.minimum(np.arange(1, steps + 1) / 5, 1) * generator.uniform(0.2, 1, steps)]


def gradients(
    seed: int,
    shaped: dict[str, tuple[int, ...]] = SHAPES,
    steps: int = STEPS,
    silent: float = 0.2,
    dtype: Any = np.float64,
    slope: float = 0.0,
) -> list[dict[str, np.ndarray | None]]:
    """Make noise of several sizes, missing at some steps.

    It is independent and around zero, because centred RMSprop forms v − ḡ², which cancels (in PyTorch down
    to NaN) for gradients that hardly vary; and no coordinate is always zero, because L2 would then send
    the parameter to where Adam's direction jumps from one sign to the other. With a slope there is a
    common direction at first, without which estimates of the distance to go do not grow; with one for ever
    they leave all bounds.
    """
    generator = np.random.default_rng(seed)
    sizes = {name: 10 ** generator.uniform(-0.5, 0.5, shape) for name, shape in shaped.items()}
    return [
        {
            name: None
            if generator.random() < silent or name == "idle"
            else (sizes[name] * generator.standard_normal(shape) + slope * (step < 20)).astype(dtype)
            for name, shape in shaped.items()
        }
        for step in range(steps)
    ]


def starts(
    seed: int, shaped: dict[str, tuple[int, ...]] = SHAPES, dtype: Any = np.float64
) -> dict[str, np.ndarray]:
    """Make parameters of order 1."""
    generator = np.random.default_rng(seed + 1)
    return {name: np.asarray(generator.standard_normal(s), dtype) for name, s in shaped.items()}


@st.composite
def problems(draw: st.DrawFn, rule: Rule, as_pytorch: bool = False) -> Problem:
    """Draw a problem of one to three groups, each with hyperparameters of its own."""
    seed = draw(st.integers(0, 2**32 - 1))
    # What a rule with global scope estimates is one number for all groups.
    count = 1 if rule.scope is Scope.GLOBAL else draw(st.integers(1, 3))
    members: list[list[str]] = [[] for _ in range(count)]
    shaped = shapes(rule)
    for place, name in enumerate(shaped):
        members[place % len(members)].append(name)
    values = [draw(hyperparameters(rule)) for _ in members]
    if as_pytorch:
        values = [v | {n: rule.hyper[n].default for n in extras(rule)} for v in values]
    for each in values[1:]:  # PyTorch's Adagrad takes this from the constructor, whatever a group says
        each.update({n: x for n, x in values[0].items() if n == "initial_accumulator_value"})
    groups = list(zip(members, values, strict=True))
    problem = Problem(starts(seed, shaped), given_gradients(rule, seed), groups, factors(seed))
    if rule.scope is Scope.GLOBAL:  # an estimate may grow beyond all bounds, where nothing can be compared
        last = oracle_path(rule.name, problem)[-1]
        assume(all(np.isfinite(x).all() and (np.abs(x) < 1e4).all() for x in last.values()))
    return problem


def given_gradients(rule: Rule, seed: int, steps: int = STEPS, **how: Any) -> list[dict[str, Any]]:
    """Make gradients for a rule."""
    return gradients(seed, shapes(rule), steps, slope=1.0 if rule.scope is Scope.GLOBAL else 0.0, **how)


def problem_of(rule: Rule, values: dict[str, Any], seed: int = 7, steps: int = 30) -> Problem:
    """Make a problem of one group."""
    begin = starts(seed, shapes(rule))
    return Problem(begin, given_gradients(rule, seed, steps), [(list(begin), values)], factors(seed, steps))


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


def curvature(problem: Problem, step: int) -> dict[str, np.ndarray]:
    """Return the diagonals of the Hessian that are handed over before a step: every third, some negative."""
    if step % 3:
        return {}
    generator = np.random.default_rng(step)
    return {n: generator.normal(1.0, 1.0, p.shape).astype(p.dtype) for n, p in problem.starts.items()}


def oracle_path(name: str, problem: Problem) -> Path:
    """Let an oracle walk every parameter on its own, or all together where one number is for all."""
    steps: Path = [{} for _ in problem.gradients]
    given = problem.factors or None
    for names, values in problem.groups:
        values = {n: x for n, x in values.items() if (name, n) not in OUTSIDE}
        if name in GLOBAL:
            slopes = [{n: at[n] for n in names} for at in problem.gradients]
            begin = {n: problem.starts[n] for n in names}
            for at, positions in zip(
                steps, GLOBAL[name](begin, slopes, factors=given, **values), strict=True
            ):
                at.update(positions)
            continue
        for each in names:
            slopes = [at[each] for at in problem.gradients]
            if RULES[name].refresh is not None:
                handed = [curvature(problem, step).get(each) for step in range(len(slopes))]
                values = {**values, "hessians": handed}
            path = ORACLES[name](problem.starts[each], slopes, factors=given, **values)
            for at, position in zip(steps, path, strict=True):
                at[each] = position
    return steps


# What an oracle does not have: a choice of precision alone, and how often a driver measures.
OUTSIDE = {("muon", "precision"), ("sophia-g", "update_every"), ("sophia-h", "update_every")}


def invalid_values(rule: Rule) -> Sequence[tuple[str, Any]]:
    """Return every value that the declarations say must be refused, with its name."""
    return [(name, bad) for name, declared in rule.hyper.items() for bad in declared.invalid()]

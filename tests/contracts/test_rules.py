"""Every rule against the contract of rules: two backends, an oracle, replicas, types, declarations."""

import ast
import inspect
import textwrap
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from cases import (
    STRUCTURES,
    Path,
    Problem,
    curvature,
    deviation,
    given_gradients,
    gradients,
    label,
    oracle_path,
    problem_of,
    problems,
    shapes,
    shown,
    starts,
)
from fleets import K, alone, fleets, in_fleet, shared_at_first
from oracles import EVALUATED, GLOBAL, ORACLES
from thalweg.backends import eager
from thalweg.backends.reference import Reference
from thalweg.errors import InputError
from thalweg.hyper import Choice, Flag, Integer
from thalweg.rules import tail
from thalweg.rules.base import Rule, Scope
from thalweg.rules.catalogue import CATALOGUE, RULES, preset
from thalweg.rules.tail import Row

# Products of matrices and eigenvectors are summed in another order by another library.
MATRIX = ("muon", "shampoo", "soap")


def close(rule: Rule) -> float:
    return 1e-10 if rule.name in MATRIX else 1e-12 if rule.scope is not Scope.ELEMENT else 1e-14


def in_numpy(rule: Rule, values: dict[str, Any], problem: Problem) -> Path:
    work, at, path = Reference(rule, values), problem.starts, []
    for step, slopes in enumerate(problem.gradients):
        if rule.refresh is not None:
            work.refresh(at, curvature(problem, step))
        at = work.step(at, slopes, problem.factor(step))
        path.append(at)
    return path


def in_torch(rule: Rule, values: dict[str, Any], problem: Problem) -> Path:
    h = rule.values(values)
    at = {name: torch.tensor(start) for name, start in problem.starts.items()}
    states = {name: rule.initial(p, h) for name, p in at.items()}
    times, shared = dict.fromkeys(at, 0), shared_at_first(rule, h)
    path = []
    for step, slopes in enumerate(problem.gradients):
        for n, diagonal in (curvature(problem, step) if rule.refresh else {}).items():
            handed = torch.tensor(diagonal)
            states[n] = tail.refreshed(Row(rule, at[n], handed, states[n], times[n] + 1, h), handed)
        moving = [name for name in at if slopes[name] is not None]
        for name in moving:
            times[name] += 1
        rows = [Row(rule, at[n], torch.tensor(slopes[n]), states[n], times[n], h) for n in moving]
        shared = eager.advance(rows, shared, problem.factor(step)).shared
        path.append({name: p.numpy().copy() for name, p in at.items()})
    return path


@pytest.mark.parametrize(("name", "values"), STRUCTURES, ids=label)
def test_both_backends_and_the_oracle_take_the_same_path(name: str, values: dict[str, Any]) -> None:
    rule = RULES[name]
    problem = problem_of(rule, values)

    plain = in_numpy(rule, values, problem)

    assert deviation(plain, in_torch(rule, values, problem), problem.starts) <= close(rule)
    assert deviation(plain, oracle_path(name, problem), problem.starts) <= max(close(rule), 1e-12)
    assert deviation(plain, [problem.starts] * len(plain), problem.starts) > 1e-3  # it did move


@pytest.mark.parametrize("name", RULES)
def test_every_rule_has_an_oracle_and_agrees_with_it_at_steps_1_2_10_and_100(name: str) -> None:
    assert (name in ORACLES) != (name in GLOBAL)
    rule = RULES[name]

    @settings(max_examples=10)
    @given(problem=problems(rule))
    def check(problem: Problem) -> None:
        for names, values in problem.groups:
            alone = Problem(
                {n: problem.starts[n] for n in names},
                [{n: at[n] for n in names} for at in problem.gradients],
                [(names, values)],
                problem.factors,
            )
            ours, theirs = in_numpy(rule, values, alone), oracle_path(name, alone)
            for steps in (1, 2, 10, 100):
                assert deviation(ours[:steps], theirs[:steps], alone.starts) <= 1e-10, steps

    check()


@pytest.mark.parametrize("name", EVALUATED)
def test_weights_to_evaluate_with_are_those_of_the_oracle(name: str) -> None:
    rule = RULES[name]
    for values in (v for n, v in STRUCTURES if n == name):
        problem = problem_of(rule, values)
        work, at = Reference(rule, values), problem.starts
        for step, slopes in enumerate(problem.gradients):
            at = work.step(at, slopes, problem.factor(step))
            assert rule.evaluated is not None
            faces = {n: rule.evaluated(p, work.states[n], work.values) if n in work.states else p
                     for n, p in at.items()}  # fmt: skip
        for each, start in problem.starts.items():
            slopes = [g[each] for g in problem.gradients]
            expected = EVALUATED[name](start, slopes, factors=problem.factors, **values)[-1]
            assert faces[each] == pytest.approx(expected, rel=1e-10, abs=1e-10)


def test_every_rule_that_has_weights_to_evaluate_with_has_an_oracle_for_them() -> None:
    assert {name for name, rule in RULES.items() if rule.evaluated is not None} == set(EVALUATED)


@pytest.mark.parametrize("name", RULES)
def test_a_schedules_factor_multiplies_the_rate(name: str) -> None:
    rule = RULES[name]
    values = rule.checked({"lr": 0.04, **({"weight_decay": 0.02} if "weight_decay" in rule.hyper else {})})
    problem = problem_of(rule, values)
    quarter = Problem(problem.starts, problem.gradients, [], [0.25] * 30)
    plain = Problem(problem.starts, problem.gradients, [])

    for run in (in_numpy, in_torch):
        path = run(rule, values, quarter)
        assert deviation(path, run(rule, {**values, "lr": 0.01}, plain), problem.starts) <= FIRST_RATE[name]


# PyTorch's ASGD and Rprop keep a rate from the start, or from the step before: those without a factor.
FIRST_RATE = dict.fromkeys(RULES, 0.0) | {"rprop": np.inf, "asgd": np.inf}


@pytest.mark.parametrize("name", RULES)
def test_a_step_is_pure(name: str) -> None:
    rule = RULES[name]
    h = rule.values(rule.checked({}))
    p, g = np.array([[1.0, 2.0], [3.0, -1.0]]), np.array([[0.5, -0.5], [0.25, 1.0]])
    before = p.copy(), g.copy()
    row = Row(rule, p, g, rule.initial(p, h), 1, h)
    step = tail.step([row], shared_at_first(rule, h))

    first, second = step.moved(step.rows[0]), step.moved(step.rows[0])

    assert (p == before[0]).all()
    assert (g == before[1]).all()
    assert all((x == y).all() for x, y in zip(row.state, rule.initial(p, h), strict=True))
    assert (first[0] == second[0]).all()
    assert all((x == y).all() for x, y in zip(first[1], second[1], strict=True))
    if name != "soap":  # whose first step makes the bases
        assert (first[0] != p).any()


@pytest.mark.parametrize(("name", "values"), STRUCTURES, ids=label)
def test_numbers_of_numpy_and_torch_keep_the_dtype_of_the_parameter(name: str, values: dict) -> None:
    rule = RULES[name]
    typed = {n: np.float64(x) if isinstance(x, float) else x for n, x in values.items()}
    begin = starts(1, shapes(rule), dtype=np.float32)
    problem = Problem(begin, given_gradients(rule, 1, steps=3, dtype=np.float32), [])
    work = Reference(rule, typed)
    at = begin
    for slopes in problem.gradients:
        at = work.step(at, slopes)

    assert {x.dtype for x in at.values()} == {np.dtype(np.float32)}
    assert {np.asarray(x).dtype for s in work.states.values() for x in s} <= {np.dtype(np.float32)}
    assert {x.dtype for x in in_torch(rule, values, problem)[-1].values()} == {np.dtype(np.float32)}


# Replicas.


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("torch_backend", [False, True], ids=["numpy", "torch"])
@pytest.mark.parametrize("name", RULES)
def test_stacked_replicas_equal_separate_runs(name: str, torch_backend: bool, dtype: Any) -> None:
    rule = RULES[name]
    # What depends on the step alone is computed in float64 for both. Libraries raise a column of numbers
    # to a power by other code than a single one, so that βᵗ may differ in its last bit: 1 − βᵗ then by
    # 1e-16/(1 − β) and, with β ≤ 0.9999, the first steps by 1e-12. In float32 that is below the rounding,
    # except where it tips it. A batch of products of matrices is summed in another order than a single one.
    near = 0.0 if name in ("sgd", "adagrad", "rmsprop") else 1e-12 if dtype is np.float64 else 1e-6
    if rule.scope is not Scope.ELEMENT:
        near = {np.float64: 1e-10, np.float32: 1e-3}[dtype]

    shaped = {n: s for n, s in shapes(rule).items() if n != "idle"}

    @settings(max_examples=8)
    @given(fleet=fleets(rule))
    def check(fleet: tuple[list[dict[str, Any]], int]) -> None:
        each, seed = fleet
        begin = [starts(seed + k, shaped, dtype) for k in range(K)]
        slopes: list[Any] = [
            gradients(seed + k, shaped, 10, 0.0, dtype, float(rule.scope is Scope.GLOBAL)) for k in range(K)
        ]
        ages, factors = np.array([0, 3, 0, 100]), np.array([1.0, 0.5, 0.1, 0.0])

        together = in_fleet(rule, each, begin, slopes, ages, factors, torch_backend)

        for k, path in enumerate(together):
            own = alone(rule, each[k], begin[k], slopes[k], int(ages[k]), float(factors[k]), torch_backend)
            assert {x.dtype for at in path for x in at.values()} == {np.dtype(dtype)}
            assert deviation(path, own, begin[k]) <= near

    check()


def test_a_start_value_is_spread_over_replicas_also_where_it_could_broadcast_wrongly() -> None:
    rule = RULES["adagrad"]
    h = rule.values({**rule.checked({}), "initial_accumulator_value": np.array([1.0, 2.0])})

    state = rule.initial(np.zeros((2, 2)), h, replicas=True)

    assert state.sum.tolist() == [[1, 1], [2, 2]]


def test_whole_step_counts_of_replicas_are_counted_in_float64() -> None:
    """A torch int64 column would turn 0.999ᵗ into float32, which has lost 3e-5 of 1 − 0.999ᵗ at t = 2."""
    rule = RULES["adam"]
    h = rule.values(rule.checked({"lr": 1.0, "eps": 0.0}))
    p = torch.zeros(1, 1, dtype=torch.float64)
    row = Row(rule, p, torch.ones_like(p), rule.initial(p, h), torch.tensor([2]), h, replicas=True)

    moved, _ = tail.step([row]).moved(row)

    m_hat, v_hat = 0.1 / (1 - 0.9**2), 0.001 / (1 - 0.999**2)
    assert moved.item() == pytest.approx(-m_hat / v_hat**0.5, rel=1e-12)


def test_the_decay_of_a_float32_replica_is_computed_in_float64() -> None:
    """1 − γλ formed in float32 would be one rounding off for some of these rates."""
    rule, rates = RULES["adamw"], np.linspace(0.1, 1.0, 50)
    h = rule.values(rule.checked({"weight_decay": 0.9}) | {"lr": rates})
    p = np.ones((50, 1), np.float32)
    row = Row(rule, p, np.zeros_like(p), rule.initial(p, h, replicas=True), 1, h, replicas=True)

    moved, _ = tail.step([row], factor=0.7).moved(row)

    assert moved[:, 0].tolist() == (1 - rates * 0.7 * 0.9).astype(np.float32).tolist()


# Declarations.


@pytest.mark.parametrize("name", RULES)
def test_defaults_are_valid_and_the_first_hyperparameter_is_the_rate(name: str) -> None:
    rule = RULES[name]

    assert rule.checked({}) == rule.defaults()
    assert next(iter(rule.hyper)) == "lr"
    assert all(declared.accepts(declared.default) for declared in rule.hyper.values())


@pytest.mark.parametrize("name", CATALOGUE)
def test_presets_are_valid_and_are_found_by_their_name(name: str) -> None:
    found = preset(name)

    assert found.name == name
    assert found.rule.checked({"lr": found.centre, **found.fixed})["lr"] == found.centre


def test_an_unknown_optimizer_is_refused_with_the_nearest_names() -> None:
    with pytest.raises(InputError, match=r"got 'adma'\. Did you mean adam"):
        preset("adma")


@pytest.mark.parametrize("name", RULES)
def test_drawn_problems_reach_every_hyperparameter(name: str) -> None:
    """A bound that is too tight to matter would make the comparisons blind."""
    rule = RULES[name]

    @settings(max_examples=10)
    @given(problem=problems(rule))
    def check(problem: Problem) -> None:
        for _, values in problem.groups:
            assert values.keys() == rule.hyper.keys()
            assert rule.checked(values) == values

    check()
    base = {n: x[0] for n in rule.hyper if (x := shown(rule, n))}
    if "momentum" in rule.hyper:
        base["momentum"] = 0.5
    for option in rule.hyper:
        if (name, option) in SILENT:
            continue
        start = base | BEFORE.get((name, option), {})
        problem = problem_of(rule, start)
        before = in_numpy(rule, rule.checked(start), problem)
        after = in_numpy(rule, rule.checked({**start, option: changed(rule, option, start)}), problem)
        assert deviation(after, before, problem.starts) > 1e-7, option  # a thousand times what is let pass


def changed(rule: Rule, option: str, start: dict[str, Any]) -> Any:
    """Return another valid value of a hyperparameter."""
    now, declared = start[option], rule.hyper[option]
    if isinstance(declared, Flag):
        return not now
    if isinstance(declared, Choice):
        return [x for x in declared.options if x != now][-1]
    others = [x for x in shown(rule, option) if x != now]
    if others:
        return others[-1]
    if isinstance(now, tuple):
        return tuple(x if x is None else 0.9 * x for x in now)
    return max(1, now // 2) if isinstance(declared, Integer) else 0.8 * now if now else 0.1


# What shows only beside another value.
BEFORE: dict[tuple[str, str], dict[str, Any]] = {
    ("adam", "amsgrad"): {"betas": (0.8, 0.8)},  # with a long memory v hardly falls in 30 steps
    ("adamw", "amsgrad"): {"betas": (0.8, 0.8)},
    ("nadam", "decoupled_weight_decay"): {"weight_decay": 0.02},
    ("radam", "decoupled_weight_decay"): {"weight_decay": 0.02},
    ("dadapt-adam", "decouple"): {"weight_decay": 0.02},
    ("lars", "eps"): {"eps": 0.5},
}
# What cannot show here: a choice of precision that NumPy does not have, how often a driver measures, and when
# ASGD begins to average, which shows in the weights to evaluate with alone.
SILENT = {("muon", "precision"), ("sophia-g", "update_every"), ("sophia-h", "update_every"), ("asgd", "t0")}


def test_half_of_the_rules_have_at_most_25_lines_and_none_has_40() -> None:
    """All that computes: clock, body, sums over parameters, and a tail of its own."""

    def lines(function: Any) -> int:
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
        assert isinstance(body, ast.FunctionDef)
        start = body.body[ast.get_docstring(body) is not None]
        return (body.body[-1].end_lineno or 0) - start.lineno + 1

    def length(rule: Rule) -> int:
        parts = (rule.clock, rule.direction, rule.partial, rule.combine, rule.tail, rule.refresh)
        return sum(lines(part) for part in parts if part is not None)

    lengths = sorted(map(length, RULES.values()))
    assert lengths[len(lengths) // 2] <= 25
    assert lengths[-1] < 40

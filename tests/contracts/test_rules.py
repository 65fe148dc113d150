"""Every rule against the contract of rules: two backends, an oracle, replicas, types, declarations."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import (
    RULES,
    SHAPES,
    STRUCTURES,
    Path,
    Problem,
    deviation,
    gradients,
    hyperparameters,
    label,
    oracle_path,
    problems,
    starts,
)
from oracles import ORACLES
from thalweg.backends import eager
from thalweg.backends.reference import Reference
from thalweg.errors import InputError
from thalweg.hyper import Flag
from thalweg.rules import tail
from thalweg.rules.base import Rule
from thalweg.rules.catalogue import CATALOGUE, preset
from thalweg.rules.tail import Row

K = 4  # replicas
NUMPY_SHAPES = {name: shape for name, shape in SHAPES.items() if name != "idle"}


def in_numpy(rule: Rule, values: dict[str, Any], problem: Problem, factor: Any = 1.0) -> Path:
    work, at, path = Reference(rule, values), problem.starts, []
    for slopes in problem.gradients:
        at = work.step(at, slopes, factor)
        path.append(at)
    return path


def in_torch(rule: Rule, values: dict[str, Any], problem: Problem, factor: Any = 1.0) -> Path:
    h = rule.values(values)
    at = {name: torch.tensor(start) for name, start in problem.starts.items()}
    states = {name: rule.initial(p, h) for name, p in at.items()}
    times = dict.fromkeys(at, 0)
    path = []
    for slopes in problem.gradients:
        moving = [name for name in at if slopes[name] is not None]
        for name in moving:
            times[name] += 1
        rows = [Row(at[n], torch.tensor(slopes[n]), states[n], times[n], h) for n in moving]
        assert eager.advance(rule, rows, factor=factor) is None
        path.append({name: p.numpy().copy() for name, p in at.items()})
    return path


@pytest.mark.parametrize(("name", "values"), STRUCTURES, ids=label)
def test_both_backends_and_the_oracle_take_the_same_path(name: str, values: dict[str, Any]) -> None:
    problem = Problem(starts(7), gradients(7, steps=30), [(list(SHAPES), values)])

    plain = in_numpy(RULES[name], values, problem)

    assert deviation(plain, in_torch(RULES[name], values, problem), problem.starts) <= 1e-14
    assert deviation(plain, oracle_path(ORACLES[name], problem), problem.starts) <= 1e-12


@pytest.mark.parametrize("name", RULES)
def test_a_schedules_factor_multiplies_the_rate(name: str) -> None:
    values = RULES[name].checked({"lr": 0.04, "weight_decay": 0.02})
    slower = {**values, "lr": 0.01}
    problem = Problem(starts(7), gradients(7, steps=30), [])

    for run in (in_numpy, in_torch):
        path = run(RULES[name], values, problem, factor=0.25)
        assert deviation(path, run(RULES[name], slower, problem), problem.starts) == 0


@pytest.mark.parametrize("name", RULES)
def test_a_step_is_pure(name: str) -> None:
    rule = RULES[name]
    h = rule.values(rule.checked({}))
    p, g = np.array([1.0, 2.0]), np.array([0.5, -0.5])
    row = Row(p, g, rule.initial(p, h), 1, h)
    step = tail.step(rule, [row])

    first, second = step.moved(row), step.moved(row)

    assert p.tolist() == [1, 2]
    assert g.tolist() == [0.5, -0.5]
    assert all((x == y).all() for x, y in zip(row.state, rule.initial(p, h), strict=True))
    assert first[0].tolist() == second[0].tolist() != p.tolist()


@pytest.mark.parametrize(("name", "values"), STRUCTURES, ids=label)
def test_numbers_of_numpy_and_torch_keep_the_dtype_of_the_parameter(name: str, values: dict) -> None:
    rule = RULES[name]
    typed = {n: np.float64(x) if isinstance(x, float) else x for n, x in values.items()}
    begin = starts(1, dtype=np.float32)
    problem = Problem(begin, gradients(1, steps=3, dtype=np.float32), [])
    work = Reference(rule, typed)
    at = begin
    for slopes in problem.gradients:
        at = work.step(at, slopes)

    assert {x.dtype for x in at.values()} == {np.dtype(np.float32)}
    assert {np.asarray(x).dtype for s in work.states.values() for x in s} <= {np.dtype(np.float32)}
    assert {x.dtype for x in in_torch(rule, values, problem)[-1].values()} == {np.dtype(np.float32)}


# Replicas.


def as_array(x: Any) -> np.ndarray:
    return x.numpy().copy() if isinstance(x, torch.Tensor) else np.array(x)


def in_fleet(
    rule: Rule,
    each: list[dict[str, Any]],
    begin: list[dict[str, np.ndarray]],
    slopes: list[list[dict[str, np.ndarray]]],
    ages: np.ndarray,
    factors: np.ndarray,
    torch_backend: bool,
) -> list[Path]:
    """Run stacked replicas, each with its own values, step count and factor."""

    def array(x: Any) -> Any:
        return torch.as_tensor(np.asarray(x)) if torch_backend else np.asarray(x)

    def column(name: str) -> Any:
        if isinstance(rule.hyper[name], Flag):
            return each[0][name]
        if isinstance(each[0][name], tuple):
            return tuple(array([v[name][i] for v in each]) for i in range(len(each[0][name])))
        return array([v[name] for v in each])

    h = rule.values({name: column(name) for name in rule.hyper})
    at = {name: array(np.stack([b[name] for b in begin])) for name in begin[0]}
    states = {name: rule.initial(p, h, replicas=True) for name, p in at.items()}
    paths: list[Path] = [[] for _ in each]
    for past in range(len(slopes[0])):
        rows = {
            name: Row(
                at[name],
                array(np.stack([s[past][name] for s in slopes])),
                states[name],
                array(ages + past + 1),
                h,
                replicas=True,
            )
            for name in at
        }
        if torch_backend:
            eager.advance(rule, rows.values(), factor=array(factors))
        else:
            step = tail.step(rule, rows.values(), factor=factors)
            for name, row in rows.items():
                at[name], states[name] = step.moved(row)
        for k, path in enumerate(paths):
            path.append({name: as_array(x[k]) for name, x in at.items()})
    return paths


def alone(
    rule: Rule,
    values: dict[str, Any],
    begin: dict[str, np.ndarray],
    slopes: list[dict[str, np.ndarray]],
    age: int,
    factor: float,
    torch_backend: bool,
) -> Path:
    """Run one replica by itself."""
    h = rule.values(values)
    at: dict[str, Any] = {n: torch.tensor(x) if torch_backend else x for n, x in begin.items()}
    states = {name: rule.initial(p, h) for name, p in at.items()}
    path = []
    for past, now in enumerate(slopes):
        rows = {
            n: Row(at[n], torch.tensor(now[n]) if torch_backend else now[n], states[n], age + past + 1, h)
            for n in at
        }
        if torch_backend:
            eager.advance(rule, rows.values(), factor=factor)
        else:
            step = tail.step(rule, rows.values(), factor=factor)
            for name, row in rows.items():
                at[name], states[name] = step.moved(row)
        path.append({name: as_array(x) for name, x in at.items()})
    return path


@st.composite
def fleets(draw: st.DrawFn, rule: Rule) -> tuple[list[dict[str, Any]], int]:
    """Draw values for K replicas: numbers differ, flags are one structure and therefore the same."""
    each = [draw(hyperparameters(rule)) for _ in range(K)]
    flags = {name: each[0][name] for name, h in rule.hyper.items() if isinstance(h, Flag)}
    if rule.name == "sgd" and flags["nesterov"]:
        each = [{**v, "momentum": max(v["momentum"], 0.1), "dampening": 0.0} for v in each]
    return [{**v, **flags} for v in each], draw(st.integers(0, 10**6))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("torch_backend", [False, True], ids=["numpy", "torch"])
@pytest.mark.parametrize("name", RULES)
def test_stacked_replicas_equal_separate_runs(name: str, torch_backend: bool, dtype: Any) -> None:
    rule = RULES[name]
    # What depends on the step alone is computed in float64 for both. Libraries raise a column of numbers
    # to a power by other code than a single one, so that βᵗ may differ in its last bit: 1 − βᵗ then by
    # 1e-16/(1 − β) and, with β ≤ 0.9999, the first steps by 1e-12. In float32 that is below the rounding,
    # except where it tips it.
    close = 0.0 if name in ("sgd", "adagrad", "rmsprop") else 1e-12 if dtype is np.float64 else 1e-6

    @settings(max_examples=8)
    @given(fleet=fleets(rule))
    def check(fleet: tuple[list[dict[str, Any]], int]) -> None:
        each, seed = fleet
        begin = [starts(seed + k, NUMPY_SHAPES, dtype) for k in range(K)]
        slopes: list[Any] = [gradients(seed + k, NUMPY_SHAPES, 10, 0.0, dtype) for k in range(K)]
        ages, factors = np.array([0, 3, 0, 100]), np.array([1.0, 0.5, 0.1, 0.0])

        together = in_fleet(rule, each, begin, slopes, ages, factors, torch_backend)

        for k, path in enumerate(together):
            own = alone(rule, each[k], begin[k], slopes[k], int(ages[k]), float(factors[k]), torch_backend)
            assert {x.dtype for at in path for x in at.values()} == {np.dtype(dtype)}
            assert deviation(path, own, begin[k]) <= close

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
    row = Row(p, torch.ones_like(p), rule.initial(p, h), torch.tensor([2]), h, replicas=True)

    moved, _ = tail.step(rule, [row]).moved(row)

    m_hat, v_hat = 0.1 / (1 - 0.9**2), 0.001 / (1 - 0.999**2)
    assert moved.item() == pytest.approx(-m_hat / v_hat**0.5, rel=1e-12)


def test_the_decay_of_a_float32_replica_is_computed_in_float64() -> None:
    """1 − γλ formed in float32 would be one rounding off for some of these rates."""
    rule, rates = RULES["adamw"], np.linspace(0.1, 1.0, 50)
    h = rule.values(rule.checked({"weight_decay": 0.9}) | {"lr": rates})
    p = np.ones((50, 1), np.float32)
    row = Row(p, np.zeros_like(p), rule.initial(p, h, replicas=True), 1, h, replicas=True)

    moved, _ = tail.step(rule, [row], factor=0.7).moved(row)

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
    base = {"lr": 0.05, **({"momentum": 0.5} if "momentum" in rule.hyper else {})}
    change = {
        "lr": 0.06, "momentum": 0.6, "dampening": 0.1, "weight_decay": 0.03, "nesterov": True,
        "maximize": True, "lr_decay": 0.1, "initial_accumulator_value": 0.1, "eps": 0.01, "alpha": 0.9,
        "centered": True, "betas": (0.8, 0.9), "amsgrad": True,
    }  # fmt: skip
    problem = Problem(starts(1), gradients(1, steps=30), [])
    if "amsgrad" in rule.hyper:
        base["betas"] = (0.8, 0.8)  # with a long memory v hardly falls in 30 steps
    before = in_numpy(rule, rule.checked(base), problem)
    for option in rule.hyper:
        after = in_numpy(rule, rule.checked({**base, option: change[option]}), problem)
        assert deviation(after, before, problem.starts) > 1e-4, option

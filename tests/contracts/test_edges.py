"""Every rule where random gradients never lead: zeros, tiny numbers, a rate of 0, the shapes of states."""

from typing import Any

import numpy as np
import pytest

from cases import Problem, curvature, deviation, oracle_path, problem_of, shapes, starts
from oracles import EVALUATED
from thalweg.backends.reference import Reference
from thalweg.rules.base import Scope
from thalweg.rules.catalogue import RULES

# Off their defaults, so that what is compared is not zero.
VALUES = {"lr": 0.05, "weight_decay": 0.02, "momentum": 0.9, "d0": 0.01}
OWN: dict[str, list[dict[str, Any]]] = {
    "adafactor": [{"lr": 0.9}, {"eps": (0.3, 1e-2)}],  # a rate above 1/√t, and an ε₁ that is reached
    "dadapt-adam": [{"decouple": True}],
    "lars": [{"eps": 0.0}],
    "radam": [{"betas": (0.9, 0.5)}],  # ρ never above 5
    "shampoo": [{"momentum": 0.0}],
    "soap": [{"max_dimension": 3}, {"max_dimension": 4}],  # just long enough
}


def rows() -> list[tuple[str, dict[str, Any]]]:
    found = []
    for name, rule in RULES.items():
        plain = {n: x for n, x in VALUES.items() if n in rule.hyper}
        found += [(name, rule.checked(plain | own)) for own in [{}, *OWN.get(name, [])]]
    return found


def path_of(name: str, problem: Problem) -> list[dict[str, np.ndarray]]:
    work, at, path = Reference(RULES[name], problem.groups[0][1]), problem.starts, []
    for step, slopes in enumerate(problem.gradients):
        if work.rule.refresh is not None:
            work.refresh(at, curvature(problem, step))
        at = work.step(at, slopes, problem.factor(step))
        path.append(at)
    return path


def assert_as_the_oracle(name: str, problem: Problem) -> None:
    path = path_of(name, problem)
    assert all(np.isfinite(x).all() for at in path for x in at.values())
    assert deviation(path, oracle_path(name, problem), problem.starts) <= 1e-10


@pytest.mark.parametrize(("name", "values"), rows())
def test_gradients_and_parameters_that_are_zero_at_first_move_as_the_oracle(name: str, values: dict) -> None:
    problem = problem_of(RULES[name], values)
    zeros = {n: np.zeros(s) for n, s in shapes(RULES[name]).items()}
    first = next(iter(zeros))
    begin = {n: zeros[n] if n in (first, "transposed") else x for n, x in problem.starts.items()}
    if name != "soap":  # which makes its bases from the first gradient
        problem = Problem(begin, [zeros, *problem.gradients[1:]], problem.groups, problem.factors)

    assert_as_the_oracle(name, problem)


# A rule with global scope counts a step at rate 0, its oracle and its package do not.
@pytest.mark.parametrize(("name", "values"), [r for r in rows() if RULES[r[0]].scope is not Scope.GLOBAL])
def test_a_schedule_that_begins_at_0_is_that_of_the_oracle(name: str, values: dict) -> None:
    problem = problem_of(RULES[name], values)

    assert_as_the_oracle(
        name, Problem(problem.starts, problem.gradients, problem.groups, [0.0, *problem.factors[1:]])
    )


@pytest.mark.parametrize(("name", "values"), rows())
def test_tiny_gradients_move_as_the_oracle(name: str, values: dict) -> None:
    problem = problem_of(RULES[name], values)
    tiny = [{n: g if g is None else 1e-3 * g for n, g in at.items()} for at in problem.gradients]

    assert_as_the_oracle(name, Problem(problem.starts, tiny, problem.groups, problem.factors))


@pytest.mark.parametrize("name", ["rprop"])
def test_gradients_whose_products_are_too_small_for_a_number_move_as_the_oracle(name: str) -> None:
    problem = problem_of(RULES[name], RULES[name].checked({"lr": 0.05}))
    tiny = [{n: g if g is None else 1e-200 * g for n, g in at.items()} for at in problem.gradients]

    assert_as_the_oracle(name, Problem(problem.starts, tiny, problem.groups, problem.factors))


@pytest.mark.parametrize("name", ["rmsprop"])
def test_a_gradient_that_does_not_vary_has_a_variance_of_0_and_not_less(name: str) -> None:
    work, at = Reference(RULES[name], RULES[name].checked({"centered": True, "alpha": 0.9})), np.ones(50)
    slope = np.linspace(0.1, 1.0, 50)
    for _ in range(400):
        at = work.step({"": at}, {"": slope})[""]

    assert np.isfinite(at).all()


@pytest.mark.parametrize("name", EVALUATED)
def test_weights_to_evaluate_with_are_those_of_the_oracle_after_every_step(name: str) -> None:
    rule = RULES[name]
    values = rule.checked({n: x for n, x in VALUES.items() if n in rule.hyper})
    problem = problem_of(rule, values)
    work, at, each = Reference(rule, values), problem.starts, "filter"
    expected = EVALUATED[name](
        problem.starts[each], [g[each] for g in problem.gradients], factors=problem.factors, **values
    )
    for step, slopes in enumerate(problem.gradients):
        at = work.step(at, slopes, problem.factor(step))
        if each in work.states:
            assert rule.evaluated is not None
            face = rule.evaluated(at[each], work.states[each], work.values)
            assert face == pytest.approx(expected[step], rel=1e-10, abs=1e-10)


@pytest.mark.parametrize(("name", "values"), rows())
def test_a_state_keeps_its_fields_and_shapes_from_the_start_on(name: str, values: dict) -> None:
    rule = RULES[name]
    shaped = {"filter": (2, 3, 2, 1), "matrix": (3, 2)}
    slopes = {n: np.random.default_rng(1).standard_normal(s) for n, s in shaped.items()}
    begin = starts(1, shaped)
    work = Reference(rule, values)
    work.step(begin, slopes)
    h = work.values
    for each, p in begin.items():
        first, later = rule.initial(p, h), work.states[each]
        assert type(first) is type(later) is rule.state(h, p.shape)
        assert [np.shape(x) for x in first] == [np.shape(x) for x in later]


# One number a parameter; rows and columns of a matrix. Those of the matrix methods are their own.
NUMBERS = {"mu_product", "mu", "eta", "weight_sum", "lr_max"}
SIDES = {"row_var": 3, "col_var": 4}


@pytest.mark.parametrize("name", [n for n in RULES if n not in ("shampoo", "soap")])
def test_states_are_no_larger_than_they_must_be(name: str) -> None:
    rule = RULES[name]
    work = Reference(rule, rule.checked({}))
    work.step({"": np.ones((3, 4))}, {"": np.ones((3, 4))})

    for buffer, x in work.states[""]._asdict().items():
        assert np.size(x) == SIDES.get(buffer, 1 if buffer in NUMBERS else 12), buffer


def test_rows_are_of_all_rules() -> None:
    assert {name for name, _ in rows()} == set(RULES)
    assert any(rule.scope is Scope.GLOBAL for rule in RULES.values())

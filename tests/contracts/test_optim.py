"""Every class of thalweg.optim against PyTorch's class of the same name; bad input."""

import inspect
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from cases import (
    SHAPES,
    STRUCTURES,
    Path,
    Problem,
    deviation,
    extras,
    factors,
    gradients,
    invalid_values,
    label,
    oracle_path,
    problems,
    starts,
)
from thalweg import optim, reference
from thalweg.errors import InputError
from thalweg.optim import BY_RULE
from thalweg.optim.arguments import EXECUTION
from thalweg.rules.catalogue import RULES
from walks import (
    CLOSE,
    NAMES,
    RICH,
    THEIRS,
    begin_for,
    double,
    real_only,
    solve,
    solve_in_numpy,
    walk,
)

__all__ = ["double"]  # a fixture

# The same numbers as PyTorch.


@pytest.mark.parametrize("name", NAMES)
def test_hundred_steps_equal_pytorch_the_numpy_reference_and_an_independent_oracle(name: str) -> None:
    @settings(max_examples=15)
    @given(problem=problems(RULES[name], as_pytorch=True))
    def check(problem: Problem) -> None:
        ours = solve(BY_RULE[name], problem)
        plain = getattr(reference, BY_RULE[name].__name__)

        pytorch = without_empty(problem) if name == "adafactor" else problem
        theirs = solve(THEIRS[name], pytorch, foreach=False)
        assert deviation(ours, theirs, pytorch.starts) <= CLOSE
        assert deviation(ours, solve_in_numpy(plain, problem), problem.starts) <= CLOSE
        assert deviation(ours, oracle_path(name, problem), problem.starts) <= CLOSE

    check()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (n, v)
        for n, v in STRUCTURES
        if n in NAMES and all(v[x] == RULES[n].hyper[x].default for x in extras(RULES[n]))
    ],
    ids=label,
)
def test_every_structure_equals_pytorch(name: str, values: dict[str, Any]) -> None:
    begin = begin_for(name, 3)
    problem = Problem(begin, gradients(3, steps=20), [(list(begin), values)], factors(3, 20))

    ours, theirs = solve(BY_RULE[name], problem), solve(THEIRS[name], problem, foreach=False)

    assert deviation(ours, theirs, problem.starts) <= CLOSE
    assert deviation(ours, [problem.starts] * 20, problem.starts) > 1e-4  # it did move


def without_empty(problem: Problem) -> Problem:
    begin = {n: x for n, x in problem.starts.items() if x.size}
    groups = [([n for n in names if n in begin], values) for names, values in problem.groups]
    return Problem(begin, problem.gradients, [g for g in groups if g[0]], problem.factors)


@pytest.mark.parametrize("name", NAMES)
def test_defaults_and_positions_are_pytorchs(name: str) -> None:
    theirs = inspect.signature(THEIRS[name]).parameters
    ours = inspect.signature(BY_RULE[name]).parameters
    by_place = [n for n, p in ours.items() if p.kind is p.POSITIONAL_OR_KEYWORD]

    own = {*extras(RULES[name]), "wrappers", "fallback", *EXECUTION}
    assert {n: p.default for n, p in ours.items() if n not in own} == {
        n: p.default
        for n, p in theirs.items()
        if n not in (*optim.EXECUTION_FLAGS, "differentiable") or n in RULES[name].hyper
    }
    assert by_place == list(theirs)[: len(by_place)]


def test_hyperparameters_by_position_mean_what_they_mean_in_pytorch() -> None:
    places = {
        "sgd": (0.1, 0.9, 0.2, 0.01, False),
        "adagrad": (0.1, 0.01, 0.02, 0.3, 1e-5),
        "rmsprop": (0.1, 0.9, 1e-5, 0.01, 0.5, True),
        "adam": (0.1, (0.8, 0.9), 1e-5, 0.01, True),
        "adamw": (0.1, (0.8, 0.9), 1e-5, 0.01, True),
    }
    places |= {
        "adadelta": (0.1, 0.8, 1e-5, 0.01),
        "adamax": (0.1, (0.8, 0.9), 1e-5, 0.01),
        "nadam": (0.1, (0.8, 0.9), 1e-5, 0.01, 0.02, True),
        "radam": (0.1, (0.8, 0.9), 1e-5, 0.01, True),
        "rprop": (0.1, (0.4, 1.3), (1e-5, 10.0)),
        "asgd": (0.1, 0.01, 0.6, 100.0, 0.01),
        "adafactor": (0.1, -0.7, (None, 0.01), 1.5, 0.01),
    }
    assert set(places) == set(NAMES)
    for name, values in places.items():
        ours = BY_RULE[name]([torch.zeros(1)], *values).defaults
        theirs = THEIRS[name]([torch.zeros(1)], *values).defaults
        assert {n: x for n, x in ours.items() if n not in extras(RULES[name])} == {
            n: theirs[n] for n in ours if n not in extras(RULES[name])
        }


def test_what_pytorch_takes_as_an_execution_flag_by_position_is_not_taken_for_maximize() -> None:
    with pytest.raises(InputError, match="RMSprop must take at most 6 hyperparameters by position; got 7"):
        optim.RMSprop([torch.zeros(1)], 0.1, 0.9, 1e-5, 0.0, 0.0, False, True)


@pytest.mark.parametrize("name", [n for n in NAMES if not real_only(n)])
def test_complex_parameters_equal_pytorchs(name: str) -> None:
    def run(cls: Any) -> Path:
        leaf = torch.nn.Parameter(torch.tensor([1 + 1j, 2 - 0.5j, -1j], dtype=torch.complex128))
        generator = np.random.default_rng(0)
        slopes = [{"z": generator.standard_normal(3) + 1j * generator.standard_normal(3)} for _ in range(20)]
        return walk(cls([leaf], foreach=False, **RICH[name]), {"z": leaf}, slopes)

    assert deviation(run(BY_RULE[name]), run(THEIRS[name]), {"z": np.ones(3)}) <= CLOSE


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_parameters_equal_pytorchs_to_their_own_rounding(name: str) -> None:
    def run(cls: Any) -> Path:
        leaf = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.bfloat16))
        generator = np.random.default_rng(0)
        optimizer = cls([leaf], foreach=False, **RICH[name])
        path = []
        for _ in range(5):
            leaf.grad = torch.tensor(generator.standard_normal(3), dtype=torch.bfloat16)
            optimizer.step()
            path.append({"x": leaf.detach().double().numpy().copy()})
        return path

    # Numbers have 8 bits: each of 5 steps rounds the parameter and the direction, here and there.
    assert deviation(run(BY_RULE[name]), run(THEIRS[name]), {"x": np.ones(3)}) <= 4 * 2**-8


@pytest.mark.parametrize("rate", [torch.tensor(0.05), torch.tensor([0.05])])
def test_a_rate_may_be_a_tensor_with_one_number(rate: torch.Tensor) -> None:
    rate = rate.double()  # PyTorch computes with it in its own type, which is not more exact than that
    for name in NAMES:
        begin = begin_for(name, 5)
        problem = Problem(begin, gradients(5, steps=5), [(list(begin), {})])
        ours, theirs = (solve(c[name], problem, lr=rate, foreach=False) for c in (BY_RULE, THEIRS))
        assert deviation(ours, theirs, problem.starts) <= CLOSE
        with pytest.raises(InputError, match=r"lr of .* must be a finite number of at least 0; got tensor"):
            BY_RULE[name]([torch.zeros(1)], lr=torch.tensor([0.1, 0.2]))


def test_float32_scalars_of_the_step_are_computed_in_float64() -> None:
    """1 − 0.999 in float32 would be off by 1.3e-5, and with it the mean square."""
    leaf = torch.nn.Parameter(torch.ones(1, dtype=torch.float32))
    leaf.grad = torch.full((1,), 2.0, dtype=torch.float32)
    optimizer = optim.Adam([leaf])

    optimizer.step()

    assert optimizer.state[leaf]["exp_avg_sq"].item() == pytest.approx(0.004, rel=1e-7)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("flag", optim.EXECUTION_FLAGS)
def test_execution_flags_are_kept_and_change_nothing(name: str, flag: str) -> None:
    problem = Problem(starts(5), gradients(5, steps=5), [(list(SHAPES), {})])

    with_flag = solve(BY_RULE[name], problem, **{flag: True})

    assert deviation(with_flag, solve(BY_RULE[name], problem), problem.starts) == 0
    assert BY_RULE[name]([torch.zeros(1)], **{flag: True}).param_groups[0][flag] is True


# Bad input.


def test_a_sparse_gradient_is_refused_in_words_before_anything_moves() -> None:
    for name in (n for n in NAMES if not RULES[n].lazy):
        dense, table = torch.nn.Parameter(torch.ones(2)), torch.nn.Embedding(3, 2, sparse=True)
        dense.grad = torch.ones(2)
        table(torch.tensor([1])).sum().backward()
        optimizer = BY_RULE[name]([{"params": [dense]}, {"params": table.parameters()}])

        with pytest.raises(InputError) as error:
            optimizer.step()

        assert str(error.value) == (
            f"the gradients that {RULES[name].title} is given must be dense; got one of layout "
            "torch.sparse_coo. Make the embedding with sparse=False, or call .to_dense() on the gradient."
        )
        assert dense.tolist() == [1, 1]


@pytest.mark.parametrize("name", NAMES)
def test_every_invalid_value_is_refused_in_words_by_the_class_and_by_a_group(name: str) -> None:
    optimizer = BY_RULE[name]([torch.zeros(1)])
    for option, bad in invalid_values(RULES[name]):
        declared = RULES[name].hyper[option]
        words = f"{option} of {RULES[name].title} must be {declared.must}; got {bad!r}."
        for attempt in (
            lambda given: BY_RULE[name]([torch.zeros(1)], **given),
            lambda given: BY_RULE[name]([{"params": [torch.zeros(1)], **given}]),
            lambda given: optimizer.add_param_group({"params": [torch.zeros(1)], **given}),
        ):
            with pytest.raises(InputError, match="^" + re.escape(words)):
                attempt({option: bad})
    assert len(optimizer.param_groups) == 1


def test_names_that_do_not_exist_or_come_twice_are_refused() -> None:
    with pytest.raises(InputError, match=r"got 'momentun'\. Did you mean momentum"):
        optim.SGD([torch.zeros(1)], momentun=0.9)
    with pytest.raises(InputError, match="lr of SGD must be given once; got two values"):
        optim.SGD([torch.zeros(1)], 0.1, lr=0.1)
    with pytest.raises(InputError, match="differentiable of Adam must be False; got True"):
        optim.Adam([torch.zeros(1)], differentiable=True)
    with pytest.raises(InputError, match="nesterov of SGD must come with a momentum above 0"):
        optim.SGD([{"params": [torch.zeros(1)], "momentum": 0.0}], momentum=0.9, nesterov=True)


@pytest.mark.parametrize("name", NAMES)
def test_help_and_repr_are_derived_from_the_rule(name: str) -> None:
    cls, rule = BY_RULE[name], RULES[name]
    text = inspect.getdoc(cls) or ""

    assert inspect.cleandoc(rule.formula) in text
    assert rule.source in text
    for option, declared in rule.hyper.items():
        assert f"{option}: {declared.meaning}; {declared.must}" in text
    assert repr(cls([torch.zeros(1)])).startswith(f"{cls.__name__} (")

"""Every class of thalweg.optim against PyTorch's class of the same name."""

import inspect
import re
from collections.abc import Callable
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
from thalweg.rules.catalogue import RULES
from walks import (
    CLOSE,
    NAMES,
    RICH,
    THEIRS,
    assert_same_bits,
    begin_for,
    buffers,
    double,
    parameters,
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

    own = {*extras(RULES[name]), "wrappers", "fallback", "state_dtype"}
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


# What holds for every optimizer of PyTorch.


@pytest.mark.parametrize("name", NAMES)
def test_a_group_added_in_the_middle_of_a_run_equals_pytorchs(name: str) -> None:
    begin, slopes = begin_for(name, 2), gradients(2, steps=20)

    def run(cls: Any) -> Path:
        leaves = parameters(begin)
        late = [leaves.pop("transposed")]
        optimizer = cls(list(leaves.values()), foreach=False, **RICH[name])
        path = walk(optimizer, leaves, slopes[:10])
        optimizer.add_param_group({"params": late, "lr": 0.2})
        leaves["transposed"] = late[0]
        return [{"transposed": begin["transposed"], **at} for at in path] + walk(
            optimizer, leaves, slopes[10:]
        )

    assert deviation(run(BY_RULE[name]), run(THEIRS[name]), begin) <= CLOSE


def test_a_group_may_change_its_structure_in_the_middle_of_a_run_as_in_pytorch() -> None:
    begin, slopes = starts(2), gradients(2, steps=20, silent=0.0)

    def run(cls: Any) -> Path:
        leaves = parameters(begin)
        optimizer = cls(list(leaves.values()), foreach=False, lr=0.01, weight_decay=0.01)
        path = walk(optimizer, leaves, slopes[:10])
        optimizer.param_groups[0]["momentum"] = 0.9
        return path + walk(optimizer, leaves, slopes[10:])

    assert deviation(run(optim.SGD), run(torch.optim.SGD), begin) <= CLOSE


def test_buffers_that_a_change_of_structure_needs_start_empty() -> None:
    leaf = torch.nn.Parameter(torch.ones(1))
    leaf.grad = torch.ones(1)
    optimizer = optim.RMSprop([leaf], lr=0.1)
    optimizer.step()
    optimizer.param_groups[0]["momentum"] = 0.5

    optimizer.step()

    assert sorted(optimizer.state[leaf]) == ["momentum_buffer", "square_avg", "step"]
    assert optimizer.state[leaf]["step"].item() == 2


def test_a_closure_is_run_with_gradients_and_its_loss_returned() -> None:
    leaf = torch.nn.Parameter(torch.tensor(10.0))
    optimizer = optim.SGD([leaf], lr=0.1)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = leaf**2
        loss.backward()
        return loss

    with torch.no_grad():
        assert optimizer.step(closure).item() == 100
    assert leaf.item() == 8
    assert optimizer.step() is None


def test_step_hooks_run_around_the_step_and_may_change_the_gradient() -> None:
    leaf = torch.nn.Parameter(torch.tensor(1.0))
    leaf.grad = torch.tensor(5.0)
    optimizer = optim.SGD([leaf], lr=1.0)
    seen: list[float] = []

    def clip(*_: object) -> None:
        seen.append(leaf.item())
        assert leaf.grad is not None
        leaf.grad.clamp_(max=1.0)

    optimizer.register_step_pre_hook(clip)
    optimizer.register_step_post_hook(lambda *_: seen.append(leaf.item()))
    optimizer.step()

    assert seen == [1.0, 0.0]


def test_zero_grad_forgets_gradients_and_a_step_without_any_moves_nothing() -> None:
    for name in NAMES:
        leaf = torch.nn.Parameter(torch.ones(2))
        leaf.grad = torch.ones(2)
        optimizer = BY_RULE[name]([leaf], **RICH[name])
        optimizer.zero_grad()
        before = buffers(optimizer)
        optimizer.step()

        assert leaf.grad is None
        assert leaf.tolist() == [1, 1]
        assert_same_bits(buffers(optimizer), before)


SCHEDULERS: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "StepLR": lambda o: torch.optim.lr_scheduler.StepLR(o, step_size=4, gamma=0.5),
    "CosineAnnealingLR": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=20),
    "OneCycleLR": lambda o: torch.optim.lr_scheduler.OneCycleLR(
        o,
        max_lr=0.1,
        total_steps=21,
        cycle_momentum="betas" in o.defaults or o.defaults.get("momentum", 0) > 0,
    ),
}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("name", NAMES)
def test_pytorchs_schedulers_drive_it_as_they_drive_pytorchs_class(name: str, scheduler: str) -> None:
    begin, slopes = begin_for(name, 2), gradients(2, steps=20)

    def run(cls: Any) -> tuple[Path, Any]:
        leaves = parameters(begin)
        optimizer = cls(list(leaves.values()), foreach=False, **RICH[name])
        schedule = SCHEDULERS[scheduler](optimizer)
        return walk(optimizer, leaves, slopes, after=schedule.step), optimizer.param_groups[0]

    (ours, mine), (theirs, expected) = run(BY_RULE[name]), run(THEIRS[name])
    assert deviation(ours, theirs, begin) <= CLOSE
    known = [n for n in RULES[name].hyper if n not in extras(RULES[name])]
    assert {n: mine[n] for n in known} == {n: expected[n] for n in known}
    cycled = next((n for n in ("betas", "momentum") if n in RICH[name]), None)
    if scheduler == "OneCycleLR" and cycled:  # the momentum was cycled too
        assert mine[cycled] != RICH[name][cycled]


@pytest.mark.parametrize("name", NAMES)
def test_grad_scaler_skips_a_step_that_is_not_finite(name: str) -> None:
    leaf = torch.nn.Parameter(torch.ones(2))
    optimizer = BY_RULE[name]([leaf], **RICH[name])
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)

    def step(factor: float) -> None:
        optimizer.zero_grad()
        scaler.scale((leaf * factor).sum()).backward()
        scaler.step(optimizer)
        scaler.update()

    step(1.0)
    before, state = leaf.detach().clone(), buffers(optimizer)
    step(float("inf"))
    assert torch.equal(leaf, before)
    assert_same_bits(buffers(optimizer), state)
    assert scaler.get_scale() == 2
    step(1.0)
    assert (leaf < before).all()


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


def test_named_parameters_are_accepted_and_named_in_the_state() -> None:
    model = torch.nn.Linear(2, 1)
    optimizer = optim.AdamW(model.named_parameters())
    model(torch.ones(1, 2)).sum().backward()

    optimizer.step()

    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]


@pytest.mark.parametrize("name", NAMES)
def test_help_and_repr_are_derived_from_the_rule(name: str) -> None:
    cls, rule = BY_RULE[name], RULES[name]
    text = inspect.getdoc(cls) or ""

    assert inspect.cleandoc(rule.formula) in text
    assert rule.source in text
    for option, declared in rule.hyper.items():
        assert f"{option}: {declared.meaning}; {declared.must}" in text
    assert repr(cls([torch.zeros(1)])).startswith(f"{cls.__name__} (")

"""Every rule as compiled kernels: the path of the reference, in each type, for replicas, on any threads."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cases import STRUCTURES, Problem, label
from fleets import shared_at_first
from kernel_walks import (
    COMPILED,
    NOT_COMPILED,
    SHAPES,
    SHORT,
    STEPS,
    Advance,
    assert_same_path,
    by_kernels,
    by_reference,
    columns,
    plain,
    problem,
    record,
    rich,
    shrunk,
    stacked_states,
    tensor,
)
from thalweg.backends import eager, kernels
from thalweg.backends.reference import Reference
from thalweg.backends.symbols import Untraceable
from thalweg.optim import BY_RULE
from thalweg.rules.base import Scope
from thalweg.rules.catalogue import RULES
from thalweg.rules.tail import Row


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path_factory.getbasetemp() / "kernels"))


# The path.

CASES = [
    pytest.param(
        name, values, marks=() if values in (plain(RULES[name]), rich(RULES[name])) else pytest.mark.slow
    )
    for name, values in STRUCTURES
    if name in COMPILED
]


@pytest.mark.parametrize(("name", "values"), CASES, ids=label)
def test_in_float64_parameters_states_and_shared_scalars_are_the_references(
    name: str, values: dict[str, Any]
) -> None:
    rule = RULES[name]
    given = problem(rule)

    # An operation rounds by 1e-16, unless a product is added at once; some ten a step, and centred RMSprop
    # divides by what has cancelled.
    assert_same_path(by_kernels(rule, values, given), by_reference(rule, values, given), 1e-13)


@pytest.mark.parametrize(("name", "values"), CASES, ids=label)
def test_in_float32_the_path_is_the_references_in_float64_but_for_rounding(
    name: str, values: dict[str, Any]
) -> None:
    rule = RULES[name]
    given = problem(rule, np.float32)

    # As above with 6e-8 in the place of 1e-16, and less than a hundred times that.
    assert_same_path(by_kernels(rule, values, given), by_reference(rule, values, given), 5e-6)


@pytest.mark.parametrize("name", ["adam", "lamb", "prodigy"])
def test_a_parameter_of_many_chunks_takes_the_path_of_the_reference(name: str) -> None:
    rule = RULES[name]
    given = problem(rule, shaped={"huge": (300_007,), "vector": (5,)}, silent=0.0)

    ours, theirs = (walk(rule, rich(rule), given) for walk in (by_kernels, by_reference))

    # 300,000 terms are added up in another order, each of which may round by 1e-16 of the sum.
    assert_same_path(ours, theirs, 1e-13 if rule.scope is Scope.ELEMENT else 1e-11)


@pytest.mark.parametrize("name", NOT_COMPILED)
def test_the_rules_that_are_not_compiled_say_why_and_move_nothing(name: str) -> None:
    rule = RULES[name]
    h, p = rule.values(plain(rule)), torch.ones(3, 4)

    with pytest.raises(Untraceable, match=r"^A \w+( \w+)* must .*\.$"):
        kernels.advance([Row(rule, p, torch.ones(3, 4), rule.initial(p, h), 1, h)])
    assert torch.equal(p, torch.ones(3, 4))


@pytest.mark.parametrize("name", RULES)
def test_optimizers_take_kernels_for_every_rule_that_has_them(name: str) -> None:
    w = torch.nn.Parameter(torch.ones(2, 3))
    w.grad = torch.ones(2, 3)
    optimizer = BY_RULE[name]([w])
    optimizer.step()

    assert ("compiled kernels" in optimizer.runs) == (name in COMPILED)
    assert ("eager" in optimizer.runs) == (name in NOT_COMPILED)


# Replicas.


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("name", COMPILED)
def test_replicas_move_as_each_alone_with_its_own_numbers(name: str, replicas: int) -> None:
    rule, among = RULES[name], range(replicas)
    each = [shrunk(rule, rich(rule), 1 - 0.1 * k) for k in among]
    given = [problem(rule, shaped=SHORT | {"long": (1500,)}, seed=k, silent=0.0) for k in among]
    ages, rates = np.array([3, 0, 100])[:replicas], np.array([0.5, 1.0, 0.1])[:replicas]
    h = rule.values(columns(rule, each))
    begin = {n: np.stack([one.starts[n] for one in given]) for n in given[0].starts}
    at, states = {n: tensor(x) for n, x in begin.items()}, stacked_states(rule, begin, h)
    shared, together = shared_at_first(rule, h), []
    for step in range(STEPS):
        slopes = {n: tensor(np.stack([one.gradients[step][n] for one in given])) for n in at}
        rows = [Row(rule, at[n], slopes[n], states[n], ages + step + 1, h, replicas=True) for n in at]
        shared = kernels.advance(rows, shared, rates).shared
        together.append((record(at, states, {}), record({}, {}, shared)))

    for k in among:
        alone = Reference(rule, each[k])
        alone.times = dict.fromkeys(begin, int(ages[k]))
        now: dict[str, Any] = given[k].starts
        expected = []
        for slopes_alone in given[k].gradients:
            now = alone.step(now, slopes_alone, float(rates[k]))
            expected.append(record(now, alone.states, alone.shared))
        ours = [
            {n: x[k] for n, x in apart.items()}
            | {n: np.broadcast_to(x.ravel(), replicas)[k] for n, x in common.items()}
            for apart, common in together
        ]
        # NumPy raises a column of numbers to a power by other code than one number: βᵗ may differ in its
        # last bit, and 1 − βᵗ then by 1e-16/(1 − β).
        assert_same_path(ours, expected, 1e-12)


# The ends of the range.

ENDS = {
    np.float64: ([np.nan, np.inf, -np.inf, 1e200, -1e-200, 5e-324, -0.0, 0.0, 1.0], 1e-12),
    np.float32: ([np.nan, np.inf, -np.inf, 1e30, -1e-30, 1e-45, -0.0, 0.0, 1.0], 1e-5),
}


@pytest.mark.parametrize("dtype", ENDS)
@pytest.mark.parametrize("name", COMPILED)
def test_what_is_not_finite_too_large_or_too_small_is_what_it_is_and_where_it_is_in_the_reference(
    name: str, dtype: Any
) -> None:
    rule, (ends, near) = RULES[name], ENDS[dtype]
    begin = {str(x): np.array([1.0, -0.0, 0.0, 1e-40, -2.0], dtype) for x in ends}
    # A row for each number, so that a norm of one row spoils that row alone.
    slopes = {str(x): np.array([x, 1.0, -x, x, -0.0], dtype) for x in ends}
    if rule.scope is Scope.GLOBAL:  # whose sums over all rows would be NaN everywhere
        problems = [Problem({n: begin[n]}, [{n: slopes[n]}] * 2, []) for n in begin]
    else:
        problems = [Problem(begin, [slopes] * 2, [])]
    for given in problems:
        ours = by_kernels(rule, plain(rule), given)
        with np.errstate(all="ignore"):
            theirs = by_reference(rule, plain(rule), given, dtype)
        for mine, other in zip(ours, theirs, strict=True):
            for n, x in other.items():
                least = 10 * float(np.finfo(dtype).smallest_subnormal)  # which has no digits to agree in
                np.testing.assert_allclose(mine[n], x, rtol=near, atol=least, err_msg=n)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", ["sgd", "adam", "adagrad", "lion", "rprop", "asgd"])
def test_zeros_under_gradients_that_are_zero_keep_the_sign_that_eager_steps_leave(
    name: str, dtype: torch.dtype
) -> None:
    rule = RULES[name]
    h = rule.values(plain(rule))

    def moved(advance: Advance) -> list[bool]:
        p = torch.tensor([0.0, -0.0, 0.0, -0.0], dtype=dtype)
        g = torch.tensor([0.0, 0.0, -0.0, -0.0], dtype=dtype)
        advance([Row(rule, p, g, rule.initial(p, h), 1, h)])
        return p.signbit().tolist()

    assert moved(kernels.advance) == moved(eager.advance)


# Half precision.


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", COMPILED)
def test_half_precision_is_the_step_in_float32_rounded_once(name: str, half: torch.dtype) -> None:
    rule, generator = RULES[name], np.random.default_rng(2)
    h = rule.values(rich(rule))
    narrow = {n: tensor(generator.standard_normal(s)).to(half) for n, s in SHAPES.items()}
    states = {n: rule.initial(p.float(), h) for n, p in narrow.items()}
    copies = {n: type(s)(*(x.clone() for x in s)) for n, s in states.items()}
    shared, other = shared_at_first(rule, h), shared_at_first(rule, h)
    for t in range(1, 4):
        slopes = {n: tensor(generator.standard_normal(p.shape) + 0.5).to(half) for n, p in narrow.items()}
        wide = {n: p.float() for n, p in narrow.items()}
        rows = [Row(rule, narrow[n], slopes[n], states[n], t, h) for n in narrow]
        full = [Row(rule, wide[n], slopes[n].float(), copies[n], t, h) for n in narrow]
        shared, other = kernels.advance(rows, shared).shared, kernels.advance(full, other).shared
        for n, p in narrow.items():
            assert _same_bits(p, wide[n].to(half)), n
            assert all(torch.equal(x, y) for x, y in zip(states[n], copies[n], strict=True)), n
        assert shared == other


def _same_bits(x: Tensor, y: Tensor) -> bool:
    return x.dtype == y.dtype and torch.equal(x.view(torch.int16), y.view(torch.int16))


# Threads.


@pytest.fixture
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("name", COMPILED)
def test_no_bit_depends_on_the_number_of_threads(name: str) -> None:
    """Also where a rule needs sums: those of chunks are added up in the order of chunks."""
    rule = RULES[name]
    given = problem(rule, np.float32, SHAPES | {"wide": (91, 401)})
    paths = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        paths.append(by_kernels(rule, rich(rule), given))

    for path in paths[1:]:
        for ours, theirs in zip(path, paths[0], strict=True):
            assert all(np.array_equal(ours[n], x) for n, x in theirs.items())

"""The text of kernels: what it may reorder, and bodies drawn by chance that compute what NumPy does."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_walks import COMPILED, rich, tensor
from thalweg.backends import kernels, llvm, loops
from thalweg.backends.kinds import kind_of
from thalweg.backends.program import trace
from thalweg.hyper import ANY, Flag, Real
from thalweg.rules import ops
from thalweg.rules.base import Decay, Rule, Scope, no_clock
from thalweg.rules.catalogue import RULES
from thalweg.rules.sgd import SGD
from thalweg.rules.tail import Row
from thalweg.rules.wrap import wrapped
from thalweg.rules.wrappers import WRAPPERS


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path_factory.getbasetemp() / "kernels"))


# What may be reordered.

# What would let NaN, infinity or the sign of zero be something else.
FORBIDDEN = re.compile(r"\b(fast|nnan|ninf|nsz|arcp|afn)\b")
ADDED_UP = re.compile(r"%\S+ = fadd reassoc double %sum\d+, %\S+$")
CONTRACTED = re.compile(r"%\S+ = f(add|sub|mul|div) contract (float|double) ")


def texts(rule: Rule, values: dict[str, Any], dtype: torch.dtype) -> Iterator[str]:
    h = rule.values(values)
    p = torch.ones(2, 3, dtype=dtype)
    state = rule.initial(p if dtype == torch.float64 else p.float(), h)
    kind = kind_of(Row(rule, p, p.clone(), state, 1, h), stochastic=dtype == torch.bfloat16)
    shared = {rule.name: rule.initial_shared(h)} if rule.initial_shared else {}
    for (work,) in trace([kind.family], [h], shared).passes:
        assert work is not None
        yield llvm.kernel(work, kind.types)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", COMPILED)
def test_only_products_may_be_contracted_and_only_sums_over_elements_reordered(
    name: str, dtype: torch.dtype
) -> None:
    rule = wrapped(RULES[name], [WRAPPERS["skip_nonfinite"](), WRAPPERS["clip_norm"]()])
    for text in texts(rule, rule.defaults() | rich(RULES[name]), dtype):
        assert not FORBIDDEN.search(text)
        for line in map(str.strip, text.splitlines()):
            assert "reassoc" not in line or ADDED_UP.match(line), line
            assert "contract" not in line or CONTRACTED.match(line), line


def test_loops_around_kernels_reorder_nothing() -> None:
    for text in (
        loops.REGION,
        loops.POINTERS,
        *map(loops.gather, llvm.SIZES),
        *map(loops.scatter, llvm.SIZES),
    ):
        assert "define " in text
        assert not FORBIDDEN.search(text)
        assert "reassoc" not in text


def test_a_rule_has_the_same_text_each_time_so_that_its_code_is_found_again() -> None:
    rule = RULES["lamb"]

    assert [*texts(rule, rich(rule), torch.float32)] == [*texts(rule, rich(rule), torch.float32)]


# Made-up rules.


class Kept(NamedTuple):
    """The buffer of a made-up rule."""

    buffer: Any


def made_up(body: Callable[..., tuple[Any, Any]]) -> Rule:
    """Make a rule of a body (p, g, b, x, y) -> (d, b) with a buffer and two numbers beside the rate, 1."""

    def direction(p: Any, g: Any, s: Any, h: Any, c: Any) -> tuple[Any, Any]:
        # Arrays in the parameter's type, whatever a body computes.
        d, b = (ops.cast(x + ops.zeros_like(p), p) for x in body(p, g, s.buffer, h.x, h.y))
        return d, Kept(b)

    numbers = {"lr": Real(1.0, "", ANY), "x": Real(0.75, "", ANY), "y": Real(-1.25, "", ANY)}
    return replace(
        SGD,
        hyper={**numbers, "maximize": Flag(False, "")},
        state=lambda h, shape: Kept,
        direction=direction,
        clock=no_clock,
        decay=Decay.OWN,
        scope=Scope.ELEMENT,
    )


def step(rule: Rule, p: np.ndarray, g: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return parameter and buffer after a step of a made-up rule."""
    h = rule.values(rule.defaults())
    moved, state = tensor(p), Kept(tensor(b))
    kernels.advance([Row(rule, moved, tensor(g), state, 1, h)])
    return moved.numpy(), state.buffer.numpy()


# Bodies drawn by chance.

Tree = Any  # the name of a leaf, a number, or an operation with its operands
UNARY: dict[str, Callable[..., Any]] = {
    "negative": lambda x: -x,
    "abs": ops.abs,
    "sign": ops.sign,
    "root": lambda x: ops.sqrt(ops.abs(x)),
    "square": lambda x: x * x,
    "wide": ops.in_float64,
}
BINARY: dict[str, Callable[..., Any]] = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "divide": lambda x, y: x / y,
    "maximum": ops.maximum,
    "minimum": ops.minimum,
}
OTHERS: dict[str, Callable[..., Any]] = {"where": lambda a, b, x, y: ops.where(a > b, x, y)}
LEAVES = ("p", "g", "b", "x", "y")
TREES = st.recursive(
    st.sampled_from(LEAVES) | st.sampled_from([0.5, -2.0, 3.0]),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(sorted(UNARY)), inner),
        st.tuples(st.sampled_from(sorted(BINARY)), inner, inner),
        st.tuples(st.just("where"), inner, inner, inner, inner),
    ),
    max_leaves=8,
)


def computed(tree: Tree, at: dict[str, Any]) -> Any:
    """Compute a tree with the operations of bodies."""
    if isinstance(tree, str):
        return at[tree]
    if isinstance(tree, float):
        return np.float64(tree)  # which Python's numbers are not: it divides by zero
    name, *inner = tree
    return (UNARY | BINARY | OTHERS)[name](*(computed(each, at) for each in inner))


def bounded(tree: Tree, at: dict[str, Any], dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Compute a tree in float64, with a bound on how far from that a computation in a type may be.

    The bound is infinite where a choice hangs on less, and beyond the range of the type. A product that is
    added without being rounded first stays within it.
    """
    if not isinstance(tree, tuple):
        value = np.asarray(at[tree] if isinstance(tree, str) else tree, float)
        return value, np.zeros(value.shape)
    name, *inner = tree
    (a, da), *rest = (bounded(each, at, dtype) for each in inner)
    b, db = rest[0] if rest else (a, da)
    match name:
        case "negative" | "abs" | "wide":
            return UNARY[name](a), da
        case "maximum" | "minimum":
            return BINARY[name](a, b), np.maximum(da, db)
        case "sign":
            return np.sign(a), np.where((np.abs(a) > da) | (da == 0), 0.0, np.inf)
        case "where":
            (c, dc), (d, dd) = rest[1:]
            clear = (np.abs(a - b) > da + db) | ((da == 0) & (db == 0))
            return np.where(a > b, c, d), np.where(clear, np.where(a > b, dc, dd), np.inf)
        case "root":
            value = UNARY[name](a)
            error = np.where(da > 0, np.fmin(np.sqrt(da), da / value), 0.0)
        case "divide":
            value = a / b
            error = np.where(np.abs(b) > db, (da + np.abs(value) * db) / (np.abs(b) - db), np.inf)
        case "add" | "subtract":
            value, error = BINARY[name](a, b), da + db
        case _:
            value, error = a * b, np.abs(a) * db + np.abs(b) * da + da * db
    info = np.finfo(dtype)
    known = np.abs(value) < info.max / 2
    return value, np.where(known, error + info.eps / 2 * np.abs(value) + info.tiny, np.inf)


def drawn(dtype: Any) -> Iterator[np.ndarray]:
    """Draw numbers of many sizes three times, whole ones and zeros among them; as many as fill no vector."""
    generator = np.random.default_rng(0)
    for _ in range(3):
        sizes = generator.standard_normal(43) * 10.0 ** generator.integers(-3, 4, 43)
        yield np.concatenate([sizes, generator.integers(-2, 3, 32)]).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_body_drawn_by_chance_computes_what_numpy_does_but_for_rounding(dtype: Any) -> None:
    compared, possible = 0, 0

    @settings(max_examples=60)
    @given(d=TREES, b=TREES)
    def check(d: Tree, b: Tree) -> None:
        nonlocal compared, possible
        given = dict(zip("pgb", drawn(dtype), strict=True))
        rule = made_up(
            lambda *at: tuple(computed(tree, dict(zip(LEAVES, at, strict=True))) for tree in (d, b))
        )
        with np.errstate(all="ignore"):
            ours = step(rule, *given.values())
            at = {n: x.astype(float) for n, x in given.items()} | {"x": 0.75, "y": -1.25}
            for mine, tree in zip(ours, (("subtract", "p", ("add", d, 0.0)), ("add", b, 0.0)), strict=True):
                value, bound = (np.broadcast_to(x, 75) for x in bounded(tree, at, dtype))
                known = np.isfinite(value) & np.isfinite(bound)
                # Twice: the plain computation is rounded as well; squares of bounds were left out.
                assert (np.abs(mine - value) <= 2.1 * bound)[known].all(), tree
                compared, possible = compared + known.sum(), possible + known.size

    check()
    assert compared > 0.8 * possible  # else the bounds would be blind


# Comparisons, choices and constants.

SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 2.5]
CONDITIONS: dict[str, Callable[[Any, Any], Any]] = {
    "<": lambda x, y: x < y,
    "<=": lambda x, y: x <= y,
    ">": lambda x, y: x > y,
    ">=": lambda x, y: x >= y,
    "==": lambda x, y: x == y,
    "!=": lambda x, y: x != y,
    "not": lambda x, y: ~(x < y),
    "and": lambda x, y: (x < 1) & (y < 1),
    "or": lambda x, y: (x > 1) | (y > 1),
    "finite": lambda x, y: ops.abs(x + y) < np.inf,
}


def special(dtype: Any, body: Callable[[Any, Any], Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return what kernels and what NumPy compute of all pairs of special numbers."""
    x, y = (each.ravel().astype(dtype) for each in np.meshgrid(SPECIAL, SPECIAL))
    _, ours = step(made_up(lambda p, g, b, *_: (p, body(g, b))), x, x, y)
    with np.errstate(all="ignore"):
        return ours, np.asarray(body(x, y), dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", CONDITIONS)
def test_conditions_on_special_numbers_are_those_of_numpy(name: str, dtype: Any) -> None:
    ours, theirs = special(dtype, lambda x, y: ops.where(CONDITIONS[name](x, y), 1.0, 2.0))

    assert ours.tolist() == theirs.tolist()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", ["maximum", "minimum", "sign", "abs", "root", "square", "add", "divide"])
def test_operations_on_special_numbers_are_those_of_numpy(name: str, dtype: Any) -> None:
    ours, theirs = special(dtype, BINARY[name] if name in BINARY else lambda x, y: UNARY[name](x))

    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("number", [3.4028235e38, 3.45e38, 1e300, -1e300, np.inf, 2.0**-149, -0.0])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_any_number_may_stand_in_a_body(dtype: Any, number: float) -> None:
    body = made_up(lambda p, g, b, x, y: (ops.maximum(ops.minimum(g, number), -7.0), b))
    p, _ = step(body, np.zeros(3, dtype), np.ones(3, dtype), np.zeros(3, dtype))

    assert p.tolist() == [-max(min(1.0, number), -7.0)] * 3

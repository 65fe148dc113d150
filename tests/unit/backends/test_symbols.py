"""What a traced step is made of: which numbers symbols stand for, and what may not be asked of them."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from thalweg.backends import symbols
from thalweg.backends.symbols import ELEMENT, ROW, STEP, Elements, Symbol, Untraceable
from thalweg.rules import ops


def elements(axes: int = 1, family: int = 0, field: int = 0) -> Elements:
    made = Elements("load", field, level=ELEMENT, family=family)
    made.ndim = axes
    return made


def number(name: str = "lr", truth: bool | None = True) -> Symbol:
    return Symbol("hyper", 0, name, truth=truth)


def said(x: Any) -> Any:
    """Return what a symbol is made of, without the symbols themselves."""
    if not isinstance(x, Symbol):
        return x
    return x.operation if x.operation in ("load", "hyper") else (x.operation, *map(said, x.operands))


# Operations.

OPERATIONS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "sum": (lambda x: x + 2, ("add", "load", 2)),
    "sum from the right": (lambda x: 2 + x, ("add", "load", 2)),
    "difference": (lambda x: 2 - x, ("subtract", 2, "load")),
    "quotient": (lambda x: 2 / x, ("divide", 2, "load")),
    "square": (lambda x: x**2, ("multiply", "load", "load")),
    "power of a half": (lambda x: x**0.5, ("sqrt", "load")),
    "times one": (lambda x: 1 * x * 1.0, "load"),
    "greater": (lambda x: x > 2, ("less", 2, "load")),
    "at least": (lambda x: x >= 2, ("at_most", 2, "load")),
    "not equal": (lambda x: x != 2, ("not", ("equal", "load", 2))),
    "either": (lambda x: (x < 1) | (x > 2), ("or", ("less", "load", 1), ("less", 2, "load"))),
    "nobody asked": (lambda x: False | (x > 2), ("less", 2, "load")),
    "minimum": (
        lambda x: ops.minimum(x, 2.0),
        ("negative", ("maximum", ("negative", "load"), -2.0)),
    ),
    "sign": (ops.sign, ("sign", "load")),
    "root": (ops.sqrt, ("sqrt", "load")),
    "size": (ops.abs, ("abs", "load")),
    "zeros": (ops.zeros_like, ("zero",)),
    "choice": (lambda x: ops.where(x > 2, x, 0.0), ("where", ("less", 2, "load"), "load", 0.0)),
    "choice that is known": (lambda x: symbols.where(True, x, 0.0), "load"),
    "in float64": (ops.in_float64, ("cast", "load")),
    "a number that is spread": (lambda x: ops.spread(number(), x), "hyper"),
    "numbers that are spread": (lambda x: ops.spread((number(), 2.0), x)[0], "hyper"),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_noted_with_what_it_is_done_to(name: str) -> None:
    do, expected = OPERATIONS[name]

    assert said(do(elements())) == expected


def test_a_condition_that_is_counted_becomes_zeros_and_ones() -> None:
    counted = ops.cast(elements() > 0, elements())

    assert said(counted) == ("where", ("less", 0, "load"), 1.0, 0.0)
    assert not counted.boolean


# Levels: how many numbers there are.


def test_what_meets_an_array_is_an_array_and_a_sum_is_one_number_a_row() -> None:
    rate, p = number(), elements()
    norm = ops.norm_over(p, (-1,))

    assert (rate * 2).level is STEP
    assert (rate * p).level is ELEMENT
    assert norm.level is ROW
    assert (norm * rate).level is ROW
    assert (p / norm).level is ELEMENT
    assert ops.total([norm]).level is STEP


def test_a_sum_takes_a_pass_and_what_follows_from_it_comes_later() -> None:
    p = elements()
    norm = ops.norm_over(p, (-1,))
    scaled = p / norm

    assert [x.stage for x in (p, norm, scaled, ops.sum_over(scaled, (-1,)), p + 1)] == [0, 1, 1, 2, 0]


def test_numbers_of_two_families_meet_only_as_numbers_of_the_step() -> None:
    norms = [ops.norm_over(elements(family=family), (-1,)) for family in (0, 1)]

    assert ops.total(norms).family is None
    with pytest.raises(Untraceable, match="must not need another parameter"):
        norms[0] + norms[1]
    with pytest.raises(Untraceable, match="must not need another parameter"):
        elements(family=0) + elements(family=1)


def test_arrays_are_wide_where_float64_was_asked_for_and_stay_so() -> None:
    wide = ops.in_float64(elements())

    assert [x.wide for x in (elements(), wide, wide * wide, wide + elements())] == [False, True, True, True]
    assert not ops.cast(wide, elements()).wide
    assert not (elements() * number()).wide  # a number has no type of its own


def test_the_number_of_elements_is_that_of_all_axes() -> None:
    for axes in (1, 2):
        count = ops.count(elements(axes), tuple(range(-axes, 0)))

        assert isinstance(count, Symbol)
        assert (count.operation, count.level) == ("count", ROW)


# Structure.


def test_whether_a_number_is_zero_is_a_matter_of_structure() -> None:
    assert bool(number(truth=True))
    assert not bool(number(truth=False))
    assert bool(number(truth=True) != 0)
    assert not bool(number(truth=False) != 0)


# What may not be asked.

REFUSED: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "a product of matrices": (lambda p, n: p @ p, "a product of matrices"),
    "one from the right": (lambda p, n: np.ones((2, 2)) @ p, "a product of matrices"),
    "a transpose": (lambda p, n: p.mT, "a matrix"),
    "whether an element is large": (lambda p, n: 1 if p > 0 else 2, "the outcome of a comparison"),
    "whether a norm is large": (
        lambda p, n: 1 if ops.norm_over(p, (-2, -1)) > 0 else 2,
        "the outcome of a comparison",
    ),
    "how large a number is": (lambda p, n: 1 if n > 0.5 else 2, "the outcome of a comparison"),
    "whether a number is another": (lambda p, n: 1 if n == 0.5 else 2, "the outcome of a comparison"),
    "a due refresh": (lambda p, n: ops.due(n > 1), "the outcome of a comparison"),
    "sums of rows": (lambda p, n: ops.sum_over(p, (-1,)), "a sum over some axes of a parameter"),
    "means of columns": (lambda p, n: ops.mean_over(p, (-2,)), "a sum over some axes of a parameter"),
    "norms of rows": (lambda p, n: ops.norm_over(p, (-1,)), "a sum over some axes of a parameter"),
    "an element": (lambda p, n: p[0], "a part of an array"),
    "a slice": (lambda p, n: p[:, 0], "a part of an array"),
    "elements in turn": (lambda p, n: list(p), "the entries of an array"),
    "a length": (lambda p, n: len(p), "a length"),
    "a power": (lambda p, n: p**3, "a power of every element"),
    "an exponential": (lambda p, n: 2**p, "a power"),
    "a remainder": (lambda p, n: p % 2, "a remainder"),
    "a whole quotient": (lambda p, n: p // 2, "a quotient"),
    "a total of arrays": (lambda p, n: ops.total([p]), "a sum over rows of what is not one number a row"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_known_only_when_a_step_runs_is_refused_in_words(name: str) -> None:
    ask, what = REFUSED[name]

    with pytest.raises(Untraceable, match=f"^A traced step must not need {what}\\.$"):
        ask(elements(axes=2), number())


@pytest.mark.parametrize(
    "ask",
    [lambda p: p.shape[0], lambda p: p.shape[-2] * 2.0, lambda p: ops.count(p, (-2,))],
    ids=["rows", "twice the rows", "in a column"],
)
def test_the_length_of_one_axis_is_refused(ask: Callable[[Any], Any]) -> None:
    """It is not known: rows of one kind may have any; and 1 would be a wrong answer without a word."""
    with pytest.raises(Untraceable, match=r"^A traced step must not need .*\.$"):
        float(ask(elements(axes=2)))


def test_a_sum_that_drops_its_axes_is_refused() -> None:
    with pytest.raises(Untraceable, match=r"^A traced step must not need .*\.$"):
        elements().sum((-1,), keepdims=False)


@pytest.mark.parametrize("function", [np.exp, math.sqrt, float, int], ids=lambda f: f.__name__)
def test_what_is_no_operation_of_a_body_does_not_pass_unnoticed(function: Callable[[Any], Any]) -> None:
    with pytest.raises((TypeError, Untraceable)):
        function(elements()) + 1.0

"""Declarations of hyperparameters: what they accept, refuse, say and read."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from thalweg.errors import InputError
from thalweg.hyper import (
    ABOVE_0,
    ANY,
    AT_LEAST_0,
    UNIT,
    Choice,
    Flag,
    Hyperparameter,
    Integer,
    Interval,
    Real,
    Reals,
    check_all,
    documentation_rows,
)

ENDS = ("both", "left", "right", "neither")
finite = st.floats(-1e6, 1e6)


@st.composite
def intervals(draw: st.DrawFn) -> Interval:
    low, high = draw(finite | st.just(-math.inf)), draw(finite | st.just(math.inf))
    assume(low < high)
    return Interval(low, high, draw(st.sampled_from(ENDS)))


@st.composite
def declarations(draw: st.DrawFn) -> Hyperparameter:
    """Draw any declaration with a default of its own range."""
    interval = draw(intervals())
    low = max(interval.low, -2e6)
    middle = low / 2 + min(interval.high, 2e6) / 2
    assume(middle in interval)
    whole = math.floor(middle)
    kinds: list[Hyperparameter] = [
        Real(middle, "meaning", interval),
        Reals((middle,) * draw(st.integers(2, 4)), "meaning", interval),
        Flag(draw(st.booleans()), "meaning"),
        Choice("a", "meaning", ("a", "b")),
    ]
    if whole in interval:
        kinds.append(Integer(whole, "meaning", interval))
    return draw(st.sampled_from(kinds))


@given(intervals(), finite)
def test_an_interval_has_what_lies_between_its_ends(interval: Interval, x: float) -> None:
    inside = interval.low < x < interval.high
    at_low = x == interval.low and interval.closed in ("both", "left")
    at_high = x == interval.high and interval.closed in ("both", "right")

    assert (x in interval) == (inside or at_low or at_high)


@given(intervals())
def test_what_an_interval_yields_as_outside_is_outside(interval: Interval) -> None:
    outside = list(interval.outside())

    assert not any(x in interval for x in outside)
    assert {math.inf, -math.inf} <= set(outside)
    assert any(math.isnan(x) for x in outside)
    for end in (interval.low, interval.high):
        assert math.isinf(end) or (end in interval) != (end in outside)


@pytest.mark.parametrize(
    ("interval", "text", "words"),
    [
        (ANY, "(-inf, inf)", "a finite number"),
        (AT_LEAST_0, "[0, inf)", "a finite number of at least 0"),
        (ABOVE_0, "(0, inf)", "a finite number above 0"),
        (UNIT, "[0, 1)", "a number in [0, 1)"),
        (Interval(0, 1), "[0, 1]", "a number in [0, 1]"),
        (Interval(0, 1, "right"), "(0, 1]", "a number in (0, 1]"),
        (Interval(0.5, 2, "neither"), "(0.5, 2)", "a number in (0.5, 2)"),
        (Interval(high=3), "(-inf, 3]", "a number in (-inf, 3]"),
        (Interval(1, infinite=True), "[1, inf]", "a number of at least 1"),
    ],
)
def test_an_interval_is_written_and_worded(interval: Interval, text: str, words: str) -> None:
    assert (str(interval), interval.words) == (text, words)


@given(declarations())
def test_every_default_is_accepted_and_every_invalid_value_refused_in_words(h: Hyperparameter) -> None:
    assert h.accepts(h.default)
    h.check("x", "Y", h.default)
    bad = list(h.invalid())
    assert len(bad) >= 3
    for value in bad:
        assert not h.accepts(value)
        with pytest.raises(InputError) as error:
            h.check("x", "Y", value)
        assert str(error.value) == f"x of Y must be {h.must}; got {value!r}. The default is {h.default}."


@given(declarations())
def test_what_a_person_types_is_read_as_what_is_meant(h: Hyperparameter) -> None:
    typed = ",".join(map(repr, h.default)) if isinstance(h.default, tuple) else str(h.default)

    assert h.parse(typed) == h.default


@pytest.mark.parametrize(
    ("declared", "text"),
    [
        (Real(0.1, ""), "fast"),
        (Reals((0.1, 0.2), ""), "0.1;0.2"),
        (Integer(1, ""), "1.5"),
    ],
)
def test_what_cannot_be_read_is_a_value_error(declared: Hyperparameter, text: str) -> None:
    with pytest.raises(ValueError):
        declared.parse(text)


@pytest.mark.parametrize(
    ("declared", "value", "accepted"),
    [
        (Real(0.1, ""), np.float32(0.5), True),
        (Real(0.1, ""), 1, True),
        (Real(0.1, ""), True, False),
        (Real(0.1, ""), 1j, False),
        (Integer(1, ""), np.int64(3), True),
        (Integer(1, ""), 2.0, False),
        (Integer(1, ""), True, False),
        (Reals((0.1, 0.2), ""), [0.3, 0.4], True),
        (Reals((0.1, 0.2), ""), "ab", False),
        (Reals((0.1, 0.2), ""), (0.3, True), False),
        (Flag(False, ""), 1, False),
        (Flag(False, ""), None, False),
        (Choice("a", "", ("a", "b")), "b", True),
        (Choice("a", "", ("a", "b")), "A", False),
        (Choice(None, "", ("a", "b"), optional=True), None, True),
        (Choice(None, "", ("a", "b")), None, False),
        (Choice(None, "", ("a", "b"), optional=True), "b", True),
        (Real(None, "", optional=True), None, True),
        (Real(None, ""), None, False),
        (Real(None, "", UNIT, optional=True), 1.0, False),
        (Reals((None, 0.1), ""), (None, 0.2), True),
        (Reals((None, 0.1), ""), (0.2, None), False),
        (Real(2.0, "", Interval(1, infinite=True)), math.inf, True),
        (Real(2.0, "", Interval(1, infinite=True)), -math.inf, False),
        (Real(2.0, "", Interval(1, infinite=True)), math.nan, False),
    ],
)
def test_types_are_taken_as_they_are_meant(declared: Hyperparameter, value: Any, accepted: bool) -> None:
    assert declared.accepts(value) is accepted


@pytest.mark.parametrize(
    ("declared", "must"),
    [
        (Real(None, "", UNIT, optional=True), "a number in [0, 1), or None"),
        (Reals((None, 0.1), "", UNIT), "2 numbers, each a number in [0, 1), or None in place 1"),
        (Choice(None, "", ("a", "b"), optional=True), "one of a, b, or None"),
    ],
)
def test_where_none_is_the_default_it_may_be_given_and_typed(declared: Hyperparameter, must: str) -> None:
    typed = ",".join(map(str, declared.default)) if isinstance(declared.default, tuple) else "None"

    assert declared.must == must
    assert declared.parse(typed) == declared.default
    assert declared.accepts(declared.default)
    assert not any(declared.accepts(bad) for bad in declared.invalid())


def test_infinity_is_outside_unless_it_was_let_in() -> None:
    assert [x for x in Interval(1, infinite=True).outside() if not math.isnan(x)] == [-math.inf, 0]
    assert Real(2.0, "", Interval(1, infinite=True)).parse("inf") == math.inf


def test_whole_numbers_are_worded_as_such() -> None:
    assert Integer(1, "", Interval(1)).must == "a whole number of at least 1"
    assert Integer(1, "", Interval(1, 9)).must == "a whole number in [1, 9]"


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    declared = {"momentum": Real(0.0, "share kept", UNIT), "lr": Real(0.1, "rate", AT_LEAST_0)}

    check_all("SGD", declared, {"momentum": 0.9, "lr": 0.0})
    with pytest.raises(InputError) as error:
        check_all("SGD", declared, {"momentm": 0.9})

    assert str(error.value) == (
        "the hyperparameters of SGD must be among momentum, lr; got 'momentm'. Did you mean momentum?"
    )


def test_a_declaration_fills_a_row_of_the_documentation() -> None:
    declared = {"lr": Real(0.1, "rate", AT_LEAST_0), "kind": Choice("a", "which", ("a", "b"))}

    assert documentation_rows(declared) == [
        ("lr", "0.1", "a finite number of at least 0", "rate"),
        ("kind", "a", "one of a, b", "which"),
    ]

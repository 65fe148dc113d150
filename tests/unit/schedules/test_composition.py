"""Joining in time, multiplying, and schedules as text and data."""

import numpy as np
import pytest

from thalweg.errors import InputError
from thalweg.schedules import (
    Constant,
    Cosine,
    Custom,
    Join,
    Linear,
    Multistep,
    Product,
    Step,
    Warmup,
    WarmupCosine,
    from_data,
    parse,
    schedule_named,
    to_data,
)


def test_the_second_part_of_a_join_has_its_own_clock_from_zero() -> None:
    joined = Constant(factor=0.5).then(Linear(length=4), after=3)

    assert joined(np.arange(8)).tolist() == [0.5, 0.5, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]


def test_the_first_part_lasts_until_its_end_when_nothing_else_is_said() -> None:
    assert Warmup(length=4).then(Constant(factor=0.5))(np.arange(6)).tolist() == [
        0.25,
        0.5,
        0.75,
        1.0,
        0.5,
        0.5,
    ]


def test_joins_chain_and_know_where_they_end() -> None:
    joined = Warmup(length=2).then(Linear(length=2)).then(Warmup(length=4))

    assert joined.end == 8
    assert joined(np.arange(9)).tolist() == [0.5, 1.0, 1.0, 0.5, 0.25, 0.5, 0.75, 1.0, 1.0]


def test_resolving_gives_the_second_part_what_the_first_one_leaves() -> None:
    assert Warmup(length=10).then(Cosine()).resolve(100) == Warmup(length=10).then(Cosine(length=90))
    assert Warmup().then(Cosine()).resolve(100) == Warmup(length=5).then(Cosine(length=95))
    assert Constant().then(Cosine(), after=40).resolve(100) == Constant().then(Cosine(length=60), after=40)


def test_multiplying_multiplies_the_factors_and_gives_both_the_whole_run() -> None:
    product = Constant(factor=0.5) * Linear()

    assert product == Product(Constant(factor=0.5), Linear())
    assert product.resolve(4)(np.arange(5)).tolist() == [0.5, 0.375, 0.25, 0.125, 0.0]


def test_only_schedules_are_multiplied() -> None:
    with pytest.raises(TypeError, match="unsupported operand"):
        Constant() * 0.5  # type: ignore[operator]


def test_a_schedule_without_end_needs_to_be_told_when_the_next_begins() -> None:
    with pytest.raises(InputError, match="after of join, where step comes first must be given"):
        Step(every=3).then(Cosine())
    with pytest.raises(InputError, match="after of join, where step comes first must be given"):
        Step().then(Cosine()).resolve(100)


def test_a_join_whose_first_part_fills_the_run_leaves_nothing_to_resolve() -> None:
    with pytest.raises(
        InputError, match="the part of join before cosine must end before the run does, at tick 100"
    ):
        Linear().then(Cosine()).resolve(100)
    given = Linear().then(Cosine(length=20))
    assert given.resolve(100) == Linear(length=100).then(Cosine(length=20))


@pytest.mark.parametrize("after", [-1, 2.5, True])
def test_a_join_at_an_impossible_tick_is_refused(after: int) -> None:
    with pytest.raises(InputError, match="after of join must be a whole number of at least 0"):
        Constant().then(Cosine(), after=after)


def test_schedules_on_different_clocks_are_not_composed() -> None:
    with pytest.raises(
        InputError, match="the clock of the schedule cosine must be that of warmup, tokens; got steps"
    ):
        Warmup(length=5, clock="tokens").then(Cosine())
    with pytest.raises(InputError, match="the clock of the schedule cosine must be that of"):
        Constant(clock="examples") * Cosine()
    assert (Constant(clock="examples") * Cosine(clock="examples")).clock == "examples"


def test_a_function_is_not_a_part_until_it_is_a_custom_schedule() -> None:
    with pytest.raises(InputError, match=r"must be a schedule; .* given as Custom\(function\)"):
        Warmup(length=5).then(abs)  # type: ignore[arg-type]
    assert Warmup(length=5).then(Custom(lambda t: 0.5))(5) == 0.5


def test_data_holds_the_name_and_what_differs_from_the_default() -> None:
    assert to_data(WarmupCosine(warmup=5, clock="tokens")) == {
        "name": "warmup-cosine",
        "warmup": 5,
        "clock": "tokens",
    }
    assert to_data(Multistep(milestones=(3, 5))) == {"name": "multistep", "milestones": [3, 5]}
    assert to_data(Constant().then(Cosine(), after=9) * Step(ratio=0.5)) == {
        "name": "product",
        "first": {"name": "join", "first": {"name": "constant"}, "second": {"name": "cosine"}, "after": 9},
        "second": {"name": "step", "ratio": 0.5},
    }


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"name": "cosin"}, "must be a known one; got 'cosin'. Did you mean cosine"),
        ({"name": "cosine", "flor": 0.1}, "got 'flor'. Did you mean floor?"),
        ({"name": "cosine", "floor": 2}, "floor of the schedule cosine must be"),
        ({"floor": 0.1}, "a schedule must be a table with a name"),
        ("cosine", "a schedule must be a table with a name"),
        ({"name": ["cosine"]}, "a schedule must be a table with a name"),
        ({"name": "join", "first": {"name": "cosine"}}, "a schedule must be a table with a name"),
        (
            {"name": "product", "first": {"name": "cosine"}, "second": {"name": "cosine"}, "after": 3},
            "the fields of product must be among first, second; got 'after'",
        ),
    ],
)
def test_data_that_is_no_schedule_is_refused_in_words(data: object, message: str) -> None:
    with pytest.raises(InputError) as refused:
        from_data(data)  # type: ignore[arg-type]
    assert message in str(refused.value)


def test_a_name_alone_and_a_name_with_fields_are_read() -> None:
    assert parse("cosine") == Cosine()
    assert parse("cosine:floor=0.1") == Cosine(floor=0.1)
    assert parse("multistep:milestones=30,60, ratio=0.5") == Multistep(milestones=(30, 60), ratio=0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cosin:floor=0.1", "Did you mean cosine"),
        ("cosine:flor=0.1", "Did you mean floor?"),
        ("cosine:floor=low", "floor of the schedule cosine must be a number in [0, 1]; got 'low'"),
        ("cosine:length=1e3", "length of the schedule cosine must be a whole number of at least 1"),
        ("cosine:0.1", "the fields of the schedule cosine must be field=value"),
        ("", "the schedule must be a known one; got ''"),
    ],
)
def test_text_that_is_no_schedule_is_refused_in_words(text: str, message: str) -> None:
    with pytest.raises(InputError) as refused:
        parse(text)
    assert message in str(refused.value)


def test_the_refusal_of_a_value_says_what_it_must_be_and_what_happens_without_it() -> None:
    with pytest.raises(InputError) as refused:
        schedule_named("cosine", length=0)
    assert str(refused.value) == (
        "length of the schedule cosine must be a whole number of at least 1; got 0. "
        "Leave it out, and it follows from the length of the run."
    )


def test_a_schedule_says_what_it_is_when_printed() -> None:
    assert repr(Join(Warmup(length=3), Constant())) == (
        "Join(first=Warmup(clock='steps', length=3), second=Constant(clock='steps', factor=1.0), after=None)"
    )

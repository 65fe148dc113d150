"""Records are plain data: there and back through JSON, whatever they hold."""

import dataclasses
import json
import typing
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg import records
from thalweg.records import Direction, Evaluation, Outcome, Race, Stage, Trace, from_data, to_data

RECORDS = [
    kind for kind in vars(records).values() if isinstance(kind, type) and dataclasses.is_dataclass(kind)
]
plain = st.text(max_size=4) | st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False, width=16)


def values(wanted: Any) -> st.SearchStrategy[Any]:
    """Draw a value of an annotated type."""
    arguments = typing.get_args(wanted)
    origin = typing.get_origin(wanted)
    if wanted is Any:
        return plain
    if type(None) in arguments:
        return st.none() | st.one_of([values(a) for a in arguments if a is not type(None)])
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(values(arguments[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values, arguments))
    if origin is not None:
        return st.dictionaries(st.text(max_size=3), values(arguments[1]), max_size=2)
    if dataclasses.is_dataclass(wanted):
        return made(wanted)
    if issubclass(wanted, StrEnum):
        return st.sampled_from(wanted)
    return {
        str: st.text(max_size=4),
        bool: st.booleans(),
        int: st.integers(-(10**9), 10**9),
        float: st.floats(allow_nan=False, allow_infinity=False),
    }[wanted]


@st.composite
def made(draw: st.DrawFn, kind: Any) -> Any:
    """Draw a record of a kind, from the types of its fields."""
    hints = typing.get_type_hints(kind)
    return kind(**{f.name: draw(values(hints[f.name])) for f in dataclasses.fields(kind)})


@pytest.mark.parametrize("kind", RECORDS)
def test_a_record_comes_back_from_json_as_it_was(kind: Any) -> None:
    @settings(max_examples=10 if kind is Race else 25)
    @given(made(kind))
    def check(record: Any) -> None:
        text = json.dumps(to_data(record), allow_nan=False)

        back = from_data(kind, json.loads(text))

        assert back == record
        assert json.dumps(to_data(back), allow_nan=False) == text

    check()


@pytest.mark.parametrize("kind", RECORDS)
def test_a_record_cannot_be_changed(kind: Any) -> None:
    assert kind.__dataclass_params__.frozen


def test_enumerations_come_back_as_themselves() -> None:
    measured = from_data(Evaluation, {"step": 1, "epoch": 0.5, "loss": None, "metrics": {"accuracy": None}})

    assert measured == Evaluation(1, 0.5, None, {"accuracy": None})
    assert from_data(Outcome, "diverged") is Outcome.DIVERGED
    assert to_data(Stage.FINAL) == "final"
    assert type(to_data(Stage.FINAL)) is str


@pytest.mark.parametrize(
    "data",
    [
        {"step": 1, "epoch": 0.5, "loss": None},
        {"step": 1, "epoch": 0.5, "loss": None, "metrics": {}, "more": 1},
    ],
)
def test_missing_and_unknown_fields_are_type_errors(data: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        from_data(Evaluation, data)


def test_direction_and_outcome_say_what_they_mean() -> None:
    assert (Direction.HIGHER.sign, Direction.LOWER.sign) == (1, -1)
    assert len({outcome.sentence for outcome in Outcome}) == len(Outcome)
    assert all(outcome.sentence.endswith(".") for outcome in Outcome)


@pytest.mark.parametrize("kind", RECORDS)
def test_what_is_a_time_or_a_date_is_named_so(kind: Any) -> None:
    """Only such fields may differ when a race is run again on the same machine."""
    for field in dataclasses.fields(kind):
        if "second" in field.name or "time" in field.name:
            assert field.name.endswith("_seconds")
    if kind in (Trace, Race):
        assert any(field.name.endswith("_at") for field in dataclasses.fields(kind))

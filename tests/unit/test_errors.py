"""One grammar for every message."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg import errors
from thalweg.errors import InputError, StoreError, TaskError, ThalwegError, nearest


def test_a_message_says_who_must_what_was_got_and_what_to_do() -> None:
    error = InputError("the rate", "be above 0", -1, "Try 0.1.")

    assert str(error) == "the rate must be above 0; got -1. Try 0.1."
    assert (error.who, error.must, error.got, error.do) == ("the rate", "be above 0", -1, "Try 0.1.")


def test_a_message_without_advice_ends_after_what_was_got() -> None:
    assert str(InputError("it", "be so", "not")) == "it must be so; got not."


@pytest.mark.parametrize("kind", [InputError, TaskError, StoreError])
def test_an_error_survives_the_way_back_from_another_process(kind: type[InputError]) -> None:
    error = kind("a", "be b", 3, "Do d.")

    back = pickle.loads(pickle.dumps(error))

    assert (type(back), str(back), back.got) == (kind, str(error), 3)


def test_wrong_use_exits_with_2_and_what_ran_and_failed_with_1() -> None:
    codes = {
        name: kind.exit_code
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, ThalwegError)
    }

    assert codes == {
        "ThalwegError": 1,
        "NonFiniteGradients": 1,
        "InputError": 2,
        "TaskError": 2,
        "StoreError": 2,
    }
    assert issubclass(InputError, ValueError)


def test_nearest_offers_the_most_similar_names_first_and_ignores_case() -> None:
    assert nearest("ADAMW", ["sgd", "adam", "adamw"]) == "Did you mean adamw or adam?"
    assert nearest("qqq", ["b", "a"]) == "Known: a, b."


@given(st.text(max_size=8), st.lists(st.text("abcdefg", min_size=1, max_size=6), max_size=6))
def test_nearest_names_only_what_is_known(name: str, known: list[str]) -> None:
    words = nearest(name, known)

    assert words.startswith(("Did you mean ", "Known: "))
    offered = words.removeprefix("Did you mean ").removeprefix("Known: ").rstrip("?.").replace(" or ", ", ")
    assert set(offered.split(", ")) - {""} <= set(known)

"""Whose error it is: the person's, or ours."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from thalweg import seeds
from thalweg.errors import TaskError
from thalweg.tasks.user_code import user_code

# None of the functions below stands in it.
THEIR_FILE = Path("task.py")


def takes_two(model: Any, batch: Any) -> None:
    """What a person hands over."""


@pytest.mark.parametrize(
    ("handed_over", "arguments", "got"),
    [
        (
            takes_two,
            (),
            "TypeError: takes_two() missing 2 required positional arguments",
        ),
        (json.loads, ("{",), "JSONDecodeError: Expecting property name"),
    ],
)
def test_what_cannot_be_called_or_fails_in_another_library_is_theirs(
    handed_over: Callable[..., object], arguments: tuple[str, ...], got: str
) -> None:
    with pytest.raises(TaskError) as caught, user_code("loss of task", THEIR_FILE):
        handed_over(*arguments)

    assert str(caught.value).startswith(f"loss of task must run without an error; got {got}")


def test_an_error_of_our_own_stays_what_it_is() -> None:
    ours = pytest.raises(ValueError, match="purpose must be one of")
    with ours as caught, user_code("loss of task", THEIR_FILE):
        seeds.derive(0, "luck")

    assert not isinstance(caught.value, TaskError)
    with pytest.raises(ZeroDivisionError), user_code("loss of task", THEIR_FILE):
        1 / 0  # noqa: B018

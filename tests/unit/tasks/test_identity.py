"""What the text that identifies a function must tell apart."""

import functools
from typing import Any

import pytest

from thalweg.tasks.identity import source_of


def written(text: str, **names: Any) -> str:
    """The identity of ``loss``, defined by a text among global names."""
    module: dict[str, Any] = {"__name__": "notebook", **names}
    exec(text, module)
    return source_of([module["loss"]])


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([1, 2, 1], [1, 2, 2]),
        ([0.5, 1.5, 0.5], [0.5, 1.5, 1.5]),
        (["a", "b", "a"], ["a", "b", "b"]),
        ((first := [[3], [4]]) + first[:1], first + first[1:]),
    ],
)
def test_values_that_repeat_are_told_apart_by_which_repeats(a: Any, b: Any) -> None:
    text = "def loss(model, batch): return W"

    assert written(text, W=a) != written(text, W=b)


def test_equal_numbers_are_the_same_whether_or_not_they_are_one_object() -> None:
    text = "def loss(model, batch): return W"
    once = float("1.5")

    assert written(text, W=[once, once]) == written(text, W=[float("1.5"), float("1.5")])


def test_a_list_that_holds_itself_has_an_identity() -> None:
    endless: list[Any] = [1]
    endless.append(endless)

    assert written("def loss(model, batch): return W", W=endless).split("\n")[-3:] == ["list 2", "1", "#2"]


@pytest.mark.parametrize(
    "body",
    [
        "sum(S * b for b in batch)",
        "[S * b for b in batch]",
        "(lambda: (lambda: S))()()",
        "S",
    ],
)
def test_global_names_are_seen_however_deep_in_a_function(body: str) -> None:
    text = f"def loss(model, batch): return {body}"

    assert written(text, S=1.0) == written(text, S=1.0) != written(text, S=7.0)


def test_global_names_are_seen_beside_a_variable_without_a_value() -> None:
    text = "def make():\n def loss(): return S, late\n return loss\n late = 1\nloss = make()"

    assert written(text, S=1.0) != written(text, S=7.0)


def test_a_base_class_is_followed_in_the_same_module_and_named_elsewhere() -> None:
    text = "class Base:\n def f(self): return {}\nclass Net(Base, {}): pass\ndef loss(): return Net()"
    dict_of = {"partial": functools.partial}
    texts = [
        written(text.format(f, base), **dict_of) for f, base in ((1, "dict"), (2, "dict"), (1, "partial"))
    ]

    assert len(set(texts)) == 3
    assert "functools.partial" in texts[2]


@pytest.mark.parametrize(
    ("one", "other"), [([[], 0], [0, []]), ((1, 2), [1, 2]), ({1: 0}, {"1": 0}), ({"a": 0}, {"b": 0})]
)
def test_containers_of_another_kind_or_shape_are_another_task(one: object, other: object) -> None:
    source = "def loss(model, batch): return W"

    assert written(source, W=one) != written(source, W=other)

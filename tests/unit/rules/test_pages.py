"""Pages: complete, counted from the states themselves, and plain data."""

import json
from typing import Any

import pytest

from thalweg.errors import InputError
from thalweg.rules import pages
from thalweg.rules.about import FAMILIES
from thalweg.rules.catalogue import CATALOGUE, RULES
from thalweg.rules.wrappers import WRAPPERS


@pytest.mark.parametrize("name", RULES)
def test_every_rule_says_when_to_take_it_what_it_costs_and_where_it_comes_from(name: str) -> None:
    about = RULES[name].about

    assert all([about.family, about.year, about.paper, about.cost, about.take, about.avoid])
    assert all(text.endswith(".") for text in (about.take, about.avoid, *about.differs, *about.wrong))
    assert about.family in FAMILIES
    assert 1950 < about.year < 2030


def test_the_methods_come_one_family_after_the_other() -> None:
    found = list(pages.methods())

    assert sorted(page["name"] for page in found) == sorted(CATALOGUE)
    families = [page["family"] for page in found]
    assert families == sorted(families, key=FAMILIES.index)


@pytest.mark.parametrize(
    ("name", "words", "count"),
    [
        ("sgd", "0", (0, 0, 0)),
        ("nesterov", "1", (1, 0, 0)),
        ("adam", "2", (2, 0, 0)),
        ("amsgrad", "3", (3, 0, 0)),
        ("lion", "1", (1, 0, 0)),
        ("adafactor", "2/n", (0, 2, 0)),
        ("nadam", "2 + 1/n²", (2, 0, 1)),
        ("soap", "6", (6, 0, 0)),
        ("clip_norm", "0", (0, 0, 0)),
        ("lookahead", "1", (1, 0, 0)),
    ],
)
def test_the_state_is_counted_on_square_matrices(name: str, words: str, count: tuple[int, ...]) -> None:
    state = pages.page(name)["state"]

    assert state["words"] == words
    assert (state["per_parameter"], state["per_side"], state["per_tensor"]) == count


@pytest.mark.parametrize("name", [*CATALOGUE, *WRAPPERS])
def test_a_page_is_plain_data(name: str) -> None:
    page = pages.page(name)

    def plain(x: Any) -> Any:
        return json.loads(json.dumps(x, allow_nan=False))

    assert plain({**page, "fixed": {}}) == {**page, "fixed": {}}
    assert page["name"] == name
    for key in ("formula", "source", "use"):
        assert page[key].strip()


def test_an_unknown_name_is_refused_with_the_nearest_methods_and_wrappers() -> None:
    with pytest.raises(
        InputError, match=r"be one that Thalweg knows; got 'lookahed'. Did you mean lookahead\?"
    ):
        pages.page("lookahed")

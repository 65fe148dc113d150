"""`thalweg lr`: one object or a list, a page only where one is asked for, and words for what is wrong."""

import json
from pathlib import Path

import pytest

from end_to_end.program import run

KEYS = {"optimizer", "suggestion", "low", "high", "outcome", "diverges_at", "rates", "losses"}


def test_one_optimizer_is_one_object_and_the_same_seed_the_same_numbers(tmp_path: Path) -> None:
    asked = ("lr", "wine", "--optimizer", "momentum", "--steps", "200", "--executor", "serial", "--json")
    first, again = run(tmp_path, *asked), run(tmp_path, *asked)
    assert first.code == 0, first.err
    answer = json.loads(first.out)
    assert answer.keys() >= KEYS
    assert (answer["optimizer"], answer["outcome"]) == ("momentum", "found")
    assert answer["low"] <= answer["suggestion"] <= answer["high"]
    assert len(answer["rates"]) == len(answer["losses"])
    assert answer["rates"] == sorted(answer["rates"])
    assert first.out == again.out
    assert list(tmp_path.iterdir()) == []


def test_several_are_a_list_and_a_page_is_drawn_where_it_is_asked_for(tmp_path: Path) -> None:
    page = tmp_path / "rates.html"
    asked = ("lr", "wine", "--optimizers", "sgd,adam", "--steps", "100", "--json")
    done = run(tmp_path, *asked, "--report", str(page))
    assert done.code == 0, done.err
    assert [answer["optimizer"] for answer in json.loads(done.out)] == ["sgd", "adam"]
    assert list(tmp_path.iterdir()) == [page]
    assert "Learning rates on wine" in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("wine", "--optimizer", "adma"), "Did you mean"),
        (("whine",), "Did you mean wine"),
        (("wine", "--steps", "many"), "--steps must be a whole number; got 'many'"),
        (("wine", "--executor", "fast"), "the executor must be one of"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = run(tmp_path, "lr", *arguments)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert len(done.err.splitlines()) == 1

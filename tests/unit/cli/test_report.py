"""`thalweg report` on stored races that were made up."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import made_up
from thalweg.cli.app import main
from thalweg.cli.report import report
from thalweg.errors import InputError
from thalweg.records import Race
from thalweg.store import Store

SMALL = {"rates": 1, "final_seeds": 6, "optimizers": ("sgd", "adam")}
RACE = made_up.race(key="first", **SMALL)
SCHEDULES = made_up.follow_up(RACE, key="under-the-winner", final_seeds=8)
OTHER = made_up.race(key="other", seed=1, task="digits", **SMALL)


def keep(folder: Path, *races: Race) -> str:
    with Store.open(folder) as store:
        for race in races:
            begun = (race.key, race.plan, race.command, race.environment, race.started_at)
            store.save_race(*begun, follows=race.follows)
            for trace in race.traces:
                store.save_trace(trace)
                store.attach(race.key, trace.key)
            if race.finished_at is not None:
                keys = [trace.key for trace in race.traces]
                store.finish_race(race.key, keys, race.verdict, race.ledger, race.finished_at)
    return str(folder)


def said(*arguments: str) -> str:
    # With the settings of the program: a command remembers the names of its help from its first call.
    done = CliRunner().invoke(report, arguments, catch_exceptions=False, **main.context_settings)
    assert done.exit_code == 0
    return done.output


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return keep(tmp_path / "runs", SCHEDULES, RACE)


def test_folders_are_merged_and_a_race_in_two_of_them_is_shown_once(tmp_path: Path, folder: str) -> None:
    begun = made_up.race(key="first", finished=False, **SMALL)
    found = json.loads(said(keep(tmp_path / "more", OTHER, begun), folder, "--json"))

    assert sorted(f["ranking"][0]["optimizer"] for f in found) == ["adam", "adam", "cosine"]
    assert {f["report"] for f in found} == {str(tmp_path / "more" / "report.html")}
    page = (tmp_path / "more" / "report.html").read_text()
    assert page.count("<article") == 3
    assert "<h1>3 races</h1>" in page


def test_a_race_of_schedules_stands_under_its_winner_and_in_what_is_recommended(
    tmp_path: Path, folder: str
) -> None:
    first, second = json.loads(said(folder, "--json"))
    page = (tmp_path / "runs" / "report.html").read_text()

    assert [row["optimizer"] for row in first["ranking"]] == ["adam", "sgd"]
    assert first["recommendation"]["recipe"]["schedule"] == {"name": "cosine"}
    assert second["recommendation"] is None
    assert "<h1" in page[: page.index("Schedules under the winner")]
    assert "races</h1>" not in page


def test_a_race_that_is_named_comes_with_what_follows_it(folder: str) -> None:
    text = said(folder, "--race", "fir")

    assert text.startswith("mnist, begun ")
    assert (
        text.index("adam is best") < text.index("\nmnist, schedule, begun ") < text.index("\ncosine is best")
    )
    assert "Use adam at rate 0.001 with the schedule cosine." in text
    assert said(folder, "--race", "under").count(", begun ") == 1
    with pytest.raises(InputError, match="must keep a race whose key begins with other; got none"):
        said(folder, "--race", "other")

"""`thalweg showdown`: its answer for a person and for a program, and that it is the same twice."""

import json
import os
from pathlib import Path
from typing import Any, NoReturn

import pytest

from end_to_end.program import TASK, Call, Done, answer, contents, finish, run, start, timeless, traces

RACE = (
    *("showdown", "digits", "--optimizers", "sgd,adam", "--rates", "sgd=0.1,adam=0.01"),
    *("--steps", "5", "--seeds", "2", "--schedules", "none"),
)

# The promised ones stand first.
KEYS = [
    *("winner", "tie", "ranking", "direction", "ledger", "report"),
    *("metric", "seeds", "sentences", "started_at", "finished_at"),
    *("recommendation", "pairs", "findings", "time_to_target", "schedules"),
]
RANKED_KEYS = [
    *("optimizer", "rate", "score", "interval", "test"),
    *("gap", "diverged", "step_seconds", "state_bytes_per_parameter"),
]


def strict(text: str) -> Any:
    """Read JSON, and JSON only: Python would take NaN and Infinity as well."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def race(call: Call, *more: str) -> Any:
    done = call(*RACE, "--json", *more)
    assert (done.code, done.err) == (0, "")
    return strict(done.out)


def test_the_answer_for_a_program_has_the_promised_keys_and_no_others(tmp_path: Path, call: Call) -> None:
    found = race(call)

    assert sorted(found) == sorted(KEYS)
    assert [sorted(row) for row in found["ranking"]] == [sorted(RANKED_KEYS)] * 2
    assert {row["optimizer"]: row["rate"] for row in found["ranking"]} == {"sgd": 0.1, "adam": 0.01}
    assert found["winner"] is None
    assert sorted(found["tie"]) == ["adam", "sgd"]
    assert (found["direction"], found["metric"], found["seeds"]) == ("higher", "accuracy", 2)
    scores = [row["score"] for row in found["ranking"]]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert [(row["steps"], row["gradient_examples"]) for row in found["ledger"]["rows"]] == [(10, 320)] * 2
    assert (tmp_path / found["report"]).read_text().startswith("<!DOCTYPE html>")


def test_where_training_diverges_the_answer_is_still_json(call: Call) -> None:
    done = call(
        *("showdown", "digits", "--optimizers", "sgd,adam", "--rates", "sgd=1e30,adam=0.01"),
        *("--steps", "5", "--seeds", "2", "--schedules", "none", "--json"),
    )

    found = strict(done.out)
    last = found["ranking"][-1]
    assert (last["optimizer"], last["score"], last["test"], last["diverged"]) == ("sgd", None, None, 2)
    assert (done.code, done.err) == (0, "")


def test_what_is_a_time_or_a_date_says_so_and_all_else_is_the_same_twice(call: Call) -> None:
    first, second = race(call, "--fresh"), race(call, "--fresh", "--out", "elsewhere")

    assert timeless(first) == timeless(second)
    assert first["ledger"]["total_seconds"] != second["ledger"]["total_seconds"]
    assert (first["report"].split("/")[0], second["report"].split("/")[0]) == ("thalweg-runs", "elsewhere")


def test_another_seed_gives_other_numbers(call: Call) -> None:
    assert timeless(race(call))["ranking"] != timeless(race(call, "--seed", "1"))["ranking"]


def test_a_finished_race_is_shown_again_and_nothing_is_run(tmp_path: Path, call: Call) -> None:
    first = race(call)
    before = contents(tmp_path)

    assert race(call) == first  # times and dates too
    assert contents(tmp_path) == before


def test_fresh_runs_a_finished_race_anew_in_its_place(call: Call) -> None:
    first, second = race(call), race(call, "--fresh")

    assert timeless(first) == timeless(second)
    assert first["ledger"]["total_seconds"] != second["ledger"]["total_seconds"]
    kept = strict(call("runs", "--json").out)["races"]
    assert [(k["trials_done"], k["finished_at"]) for k in kept] == [(4, second["finished_at"])]


def test_a_tuned_race_gives_each_optimizer_as_many_rates(call: Call) -> None:
    done = call(
        *("showdown", "wine", "--optimizers", "sgd,momentum,adam", "--rates", "4"),
        *("--steps", "5", "--seeds", "1", "--schedules", "none", "--json"),
    )

    rows = strict(done.out)["ledger"]["rows"]
    assert [row["optimizer"] for row in rows] == ["sgd", "momentum", "adam"]
    assert [(len(row["rates_tried"]), row["tuning_trials"], row["final_trials"]) for row in rows] == (
        [(4, 4 + 2 + 1, 1)] * 3  # the better half on a second seed, the better quarter on a third
    )


def test_trials_of_one_race_serve_another(tmp_path: Path, call: Call) -> None:
    (tmp_path / "task.py").write_text(TASK)
    given = ("showdown", "task.py", "--rates", "sgd=0.1,adam=0.01", "--schedules", "none", "--json")
    first = strict(call(*given, "--optimizers", "sgd,adam", "--seeds", "2").out)
    second = strict(call(*given, "--optimizers", "adam,sgd", "--seeds", "4").out)

    assert [row["final_trials"] for row in first["ledger"]["rows"]] == [2, 2]
    assert [row["final_trials"] for row in second["ledger"]["rows"]] == [4, 4]
    assert len(traces(tmp_path / "thalweg-runs")) == 8  # not twelve


def test_schedule_and_clipping_reach_every_optimizer(call: Call) -> None:
    plain = race(call)
    changed = race(call, "--schedule", "cosine", "--wrap", "clip_norm:0.01")

    assert timeless(plain)["ranking"] != timeless(changed)["ranking"]


def test_schedules_follow_unless_they_are_not_wanted(call: Call) -> None:
    plain = race(call)
    done = call(*RACE[:-2], "--schedules", "constant,step:every=2,ratio=0.5", "--json")
    found = strict(done.out)

    assert plain["schedules"] is None
    after = found["schedules"]
    assert {row["optimizer"] for row in after["ranking"]} == {"constant", "step:every=2,ratio=0.5"}
    assert sorted(after) == sorted(KEYS)
    assert timeless({**found, "schedules": None, "recommendation": None}) == timeless(
        {**plain, "recommendation": None}
    )


def test_looks_and_targets_are_in_the_answer(call: Call) -> None:
    found = race(call, "--seeds", "2,3", "--target", "accuracy=0.05")

    assert found["seeds"] == 3
    assert sum("The race could end after 2 or 3 final seeds" in s for s in found["sentences"]) == 1
    assert [sorted(row) for row in found["time_to_target"]] == [
        ["optimizer", "reached", "seconds", "seeds", "steps"]
    ] * 2
    assert sum(s.startswith("To a validation accuracy of 0.05: ") for s in found["sentences"]) == 1


def test_values_of_a_field_race(call: Call) -> None:
    done = call(
        *("showdown", "wine", "--optimizers", "adam", "--vary", "batch_size=16,64", "--epochs", "2"),
        *("--seeds", "2", "--rates", "adam=0.01", "--json"),
    )
    found = strict(done.out)

    assert {row["optimizer"] for row in found["ranking"]} == {"batch_size=16", "batch_size=64"}
    assert [(row["steps"], row["gradient_examples"]) for row in found["ledger"]["rows"]] == [
        (2 * 2 * 9, 2 * 2 * 142),
        (2 * 2 * 3, 2 * 2 * 142),
    ]
    assert found["schedules"] is None


def test_several_tasks_are_answered_together(tmp_path: Path, call: Call) -> None:
    given = ("--optimizers", "sgd,adam", "--rates", "sgd=0.1,adam=0.01", "--steps", "5", "--seeds", "2")
    done = call("showdown", "wine", "breast-cancer", *given, "--schedules", "none", "--json")
    found = strict(done.out)

    assert (done.code, done.err) == (0, "")
    assert sorted(found) == ["profile", "races", "report"]
    assert [sorted(one) for one in found["races"]] == [sorted(KEYS)] * 2
    assert found["profile"]["tasks"] == ["wine", "breast-cancer"]
    assert (tmp_path / found["report"]).is_file()
    said = call("showdown", "wine", "breast-cancer", *given, "--schedules", "none").out
    assert said.startswith("wine\n")
    assert "\nbreast-cancer\n" in said
    assert said.splitlines()[-1] == f"Report: {found['report']}"
    best = max(found["profile"]["scores"].values())
    assert said.splitlines()[-2].startswith(
        "Over 2 tasks, the performance profile of the epochs to the training"
    )
    assert f" {best:.2f}, " in said.splitlines()[-2]
    alone = strict(call("showdown", "wine", *given, "--schedules", "none", "--json").out)
    assert alone["finished_at"] == found["races"][0]["finished_at"]


def test_the_answer_for_a_person_says_the_verdict_first_and_the_report_last(
    tmp_path: Path, call: Call
) -> None:
    done = call(*RACE)

    lines = done.out.splitlines()
    assert (
        lines[0] == "Not enough seeds to say which is best: 2 optimizers take at least 6, and there were 2."
    )
    for start_of in ("Fastest to converge: ", "Best final accuracy: ", "Generalisation gap "):
        assert any(line.startswith(start_of) for line in lines)
    name, place = lines[-1].split(": ")
    assert name == "Report"
    assert (tmp_path / place).is_file()
    assert (done.code, done.err) == (0, "")


def test_in_a_pipe_there_is_no_bar_and_no_colour(tmp_path: Path) -> None:
    said = answer(tmp_path, *RACE)

    assert said.startswith("Not enough seeds")
    assert "\x1b" not in said
    assert max(map(len, said.splitlines())) <= 100


def on_a_terminal(folder: Path, *arguments: str, **streams: Any) -> tuple[str, Done]:
    """Run a command whose standard error is a terminal, and all streams named too; return what it shows."""
    ours, theirs = os.openpty()
    process = start(folder, *arguments, stderr=theirs, **dict.fromkeys(streams, theirs))
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
    except OSError:  # so a terminal says that the other end is closed
        pass
    os.close(ours)
    return shown.decode(), finish(process)


def test_on_a_terminal_a_bar_is_shown_on_standard_error_only(tmp_path: Path) -> None:
    shown, done = on_a_terminal(tmp_path, *RACE, "--json")

    assert "final adam at 0.01" in shown
    assert "20/20" in shown  # five updates of two optimizers on two seeds
    assert "\x1b[" in shown
    assert len(strict(done.out)["ranking"]) == 2
    assert done.code == 0


@pytest.mark.slow
def test_a_terminal_shows_the_place_of_the_report_as_it_is(tmp_path: Path) -> None:
    folder = "a long name for a folder [red] " * 4
    shown, done = on_a_terminal(tmp_path, *RACE, "--out", folder, stdout=True)

    (page,) = (tmp_path / folder).glob("*.html")
    assert f"Report: {folder}/{page.name}" in shown
    assert done.code == 0


def test_what_a_task_prints_and_warns_of_does_not_reach_standard_output(tmp_path: Path) -> None:
    chatty = TASK.replace("import torch\n", "import warnings\n\nimport torch\n").replace(
        "def make_data(seed):\n",
        'def make_data(seed):\n    print("60 rows")\n    warnings.warn("old rows")\n',
    )
    (tmp_path / "task.py").write_text(chatty)

    done = run(
        tmp_path,
        *("showdown", "task.py", "--optimizers", "sgd", "--rates", "sgd=0.1", "--seeds", "1", "--json"),
        *("--schedules", "none"),
    )

    assert strict(done.out)["ranking"][0]["optimizer"] == "sgd"
    assert done.err.count("60 rows") == 1
    assert "UserWarning: old rows" in done.err
    assert done.code == 0


@pytest.mark.parametrize("command", [("--help",), ("optimizers", "--json"), ("schedules", "cosine")])
def test_a_reader_that_has_gone_is_not_worth_a_word(tmp_path: Path, command: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = start(tmp_path, *command, stdout=writing)
    os.close(writing)

    done = finish(process)
    assert (done.code, done.err) == (1, "")

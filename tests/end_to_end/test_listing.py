"""The commands that tell what there is: `tasks`, `optimizers`, `schedules`, `runs` and `report`."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from end_to_end.program import Call, contents, environment, finish, start
from thalweg import schedules
from thalweg.rules.catalogue import CATALOGUE
from thalweg.rules.wrappers import WRAPPERS
from thalweg.tasks import BUILTIN

GIVEN = ("--steps", "3", "--seeds", "1", "--schedules", "none")


def said(call: Call, *arguments: str) -> str:
    done = call(*arguments)
    assert (done.code, done.err) == (0, "")
    return done.out


def data(call: Call, *arguments: str) -> Any:
    return json.loads(said(call, *arguments, "--json"))


@pytest.fixture
def folders(call: Call) -> tuple[str, str]:
    """Two folders of runs: a race on digits and a training in one, a race on wine in the other."""
    said(call, "showdown", "digits", *GIVEN, "--rates", "sgd=0.1,adam=0.01", "--optimizers", "sgd,adam")
    said(call, "train", "wine", "--steps", "3")
    said(call, "showdown", "wine", *GIVEN, "--rates", "sgd=0.1", "--optimizers", "sgd", "--out", "other")
    return "thalweg-runs", "other"


def test_tasks_lists_every_built_in_task_and_how_to_write_one(call: Call) -> None:
    text, rows = said(call, "tasks"), data(call, "tasks")

    assert [row["name"] for row in rows] == list(BUILTIN)
    lines = text.splitlines()
    for row in rows:
        (line,) = [line for line in lines if line.split()[:1] == [row["name"]]]
        assert f"{row['train'] + row['validation'] + row['test']:,}" in line
    assert lines[-1] == "Your own: thalweg showdown path/to/task.py"
    assert [line for line in lines if line != line.rstrip()] == []


def test_optimizers_lists_every_method_by_family_and_shows_each_in_full(call: Call) -> None:
    text, rows = said(call, "optimizers"), data(call, "optimizers")

    names = [line.split()[0] for line in text.splitlines()[2:] if line[:1].strip()]
    assert [name for name in names if name in CATALOGUE] == [row["name"] for row in rows]
    assert {row["name"] for row in rows} == set(CATALOGUE)
    for row in rows:
        page = said(call, "optimizers", row["name"])
        assert data(call, "optimizers", row["name"]) == row
        assert page.startswith(f"{row['name']}: {row['rule']}")
        assert row["formula"] in page
        # Long words may be broken over lines; the page is text like any other.
        for part in (row["source"], row["take"], row["avoid"], row["cost"], row["paper"], *row["wrong"]):
            assert "".join(part.split()) in "".join(page.split())
        for field in row["hyperparameters"]:
            assert any(line.startswith(f"{field['name']} ") for line in page.splitlines())


def test_a_row_of_optimizers_tells_state_year_cost_and_paper(call: Call) -> None:
    (line,) = [x for x in said(call, "optimizers").splitlines() if x.split()[:1] == ["lion"]]

    for part in ("1", "2023", "one buffer of the", "Chen et al.: Symbolic"):
        assert f" {part}" in line


def test_optimizers_lists_every_wrapper_and_shows_each_in_full(call: Call) -> None:
    text, rows = said(call, "optimizers", "--wrappers"), data(call, "optimizers", "--wrappers")

    assert [row["name"] for row in rows] == list(WRAPPERS)
    for row in rows:
        assert any(line.startswith(f"{row['name']} ") for line in text.splitlines())
        page = said(call, "optimizers", row["name"])
        assert data(call, "optimizers", row["name"]) == row
        assert page.startswith(f"{row['name']}: {row['title']}")
        assert row["formula"] in page


def test_a_preset_shows_what_it_fixes(call: Call) -> None:
    (first, *_) = said(call, "optimizers", "nesterov").splitlines()

    assert first.startswith("nesterov: SGD with momentum = 0.9, nesterov = True.")


def test_values_are_translated_with_their_ranges_trust_and_sources(call: Call) -> None:
    arguments = ("optimizers", "adamw", "--to", "lion", "--lr", "3e-4", "--weight-decay", "0.1")
    text, found = said(call, *arguments), data(call, *arguments)

    assert text.startswith("adamw → lion\n")
    (line,) = [line for line in text.splitlines() if line.startswith("lr ")]
    assert line.split(maxsplit=2)[1:] == ["0.0003", "5.477e-05 (3e-05 to 0.0001)   rule of thumb"]
    assert "arXiv 2302.06675" in text
    (lr,) = [value for value in found["values"] if value["name"] == "lr"]
    assert (lr["trust"], lr["high"]) == ("rule of thumb", pytest.approx(1e-4))
    assert found["given"]["weight_decay"] == 0.1


def test_values_are_translated_to_another_batch_size(call: Call) -> None:
    sizes = ("--batch-size", "256", "--to-batch-size", "1024")
    found = data(call, "optimizers", "adam", "--set", "betas=0.95,0.99", *sizes)

    values = {value["name"]: value["value"] for value in found["values"]}
    assert values["lr"] == pytest.approx(2e-3)
    assert values["betas"] == pytest.approx([0.8, 0.96])
    assert "Keep the number of epochs" in said(call, "optimizers", "sgd", *sizes)


def test_what_the_target_has_anyway_is_set(call: Call) -> None:
    mean = ("--to", "momentum", "--to-set", "buffer=mean", "--lr", "0.01")
    found = data(call, "optimizers", "momentum", *mean)

    assert {v["name"]: v["value"] for v in found["values"]}["lr"] == pytest.approx(0.1)
    assert found["values"][0]["trust"] == "exact"


@pytest.mark.parametrize(
    ("arguments", "begins"),
    [
        (
            ("admw",),
            "the optimizer or wrapper must be one that Thalweg knows; got 'admw'. Did you mean adamw",
        ),
        (("--to", "lion"), "--to must come with the name of an optimizer; got none."),
        (("adam", "--wrappers"), "--wrappers must stand alone; got 'adam'."),
        (("--wrappers", "--lr", "1"), "--lr must come with the name of an optimizer; got none."),
        (
            ("adam", "--lr", "1"),
            "a translation must be into another method or to another batch size; got neith",
        ),
        (("adam", "--to", "lion", "--set", "x"), "--set must be NAME=VALUE with NAME among lr, betas,"),
        (
            ("adam", "--to", "lion", "--set", "eps=x"),
            "--set eps must be a finite number of at least 0; got 'x'.",
        ),
        (
            ("adam", "--to", "lion", "--set", "lr=0.1", "--lr", "0.2"),
            "--set lr must be left out beside its own option; got 0.1.",
        ),
        (("adam", "--to", "lion", "--lr", "x"), "--lr must be a number; got 'x'."),
        (("clip_norm", "--to", "lion"), "the optimizer must be one that Thalweg knows; got 'clip_norm'."),
    ],
)
def test_what_optimizers_cannot_do_is_refused(call: Call, arguments: tuple[str, ...], begins: str) -> None:
    done = call("optimizers", *arguments)

    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"thalweg: {begins}")


@pytest.mark.parametrize("arguments", [(), ("--wrappers",), ("adamw", "--to", "lion")])
def test_a_narrow_terminal_gets_narrow_tables(
    call: Call, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr("thalweg.cli.table.PIPE_WIDTH", 60)
    monkeypatch.setattr("thalweg.cli.prose.WIDTH", 60)

    assert max(map(len, said(call, "optimizers", *arguments).splitlines())) <= 60


def test_schedules_lists_every_shape_with_its_formula(call: Call) -> None:
    text, rows = said(call, "schedules"), data(call, "schedules")

    assert [row["name"] for row in rows] == list(schedules.SCHEDULES)
    for row in rows:
        (line,) = [line for line in text.splitlines() if line.split()[:1] == [row["name"]]]
        assert row["formula"][:20] in line


def test_schedules_are_drawn_over_each_other_and_given_as_numbers(call: Call) -> None:
    text = said(call, "schedules", "cosine", "step:every=30,ratio=0.5", "--steps", "60")
    curves = data(call, "schedules", "cosine", "step:every=30,ratio=0.5", "--steps", "60")

    assert "a cosine" in text
    assert "b step:every=30,ratio=0.5" in text
    cosine, step = (np.array(curve["factors"]) for curve in curves)
    ticks = np.arange(61)
    # The formulas, written down once more.
    np.testing.assert_allclose(cosine, (1 + np.cos(np.pi * ticks / 60)) / 2, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(step, 0.5 ** (ticks // 30))
    assert curves[0]["ticks"] == ticks.tolist()


@pytest.mark.parametrize(("name", "begins"), [("drawn.svg", "<svg"), ("drawn.html", "<html>")])
def test_schedules_are_drawn_into_a_file(tmp_path: Path, call: Call, name: str, begins: str) -> None:
    assert said(call, "schedules", "cosine", "linear", "--out", name) == f"Drawn: {name}\n"
    assert begins in (tmp_path / name).read_text()[:200]
    assert list(contents(tmp_path)) == [name]


def test_runs_lists_the_races_and_trainings_of_a_folder(call: Call, folders: tuple[str, str]) -> None:
    text, found = said(call, "runs"), data(call, "runs", folders[0])

    (race,), (training,) = found["races"], found["trainings"]
    assert (race["task"], race["optimizers"], race["trials_done"]) == ("digits", ["sgd", "adam"], 2)
    assert (training["contender"], training["steps"]) == ("adam", 3)
    rows = [line.split() for line in text.splitlines()]
    (line,) = [row for row in rows if row[:1] == [race["key"][:8]]]
    assert line[1:4] == ["digits", "sgd,", "adam"]
    assert line[-4:] == ["undecided:", "too", "few", "seeds"]
    (line,) = [row for row in rows if row[:1] == [training["key"][:8]]]
    assert (*line[1:3], line[-1]) == ("wine", "adam", "completed")


def test_runs_says_of_an_only_optimizer_that_there_is_no_comparison(
    call: Call, folders: tuple[str, str]
) -> None:
    assert said(call, "runs", folders[1]).splitlines()[-1].endswith("no comparison")


def test_runs_tells_which_race_another_one_follows(call: Call) -> None:
    given = ("--steps", "3", "--seeds", "1", "--rates", "sgd=0.1", "--optimizers", "sgd")
    said(call, "showdown", "wine", *given, "--schedules", "constant,linear")
    text, (after, first) = said(call, "runs"), data(call, "runs")["races"]

    assert (first["follows"], first["vary"], after["vary"]) == ("", "", "schedule")
    assert after["follows"] == first["key"]
    assert f"schedule after {first['key'][:8]}: constant, linear" in text


def test_report_merges_folders_into_one_page(tmp_path: Path, call: Call, folders: tuple[str, str]) -> None:
    merged = data(call, "report", *folders, "--out", "merged.html")
    page = (tmp_path / "merged.html").read_text()

    races = [data(call, "runs", folder)["races"][0] for folder in folders]
    assert [(m["started_at"], m["finished_at"]) for m in merged] == [
        (r["started_at"], r["finished_at"]) for r in races
    ]
    assert [row["optimizer"] for row in merged[1]["ranking"]] == ["sgd"]
    assert {m["report"] for m in merged} == {"merged.html"}
    assert "sgd and adam on digits" in page
    assert "sgd on wine" in page


def test_report_draws_the_one_race_that_is_named(
    tmp_path: Path, call: Call, folders: tuple[str, str]
) -> None:
    (race,) = data(call, "runs", folders[1])["races"]
    text = said(call, "report", *folders, "--race", race["key"][:6])

    assert text.startswith("wine, begun ")
    assert text.endswith(f"Report: {folders[0]}/report.html\n")
    assert "on digits" not in (tmp_path / folders[0] / "report.html").read_text()
    refused = call("report", *folders, "--race", "no-such-key")
    assert refused.err == (
        "thalweg: thalweg-runs and other must keep a race whose key begins with no-such-key; got none. "
        "Run one: thalweg showdown digits.\n"
    )


def test_a_report_says_what_the_race_itself_said(call: Call, folders: tuple[str, str]) -> None:
    del folders
    again = ("showdown", "digits", *GIVEN, "--rates", "sgd=0.1,adam=0.01", "--optimizers", "sgd,adam")
    shown, (drawn,) = data(call, *again), data(call, "report")

    assert {**shown, "report": ""} == {**drawn, "report": ""}


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("tasks",),
        ("optimizers",),
        ("optimizers", "--wrappers"),
        ("optimizers", "adam"),
        ("optimizers", "adamw", "--to", "lion"),
        ("schedules", "cosine"),
        ("runs",),
        ("report",),
    ],
)
@pytest.mark.usefixtures("folders")
def test_what_does_not_train_does_not_need_torch(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    absent = "import sys; sys.modules['torch'] = None; from thalweg.cli.app import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", absent, *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout) > 100


def test_help_imports_nothing_slow(tmp_path: Path) -> None:
    slow = {"torch", "sklearn", "scipy", "plotly", "numpy"}
    code = f"""import atexit, sys
atexit.register(lambda: print(sorted({slow} & set(sys.modules))))
from thalweg.cli.app import main
main(["--help"])"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)

    assert done.stdout.splitlines()[-1] == "[]"
    assert done.returncode == 0


def test_every_command_has_help_that_names_its_options(call: Call) -> None:
    commands = ("showdown", "train", "tasks", "optimizers", "schedules", "runs", "report")
    text = said(call, "--help")
    for command in commands:
        assert f"\n  {command} " in text
        assert "--json" in said(call, command, "--help")
    assert said(call, "--version").startswith("thalweg ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
@pytest.mark.parametrize("arguments", [("--help",), ("trace", "w^2"), ("optimizers", "--json")])
def test_an_answer_for_which_there_is_no_room_is_a_sentence(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    with open("/dev/full", "w") as full:
        done = finish(start(tmp_path, *arguments, stdout=full))

    assert (done.code, done.err) == (
        1,
        "thalweg: the answer could not be written: No space left on device.\n",
    )

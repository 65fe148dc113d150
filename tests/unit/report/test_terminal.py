import dataclasses
import io
import json

import pytest
from rich.console import Console

import made_up
from thalweg.records import to_data
from thalweg.report import as_json, render, summary, text

RACE = made_up.race()


@pytest.mark.parametrize(
    "race",
    [
        RACE,
        made_up.race(diverged={"sgd": 2}, final_seeds=3),
        made_up.race(optimizers=["a-rather-long-name-of-an-optimizer", "sgd"]),
        made_up.race(finished=False),
    ],
)
def test_plain_text_keeps_within_100_columns(race):
    lines = text(race).splitlines()

    assert max(map(len, lines)) <= 100
    assert not any(line != line.rstrip() or "\x1b" in line or "…" in line for line in lines)


def test_plain_text_says_the_sentences_and_then_a_line_for_each_optimizer():
    written = text(RACE)

    for sentence in summary.sentences(RACE):
        assert sentence in " ".join(written.split())
    rows = [line.split()[0] for line in written.splitlines() if line.endswith("0 of 12")]
    assert rows == [s.optimizer for s in RACE.verdict.ranking]


@pytest.mark.parametrize(
    ("width", "note"),
    [
        (100, "Time per step is the median measured on this machine."),
        (80, "No room here for: state bytes per parameter and time per step. The report has everything."),
    ],
)
def test_narrow_terminal_leaves_out_columns_and_says_which(width, note):
    console = Console(width=width, file=io.StringIO())
    console.print(render(RACE))
    shown = console.file.getvalue()

    assert " ".join(shown.split()).endswith(note)
    assert "[0.9659, 0.9679]" in shown  # no number is cut or folded


def test_names_are_shown_as_they_are():
    assert "[bold]sgd[/bold]" in text(made_up.race(optimizers=["[bold]sgd[/bold]"]))


def test_rate_at_the_edge_is_said():
    ranking = tuple(dataclasses.replace(s, edge="highest") for s in RACE.verdict.ranking)
    race = dataclasses.replace(RACE, verdict=dataclasses.replace(RACE.verdict, ranking=ranking))

    assert "(highest" in text(race)


def test_json_has_the_verdict_and_the_costs(tmp_path):
    answer = as_json(RACE, tmp_path / "report.html")
    best = RACE.verdict.ranking[0]

    assert answer == json.loads(json.dumps(answer))  # plain values only
    assert answer["winner"] == "adam"
    assert answer["tie"] == []
    assert (answer["metric"], answer["direction"], answer["seeds"]) == ("accuracy", "higher", 12)
    assert answer["report"] == str(tmp_path / "report.html")
    assert answer["ledger"] == to_data(RACE.ledger)
    assert answer["sentences"] == list(summary.sentences(RACE))
    first = answer["ranking"][0]
    assert first.pop("step_seconds") == summary.rows(RACE)[0].step_seconds
    assert first == {
        "optimizer": "adam",
        "rate": 0.001,
        "score": best.score,
        "interval": list(best.interval),
        "test": best.test,
        "gap": best.gap,
        "state_bytes_per_parameter": 8.0,
        "diverged": 0,
    }


def test_json_of_an_unfinished_race_decides_nothing():
    answer = as_json(made_up.race(finished=False), None)

    assert (answer["winner"], answer["tie"], answer["ranking"]) == (None, [], [])
    assert (answer["ledger"], answer["report"]) == (None, None)


def without_times(data):
    if isinstance(data, dict):
        return {k: without_times(v) for k, v in data.items() if not k.endswith(("_seconds", "_at"))}
    return [without_times(x) for x in data] if isinstance(data, list) else data


def test_json_depends_on_the_clock_only_where_a_key_says_so():
    slower = dataclasses.replace(
        RACE,
        traces=tuple(dataclasses.replace(t, step_seconds=1.0, total_seconds=9.0) for t in RACE.traces),
        ledger=dataclasses.replace(
            RACE.ledger,
            total_seconds=99.0,
            rows=tuple(dataclasses.replace(r, total_seconds=9.0) for r in RACE.ledger.rows),
        ),
        started_at="2027-01-01T00:00:00+00:00",
        finished_at="2027-01-01T01:00:00+00:00",
    )

    assert as_json(slower, None) != as_json(RACE, None)
    assert without_times(as_json(slower, None)) == without_times(as_json(RACE, None))


def test_the_last_line_says_how_trials_ran_where_that_was_chosen():
    why = "fleet in waves of 84 5.5 µs an update, processes 240 µs, serial 430 µs"
    chosen = dataclasses.replace(RACE, plan=dataclasses.replace(RACE.plan, why=why))

    assert " ".join(text(chosen).split()).endswith(f"How trials ran: {why}.")
    assert "How trials ran" not in text(RACE)


def test_the_time_of_a_step_is_said_to_be_a_share_where_a_fleet_ran():
    fleet = dataclasses.replace(RACE, plan=dataclasses.replace(RACE.plan, executor="fleet", wave=12))

    assert text(fleet).rstrip().endswith("a model's share of its fleet's, whatever its optimizer.")
    assert text(RACE).rstrip().endswith("Time per step is the median measured on this machine.")

import ast
import dataclasses
import io
import json
import re

import pytest
from rich.console import Console

import made_up
from thalweg.evidence.recommendation import recommend
from thalweg.records import Answer, to_data
from thalweg.report import as_json, finding_json, render, summary, text
from thalweg.report.curves import target_times
from thalweg.report.terminal import _broken

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
        assert " ".join(written.split()).count(sentence) == 1  # also where the recommendation repeats it
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

    assert note in " ".join(shown.split())
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


def test_json_tells_the_time_to_a_target_where_the_race_has_one():
    race = made_up.race(target=0.9)
    answer = as_json(race, None)

    assert answer == json.loads(json.dumps(answer))
    assert as_json(RACE, None)["time_to_target"] == []
    assert [set(row) for row in answer["time_to_target"]] == [
        {"optimizer", "reached", "seeds", "steps", "seconds"}
    ] * 4
    assert [row["steps"] for row in answer["time_to_target"]] == [t.steps for t in target_times(race)]


def test_json_holds_the_race_of_schedules_that_follows():
    after = made_up.race(optimizers=["constant", "cosine"], vary="schedule", follows=RACE.key)

    assert as_json(RACE, None)["schedules"] is None
    assert as_json(RACE, None, schedules=after)["schedules"] == as_json(after, None)


def test_json_of_an_unfinished_race_decides_nothing():
    answer = as_json(made_up.race(finished=False), None)

    assert (answer["winner"], answer["tie"], answer["ranking"]) == (None, [], [])
    assert (answer["ledger"], answer["report"], answer["recommendation"]) == (None, None, None)
    assert answer["pairs"] == []


def without_times(data):
    if isinstance(data, dict):
        return {k: without_times(v) for k, v in data.items() if not k.endswith(("seconds", "_at"))}
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


def test_how_trials_ran_is_said_where_that_was_chosen():
    why = "fleet in waves of 84 5.5 µs an update, processes 240 µs, serial 430 µs"
    chosen = dataclasses.replace(RACE, plan=dataclasses.replace(RACE.plan, why=why))

    assert f"How trials ran: {why}." in " ".join(text(chosen).split())
    assert "How trials ran" not in text(RACE)


def test_the_time_of_a_step_is_said_to_be_a_share_where_a_fleet_ran():
    fleet = dataclasses.replace(RACE, plan=dataclasses.replace(RACE.plan, executor="fleet", wave=12))

    assert "a model's share of its fleet's, whatever its optimizer." in text(fleet)
    assert "Time per step is the median measured on this machine." in text(RACE)
    assert "share" not in text(RACE)


def test_plain_text_says_what_to_use_and_ends_with_the_lines_that_do():
    schedules = made_up.follow_up(RACE)
    found = recommend(RACE, schedules)
    lines = text(RACE, schedules).splitlines()

    assert "Use adam at rate 0.001 with the schedule cosine." in lines
    for reason in found.reasons[1:]:  # the first is the verdict itself
        assert reason in " ".join(" ".join(lines).split())
    code = "\n".join(lines[lines.index("In PyTorch:") + 2 : -2]) + "\n"
    assert code.replace("\n# more)", " more)") == found.code  # one comment was too long for a line
    assert lines[-1] == "The recipe is in the report, as TOML."


def test_a_preference_within_a_tie_is_not_sold_as_a_decision():
    tie = made_up.race(optimizers=["lion", "muon"])

    assert tie.verdict.tie
    assert re.search(r"^Use \w+ at rate 0.03: preferred, but not decided\.$", text(tie), re.MULTILINE)


def test_lines_of_code_are_broken_where_they_still_run():
    line = (
        "optimizer = torch.optim.AdamW(model.parameters(), lr=0.001, betas=(0.9, 0.999), weight_decay=0.01)"
    )
    broken = _broken(f"    {line}", 60)

    assert max(map(len, broken)) <= 60
    assert ast.dump(ast.parse("\n".join(broken).replace("    optimizer", "optimizer", 1))) == ast.dump(
        ast.parse(line)
    )
    assert _broken("# a comment of many words", 14) == ["# a comment of", "# many words"]
    assert _broken("", 14) == [""]


def test_json_has_the_recommendation_the_pairs_and_the_findings():
    race = made_up.race(found={"sgd": Answer.FLAT})
    schedules = made_up.follow_up(race)
    answer, found = as_json(race, None, schedules), recommend(race, schedules)

    assert answer == json.loads(json.dumps(answer))
    assert answer["recommendation"] == {
        "optimizer": "adam",
        "decided": True,
        "recipe": to_data(found.recipe),
        "steps": 8600,
        "reasons": list(found.reasons),
        "seeds_to_decide": None,
        "toml": found.toml,
        "code": found.code,
    }
    assert len(answer["pairs"]) == 6
    first = race.verdict.pairs[0]
    assert answer["pairs"][0] == {
        "a": "adam",
        "b": "rmsprop",
        "difference": first.difference,
        "interval": list(first.interval),
        "p": first.p,
        "p_holm": first.p_holm,
        "probability_a_better": first.probability_a_better,
        "better": "adam",
    }
    keys = ["optimizer", "suggestion", "low", "high", "outcome", "diverges_at", "rates", "losses"]
    assert [list(f) for f in answer["findings"]] == [keys] * 4
    assert answer["findings"][0]["outcome"] == "flat"
    assert answer["findings"][3]["suggestion"] == 0.001


def test_json_of_a_finding_has_all_that_was_measured():
    finding = made_up.finding("adam")
    answer = finding_json(finding)

    assert answer == json.loads(json.dumps(answer))
    assert list(answer)[:8] == list(as_json(made_up.race(found={}), None)["findings"][0])
    assert answer["sentences"] == list(finding.sentences)
    assert answer["short"][4] == {"rate": 0.01, "losses": [None, None], "steps": 0}
    assert (answer["horizon"], answer["steps"]) == (430, 4660)
    assert answer["picks"] == dict(finding.picks)


def test_json_counts_the_seeds_that_were_judged():
    judged = dataclasses.replace(RACE, verdict=dataclasses.replace(RACE.verdict, seeds=8))

    assert as_json(judged, None)["seeds"] == 8
    assert as_json(made_up.race(finished=False), None)["seeds"] == 12

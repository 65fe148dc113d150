import dataclasses
import itertools
import json
import re
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser

import pytest

import made_up
from thalweg.errors import InputError
from thalweg.evidence.recommendation import recommend
from thalweg.records import Answer
from thalweg.report import summary, write, write_findings
from thalweg.report.curves import training_loss, validation_score
from thalweg.report.rates import score_by_rate

EVIL = '</script><script>alert("x")</script><img src=x onerror=alert(1)>'


class Reader(HTMLParser):
    """Reads what a browser would see: elements with attributes, and the text by element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements, self.text, self.heard, self._open = [], {}, [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag):
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data):
        if self._open and data.strip():
            self.heard.append((self._open[-1], " ".join(data.split())))
            self.text.setdefault(self._open[-1], []).append(" ".join(data.split()))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.elements if name == tag]


def read(races, tmp_path) -> tuple[str, Reader]:
    text = write(races, tmp_path / "report.html").read_text(encoding="utf-8")
    return text, Reader(text)


def figures_in(text: str) -> list[dict]:
    return [json.loads(x) for x in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text)]


def test_conclusions_come_first_and_in_order(tmp_path):
    race = made_up.race()
    text, page = read(race, tmp_path)

    assert page.text["li"][: len(summary.sentences(race))] == [
        " ".join(s.split()) for s in summary.sentences(race)
    ]
    first = [tag for tag, _ in page.elements]
    assert first.index("li") < first.index("pre") < first.index("table") < first.index("figure")
    assert [said for tag, said in page.heard if tag == "h2"] == [
        *("What to use", "Final table", "Along the training", "How much the rate matters"),
        *("What more tuning buys", "Pair by pair", "What it cost", "Run it again"),
    ]
    assert text.count(race.verdict.sentences[0]) == 1  # the recommendation does not repeat it


def test_page_holds_four_figures_and_their_numbers(tmp_path):
    race = made_up.race()
    text, page = read(race, tmp_path)
    loss, score, rates, best = figures_in(text)

    assert loss["data"][-1]["y"] == list(training_loss(race)[-1].median)
    assert score["data"][-1]["y"] == list(validation_score(race)[-1].median)
    assert rates["layout"]["xaxis"]["type"] == "log"
    assert best["data"][-1]["y"] == [x for x in score_by_rate(race)[-1].expected if x is not None]
    assert loss["axes"]["steps"]["x"]["adam"] == list(training_loss(race)[-1].steps)
    assert "axes" not in rates
    assert len(page.all("figcaption")) == len(page.all("figure")) == 4


def test_page_loads_nothing(tmp_path):
    text, page = read(made_up.race(), tmp_path)
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv"))

    assert "default-src 'none'" in policy
    assert [attrs for _, attrs in page.elements if {"src", "srcset"} & set(attrs)] == []
    assert page.all("link") == []
    assert text.count("Plotly.newPlot(plot") == 1


def test_plotly_is_there_once_however_many_races(tmp_path):
    one, _ = read(made_up.race(), tmp_path)
    text, page = read([made_up.race(), made_up.race(seed=1, task="digits")], tmp_path)

    assert len(text) < len(one) + 300_000  # plotly.js alone is over 3 million characters
    assert [a["id"] for a in page.all("article")] == ["race-1", "race-2"]
    assert len({a["data-figure"] for a in page.all("div") if "data-figure" in a}) == 9  # and the profile


def test_headings_step_down_one_level_at_a_time(tmp_path):
    first = made_up.race(found={})
    both = [first, made_up.follow_up(first)]
    for races in (first, both, [*both, made_up.race(seed=1, task="digits")]):
        _, page = read(races, tmp_path)
        levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]

        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(b <= a + 1 for a, b in itertools.pairwise(levels))


def test_tables_and_figures_can_be_heard(tmp_path):
    _, page = read(made_up.race(), tmp_path)

    assert len(page.all("caption")) == len(page.all("table")) == 9
    assert all(th.get("scope") in ("col", "row") for th in page.all("th"))
    assert all(d.get("aria-label") for d in page.all("div") if d.get("role") == "img")
    assert page.all("html") == [{"lang": "en"}]
    assert [len(page.all(tag)) for tag in ("main", "footer", "article")] == [1, 1, 1]
    assert len(page.all("legend")) == len(page.all("fieldset")) == 5
    assert len(page.all("label")) == len(page.all("input")) == 4 * 4 + 3
    labelled = [a["aria-labelledby"] for _, a in page.elements if "aria-labelledby" in a]
    described = [a["aria-describedby"] for _, a in page.elements if "aria-describedby" in a]
    names = [a["id"] for _, a in page.elements if "id" in a]
    assert len(set(names)) == len(names)
    assert {*labelled, *described} <= set(names)
    assert [a["role"] for a in page.all("span") if "role" in a] == ["status"] * 3


def test_final_table_rounds_by_the_intervals(tmp_path):
    race = made_up.race(optimizers=["sgd", "adam"], final_seeds=8)
    standing = dataclasses.replace(
        race.verdict.ranking[0], score=0.97891, interval=(0.9775, 0.9803), test=0.97, test_interval=None
    )
    race = dataclasses.replace(race, verdict=dataclasses.replace(race.verdict, ranking=(standing,)))
    _, page = read(race, tmp_path)

    assert page.text["td"].count("0.9789") == 1
    assert page.text["td"].count("[0.9775, 0.9803]") == 1
    assert page.text["td"].count("0.9700") == 1


@pytest.mark.parametrize("where", ["task", "metric", "command", "optimizer", "environment"])
def test_what_a_person_wrote_cannot_become_markup(where, tmp_path):
    race = made_up.race(optimizers=[EVIL] if where == "optimizer" else ["sgd", "adam"], final_seeds=6)
    if where in ("task", "metric"):
        traces = [
            dataclasses.replace(
                t,
                evaluations=tuple(
                    dataclasses.replace(e, metrics={EVIL: e.metrics["accuracy"]}) for e in t.evaluations
                ),
            )
            for t in race.traces
        ]
        plan = dataclasses.replace(race.plan, **{where: EVIL})
        race = dataclasses.replace(race, plan=plan, traces=tuple(traces))
    elif where == "command":
        race = dataclasses.replace(race, command=EVIL)
    elif where == "environment":
        race = dataclasses.replace(race, environment={EVIL: EVIL})
    plain, clean = read(made_up.race(optimizers=["sgd", "adam"], final_seeds=6), tmp_path)
    text, page = read(race, tmp_path)

    assert EVIL not in text
    assert page.all("img") == []
    ours = len(page.all("script")) - text.count('type="application/json"')
    assert ours == len(clean.all("script")) - plain.count('type="application/json"') == 2
    assert all("onerror" not in attrs for _, attrs in page.elements)


def test_unfinished_race_says_so_and_shows_what_is_there(tmp_path):
    race = made_up.race(optimizers=["sgd", "adam"], finished=False)
    text, page = read(race, tmp_path)

    assert page.text["li"][0].startswith("Unfinished: 34 of at most 52 trials are done.")
    assert len(figures_in(text)) == 4
    assert {t["legendgroup"] for t in figures_in(text)[0]["data"]} == {"sgd"}  # adam has no final trial yet
    assert {"Final table", "What to use"}.isdisjoint(page.text["h2"])


def test_race_in_which_all_diverged_is_shown(tmp_path):
    race = made_up.race(optimizers=["sgd", "adam"], diverged={"sgd": 12, "adam": 12}, rates=1)
    text, page = read(race, tmp_path)

    assert figures_in(text) == []
    assert page.text["li"][0].startswith("Every optimizer diverged")


def test_no_race_is_refused(tmp_path):
    with pytest.raises(InputError, match="must have a race to show; got none"):
        write([], tmp_path / "report.html")


def test_folder_is_made_and_old_report_replaced_leaving_nothing_else(tmp_path):
    path = tmp_path / "new" / "report.html"
    write(made_up.race(), path)
    before = path.read_text(encoding="utf-8")
    write(made_up.race(task="digits"), path)

    assert before != path.read_text(encoding="utf-8")
    assert list(path.parent.iterdir()) == [path]


def test_place_that_cannot_be_written_is_refused_in_words(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "report.html", tmp_path / "folder"):
        with pytest.raises(InputError, match="must be one that can be written; got"):
            write(made_up.race(), path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_running_out_of_room_keeps_the_old_report(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    code = (
        "import resource, sys, pathlib, made_up\n"
        "from thalweg.report import write\n"
        "from thalweg.errors import InputError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: write(made_up.race(), pathlib.Path(sys.argv[1]))\n"
        "except InputError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=made_up.__file__.rpartition("/")[0],
    )

    assert "must be one that can be written" in done.stdout
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


def test_a_report_is_drawn_without_torch():
    code = "import sys, thalweg.report; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"


def test_how_it_was_run_tells_the_executor_why_and_which_trials_were_begun_again(tmp_path):
    race = made_up.race()
    plan = dataclasses.replace(race.plan, executor="processes", why="processes 2 ms an update, serial 3 ms")
    first, *others = race.traces
    race = dataclasses.replace(race, plan=plan, traces=(dataclasses.replace(first, attempts=3), *others))
    _, page = read(race, tmp_path)

    text = " ".join(page.text["td"] + page.text["th"])
    assert plan.why in page.text["td"]
    assert "2 times, for the process of a trial had died" in page.text["td"]
    assert "Chosen" in text
    assert "Begun again" in text


def test_recipe_and_code_are_there_to_be_copied(tmp_path):
    race = made_up.race()
    text, page = read(race, tmp_path)
    found = recommend(race)

    blocks = {
        name: unescape(body)
        for name, body in re.findall(r'<pre id="([^"]+)"><code>(.*?)</code>', text, re.DOTALL)
    }
    assert blocks == {"race-1-toml": found.toml, "race-1-code": found.code, "race-1-command": race.command}
    assert [button["data-copy"] for button in page.all("button")] == list(blocks)
    assert "Use adam at rate 0.001." in page.text["p"]


def test_schedules_stand_under_the_race_that_they_follow_and_in_its_recommendation(tmp_path):
    race = made_up.race()
    schedules = made_up.follow_up(race)
    _, page = read([schedules, race], tmp_path)

    assert [a["id"] for a in page.all("article")] == ["race-1", "race-1-1"]
    assert [said for tag, said in page.heard if tag in ("h1", "h2")][-3] == "Schedules under the winner"
    assert page.text["p"].count("Use adam at rate 0.001 with the schedule cosine.") == 1
    assert len(page.all("pre")) == 4  # recipe and code once, a command each
    assert recommend(race, schedules).reasons[-1] in page.text["li"]


def test_a_race_with_a_finder_has_a_panel_for_each_optimizer(tmp_path):
    race = made_up.race(found={"sgd": Answer.FLAT})
    text, page = read(race, tmp_path)

    assert "What the rate finder saw" in page.text["h2"]
    assert [h for h in page.text["h3"] if "suggested" in h or "no answer" in h] == [
        *("sgd, no answer: flat", "momentum, suggested: 0.03"),
        *("rmsprop, suggested: 0.001", "adam, suggested: 0.001"),
    ]
    assert "No rate moved the loss by more than its noise." in page.text["li"]
    panel = figures_in(text)[4]
    finding = race.findings[1]
    [line] = [t for t in panel["data"] if t.get("name") == "loss of the sweeps"]
    assert line["y"] == [x for x in finding.losses if x is not None]
    assert panel["layout"]["showlegend"] is False


def test_a_race_to_a_target_draws_it_and_tells_the_time_to_it(tmp_path):
    text, page = read(made_up.race(target=0.95), tmp_path)
    loss, score, *_ = figures_in(text)

    assert "shapes" not in loss["layout"]
    assert score["layout"]["shapes"][0]["y0"] == 0.95
    assert "Time to a validation accuracy of 0.95: median over the seeds" in page.text["caption"]


def test_seconds_of_a_fleet_are_said_to_be_a_share(tmp_path):
    assert "a model’s share of the whole fleet’s time" in read(made_up.race(wave=12), tmp_path)[0]
    assert "a model’s share" not in read(made_up.race(), tmp_path)[0]


def test_seconds_that_were_not_measured_cannot_be_chosen(tmp_path):
    race = made_up.race()
    traces = tuple(dataclasses.replace(t, step_seconds=None) for t in race.traces)
    _, page = read(dataclasses.replace(race, traces=traces), tmp_path)

    kinds = [a["value"] for a in page.all("input") if a["type"] == "radio"]
    assert kinds == ["epochs", "steps"]


def test_several_races_begin_with_what_each_found_and_all_tasks_together(tmp_path):
    first = made_up.race(target=0.95)
    races = [first, made_up.follow_up(first), made_up.race(seed=1, task="digits", target=0.96)]
    text, page = read(races, tmp_path)

    assert page.text["h1"] == ["3 races"]
    assert page.text["a"][:3] == [
        "sgd, momentum, rmsprop and adam on mnist",
        "Schedules under the winner",
        "sgd, momentum, rmsprop and adam on digits",
    ]
    assert [a["href"] for a in page.all("a")] == ["#race-1", "#race-1-1", "#race-2"]
    assert page.text["td"][:2] == ["adam wins", "accuracy 0.9669"]
    assert next(said for tag, said in page.heard if tag == "h2") == "All tasks together"
    assert "Performance profile" in page.text["h3"]
    ratios = figures_in(text)[0]["data"]
    assert [t["legendgroup"] for t in ratios] == ["sgd", "momentum", "rmsprop", "adam"]


def test_what_varies_names_the_race(tmp_path):
    race = made_up.race(vary="batch_size", optimizers=["batch_size=32", "batch_size=64"], rates=1)
    _, page = read(race, tmp_path)

    assert page.text["h1"] == ["batch_size: batch_size=32 and batch_size=64 on mnist"]
    assert "Optimizer" not in page.text["th"]


def test_findings_have_a_page_of_their_own(tmp_path):
    findings = made_up.race(found={"adam": Answer.NOISY}).findings
    path = write_findings(findings, tmp_path / "finder.html", EVIL)
    text = path.read_text(encoding="utf-8")
    page = Reader(text)

    assert EVIL not in text
    assert page.text["h1"] == [EVIL]
    assert len(figures_in(text)) == 4
    assert "adam, no answer: noisy" in page.text["h2"]
    with pytest.raises(InputError, match="must have a finding to show; got none"):
        write_findings([], path, "nothing")

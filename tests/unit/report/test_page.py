import dataclasses
import itertools
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

import made_up
from thalweg.errors import InputError
from thalweg.report import summary, write
from thalweg.report.curves import training_loss, validation_score

EVIL = '</script><script>alert("x")</script><img src=x onerror=alert(1)>'


class Reader(HTMLParser):
    """Reads what a browser would see: elements with attributes, and the text by element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements, self.text, self._open = [], {}, []
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
    _, page = read(race, tmp_path)

    assert page.text["li"] == [" ".join(s.split()) for s in summary.sentences(race)]
    first = [tag for tag, _ in page.elements]
    assert first.index("li") < first.index("figure") < first.index("table")


def test_page_holds_three_figures_and_their_numbers(tmp_path):
    race = made_up.race()
    text, page = read(race, tmp_path)
    loss, score, rates = figures_in(text)

    assert loss["data"][-1]["y"] == list(training_loss(race)[-1].median)
    assert score["data"][-1]["y"] == list(validation_score(race)[-1].median)
    assert rates["layout"]["xaxis"]["type"] == "log"
    assert len(page.all("figcaption")) == len(page.all("figure")) == 3


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
    assert len({a["data-figure"] for a in page.all("div") if "data-figure" in a}) == 6


def test_headings_step_down_one_level_at_a_time(tmp_path):
    for races in (made_up.race(), [made_up.race(), made_up.race(seed=1)]):
        _, page = read(races, tmp_path)
        levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]

        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(b <= a + 1 for a, b in itertools.pairwise(levels))


def test_tables_and_figures_can_be_heard(tmp_path):
    _, page = read(made_up.race(), tmp_path)

    assert len(page.all("caption")) == len(page.all("table")) == 7
    assert all(th.get("scope") in ("col", "row") for th in page.all("th"))
    assert all(d.get("aria-label") for d in page.all("div") if d.get("role") == "img")
    assert page.all("html") == [{"lang": "en"}]


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
    assert len(figures_in(text)) == 3
    assert {t["legendgroup"] for t in figures_in(text)[0]["data"]} == {"sgd"}  # adam has no final trial yet
    assert "Final table" not in page.text["h2"]


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

"""What a landscape says and draws: the numbers of the record, and nothing else."""

import dataclasses
import json
import math
import re
import shutil

import pytest
from playwright.sync_api import sync_playwright

from thalweg.records.landscapes import Landscape, Line, Path, Plane
from thalweg.report import landscape as report
from thalweg.report import landscape_figures as figures

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
AXIS = (-1.0, -0.5, 0.0, 0.5, 1.0)


def plane(scale: float = 0.9) -> Plane:
    """A bowl, whose corner is not finite."""
    losses = [[0.1 + scale * (x * x + 2 * y * y) for x in AXIS] for y in AXIS]
    return Plane(
        AXIS,
        AXIS,
        ((None, *losses[0][1:]), *map(tuple, losses[1:])),
        (1.0, 1.0),
        0.0,
    )


def landscape(**changes) -> Landscape:
    path = Path(
        steps=(0, 10, 20, 30),
        x=(0.9, 0.5, 0.2, 0.0),
        y=(0.4, -0.3, -0.1, 0.0),
        off=(0.5, 0.2, 0.1, 0.0),
        loss_on_plane=(1.2, 0.5, 0.2, 0.1),
        loss_real=(2.2, 0.9, 0.25, 0.1),
        explained=(0.6, 0.11),
        random_walk=(0.81, 0.09),
    )
    positions = tuple(i / 8 for i in range(-8, 9))
    line = Line(positions, tuple(tuple(0.1 + k * a * a for a in positions) for k in (1.0, 2.0, 4.0)))
    made = Landscape(
        task="dig<its>",
        recipe={"optimizer": "adam", "rate": 0.001, "batch_size": 32},
        seed=7,
        steps=30,
        restored=False,
        part="train",
        examples=1437,
        parameters=2410,
        filters=42,
        still=42,
        statistics=False,
        center_loss=0.1,
        line=line,
        random=plane(100.0),
        principal=plane(),
        path=path,
        points=109,
        one_by_one="",
        path_bytes=1_000_000,
        training_seconds=1.0,
        measuring_seconds=2.0,
    )
    return dataclasses.replace(made, **changes)


def with_path(**changes) -> Landscape:
    return landscape(path=dataclasses.replace(landscape().path, **changes))


def test_what_the_plane_hides_is_said_first() -> None:
    assert report.sentences(landscape())[0] == (
        "The plane hides up to 1 of loss: before the first update, 1.2 is drawn and 2.2 was real."
    )


def test_a_path_that_can_be_trusted_is_said_to_be_with_both_worst_places() -> None:
    close = with_path(loss_real=(1.21, 0.5, 0.15, 0.1))
    alike = with_path(loss_real=(1.21, 0.5, 0.2, 0.1))

    assert report.sentences(close)[0] == (
        "The drawn path can be read off its contours: the loss there differs from that of the real weights "
        "by at most 0.05 (after 20 updates, 0.2 is drawn and 0.15 was real)."
    )
    assert report.sentences(alike)[0] == (
        "The drawn path can be read off its contours: the loss there differs from that of the real weights "
        "by at most 0.01 (before the first update, 1.2 is drawn and 1.21 was real)."
    )
    proportion = with_path(loss_on_plane=(1.25, 0.5, 0.2, 0.1), loss_real=(1.21, 0.5, 0.23, 0.1))
    assert report.sentences(proportion)[0].endswith(
        "(before the first update, 1.25 is drawn and 1.21 was real); in proportion most after 20 updates, "
        "0.2 is drawn and 0.23 was real."
    )


def test_the_share_is_compared_with_that_of_a_random_walk() -> None:
    assert report.sentences(landscape())[1] == (
        "The plane explains 71.0 % of the path (60.0 % and 11.0 %). Of a random walk with as many moments it "
        "would explain 90.0 %: the share alone tells nothing about the landscape."
    )
    straight = with_path(explained=(0.95, 0.04))
    assert report.sentences(straight)[1].endswith("90.0 %: the path is straighter than that.")


def test_random_directions_are_told_at_both_ends_of_their_lines() -> None:
    assert report.sentences(landscape())[2] == (
        "At the trained weights the loss is 0.1. With each filter moved by α of its length it is 0.35 to 1.1 "
        "at α = ±0.5 and 1.1 to 4.1 at α = ±1, in three random directions."
    )


def test_a_lower_place_lost_losses_and_restored_weights_are_told() -> None:
    line = landscape().line
    lower = (*line.losses[0][:10], 0.01, *line.losses[0][11:])
    said = report.sentences(
        landscape(line=dataclasses.replace(line, losses=(lower, *line.losses[1:])), restored=True)
    )

    assert said[3].startswith("Along a random direction the loss is lower still, 0.01 at 0.25: the training")
    assert said[4] == "Of 109 losses 2 are not finite; they are left blank."
    assert said[5].startswith("The trained weights are the best ones, of an earlier moment than the last")


def test_how_it_was_measured_says_why_not_as_a_fleet() -> None:
    assert report.how(landscape())[2].startswith("109 losses were measured as a fleet.")
    alone = report.how(landscape(one_by_one="it cannot be stacked: so", statistics=True))
    assert alone[2].startswith("109 losses were measured one by one: it cannot be stacked: so.")
    assert "running statistics" in alone[3]


def test_nothing_finite_is_drawn_and_said_all_the_same() -> None:
    none = (None,) * 4
    blank = Plane(AXIS, AXIS, ((None,) * 5,) * 5, (1.0, 1.0), 0.0)
    line = landscape().line
    lost = landscape(
        path=dataclasses.replace(landscape().path, loss_on_plane=none, loss_real=none),
        line=dataclasses.replace(line, losses=((None,) * 17,) * 3),
        random=blank,
        principal=blank,
        center_loss=None,
    )

    assert report.sentences(lost)[0].startswith("At no moment of the path are the losses finite")
    assert report.terminal(lost).startswith("There is no slice to draw")
    assert "<html" in report.html(lost)


def test_json_is_the_record_with_kinds_differences_and_sentences() -> None:
    said = json.loads(json.dumps(report.as_json(landscape()), allow_nan=False))

    assert said["difference"] == pytest.approx([-1.0, -0.4, -0.05, 0.0])
    assert set(said["kinds"]) == {"random", "principal"}
    assert said["principal"]["losses"][0][0] is None
    assert said["principal"]["losses"][2][3] == landscape().principal.losses[2][3]
    assert said["path"]["loss_real"] == [2.2, 0.9, 0.25, 0.1]
    assert said["sentences"] == report.sentences(landscape())


def test_heights_are_logarithms_where_losses_span_decades() -> None:
    assert figures.heights(plane()) == figures.Heights(False, {})
    high = figures.heights(plane(100.0))
    assert high.logarithmic
    assert high.of((10.0, None)) == [1.0, None]
    assert high.ticks["tickvals"] == [math.log10(float(text)) for text in high.ticks["ticktext"]]


def test_a_loss_below_0_is_no_logarithm() -> None:
    low = Plane(AXIS, AXIS, ((-1.0, 1e6, 0.0, 1.0, 2.0),) * 5, (1.0, 1.0), 0.0)
    assert not figures.heights(low).logarithmic


def test_a_path_that_leaves_the_logarithms_takes_the_plane_with_it() -> None:
    deep = with_path(loss_on_plane=(1.2, 0.5, 0.0, -0.1))
    deep = dataclasses.replace(deep, principal=plane(100.0))

    assert figures.heights(deep.principal).logarithmic
    assert json.loads(figures.surface(deep).data)["data"][1]["z"] == [1.2, 0.5, 0.0, -0.1]
    assert report.html(deep)


def test_the_terminal_draws_lowest_median_and_highest_within_its_width() -> None:
    drawn = report.terminal(landscape(), width=60, height=9).splitlines()

    assert len(drawn) == 11
    assert max(map(len, drawn)) <= 60
    assert drawn[-1].split() == ["−1", "α", "along", "random", "directions", "1"]
    assert drawn[0].startswith(" 4.1 ┤")
    assert drawn[8].startswith(" 0.1 ┤")
    assert set(re.sub(r"[^⠀-⣿]", "", "".join(drawn)))


def test_a_page_escapes_what_a_person_named_and_shows_the_conclusion_first() -> None:
    page = report.html(landscape())

    assert "trained on dig&lt;its&gt;" in page
    assert "dig<its>" not in page
    assert page.index("The plane hides up to 1 of loss") < page.index("The path on its principal plane")
    assert page.count('role="img"') == 5


DRAWN = """(name) => document.querySelector(`[data-figure="${name}"]`).data.map(
  t => ({type: t.type, name: t.name, x: t.x, y: t.y, z: t.z, custom: t.customdata}))"""


@pytest.mark.slow
@pytest.mark.skipif(not BROWSER, reason="no chromium on PATH")
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_draws_the_stored_numbers_without_an_error(width, tmp_path) -> None:
    made = landscape()
    page_file = report.write(made, tmp_path / "landscape.html")
    wrong = []
    with sync_playwright() as playwright:
        quiet = ["background-networking", "component-update", "gpu", "quic", "sync"]
        browser = playwright.chromium.launch(
            executable_path=BROWSER,
            args=["--no-sandbox", "--no-first-run", *(f"--disable-{what}" for what in quiet)],
        )
        page = browser.new_context(viewport={"width": width, "height": 900}, offline=True).new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: said.type == "error" and wrong.append(said.text))
        page.on("request", lambda asked: asked.url == page_file.as_uri() or wrong.append(asked.url))
        page.goto(page_file.as_uri())

        contour, _, path, start, end = page.evaluate(DRAWN, "path-1")
        assert (contour["x"], contour["y"]) == (list(AXIS), list(AXIS))
        assert contour["z"] == contour["custom"] == [list(row) for row in made.principal.losses]
        assert (path["x"], path["y"]) == (list(made.path.x), list(made.path.y))
        told = zip(made.path.steps, made.path.loss_on_plane, made.path.loss_real, strict=True)
        assert path["custom"] == [list(row) for row in told]
        assert (start["x"], start["y"], end["x"], end["y"]) == ([0.9], [0.4], [0.0], [0.0])
        on_plane, real = page.evaluate(DRAWN, "path-2")
        assert on_plane["y"] == list(made.path.loss_on_plane)
        assert real["y"] == list(made.path.loss_real)
        relief, along = page.evaluate(DRAWN, "surface")
        assert relief["z"] == contour["z"]
        assert (along["x"], along["y"], along["z"]) == (path["x"], path["y"], on_plane["y"])
        slices = page.evaluate(DRAWN, "random-1")
        assert [s["y"] for s in slices[:3]] == [list(row) for row in made.line.losses]
        (random,) = page.evaluate(DRAWN, "random-2")
        assert random["custom"] == [list(row) for row in made.random.losses]
        logs = [[None if x is None else math.log10(x) for x in row] for row in made.random.losses]
        assert random["z"] == [pytest.approx(row) for row in logs]

        assert page.evaluate("document.documentElement.scrollWidth") == width
        page.locator('input[data-show="on the plane"]').focus()
        page.keyboard.press("Space")
        shown = """document.querySelector('[data-figure="path-2"]').data.map(t => t.visible !== false)"""
        assert page.evaluate(shown) == [False, True]
        browser.close()
    assert wrong == []

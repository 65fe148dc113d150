"""A comparison in words, in the terminal, as data and as a page: nothing else than what was measured."""

import json
import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from plotly.offline import get_plotlyjs

from thalweg.errors import InputError
from thalweg.functions.catalogue import NAMES, surface
from thalweg.functions.escape import escapes, saddle_of
from thalweg.functions.paths import compare
from thalweg.functions.view import view
from thalweg.functions.walks import method
from thalweg.report import surface as page
from thalweg.report import surface_words
from thalweg.report.drawing import styles
from thalweg.report.surface_terminal import terminal
from unit.functions.trees import texts

FORMULAS = [
    "(w - 3)^2",
    "x^2 - y^2",
    "log(x)^2 + (y - 2)^2",
    "abs(x) + abs(y)",
    "sqrt(x) + y^2",
    "x",
    "0*x + 1",
]


def run(text, names="sgd,momentum,rmsprop,adam", steps=60, start=None, rates=None, **more):
    return compare(surface(text), [method(name) for name in names.split(",")], steps, start, rates, **more)


def said(found, saddle=None, left=()):
    return " ".join(surface_words.sentences(found, saddle, left))


def escaped(found, runs=50, steps=300):
    saddle = saddle_of(found.surface, found.start)
    return saddle, [
        escapes(found.surface, method(p.optimizer), p, found.start, saddle, runs, steps, 0.01, 0)
        for p in found.paths
    ]


def test_the_first_sentence_says_who_arrives_first():
    found = run("quadratic:1", "sgd,momentum", 300, (4.0, 0.0), {"sgd": [0.1, 0.5], "momentum": [1e-6]})

    first, *rest = surface_words.sentences(found, None, ())
    assert first == (
        "sgd at 0.5 arrives first: from step 9 on it stays within 0.01 of (0, 0). "
        "Then sgd at 0.1 at step 57. momentum does not arrive."
    )
    assert rest == ["The rates were given."]


def test_a_tie_is_admitted_and_nobody_is_an_answer():
    tie = run("quadratic:1", "sgd,adam", 5, rates={"sgd": [0.1], "adam": [0.1]}, within=9.0)
    nobody = run("rosenbrock", "sgd", 5, rates={"sgd": [1e-6]})

    assert said(tie).startswith("A tie: sgd and adam arrive first, from step 0 on within 9 of a minimum.")
    assert said(nobody).startswith(
        "Nobody arrives: in 5 steps no path comes within 0.01 of a minimum and stays. sgd ends nearest, 2.2"
    )


def test_it_is_said_which_of_several_minima_each_reaches():
    found = run("himmelblau", "sgd,adam", 300)

    assert "Of the four minima: sgd and adam at (3, 2)." in said(found)


def test_divergence_and_falling_without_bound_are_told_apart():
    wild = run("booth", "sgd", 50, rates={"sgd": [1.0]})
    falling = run("x^2 - y^2", "sgd", 300, rates={"sgd": [0.1]})
    never = run("w^4 - 1e30*w", "sgd", 50)

    # The error grows by 1 − 1 · 18 along the steep axis: 17⁵ is over a million.
    assert "Nobody arrives" in said(wild)
    assert f"sgd diverges: at step {wild.paths[0].diverged_at} it is over a million times" in said(wild)
    assert "sgd falls without bound: at step" in said(falling)
    assert "at every rate of the grid; the lowest is shown" in said(never)


def test_the_saddle_is_no_minimum_and_noise_leaves_it():
    still, noisy = run("saddle", "sgd", 300), run("saddle", "sgd", 300, noise=0.01)
    saddle, left = escaped(noisy)

    quiet = said(still, saddle)
    assert "sgd ends at the saddle (0, 0), where the gradient is zero: no minimum" in quiet
    assert "--noise 0.01 --runs 200" in quiet
    loud = said(noisy, saddle, left)
    one = left[0]
    assert "Escape from the saddle (0, 0): the first step at which the value is more than 0.25 below" in loud
    assert f"escapes in {one.escaped} of 50 runs within 300 steps" in loud
    assert f"predicts a median of {one.predicted:,.0f}." in loud
    assert "variance 0.01 a coordinate" not in loud
    assert "normal noise of variance 0.01 (seed 0), the same for all paths" in loud


def test_how_rates_were_chosen_is_said():
    chosen = said(run("booth", "sgd,adam"))
    mixed = said(run("booth", "sgd,adam", rates={"adam": [0.1]}))
    edge = said(run("1 - exp(-(x^2 + y^2)/2)", "sgd", 50, start=(4.5, 0.0)))

    assert "Each optimizer ran at the same 29 rates from 1e-06 to 10 and is shown at its best" in chosen
    assert "Given was the rate of adam." in mixed
    assert "The best rate of sgd is the highest of the grid: a higher one may be better." in edge


def test_a_minimum_that_was_found_is_not_called_known():
    assert "No minimum was known; Newton's method, from where paths end, found (3). There may be" in said(
        run("(w - 3)^2", "sgd")
    )
    assert "No minimum of this function is known" in said(run("x - y", "sgd"))


@pytest.mark.parametrize("text", [*NAMES, *FORMULAS])
def test_the_drawing_fits_80_columns_and_has_no_colour_unless_asked(text):
    found = run(text)
    plain, coloured = terminal(found, view(found)), terminal(found, view(found), colour=True)

    assert max(map(len, plain.splitlines())) <= 80
    assert "\x1b" not in plain
    assert re.sub(r"\x1b\[\d+m", "", coloured) == plain
    assert coloured != plain
    for mark in ("a sgd", "b momentum", "c rmsprop", "d adam", "S start"):
        assert mark in plain
    assert "S" in plain.split("S start")[0]


def test_the_drawing_shows_where_start_and_minimum_are():
    found = run("booth", "sgd", 100)
    rows = terminal(found, view(found)).splitlines()
    top, bottom, left, right = 7, -5, -6, 6

    at = {
        mark: next((i, row.rindex(mark)) for i, row in enumerate(rows[1:25]) if mark in row) for mark in "S*"
    }
    for mark, (x, y) in (("S", (-4, -3)), ("*", (1, 3))):
        row, column = at[mark]
        assert row == pytest.approx(24 * (top - y) / (top - bottom), abs=1)
        assert column - 4 == pytest.approx(74 * (x - left) / (right - left), abs=1.5)


@pytest.mark.parametrize("text", [*NAMES, *FORMULAS, "w^4 - 1e30*w"])
def test_the_data_has_no_nan_and_the_path_ends_where_it_is_said(text):
    found = run(text, rates={"sgd": [1e-3, 10.0]})
    read = json.loads(json.dumps(surface_words.as_json(found, None, ()), allow_nan=False))

    assert read["function"] == found.surface.name
    assert read["escape"] is None
    for one, path in zip(read["optimizers"], found.paths, strict=True):
        assert one["path"]["steps"][-1] == len(path.points) - 1
        assert one["path"]["points"][0] == list(found.start)
        if one["diverged_at"] is None:
            assert one["path"]["points"][-1] == one["final"]["at"] == path.points[-1].tolist()
            assert one["final"]["value"] == path.values[-1]
        else:
            assert one["final"] == {"at": None, "value": None, "distance": None}
        assert len(one["grid"]) == (0 if one["name"] == "sgd" else 29)


def test_the_data_of_escapes():
    found = run("saddle", "sgd,adam", 300, noise=0.01)
    saddle, left = escaped(found)
    read = surface_words.as_json(found, saddle, left)["escape"]

    assert (read["saddle"], read["value"], read["drop"]) == ([0.0, 0.0], 0.0, 0.25)
    assert [one["label"] for one in read["optimizers"]] == ["sgd", "adam"]
    assert read["optimizers"][0]["share"] == left[0].escaped / 50
    assert read["optimizers"][1]["predicted_median"] is None


@pytest.mark.parametrize("text", ["rosenbrock", "saddle", "(w - 3)^2", "x^2 - y^2", "sqrt(x) + y^2"])
def test_the_page_holds_all_and_stays_small(text, tmp_path):
    found = run(text, "sgd,adam", 600)
    seen = view(found)

    path = page.write_surface(found, seen, None, (), tmp_path / "new" / "surface.html")

    written = path.read_text()
    assert len(written) - len(get_plotlyjs()) < 800_000
    for sentence in surface_words.sentences(found, None, ()):
        assert sentence.replace("'", "&#39;") in written
    assert f"<code>{found.surface.text}</code>" in written or f"<h1>{found.surface.text}</h1>" in written
    looks = styles(one.label for one in found.paths)
    if len(seen.box) == 2:
        figure = page.level_lines(found, seen, looks)
        lines = [t for t in figure.data if t.type == "scatter" and t.mode == "lines"]
        assert len(page.mountain(found, seen, looks).data) == 1 + 2 * len(found.paths)
    else:
        lines = [t for t in page.curve(found, seen, looks).data if t.customdata is not None]
    for line, one in zip(lines, found.paths, strict=True):
        assert line.x[0] == found.start[0]
        assert line.x[-1] == one.points[-1, 0]
        assert line.customdata[-1] == len(one.points) - 1
        assert len(line.x) <= 500


@settings(max_examples=60)
@given(texts, st.sampled_from([0.0, 0.01]))
def test_whatever_the_formula_all_of_it_can_be_drawn_and_said(text, noise):
    try:
        found = run(text, "sgd,adam", 15, noise=noise)
    except InputError:  # no value or no gradient at the start
        assume(False)
    seen, looks = view(found), styles(one.label for one in found.paths)

    assert max(map(len, terminal(found, seen).splitlines())) <= 80
    assert all(low < high for low, high in seen.box)
    json.dumps(surface_words.as_json(found, None, ()), allow_nan=False)
    assert len(surface_words.results(found).rows) == 2
    page.distances(found, looks)


def test_words_of_points_hide_rounding():
    assert surface_words.point((1.0, -0.5)) == "(1, −0.5)"
    assert surface_words.point((1e-17, 2.0)) == "(0, 2)"

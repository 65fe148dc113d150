"""The drawings of schedules, read back as numbers."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from thalweg.errors import InputError
from thalweg.report.schedule_figure import DOTS, figure, svg, terminal
from thalweg.schedules import Cosine, Linear, OneCycle, WarmRestarts, Warmup

SVG = "{http://www.w3.org/2000/svg}"
T = np.arange(101)
CURVES = [("cosine", T, Cosine(length=100)(T)), ("one-cycle", T, OneCycle(length=101)(T))]


def dot_rows(drawing: str, height: int) -> list[list[int]]:
    """Read a drawing of one curve back: for each dot column the rows that are set, from the top."""
    canvas = [re.split("[┤│]", line, maxsplit=1)[1] for line in drawing.splitlines()[:height]]
    width = max(len(line) for line in canvas)
    columns: list[list[int]] = [[] for _ in range(2 * width)]
    for row, line in enumerate(canvas):
        for column, character in enumerate(line):
            bits = ord(character) - 0x2800 if character != " " else 0
            for y in range(4):
                for x in range(2):
                    if bits & DOTS[y][x]:
                        columns[2 * column + x].append(4 * row + y)
    return columns


def test_the_dots_of_the_terminal_follow_the_curve_to_one_dot() -> None:
    t = np.arange(1001)
    factors = Cosine(length=1000)(t)
    columns = dot_rows(terminal([("cosine", t, factors)], width=63, height=15), 15)

    assert len(columns) == 2 * (63 - 3 - 2)  # the width less the labels, a blank and the axis
    middles = (np.arange(len(columns)) + 0.5) / len(columns) * 1000
    wanted = (1 - np.interp(middles, t, factors)) * (4 * 15 - 1)
    for rows, row in zip(columns, wanted, strict=True):
        assert min(rows) - 1 <= row <= max(rows) + 1


def test_the_highest_dot_of_the_terminal_is_in_the_column_where_the_curve_peaks() -> None:
    t = np.arange(1001)
    columns = dot_rows(terminal([("one-cycle", t, OneCycle(length=1001)(t))], width=63, height=16), 16)

    highest = [column for column, rows in enumerate(columns) if 0 in rows]
    assert abs(np.mean(highest) / len(columns) - 0.3) < 0.01
    assert max(highest) - min(highest) < len(columns) * 0.15


def test_each_restart_reaches_the_top_of_the_terminal_however_narrow_it_is() -> None:
    t = np.arange(1001)
    columns = dot_rows(
        terminal([("restarts", t, WarmRestarts(first=10, multiplier=3)(t))], width=64, height=9), 9
    )

    for restart in (10, 40, 130, 400):
        assert 0 in columns[int(restart / 1000 * len(columns))]


def test_several_curves_carry_their_letters_where_they_are_and_a_legend_explains_them() -> None:
    lines = terminal(
        [("up", T, Linear(length=100, start=0, stop=1)(T)), ("down", T, Linear(length=100)(T))]
    ).split("\n")
    canvas = lines[:15]

    assert [line.split() for line in lines[-2:]] == [["a", "up"], ["b", "down"]]
    for letter, sign in (("a", -1), ("b", 1)):
        places = [(row, line.index(letter)) for row, line in enumerate(canvas) if letter in line]
        assert len(places) >= 4
        slopes = np.diff([row for row, _ in places]) * np.diff([column for _, column in places])
        assert (np.sign(slopes) == sign).all()


def test_the_terminal_drawing_keeps_its_width_and_is_plain_unless_colour_is_asked() -> None:
    for width in (30, 72, 120):
        plain = terminal(CURVES, width=width)
        assert max(len(line) for line in plain.splitlines()) == width
        assert "\x1b" not in plain
    coloured = terminal(CURVES, colour=True)
    assert "\x1b[34m" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == terminal(CURVES)


def test_the_terminal_axes_say_factors_ticks_and_clock() -> None:
    lines = terminal([("half", [0, 500], [0.5, 0.0])], height=5, clock="tokens").splitlines()

    assert [line.split()[0] for line in (lines[0], lines[2], lines[4])] == ["0.5", "0.25", "0"]
    assert lines[6].split() == ["0", "tokens", "500"]


def test_a_curve_of_zeros_is_drawn_along_the_axis() -> None:
    columns = dot_rows(terminal([("nothing", [0, 10], [0, 0])], height=4), 4)

    assert all(rows == [15] for rows in columns)


def test_curves_of_different_lengths_share_the_axis() -> None:
    short = terminal([("short", [0, 50], [1, 1]), ("long", [0, 100], [0, 0])], width=60, height=5)
    top = short.splitlines()[0]

    assert abs((len(top) - 3) / (60 - 3) - 0.5) < 0.03


def test_the_points_of_the_svg_map_back_to_the_numbers() -> None:
    root = ElementTree.fromstring(svg(CURVES))
    frame = root.find(f".//{SVG}path")
    assert frame is not None
    left, upper, lower, right = map(float, re.findall(r"[\d.]+", frame.attrib["d"]))
    first, last = map(float, frame.attrib["data-x"].split())
    low, high = map(float, frame.attrib["data-y"].split())

    lines = root.findall(f".//{SVG}polyline")
    assert len(lines) == 2
    for line, (_, ticks, factors) in zip(lines, CURVES, strict=True):
        x, y = np.array([point.split(",") for point in line.attrib["points"].split()], float).T
        # points are written to 0.01 of a pixel
        np.testing.assert_allclose(
            first + (x - left) / (right - left) * (last - first), ticks, atol=0.006 * 100 / (right - left)
        )
        np.testing.assert_allclose(
            low + (lower - y) / (lower - upper) * (high - low), factors, atol=0.006 / (lower - upper)
        )


def test_the_svg_has_ticks_a_legend_and_harmless_names() -> None:
    root = ElementTree.fromstring(svg([("<script>&", T, Warmup(length=10)(T))], clock="tokens"))
    texts = [text.text for text in root.iter(f"{SVG}text")]

    assert "<script>&" in texts
    assert "tokens" in texts
    assert {"0", "0.2", "1", "20", "100"} <= set(texts)
    assert not list(root.iter(f"{SVG}script"))


def test_curves_in_the_svg_differ_in_colour_and_dash() -> None:
    lines = ElementTree.fromstring(svg(CURVES)).findall(f".//{SVG}polyline")

    assert len({line.attrib["stroke"] for line in lines}) == 2
    assert len({line.attrib["stroke-dasharray"] for line in lines}) == 2


def test_the_plotly_figure_holds_the_numbers_under_their_names() -> None:
    drawn = figure([*CURVES, ("<b>", T, T / 100)], clock="tokens")

    assert [trace.name for trace in drawn.data] == ["cosine", "one-cycle", "&lt;b&gt;"]
    for trace, (_, ticks, factors) in zip(drawn.data, CURVES, strict=False):
        np.testing.assert_array_equal(trace.x, ticks)
        np.testing.assert_array_equal(trace.y, factors)
    assert drawn.layout.xaxis.title.text == "tokens"


@pytest.mark.parametrize("draw", [terminal, figure, svg])
@pytest.mark.parametrize(
    ("curves", "message"),
    [
        ([], "at least one curve"),
        ([("a", [0, 1], [1])], "a factor for each of at least two rising ticks"),
        ([("a", [0], [1])], "a factor for each of at least two rising ticks"),
        ([("a", [1, 0], [1, 1])], "a factor for each of at least two rising ticks"),
        ([("a", [0, 1], [1, float("nan")])], "be finite numbers of at least 0"),
        ([("a", [0, 1], [1, -1])], "be finite numbers of at least 0"),
    ],
)
def test_curves_that_cannot_be_drawn_are_refused(draw, curves, message) -> None:
    with pytest.raises(InputError, match=message):
        draw(curves)

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import made_up
from thalweg.records import Answer, ShortRate
from thalweg.report import finder

FOUND = made_up.finding("adam")


def drawn(figure, name):
    return next(t for t in figure.data if t.name == name)


def test_the_curve_the_band_and_the_short_race_are_drawn_as_they_are():
    figure = finder.figure(FOUND)
    loss, short = drawn(figure, "loss of the sweeps"), drawn(figure, "short race")
    low, high = (t for t in figure.data if t.line.width == 0)
    known = [i for i, x in enumerate(FOUND.losses) if x is not None]

    assert 0 < len(known) < len(FOUND.rates)  # the sweeps leave all bounds
    assert loss.x == low.x == high.x == tuple(FOUND.rates[i] for i in known)
    assert loss.y == tuple(FOUND.losses[i] for i in known)
    assert low.y == tuple(FOUND.losses_low[i] for i in known)
    assert high.y == tuple(FOUND.losses_high[i] for i in known)
    assert short.x == tuple(s.rate for s in FOUND.short[:4])
    assert short.y == pytest.approx([sum(s.losses) / 2 for s in FOUND.short[:4]])
    assert drawn(figure, "short race diverged").x == (FOUND.short[4].rate,)


def test_the_interval_the_suggestion_and_the_divergence_are_drawn_as_they_are():
    stripe, line, edge = finder.figure(FOUND).layout.shapes

    assert (stripe.type, stripe.x0, stripe.x1) == ("rect", FOUND.low, FOUND.high)
    assert (line.x0, line.x1) == (FOUND.suggestion, FOUND.suggestion)
    assert (edge.x0, edge.x1, edge.line.dash) == (FOUND.diverges_at, FOUND.diverges_at, "dot")


@pytest.mark.parametrize("outcome", Answer)
def test_no_answer_draws_nothing_that_was_not_concluded(outcome):
    finding = made_up.finding("adam", outcome)
    names = [shape.name for shape in finder.figure(finding).layout.shapes]

    found = ["not told apart", "suggested"] if outcome is Answer.FOUND else []
    assert names == found + ([] if outcome is Answer.FLAT else ["diverges"])


def test_what_rises_above_the_beginning_leaves_the_picture():
    low, high = finder.view(FOUND)
    losses = [x for x in FOUND.losses if x is not None]

    assert low < min(losses)
    assert 1.25 * losses[0] <= high < max(losses)
    assert tuple(finder.figure(FOUND).layout.yaxis.range) == (low, high)


def test_losses_over_decades_have_a_logarithmic_axis():
    losses = tuple(None if x is None else 10 ** (4 * (x - 3)) for x in FOUND.losses)
    finding = dataclasses.replace(FOUND, losses=losses, short=())
    axis = finder.figure(finding).layout.yaxis

    assert axis.type == "log"
    assert axis.range == pytest.approx([math.log10(x) for x in finder.view(finding)])


def test_the_terminal_shows_curve_conclusions_and_legend():
    lines = finder.terminal(FOUND, width=60, height=6).splitlines()
    ruler = lines[7]

    assert max(map(len, lines)) <= 60
    assert [line[6] for line in lines[:6]] == ["┤", "│", "│", "│", "│", "┤"]
    assert sum(line.count("○") for line in lines[:6]) == 4
    assert ruler.index("├") < ruler.index("◆") < ruler.index("┤") < ruler.index("×")
    assert lines[8].split() == ["1e-07", "learning", "rate", "0.1"]
    legend = " ".join(" ".join(lines[9:]).split())
    assert legend == (
        "◆ suggested: 0.001 ├─┤ not told apart: 0.000333 to 0.003 × diverges: from 0.0316 "
        "○ short race: up to 430 updates"
    )


def test_marks_of_the_terminal_stand_in_the_columns_of_their_rates():
    lines = finder.terminal(FOUND, width=70, height=8).splitlines()
    canvas, ruler = lines[0].index("┤") + 1, lines[9]
    columns, decades = 70 - canvas, 6  # the rates go from 1e-7 to 0.1

    for mark, rate in (
        ("├", FOUND.low),
        ("◆", FOUND.suggestion),
        ("┤", FOUND.high),
        ("×", FOUND.diverges_at),
    ):
        wanted = (math.log10(rate) + 7) / decades * columns
        assert ruler.index(mark) - canvas == int(wanted)


def test_the_dots_of_the_terminal_fall_and_rise_with_the_loss():
    rates = tuple(10.0**k for k in range(-4, 1))
    finding = dataclasses.replace(
        FOUND, rates=rates, losses=(2.0, 2.0, 1.0, 2.0, 2.0), losses_low=(None,) * 5, losses_high=(None,) * 5,
        suggestion=None, low=None, high=None, diverges_at=None, short=(),
    )  # fmt: skip
    lines = finder.terminal(finding, width=46, height=4).splitlines()
    start = lines[0].index("┤") + 1
    top, bottom = lines[0][start:], lines[3][start:].rstrip()

    assert top[0] != " "
    assert top[-1] != " "
    assert set(top[14:26]) == {" "}
    assert {place for place, dots in enumerate(bottom) if dots != " "} <= set(range(14, 26))
    assert [line for line in lines if "◆" in line or "×" in line] == []


def test_without_losses_there_is_no_curve_and_that_is_said():
    nothing = dataclasses.replace(FOUND, losses=(None,) * len(FOUND.rates), short=())

    assert finder.terminal(nothing) == "There is no curve to draw: fewer than two rates have a loss."
    assert drawn(finder.figure(nothing), "loss of the sweeps").x == ()


@given(
    st.lists(st.floats(-1e6, 1e6) | st.none(), min_size=2, max_size=30),
    st.lists(st.floats(-1e6, 1e6) | st.none(), max_size=3),
    st.integers(40, 100),
)
def test_whatever_was_measured_can_be_drawn(losses, short, width):
    rates = tuple(10 ** (-5 + i / 4) for i in range(len(losses)))
    finding = dataclasses.replace(
        FOUND,
        rates=rates,
        losses=tuple(losses),
        losses_low=tuple(losses),
        losses_high=tuple(losses),
        short=tuple(ShortRate(rate, (loss,)) for rate, loss in zip(rates, short, strict=False)),
    )
    low, high = finder.view(finding)

    assert low < high
    assert all(low <= x for x in losses if x is not None)
    assert all(low <= x <= high for x in short[: len(rates)] if x is not None)
    assert max(map(len, finder.terminal(finding, width=width).splitlines())) <= width
    finder.figure(finding)

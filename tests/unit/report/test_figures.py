import pytest

import made_up
from thalweg.report import figures
from thalweg.report.curves import training_loss, validation_score
from thalweg.report.rates import score_by_rate

RACE = made_up.race(diverged={"sgd": 2})
LOOKS = figures.styles(c.name for c in RACE.plan.contenders)


def contrast(a: str, b: str) -> float:
    """Contrast ratio of two colours (Web Content Accessibility Guidelines 2.2, 1.4.11)."""
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("page", ["#ffffff", "#14171b"])
@pytest.mark.parametrize("colour", figures.COLOURS)
def test_every_line_stands_out_on_light_and_on_dark(colour, page):
    assert contrast(colour, page) >= 3  # what the guidelines ask of graphics


def test_no_two_of_forty_optimizers_look_the_same():
    looks = figures.styles(f"optimizer-{i}" for i in range(40)).values()

    assert len({(look.colour, look.dash) for look in looks}) == 40


def test_eight_optimizers_differ_without_colour():
    looks = figures.styles(f"optimizer-{i}" for i in range(8)).values()

    assert len({(look.dash, look.marker) for look in looks}) == 8


def test_a_curve_is_drawn_as_it_is():
    curves = training_loss(RACE)
    figure = figures.curves(curves, LOOKS)
    lines = [trace for trace in figure.data if trace.line.width]

    assert [line.name for line in lines] == [c.optimizer for c in curves]
    for curve, line in zip(curves, lines, strict=True):
        assert (line.x, line.y) == (curve.epochs, curve.median)
        low, high = (t for t in figure.data if t.legendgroup == curve.optimizer and not t.line.width)
        assert (low.y, high.y) == (curve.low, curve.high)


def test_loss_over_decades_has_a_logarithmic_axis_and_accuracy_has_not():
    loss, accuracy = training_loss(RACE), validation_score(RACE)

    assert figures.curves(loss, LOOKS).layout.yaxis.type == "log"
    assert figures.curves(accuracy, LOOKS).layout.yaxis.type == "linear"


def test_rates_show_means_chosen_rate_and_divergence():
    curves = score_by_rate(RACE)
    figure = figures.score_by_rate(curves, LOOKS)
    adam = next(c for c in curves if c.optimizer == "adam")
    drawn = [t for t in figure.data if t.legendgroup == "adam"]
    line = next(t for t in drawn if t.mode == "lines+markers")
    ring = next(t for t in drawn if t.marker.symbol == "circle-open")
    crosses = next(t for t in drawn if t.marker.symbol == "x-thin")

    assert figure.layout.xaxis.type == "log"
    assert list(line.x) == [p.rate for p in adam.points if p.mean is not None]
    assert list(line.y) == [p.mean for p in adam.points if p.mean is not None]
    assert list(ring.x) == [p.rate for p in adam.points if p.chosen] == [0.001]
    assert list(crosses.x) == [p.rate for p in adam.points if p.diverged]


def test_names_cannot_be_markup():
    race = made_up.race(optimizers=["<b>sgd</b>"])
    looks = figures.styles(["<b>sgd</b>"])
    drawn = figures.curves(training_loss(race), looks).data[-1]

    assert drawn.name == "&lt;b&gt;sgd&lt;/b&gt;"


def test_nothing_to_draw_is_an_empty_figure():
    assert figures.curves([], {}).data == ()
    assert figures.score_by_rate([], {}).data == ()

import pytest

import made_up
from thalweg.evidence.profile import performance_profile
from thalweg.report import figures
from thalweg.report.curves import training_loss, validation_score
from thalweg.report.drawing import styles
from thalweg.report.rates import score_by_rate

RACE = made_up.race(diverged={"sgd": 2}, target=0.95)
LOOKS = styles(c.name for c in RACE.plan.contenders)


def test_a_curve_is_drawn_as_it_is():
    curves = training_loss(RACE)
    figure = figures.curves(curves, LOOKS)
    lines = [trace for trace in figure.data if trace.line.width]

    assert [line.name for line in lines] == [c.optimizer for c in curves]
    for curve, line in zip(curves, lines, strict=True):
        assert (line.x, line.y) == (curve.epochs, curve.median)
        low, high = (t for t in figure.data if t.legendgroup == curve.optimizer and not t.line.width)
        assert (low.y, high.y) == (curve.low, curve.high)


def test_a_curve_can_be_drawn_along_epochs_steps_and_seconds():
    curves = training_loss(RACE)
    axes = figures.axes(curves)

    assert list(axes) == ["epochs", "steps", "seconds"]  # the figure begins with the first
    for curve in curves:
        own = {kind: axis["x"][curve.optimizer] for kind, axis in axes.items()}
        assert own == {"epochs": curve.epochs, "steps": curve.steps, "seconds": curve.seconds}


def test_loss_over_decades_has_a_logarithmic_axis_and_accuracy_has_not():
    loss, accuracy = training_loss(RACE), validation_score(RACE)

    assert figures.curves(loss, LOOKS).layout.yaxis.type == "log"
    assert figures.curves(accuracy, LOOKS).layout.yaxis.type == "linear"


def test_the_target_is_a_line_across():
    [line] = figures.curves(validation_score(RACE), LOOKS, target=0.95).layout.shapes

    assert (line.y0, line.y1, line.xref) == (0.95, 0.95, "x domain")
    assert line.label.text == "target 0.95"
    assert figures.curves(training_loss(RACE), LOOKS).layout.shapes == ()


def test_rates_show_means_chosen_rate_and_divergence():
    curves = score_by_rate(RACE)
    figure = figures.score_by_rate(curves, LOOKS)
    adam = next(c for c in curves if c.optimizer == "adam")
    drawn = [t for t in figure.data if t.legendgroup == "adam"]
    line = next(t for t in drawn if t.mode == "lines+markers" and t.yaxis is None)
    ring = next(t for t in drawn if t.marker.symbol == "circle-open")
    crosses = next(t for t in drawn if t.marker.symbol == "x-thin")

    assert figure.layout.xaxis.type == "log"
    assert list(line.x) == [p.rate for p in adam.points if p.mean is not None]
    assert list(line.y) == [p.mean for p in adam.points if p.mean is not None]
    assert list(ring.x) == [p.rate for p in adam.points if p.chosen] == [0.001]
    assert list(crosses.x) == [p.rate for p in adam.points if p.diverged]


@pytest.mark.parametrize(
    ("rates", "ends"),
    [((0.01, 0.1), ["triangle-left", "triangle-right"]), ((1e-9, 0.03, 10.0), ["line-ns", "line-ns"])],
)
def test_the_basin_is_a_bar_from_end_to_end_with_arrows_where_it_is_open(rates, ends):
    race = made_up.with_scores({"sgd": {r: [0.5, 0.9] if 1e-6 < r < 1 else [0.1, 0.1] for r in rates}})
    [curve] = score_by_rate(race)
    [bar] = [t for t in figures.score_by_rate([curve], LOOKS).data if t.yaxis == "y2"]

    assert bar.x == (curve.basin.low, curve.basin.high)
    assert bar.y == ("sgd", "sgd")
    assert list(bar.marker.symbol) == ends


def test_best_of_k_begins_where_there_is_an_expectation():
    race = made_up.with_scores({"sgd": {0.01: [0.5], 0.1: [0.7], 1.0: [None]}})
    [line] = figures.best_of_k(score_by_rate(race), LOOKS).data

    assert line.x == (2, 3)  # a single one of the three may diverge
    assert line.y == (pytest.approx((0.5 + 0.7 + 0.7) / 3), 0.7)


def test_a_profile_steps_up_at_the_ratios_of_each():
    found = performance_profile({"sgd": [10, 30, None], "adam": [20, 15, 9]})
    sgd, adam = figures.profile(found, LOOKS).data

    assert sgd.line.shape == adam.line.shape == "hv"
    assert (sgd.x, sgd.y) == ((1.0, 2.0, 4.0), (1 / 3, 2 / 3, 2 / 3))
    assert (adam.x, adam.y) == ((1.0, 2.0, 4.0), (2 / 3, 1.0, 1.0))


def test_names_cannot_be_markup():
    race = made_up.race(optimizers=["<b>sgd</b>"])
    looks = styles(["<b>sgd</b>"])
    measured = score_by_rate(race)
    drawn = (
        figures.curves(training_loss(race), looks),
        figures.score_by_rate(measured, looks),
        figures.best_of_k(measured, looks),
    )

    for figure in drawn:
        assert {t.name for t in figure.data if t.name} == {"&lt;b&gt;sgd&lt;/b&gt;"}
        assert "<b>" not in str(figure.layout)


def test_a_long_name_beside_the_strip_is_cut():
    race = made_up.race(optimizers=["an-optimizer-with-a-long-name"])
    figure = figures.score_by_rate(score_by_rate(race), styles(["an-optimizer-with-a-long-name"]))

    assert figure.layout.yaxis2.ticktext == ("an-optimizer-with…",)


def test_nothing_to_draw_is_an_empty_figure():
    assert figures.curves([], {}).data == ()
    assert figures.score_by_rate([], {}).data == ()
    assert figures.best_of_k([], {}).data == ()

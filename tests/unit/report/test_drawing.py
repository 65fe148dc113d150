import pytest

from thalweg.report import drawing


def contrast(a: str, b: str) -> float:
    """Contrast ratio of two colours (Web Content Accessibility Guidelines 2.2, 1.4.11)."""
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("page", ["#ffffff", "#14171b"])
@pytest.mark.parametrize("colour", drawing.COLOURS)
def test_every_line_stands_out_on_light_and_on_dark(colour, page):
    assert contrast(colour, page) >= 3  # what the guidelines ask of graphics


def test_no_two_of_forty_optimizers_look_the_same():
    looks = drawing.styles(f"optimizer-{i}" for i in range(40)).values()

    assert len({(look.colour, look.dash) for look in looks}) == 40


def test_eight_optimizers_differ_without_colour():
    looks = drawing.styles(f"optimizer-{i}" for i in range(8)).values()

    assert len({(look.dash, look.marker) for look in looks}) == 8


def test_what_spans_decades_has_a_logarithmic_axis():
    assert drawing.scale(0.02, 2.0)["type"] == "log"
    assert drawing.scale(0.1, 2.0)["type"] == "linear"
    assert drawing.scale(-0.1, 2.0)["type"] == "linear"


@pytest.mark.parametrize(
    ("rates", "shown"),
    [((0.001, 0.1), ["0.001", "0.01", "0.1"]), ((1e-7, 10.0), ["1e-06", "0.0001", "0.01", "1"])],
)
def test_the_rates_on_an_axis_are_few_enough_to_be_read(rates, shown):
    axis = drawing.rate_axis(rates, labels=5)
    inside = [
        text for x, text in zip(axis["tickvals"], axis["ticktext"], strict=True) if rates[0] <= x <= rates[1]
    ]

    assert inside == shown

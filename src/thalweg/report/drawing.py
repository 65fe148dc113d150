"""How every figure of a report looks: colours, layout, axes.

A figure has no background and no ink of its own beyond the lines: the page colours text and grid,
light or dark, and has the legend beside it. Optimizers differ in colour, in dash and in marker, so
that no colour is needed to tell them apart.
"""

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from thalweg.report import words

# Hues by Okabe and Ito ("Color Universal Design", 2008), which people with any colour vision tell
# apart; the light ones are darkened until each has a contrast of 3 to white and to the dark page.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#c261a0", "#a87800", "#3d94c9", "#7d7d7d", "#8a63d2")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
MARKERS = ("circle", "square", "diamond", "triangle-up", "star", "triangle-down", "hexagon", "pentagon")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
INK = "#6b7280"  # readable on white and on black; the page sets a better one for each
FAINT = "rgba(128, 128, 128, 0.25)"

MARGIN = {"l": 44, "r": 10, "t": 12, "b": 56}


@dataclass(frozen=True)
class Style:
    """How one optimizer looks in every figure of a report."""

    colour: str
    dash: str
    marker: str


def styles(optimizers: Iterable[str]) -> dict[str, Style]:
    """Give each optimizer its look, in the order of first appearance.

    >>> styles(["sgd", "adam", "sgd"])["adam"]
    Style(colour='#d55e00', dash='dash', marker='square')
    """
    return {
        name: Style(COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)], MARKERS[i % len(MARKERS)])
        for i, name in enumerate(dict.fromkeys(optimizers))
    }


def layout(height: int) -> dict[str, object]:
    """Make the layout of a figure: see-through and without a legend."""
    return {
        "template": "none",
        "height": height,
        "autosize": True,
        "margin": MARGIN,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 12, "color": INK},
        "showlegend": False,
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": "#1b1f24", "font": {"family": FONT, "size": 12, "color": "#ffffff"}},
    }


def axis(title: str | None) -> dict[str, object]:
    """Make an axis with its title."""
    return {
        "title": {"text": title and safe(title), "standoff": 10, "font": {"size": 13}},
        "gridcolor": FAINT,
        "linecolor": FAINT,
        "zeroline": False,
        "showline": True,
        "automargin": True,
        "exponentformat": "none",
        "separatethousands": True,
    }


def scale(lowest: float, highest: float) -> dict[str, object]:
    """Choose a logarithmic axis for what spans more than a decade and a half."""
    if not 0 < 30 * lowest < highest:
        return {"type": "linear"}
    return decades((1,) if highest > 1e4 * lowest else (1, 2, 5))


def decades(digits: Sequence[int], every: int = 1) -> dict[str, object]:
    """Make a logarithmic axis with these digits in every so many decades, written out in full."""
    powers = [power for power in range(-15, 16) if power % every == 0]
    ticks = [float(f"{digit}e{power}") for power in powers for digit in digits]
    return {"type": "log", "tickvals": ticks, "ticktext": [words.rate(x) for x in ticks]}


def rate_axis(rates: Iterable[float], labels: int = 8) -> dict[str, object]:
    """Make the axis of the learning rate, with about so many labels at most."""
    logs = [math.log10(rate) for rate in rates]
    span = max(logs) - min(logs) if logs else 1.0
    return {**axis("Learning rate"), **decades((1,), every=max(1, math.ceil(span / labels)))}


def translucent(colour: str, share: float = 0.22) -> str:
    """Make a colour that what lies below it shines through.

    >>> translucent("#0072b2", 0.5)
    'rgba(0, 114, 178, 0.5)'
    """
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {share})"


def safe(text: str) -> str:
    """Escape what Plotly would read as its own small HTML."""
    return html.escape(text, quote=False)

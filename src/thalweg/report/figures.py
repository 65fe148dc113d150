"""Draw what `summary` derived: results in, Plotly figures out; nothing is computed here.

A figure has no background and no ink of its own beyond the lines: the page colours text and grid,
light or dark. Optimizers differ in colour, in dash and in marker, so that no colour is needed to
tell them apart.
"""

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from thalweg.report import words
from thalweg.report.curves import Curve
from thalweg.report.rates import RateCurve

# Hues by Okabe and Ito ("Color Universal Design", 2008), which people with any colour vision tell
# apart; the light ones are darkened until each has a contrast of 3 to white and to the dark page.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#c261a0", "#a87800", "#3d94c9", "#7d7d7d", "#8a63d2")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
MARKERS = ("circle", "square", "diamond", "triangle-up", "star", "triangle-down", "hexagon", "pentagon")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
INK = "#6b7280"  # readable on white and on black; the page sets a better one for each
FAINT = "rgba(128, 128, 128, 0.25)"

MARGIN = {"l": 44, "r": 10, "t": 46, "b": 56}


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


def curves(drawn: Sequence[Curve], looks: dict[str, Style]) -> go.Figure:
    """Draw medians over each other, each in its band."""
    figure = go.Figure()
    drawn = [c for c in drawn if c.median]
    for curve in drawn:
        figure.add_traces(_band(curve, looks[curve.optimizer]))
    for curve in drawn:
        figure.add_trace(_median(curve, looks[curve.optimizer]))
    lowest = min((min(c.low) for c in drawn), default=0.0)
    highest = max((max(c.high) for c in drawn), default=0.0)
    figure.update_layout(_layout(height=380))
    figure.update_xaxes(_axis("Epoch"), rangemode="tozero")
    figure.update_yaxes(_axis(None), **_scale(lowest, highest))
    return figure


def score_by_rate(drawn: Sequence[RateCurve], looks: dict[str, Style]) -> go.Figure:
    """Draw score against rate: a point for each seed, the mean as a line, the chosen rate in a ring.

    Rates at which seeds diverged have no score; they stand in a strip of their own below.
    """
    figure = go.Figure()
    fallen = [c.optimizer for c in drawn if any(p.diverged for p in c.points)]
    for curve in drawn:
        figure.add_traces(_rate_traces(curve, looks[curve.optimizer]))
        if curve.optimizer in fallen:
            figure.add_trace(_diverged(curve, looks[curve.optimizer]))
    scores = [s for c in drawn for p in c.points for s in p.scores]
    strip = 20 * len(fallen) + 24 if fallen else 0
    height = 400 + strip
    share = strip / (height - MARGIN["t"] - MARGIN["b"])
    figure.update_layout(_layout(height=height))
    figure.update_xaxes(_axis("Learning rate"), anchor="free", position=0, **_decades((1,)))
    figure.update_yaxes(
        _axis(None),
        domain=[share, 1],
        **_scale(min(scores, default=0.0), max(scores, default=0.0)),
    )
    if fallen:
        figure.update_layout(yaxis2=_strip(fallen, share * 20 * len(fallen) / strip))
        figure.add_annotation(
            text="Diverged", x=0, y=share * 20 * len(fallen) / strip, xref="paper", yref="paper",
            xanchor="left", yanchor="bottom", showarrow=False, font={"size": 12},
        )  # fmt: skip
    return figure


def _band(curve: Curve, look: Style) -> list[go.Scatter]:
    shared = {
        "x": curve.epochs,
        "mode": "lines",
        "line": {"width": 0},
        "legendgroup": curve.optimizer,
        "showlegend": False,
        "hoverinfo": "skip",
    }
    return [
        go.Scatter(y=curve.low, **shared),
        go.Scatter(y=curve.high, fill="tonexty", fillcolor=_translucent(look.colour), **shared),
    ]


def _median(curve: Curve, look: Style) -> go.Scatter:
    return go.Scatter(
        x=curve.epochs,
        y=curve.median,
        name=_safe(curve.optimizer),
        legendgroup=curve.optimizer,
        mode="lines",
        line={"color": look.colour, "dash": look.dash, "width": 2.25},
        hovertemplate="%{y:.4g}",
    )


def _rate_traces(curve: RateCurve, look: Style) -> list[go.Scatter]:
    means = [(p.rate, p.mean, p.chosen) for p in curve.points if p.mean is not None]
    seeds = [(p.rate, score) for p in curve.points for score in p.scores]
    shared = {"legendgroup": curve.optimizer, "name": _safe(curve.optimizer)}
    return [
        go.Scatter(
            x=[rate for rate, _ in seeds],
            y=[score for _, score in seeds],
            mode="markers",
            marker={"color": look.colour, "symbol": look.marker, "size": 5, "opacity": 0.55},
            showlegend=False,
            hoverinfo="skip",
            **shared,
        ),
        go.Scatter(
            x=[rate for rate, _, _ in means],
            y=[mean for _, mean, _ in means],
            mode="lines+markers",
            line={"color": look.colour, "dash": look.dash, "width": 2.25},
            marker={"symbol": look.marker, "size": 8},
            hovertemplate="rate %{x:.3g}: mean %{y:.4g}",
            **shared,
        ),
        go.Scatter(
            x=[rate for rate, _, chosen in means if chosen],
            y=[mean for _, mean, chosen in means if chosen],
            mode="markers",
            marker={"color": look.colour, "symbol": "circle-open", "size": 18, "line": {"width": 2}},
            showlegend=False,
            hoverinfo="skip",
            **shared,
        ),
    ]


def _diverged(curve: RateCurve, look: Style) -> go.Scatter:
    fallen = [(p.rate, p.diverged, p.diverged + len(p.scores)) for p in curve.points if p.diverged]
    return go.Scatter(
        x=[rate for rate, _, _ in fallen],
        y=[_safe(curve.optimizer) for _ in fallen],
        yaxis="y2",
        mode="markers+text",
        marker={
            "color": look.colour,
            "symbol": "x-thin",
            "size": 9,
            "line": {"width": 2, "color": look.colour},
        },
        text=["" if lost == seeds else f"  {lost} of {seeds}" for _, lost, seeds in fallen],
        textposition="middle right",
        customdata=[f"{lost} of {words.plural(seeds, 'seed')} diverged" for _, lost, seeds in fallen],
        hovertemplate="rate %{x:.3g}: %{customdata}",
        name=_safe(curve.optimizer),
        legendgroup=curve.optimizer,
        showlegend=False,
    )


def _layout(height: int) -> dict[str, object]:
    return {
        "template": "none",
        "height": height,
        "autosize": True,
        "margin": MARGIN,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 12, "color": INK},
        "legend": {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "bgcolor": "rgba(0,0,0,0)"},
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": "#1b1f24", "font": {"family": FONT, "size": 12, "color": "#ffffff"}},
    }


def _axis(title: str | None) -> dict[str, object]:
    return {
        "title": {"text": title and _safe(title), "standoff": 10, "font": {"size": 13}},
        "gridcolor": FAINT,
        "linecolor": FAINT,
        "zeroline": False,
        "showline": True,
        "automargin": True,
    }


def _scale(lowest: float, highest: float) -> dict[str, object]:
    """Choose a logarithmic axis for what spans more than a decade and a half."""
    if not 0 < 30 * lowest < highest:
        return {"type": "linear"}
    return _decades((1,) if highest > 1e4 * lowest else (1, 2, 5))


def _decades(digits: Sequence[int]) -> dict[str, object]:
    """Make a logarithmic axis with these digits in each decade, written out in full."""
    ticks = [float(f"{digit}e{power}") for power in range(-15, 16) for digit in digits]
    return {"type": "log", "tickvals": ticks, "ticktext": [words.rate(x) for x in ticks]}


def _strip(fallen: Sequence[str], height: float) -> dict[str, object]:
    """Make the axis of the strip below: a row for each optimizer that diverged somewhere."""
    return {
        **_axis(None),
        "domain": [0, height],
        "type": "category",
        "categoryorder": "array",
        "categoryarray": [_safe(name) for name in reversed(fallen)],
        "range": [-0.6, len(fallen) - 0.4],
        "fixedrange": True,
        "showgrid": False,
    }


def _translucent(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, 0.22)"


def _safe(text: str) -> str:
    """Escape what Plotly would read as its own small HTML."""
    return html.escape(text, quote=False)

"""Draw what `curves`, `rates` and `overview` derived: results in, Plotly figures out; nothing is computed."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from thalweg.evidence.profile import R_MAX, Profile
from thalweg.report import words
from thalweg.report.curves import Curve
from thalweg.report.drawing import (
    INK,
    MARGIN,
    Style,
    axis,
    layout,
    rate_axis,
    safe,
    scale,
    translucent,
)
from thalweg.report.rates import RateCurve

Looks = dict[str, Style]

ROW = 20  # pixels of a row in the strip below the rates
NAME = 18  # characters of a name beside that strip


def curves(drawn: Sequence[Curve], looks: Looks, target: float | None = None) -> go.Figure:
    """Draw medians over each other along the epochs, each in its band, and the target as a line."""
    figure = go.Figure()
    drawn = [c for c in drawn if c.median]
    for curve in drawn:
        figure.add_traces(_band(curve, looks[curve.optimizer]))
    for curve in drawn:
        figure.add_trace(_median(curve, looks[curve.optimizer]))
    lowest = min((min(c.low) for c in drawn), default=0.0)
    highest = max((max(c.high) for c in drawn), default=0.0)
    figure.update_layout(layout(height=340))
    figure.update_xaxes(axis("Epochs"), rangemode="tozero")
    figure.update_yaxes(axis(None), **scale(lowest, highest))
    if target is not None:
        figure.add_hline(
            target,
            line={"color": INK, "width": 1.5, "dash": "dash"},
            label={"text": f"target {words.number(target, 4)}", "textposition": "start", "yanchor": "bottom"},
        )
    return figure


def axes(drawn: Sequence[Curve]) -> dict[str, Any]:
    """Give what curves can be drawn along: title and values of each axis by optimizer, epochs first."""
    drawn = [c for c in drawn if c.median]
    found: dict[str, Any] = {
        "epochs": {"title": "Epochs", "x": {c.optimizer: c.epochs for c in drawn}},
        "steps": {"title": "Steps", "x": {c.optimizer: c.steps for c in drawn}},
    }
    if all(c.seconds is not None for c in drawn):
        found["seconds"] = {"title": "Seconds", "x": {c.optimizer: c.seconds for c in drawn}}
    return found


def score_by_rate(drawn: Sequence[RateCurve], looks: Looks) -> go.Figure:
    """Draw score against rate: a point for each seed, the mean as a line, the chosen rate in a ring.

    In a strip below, each optimizer has a row: its basin as a bar, and a cross at each rate that diverged.
    """
    figure = go.Figure()
    rows = [c.optimizer for c in drawn if c.basin or any(p.diverged for p in c.points)]
    for curve in drawn:
        look = looks[curve.optimizer]
        figure.add_traces(_rate_traces(curve, look))
        if curve.basin:
            figure.add_trace(_basin(curve, look))
        if any(p.diverged for p in curve.points):
            figure.add_trace(_diverged(curve, look))
    scores = [s for c in drawn for p in c.points for s in p.scores]
    strip = ROW * len(rows) + 28 if rows else 0
    height = 370 + strip
    share = strip / (height - MARGIN["t"] - MARGIN["b"])
    figure.update_layout(layout(height=height))
    figure.update_xaxes(rate_axis(p.rate for c in drawn for p in c.points), anchor="free", position=0)
    figure.update_yaxes(
        axis(None),
        domain=[share, 1],
        **scale(min(scores, default=0.0), max(scores, default=0.0)),
    )
    if rows:
        top = share * ROW * len(rows) / strip
        figure.update_layout(yaxis2=_strip(rows, top))
        figure.add_annotation(
            text="Basin, and where training diverged", x=0, y=top, xref="paper", yref="paper",
            xanchor="left", yanchor="bottom", showarrow=False, font={"size": 12},
        )  # fmt: skip
    return figure


def best_of_k(drawn: Sequence[RateCurve], looks: Looks) -> go.Figure:
    """Draw the score to expect of the best of k rates, for every k."""
    figure = go.Figure()
    for curve in drawn:
        look = looks[curve.optimizer]
        known = [(k, score) for k, score in enumerate(curve.expected, start=1) if score is not None]
        figure.add_trace(
            go.Scatter(
                x=[k for k, _ in known],
                y=[score for _, score in known],
                name=safe(curve.optimizer),
                legendgroup=curve.optimizer,
                mode="lines+markers",
                line={"color": look.colour, "dash": look.dash, "width": 2.25},
                marker={"symbol": look.marker, "size": 8},
                hovertemplate="best of %{x}: %{y:.4g}",
            )
        )
    scores = [score for c in drawn for score in c.expected if score is not None]
    figure.update_layout(layout(height=320))
    figure.update_xaxes(
        axis("Rates tried"), range=[0.6, max((len(c.expected) for c in drawn), default=1) + 0.4]
    )
    figure.update_xaxes(dtick=1 if all(len(c.expected) < 15 for c in drawn) else None)
    figure.update_yaxes(axis(None), **scale(min(scores, default=0.0), max(scores, default=0.0)))
    return figure


def profile(found: Profile, looks: Looks) -> go.Figure:
    """Draw on which share of the tasks each optimizer is within a factor of the best."""
    figure = go.Figure()
    for name, ratios in found.ratios.items():
        look = looks[name]
        factors = sorted({1.0, R_MAX, *(r for r in ratios if r is not None and r < R_MAX)})
        figure.add_trace(
            go.Scatter(
                x=factors,
                y=[found.share(name, factor) for factor in factors],
                name=safe(name),
                legendgroup=name,
                mode="lines+markers",
                line={"color": look.colour, "dash": look.dash, "width": 2.25, "shape": "hv"},
                marker={"symbol": look.marker, "size": 7},
                hovertemplate="within %{x:.3g} times the fastest: %{y:.0%} of the tasks",
            )
        )
    figure.update_layout(layout(height=320))
    figure.update_xaxes(axis("Times the epochs of the fastest"), range=[0.95, R_MAX + 0.05])
    figure.update_yaxes(axis(None), range=[-0.03, 1.05], tickformat=".0%")
    return figure


def _band(curve: Curve, look: Style) -> list[go.Scatter]:
    shared = {
        "x": curve.epochs,
        "mode": "lines",
        "line": {"width": 0},
        "legendgroup": curve.optimizer,
        "hoverinfo": "skip",
    }
    return [
        go.Scatter(y=curve.low, **shared),
        go.Scatter(y=curve.high, fill="tonexty", fillcolor=translucent(look.colour), **shared),
    ]


def _median(curve: Curve, look: Style) -> go.Scatter:
    return go.Scatter(
        x=curve.epochs,
        y=curve.median,
        name=safe(curve.optimizer),
        legendgroup=curve.optimizer,
        mode="lines",
        line={"color": look.colour, "dash": look.dash, "width": 2.25},
        hovertemplate="%{y:.4g}",
    )


def _rate_traces(curve: RateCurve, look: Style) -> list[go.Scatter]:
    means = [(p.rate, p.mean, p.chosen) for p in curve.points if p.mean is not None]
    seeds = [(p.rate, score) for p in curve.points for score in p.scores]
    shared = {"legendgroup": curve.optimizer, "name": safe(curve.optimizer)}
    return [
        go.Scatter(
            x=[rate for rate, _ in seeds],
            y=[score for _, score in seeds],
            mode="markers",
            marker={"color": look.colour, "symbol": look.marker, "size": 5, "opacity": 0.55},
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
            hoverinfo="skip",
            **shared,
        ),
    ]


def _basin(curve: RateCurve, look: Style) -> go.Scatter:
    found = curve.basin
    assert found is not None  # its caller asks for it where there is one
    return go.Scatter(
        x=[found.low, found.high],
        y=[safe(curve.optimizer)] * 2,
        yaxis="y2",
        mode="lines+markers",
        line={"color": translucent(look.colour, 0.45), "width": 9},
        marker={
            "color": look.colour,
            "size": 11,
            "symbol": [
                "triangle-left" if found.open_low else "line-ns",
                "triangle-right" if found.open_high else "line-ns",
            ],
            "line": {"width": 2, "color": look.colour},
        },
        hovertemplate="as good as the best, as far as seeds can tell: %{x:.3g}",
        name=safe(curve.optimizer),
        legendgroup=curve.optimizer,
    )


def _diverged(curve: RateCurve, look: Style) -> go.Scatter:
    fallen = [(p.rate, p.diverged, p.diverged + len(p.scores)) for p in curve.points if p.diverged]
    return go.Scatter(
        x=[rate for rate, _, _ in fallen],
        y=[safe(curve.optimizer) for _ in fallen],
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
        name=safe(curve.optimizer),
        legendgroup=curve.optimizer,
    )


def _strip(rows: Sequence[str], height: float) -> dict[str, object]:
    """Make the axis of the strip below: a row for each optimizer that has something there."""
    return {
        **axis(None),
        "domain": [0, height],
        "type": "category",
        "categoryorder": "array",
        "categoryarray": [safe(name) for name in reversed(rows)],
        "tickvals": [safe(name) for name in rows],
        "ticktext": [safe(name if len(name) <= NAME else name[: NAME - 1] + "…") for name in rows],
        "range": [-0.6, len(rows) - 0.4],
        "fixedrange": True,
        "showgrid": False,
    }

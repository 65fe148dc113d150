"""Draw a comparison of batch sizes: curves, the variance of gradients, the paths of the weights."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from thalweg.records.sampling import WITH_REPLACEMENT, GradientVariance, SamplingComparison, SamplingRow
from thalweg.report.curves import Curve
from thalweg.report.drawing import COLOURS, Style, axis, decades, layout, safe

Looks = dict[str, Style]

SAMPLED = {
    "without replacement": Style(COLOURS[0], "solid", "circle"),
    WITH_REPLACEMENT: Style(COLOURS[1], "dash", "square"),
}
LEAST = 1e-12  # of the largest variance: what is less is 0 but for rounding, and has no place on a log axis


def curve(row: SamplingRow, part: str) -> Curve:
    """Return the median and the band of the training or validation loss of a row, over its final seeds.

    Seeds that diverged at the end are left out, as in the report of a race.
    """
    ends = getattr(row.moments[-1], part) if row.moments else ()
    kept = [place for place, loss in enumerate(ends) if loss is not None]
    values = np.array([[getattr(m, part)[place] for place in kept] for m in row.moments], dtype=np.float64)
    quartiles = len(kept) >= 4
    shares = [0.25, 0.5, 0.75] if quartiles else [0.0, 0.5, 1.0]
    low, median, high = np.quantile(values, shares, axis=1).tolist() if kept else ([], [], [])
    moments = row.moments if kept else ()
    return Curve(
        row.name,
        tuple(m.updates for m in moments),
        tuple(m.epochs for m in moments),
        tuple(m.updates * row.update_seconds for m in moments),
        tuple(median),
        tuple(low),
        tuple(high),
        len(kept),
        len(ends) - len(kept),
        quartiles,
    )


def axes(curves: Sequence[Curve]) -> dict[str, Any]:
    """Give what curves can be drawn along: epochs evenly, updates and seconds on a logarithmic scale."""
    drawn = [c for c in curves if c.median]
    return {
        "epochs": {"title": "Epochs", "type": "linear", "x": {c.optimizer: c.epochs for c in drawn}},
        "updates": {"title": "Updates", "type": "log", "x": {c.optimizer: c.steps for c in drawn}},
        "seconds": {"title": "Seconds", "type": "log", "x": {c.optimizer: c.seconds for c in drawn}},
    }


def variance(found: Sequence[GradientVariance]) -> go.Figure:
    """Draw measured variances as marks and the law as lines, both axes logarithmic."""
    figure = go.Figure()
    for sampling, look in SAMPLED.items():
        own = [v for v in found if v.sampling == sampling]
        sizes = [v.batch_size for v in own]
        shared = {"x": sizes, "legendgroup": sampling, "name": sampling}
        figure.add_trace(
            go.Scatter(
                y=[v.expected for v in own],
                mode="lines",
                line={"color": look.colour, "dash": look.dash, "width": 2},
                hovertemplate="law, B = %{x}: %{y:.3g}",
                **shared,
            )
        )
        figure.add_trace(
            go.Scatter(
                y=[v.measured if v.measured > 0 else None for v in own],
                mode="markers",
                marker={"color": look.colour, "symbol": look.marker, "size": 8},
                hovertemplate="measured, B = %{x}: %{y:.3g}",
                **shared,
            )
        )
    values = [x for v in found for x in (v.measured, v.expected)]
    top = max(values, default=1.0)
    shown = [np.log10(x) for x in values if x > LEAST * top] or [-1.0, 0.0]
    figure.update_layout(layout(height=320))
    sizes = sorted({v.batch_size for v in found})
    ticks = sizes[:: max(1, round(len(sizes) / 6))]
    figure.update_xaxes(axis("Batch size B"), type="log", tickvals=ticks, ticktext=[f"{x:,}" for x in ticks])
    figure.update_yaxes(axis(None), range=[min(shown) - 0.15, max(shown) + 0.15], **decades((1,)))
    return figure


def paths(record: SamplingComparison, looks: Looks) -> go.Figure:
    """Draw the ways of the weights on their common plane: both axes in one unit, ends as larger marks."""
    figure = go.Figure()
    for path in record.paths:
        look = looks[path.name]
        shared = {"legendgroup": path.name, "name": safe(path.name)}
        figure.add_trace(
            go.Scatter(
                x=path.x,
                y=path.y,
                mode="lines",
                line={"color": look.colour, "width": 1.75},
                hovertemplate="%{x:.3g}, %{y:.3g}",
                **shared,
            )
        )
        figure.add_trace(
            go.Scatter(
                x=path.x[-1:],
                y=path.y[-1:],
                mode="markers",
                marker={"color": look.colour, "symbol": look.marker, "size": 12},
                hovertemplate="end: %{x:.3g}, %{y:.3g}",
                **shared,
            )
        )
    start = record.paths[0]
    figure.add_annotation(
        text="start", x=start.x[0], y=start.y[0], showarrow=True, arrowhead=0, ax=-24, ay=-24
    )
    figure.update_layout(layout(height=420))
    figure.update_xaxes(axis("First principal component"))
    figure.update_yaxes(axis("Second principal component"), scaleanchor="x", scaleratio=1)
    return figure

"""Draw what the rate finder measured: the loss against the rate, what it suggests, and what it tried."""

import math
import statistics
import textwrap
from typing import Final

import plotly.graph_objects as go

from thalweg.records import Finding
from thalweg.report import words
from thalweg.report.canvas import Canvas, framed, label_margin
from thalweg.report.drawing import COLOURS, axis, layout, rate_axis, scale, translucent

LOSS, DIVERGES, SUGGESTED, SHORT = COLOURS[0], COLOURS[1], COLOURS[2], COLOURS[3]
GLUE: Final = "\N{NO-BREAK SPACE}"  # holds an entry of the legend together
HEADROOM: Final = 0.25  # of the first loss: what rises further leaves the picture


def figure(finding: Finding) -> go.Figure:
    """Draw the smoothed loss of the sweeps against the rate, with all that was concluded from it.

    A band around the line is that of the sweeps; a green stripe are the rates that are not told apart from
    the suggestion, the line in it; the dotted line is where sweeps did not come back. Diamonds are the rates
    of the short race at their mean validation loss, crosses above those of which a seed diverged. A sweep
    that leaves all bounds leaves the picture.
    """
    drawn = go.Figure()
    points = curve(finding)
    band = [
        (rate, low, high)
        for rate, low, high in zip(finding.rates, finding.losses_low, finding.losses_high, strict=True)
        if low is not None and high is not None
    ]
    shared = {"x": [rate for rate, _, _ in band], "mode": "lines", "hoverinfo": "skip", "showlegend": False}
    drawn.add_scatter(y=[low for _, low, _ in band], line={"width": 0}, **shared)
    drawn.add_scatter(
        y=[high for _, _, high in band],
        line={"width": 0},
        fill="tonexty",
        fillcolor=translucent(LOSS),
        **shared,
    )
    drawn.add_scatter(
        x=[rate for rate, _ in points],
        y=[loss for _, loss in points],
        name="loss of the sweeps",
        mode="lines",
        line={"color": LOSS, "width": 2.25},
        hovertemplate="rate %{x:.3g}: loss %{y:.4g}<extra></extra>",
    )
    tried = short_race(finding)
    if tried:
        alive = [(rate, loss) for rate, loss in tried if loss is not None]
        drawn.add_scatter(
            x=[rate for rate, _ in alive],
            y=[loss for _, loss in alive],
            name="short race",
            mode="markers",
            marker={"color": SHORT, "symbol": "diamond", "size": 9},
            hovertemplate="short race, rate %{x:.3g}: mean loss %{y:.4g}<extra></extra>",
        )
        fallen = [rate for rate, loss in tried if loss is None]
        drawn.add_scatter(
            x=fallen,
            y=[1] * len(fallen),
            yaxis="y2",
            name="short race diverged",
            mode="markers",
            marker={"color": SHORT, "symbol": "x-thin", "size": 9, "line": {"width": 2, "color": SHORT}},
            hovertemplate="short race, rate %{x:.3g}: diverged<extra></extra>",
            showlegend=bool(fallen),
        )
    low, high = view(finding)
    kind = scale(low, high)
    drawn.update_layout(
        layout(height=280), showlegend=True, legend={"orientation": "h", "y": 1, "yanchor": "bottom"}
    )
    drawn.update_xaxes(rate_axis(finding.rates, labels=5))
    drawn.update_yaxes(axis(None), **kind)
    drawn.update_yaxes(range=[math.log10(x) for x in (low, high)] if kind["type"] == "log" else [low, high])
    drawn.update_layout(yaxis2={"range": [0, 1.05], "overlaying": "y", "visible": False, "fixedrange": True})
    _conclusions(drawn, finding)
    return drawn


def _conclusions(drawn: go.Figure, finding: Finding) -> None:
    legend = {"showlegend": True}
    if finding.low is not None and finding.high is not None:
        drawn.add_vrect(
            finding.low,
            finding.high,
            name="not told apart",
            fillcolor=translucent(SUGGESTED, 0.18),
            line={"width": 0},
            layer="below",
            **legend,
        )
    if finding.suggestion is not None:
        drawn.add_vline(
            finding.suggestion,
            name="suggested",
            line={"color": SUGGESTED, "width": 2},
            layer="below",
            **legend,
        )
    if finding.diverges_at is not None:
        drawn.add_vline(
            finding.diverges_at,
            name="diverges",
            line={"color": DIVERGES, "width": 2, "dash": "dot"},
            layer="below",
            **legend,
        )


def curve(finding: Finding) -> list[tuple[float, float]]:
    """Return the rates that have a loss, with it."""
    pairs = zip(finding.rates, finding.losses, strict=True)
    return [(rate, loss) for rate, loss in pairs if loss is not None]


def short_race(finding: Finding) -> list[tuple[float, float | None]]:
    """Return the rates of the short race with their mean loss; None where a seed diverged."""
    return [(s.rate, _mean(s.losses)) for s in finding.short]


def view(finding: Finding) -> tuple[float, float]:
    """Choose the range of the losses that is shown: all that falls, and the beginning of what rises."""
    points = curve(finding)
    short = [loss for _, loss in short_race(finding) if loss is not None]
    losses = [loss for _, loss in points] + short
    if not losses:
        return 0.0, 1.0
    lowest = min(losses)
    place = min(range(len(points)), key=lambda i: points[i][1]) if points else 0
    before = [loss for _, loss in points[: place + 1]] + short
    first = points[0][1] if points else losses[0]
    highest = min(max(losses), max(*before, first + HEADROOM * abs(first)))
    room = 0.06 * (highest - lowest) or 0.1 * abs(highest) or 1.0
    return lowest - min(room, lowest / 2 if lowest > 0 else room), highest + room


def terminal(finding: Finding, width: int = 72, height: int = 12) -> str:
    """Draw the same in braille dots, with axes and a legend; no line is longer than `width`.

    Below the axis are the suggestion and the rates that are not told apart from it, and a cross where sweeps
    diverge; circles are the rates of the short race. `height` is the number of rows between the axes.
    """
    points = curve(finding)
    if len(points) < 2:
        return textwrap.fill("There is no curve to draw: fewer than two rates have a loss.", width)
    low, high = view(finding)
    on_y = math.log10 if scale(low, high)["type"] == "log" else float
    bottom, top = on_y(low), on_y(high)
    shares = [row / (height - 1) for row in range(height)]
    at_rows = [top + (bottom - top) * share for share in shares]
    labels = [f"{10**at if on_y is math.log10 else at:.3g}" for at in at_rows]
    margin = label_margin(labels)
    first, last = finding.rates[0], finding.rates[-1]
    ends = (math.log10(first), math.log10(last))
    canvas = Canvas(ends, (bottom, top), columns=width - margin - 2, rows=height)
    canvas.line([math.log10(rate) for rate, _ in points], [on_y(loss) for _, loss in points])
    for rate, loss in short_race(finding):
        if loss is not None:
            canvas.put(canvas.row(on_y(loss)), canvas.column(math.log10(rate)), "○")
    below = (words.rate(first), "learning rate", words.rate(last))
    lines = framed(canvas.lines(), labels, below, canvas.columns)
    if ruler := _ruler(finding, canvas):
        lines.insert(height + 1, f"{'':>{margin}}  {ruler}")
    legend = textwrap.wrap(_legend(finding), width - margin - 2)
    lines += [f"{'':>{margin}}  {line}".replace(GLUE, " ") for line in legend]
    return "\n".join(line.rstrip() for line in lines)


def _ruler(finding: Finding, canvas: Canvas) -> str:
    """Mark below the axis what is suggested, what is not told apart from it, and where sweeps diverge."""
    ruler = [" "] * canvas.columns
    if finding.low is not None and finding.high is not None:
        left, right = (canvas.column(math.log10(rate)) for rate in (finding.low, finding.high))
        ruler[left : right + 1] = "─" * (right + 1 - left)
        ruler[left], ruler[right] = "├", "┤"
    if finding.diverges_at is not None:
        ruler[canvas.column(math.log10(finding.diverges_at))] = "×"
    if finding.suggestion is not None:
        ruler[canvas.column(math.log10(finding.suggestion))] = "◆"
    return "".join(ruler).rstrip()


def _legend(finding: Finding) -> str:
    said = []
    if finding.suggestion is not None:
        said.append(f"◆ suggested: {words.rate(finding.suggestion)}")
    if finding.low is not None and finding.high is not None:
        said.append(f"├─┤ not told apart: {words.rate(finding.low)} to {words.rate(finding.high)}")
    if finding.diverges_at is not None:
        said.append(f"× diverges: from {words.rate(finding.diverges_at)}")
    if finding.short:
        said.append(f"○ short race: up to {finding.horizon} updates")
    return "   ".join(entry.replace(" ", GLUE) for entry in said)


def _mean(losses: tuple[float | None, ...]) -> float | None:
    known = [loss for loss in losses if loss is not None]
    return statistics.fmean(known) if known and len(known) == len(losses) else None

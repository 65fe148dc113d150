"""A comparison on a test function as one HTML page: level lines and surface with moving paths, distances."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go

from thalweg.functions.escape import Escape, Saddle
from thalweg.functions.paths import Comparison, thinned
from thalweg.functions.paths import Path as Walk
from thalweg.functions.view import View
from thalweg.functions.walks import Floats
from thalweg.report import surface_words, words
from thalweg.report.drawing import INK, Style, axis, decades, layout, styles
from thalweg.report.page import rendered, written
from thalweg.report.pictures import NUMBERS, SHAPES, STROKES, Key, Picture, script_data
from thalweg.report.tables import Column, Table

CELLS: Final = 101  # of the grid, along each variable
FLOOR: Final = 1e-16  # a distance below rounding is drawn here
SHADES: Final = [[0, "#59626d"], [1, "#e9ecef"]]  # from low to high; colours are left to the paths
ROWS: Final = 13  # of a table of numbers


def write_surface(
    found: Comparison, seen: View, saddle: Saddle | None, escapes: Sequence[Escape], path: Path
) -> Path:
    """Write the page and return its path; the file is replaced in one go.

    Raises:
        InputError: it cannot be written.
    """
    looks = styles(one.label for one in found.paths)
    plane = len(seen.box) == 2
    keys = tuple(
        Key(label, look.colour, STROKES[look.dash], SHAPES[look.marker]) for label, look in looks.items()
    )
    return written(
        rendered(
            "surface.html",
            title=found.surface.title,
            formula=found.surface.text,
            surface=found.surface,
            found=found,
            sentences=surface_words.sentences(found, saddle, escapes),
            results=surface_words.results(found),
            start=surface_words.point(found.start),
            minima=[surface_words.point(at) for at in found.minima],
            frames=_frames(found),
            keys=keys,
            map=_picture(found, seen, looks, plane),
            mountain=script_data(mountain(found, seen, looks)) if plane else None,
            way=_way(found, looks),
            grids=_grids(found),
            version="",
        ),
        path,
    )


def _frames(found: Comparison) -> list[int]:
    """Return the steps at which the animation stops: those of all thinned paths."""
    kept = {int(step) for path in found.paths for step in thinned(len(path.points))}
    return sorted(kept)


def _kept(path: Walk) -> tuple[list[int], Floats, Floats]:
    places = thinned(len(path.points))
    return places.tolist(), path.points[places], path.values[places]


def level_lines(found: Comparison, seen: View, looks: dict[str, Style]) -> go.Figure:
    """Draw level lines of the height and the paths over them, each with a mark at its end.

    A path's `customdata` are its steps, so that the page can draw it up to any of them.
    """
    ticks, values = seen.grid(CELLS, CELLS)
    drawn = go.Figure()
    drawn.add_contour(
        x=_short(ticks[0]),
        y=_short(ticks[1]),
        z=_short(seen.heights(values)),
        customdata=_short(values),
        ncontours=18,
        colorscale=SHADES,
        opacity=0.6,
        showscale=False,
        line={"width": 0.75, "color": INK},
        hovertemplate="(%{x:.3g}, %{y:.3g}): %{customdata:.4g}<extra></extra>",
    )
    for path in found.paths:
        steps, points, _ = _kept(path)
        look = looks[path.label]
        shared: dict[str, Any] = {"legendgroup": path.label, "name": path.label}
        text = "step %{customdata}: (%{x:.4g}, %{y:.4g})"
        drawn.add_scatter(
            x=points[:, 0].tolist(), y=points[:, 1].tolist(), customdata=steps, mode="lines",
            line={"color": look.colour, "dash": look.dash, "width": 2.25}, hovertemplate=text, **shared,
        )  # fmt: skip
        drawn.add_scatter(
            x=[float(points[-1, 0])], y=[float(points[-1, 1])], mode="markers", meta="head",
            marker={"color": look.colour, "symbol": look.marker, "size": 10}, hoverinfo="skip", **shared,
        )  # fmt: skip
    for name, places, symbol in _marks(found):
        drawn.add_scatter(
            x=[at[0] for at in places], y=[at[1] for at in places], name=name, mode="markers",
            marker={"symbol": symbol, "size": 12, "color": INK, "line": {"width": 2, "color": INK}},
            hovertemplate=f"{name} (%{{x:.4g}}, %{{y:.4g}})<extra></extra>",
        )  # fmt: skip
    x, y = found.surface.expression.variables
    drawn.update_layout(layout(height=440))
    drawn.update_xaxes(axis(x), range=list(seen.box[0]))
    drawn.update_yaxes(axis(y), range=list(seen.box[1]))
    return drawn


def curve(found: Comparison, seen: View, looks: dict[str, Style]) -> go.Figure:
    """Draw a function of one variable as a curve, with the points of each path on it."""
    (ticks,), values = seen.grid(401)
    drawn = go.Figure()
    drawn.add_scatter(
        x=_short(ticks), y=_short(values), mode="lines", line={"color": INK, "width": 1.5},
        name=found.surface.text, hovertemplate="%{x:.4g}: %{y:.4g}<extra></extra>",
    )  # fmt: skip
    for path in found.paths:
        steps, points, heights = _kept(path)
        look = looks[path.label]
        shared: dict[str, Any] = {"legendgroup": path.label, "name": path.label}
        drawn.add_scatter(
            x=points[:, 0].tolist(), y=heights.tolist(), customdata=steps, mode="markers",
            marker={"color": look.colour, "symbol": look.marker, "size": 6},
            hovertemplate="step %{customdata}: %{x:.4g}, value %{y:.4g}", **shared,
        )  # fmt: skip
        drawn.add_scatter(
            x=[float(points[-1, 0])], y=[float(heights[-1])], mode="markers", meta="head",
            marker={"color": look.colour, "symbol": look.marker, "size": 11}, hoverinfo="skip", **shared,
        )  # fmt: skip
    f = found.surface.expression
    for name, places, symbol in _marks(found):
        drawn.add_scatter(
            x=[at[0] for at in places], y=[float(f(at)) for at in places], name=name, mode="markers",
            marker={"symbol": symbol, "size": 13, "color": INK, "line": {"width": 2, "color": INK}},
            hovertemplate=f"{name} %{{x:.4g}}<extra></extra>",
        )  # fmt: skip
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    room = 0.05 * (high - low) or 1.0
    drawn.update_layout(layout(height=440))
    drawn.update_xaxes(axis(f.variables[0]), range=list(seen.box[0]))
    drawn.update_yaxes(axis(None), range=[low - room, high + room])
    return drawn


def mountain(found: Comparison, seen: View, looks: dict[str, Style]) -> go.Figure:
    """Draw the surface of the height in three dimensions with the paths on it, where they are in the box."""
    ticks, values = seen.grid(CELLS, CELLS)
    heights = seen.heights(values)
    top = float(np.nanmax(heights)) if np.isfinite(heights).any() else 1.0
    lift = 0.01 * (top or 1.0)  # a line in the surface would be half hidden
    drawn = go.Figure()
    drawn.add_surface(
        x=_short(ticks[0]), y=_short(ticks[1]), z=_short(heights), colorscale=SHADES,
        opacity=0.9, showscale=False, hoverinfo="skip",
        contours={
            "z": {"show": True, "color": INK, "width": 1, "start": 0, "end": top, "size": top / 15 or 1},
        },
    )  # fmt: skip
    (left, right), (bottom, high) = seen.box
    for path in found.paths:
        steps, points, at = _kept(path)
        inside = (points >= (left, bottom)).all(axis=-1) & (points <= (right, high)).all(axis=-1)
        z = np.where(inside, seen.heights(at) + lift, np.nan)
        xs, ys, zs = (_gaps(np.where(inside, column, np.nan)) for column in (*points.T, z))
        look = looks[path.label]
        shared: dict[str, Any] = {"legendgroup": path.label, "name": path.label}
        drawn.add_scatter3d(
            x=xs, y=ys, z=zs, customdata=steps, mode="lines", line={"color": look.colour, "width": 5},
            hovertemplate="step %{customdata}: (%{x:.4g}, %{y:.4g})", **shared,
        )  # fmt: skip
        drawn.add_scatter3d(
            x=xs[-1:], y=ys[-1:], z=zs[-1:], mode="markers", meta="head", hoverinfo="skip",
            marker={"color": look.colour, "size": 5}, **shared,
        )  # fmt: skip
    x, y = found.surface.expression.variables
    bare = {"showbackground": False, "gridcolor": "rgba(128, 128, 128, 0.35)", "color": INK}
    drawn.update_layout(
        layout(height=440),
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        scene={
            "xaxis": {**bare, "title": {"text": x}, "range": list(seen.box[0])},
            "yaxis": {**bare, "title": {"text": y}, "range": list(seen.box[1])},
            "zaxis": {**bare, "title": {"text": "height"}},
            "aspectmode": "cube",
            "camera": {"eye": {"x": -1.25, "y": -1.8, "z": 1.15}, "center": {"x": 0, "y": 0, "z": -0.15}},
        },
    )
    return drawn


def distances(found: Comparison, looks: dict[str, Style]) -> go.Figure:
    """Draw the distance from the nearest minimum against steps, or values where no minimum is known."""
    drawn = go.Figure()
    lowest, highest = 1.0, 0.0
    for path in found.paths:
        places = thinned(len(path.points))
        ys = path.values[places] if path.distances is None else np.maximum(path.distances[places], FLOOR)
        lowest, highest = min(lowest, float(ys.min())), max(highest, float(ys.max()))
        look = looks[path.label]
        drawn.add_scatter(
            x=places.tolist(), y=ys.tolist(), mode="lines", name=path.label, legendgroup=path.label,
            line={"color": look.colour, "dash": look.dash, "width": 2.25},
            hovertemplate="step %{x}: %{y:.4g}",
        )  # fmt: skip
    drawn.update_layout(layout(height=320))
    drawn.update_xaxes(axis("Step"))
    if found.minima:
        span = max(1, int(np.log10(highest / lowest) / 6)) if highest > 0 else 1
        drawn.update_yaxes(axis(None), **decades((1,), every=span))
    else:
        drawn.update_yaxes(axis(None))
    drawn.add_vline(found.steps, line={"color": INK, "width": 1, "dash": "dot"})
    return drawn


def _marks(found: Comparison) -> list[tuple[str, tuple[Any, ...], str]]:
    marks = [("start", (found.start,), "circle-open"), ("minimum", found.minima, "star")]
    if found.surface.saddle is not None:
        marks.append(("saddle", (found.surface.saddle,), "x-thin"))
    return [mark for mark in marks if mark[1]]


def _short(numbers: Floats) -> list[Any]:
    """Return numbers to four digits, which is all that a picture shows; None where there is none."""
    if numbers.ndim > 1:
        return [_short(row) for row in numbers]
    return [float(f"{x:.4g}") if np.isfinite(x) else None for x in numbers]


def _gaps(numbers: Floats) -> list[float | None]:
    return [float(x) if np.isfinite(x) else None for x in numbers]


def _picture(found: Comparison, seen: View, looks: dict[str, Style], plane: bool) -> Picture:
    figure = level_lines(found, seen, looks) if plane else curve(found, seen, looks)
    ends = [
        f"{path.label} {'diverges' if path.diverged_at is not None else 'ends at'}"
        f"{'' if path.diverged_at is not None else ' ' + surface_words.point(path.points[-1])}"
        for path in found.paths
    ]
    start = surface_words.point(found.start)
    said = (
        f"Level lines of log₁₀(1 + (f {_minus(seen.lowest)})/{words.number(seen.unit)}), so that "
        "valleys show beside walls. Ring: start. Star: minimum. Thin cross: saddle. The paths are thinned to "
        "500 points, with the first and the last."
        if plane
        else "The curve, and the points of each path on it, thinned to 500 with the first and the last. "
        "Ring: start. Star: minimum."
    )
    return Picture(
        "Paths over level lines" if plane else "Paths on the curve",
        script_data(figure),
        figure.layout.height,
        f"Paths from {start}: {words.listing(ends)}. {NUMBERS}",
        said,
        _points(found),
    )


def _minus(x: float) -> str:
    """Write that a number is taken away: − 2, + 0.5."""
    return f"{'−' if x >= 0 else '+'} {words.number(abs(x))}"


def _way(found: Comparison, looks: dict[str, Style]) -> Picture:
    figure = distances(found, looks)
    title = "Distance from the nearest minimum" if found.minima else "Value"
    last = [
        f"{path.label} {words.number(float((path.values if path.distances is None else path.distances)[-1]))}"
        for path in found.paths
    ]
    return Picture(
        f"{title} by step",
        script_data(figure),
        figure.layout.height,
        f"{title} along the steps, a line for each; at the end: {words.listing(last)}. {NUMBERS}",
        "The dotted line is the step that the slider shows.",
        _numbers(found, title),
    )


def _rows(found: Comparison) -> list[int]:
    steps = [0, *np.geomspace(1, max(found.steps, 1), ROWS - 1).round().astype(int).tolist()]
    return sorted(set(steps))


def _points(found: Comparison) -> Table:
    rows = [
        (
            f"{step:,}",
            *(
                surface_words.point(path.points[step]) if step < len(path.points) else words.ABSENT
                for path in found.paths
            ),
        )
        for step in _rows(found)
    ]
    names = ("Step", *(path.label for path in found.paths))
    return Table("Where each path is", tuple(Column(name) for name in names), tuple(rows))


def _numbers(found: Comparison, title: str) -> Table:
    rows = []
    for step in _rows(found):
        cells = [f"{step:,}"]
        for path in found.paths:
            ys = path.values if path.distances is None else path.distances
            cells.append(words.number(float(ys[step])) if step < len(ys) else words.ABSENT)
        rows.append(tuple(cells))
    names = ("Step", *(path.label for path in found.paths))
    return Table(title, tuple(Column(name) for name in names), tuple(rows))


def _grids(found: Comparison) -> Table | None:
    """Give what every rate of the grid led to, for every optimizer that was run at all of them."""
    chosen = [path for path in found.paths if path.tried]
    if not chosen:
        return None
    rows = []
    for place, one in enumerate(chosen[0].tried):
        cells = [words.rate(one.rate)]
        for path in chosen:
            here = path.tried[place]
            if here.diverged_at is not None:
                cells.append("diverges")
            elif here.arrived_at is not None:
                cells.append(f"arrives, {here.arrived_at:,}")
            else:
                cells.append(words.number(here.value if here.distance is None else here.distance))
        rows.append(tuple(cells))
    what = "final distance from the nearest minimum" if found.minima else "final value"
    names = ("Rate", *(path.label for path in chosen))
    return Table(
        f"Each rate of the grid: the step of arrival, else the {what}",
        tuple(Column(name) for name in names),
        tuple(rows),
    )

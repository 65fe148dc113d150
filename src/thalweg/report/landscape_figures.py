"""The pictures of a landscape: contours with the path, a surface, and lines."""

import math
import statistics
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import plotly.graph_objects as go

from thalweg.records.landscapes import Landscape, Plane
from thalweg.report import words
from thalweg.report.drawing import COLOURS, DASHES, FAINT, axis, layout, scale, translucent
from thalweg.report.pictures import NUMBERS, STROKES, Key, Picture, script_data
from thalweg.report.tables import Column, Table

SHADES: Final = "Cividis"  # the same to any colour vision, and in grey
LINE, ON_PLANE, REAL = COLOURS[0], COLOURS[1], COLOURS[2]
EDGE: Final = "#14171b"  # of the path, which is white: seen on every shade


def hidden(landscape: Landscape) -> list[float | None]:
    """Return loss on the plane less loss of the real weights, at each moment of the path."""
    pairs = zip(landscape.path.loss_on_plane, landscape.path.loss_real, strict=True)
    return [None if a is None or b is None else a - b for a, b in pairs]


def percent(share: float) -> str:
    """Write a share."""
    return f"{words.fixed(100 * share, 1)} %"


class Heights(NamedTuple):
    """How losses become heights: logarithms where they span decades."""

    logarithmic: bool
    ticks: dict[str, Any]  # of a colour bar or an axis of heights

    def of(self, losses: Iterable[float | None]) -> list[float | None]:
        """Return the height of each loss; None where there is none."""
        return [None if x is None else math.log10(x) if self.logarithmic else x for x in losses]


def heights(plane: Plane, path: Iterable[float | None] = ()) -> Heights:
    """Choose heights for the losses of a plane, and of a path on it."""
    known = [x for row in (*plane.losses, path) for x in row if x is not None]
    kind = scale(min(known), max(known)) if known else {"type": "linear"}
    if kind["type"] == "linear":
        return Heights(False, {})
    values: Any = kind["tickvals"]
    return Heights(True, {"tickvals": [math.log10(x) for x in values], "ticktext": kind["ticktext"]})


def _contour(plane: Plane, path: Iterable[float | None] = ()) -> go.Figure:
    high = heights(plane, path)
    drawn = go.Figure()
    drawn.add_contour(
        x=plane.x,
        y=plane.y,
        z=[high.of(row) for row in plane.losses],
        customdata=plane.losses,
        colorscale=SHADES,
        ncontours=20,
        line={"width": 0.5, "color": "rgba(255, 255, 255, 0.45)"},
        colorbar={"thickness": 12, "outlinewidth": 0, **high.ticks},
        name="loss",
        hovertemplate="(%{x:.3g}, %{y:.3g}): loss %{customdata:.4g}<extra></extra>",
    )
    drawn.update_layout(layout(height=400))
    return drawn


def principal(landscape: Landscape) -> Picture:
    """Give the principal plane with the path on it."""
    path = landscape.path
    drawn = _contour(landscape.principal, path.loss_on_plane)
    shared = {"x": path.x, "y": path.y, "hoverinfo": "skip"}
    drawn.add_scatter(mode="lines", line={"color": EDGE, "width": 5}, **shared)
    drawn.add_scatter(
        x=path.x,
        y=path.y,
        customdata=list(zip(path.steps, path.loss_on_plane, path.loss_real, strict=True)),
        name="path",
        mode="lines+markers",
        line={"color": "#ffffff", "width": 2},
        marker={"color": "#ffffff", "size": 4},
        hovertemplate="update %{customdata[0]}: loss %{customdata[1]:.4g} on the plane, "
        "%{customdata[2]:.4g} of the real weights<extra></extra>",
    )
    for name, place, symbol in (("start", 0, "square"), ("end", -1, "star")):
        drawn.add_scatter(
            x=[path.x[place]],
            y=[path.y[place]],
            name=name,
            mode="markers",
            marker={
                "symbol": symbol,
                "size": 13,
                "color": "#ffffff",
                "line": {"color": EDGE, "width": 1.5},
            },
            hovertemplate=f"{name}<extra></extra>",
        )
    first, second = map(percent, path.explained)
    drawn.update_xaxes(axis(f"First component: {first}"))
    drawn.update_yaxes(axis(f"Second: {second}"))
    return Picture(
        "The path on its principal plane",
        script_data(drawn),
        400,
        f"Contours of the loss on the plane with the path of the weights, from a square to a star. {NUMBERS}",
        "Contours and path are one function of the plane. Square: before the first update; star: the last "
        "moment. The trained weights are at (0, 0); units are distances between weights.",
        _grid(landscape.principal, "Loss on the principal plane"),
    )


def along(landscape: Landscape) -> Picture:
    """Give the loss along the path, on the plane and of the real weights."""
    path, drawn = landscape.path, go.Figure()
    for name, losses, colour, dash in (
        ("on the plane", path.loss_on_plane, ON_PLANE, DASHES[1]),
        ("of the real weights", path.loss_real, REAL, DASHES[0]),
    ):
        drawn.add_scatter(
            x=path.steps,
            y=losses,
            name=name,
            legendgroup=name,
            mode="lines",
            line={"color": colour, "width": 2.25, "dash": dash},
            hovertemplate=f"update %{{x}}: loss %{{y:.4g}} {name}<extra></extra>",
        )
    known = [x for x in (*path.loss_on_plane, *path.loss_real) if x is not None]
    drawn.update_layout(layout(height=360))
    drawn.update_xaxes(axis("Updates"))
    drawn.update_yaxes(axis(None), **(scale(min(known), max(known)) if known else {}))
    rows = tuple(
        (
            f"{t:,}",
            words.number(a, 4),
            words.number(b, 4),
            words.number(gap, 2),
            words.number(x),
            words.number(y),
            words.number(off),
        )
        for t, a, b, gap, x, y, off in zip(
            path.steps,
            path.loss_on_plane,
            path.loss_real,
            hidden(landscape),
            path.x,
            path.y,
            path.off,
            strict=True,
        )
    )
    headings = ("Updates", "On the plane", "Real", "Difference", "x", "y", "Distance from the plane")
    return Picture(
        "Loss along the path",
        script_data(drawn),
        360,
        f"Loss against updates, a line on the plane and a line of the real weights. {NUMBERS}",
        "Where the lines part, the picture of the path shows a loss that the weights never had.",
        Table("Loss along the path", tuple(map(Column, headings)), rows),
        (
            Key("on the plane", ON_PLANE, STROKES["dash"], ""),
            Key("of the real weights", REAL, "none", ""),
        ),
    )


def surface(landscape: Landscape) -> Picture:
    """Give the principal plane as a surface, the path on it."""
    plane, path = landscape.principal, landscape.path
    high = heights(plane, path.loss_on_plane)
    drawn = go.Figure()
    drawn.add_surface(
        x=plane.x,
        y=plane.y,
        z=[high.of(row) for row in plane.losses],
        colorscale=SHADES,
        showscale=False,
        opacity=0.9,  # the path is seen through what stands before it
        hoverinfo="skip",
    )
    drawn.add_scatter3d(
        x=path.x,
        y=path.y,
        z=high.of(path.loss_on_plane),
        name="path",
        mode="lines",
        line={"color": ON_PLANE, "width": 6},
        hoverinfo="skip",
    )
    drawn.update_layout(layout(height=460), margin={"l": 0, "r": 0, "t": 0, "b": 0})
    plain = {"gridcolor": FAINT, "showbackground": False, "zeroline": False}
    drawn.update_scenes(
        aspectmode="manual",
        aspectratio={"x": 1.3, "y": 1.0, "z": 0.7},
        camera={"eye": {"x": 1.0, "y": -1.65, "z": 0.95}, "center": {"x": 0, "y": 0, "z": -0.2}},
        xaxis={**plain, "title": {"text": "first component"}},
        yaxis={**plain, "title": {"text": "second"}},
        zaxis={**plain, "title": {"text": "loss"}, **high.ticks},
    )
    return Picture(
        "The same as a surface",
        script_data(drawn),
        460,
        "The loss over the principal plane as a surface, with the path on it: the contours above, in relief.",
        "Drag to turn it. The heights are logarithms of the loss."
        if high.logarithmic
        else "Drag to turn it.",
        explained(landscape),
    )


def lines(landscape: Landscape) -> Picture:
    """Give the loss along random directions."""
    line, drawn = landscape.line, go.Figure()
    for place, losses in enumerate(line.losses, start=1):
        drawn.add_scatter(
            x=line.positions,
            y=losses,
            name=f"direction {place}",
            mode="lines",
            line={"color": translucent(LINE, 0.55), "width": 1.25},
            hovertemplate=f"direction {place}, %{{x:.3g}}: loss %{{y:.4g}}<extra></extra>",
        )
    middle = median(landscape)
    drawn.add_scatter(
        x=line.positions,
        y=middle,
        name="median",
        mode="lines",
        line={"color": LINE, "width": 2.5},
        hovertemplate="%{x:.3g}: median loss %{y:.4g}<extra></extra>",
    )
    known = [x for row in line.losses for x in row if x is not None]
    drawn.update_layout(layout(height=400))
    drawn.update_xaxes(axis("α, in lengths of the filters"))
    drawn.update_yaxes(axis(None), **(scale(min(known), max(known)) if known else {}))
    few = range(0, len(line.positions), max(1, (len(line.positions) - 1) // 24))
    rows = tuple(
        (words.number(line.positions[i]), *(words.number(x[i], 4) for x in line.losses)) for i in few
    )
    columns = (Column("α"), *(Column(f"Direction {k}") for k in range(1, len(line.losses) + 1)))
    return Picture(
        "Along random directions",
        script_data(drawn),
        400,
        f"Loss against the distance from the trained weights, a line for each direction. {NUMBERS}",
        "Thin: each direction; thick: their median. At ±1 each filter has moved as far as it is from 0.",
        Table("Loss along random directions", columns, rows),
    )


def random_plane(landscape: Landscape) -> Picture:
    """Give the plane of the first two random directions."""
    drawn = _contour(landscape.random)
    drawn.update_xaxes(axis("Direction 1"))
    drawn.update_yaxes(axis("Direction 2"))
    return Picture(
        "On the plane of two of them",
        script_data(drawn),
        400,
        f"Contours of the loss on the plane of two random directions. {NUMBERS}",
        "The trained weights are in the middle.",
        _grid(landscape.random, "Loss on the plane of two random directions"),
    )


def explained(landscape: Landscape) -> Table:
    """Give what the components explain, beside a random walk."""
    pairs = zip(("First", "Second"), landscape.path.explained, landscape.path.random_walk, strict=True)
    return Table(
        "Share of the squared distances to the trained weights, along the path",
        (Column("Component", numeric=False), Column("The path"), Column("A random walk")),
        tuple((name, percent(own), percent(walk)) for name, own, walk in pairs),
    )


def median(landscape: Landscape) -> list[float | None]:
    """Return the median over the random directions at each position; None where one is not finite."""
    columns = zip(*landscape.line.losses, strict=True)
    return [None if None in column else statistics.median(column) for column in columns]


def _grid(plane: Plane, caption: str) -> Table:
    head = (Column("y \\ x"), *(Column(words.number(x)) for x in plane.x))
    rows = tuple(
        (words.number(y), *(words.number(loss) for loss in row))
        for y, row in zip(plane.y, plane.losses, strict=True)
    )
    return Table(caption, head, rows)

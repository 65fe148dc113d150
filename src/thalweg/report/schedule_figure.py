"""Schedules drawn over each other: in the terminal, as a Plotly figure, as a standalone SVG.

Each function is given curves (name, ticks, factors) and draws them; it computes no schedule.
"""

import html
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thalweg.errors import InputError
from thalweg.report.canvas import DOTS as DOTS
from thalweg.report.canvas import Canvas, framed, label_margin
from thalweg.report.drawing import COLOURS, DASHES, INK

Curve = tuple[str, ArrayLike, ArrayLike]
Array = NDArray[np.float64]

STROKES = ("none", "8 4", "2 3", "8 3 2 3", "14 5")  # DASHES in SVG
ANSI = (34, 31, 32, 35, 33, 36)


def terminal(
    curves: Sequence[Curve], width: int = 72, height: int = 15, clock: str = "steps", colour: bool = False
) -> str:
    """Draw curves in braille dots, 2 × 4 a character, with axes and a legend; no line beyond `width`.

    Several curves carry letters, which the legend explains; `colour` adds ANSI colours. `height` is
    the number of rows between the axes. Raises `InputError` for curves that cannot be drawn.

    >>> print(terminal([("line", [0, 10], [1, 0])], width=20, height=3))
      1 ┤⠙⠒⠦⣄⣀
    0.5 ┤    ⠈⠉⠓⠦⢤⣀⡀
      0 ┤          ⠉⠙⠲⠤⣄
        └───────────────
         0   steps    10
         line
    """
    drawn = _checked(curves)
    first, last, top = _ranges(drawn)
    labels = [f"{top * (height - 1 - row) / (height - 1):.3g}" for row in range(height)]
    margin = label_margin(labels)
    canvas = Canvas((first, last), (0.0, top), columns=width - margin - 2, rows=height)
    for i, (_, ticks, factors) in enumerate(drawn):
        canvas.line(ticks, factors, i)
    if len(drawn) > 1:
        _put_letters(canvas, drawn)
    paint = _paint if colour else _plain
    ends = (f"{first:.6g}", clock, f"{last:.6g}")
    lines = framed(canvas.lines(paint), labels, ends, canvas.columns)
    for i, (name, _, _) in enumerate(drawn):
        lines.append(
            f"{'':>{margin}}  {paint(_letter(i), i)} {name}" if len(drawn) > 1 else f"{'':>{margin}}  {name}"
        )
    return "\n".join(line.rstrip() for line in lines)


def _put_letters(canvas: Canvas, drawn: list[tuple[str, Array, Array]]) -> None:
    """Put each curve's letter on it at regular distances; no two curves use the same column."""
    first, last = canvas.x
    distance = max(16, 3 * len(drawn))
    for i, (_, ticks, factors) in enumerate(drawn):
        for column in range(2 + i * distance // len(drawn), canvas.columns, distance):
            tick = first + (column + 0.5) / canvas.columns * (last - first)
            if ticks[0] <= tick <= ticks[-1]:
                canvas.put(canvas.row(float(np.interp(tick, ticks, factors))), column, _letter(i), i)


def _letter(i: int) -> str:
    return chr(ord("a") + i % 26)


def _plain(text: str, i: int) -> str:
    del i
    return text


def _paint(text: str, i: int) -> str:
    return text if text == " " else f"\x1b[{ANSI[i % len(ANSI)]}m{text}\x1b[0m"


def figure(curves: Sequence[Curve], clock: str = "steps") -> Any:
    """Return the curves as a `plotly.graph_objects.Figure`, each with its own colour and dash."""
    import plotly.graph_objects as go  # takes longer to import than the terminal drawing to draw

    drawn = _checked(curves)
    axis = {"gridcolor": "rgba(128, 128, 128, 0.25)", "zeroline": False, "rangemode": "tozero"}
    return go.Figure(
        [
            go.Scatter(
                x=ticks,
                y=factors,
                name=html.escape(name),
                mode="lines",
                line={"color": COLOURS[i % len(COLOURS)], "dash": DASHES[i % len(DASHES)]},
                hovertemplate="%{x}: %{y:.4g}",
            )
            for i, (name, ticks, factors) in enumerate(drawn)
        ],
        {
            "xaxis": {"title": {"text": clock}, **axis},
            "yaxis": {"title": {"text": "factor of the peak rate"}, **axis},
            "showlegend": True,
            "paper_bgcolor": "rgba(0, 0, 0, 0)",
            "plot_bgcolor": "rgba(0, 0, 0, 0)",
            "font": {"color": INK},
        },
    )


def svg(curves: Sequence[Curve], clock: str = "steps", width: int = 720, height: int = 360) -> str:
    """Return the curves as the text of an SVG image: axes, ticks, a polyline a curve, a legend.

    The plot is `width` × `height` pixels; the legend is added below it. The frame's `data-x` and
    `data-y` hold the ranges of the axes, so that the points can be read back.
    """
    drawn = _checked(curves)
    first, last, top = _ranges(drawn)
    left, right, upper, lower = 56, width - 16, 16, height - 44

    def x(tick: float) -> float:
        return left + (tick - first) / (last - first) * (right - left)

    def y(factor: float) -> float:
        return lower - factor / top * (lower - upper)

    lines = [
        f'<line x1="{left}" x2="{right}" y1="{y(v):.2f}" y2="{y(v):.2f}" stroke-opacity="0.25"/>'
        for v in _nice(0.0, top)
    ]
    lines += [
        f'<line x1="{x(v):.2f}" x2="{x(v):.2f}" y1="{lower}" y2="{lower + 5}"/>' for v in _nice(first, last)
    ]
    texts = [
        f'<text x="{left - 8}" y="{y(v) + 4:.2f}" text-anchor="end">{v:.6g}</text>' for v in _nice(0.0, top)
    ]
    texts += [
        f'<text x="{x(v):.2f}" y="{lower + 19}" text-anchor="middle">{v:.6g}</text>'
        for v in _nice(first, last)
    ]
    texts.append(
        f'<text x="{(left + right) / 2}" y="{lower + 37}" text-anchor="middle">{html.escape(clock)}</text>'
    )
    texts.append(
        f'<text transform="translate(14 {(upper + lower) / 2}) rotate(-90)" text-anchor="middle">'
        "factor of the peak rate</text>"
    )
    marks = []
    for i, (name, ticks, factors) in enumerate(drawn):
        look = f'stroke="{COLOURS[i % len(COLOURS)]}" stroke-dasharray="{STROKES[i % len(STROKES)]}"'
        points = " ".join(f"{x(a):.2f},{y(b):.2f}" for a, b in zip(ticks, factors, strict=True))
        at = height + 12 + 20 * i
        marks.append(f'<polyline fill="none" stroke-width="2" {look} points="{points}"/>')
        marks.append(f'<line x1="{left}" x2="{left + 32}" y1="{at}" y2="{at}" stroke-width="2" {look}/>')
        texts.append(f'<text x="{left + 40}" y="{at + 4}">{html.escape(name)}</text>')
    whole = height + 20 * len(drawn) + 8
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {whole}" width="{width}"'
            f' height="{whole}" role="img" font-family="system-ui, sans-serif" font-size="12">',
            f"<title>Schedules: {html.escape(', '.join(name for name, _, _ in drawn))}</title>",
            f'<g stroke="{INK}">',
            f'<path fill="none" d="M{left} {upper}V{lower}H{right}" data-x="{first:.17g} {last:.17g}"'
            f' data-y="0 {top:.17g}"/>',
            *lines,
            "</g>",
            f'<g fill="{INK}">',
            *texts,
            "</g>",
            *marks,
            "</svg>",
            "",
        ]
    )


def _checked(curves: Sequence[Curve]) -> list[tuple[str, Array, Array]]:
    if not curves:
        raise InputError("a drawing of schedules", "have at least one curve", 0)
    drawn = [(name, np.asarray(t, np.float64), np.asarray(f, np.float64)) for name, t, f in curves]
    for name, ticks, factors in drawn:
        if not (
            ticks.ndim == 1 and ticks.shape == factors.shape and len(ticks) > 1 and (np.diff(ticks) > 0).all()
        ):
            raise InputError(
                f"the curve {name}",
                "have a factor for each of at least two rising ticks",
                f"{ticks.size} ticks and {factors.size} factors",
            )
        if not (np.isfinite(factors).all() and (factors >= 0).all()):
            raise InputError(f"the factors of the curve {name}", "be finite numbers of at least 0", "others")
    return drawn


def _ranges(drawn: list[tuple[str, Array, Array]]) -> tuple[float, float, float]:
    """Return the first and last tick and the highest factor; 1 in place of a highest factor of 0."""
    first = min(float(ticks[0]) for _, ticks, _ in drawn)
    last = max(float(ticks[-1]) for _, ticks, _ in drawn)
    return first, last, max(float(factors.max()) for _, _, factors in drawn) or 1.0


def _nice(low: float, high: float) -> list[float]:
    """Return about five round numbers from `low` to `high`: multiples of 1, 2 or 5 × 10ⁿ.

    >>> _nice(0.0, 1.0), _nice(0.0, 700.0)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.0, 200.0, 400.0, 600.0])
    """
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    numbers = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    return [float(f"{n * step:.12g}") for n in numbers]

"""Draw a comparison on a test function in the terminal: level lines, paths, and distances by step."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from thalweg.functions.paths import Comparison, Path
from thalweg.functions.view import View
from thalweg.functions.walks import Floats
from thalweg.report.canvas import DOTS, Canvas, framed, label_margin
from thalweg.report.schedule_figure import ANSI

LEVELS: Final = 9  # level lines
FLOOR: Final = 1e-16  # what is nearer than rounding is drawn here
LARGE: Final = 1e300  # what is larger is drawn here, so that differences are finite
START, MINIMUM, SADDLE = "S", "*", "x"
Paint = Callable[[str, int], str]


def terminal(found: Comparison, seen: View, width: int = 78, colour: bool = False) -> str:
    """Draw level lines in braille dots with each path in its letter, then distances; no line beyond `width`.

    Of one variable it is the curve. Below are the distances from the nearest minimum against steps, or the
    values where no minimum is known. `colour` adds ANSI colours.
    """
    paint = _painted if colour else _plain
    over = _plane(found, seen, width) if len(seen.box) == 2 else _line(found, seen, width)
    entries = [f"{paint(_letter(i), i)} {path.label}" for i, path in enumerate(found.paths)]
    marks = [f"{START} start", *([f"{MINIMUM} minimum"] if found.minima else [])]
    marks += [f"{SADDLE} saddle"] if found.surface.saddle else []
    lines = [*over(paint), *_legend([*entries, *marks], width), "", *_ways(found, width, paint)]
    return "\n".join(line.rstrip() for line in lines)


def _letter(i: int) -> str:
    return chr(ord("a") + i)


def _plain(text: str, owner: int) -> str:
    del owner
    return text


def _painted(text: str, owner: int) -> str:
    return text if owner < 0 or text == " " else f"\x1b[{ANSI[owner % len(ANSI)]}m{text}\x1b[0m"


def _legend(entries: Sequence[str], width: int) -> list[str]:
    """Put entries beside each other as far as they fit; colours take no room."""
    lines = [""]
    for entry in entries:
        if lines[-1] and _length(lines[-1]) + 3 + _length(entry) > width:
            lines.append("")
        lines[-1] += f"{'   ' if lines[-1] else '  '}{entry}"
    return lines


def _length(text: str) -> int:
    return len(text) - 9 * text.count("\x1b[0m")  # two digits of colour, and what surrounds them


def _plane(found: Comparison, seen: View, width: int) -> Callable[[Paint], list[str]]:
    (left, right), (bottom, top) = seen.box
    rows = 24
    labels = [f"{top + (bottom - top) * row / (rows - 1):.3g}" for row in range(rows)]
    columns = width - label_margin(labels) - 2
    cells: dict[tuple[int, int], tuple[str, int]] = {}
    dots = _level_lines(seen, 2 * columns, 4 * rows)
    place = _Cells(seen, columns, rows)
    passed: dict[tuple[int, int], list[int]] = {}
    for i, path in enumerate(found.paths):
        for cell in place.along(path.points):
            passed.setdefault(cell, []).append(i)
    for cell, owners in passed.items():  # where several pass, they take turns
        owner = owners[sum(cell) % len(owners)]
        cells[cell] = (_letter(owner), owner)
    if found.surface.saddle is not None:
        cells |= dict.fromkeys(place.along(np.array([found.surface.saddle])), (SADDLE, -1))
    for at in found.minima:
        cells |= dict.fromkeys(place.along(np.array([at])), (MINIMUM, -1))
    cells |= dict.fromkeys(place.along(np.array([found.start])), (START, -1))
    x, y = found.surface.expression.variables

    def lines(paint: Paint) -> list[str]:
        drawn = [
            "".join(
                paint(*cells[row, column]) if (row, column) in cells else _braille(dots, row, column)
                for column in range(columns)
            )
            for row in range(rows)
        ]
        return [f"{y}", *framed(drawn, labels, (f"{left:.3g}", x, f"{right:.3g}"), columns)]

    return lines


class _Cells:
    """Which characters of a plane a path passes."""

    def __init__(self, seen: View, columns: int, rows: int) -> None:
        (left, right), (bottom, top) = seen.box
        self.low, self.size = np.array([left, top]), np.array([right - left, bottom - top])
        self.counts = np.array([columns, rows])

    def along(self, points: Floats) -> list[tuple[int, int]]:
        """Return the (row, column) of all that straight lines between the points pass, in the box."""
        shares = (points - self.low) / self.size * self.counts
        pieces = [shares[:1]]
        for a, b in pairwise(shares):
            count = min(int(2 * np.abs(b - a).max()) + 1, 4 * int(self.counts.max()))
            pieces.append(a + (b - a) * (np.arange(1, count + 1) / count)[:, None])
        # The far edges belong to the last characters.
        whole = np.concatenate(pieces)
        cells = np.minimum(np.floor(whole), self.counts - 1 + (whole > self.counts))
        kept = cells[((cells >= 0) & (cells < self.counts)).all(axis=-1)]
        return list(dict.fromkeys((int(row), int(column)) for column, row in kept))


def _level_lines(seen: View, columns: int, rows: int) -> NDArray[np.bool_]:
    """Return the dots, from the top, where the height passes a level to the right or below."""
    _, values = seen.grid(columns + 1, rows + 1)
    heights = seen.heights(values[::-1])
    top = np.nanmax(heights) if np.isfinite(heights).any() else 1.0
    bands = np.floor(heights / (top or 1.0) * (LEVELS + 1))
    with np.errstate(invalid="ignore"):
        steps = np.abs(np.diff(bands, axis=1)[:-1]) + np.abs(np.diff(bands, axis=0)[:, :-1])
    lines: NDArray[np.bool_] = np.nan_to_num(steps) > 0
    return lines


def _braille(dots: NDArray[np.bool_], row: int, column: int) -> str:
    bits = 0
    for i, pair in enumerate(DOTS):
        for j, bit in enumerate(pair):
            bits |= bit * bool(dots[4 * row + i, 2 * column + j])
    return chr(0x2800 + bits) if bits else " "


def _line(found: Comparison, seen: View, width: int) -> Callable[[Paint], list[str]]:
    """Draw the curve of a function of one variable with the points of each path on it."""
    rows = 16
    (ticks,), values = seen.grid(512)
    known = np.isfinite(values)
    low, high = _ends(values[known])
    labels = [f"{high + (low - high) * row / (rows - 1):.3g}" for row in range(rows)]
    columns = width - label_margin(labels) - 2
    canvas = Canvas(seen.box[0], (low, high), columns, rows)
    for run in np.split(np.arange(len(ticks)), np.flatnonzero(np.diff(known.astype(int))) + 1):
        if known[run[0]] and len(run) > 1:
            canvas.line(ticks[run], values[run], -1)

    def mark(at: float, value: float, character: str, owner: int) -> None:
        if seen.box[0][0] <= at <= seen.box[0][1]:
            canvas.put(canvas.row(value), canvas.column(at), character, owner)

    for i, path in reversed([*enumerate(found.paths)]):
        for (at,), value in zip(path.points[:200], path.values, strict=False):
            mark(float(at), float(value), _letter(i), i)
    f = found.surface.expression
    for minimum in found.minima:
        mark(minimum[0], float(f(minimum)), MINIMUM, -1)
    mark(found.start[0], float(f(found.start)), START, -1)
    ends = (f"{seen.box[0][0]:.3g}", f.variables[0], f"{seen.box[0][1]:.3g}")
    return lambda paint: framed(canvas.lines(paint), labels, ends, columns)


def _ways(found: Comparison, width: int, paint: Paint) -> list[str]:
    """Draw distances, or values where there is no minimum, against steps."""
    measured = [_measured(path) for path in found.paths]
    title = "distance from the nearest minimum, by step" if found.minima else "value, by step"
    logs = bool(found.minima)
    low, high = _ends(np.concatenate(measured))
    rows = 10
    shares = [high + (low - high) * row / (rows - 1) for row in range(rows)]
    labels = [f"{10**at:.2g}" if logs else f"{at:.3g}" for at in shares]
    canvas = Canvas((0.0, float(found.steps)), (low, high), width - label_margin(labels) - 2, rows)
    for i, way in enumerate(measured):
        if len(way) > 1:
            canvas.line(np.arange(len(way), dtype=np.float64), way, i)
    for i, way in enumerate(measured):  # letters after all lines, or a line would take the colour of a letter
        distance = max(16, 3 * len(measured))
        for column in range(2 + i * distance // len(measured), canvas.columns, distance):
            step = round((column + 0.5) / canvas.columns * found.steps)
            if step < len(way):
                canvas.put(canvas.row(float(way[step])), column, _letter(i), i)
    return [title, *framed(canvas.lines(paint), labels, ("0", "step", f"{found.steps}"), canvas.columns)]


def _ends(values: Floats) -> tuple[float, float]:
    """Return the range of values to draw, apart even where rounding is all that differs."""
    drawn = np.clip(values, -LARGE, LARGE)
    low, high = float(drawn.min()), float(drawn.max())
    apart = 1e-6 * max(1.0, abs(low), abs(high))
    return (low, high) if high - low > apart else (low - apart, high + apart)


def _measured(path: Path) -> Floats:
    if path.distances is None:
        return np.clip(path.values, -LARGE, LARGE)
    return np.array([math.log10(max(float(x), FLOOR)) for x in path.distances])

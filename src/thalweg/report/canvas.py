"""A canvas of braille dots for the terminal, 2 × 4 a character, and the axes around it."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # bits of a braille cell, row by column


class Canvas:
    """Dots between two ranges; of each character it is known whose dots they are.

    >>> canvas = Canvas(x=(0, 10), y=(0, 1), columns=8, rows=1)
    >>> canvas.line([0, 10], [0, 1])
    >>> canvas.lines()
    ['⣀⡤⠤⠤⠖⠒⠚⠉']
    """

    def __init__(self, x: tuple[float, float], y: tuple[float, float], columns: int, rows: int) -> None:
        self.x, self.y, self.columns, self.rows = x, y, columns, rows
        self.owners: NDArray[np.int64] = np.zeros((rows, columns), dtype=np.int64)
        self._cells: NDArray[np.int64] = np.zeros((rows, columns), dtype=np.int64)
        self._put: dict[tuple[int, int], str] = {}

    def line(self, xs: Sequence[float] | Array, ys: Sequence[float] | Array, owner: int = 0) -> None:
        """Draw a line through points, xs ascending; what lies beyond the range of y is at its edge."""
        ticks, heights = np.asarray(xs, np.float64), np.asarray(ys, np.float64)
        shares = np.clip((heights - self.y[0]) / (self.y[1] - self.y[0]), 0.0, 1.0)
        dots = _dots(ticks, shares, np.linspace(*self.x, 2 * self.columns + 1), 4 * self.rows)
        for row, column in np.argwhere(dots):
            self._cells[row // 4, column // 2] |= DOTS[row % 4][column % 2]
            self.owners[row // 4, column // 2] = owner

    def column(self, x: float) -> int:
        """Return the column of characters in which an x lies; what lies outside is at the edge."""
        share = (x - self.x[0]) / (self.x[1] - self.x[0])
        return min(max(int(share * self.columns), 0), self.columns - 1)

    def row(self, y: float) -> int:
        """Return the row of characters in which a y lies, from the top; what lies outside is at the edge."""
        share = min(max((y - self.y[0]) / (self.y[1] - self.y[0]), 0.0), 1.0)
        return round((1.0 - share) * (4 * self.rows - 1)) // 4

    def put(self, row: int, column: int, character: str, owner: int = 0) -> None:
        """Put a character on the canvas, over the dots."""
        self._put[row, column], self.owners[row, column] = character, owner

    def lines(self, paint: Callable[[str, int], str] = lambda text, owner: text) -> list[str]:
        """Return the rows as text, each character painted by its owner."""
        return [
            "".join(
                paint(self._put.get((row, column)) or (chr(0x2800 + bits) if bits else " "), owner)
                for column, (bits, owner) in enumerate(zip(cells, owners, strict=True))
            )
            for row, (cells, owners) in enumerate(zip(self._cells, self.owners, strict=True))
        ]


def marked(height: int) -> set[int]:
    """Return the rows that carry a label: the first, the last, and the middle one where there is one."""
    return {0, (height - 1) // 2, height - 1} if height % 2 else {0, height - 1}


def label_margin(labels: Sequence[str]) -> int:
    """Return how many characters the labels of the rows take."""
    return max(len(labels[row]) for row in marked(len(labels)))


def framed(rows: Sequence[str], labels: Sequence[str], ends: tuple[str, str, str], columns: int) -> list[str]:
    """Put axes around rows: labels beside the marked ones; first value, title and last value below."""
    margin, shown = label_margin(labels), marked(len(rows))
    lines = [
        (f"{labels[i]:>{margin}} ┤" if i in shown else f"{'':>{margin}} │") + row
        for i, row in enumerate(rows)
    ]
    first, title, last = ends
    room = max(columns - len(first) - len(last), 0)
    return [
        *lines,
        f"{'':>{margin}} └{'─' * columns}",
        f"{'':>{margin}}  {first}{title:^{room}}{last}",
    ]


def _dots(ticks: Array, shares: Array, edges: Array, rows: int) -> NDArray[np.bool_]:
    """Set, in each dot column, every dot from the lowest to the highest point of the curve there."""
    dots = np.zeros((rows, len(edges) - 1), dtype=np.bool_)
    at_edges = np.interp(edges, ticks, shares)
    inside = np.searchsorted(ticks, edges)
    for column in range(len(edges) - 1):
        if edges[column] >= ticks[-1] or edges[column + 1] <= ticks[0]:
            continue  # the curve begins later or ended before
        here = np.append(shares[inside[column] : inside[column + 1]], at_edges[column : column + 2])
        highest, lowest = (round((1.0 - share) * (rows - 1)) for share in (here.max(), here.min()))
        dots[highest : lowest + 1, column] = True
    return dots

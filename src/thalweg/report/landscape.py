"""The loss around a trained network: as a page, on the terminal, in sentences, and as JSON."""

import math
import textwrap
from pathlib import Path
from typing import Any, Final

from thalweg.records import to_data
from thalweg.records.landscapes import Landscape
from thalweg.report import landscape_figures as figures
from thalweg.report import words
from thalweg.report.canvas import Canvas, framed, label_margin
from thalweg.report.drawing import scale
from thalweg.report.landscape_figures import hidden, median, percent
from thalweg.report.page import rendered, written

HIDDEN: Final = 0.05  # of the fall of the loss along the path: a larger difference is said first
LOWER: Final = 0.01  # of the range of a slice: how much lower a place must be to be spoken of
KINDS: Final = {
    "random": "two random directions, filter by filter as long as the weights, not made orthogonal",
    "principal": "the first two principal components of the path less the trained weights, neither centred "
    "nor scaled",
}
PART: Final = {"train": "training part", "validation": "validation part"}


def write(landscape: Landscape, path: Path) -> Path:
    """Write a landscape as one HTML page, and return its path; raises InputError where that cannot be."""
    return written(html(landscape), path)


def html(landscape: Landscape) -> str:
    """Render a landscape as the text of one HTML page."""
    return rendered(
        "landscape.html",
        title=f"The loss around a network trained on {landscape.task}",
        facts=facts(landscape),
        conclusions=sentences(landscape),
        paths=(figures.principal(landscape), figures.along(landscape)),
        surface=figures.surface(landscape),
        randoms=(figures.lines(landscape), figures.random_plane(landscape)),
        explained=figures.explained(landscape),
        how=how(landscape),
        version="",
    )


def as_json(landscape: Landscape) -> dict[str, Any]:
    """Return a landscape as plain data, with what the directions are, the differences and the sentences."""
    return {
        **to_data(landscape),
        "kinds": KINDS,
        "difference": hidden(landscape),
        "sentences": sentences(landscape),
    }


def facts(landscape: Landscape) -> list[str]:
    """Return what was trained and measured, each in a few words."""
    recipe = landscape.recipe
    return [
        f"{recipe['optimizer']} at {words.rate(recipe['rate'])}, batch size {recipe['batch_size']}",
        f"{landscape.steps:,} updates",
        f"{landscape.parameters:,} parameters",
        f"losses on {landscape.examples:,} examples of the {PART[landscape.part]}",
        f"seed {landscape.seed}",
    ]


def sentences(landscape: Landscape) -> list[str]:
    """Return what was seen, first whether the picture of the path can be trusted."""
    path, line = landscape.path, landscape.line
    said = [_trust(landscape)]
    share, walk = sum(path.explained), sum(path.random_walk)
    tells = (
        "the path is straighter than that"
        if share > walk
        else "the share alone tells nothing about the landscape"
    )
    said.append(
        f"The plane explains {percent(share)} of the path ({' and '.join(map(percent, path.explained))}). Of "
        f"a random walk with as many moments it would explain {percent(walk)}: {tells}."
    )
    half, whole = len(line.positions) * 3 // 4, len(line.positions) - 1
    away = [f"{_range(_at(landscape, i))} at α = ±{words.number(line.positions[i])}" for i in (half, whole)]
    said.append(
        f"At the trained weights the loss is {words.number(landscape.center_loss)}. With each filter moved "
        f"by α of its length it is {' and '.join(away)}, in {words.count(len(line.losses))} random "
        "directions."
    )
    if lower := _lower(landscape):
        said.append(lower)
    blank = sum(x is None for row in _every(landscape) for x in row)
    if blank:
        said.append(f"Of {landscape.points:,} losses {blank:,} are not finite; they are left blank.")
    if landscape.restored:
        said.append(
            "The trained weights are the best ones, of an earlier moment than the last: the path goes on "
            "after them."
        )
    return said


def how(landscape: Landscape) -> list[str]:
    """Return how it was measured."""
    still = (
        f"{landscape.still:,} numbers (biases and normalisation) stay" if landscape.still else "nothing stays"
    )
    said = [
        f"Random directions are Gaussian, each of the {landscape.filters:,} filters as long as that of the "
        f"weights; {still}. Two of them have a cosine of {words.number(landscape.random.cosine, 2)}.",
        f"The path was kept at {len(landscape.path.steps)} moments, {words.size(landscape.path_bytes)}.",
        f"{landscape.points:,} losses were measured "
        + (f"one by one: {landscape.one_by_one}." if landscape.one_by_one else "as a fleet.")
        + " The model was in evaluation mode.",
    ]
    if landscape.statistics:
        said.append(
            "Its running statistics were those of the trained weights on every slice, those of the moment "
            "for the real weights of the path; a part of the difference between the two losses may be theirs."
        )
    return said


def _trust(landscape: Landscape) -> str:
    path = landscape.path
    known = [
        (abs(a - b), place)
        for place, (a, b) in enumerate(zip(path.loss_on_plane, path.loss_real, strict=True))
        if a is not None and b is not None
    ]
    if not known:
        return "At no moment of the path are the losses finite, on the plane and off it."
    worst, place = max(known)
    real = [x for x in path.loss_real if x is not None]
    if worst > HIDDEN * (max(real) - min(real)):
        return f"The plane hides up to {words.number(worst, 2)} of loss: {_both(landscape, place)}."
    said = (
        "The drawn path can be read off its contours: the loss there differs from that of the real weights "
        f"by at most {words.number(worst, 2)} ({_both(landscape, place)})"
    )
    above_0 = [at for _, at in known if min(path.loss_on_plane[at] or 0, path.loss_real[at] or 0) > 0]
    apart = max(above_0, key=lambda at: _ratio(landscape, at), default=place)
    if apart == place or _ratio(landscape, apart) < 1 + HIDDEN:
        return f"{said}."
    return f"{said}; in proportion most {_both(landscape, apart)}."


def _both(landscape: Landscape, place: int) -> str:
    path = landscape.path
    step, drawn, real = path.steps[place], path.loss_on_plane[place], path.loss_real[place]
    when = f"after {words.plural(step, 'update')}" if step else "before the first update"
    return f"{when}, {words.number(drawn)} is drawn and {words.number(real)} was real"


def _ratio(landscape: Landscape, place: int) -> float:
    pair = landscape.path.loss_on_plane[place], landscape.path.loss_real[place]
    low, high = sorted(x for x in pair if x)
    return high / low


def _lower(landscape: Landscape) -> str | None:
    """Say where a random line is lower than at the trained weights, if by more than a hundredth."""
    center, line = landscape.center_loss, landscape.line
    found = [
        (x, at) for row in line.losses for x, at in zip(row, line.positions, strict=True) if x is not None
    ]
    if center is None or not found:
        return None
    least, at = min(found)
    if center - least <= LOWER * (max(found)[0] - least):
        return None
    return (
        f"Along a random direction the loss is lower still, {words.number(least)} at {words.number(at)}: the "
        "training did not end in a minimum along it."
    )


def _at(landscape: Landscape, place: int) -> list[float]:
    """Return the losses of all lines at a position and at its opposite."""
    rows = landscape.line.losses
    return [x for row in rows for x in (row[place], row[len(row) - 1 - place]) if x is not None]


def _range(values: list[float]) -> str:
    if not values:
        return "not finite"
    low, high = words.number(min(values)), words.number(max(values))
    return low if low == high else f"{low} to {high}"


def _every(landscape: Landscape) -> list[tuple[float | None, ...]]:
    planes = (*landscape.random.losses, *landscape.principal.losses)
    return [*landscape.line.losses, *planes, landscape.path.loss_on_plane, landscape.path.loss_real]


def terminal(landscape: Landscape, width: int = 72, height: int = 12) -> str:
    """Draw the random slices in braille dots: their lowest, median and highest; no line exceeds `width`."""
    line = landscape.line
    whole = [
        (at, min(known), middle, max(known))
        for at, middle, *known in zip(line.positions, median(landscape), *line.losses, strict=True)
        if middle is not None
    ]
    if len(whole) < 2:
        return textwrap.fill("There is no slice to draw: fewer than two places have a loss.", width)
    at, least, middle, most = zip(*whole, strict=True)
    low, high = min(least), max(most)
    on_y = math.log10 if scale(low, high)["type"] == "log" else float
    bottom, top = on_y(low), on_y(high)
    if top == bottom:
        top = bottom + 1.0
    ticks = [top + (bottom - top) * row / (height - 1) for row in range(height)]
    labels = [f"{10**y if on_y is math.log10 else y:.3g}" for y in ticks]
    canvas = Canvas((at[0], at[-1]), (bottom, top), width - label_margin(labels) - 2, height)
    for heights_ in (least, middle, most):
        canvas.line(at, [on_y(x) for x in heights_])
    ends = (words.number(at[0]), "α along random directions", words.number(at[-1]))
    return "\n".join(row.rstrip() for row in framed(canvas.lines(), labels, ends, canvas.columns))

"""A comparison on a test function in words, as a table and as data."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from thalweg.functions.escape import Escape, Saddle
from thalweg.functions.paths import Comparison, Path, thinned
from thalweg.report import words
from thalweg.report.tables import Column, Table

FORMULA: Final = "log(1 + (Y/0.6745)²((1 + ηλ)² − 1)/(η²s)) / (2 log(1 + ηλ))"


def point(at: Sequence[float]) -> str:
    """Write a point.

    >>> point((1.0, -0.5))
    '(1, −0.5)'
    """
    return f"({', '.join(words.number(x, 4) for x in _whole(at))})"


def _whole(at: Sequence[float]) -> list[float]:
    """Return coordinates with those at 0 that are rounding beside the others."""
    largest = max(1.0, *(abs(float(x)) for x in at))
    return [0.0 if abs(float(x)) < 1e-9 * largest else float(x) for x in at]


def sentences(found: Comparison, saddle: Saddle | None, escapes: Sequence[Escape]) -> tuple[str, ...]:
    """Say what came out: who arrives first, where each one ends, at which rates, and who diverged."""
    said = [_first(found)]
    said += _ends(found)
    said += _diverged(found)
    said += _stuck(found, saddle)
    said += _escaped(saddle, escapes)
    said += _rates(found)
    if found.noise:
        entered = sorted((p.entered_at, p.label) for p in found.paths if p.entered_at is not None)
        if entered:
            listed = words.listing([f"{label} at step {step:,}" for step, label in entered])
            said.append(f"For the first time, if only for a moment, within {found.within:g}: {listed}.")
        said.append(
            f"Each coordinate of the gradient has normal noise of variance {found.noise:g} (seed "
            f"{found.seed}), the same for all paths. At a fixed rate noise can keep a path from staying near."
        )
    return tuple(said)


def _first(found: Comparison) -> str:
    first, near = found.first, f"within {found.within:g} of"
    if not found.minima:
        lowest = min(
            (path for path in found.paths if path.diverged_at is None),
            key=lambda p: p.values[-1],
            default=None,
        )
        none = "No minimum of this function is known, and Newton's method found none from where paths end"
        if lowest is None:
            return f"{none}: every path diverges."
        return (
            f"{none}. {lowest.label} ends lowest, with the value {words.number(lowest.values[-1], 5)}. Of a "
            "function without a lowest value that says nothing: a higher rate only falls faster. A minimum "
            "that you know can be given with --minimum."
        )
    if not first:
        said = f"Nobody arrives: in {found.steps:,} steps no path comes {near} a minimum and stays."
        ends = [
            (float(path.distances[-1]), path)
            for path in found.paths
            if path.diverged_at is None and path.distances is not None
        ]
        least = min((distance for distance, _ in ends), default=0.0)
        nearest = [path for distance, path in ends if distance <= least * (1 + 1e-6)]
        if not nearest:
            return said
        names = words.listing([path.label for path in nearest])
        at = f" from {point(found.minima[nearest[0].nearest or 0])}" if len(nearest) == 1 else ""
        return f"{said} {names} {'ends' if at else 'end'} nearest, {words.number(least)}{at or ' away'}."
    step = first[0].arrived_at
    if len(first) == 1:
        at = point(found.minima[first[0].nearest or 0])
        said = f"{first[0].label} arrives first: from step {step:,} on it stays {near} {at}."
    else:
        names = words.listing([path.label for path in first])
        said = f"A tie: {names} arrive first, from step {step:,} on {near} a minimum."
    later = sorted(
        (path.arrived_at, path.label)
        for path in found.paths
        if path.arrived_at is not None and path not in first
    )
    if later:
        said += f" Then {words.listing([f'{label} at step {at:,}' for at, label in later])}."
    others = [path.label for path in found.paths if path.arrived_at is None]
    return f"{said} {words.listing(others)} {_do(others)} not arrive." if others else said


def _do(names: Sequence[str]) -> str:
    return "does" if len(names) == 1 else "do"


def _ends(found: Comparison) -> list[str]:
    """Say which of several minima each path is at, and what was taken for a minimum."""
    said = []
    if found.found:
        where = words.listing([point(at) for at in found.minima])
        said.append(
            f"No minimum was known; Newton's method, from where paths end, found {where}. There may be "
            "others, and lower ones."
        )
    if len(found.minima) > 1:
        reached: dict[int, list[str]] = {}
        for path in found.paths:
            if path.arrived_at is not None and path.nearest is not None:
                reached.setdefault(path.nearest, []).append(path.label)
        each = [f"{words.listing(names)} at {point(found.minima[i])}" for i, names in reached.items()]
        if each:
            said.append(f"Of the {words.count(len(found.minima))} minima: {words.listing(each)}.")
    return said


def _diverged(found: Comparison) -> list[str]:
    said = []
    for path in found.paths:
        if path.diverged_at is None:
            continue
        falls = len(path.values) > 1 and path.values[-1] < path.values[0]
        how = "falls without bound" if falls else "diverges"
        every = " at every rate of the grid; the lowest is shown" if path.tried else ""
        said.append(
            f"{path.label} {how}{every}: at step {path.diverged_at:,} it is over a million times "
            "(1 + |start|) away, or has no finite value."
        )
    return said


def _stuck(found: Comparison, saddle: Saddle | None) -> list[str]:
    if saddle is None:
        return []
    stuck = [
        path.label
        for path in found.paths
        if path.diverged_at is None
        and np.linalg.norm(path.points[-1] - np.asarray(saddle.at)) <= found.within
    ]
    if not stuck:
        return []
    ends = f"{words.listing(stuck)} {'ends' if len(stuck) == 1 else 'end'} at the saddle {point(saddle.at)}"
    if found.noise:
        return [f"{ends}: the noise has not driven {'it' if len(stuck) == 1 else 'them'} off yet."]
    return [
        f"{ends}, where the gradient is zero: no minimum, though nothing moves any more. From this start "
        "descent without noise never leaves it; noise in the gradient does (--noise 0.01 --runs 200)."
    ]


def _escaped(saddle: Saddle | None, escapes: Sequence[Escape]) -> list[str]:
    if saddle is None or not escapes:
        return []
    name = "the saddle" if saddle.known else "the saddle that Newton's method found,"
    said = [
        f"Escape from {name} {point(saddle.at)}: the first step at which the value is more than "
        f"{words.number(saddle.drop)} below the saddle's, over {escapes[0].runs} runs with their own noise."
    ]
    for one in escapes:
        low, high = (f"{100 * x:.3g}" for x in one.share_interval)
        text = (
            f"{one.label} (rate {words.rate(one.rate)}) escapes in {one.escaped} of {one.runs} runs within "
            f"{one.steps:,} steps (95 %: {low} to {high} %)"
        )
        if one.median is not None:
            ends = " to ".join(_steps(x) for x in one.median_interval)
            middle = " to ".join(_steps(x) for x in one.quartiles)
            text += f"; median {one.median:,.0f} steps (95 %: {ends}), middle half {middle}"
        if one.predicted is not None:
            text += f". Linear theory, {FORMULA}, predicts a median of {one.predicted:,.0f}"
        said.append(f"{text}.")
    return said


def _steps(x: float | None) -> str:
    return "beyond" if x is None else f"{x:,.0f}"


def _rates(found: Comparison) -> list[str]:
    chosen = [path for path in found.paths if path.tried]
    if not chosen:
        return ["The rates were given."]
    grid = [one.rate for one in chosen[0].tried]
    listed = words.listing([f"{path.label} {words.rate(path.rate)}" for path in chosen])
    if found.minima:
        rule = (
            f"of the rates that end within {found.within:g} of a minimum the one that arrives earliest, else "
            "that which ends nearest to one"
        )
    else:
        rule = "that which ends lowest"
    said = [
        f"Each optimizer ran at the same {len(grid)} rates from {words.rate(grid[0])} to "
        f"{words.rate(grid[-1])} and is shown at its best, {rule}: {listed}."
    ]
    if given := [path.label for path in found.paths if not path.tried]:
        said.append(f"Given was the rate of {words.listing(given)}.")
    for path in chosen:
        if path.edge and path.diverged_at is None:
            beyond = "lower" if path.edge == "lowest" else "higher"
            said.append(
                f"The best rate of {path.label} is the {path.edge} of the grid: a {beyond} one may be better."
            )
    return said


def results(found: Comparison) -> Table:
    """Give the end of each path."""
    rows = [
        (
            path.label,
            words.rate(path.rate),
            words.ABSENT if path.diverged_at is not None else words.number(float(path.values[-1]), 5),
            words.ABSENT if path.diverged_at is not None else point(path.points[-1]),
            words.ABSENT
            if path.distances is None or path.diverged_at is not None
            else words.number(float(path.distances[-1])),
            _arrived(path),
        )
        for path in found.paths
    ]
    names = ("Optimizer", "Rate", "Final value", "Final point", "Distance", "Arrives")
    return Table(
        f"After {found.steps:,} steps",
        tuple(Column(name, name != "Optimizer") for name in names),
        tuple(rows),
    )


def _arrived(path: Path) -> str:
    if path.diverged_at is not None:
        return f"diverges, {path.diverged_at:,}"
    return words.ABSENT if path.arrived_at is None else f"{path.arrived_at:,}"


def as_json(found: Comparison, saddle: Saddle | None, escapes: Sequence[Escape]) -> dict[str, Any]:
    """Give the whole as data for JSON: no number in it is infinite or NaN."""
    surface, first = found.surface, found.first
    by_label = {one.label: one for one in escapes}
    return {
        "function": surface.name,
        "title": surface.title,
        "expression": surface.text,
        "variables": list(surface.expression.variables),
        "source": surface.source,
        "start": list(found.start),
        "minima": [{"at": list(at), "value": float(surface.expression(at))} for at in found.minima],
        "minima_are": "found" if found.found else "known" if found.minima else "unknown",
        "steps": found.steps,
        "within": found.within,
        "noise": found.noise,
        "seed": found.seed,
        "first": first[0].label if len(first) == 1 else None,
        "tied_first": [path.label for path in first] if len(first) > 1 else [],
        "optimizers": [_path(found, path) for path in found.paths],
        "escape": None if saddle is None or not escapes else {
            "saddle": list(saddle.at), "value": saddle.value, "drop": saddle.drop,
            "optimizers": [_escape(by_label[path.label]) for path in found.paths],
        },
        "sentences": list(sentences(found, saddle, escapes)),
    }  # fmt: skip


def _path(found: Comparison, path: Path) -> dict[str, Any]:
    kept = thinned(len(path.points))
    ended = path.diverged_at is None
    distance = float(path.distances[-1]) if path.distances is not None and ended else None
    arrived = path.arrived_at is not None and path.nearest is not None
    return {
        "name": path.optimizer,
        "label": path.label,
        "rate": path.rate,
        "rate_is": "best of the grid" if path.tried else "given",
        "edge_of_grid": path.edge,
        "final": {
            "at": path.points[-1].tolist() if ended else None,
            "value": float(path.values[-1]) if ended else None,
            "distance": distance,
        },
        "entered_at_step": path.entered_at,
        "arrived_at_step": path.arrived_at,
        "reached_minimum": list(found.minima[path.nearest or 0]) if arrived else None,
        "diverged_at": path.diverged_at,
        "path": {
            "steps": kept.tolist(), "points": path.points[kept].tolist(),
            "values": path.values[kept].tolist(),
            "distances": None if path.distances is None else path.distances[kept].tolist(),
        },
        "grid": [
            {
                "rate": one.rate, "final_distance": one.distance, "final_value": one.value,
                "arrived_at_step": one.arrived_at, "diverged_at": one.diverged_at,
            }
            for one in path.tried
        ],
    }  # fmt: skip


def _escape(one: Escape) -> dict[str, Any]:
    return {
        "label": one.label,
        "rate": one.rate,
        "runs": one.runs,
        "escaped": one.escaped,
        "share": one.escaped / one.runs,
        "share_interval": list(one.share_interval),
        "median": one.median,
        "median_interval": list(one.median_interval),
        "quartiles": list(one.quartiles),
        "predicted_median": one.predicted,
    }

"""Figures with what stands around them: title, legend, caption, and the same in words and in numbers."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from markupsafe import Markup

from thalweg.evidence.profile import R_MAX
from thalweg.records import Answer, Finding, Race
from thalweg.report import figures, finder, numbers, words
from thalweg.report.curves import caption, training_loss, validation_score
from thalweg.report.drawing import Style
from thalweg.report.overview import Together
from thalweg.report.rates import RateCurve
from thalweg.report.tables import Table

Looks = dict[str, Style]

# How a marker and a dash of Plotly look in a legend of the page: SVG around the middle of a line.
SHAPES = {
    "circle": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "square": "M-3.5-3.5h7v7h-7z",
    "diamond": "M0-5l4.5 5l-4.5 5l-4.5-5z",
    "triangle-up": "M0-5l5 8.5h-10z",
    "star": "M0-6l1.4 4.1h4.3l-3.5 2.6l1.3 4.2l-3.5-2.6l-3.5 2.6l1.3-4.2l-3.5-2.6h4.3z",
    "triangle-down": "M0 5l5-8.5h-10z",
    "hexagon": "M-4.5 0l2.2-4h4.6l2.2 4l-2.2 4h-4.6z",
    "pentagon": "M0-5l4.8 3.5l-1.8 5.6h-6l-1.8-5.6z",
}
STROKES = {"solid": "none", "dash": "7 4", "dot": "2 3", "dashdot": "7 3 2 3", "longdash": "11 4"}


@dataclass(frozen=True)
class Key:
    """An entry of a legend: who, and how it is drawn."""

    name: str
    colour: str
    stroke: str  # dashes of the line, in SVG
    shape: str  # outline of the marker; "": there is none


@dataclass(frozen=True)
class Picture:
    """A figure with what stands around it, and the same in words for those who do not see it."""

    title: str
    data: Markup  # the figure as JSON
    height: int
    alternative: str
    caption: str
    numbers: Table
    keys: tuple[Key, ...] = ()  # each hides and shows what it names
    sentences: tuple[str, ...] = ()


def along(race: Race, looks: Looks) -> tuple[Picture, ...]:
    """Give the curves of training loss and of the metric that ranks."""
    plan, made = race.plan, []
    for curves, quantity, target in (
        (training_loss(race), "Training loss", None),
        (validation_score(race), f"Validation {plan.metric}", plan.target),
    ):
        drawn = [c for c in curves if c.median]
        if drawn:
            figure = figures.curves(drawn, looks, target)
            ends = [f"{c.optimizer} ends at {words.number(c.median[-1])}" for c in drawn]
            made.append(
                Picture(
                    quantity,
                    script_data(figure, axes=figures.axes(drawn)),
                    figure.layout.height,
                    f"{quantity} along the training, a line for each: {words.listing(ends)}. {NUMBERS}",
                    caption(curves),
                    numbers.along(curves, quantity),
                    _keys((c.optimizer for c in drawn), looks, shapes=False),
                )
            )
    return tuple(made)


def axes(race: Race) -> tuple[str, ...]:
    """Return what the curves of a race can be drawn along, the one that they begin with first."""
    shared = [set(figures.axes(curves)) for curves in (training_loss(race), validation_score(race)) if curves]
    kinds = set.intersection(*shared) if shared else set()
    return tuple(kind for kind in ("epochs", "steps", "seconds") if kind in kinds)


def by_rate(race: Race, curves: Sequence[RateCurve], looks: Looks) -> Picture:
    """Give score against rate."""
    metric = race.plan.metric
    figure = figures.score_by_rate(curves, looks)
    said = (
        "Line: mean over the tuning seeds, a small mark for each seed; the chosen rate stands in a ring. "
        "Bar below: the basin, rates whose mean is within one seed's standard deviation of the best; an "
        "arrow at its end: it may go on beyond what was tried."
    )
    if any(p.diverged for c in curves for p in c.points):
        said += " Cross: a rate at which training diverged."
    best = [f"{c.optimizer} is best at {words.rate(c.best)}" for c in curves if c.best is not None]
    return Picture(
        f"Validation {metric} against learning rate",
        script_data(figure),
        figure.layout.height,
        f"Validation {metric} against learning rate, a line for each: {words.listing(best)}. {NUMBERS}",
        said,
        numbers.by_rate(curves, race.plan),
        _keys((c.optimizer for c in curves), looks),
    )


def best_of_k(race: Race, curves: Sequence[RateCurve], looks: Looks) -> Picture:
    """Give what trying more rates buys."""
    metric = race.plan.metric
    figure = figures.best_of_k(curves, looks)
    ends = [
        f"{c.optimizer} {words.number(c.expected[-1])} of {len(c.expected)}"
        for c in curves
        if c.expected[-1] is not None
    ]
    said = (
        f"The best validation {metric} to expect if only k rates of the grid that tuning began with, drawn "
        "at random, had been run. A line begins where not all k can have diverged."
    )
    if any(c.tuned and not c.rates for c in race.plan.contenders):
        said += " Where the finder chose the grid, the rates that tuning added around the best count too."
    return Picture(
        "Best of k rates",
        script_data(figure),
        figure.layout.height,
        f"Best validation {metric} to expect of k rates, a line for each: {words.listing(ends)}. {NUMBERS}",
        said,
        numbers.best_of_k(curves, race.plan),
        _keys((c.optimizer for c in curves), looks),
    )


def profile(found: Together, looks: Looks) -> Picture:
    """Give what the same optimizers took on several tasks."""
    figure = figures.profile(found.profile, looks)
    tasks = words.count(len(found.tasks))
    mark = "its target" if found.targets else "the training loss that all of them reach"
    scores = [f"{name} scores {words.number(score)}" for name, score in found.profile.scores.items()]
    return Picture(
        "Performance profile",
        script_data(figure),
        figure.layout.height,
        f"Share of tasks on which each is within a factor of the best: {words.listing(scores)}. {NUMBERS}",
        f"On how many of the {tasks} tasks an optimizer reaches {mark} within so many times the epochs of "
        f"the fastest. Score: the mean height up to {R_MAX:g} times; it depends on who else runs.",
        numbers.profile(found.profile, found.costs, found.tasks),
        _keys(found.profile.ratios, looks),
    )


def found(finding: Finding) -> Picture:
    """Give what the rate finder measured for one optimizer."""
    figure = finder.figure(finding)
    figure.update_layout(showlegend=False)
    outcome = (
        f"suggested: {words.rate(finding.suggestion)}"
        if finding.outcome is Answer.FOUND
        else f"no answer: {finding.outcome}"
    )
    cost = (
        f"{words.plural(finding.sweeps, 'sweep')} over {len(finding.rates)} rates, {finding.steps:,} updates "
        "in all."
    )
    if finding.short:  # what was trained longer lies lower, whatever its rate
        cost += (
            f" The short race trained for up to {finding.horizon:,} updates, less where it gave a rate up."
        )
    return Picture(
        f"{finding.optimizer}, {outcome}",
        script_data(figure),
        figure.layout.height,
        f"Loss against learning rate for {finding.optimizer}; {outcome}. {NUMBERS}",
        cost,
        numbers.swept(finding),
        sentences=finding.sentences,
    )


FINDER_KEYS = (
    Key("loss of the sweeps, with their band", finder.LOSS, "none", ""),
    Key("suggested; the stripe: not told apart from it", finder.SUGGESTED, "none", ""),
    Key("short race: mean validation loss", finder.SHORT, "", SHAPES["diamond"]),
    Key("sweeps diverge", finder.DIVERGES, STROKES["dot"], ""),
)
NUMBERS = "The numbers are in a table below."


def script_data(figure: go.Figure, **more: Any) -> Markup:
    """Write a figure as JSON in which nothing can end the script element that holds it."""
    text: str = figure.to_json()
    if more:
        extra: Mapping[str, Any] = more
        text = f"{text[:-1]},{json.dumps(extra)[1:]}"
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _keys(optimizers: Iterable[str], looks: Looks, shapes: bool = True) -> tuple[Key, ...]:
    return tuple(
        Key(
            name,
            looks[name].colour,
            STROKES[looks[name].dash],
            SHAPES[looks[name].marker] if shapes else "",
        )
        for name in optimizers
    )

"""Write a race, or several, as one HTML file that needs nothing else: no network, no server.

Whatever came from a person (names, commands) is escaped by the template, and inside the data of the
figures; a policy in the page's head forbids the browser to load anything.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jinja2
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from thalweg.errors import InputError
from thalweg.files import write_whole
from thalweg.records import Race
from thalweg.report import curves as along
from thalweg.report import figures, summary, tables, words
from thalweg.report import rates as of_rates


@dataclass(frozen=True)
class Picture:
    """A figure with what stands around it, and the same in words for those who do not see it."""

    title: str
    data: Markup  # the figure as JSON
    height: int
    alternative: str
    caption: str
    numbers: tables.Table


@dataclass(frozen=True)
class Section:
    """One race as the page shows it."""

    title: str
    facts: tuple[str, ...]
    finished: bool
    sentences: tuple[str, ...]
    pictures: tuple[Picture, ...]
    final: tables.Table
    pairs: tables.Table
    ledger: tables.Table
    spent: str
    conditions: tables.Table
    command: str


def write(races: Race | Sequence[Race], path: Path) -> Path:
    """Write the report of a race, or one of several with a section each, and return its path.

    The file is replaced in one go: a reader sees the old one or the new one, never a half. Raises
    InputError when there is no race or the file cannot be written.
    """
    races = [races] if isinstance(races, Race) else list(races)
    if not races:
        raise InputError("a report", "have a race to show", "none", "Name the folder of a finished race.")
    text = html(races)
    with suppress(OSError):  # said in words where the file is written
        path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.encode())
    return path


def html(races: Sequence[Race]) -> str:
    """Render races as the text of one HTML page."""
    looks = figures.styles(c.name for race in races for c in race.plan.contenders)
    return _template().render(
        sections=[section(race, looks) for race in races],
        plotly=Markup(get_plotlyjs()),
        version=races[0].plan.versions.get("thalweg", ""),
    )


def section(race: Race, looks: dict[str, figures.Style]) -> Section:
    """Gather what the page says of one race."""
    plan, ledger = race.plan, race.ledger
    names = [c.name for c in plan.contenders]
    return Section(
        title=f"{words.listing(names) if len(names) < 6 else f'{len(names)} optimizers'} on {plan.task}",
        facts=(
            f"{words.number(plan.epochs)} epochs",
            f"batch size {plan.batch_size}",
            words.plural(len(plan.final_seeds), "final seed"),
            "rates tuned" if any(c.tuned for c in plan.contenders) else "rates given",
        ),
        finished=race.verdict is not None,
        sentences=summary.sentences(race),
        pictures=_pictures(race, looks),
        final=tables.final(race),
        pairs=tables.pairs(race),
        ledger=tables.ledger(race),
        spent=f"{words.duration(ledger.total_seconds)} of training in all." if ledger else "",
        conditions=tables.conditions(race),
        command=race.command,
    )


def _pictures(race: Race, looks: dict[str, figures.Style]) -> tuple[Picture, ...]:
    metric = race.plan.metric
    pictures = []
    for curves, quantity in (
        (along.training_loss(race), "Training loss"),
        (along.validation_score(race), f"Validation {metric}"),
    ):
        if any(c.median for c in curves):
            figure = figures.curves(curves, looks)
            numbers = tables.along(curves, quantity)
            pictures.append(_picture(quantity, figure, along.caption(curves), numbers))
    rates = of_rates.score_by_rate(race)
    if rates:
        title = f"Validation {metric} against learning rate"
        caption = "Mean over the tuning seeds, a small mark for each seed; the chosen rate stands in a ring."
        if any(p.diverged for c in rates for p in c.points):
            caption += " A cross marks a rate at which training diverged."
        figure = figures.score_by_rate(rates, looks)
        pictures.append(_picture(title, figure, caption, tables.by_rate(rates, metric)))
    return tuple(pictures)


def _picture(title: str, figure: go.Figure, caption: str, numbers: tables.Table) -> Picture:
    alternative = f"{title} of each optimizer, drawn over each other. The numbers are in the table below it."
    return Picture(title, _script_data(figure), figure.layout.height, alternative, caption, numbers)


def _script_data(figure: go.Figure) -> Markup:
    """Write a figure as JSON in which nothing can end the script element that holds it."""
    data = figure.to_json()
    for character in "<>&\u2028\u2029":
        data = data.replace(character, f"\\u{ord(character):04x}")
    return Markup(data)


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("thalweg.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html")

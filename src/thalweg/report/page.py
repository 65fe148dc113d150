"""Write a race, or several, as one HTML file that needs nothing else: no network, no server.

Whatever came from a person (names, commands) is escaped by the template, and inside the data of the
figures; a policy in the page's head forbids the browser to load anything.
"""

from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from thalweg.errors import InputError
from thalweg.files import write_whole
from thalweg.records import Finding, Race
from thalweg.report import drawing, overview, pictures, sections


def write(races: Race | Sequence[Race], path: Path) -> Path:
    """Write the report of a race, or one of several with a section each, and return its path.

    A race that follows another one of these stands in the section of that one; of races with one key the one
    that is furthest is shown. The file is replaced in one go: a reader sees the old one or the new one, never
    a half. Raises InputError when there is no race or the file cannot be written.
    """
    races = [races] if isinstance(races, Race) else list(races)
    if not races:
        raise InputError("a report", "have a race to show", "none", "Name the folder of a finished race.")
    return written(html(races), path)


def write_findings(findings: Sequence[Finding], path: Path, title: str) -> Path:
    """Write what the rate finder measured, a picture for each optimizer, as a page of its own.

    Replaces the file in one go and returns its path. Raises InputError when there is no finding or the file
    cannot be written.
    """
    if not findings:
        raise InputError("a report", "have a finding to show", "none", "Run the rate finder.")
    found = [pictures.found(finding) for finding in findings]
    return written(rendered("findings.html", title=title, found=found, version=""), path)


def html(races: Sequence[Race]) -> str:
    """Render races as the text of one HTML page."""
    races = overview.distinct(races)
    looks = drawing.styles(c.name for race in races for c in race.plan.contenders)
    families = overview.families(races)
    shown = [sections.section(family, looks, f"race-{i}") for i, family in enumerate(families, start=1)]
    together = overview.together([family.race for family in families])
    return rendered(
        "report.html",
        title=shown[0].title if len(shown) == 1 else f"{len(races)} races",
        sections=shown,
        races=sections.races(families),
        links=sections.links(shown),
        profile=pictures.profile(together, looks) if together else None,
        version=races[0].plan.versions.get("thalweg", ""),
    )


def rendered(name: str, **values: Any) -> str:
    """Return a page as text: a template and what it shows, with the drawing library in it."""
    return (
        _templates()
        .get_template(name)
        .render(plotly=Markup(get_plotlyjs()), finder_keys=pictures.FINDER_KEYS, **values)
    )


def written(text: str, path: Path) -> Path:
    """Write a page in one go, make its folder if need be, and return its path."""
    with suppress(OSError):  # said in words where the file is written
        path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.encode())
    return path


@cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("thalweg.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

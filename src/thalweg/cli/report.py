"""`thalweg report`: draw stored races again, without torch."""

from pathlib import Path

import click

from thalweg.cli.options import RUNS, json_option, print_json
from thalweg.errors import InputError


@click.command()
@click.argument("folders", nargs=-1, metavar="[DIR]...", help=f"Folders of runs; else {RUNS}.")
@click.option("--race", "wanted", metavar="KEY", help="Only the race whose key begins so.")
@click.option("--out", metavar="FILE", help="The page to write; else report.html in the first folder.")
@json_option
def report(folders: tuple[str, ...], wanted: str | None, out: str | None, as_json: bool) -> None:
    """Draw stored races again, in one page.

    Nothing is trained and torch is not needed; several folders are merged. A race that goes on with the
    winner of another one, such as a race of schedules, stands in the section of that one.
    """
    from thalweg import report as drawing
    from thalweg.report import overview
    from thalweg.store import Store

    places = folders or (RUNS,)
    stored = []
    for folder in places:
        with Store.open(folder, create=False) as store:
            keys = dict.fromkeys(summary.key for summary in store.races())
            stored += [store.race(key) for key in keys]
    races = [
        race
        for race in overview.distinct(stored)
        if race.key.startswith(wanted or "") or (wanted and race.follows.startswith(wanted))
    ]
    if not races:
        asked = f"a race whose key begins with {wanted}" if wanted else "a race"
        raise InputError(" and ".join(places), f"keep {asked}", "none", "Run one: thalweg showdown digits.")
    page = drawing.write(races, Path(out) if out else Path(places[0]) / "report.html")
    shown = [(family.race, family.schedules) for family in overview.every(overview.families(races))]
    if as_json:
        print_json([drawing.as_json(race, page, schedules) for race, schedules in shown])
        return
    for race, schedules in shown:
        what = ", ".join(filter(None, (race.plan.task, race.plan.vary)))
        click.echo(f"{what}, begun {race.started_at}\n{drawing.text(race, schedules)}")
    click.echo(f"Report: {page}")

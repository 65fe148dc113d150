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

    Nothing is trained and torch is not needed; several folders are merged.
    """
    from thalweg import report as drawing
    from thalweg.store import Store

    places = folders or (RUNS,)
    races = []
    for folder in places:
        with Store.open(folder, create=False) as store:
            keys = [summary.key for summary in store.races()]
            races += [store.race(key) for key in dict.fromkeys(keys) if key.startswith(wanted or "")]
    if not races:
        asked = f"a race whose key begins with {wanted}" if wanted else "a race"
        raise InputError(" and ".join(places), f"keep {asked}", "none", "Run one: thalweg showdown digits.")
    page = drawing.write(races, Path(out) if out else Path(places[0]) / "report.html")
    if as_json:
        print_json([drawing.as_json(race, page) for race in races])
        return
    for race in races:
        click.echo(f"{race.plan.task}, begun {race.started_at}\n{drawing.text(race)}")
    click.echo(f"Report: {page}")

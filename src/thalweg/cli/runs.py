"""`thalweg runs`: what a folder keeps."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from thalweg.cli.options import RUNS, json_option, print_json

if TYPE_CHECKING:
    from thalweg.store import RaceSummary


@click.command()
@click.argument("folder", default=RUNS, metavar="[DIR]", help=f"Folder of runs; else {RUNS}.")
@json_option
def runs(folder: str, as_json: bool) -> None:
    """List the races and trainings that a folder keeps."""
    from thalweg.records import to_data
    from thalweg.store import Store

    with Store.open(folder, create=False) as store:
        races, trainings = store.races(), store.single_traces()
    if as_json:
        print_json({"races": [asdict(r) for r in races], "trainings": [to_data(t) for t in trainings]})
        return
    from thalweg.cli.table import show

    if races:
        show(
            ("race", "task", "optimizers", "begun", "result"),
            [(r.key[:8], r.task, _who(r), _day(r.started_at), _result(r)) for r in races],
        )
    if trainings:
        show(
            ("training", "task", "optimizer", "rate", "begun", "score", "result"),
            [
                (
                    t.key[:8],
                    t.task,
                    t.contender,
                    f"{t.rate:g}",
                    _day(t.started_at),
                    "–" if t.score is None else f"{t.score:.4g}",
                    str(t.outcome),
                )
                for t in trainings
            ],
        )
    if not races and not trainings:
        click.echo(f"{folder} keeps no runs yet. Begin with: thalweg showdown digits --out {folder}")


def _who(race: "RaceSummary") -> str:
    after = f"{race.vary} after {race.follows[:8]}: " if race.follows else ""
    return after + ", ".join(race.optimizers)


def _day(at: str) -> str:
    return at[:16].replace("T", " ")


def _result(race: "RaceSummary") -> str:
    if race.finished_at is None:
        return f"unfinished: {race.trials_done} of at most {race.trials_planned} trials"
    if race.winner:
        return f"{race.winner} wins"
    if race.tie and race.undecided:
        return "undecided: too few seeds"
    return f"{', '.join(race.tie)} tie" if race.tie else "no comparison"

"""What the page says of one race, gathered in the order in which it is read."""

from collections.abc import Sequence
from dataclasses import dataclass

from thalweg.records import Race, Recommendation
from thalweg.report import numbers, pictures, summary, tables, words
from thalweg.report.curves import target_times
from thalweg.report.overview import Family, every, result
from thalweg.report.pictures import Looks, Picture
from thalweg.report.rates import score_by_rate
from thalweg.report.tables import Column, Table


@dataclass(frozen=True)
class Section:
    """One race as the page shows it."""

    name: str  # of its element on the page
    title: str
    facts: tuple[str, ...]
    finished: bool
    sentences: tuple[str, ...]
    recommendation: Recommendation | None
    pick: str  # what is recommended, in a line
    reasons: tuple[str, ...]  # of the recommendation, without what the sentences say already
    final: Table
    curves: tuple[Picture, ...]
    axes: tuple[str, ...]  # that the curves can be drawn along, the first one at the beginning
    share: bool  # whether a second is a share of a fleet's
    targets: Table
    rates: Picture | None
    sensitivity: Table | None
    found: tuple[Picture, ...]
    best: Picture | None
    pairs: Table
    ledger: Table
    spent: str
    conditions: Table
    command: str
    follow_ups: tuple["Section", ...]


def section(family: Family, looks: Looks, name: str) -> Section:
    """Gather what the page says of a race and of those that follow it."""
    race = family.race
    plan, ledger = race.plan, race.ledger
    measured = score_by_rate(race)
    sentences = summary.sentences(race)
    recommended = summary.recommended(race, family.schedules)
    reasons = recommended.reasons if recommended else ()
    return Section(
        name=name,
        title=title(race),
        facts=(
            f"{words.number(plan.epochs)} epochs",
            f"batch size {plan.batch_size}",
            words.plural(race.verdict.seeds if race.verdict else len(plan.final_seeds), "final seed"),
            "rates tuned" if any(c.tuned for c in plan.contenders) else "rates given",
        ),
        finished=race.verdict is not None,
        sentences=sentences,
        recommendation=recommended,
        pick=summary.pick(recommended) if recommended else "",
        reasons=tuple(reason for reason in reasons if reason not in sentences),
        final=tables.final(race),
        curves=pictures.along(race, looks),
        axes=pictures.axes(race),
        share=plan.wave > 0,
        targets=numbers.to_target(target_times(race), plan),
        rates=pictures.by_rate(race, measured, looks) if measured else None,
        sensitivity=numbers.sensitivity(measured, plan) if measured else None,
        found=tuple(map(pictures.found, race.findings)),
        best=pictures.best_of_k(race, measured, looks) if any(len(c.points) > 1 for c in measured) else None,
        pairs=tables.pairs(race),
        ledger=tables.ledger(race),
        spent=f"{words.duration(ledger.total_seconds)} of training in all." if ledger else "",
        conditions=tables.conditions(race),
        command=race.command,
        follow_ups=tuple(
            section(child, looks, f"{name}-{i}") for i, child in enumerate(family.follow_ups, start=1)
        ),
    )


def title(race: Race) -> str:
    """Return the heading of a race: who ran on what, or what goes on with the winner of another race."""
    plan = race.plan
    names = [c.name for c in plan.contenders]
    if race.follows and plan.vary == "schedule":
        return "Schedules under the winner"
    if plan.vary:
        return f"{plan.vary}: {words.listing(names)} on {plan.task}"
    return f"{words.listing(names) if len(names) < 6 else f'{len(names)} optimizers'} on {plan.task}"


def links(sections: Sequence[Section]) -> list[str]:
    """Return where each race is on the page, each before those that follow it."""
    return [link for s in sections for link in (f"#{s.name}", *links(s.follow_ups))]


def races(families: Sequence[Family]) -> Table:
    """Give what each race of a page found."""
    columns = [Column(name, False) for name in ("Race", "Result")] + [
        Column(name) for name in ("Best mean score", "95 % interval", "Final seeds")
    ]
    rows = (_row(family.race) for family in every(families))
    return Table("What each race found", tuple(columns), tuple(rows))


def _row(race: Race) -> tuple[str, ...]:
    verdict = race.verdict
    first = verdict.ranking[0] if verdict else None
    decimals = words.decimals_of([first.interval], [first.score]) if first else 0
    return (
        title(race),
        result(race),
        f"{race.plan.metric} {words.fixed(first.score, decimals)}" if first else words.ABSENT,
        words.interval(first.interval, decimals) if first else words.ABSENT,
        str(verdict.seeds) if verdict else words.ABSENT,
    )

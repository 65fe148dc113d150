"""The tables of the verdict, the costs and the plan, as words: one place decides how numbers are rounded.

The page and the terminal show the same cells. The numbers behind pictures are in `numbers`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from thalweg.records import Contender, FinderPlan, LedgerRow, Pair, Plan, Race
from thalweg.report import summary, words


@dataclass(frozen=True)
class Column:
    """A heading, and whether numbers stand under it."""

    name: str
    numeric: bool = True


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]


def subject(plan: Plan) -> str:
    """Return what the contenders of a race differ in, as a heading."""
    return plan.vary or "Optimizer"


def final(race: Race) -> Table:
    """Give the final table: place, rate, scores with intervals, gap and cost of each optimizer."""
    rows = summary.rows(race)
    standings = [row.standing for row in rows]
    decimals = words.decimals_of(
        [ends for s in standings for ends in (s.interval, s.test_interval)],
        [x for s in standings for x in (s.score, s.test)],
    )
    cells = [
        (
            row.standing.optimizer,
            _rate(row.standing.rate, row.standing.edge),
            words.fixed(row.standing.score, decimals),
            words.interval(row.standing.interval, decimals),
            words.fixed(row.standing.test, decimals),
            words.interval(row.standing.test_interval, decimals),
            words.fixed(row.standing.gap, decimals),
            words.duration(row.step_seconds),
            words.number(row.state_bytes_per_parameter),
            f"{row.standing.diverged} of {row.standing.seeds}",
        )
        for row in rows
    ]
    metric = race.plan.metric
    headings = [
        "Rate",
        f"Validation {metric}",
        "95 % interval",
        f"Test {metric}",
        "Test interval",
        "Gap",
        "Time per step",
        "State bytes per parameter",
        "Diverged",
    ]
    columns = (Column(subject(race.plan), numeric=False), *map(Column, headings))
    return Table(f"Means over the final seeds, best first. {time_note(race)}", columns, tuple(cells))


def time_note(race: Race) -> str:
    """Say what the time of a step is: in a fleet that of one optimizer cannot be told from the others'."""
    if race.plan.wave:
        return "Time per step is a model's share of its fleet's, whatever its optimizer."
    return "Time per step is the median measured on this machine."


def pairs(race: Race) -> Table:
    """Give the comparison of each two optimizers."""
    found: Sequence[Pair] = race.verdict.pairs if race.verdict else ()
    decimals = words.decimals_of([p.interval for p in found], [p.difference for p in found])
    cells = [
        (
            f"{p.a} − {p.b}",
            words.fixed(p.difference, decimals),
            words.interval(p.interval, decimals),
            words.probability(p.p_holm),
            words.probability(p.probability_a_better),
            f"{p.better} is better" if p.better else "not told apart",
        )
        for p in found
    ]
    columns = (
        Column("Pair", numeric=False),
        Column("Mean difference"),
        Column("95 % interval"),
        Column("p, corrected"),
        Column("P(first better)"),
        Column("Decision", numeric=False),
    )
    return Table(f"Differences in validation {race.plan.metric}, seed by seed", columns, tuple(cells))


def ledger(race: Race) -> Table:
    """Give what each optimizer cost."""
    found: Sequence[LedgerRow] = race.ledger.rows if race.ledger else ()
    searched = any(row.finder_trials or row.finder_steps for row in found)
    cells = [
        (
            row.optimizer,
            _rates(row.rates_tried),
            *((f"{row.finder_trials:,}", f"{row.finder_steps:,}") if searched else ()),
            str(row.tuning_trials),
            str(row.final_trials),
            str(row.diverged_trials),
            f"{row.steps:,}",
            f"{row.gradient_examples:,}",
            words.duration(row.total_seconds),
        )
        for row in found
    ]
    headings = [
        *(["Finder trials", "Finder updates"] if searched else []),
        *("Tuning trials", "Final trials", "Diverged", "Updates", "Gradient examples", "Time"),
    ]
    columns = (Column(subject(race.plan), False), Column("Rates tried", False), *map(Column, headings))
    return Table("What each was given and has used", columns, tuple(cells))


def conditions(race: Race) -> Table:
    """Give the plan and the machine, as pairs of words."""
    plan = race.plan
    tuned = [c for c in plan.contenders if c.tuned]
    parts = (plan.train_examples, plan.validation_examples, plan.test_examples)
    cells = [
        ("Task", plan.task),
        ("Ranked by", f"{plan.metric} on the validation part, {plan.direction} is better"),
        ("Examples", "{:,} training, {:,} validation, {:,} test".format(*parts)),
        *([("Contenders differ in", plan.vary)] if plan.vary else []),
        ("Budget of a trial", _budget(plan)),
        *([("Target", f"{plan.metric} {words.number(plan.target, 4)}")] if plan.target is not None else []),
        *([("Rate finder", _finder(plan.finder))] if plan.finder else []),
        ("Rates", _tuning(plan, tuned)),
        ("Final seeds", _seeds(race)),
        ("Root seed", str(plan.seed)),
        ("Execution", f"{plan.executor}, {words.plural(plan.threads, 'thread')}"),
        *([("Chosen", plan.why)] if plan.why else []),
        *([("Begun again", _again(race))] if any(t.attempts > 1 for t in race.traces) else []),
        ("Versions", ", ".join(f"{name} {version}" for name, version in plan.versions.items())),
        *((name.capitalize(), value) for name, value in race.environment.items()),
        ("Started", race.started_at or words.ABSENT),
        ("Finished", race.finished_at or "not yet"),
    ]
    return Table("How the race was run", (Column("", False), Column("", False)), tuple(cells))


def _again(race: Race) -> str:
    deaths = sum(trace.attempts - 1 for trace in race.traces)
    return f"{words.plural(deaths, 'time')}, for the process of a trial had died"


def _rate(rate: float | None, edge: str | None) -> str:
    if rate is None:
        return "all diverged"
    return f"{words.rate(rate)} ({edge} tried)" if edge else words.rate(rate)


def _rates(tried: Sequence[float]) -> str:
    if len(tried) < 3:
        return ", ".join(map(words.rate, tried))
    return f"{len(tried)} from {words.rate(min(tried))} to {words.rate(max(tried))}"


def _budget(plan: Plan) -> str:
    said = f"{words.number(plan.epochs)} epochs, {plan.steps:,} updates of {plan.batch_size}"
    own = [c for c in plan.contenders if c.steps is not None or c.batch_size is not None]
    if own:
        each = (f"{c.name} {c.steps or plan.steps:,} of {c.batch_size or plan.batch_size}" for c in own)
        said += f"; but {', '.join(each)}"
    if plan.budget_seconds is not None:
        said += f": {words.duration(plan.budget_seconds)} were asked for"
    return said


def _finder(finder: FinderPlan) -> str:
    return (
        f"{words.plural(len(finder.sweep_seeds), 'sweep')} of {finder.sweep_steps:,} updates, then "
        f"{words.plural(finder.short_rates, 'rate')} for {finder.short_steps:,} updates on "
        f"{words.plural(len(finder.short_seeds), 'seed')}, the same for each"
    )


def _seeds(race: Race) -> str:
    plan, verdict = race.plan, race.verdict
    said = f"{len(plan.final_seeds)}, none of them used in tuning"
    if len(plan.looks) > 1:
        said += f"; the race may end after {words.listing([str(n) for n in plan.looks])}"
        said += f", and ended after {verdict.seeds}" if verdict else ""
    return said


def _tuning(plan: Plan, tuned: Sequence[Contender]) -> str:
    if not tuned:
        return "given, not tuned"
    quotas = sorted({c.quota for c in tuned})
    seeds = words.plural(len(plan.tuning_seeds), "tuning seed")
    said = f"{' to '.join(map(str, quotas))} for each, on {'up to ' if plan.halving else ''}{seeds}"
    if plan.halving:
        said += ": only the better half of them on a second one, and so on"
    if len(tuned) < len(plan.contenders):
        said = f"{words.listing([c.name for c in tuned])}: {said}; the others were given theirs"
    return said

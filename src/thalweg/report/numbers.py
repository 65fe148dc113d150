"""The numbers behind each picture, as tables."""

from collections.abc import Mapping, Sequence

from thalweg.evidence.profile import R_MAX, Profile
from thalweg.evidence.summaries import Basin
from thalweg.records import Finding, Plan
from thalweg.report import words
from thalweg.report.curves import Curve, TargetTime, checkpoints
from thalweg.report.finder import curve, short_race
from thalweg.report.rates import RateCurve
from thalweg.report.tables import Column, Table, subject


def along(curves: Sequence[Curve], quantity: str) -> Table:
    """Give the medians of curves at a few epochs."""
    curves = [c for c in curves if c.median]
    epochs, values = zip(*checkpoints(curves), strict=True) if curves else ((), ())
    shown = words.apart(epochs)
    cells = [(e, *(words.number(x) for x in row)) for e, row in zip(shown, values, strict=True)]
    columns = (Column("Epoch"), *(Column(c.optimizer) for c in curves))
    return Table(f"{quantity}: median over the seeds", columns, tuple(cells))


def to_target(found: Sequence[TargetTime], plan: Plan) -> Table:
    """Give what it took each optimizer to reach the target."""
    cells = [
        (
            t.optimizer,
            f"{t.reached} of {t.seeds}",
            words.ABSENT if t.steps is None else f"{t.steps:,.0f}",
            words.number(t.epochs),
            words.duration(t.seconds),
        )
        for t in sorted(found, key=lambda t: (t.epochs is None, t.epochs, -t.reached))
    ]
    columns = (Column(subject(plan), False), *map(Column, ("Seeds that reach it", "Steps", "Epochs", "Time")))
    target = f"{plan.metric} of {words.number(plan.target, 4)}"
    return Table(f"Time to a validation {target}: median over the seeds", columns, tuple(cells))


def by_rate(curves: Sequence[RateCurve], plan: Plan) -> Table:
    """Give what tuning measured at each rate."""
    cells = [
        (
            curve.optimizer,
            words.rate(point.rate),
            words.number(point.mean, 4),
            f"{point.diverged} of {point.diverged + len(point.scores)}",
            "chosen" if point.chosen else "",
        )
        for curve in curves
        for point in curve.points
    ]
    columns = (
        Column(subject(plan), False),
        Column("Rate"),
        Column(f"Mean validation {plan.metric}"),
        Column("Diverged"),
        Column("", False),
    )
    return Table("Every rate that was tried", columns, tuple(cells))


def sensitivity(curves: Sequence[RateCurve], plan: Plan) -> Table:
    """Give how much the rate of each optimizer matters."""
    cells = [
        (
            curve.optimizer,
            words.rate(curve.best),
            _range(curve.basin),
            _decades(curve.basin),
            words.number(curve.sensitivity),
        )
        for curve in curves
    ]
    headings = ("Best rate", "Basin", "Decades", "Sensitivity S")
    columns = (Column(subject(plan), False), *map(Column, headings))
    return Table("How much the rate matters", columns, tuple(cells))


def best_of_k(curves: Sequence[RateCurve], plan: Plan) -> Table:
    """Give the score to expect of the best of k rates."""
    most = max(len(c.expected) for c in curves)
    decimals = words.decimals_of([], [x for c in curves for x in c.expected])
    cells = [
        (
            str(k),
            *(words.fixed(c.expected[k - 1] if k <= len(c.expected) else None, decimals) for c in curves),
        )
        for k in range(1, most + 1)
    ]
    columns = (Column("Rates tried"), *(Column(c.optimizer) for c in curves))
    return Table(f"Validation {plan.metric} to expect of the best", columns, tuple(cells))


def swept(finding: Finding) -> Table:
    """Give the loss at a few rates of a finder's sweeps, its short race, and what others would pick."""
    points = curve(finding)
    every = max(1, round(len(points) / 10))
    rows = [("sweeps", words.rate(rate), words.number(loss, 4)) for rate, loss in points[::every]]
    rows += [
        (
            "short race" if loss is not None else "short race, diverged",
            words.rate(rate),
            words.number(loss, 4),
        )
        for rate, loss in short_race(finding)
    ]
    rows += [(f"pick: {name}", words.rate(rate), words.ABSENT) for name, rate in finding.picks.items()]
    columns = (Column("", False), Column("Rate"), Column("Loss"))
    caption = "Training loss of the sweeps, validation loss of the short race, and what others would pick"
    return Table(caption, columns, tuple(rows))


def profile(found: Profile, costs: Mapping[str, Sequence[float | None]], tasks: Sequence[str]) -> Table:
    """Give the cost of each optimizer on each task, and what the profile makes of it."""
    cells = [
        (
            name,
            *(words.number(cost) for cost in costs[name]),
            words.number(found.scores[name]),
            str(found.misses[name]),
        )
        for name in sorted(found.scores, key=lambda name: -found.scores[name])
    ]
    columns = (
        Column("Optimizer", False),
        *(Column(f"Epochs on {task}") for task in tasks),
        Column(f"Score B, up to {R_MAX:g} times"),
        Column("Misses"),
    )
    return Table("Epochs that each optimizer took, and the score of its profile", columns, tuple(cells))


def _range(basin: Basin | None) -> str:
    return words.ABSENT if basin is None else f"{words.rate(basin.low)} to {words.rate(basin.high)}"


def _decades(basin: Basin | None) -> str:
    if basin is None:
        return words.ABSENT
    return f"{'≥ ' if basin.open else ''}{words.fixed(basin.decades, 2)}"

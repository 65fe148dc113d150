"""The answer of a race for the terminal, for a pipe, and for another program."""

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from thalweg.records import Finding, Pair, Race, Recommendation, to_data
from thalweg.report import summary, tables, words
from thalweg.report.curves import TargetTime, target_times

WIDTH = 100
ON_THE_PAGE = ("Test interval",)  # too wide for a terminal
# What a narrow terminal does without as well, the first one first.
DISPENSABLE = ("State bytes per parameter", "Time per step", "Gap", "Diverged")


def render(race: Race, schedules: Race | None = None) -> Group:
    """Make what a terminal shows at the end of a race.

    The sentences, what to use and why, the final table, how trials ran, and the lines of PyTorch. `schedules`
    is a finished race of schedules that goes on with the winner of this one.
    """
    sentences = summary.sentences(race)
    said = [Text(sentence) for sentence in sentences]
    said[0].stylize("bold")
    if race.verdict is None:
        return Group(*said)
    how = [Text(f"How trials ran: {race.plan.why}.")] if race.plan.why else []
    table: list[RenderableType] = [Text(), _Fitting(tables.final(race), tables.time_note(race)), *how]
    recommended = summary.recommended(race, schedules)
    if recommended is None:
        return Group(*said, *table)
    reasons = [Text(reason) for reason in recommended.reasons if reason not in sentences]
    return Group(
        *said,
        Text(),
        Text(summary.pick(recommended), style="bold"),
        *reasons,
        *table,
        Text("\nIn PyTorch:\n", style="bold"),
        _Code(recommended.code),
        Text("\nThe recipe is in the report, as TOML."),
    )


def text(race: Race, schedules: Race | None = None) -> str:
    """Write the same as plain text, for a pipe or a file: no colours, at most 100 columns."""
    console = Console(file=io.StringIO(), width=WIDTH, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(render(race, schedules))
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def as_json(race: Race, report_path: Path | None, schedules: Race | None = None) -> dict[str, Any]:
    """Give the answer as plain values for JSON; times and dates stand only in ``…_seconds`` and ``…_at``.

    `schedules` is a finished race of schedules that goes on with the winner of this one.
    """
    verdict = race.verdict
    recommended = summary.recommended(race, schedules)
    return {
        "winner": verdict.winner if verdict else None,
        "tie": list(verdict.tie) if verdict else [],
        "ranking": [_ranked(row) for row in summary.rows(race)],
        "direction": str(race.plan.direction),
        "metric": race.plan.metric,
        "seeds": verdict.seeds if verdict else len(race.plan.final_seeds),
        "sentences": list(summary.sentences(race)),
        "recommendation": None if recommended is None else _recommended(recommended),
        "pairs": [_pair(pair) for pair in verdict.pairs] if verdict else [],
        "findings": [_found(finding) for finding in race.findings],
        "time_to_target": [_arrived(found) for found in target_times(race)],
        "schedules": None if schedules is None else as_json(schedules, report_path),
        "ledger": to_data(race.ledger),
        "report": None if report_path is None else str(report_path),
        "started_at": race.started_at,
        "finished_at": race.finished_at,
    }


def _arrived(found: TargetTime) -> dict[str, Any]:
    return {key: getattr(found, key) for key in ("optimizer", "reached", "seeds", "steps", "seconds")}


def finding_json(finding: Finding) -> dict[str, Any]:
    """Give what the rate finder measured for one optimizer as plain values for JSON."""
    data = to_data(finding)
    return {**_found(finding), **{k: data[k] for k in ("sentences", "short", "horizon", "steps", "picks")}}


def _found(finding: Finding) -> dict[str, Any]:
    data = to_data(finding)
    keys = ("optimizer", "suggestion", "low", "high", "outcome", "diverges_at", "rates", "losses")
    return {key: data[key] for key in keys}


def _recommended(recommendation: Recommendation) -> dict[str, Any]:
    data = to_data(recommendation)
    return {"optimizer": data.pop("contender"), **data}


def _pair(pair: Pair) -> dict[str, Any]:
    data = to_data(pair)
    del data["seeds"]
    return dict(data)


def _ranked(row: summary.Row) -> dict[str, Any]:
    standing = row.standing
    return {
        "optimizer": standing.optimizer,
        "rate": standing.rate,
        "score": standing.score,
        "interval": to_data(standing.interval),
        "test": standing.test,
        "gap": standing.gap,
        "step_seconds": row.step_seconds,
        "state_bytes_per_parameter": row.state_bytes_per_parameter,
        "diverged": standing.diverged,
    }


@dataclass(frozen=True)
class _Code:
    """Lines of Python that still run where they had to be broken: within brackets, or as comments."""

    code: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in self.code.splitlines():
            yield Text("\n".join(_broken(line, options.max_width)))


def _broken(line: str, width: int) -> list[str]:
    """Break a line of Python at blanks, so that none is longer than the width, if there are blanks."""
    own = line[: len(line) - len(line.lstrip())]
    more = "# " if line.startswith("#") else f"{own}    "
    return textwrap.wrap(
        line, width, subsequent_indent=more, break_long_words=False, break_on_hyphens=False
    ) or [""]


@dataclass(frozen=True)
class _Fitting:
    """A table that leaves out columns until it fits, and says which."""

    shown: tables.Table
    note: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for n in range(len(DISPENSABLE) + 1):
            table = _table(self.shown, ON_THE_PAGE + DISPENSABLE[:n])
            if (
                table.__rich_measure__(console, options.update(max_width=10 * WIDTH)).maximum
                <= options.max_width
            ):
                break
        yield table
        if "Time per step" not in DISPENSABLE[:n]:
            yield Text(self.note, style="dim")
        if n:
            left_out = words.listing([name.lower() for name in DISPENSABLE[:n]])
            yield Text(f"No room here for: {left_out}. The report has everything.", style="dim")


def _table(shown: tables.Table, left_out: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    kept = [i for i, column in enumerate(shown.columns) if column.name not in left_out]
    for i in kept:
        column = shown.columns[i]
        width = max([10, *(len(row[i]) for row in shown.rows)])
        heading = textwrap.fill(column.name, width, break_long_words=False)
        justify: Literal["left", "right"] = "right" if column.numeric else "left"
        table.add_column(Text(heading), justify=justify, vertical="bottom", overflow="fold")
    for row in shown.rows:
        table.add_row(*(Text(row[i]) for i in kept))
    return table

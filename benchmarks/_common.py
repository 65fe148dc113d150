"""What the benchmarks share: the machine in words, fair repetition, one table, one file of results."""

import json
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from thalweg.api.prepare import environment

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("thalweg", "torch", "numpy")


def interleaved(candidates: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Run all candidates in turn, again and again; each returns what it measured.

    What disturbs the machine for a while so disturbs all of them. The first round is thrown away, and
    every other round runs backwards, so that nobody always follows the same neighbour.
    """
    measured: dict[str, list[float]] = {name: [] for name in candidates}
    for round_number in range(repeats + 1):
        names = list(candidates) if round_number % 2 else list(candidates)[::-1]
        for name in names:
            value = candidates[name]()
            if round_number:
                measured[name].append(value)
    return measured


def interleaved_within(
    candidates: Mapping[str, Callable[[], float]], seconds: float, least: int = 3, most: int = 200
) -> dict[str, list[float]]:
    """Run candidates in turn, every other round backwards, until the time is up.

    There are at least three rounds, unless they take four times as long. No round is thrown away: the
    candidates are to have been run before.
    """
    measured: dict[str, list[float]] = {name: [] for name in candidates}
    start = time.perf_counter()
    for done in range(most):
        spent = time.perf_counter() - start
        if done and spent + spent / done > seconds * (1 if done >= least else 4):
            break
        for name in list(candidates)[:: -1 if done % 2 else 1]:
            measured[name].append(candidates[name]())
    return measured


def ratios(measured: Mapping[str, list[float]], name: str, peer: str) -> list[float]:
    """Return one candidate's time divided by its peer's, round by round."""
    return [a / b for a, b in zip(measured[name], measured[peer], strict=True)]


def keep_freed_memory() -> None:
    """Free a block of 30 MiB once, as reading a data set or an evaluation does.

    From then on glibc keeps what is freed, up to twice as much, for reuse. Before, it may give the
    intermediate values of every update back to the system and take them again, page by page: at random,
    and up to several times the time. That is a matter of the process's history, not of what is compared.
    """
    torch.empty(30 * 2**20, dtype=torch.uint8)


def conditions(threads: int | None = None) -> dict[str, Any]:
    """Describe where and with what was measured."""
    found: dict[str, Any] = {**environment(), "python": platform.python_version()}
    found |= {name: version(name) for name in PACKAGES}
    if threads is not None:
        found["threads"] = threads
    return found


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    found = {}
    for name in packages:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def show(rows: list[tuple[str, ...]]) -> None:
    """Print rows as a table: the first is the head, the first column words, the others numbers."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for number, row in enumerate(rows):
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join([row[0].ljust(widths[0]), *cells]))
        if number == 0:
            print("─" * (sum(widths) + 2 * (len(widths) - 1)))


def markdown(rows: list[tuple[str, ...]]) -> str:
    """Return rows as a table of Markdown: the first is the head, the first column words."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" + "|---:" * (len(rows[0]) - 1) + "|", *lines[1:]])


def save(name: str, where: Mapping[str, Any], results: Any) -> None:
    """Print where it was measured, and write it with the results to ``benchmarks/results``."""
    print(words(where))
    path = RESULTS / f"{name}.json"
    write(path, where, results)
    print(f"Results: {path.relative_to(ROOT)}")


def words(where: Mapping[str, Any]) -> str:
    """Return in one line where it was measured."""
    return "; ".join(f"{key} {value}" for key, value in where.items())


def write(path: Path, where: Mapping[str, Any], results: Any) -> None:
    """Write results with their conditions; a file that was there is replaced at once, or left as it is."""
    data = {"measured_at": datetime.now(UTC).isoformat(timespec="seconds"), "conditions": where}
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps({**data, "results": results}, indent=2, ensure_ascii=False) + "\n")
    draft.replace(path)

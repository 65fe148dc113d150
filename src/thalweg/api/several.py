"""The call that races optimizers on several tasks, one race after the other."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thalweg.api.entering import Optimizers
from thalweg.api.prepare import RUNS, TaskLike, file_name, identity, prepare
from thalweg.api.race import OPTIMIZERS, Showdown, showdown
from thalweg.errors import InputError
from thalweg.records import Race

if TYPE_CHECKING:
    from thalweg.report.overview import Together


@dataclass(frozen=True)
class Showdowns:
    """Finished races on several tasks: print them to read them."""

    results: tuple[Showdown, ...]
    report: Path  # one HTML file with all of them, and what they say together

    @property
    def races(self) -> list[Race]:
        """All races, those of schedules behind those that they follow."""
        return [race for r in self.results for race in (r.race, r.schedules) if race is not None]

    @property
    def profile(self) -> "Together | None":
        """How the same optimizers compare over all tasks; None where that cannot be said."""
        from thalweg.report.overview import together

        return together([r.race for r in self.results])

    @property
    def summary(self) -> str:
        """The profile in a sentence; empty where there is none."""
        found = self.profile
        if found is None:
            return ""
        mark = "its target" if found.targets else "the training loss that all of them reach"
        scores, misses = found.profile.scores, found.profile.misses
        said = [
            f"{name} {scores[name]:.2f}" + (f" ({misses[name]} missed)" if misses[name] else "")
            for name in sorted(scores, key=lambda name: -scores[name])
        ]
        return (
            f"Over {len(found.tasks)} tasks, the performance profile of the epochs to {mark} has a mean "
            f"height of {', '.join(said)}."
        )

    def __str__(self) -> str:
        from thalweg import report

        texts = [f"{r.race.plan.task}\n{report.text(r.race, schedules=r.schedules)}" for r in self.results]
        return "\n".join([*texts, *filter(None, [self.summary]), f"Report: {self.report}"])

    def to_json(self) -> dict[str, Any]:
        """Return the answers as plain values, with the performance profile over all tasks."""
        found, profile = self.profile, None
        if found is not None:
            profile = {
                "tasks": list(found.tasks),
                "reached": "target" if found.targets else "training loss that all reach",
                "epochs": {name: list(costs) for name, costs in found.costs.items()},
                "ratios": {name: list(ratios) for name, ratios in found.profile.ratios.items()},
                "scores": dict(found.profile.scores),
                "misses": dict(found.profile.misses),
            }
        return {
            "races": [r.to_json() for r in self.results],
            "profile": profile,
            "report": str(self.report),
        }


def showdowns(
    tasks: Iterable[TaskLike],
    optimizers: Optimizers = OPTIMIZERS,
    *,
    budget: float | None = None,
    started: float | None = None,
    out: str | Path = RUNS,
    **more: Any,
) -> Showdowns:
    """Race the same optimizers on several tasks, one after the other, and draw all of it on one page.

    Args:
        tasks: two or more, as `showdown` takes them.
        optimizers: who races, on each of them.
        budget: seconds for everything; each task gets an equal share.
        started: when the clock of the budget began, as `time.perf_counter` tells it; None: now.
        out: the folder that keeps the results and the report.
        more: further arguments of `showdown`.

    Raises:
        InputError: something cannot work as asked. All tasks are loaded before the first race begins.
    """
    begun = time.perf_counter() if started is None else started
    listed = list(tasks)
    if len(listed) < 2:
        raise InputError("the tasks of several races", "be two or more", len(listed), "Call showdown.")
    loading = {name: more[name] for name in ("data", "download") if name in more}
    for task in listed:
        prepare(
            task, more.get("seed", 0), more.get("batch_size"), **{"data": None, "download": False, **loading}
        )
    shares: list[dict[str, Any]] = [
        {} if budget is None else {"budget": budget / len(listed)} for _ in listed
    ]
    if budget is not None:  # to load all tasks is a part of the first share
        shares[0]["started"] = begun
    results = tuple(
        showdown(task, optimizers, out=out, **share, **more)
        for task, share in zip(listed, shares, strict=True)
    )
    from thalweg import report

    found = Showdowns(results, Path())
    key = identity([race.key for race in found.races])
    names = "-".join(r.race.plan.task for r in results)
    return Showdowns(results, report.write(found.races, Path(out) / f"{file_name(names, key)}.html"))

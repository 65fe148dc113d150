"""The race after a race: schedules under its winner, at rates around the one that won."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from thalweg.errors import InputError
from thalweg.racing.plan import Entry, steps_of
from thalweg.racing.rates import HALF, rounded
from thalweg.records import Contender, Plan
from thalweg.schedules import Schedule
from thalweg.training.recipe import Recipe

SCHEDULES: Final = ("constant", "cosine", "step", "warmup-cosine")  # raced unless others are named


def under(plan: Plan, contender: Contender, rate: float, schedules: Mapping[str, Schedule]) -> list[Entry]:
    """Enter schedules for one optimizer of a race that is over.

    A schedule multiplies the peak rate, so each has a best peak of its own: half a decade below the rate that
    was chosen, that rate, and half a decade above are tried for each.

    Args:
        plan: of the race.
        contender: who is raced with the schedules.
        rate: with which it ran its final trials.
        schedules: by the names under which they race.
    """
    recipe = Recipe.from_data(contender.recipe)
    rates = (rounded(rate / HALF), rate, rounded(rate * HALF))
    steps = steps_of(plan, contender)
    return [
        Entry(name, replace(recipe, schedule=schedule), rates, steps) for name, schedule in schedules.items()
    ]


def fitting(schedules: Mapping[str, Schedule], steps: int) -> dict[str, Schedule]:
    """Return those schedules that fit a run of so many updates: some need room for a warm-up."""
    return {name: schedule for name, schedule in schedules.items() if _fits(schedule, steps)}


def _fits(schedule: Schedule, steps: int) -> bool:
    try:
        schedule.resolve(steps)
    except InputError:
        return False
    return True

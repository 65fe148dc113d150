"""The race of schedules that follows a race of optimizers."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from thalweg import schedules as known
from thalweg.api.entering import Field
from thalweg.api.keeping import kept
from thalweg.api.prepare import identity
from thalweg.errors import InputError
from thalweg.evidence.recommendation import recommend
from thalweg.racing import make_plan, workload_of
from thalweg.racing.follow import SCHEDULES, fitting, under
from thalweg.racing.plan import Seeds, steps_of
from thalweg.records import Plan, Race, to_data
from thalweg.schedules import Constant, Schedule
from thalweg.training.trial import Execution
from thalweg.training.vary import said, schedule_texts

NONE = "none"


def schedules_of(asked: str | Iterable[str | Schedule] | None, field: Field) -> dict[str, Schedule] | None:
    """Return what is to race under the winner, by name: as asked; None: the usual ones, as far as they fit.

    Where nothing was asked, and a field is raced or a schedule set already, there are none.
    """
    if asked is None:
        plain = all(isinstance(recipe.schedule, Constant) for recipe in field.recipes.values())
        return None if plain and not field.vary else {}
    listed = schedule_texts(asked) if isinstance(asked, str) else list(asked)
    if not listed or listed == [NONE]:
        return {}
    made = [known.parse(one) if isinstance(one, str) else one for one in listed]
    found = {said(schedule): schedule for schedule in made}
    if len(found) < max(2, len(made)):
        got = ", ".join(map(said, made))
        raise InputError("the schedules of a race", "be two or more different ones, or none", got)
    return found


def followed(
    race: Race,
    schedules: Mapping[str, Schedule] | None,
    field: Field,
    how: Execution,
    seeds: Seeds | None,
    folder: Path,
    *,
    fresh: bool,
    command: str,
) -> Race | None:
    """Race schedules under the winner of a race, or under the one to prefer on a tie.

    Every schedule is tuned, on the tuning seeds of the race and at rates around the one that won, and
    compared on final seeds that no stage has used. None where nothing is asked, or nobody could be trained.
    """
    advice = recommend(race)
    if advice is None:
        return None
    asked = planned_after(race.plan, advice.contender, advice.recipe["rate"], schedules, field, how, seeds)
    if asked is None:
        return None
    key = identity({"plan": to_data(replace(asked, threads=0)), "follows": race.key})
    plan = race.plan  # it runs as the race did
    settled = replace(asked, executor=plan.executor, threads=plan.threads, wave=plan.wave, why=plan.why)
    workload = workload_of(field.workloads, advice.contender)

    def settle() -> Plan:
        return settled

    return kept(key, folder, settle, workload, how, fresh=fresh, command=command, follows=race.key)


def planned_after(
    plan: Plan,
    contender: str,
    rate: float,
    schedules: Mapping[str, Schedule] | None,
    field: Field,
    how: Execution,
    seeds: Seeds | None,
) -> Plan | None:
    """Plan the race of schedules under one contender of a race; None where fewer than two race."""
    own = next(c for c in plan.contenders if c.name == contender)
    steps = steps_of(plan, own)
    if schedules is None:
        schedules = fitting({name: known.parse(name) for name in SCHEDULES}, steps)
    if len(schedules) < 2:
        return None
    return make_plan(
        workload_of(field.workloads, contender),
        under(plan, own, rate, schedules),
        how,
        steps,
        field.update_flops,
        seeds=seeds,
        after=plan,
        source=plan.source,
        vary="schedule",
        target=plan.target,
    )

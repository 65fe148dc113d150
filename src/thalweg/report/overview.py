"""Several races on one page: which one follows which, what each found, and all tasks taken together."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from thalweg.evidence.profile import Profile, performance_profile
from thalweg.records import Race
from thalweg.report import words
from thalweg.report.curves import convergence, target_times, training_loss


@dataclass(frozen=True)
class Family:
    """A race, and those that go on with its winner."""

    race: Race
    follow_ups: tuple["Family", ...] = ()

    @property
    def schedules(self) -> Race | None:
        """The latest finished race that goes on with this one's winner."""
        finished = [f.race for f in self.follow_ups if f.race.verdict is not None]
        return max(finished, key=lambda race: race.started_at, default=None)


@dataclass(frozen=True)
class Together:
    """What the same optimizers took on several tasks."""

    tasks: tuple[str, ...]
    costs: Mapping[str, tuple[float | None, ...]]  # epochs on each task; None: the mark was not reached
    targets: bool  # the mark is the target of each race; else the training loss that all of them reach
    profile: Profile


def distinct(races: Iterable[Race]) -> list[Race]:
    """Return each race once, in the order of first appearance: of equal keys the one that is furthest."""
    kept: dict[str, Race] = {}
    for race in races:
        if race.key not in kept or _progress(race) > _progress(kept[race.key]):
            kept[race.key] = race
    return list(kept.values())


def families(races: Sequence[Race]) -> list[Family]:
    """Put each race that follows another one of these under it; all others stand for themselves."""
    keys = {race.key for race in races}

    def family(race: Race) -> Family:
        return Family(race, tuple(family(other) for other in races if other.follows == race.key))

    return [family(race) for race in races if race.follows not in keys]


def every(families: Iterable[Family]) -> list[Family]:
    """Return all races of families, each before those that follow it."""
    return [one for family in families for one in (family, *every(family.follow_ups))]


def result(race: Race) -> str:
    """Say in a few words how a race ended."""
    verdict = race.verdict
    if verdict is None:
        return "unfinished"
    if verdict.winner is not None:
        return f"{verdict.winner} wins"
    if verdict.tie and verdict.seeds < verdict.seeds_needed:
        return "undecided: too few seeds"
    return f"{words.listing(verdict.tie)} tie" if verdict.tie else "no comparison"


def together(races: Sequence[Race]) -> Together | None:
    """Compare optimizers over several tasks by the epochs that each took; None where that cannot be done.

    It takes two optimizers or more that ran on two tasks or more, in finished races of optimizers; of
    several races on one task the last one counts. The mark to reach is the target, where every one of
    these races has one, and else the training loss that all of these optimizers reach.
    """
    by_task = {race.plan.task: race for race in races if race.verdict is not None and not race.plan.vary}
    chosen = list(by_task.values())
    if len(chosen) < 2:
        return None
    shared = [
        c.name
        for c in chosen[0].plan.contenders
        if all(c.name in {other.name for other in race.plan.contenders} for race in chosen)
    ]
    if len(shared) < 2:
        return None
    targets = all(race.plan.target is not None for race in chosen)
    of_tasks = [_to_target(race) if targets else _to_common_loss(race, shared) for race in chosen]
    costs = {name: tuple(cost.get(name) for cost in of_tasks) for name in shared}
    if any(cost == 0 for own in costs.values() for cost in own):
        return None  # reached before the first update: no ratio can be taken
    return Together(tuple(by_task), costs, targets, performance_profile(costs))


def _to_target(race: Race) -> dict[str, float | None]:
    return {found.optimizer: found.epochs for found in target_times(race)}


def _to_common_loss(race: Race, optimizers: Sequence[str]) -> dict[str, float | None]:
    curves = [c for c in training_loss(race) if c.optimizer in optimizers]
    return {a.optimizer: a.epoch for a in convergence(curves).arrivals}


def _progress(race: Race) -> tuple[bool, int]:
    return race.verdict is not None, len(race.traces)

"""What a report says of a race beyond the records: the rows of its table, and sentences.

Nothing is judged here (that is the verdict's) and nothing is drawn (that is `figures`): records in,
frozen results out.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from thalweg.evidence.recommendation import recommend
from thalweg.records import Race, Recommendation, Stage, Standing
from thalweg.report import words
from thalweg.report.curves import (
    convergence,
    finals_of,
    left_out,
    step_seconds,
    target_times,
    training_loss,
)


@dataclass(frozen=True)
class Row:
    """One optimizer in the final table."""

    standing: Standing
    step_seconds: float | None  # median over its final trials, on this machine
    state_bytes_per_parameter: float | None


def rows(race: Race) -> tuple[Row, ...]:
    """Give the final table, best first; empty while the race is unfinished."""
    if race.verdict is None:
        return ()
    table = []
    for standing in race.verdict.ranking:
        finals = finals_of(race, standing.optimizer)
        table.append(
            Row(
                standing,
                step_seconds(race, standing.optimizer),
                statistics.median(t.state_bytes_per_parameter for t in finals) if finals else None,
            )
        )
    return tuple(table)


def progress(race: Race) -> tuple[int, int]:
    """Count the tuning and final trials that are done, and those that the plan allows at most."""
    done = sum(t.stage in (Stage.TUNING, Stage.FINAL) for t in race.traces)
    return done, race.plan.trials_at_most


def sentences(race: Race) -> tuple[str, ...]:
    """Say what the race shows, the most important first: verdict, target, speed, final score, gap."""
    if race.verdict is None:
        done, planned = progress(race)
        return (
            f"Unfinished: {done} of at most {planned} trials are done. "
            "The same command goes on where it stopped; nothing finished is run again.",
        )
    three = (convergence_sentence(race), best_sentence(race), gap_sentence(race))
    return tuple(s for s in (*race.verdict.sentences, target_sentence(race), *three) if s)


def target_sentence(race: Race) -> str:
    """Say who reaches the target of the race, and when; empty where it has none."""
    found = target_times(race)
    if not found:
        return ""
    arrived = sorted((t for t in found if t.steps is not None), key=lambda t: t.epochs or 0.0)
    missed = [t for t in found if t.steps is None]
    said = f"To a validation {race.plan.metric} of {words.number(race.plan.target, 4)}:"
    if arrived:
        takes = [f"{t.optimizer} {_updates(t.steps)} ({words.number(t.epochs, 2)} epochs)" for t in arrived]
        said += f" {words.listing(takes)}, median over the seeds"
    if missed:
        reach = [f"{t.optimizer} on {t.reached or 'none'} of {words.plural(t.seeds, 'seed')}" for t in missed]
        said += f"{';' if arrived else ''} reached by {words.listing(reach)}"
    return f"{said}."


def convergence_sentence(race: Race) -> str:
    """Say who is fastest to converge."""
    curves = training_loss(race)
    found = convergence(curves)
    if found.level is None:
        return "Fastest to converge: nothing can be said, as no final trial was trained to its end."
    level, names = words.number(found.level, 2), [a.optimizer for a in found.arrivals]
    epochs = words.apart([a.epoch for a in found.arrivals])
    lead = [a.optimizer for a in found.arrivals if a.epoch == found.arrivals[0].epoch]
    if len(names) == 1:
        said = (
            f"Convergence: {names[0]} ends at a training loss of {level}, "
            f"which it first reaches after {epochs[0]} epochs."
        )
    elif len(lead) == len(names):
        said = (
            f"Fastest to converge: no difference; {_all(names)} first reach a training loss of {level} "
            f"after {epochs[0]} epochs."
        )
    else:
        later = list(zip(names, epochs, strict=True))[len(lead) :]
        needs = [f"{later[0][0]} needs {later[0][1]}", *(f"{name} {epoch}" for name, epoch in later[1:])]
        said = (
            f"Fastest to converge: {words.listing(lead)} {'reaches' if len(lead) == 1 else 'reach'} "
            f"a training loss of {level}, which {_all(names)} reach, after {epochs[0]} epochs; "
            f"{words.listing(needs)}."
        )
    return " ".join([said, *left_out(curves)])


def best_sentence(race: Race) -> str:
    """Say who has the best final score, or who shares it, with the test value beside it."""
    verdict = race.verdict
    if verdict is None:
        return ""
    metric, leader = verdict.metric, verdict.ranking[0]
    decimals = words.decimals_of([s.interval for s in verdict.ranking], [s.score for s in verdict.ranking])

    def reached(standing: Standing) -> str:
        if standing.score is None:
            return f"diverged on {standing.diverged} of {words.plural(standing.seeds, 'seed')}"
        test = "" if standing.test is None else f", {words.fixed(standing.test, decimals)} on test data"
        return f"{words.fixed(standing.score, decimals)} on validation data{test}"

    if leader.diverged == leader.seeds:
        return f"Best final {metric}: none, as every optimizer diverged."
    if len(verdict.ranking) == 1:
        return f"Final {metric}: {leader.optimizer}, {reached(leader)}."
    if verdict.winner is not None:
        return f"Best final {metric}: {verdict.winner}, {reached(leader)}."
    if not verdict.tie or verdict.seeds < verdict.seeds_needed:
        return f"Best final {metric}: undecided; ahead so far is {leader.optimizer}, {reached(leader)}."
    shares = [f"{s.optimizer} ({reached(s)})" for s in verdict.ranking if s.optimizer in verdict.tie]
    return f"Best final {metric}: a tie between {words.listing(shares)}."


def gap_sentence(race: Race) -> str:
    """Say whose score on test data falls least, and most, behind that on training data."""
    if race.verdict is None:
        return ""
    gaps = sorted((s.gap, s.optimizer) for s in race.verdict.ranking if s.gap is not None)
    meaning = f"Generalisation gap (how much worse {race.verdict.metric} is on test than on training data)"
    if not gaps:
        return f"{meaning}: not measured."
    ends = [gaps[0][0], gaps[-1][0]]
    low, high = words.apart(ends, words.decimals_at(max(map(abs, ends)), 2))
    if len(gaps) == 1:
        return f"{meaning}: {low} with {gaps[0][1]}."
    if ends[0] == ends[1]:
        return f"{meaning}: {low} with {_all([name for _, name in gaps])}."
    return f"{meaning}: smallest with {gaps[0][1]}, {low}; largest with {gaps[-1][1]}, {high}."


def recommended(race: Race, schedules: Race | None = None) -> Recommendation | None:
    """Return what a race recommends; what follows another race is part of what that one recommends."""
    return None if race.follows else recommend(race, schedules)


def pick(recommendation: Recommendation) -> str:
    """Say in a line what is recommended, and whether the evidence decides it."""
    recipe = recommendation.recipe
    schedule = recipe.get("schedule", {}).get("name", "constant")
    said = f"Use {recommendation.contender} at rate {words.rate(recipe.get('rate'))}"
    if schedule != "constant":
        said += f" with the schedule {schedule}"
    return f"{said}." if recommendation.decided else f"{said}: preferred, but not decided."


def _updates(steps: float | None) -> str:
    return f"{steps:,.0f} update{'' if steps == 1 else 's'}"


def _all(names: Sequence[str]) -> str:
    return "both" if len(names) == 2 else f"all {words.count(len(names))}"

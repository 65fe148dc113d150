"""What to use after a race, why, and what it would take to know better."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from thalweg.evidence.code import as_code, as_toml
from thalweg.evidence.looks import MOST, seeds_to_decide
from thalweg.evidence.race import finals_of
from thalweg.evidence.statistics import LEVEL, advantages
from thalweg.evidence.summaries import Basin, basin
from thalweg.records import Contender, Pair, Plan, Race, Recommendation, Stage, Standing, Trace, Verdict

PRICE: Final = 0.01  # of the leader's mean score: the most that less memory or less care may cost


def recommend(race: Race, schedules: Race | None = None) -> Recommendation | None:
    """Say what to use after a finished race, and why; None where there is nothing to recommend.

    A winner is recommended. On a tie the evidence does not say which is better, so what is known without
    a test decides, in this order:

    1. whoever diverged on the fewest final seeds;
    2. the fewest bytes of optimizer state a parameter, to the whole byte;
    3. the widest `basin` of rates, to a tenth of a decade: there a rate that is a little wrong costs least;
    4. the best mean score.

    Three limits keep a tie from being taken for equality. Whoever is worse than the leader by the test of
    this pair alone (p ≤ 5 %), so that only the correction for many pairs makes it a tie, is not preferred.
    Nor is whoever has a mean score that is more than `PRICE` of the leader's behind: few seeds may not tell
    that from chance, but memory and care are not worth it. And with fewer seeds than any decision takes,
    the best mean alone counts.

    Arguments: `race`, with its verdict; `schedules`, a finished race of schedules under what this one
    recommends, its contenders named by their schedules: the recipe of its winner is taken; on a tie that of
    the constant rate, if it is not beaten, else the leader's.
    """
    verdict, plan = race.verdict, race.plan
    if verdict is None or not any(s.seeds > s.diverged for s in verdict.ranking):
        return None
    chosen, reasons = _chosen(race, verdict)
    seeds = None
    if verdict.tie:
        seeds, sentence = _what_would_decide(race, verdict, verdict.tie[1])
        reasons.append(sentence)
        if chosen.optimizer not in verdict.tie[:2]:
            reasons.append(_what_would_decide(race, verdict, chosen.optimizer)[1])
    if chosen.edge is not None:
        beyond = "lower" if chosen.edge == "lowest" else "higher"
        reasons.append(f"Its rate is the {chosen.edge} that was tried: a {beyond} one may be better.")
    name = optimizer = chosen.optimizer
    if schedules is not None and (best := _scheduled(schedules)) is not None:
        plan, (chosen, sentence) = schedules.plan, best
        name = chosen.optimizer
        reasons.append(sentence)
    contender = _contender(plan, name)
    recipe = {**contender.recipe, "rate": chosen.rate}
    steps = contender.steps or plan.steps
    return Recommendation(
        contender=optimizer,
        decided=verdict.winner is not None,
        recipe=recipe,
        steps=steps,
        reasons=tuple(reasons),
        seeds_to_decide=seeds,
        toml=as_toml(plan, recipe, steps),
        code=as_code(plan, contender, recipe, steps),
    )


class _Candidate(NamedTuple):
    """One that ties with the leader, and what is known of it without a test."""

    standing: Standing
    state_bytes: float  # a parameter
    basin: Basin | None

    @property
    def name(self) -> str:
        return self.standing.optimizer

    @property
    def decades(self) -> str:
        assert self.basin is not None  # asked only where every candidate has one
        return f"{'at least ' if self.basin.open else ''}{self.basin.decades:.1f}"


class _Criterion(NamedTuple):
    """One thing by which to prefer."""

    value: Callable[[_Candidate], float | None]  # the smallest is preferred; None: not known
    words: Callable[[_Candidate], str]  # of the preferred one
    others: Callable[[_Candidate], str]  # of each that is not


_CRITERIA: Final = (
    _Criterion(
        lambda c: c.standing.diverged,
        lambda c: (
            f"{c.name} is safer: it diverged on {c.standing.diverged} of {c.standing.seeds} final seeds"
        ),
        lambda c: f"{c.name} on {c.standing.diverged}",
    ),
    _Criterion(
        lambda c: round(c.state_bytes),
        lambda c: f"{c.name} takes less memory: {c.state_bytes:.0f} bytes of state for each parameter",
        lambda c: f"{c.name} {c.state_bytes:.0f}",
    ),
    _Criterion(
        lambda c: None if c.basin is None else -round(c.basin.decades, 1),
        lambda c: f"{c.name} needs less care: {c.decades} decades of rates are about as good as its best",
        lambda c: f"{c.decades} for {c.name}",
    ),
)


def _chosen(race: Race, verdict: Verdict) -> tuple[Standing, list[str]]:
    """Return who is recommended, and why."""
    leader, reasons = verdict.ranking[0], [verdict.sentences[0]]
    if not verdict.tie:
        return leader, reasons
    if verdict.seeds < verdict.seeds_needed:
        return leader, [*reasons, f"Until then {leader.optimizer} is preferred, for the best mean so far."]
    behind = _behind(verdict)
    reasons += [
        f"{pair.b} is not preferred: compared with {pair.a} alone it is worse (p {pair.p:.3g}), and only the "
        f"correction for {len(verdict.pairs)} pairs leaves that open."
        for pair in behind.values()
    ]
    left = [_candidate(race, s) for s in verdict.ranking if s.optimizer in verdict.tie]
    left = [c for c in left if c.name not in behind]
    dear = {c.name: lost for c in left if (lost := _lost(leader, c.standing)) > PRICE}
    reasons += [
        f"{name} is not preferred: its mean is {f'{100 * lost:.1f} % ' if lost < math.inf else ''}behind "
        f"that of {leader.optimizer}, too much for what may be chance."
        for name, lost in dear.items()
    ]
    left = [c for c in left if c.name not in dear]
    for criterion in _CRITERIA:
        values = [criterion.value(c) for c in left]
        known = [v for v in values if v is not None]
        if len(known) == len(left) > 1 and len(set(known)) > 1:
            best = [c for c, v in zip(left, known, strict=True) if v == min(known)]
            others = _listed([criterion.others(c) for c in left if c not in best])
            reasons += [f"{criterion.words(c)}; {others}." for c in best]
            left = best
    chosen = left[0]  # they are in the order of the ranking: the best mean
    if len(left) > 1:
        reasons.append(f"Of what is left, {chosen.name} has the best mean.")
    reasons += [
        _price(pair, verdict) for pair in verdict.pairs if (pair.a, pair.b) == (leader.optimizer, chosen.name)
    ]
    return chosen.standing, reasons


def _lost(leader: Standing, other: Standing) -> float:
    """Return how far a mean score is behind the leader's, as a share of that."""
    if leader.score is None or other.score is None or leader.score == other.score:
        return 0.0
    return abs(leader.score - other.score) / abs(leader.score) if leader.score else math.inf


def _behind(verdict: Verdict) -> dict[str, Pair]:
    """Return those of a tie that are worse than the leader by the test of that pair alone."""
    leader = verdict.ranking[0].optimizer
    return {p.b: p for p in verdict.pairs if p.a == leader and p.b in verdict.tie and p.p <= LEVEL}


def _candidate(race: Race, standing: Standing) -> _Candidate:
    own = [t for t in race.traces if t.contender == standing.optimizer]
    state = max(t.state_bytes_per_parameter for t in own if t.stage is Stage.FINAL)
    return _Candidate(standing, state, _basin(own, race.plan))


def _basin(traces: Sequence[Trace], plan: Plan) -> Basin | None:
    by_rate: dict[float, list[float | None]] = {}
    for trace in traces:
        if trace.stage is Stage.TUNING:
            by_rate.setdefault(trace.rate, []).append(trace.score)
    return basin(list(by_rate), list(by_rate.values()), plan.direction) if len(by_rate) > 1 else None


def _price(pair: Pair, verdict: Verdict) -> str:
    """Say what it may cost that another one than the leader is preferred."""
    if pair.difference is None or pair.interval is None:
        return f"{pair.a} leads the ranking; that may be chance."
    sign = verdict.direction.sign
    low, high = sorted(sign * x for x in pair.interval)
    return (
        f"What that may cost: {pair.a} leads by {sign * pair.difference:.3g} [{low:.3g}, {high:.3g}] in the "
        f"mean validation {verdict.metric}, which may be chance."
    )


def _what_would_decide(race: Race, verdict: Verdict, b: str) -> tuple[int | None, str]:
    """Return how many final seeds would tell the leader from another one, and the sentence that says it."""
    a = verdict.tie[0]
    run = race.plan.final_seeds[: verdict.seeds]
    first, second = (
        finals_of(race.plan, race.traces, _contender(race.plan, name), run).scores for name in (a, b)
    )
    if None in (*first, *second):
        return None, f"How many seeds would decide between {a} and {b} cannot be said, as trials diverged."
    found = seeds_to_decide(advantages(first, second, verdict.direction), len(verdict.pairs))
    if found is None:
        return None, (
            f"Even {MOST:,} final seeds would hardly tell {a} from {b}, if they differ no more than here."
        )
    return found, (
        f"About {found} final seeds would decide between {a} and {b}, with a chance of 80 %, if they differ "
        "as much as here."
    )


def _scheduled(race: Race) -> tuple[Standing, str] | None:
    """Return which schedule to take after a race of schedules, and why."""
    verdict = race.verdict
    if verdict is None or not any(s.seeds > s.diverged for s in verdict.ranking):
        return None
    leader = verdict.ranking[0]
    if not verdict.tie:
        return leader, f"Of the schedules, {verdict.sentences[0]}"
    unbeaten = set(verdict.tie) - set(_behind(verdict))
    left = [s for s in verdict.ranking if s.optimizer in unbeaten]
    constant = [s for s in left if _schedule(_contender(race.plan, s.optimizer)) == {"name": "constant"}]
    taken = (constant or left)[0]
    why = "has nothing to set" if constant else "has the best mean"
    return taken, f"The schedules {_listed(verdict.tie)} tie: {taken.optimizer} is taken, which {why}."


def _schedule(contender: Contender) -> dict[str, Any]:
    """Return the schedule of a contender as data; the default is a constant rate."""
    return dict(contender.recipe.get("schedule", {"name": "constant"}))


def _contender(plan: Plan, name: str) -> Contender:
    return next(c for c in plan.contenders if c.name == name)


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))

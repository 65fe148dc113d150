"""What is stored and drawn: frozen records of plain values, free of torch.

Everything that a race leaves behind is here, so that a report redraws and a verdict is judged again
from the store alone. A number that does not exist (the loss of a diverged run, a test that was never
read) is None, never NaN: every record is valid JSON. A name ending in ``_seconds`` or ``_at`` says
that the value is a time or a date; nothing else in a record depends on the clock of the machine.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

R = TypeVar("R")


class Direction(StrEnum):
    """Whether more or less of a score is better."""

    HIGHER = "higher"
    LOWER = "lower"

    @property
    def sign(self) -> int:
        """+1 where higher is better, −1 where lower is: sign × score is to be maximised."""
        return 1 if self is Direction.HIGHER else -1


class Outcome(StrEnum):
    """How a trial ended."""

    COMPLETED = "completed"
    STOPPED_EARLY = "stopped early"
    DIVERGED = "diverged"

    @property
    def sentence(self) -> str:
        """The outcome as a sentence that a person reads."""
        return {
            Outcome.COMPLETED: "The whole budget was trained.",
            Outcome.STOPPED_EARLY: "Validation stopped improving; the best weights were restored.",
            Outcome.DIVERGED: "The loss left all bounds or stopped being a number; training ended there.",
        }[self]


class Stage(StrEnum):
    """What a trial was run for."""

    SWEEP = "sweep"  # rates that climb from update to update, to find where to search
    SHORT = "short"  # one rate for a part of the budget, to confirm or correct what the sweeps say
    TUNING = "tuning"  # one rate of one optimizer, to choose among rates; never compared
    FINAL = "final"  # the chosen rate on a fresh seed; only these are compared
    SINGLE = "single"  # a training of its own

    @property
    def reads_test(self) -> bool:
        """Whether a trial is measured on training and test data when it has ended."""
        return self in (Stage.FINAL, Stage.SINGLE)


class Answer(StrEnum):
    """How a rate finder ended; each but the first is an honest "no answer"."""

    FOUND = "found"
    FLAT = "flat"  # no rate moved the loss by more than its noise
    RISING = "rising"  # every rate that moved the loss made it worse
    NOISY = "noisy"  # the sweeps, or the rates of the short race, cannot be told apart
    DIVERGED = "diverged"  # every rate that was tried diverged


@dataclass(frozen=True)
class Evaluation:
    """What was measured at one evaluation of the validation part."""

    step: int  # updates done
    epoch: float  # passes over the training part done
    loss: float | None  # mean validation loss
    metrics: Mapping[str, float | None]


@dataclass(frozen=True)
class Trace:
    """What one trial left: curves, outcome, cost."""

    key: str  # identifies task, recipe, seed, budget and execution: equal keys, equal numbers
    task: str
    contender: str  # the name under which it runs in a race, e.g. "adam"
    stage: Stage
    rate: float
    seed: int
    recipe: Mapping[str, Any]  # as in a recipe's TOML
    outcome: Outcome
    steps: int  # updates done, of `budget_steps`
    budget_steps: int
    initial_loss: float | None
    loss_steps: tuple[int, ...]  # losses[i] is the mean training loss over the updates since
    losses: tuple[float | None, ...]  # loss_steps[i-1], up to and including loss_steps[i]
    evaluations: tuple[Evaluation, ...]
    score: float | None  # the ranking metric on the validation part; None: diverged
    train: Mapping[str, float | None]  # "loss" and metrics on the training part at the end
    validation: Mapping[str, float | None]
    test: Mapping[str, float | None] | None  # read once, at the end; never by tuning trials
    clipped_fraction: float  # share of updates whose gradient was clipped
    parameters: int  # numbers that are trained
    state_bytes_per_parameter: float
    step_seconds: float | None  # median time of one update, on this machine
    total_seconds: float
    started_at: str  # ISO 8601, UTC
    skipped_updates: int = 0  # because their gradients were not finite
    attempts: int = 1  # processes that began it; more than 1 where one died


@dataclass(frozen=True)
class ShortRate:
    """How one rate did in the short race of a finder."""

    rate: float
    losses: tuple[float | None, ...]  # on the validation part at its end, a seed each; None: diverged
    steps: int = 0  # updates of its longest trainings, which these losses are of


@dataclass(frozen=True)
class Finding:
    """What the rate finder measured for one optimizer, and what it suggests."""

    optimizer: str
    outcome: Answer
    suggestion: float | None  # None unless found
    low: float | None  # rates from low to high are not told apart from the suggestion
    high: float | None
    diverges_at: float | None  # the lowest rate from which sweeps did not come back; None: none did
    rates: tuple[float, ...]  # of a sweep, ascending
    losses: tuple[float | None, ...]  # smoothed: the training loss that the update with this rate led to
    losses_low: tuple[float | None, ...]  # the band of the sweeps around it
    losses_high: tuple[float | None, ...]
    short: tuple[ShortRate, ...]  # the short race, ascending
    horizon: int  # updates of the longest trainings of the short race
    sweeps: int  # how many; one a seed
    steps: int  # updates that all of it cost
    picks: Mapping[str, float | None]  # what others would pick: steepest, valley, slide, minimum/10
    sentences: tuple[str, ...]  # the answer in words, the most important first


@dataclass(frozen=True)
class FinderPlan:
    """How rates are found, the same for every optimizer of a race: part of its quota."""

    sweep_seeds: tuple[int, ...]
    sweep_steps: int
    short_seeds: tuple[int, ...]
    short_steps: int  # the horizon
    short_rates: int  # that the short race tries


@dataclass(frozen=True)
class Contender:
    """One optimizer in a race and the rates that it starts with."""

    name: str
    recipe: Mapping[str, Any]  # as in a recipe's TOML; the rate is replaced by each trial's
    rates: tuple[float, ...]  # the grid that tuning starts from; a single one is given, not tuned
    quota: int  # rates that tuning may try in all
    tuned: bool
    steps: int | None = None  # updates of its trials, where they differ; None: the plan's
    batch_size: int | None = None  # likewise


@dataclass(frozen=True)
class Plan:
    """A race as data, fixed before its first trial."""

    task: str
    task_fingerprint: str
    metric: str  # the name that ranks: a metric of the task, or "loss"
    direction: Direction
    contenders: tuple[Contender, ...]
    steps: int
    epochs: float
    batch_size: int
    train_examples: int
    validation_examples: int
    test_examples: int
    seed: int  # the root from which all others are derived
    tuning_seeds: tuple[int, ...]
    final_seeds: tuple[int, ...]  # fresh: none of the tuning seeds
    executor: str
    threads: int
    device: str
    versions: Mapping[str, str]  # of what computes: thalweg, torch, numpy, python
    schema: int = 1
    wave: int = 0  # replicas that a fleet trains at once; 0: no fleet
    why: str = ""  # this executor, in one line
    source: str = ""  # how the task is loaded again: a built-in name or path/to/task.py[:name]; "": it cannot
    vary: str = ""  # what the contenders differ in, such as "batch_size"; "": the optimizer
    finder: FinderPlan | None = None  # None: the grids are as written in the contenders
    looks: tuple[int, ...] = ()  # numbers of final seeds after which the race may end; (): only after all
    halving: bool = False  # the worse half of an optimizer's rates gets no further tuning seed
    target: float | None = None  # of the metric: the time that it takes is measured
    budget_seconds: float | None = None  # what was asked for, and turned into steps

    @property
    def trials_at_most(self) -> int:
        """How many tuning and final trials there are, or fewer where rates diverge or a look decides."""
        seeds = range(len(self.tuning_seeds))
        rates = [c.quota for c in self.contenders if c.tuned]
        tuning = sum(math.ceil(n / 2**place) if self.halving else n for n in rates for place in seeds)
        return tuning + len(self.contenders) * len(self.final_seeds)


@dataclass(frozen=True)
class Standing:
    """One optimizer's place in the final table. Values are means over the final seeds."""

    optimizer: str
    rate: float | None  # None: every rate of the grid diverged, so there was nothing to compare
    score: float | None  # mean over final seeds; None as soon as one of them diverged
    interval: tuple[float, float] | None  # 95 %
    test: float | None
    test_interval: tuple[float, float] | None
    gap: (
        float | None
    )  # generalisation gap: how much worse the ranking metric is on test than on training data
    diverged: int  # final trials that diverged
    seeds: int  # final trials
    edge: str | None  # "lowest" or "highest" when the best rate lies at that end of those tried


@dataclass(frozen=True)
class Pair:
    """The comparison of two optimizers, seed by seed."""

    a: str
    b: str
    seeds: int
    difference: float | None  # mean of a − b, in units of the score
    interval: tuple[float, float] | None  # 95 %, by inverting the test
    p: float  # two-sided sign-flip test
    p_holm: float  # after Holm's correction over all pairs
    probability_a_better: float  # how often a beats b on the same seed, a tie counting half
    better: str | None  # the name of the better one if p_holm decides, else None


@dataclass(frozen=True)
class Verdict:
    """What the evidence decides."""

    metric: str
    direction: Direction
    winner: str | None
    tie: tuple[str, ...]  # those that the leader does not beat, leader first; empty if there is a winner
    ranking: tuple[Standing, ...]  # best first
    pairs: tuple[Pair, ...]
    seeds: int
    seeds_needed: int  # the fewest with which so many optimizers can be told apart at all
    sentences: tuple[str, ...]  # the verdict in words, the most important first
    schema: int = 1


@dataclass(frozen=True)
class Recommendation:
    """What to use, as a recipe and as code, and why."""

    contender: str
    decided: bool  # the evidence names it; else it is what to prefer among those that tie
    recipe: Mapping[str, Any]  # as in a recipe's TOML, complete
    steps: int  # updates of the training that it was measured with
    reasons: tuple[str, ...]  # sentences
    seeds_to_decide: (
        int | None
    )  # final seeds that would tell the leader from the next; None: decided, or never
    toml: str
    code: str  # ten lines of PyTorch that run as they stand


@dataclass(frozen=True)
class LedgerRow:
    """What one optimizer cost."""

    optimizer: str
    rates_tried: tuple[float, ...]
    tuning_trials: int
    final_trials: int
    diverged_trials: int
    steps: int  # updates done in all, the finder's included
    gradient_examples: int  # examples whose gradient was computed
    total_seconds: float
    finder_trials: int = 0
    finder_steps: int = 0


@dataclass(frozen=True)
class Ledger:
    """What a race cost, so that equal tuning can be checked."""

    rows: tuple[LedgerRow, ...]
    total_seconds: float  # of all trials, whenever they were run


@dataclass(frozen=True)
class Race:
    """A whole race, as it is stored and drawn. ``verdict`` is None while it is unfinished."""

    key: str
    plan: Plan
    traces: tuple[Trace, ...]
    verdict: Verdict | None
    ledger: Ledger | None
    environment: Mapping[str, str] = field(default_factory=dict)  # machine, processor, cores, system
    command: str = ""  # how to run it again
    started_at: str = ""
    finished_at: str | None = None
    findings: tuple[Finding, ...] = ()  # of the rate finder, in the order of the contenders
    follows: str = ""  # the key of the race whose winner this one goes on with: schedules under the winner


def to_data(record: Any) -> Any:
    """Turn a record into what JSON and TOML know: dicts, lists, strings, numbers, None.

    >>> to_data(Evaluation(step=3, epoch=0.5, loss=None, metrics={"accuracy": 0.9}))
    {'step': 3, 'epoch': 0.5, 'loss': None, 'metrics': {'accuracy': 0.9}}
    """
    if dataclasses.is_dataclass(record):
        return {f.name: to_data(getattr(record, f.name)) for f in dataclasses.fields(record)}
    if isinstance(record, StrEnum):
        return str(record)
    if isinstance(record, Mapping):
        return {str(key): to_data(value) for key, value in record.items()}
    if isinstance(record, tuple | list):
        return [to_data(value) for value in record]
    return record


def from_data(record_type: type[R], data: Any) -> R:
    """Build a record from what `to_data` made; unknown keys and missing ones are a TypeError.

    >>> from_data(Evaluation, {"step": 3, "epoch": 0.5, "loss": None, "metrics": {}})
    Evaluation(step=3, epoch=0.5, loss=None, metrics={})
    """
    return typing.cast(R, _build(record_type, data))


def _build(wanted: Any, data: Any) -> Any:
    if wanted is Any or data is None:
        return data
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        return _build(next(a for a in arguments if a is not type(None)), data)
    if origin is tuple:
        kinds = arguments[:1] * len(data) if arguments[-1] is Ellipsis else arguments
        return tuple(_build(kind, x) for kind, x in zip(kinds, data, strict=True))
    if origin is not None and issubclass(origin, Mapping):
        return {key: _build(arguments[1], x) for key, x in data.items()}
    if dataclasses.is_dataclass(wanted):
        hints = typing.get_type_hints(wanted)
        if unknown := sorted(set(data) - set(hints)):
            raise TypeError(f"{wanted} has no {unknown[0]}")
        return wanted(**{key: _build(hints[key], x) for key, x in data.items()})  # type: ignore[operator]
    if isinstance(wanted, type) and issubclass(wanted, StrEnum):
        return wanted(data)
    return data

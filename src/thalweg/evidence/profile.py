"""Several optimizers over several tasks: performance profiles of the time to a target, or of any cost."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from thalweg.errors import InputError
from thalweg.records import Direction, Trace

R_MAX: Final = 4.0  # up to which multiple of the best cost a profile is scored

Costs = Sequence[float | None]


@dataclass(frozen=True)
class Profile:
    """How often each optimizer is within a factor of the best one, over all tasks."""

    # r = cost / smallest cost of the task, a task each, in the order given; None: a miss
    ratios: Mapping[str, tuple[float | None, ...]]
    scores: Mapping[str, float]  # B, in [0, 1]
    misses: Mapping[str, int]  # tasks on which the target was not reached

    def share(self, optimizer: str, tau: float) -> float:
        """ρ(τ): the share of all tasks on which the optimizer's ratio is at most τ."""
        own = self.ratios[optimizer]
        return sum(r is not None and r <= tau for r in own) / len(own)


class MeanRatio(NamedTuple):
    """How many times faster than a reference, over the tasks on which both arrive."""

    ratio: float | None  # (∏ reference / time)^(1/n); None where n is 0
    tasks: int  # n, on which both arrive
    missed: int  # on which it does not arrive, and so does not count
    reference_missed: int  # likewise the reference


def performance_profile(times: Mapping[str, Costs]) -> Profile:
    """Compare optimizers over several tasks by the share of tasks on which each is nearly the fastest.

    With the ratio r = t / (smallest t of the task), ρ(τ) = #{tasks: r ≤ τ} / #tasks, and the score is the
    mean height of ρ up to 4: B = ∫₁⁴ ρ(τ) dτ / 3, which is the mean over the tasks of max(0, 4 − r) / 3.
    A miss (None) is never within any factor; a task that everybody misses is one for everybody.

    Any positive cost that is better when smaller can be compared: updates, examples or seconds to a target,
    or final losses. Of losses the ratio says something only where 0 is the best that can be: an error rate,
    a squared error; not a loss with an offset. B depends on who else runs, and a near miss counts like a
    divergence: give the misses beside it.

    Raises `InputError` if there is no optimizer or task, the numbers of tasks differ, or a time is not a
    finite number above 0.

    >>> profile = performance_profile({"adam": [100, 30, 10], "sgd": [50, 60, None]})
    >>> profile.ratios["adam"], profile.share("adam", 1.5)
    ((2.0, 1.0, 1.0), 0.6666666666666666)
    >>> profile.scores["adam"], profile.misses["sgd"]  # (2/3 + 3/3 + 3/3) / 3
    (0.8888888888888888, 1)

    Source: E. D. Dolan and J. J. Moré, Mathematical Programming 91 (2002) 201–213; the score, G. E. Dahl et
    al., Benchmarking neural network training algorithms (arXiv:2306.07179).
    """
    counts = {len(own) for own in times.values()}
    if len(counts) != 1 or counts == {0}:
        got = {name: len(own) for name, own in times.items()}
        raise InputError("The optimizers of a profile", "have times on the same one or more tasks", got)
    for name, own in times.items():
        _check_costs(f"The times of {name}", own)
    smallest = [
        min((t for t in task if t is not None), default=math.nan)
        for task in zip(*times.values(), strict=True)
    ]
    ratios = {
        name: tuple(None if t is None else t / least for t, least in zip(own, smallest, strict=True))
        for name, own in times.items()
    }
    return Profile(
        ratios=ratios,
        scores={
            name: math.fsum(max(0.0, R_MAX - r) for r in own if r is not None) / (R_MAX - 1) / len(own)
            for name, own in ratios.items()
        },
        misses={name: sum(t is None for t in own) for name, own in times.items()},
    )


def geometric_mean_ratio(times: Costs, reference: Costs) -> MeanRatio:
    """How many times faster than a reference: (∏ t_ref / t)^(1/n) over the n tasks on which both arrive.

    Tasks that one of the two misses cannot count, which flatters whoever misses: the misses are part of the
    answer, and belong beside the ratio.

    Raises `InputError` if the two differ in their number of tasks, or a time is not a finite number above 0.

    >>> geometric_mean_ratio([10, 40, None], reference=[40, 40, 7])  # √(4 · 1)
    MeanRatio(ratio=2.0, tasks=2, missed=1, reference_missed=0)
    """
    if len(times) != len(reference):
        got = f"{len(times)} and {len(reference)}"
        raise InputError("Times and those of the reference", "be of the same tasks", got)
    _check_costs("The times of a mean ratio", times)
    _check_costs("The times of the reference", reference)
    logs = [math.log(r / t) for t, r in zip(times, reference, strict=True) if t is not None and r is not None]
    return MeanRatio(
        ratio=math.exp(math.fsum(logs) / len(logs)) if logs else None,
        tasks=len(logs),
        missed=sum(t is None for t in times),
        reference_missed=sum(r is None for r in reference),
    )


def time_to_target(trace: Trace, target: float, metric: str, direction: Direction) -> int | None:
    """Updates until the validation metric first is at the target or better; None if it never was measured so.

    The answer is the step of an evaluation, so it is late by up to one interval between evaluations.

    Arguments: `metric`, a metric of the task or "loss"; `target`, in its units.

    Raises `InputError` if the target is not finite, or the trace was never evaluated by such a metric.

    >>> from types import SimpleNamespace as Bag
    >>> seen = [Bag(step=10, loss=0.8, metrics={}), Bag(step=20, loss=0.4, metrics={})]
    >>> time_to_target(Bag(evaluations=seen), 0.5, "loss", Direction.LOWER)
    20
    """
    if not math.isfinite(target):
        raise InputError("A target", "be a finite number", target)
    for evaluation in trace.evaluations:
        if metric != "loss" and metric not in evaluation.metrics:
            known = ", ".join(["loss", *evaluation.metrics])
            raise InputError("The metric of a target", f"be among {known}", repr(metric))
        value = evaluation.loss if metric == "loss" else evaluation.metrics[metric]
        if value is not None and direction.sign * (value - target) >= 0:
            return evaluation.step
    return None


def _check_costs(who: str, costs: Costs) -> None:
    for cost in costs:
        if cost is not None and not (math.isfinite(cost) and cost > 0):
            raise InputError(who, "be finite and above 0, or None", cost, "None: the target was not reached.")

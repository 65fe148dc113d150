"""Control: decides, for one trial, from what was observed. Pure numbers, no tensors.

An engine reports the loss of every update and what every evaluation measured; control answers with the
rate of the next update, when to evaluate, when to keep the weights, and when it is over. Its state is
plain data, so that a snapshot holds it.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from thalweg.errors import InputError
from thalweg.records import Direction, Evaluation, Outcome
from thalweg.training.recipe import Recipe

CURVE_POINTS: Final = 200  # at most so many points of the training loss are kept
EVALUATIONS: Final = 20  # at least so many, where there are so many steps
# A loss this many times the initial one's size (or 1, if that is more) above the initial one, for so many
# updates in a row, is lost. Healthy runs at high rates were seen to come back from hundreds of times the
# initial loss.
LOST_FACTOR: Final = 1000.0
LOST_UPDATES: Final = 20
STRETCH: Final = 32  # updates at most between two looks at a trial: what one that is lost still costs


@dataclass(frozen=True)
class Limits:
    """What a trial is bound to: how long, in what batches, and what ranks."""

    steps: int
    steps_per_epoch: int
    train_examples: int
    batch_size: int
    metric: str  # "loss" or a metric of the task
    direction: Direction
    evaluations: int = EVALUATIONS
    looks: tuple[int, ...] = ()  # after which updates to evaluate, ascending; empty: at even distances

    @property
    def evaluate_every(self) -> int:
        """Updates between evaluations: an epoch, or a part of a short run; a single one is at the end."""
        if self.evaluations == 1:
            return self.steps
        return min(self.steps_per_epoch, max(1, self.steps // self.evaluations))

    def next_evaluation(self, step: int) -> int:
        """Return after how many updates the validation part is measured next; always after the last one."""
        if self.looks:
            return next((at for at in self.looks if at > step), self.steps)
        every = self.evaluate_every
        return min(step + every - step % every, self.steps)

    def epoch(self, step: int) -> float:
        """Return the passes over the training part that so many updates make."""
        return self.examples(step) / self.train_examples

    def examples(self, step: int) -> int:
        """Return the examples that so many updates have seen; the last batch of an epoch may be short."""
        whole, rest = divmod(step, self.steps_per_epoch)
        return whole * self.train_examples + min(rest * self.batch_size, self.train_examples)


@dataclass
class Progress:
    """What control remembers: plain data."""

    step: int = 0
    outcome: Outcome | None = None
    initial_loss: float | None = None
    lost_updates: int = 0
    clipped_updates: int = 0
    skipped_updates: int = 0
    window_sum: float = 0.0
    window_updates: int = 0
    window_losses: int = 0  # those of updates that were not skipped
    loss_steps: list[int] = field(default_factory=list)
    losses: list[float | None] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    best_score: float | None = None
    best_at: int | None = None  # which evaluation was best
    evaluations_without_gain: int = 0
    plateau_factor: float = 1.0
    plateau_loss: float | None = None
    plateau_evaluations: int = 0
    window_seconds: list[float] = field(default_factory=list)  # mean time of an update, window by window
    window_elapsed_seconds: float = 0.0
    elapsed_seconds: float = 0.0  # since the very start, up to the last snapshot


class Control:
    """Decides for one trial.

    Args:
        recipe: for the rate, its schedule, plateau and patience.
        limits: how long, in what batches, what ranks.
        progress: where to go on from; None: the start.
    """

    def __init__(self, recipe: Recipe, limits: Limits, progress: Progress | None = None) -> None:
        self.recipe = recipe
        self.limits = limits
        self.progress = progress or Progress()
        self._rates = _rates(recipe, limits)
        self._curve_every = math.ceil(limits.steps / CURVE_POINTS)

    @property
    def finished(self) -> bool:
        """Whether the trial is over."""
        return self.progress.outcome is not None

    def stretch(self) -> int:
        """Return how many updates may be done before anything is to be decided: at least 1, at most 32."""
        if "skip_nonfinite" in self.recipe.wrappers:  # a skipped update holds the schedule
            return 1
        step = self.progress.step
        return min(self.limits.next_evaluation(step) - step, STRETCH)

    def rates(self, count: int) -> list[float]:
        """Return the rates of the next updates; the schedule stands still where one was skipped."""
        done = self.progress.step - self.progress.skipped_updates
        return [rate * self.progress.plateau_factor for rate in self._rates[done : done + count].tolist()]

    def after_updates(
        self,
        losses: Sequence[float],
        clipped: Sequence[bool] = (),
        skipped: Sequence[bool] = (),
        seconds: float = 0.0,
    ) -> None:
        """Take in what a stretch of updates left; those after the end of the trial are left out.

        Args:
            losses: those that the updates started from.
            clipped: whether gradients were shortened, update by update; empty: in none.
            skipped: whether nothing happened, gradients not being finite; empty: in none.
            seconds: how long one update took.
        """
        progress = self.progress
        for place, loss in enumerate(losses):
            was_skipped = bool(skipped) and skipped[place]
            progress.step += 1
            progress.clipped_updates += bool(clipped) and clipped[place]
            progress.skipped_updates += was_skipped
            progress.window_elapsed_seconds += seconds
            progress.window_updates += 1
            if not was_skipped:
                progress.window_sum += loss
                progress.window_losses += 1
            if progress.initial_loss is None and math.isfinite(loss):
                progress.initial_loss = loss
            if not was_skipped and self._lost(loss):
                self._end(Outcome.DIVERGED)
                return
            if progress.step % self._curve_every == 0 or progress.step == self.limits.steps:
                self._close_window()

    def _lost(self, loss: float) -> bool:
        if not math.isfinite(loss):
            return True
        start = self.progress.initial_loss or 0.0
        above = loss > start + LOST_FACTOR * max(abs(start), 1.0)
        self.progress.lost_updates = self.progress.lost_updates + 1 if above else 0
        return self.progress.lost_updates >= LOST_UPDATES

    def _end(self, outcome: Outcome) -> None:
        self.progress.outcome = outcome
        if self.progress.window_updates:
            self._close_window()

    def _close_window(self) -> None:
        progress = self.progress
        mean = progress.window_sum / progress.window_losses if progress.window_losses else math.nan
        progress.loss_steps.append(progress.step)
        progress.losses.append(mean if math.isfinite(mean) else None)
        progress.window_seconds.append(progress.window_elapsed_seconds / progress.window_updates)
        progress.window_sum, progress.window_elapsed_seconds = 0.0, 0.0
        progress.window_updates = progress.window_losses = 0

    def evaluation_due(self) -> bool:
        """Tell whether the validation part is to be measured now; always after the last update."""
        step = self.progress.step
        return not self.finished and step == self.limits.next_evaluation(step - 1)

    def after_evaluation(self, measured: Mapping[str, float | None]) -> bool:
        """Take in what was measured ("loss" and the metrics); return whether to keep these weights.

        Weights are kept only where the recipe has a patience, and only when they are the best so far.
        """
        progress, limits = self.progress, self.limits
        metrics = {name: value for name, value in measured.items() if name != "loss"}
        step = progress.step
        progress.evaluations.append(Evaluation(step, limits.epoch(step), measured["loss"], metrics))
        if measured["loss"] is None:
            self._end(Outcome.DIVERGED)
            return False
        self._follow_plateau(measured["loss"])
        # A metric may not exist yet: precision, as long as nothing is called positive.
        score, best = measured[limits.metric], progress.best_score
        better = score is not None and (best is None or limits.direction.sign * (score - best) > 0)
        if better:
            progress.best_score, progress.best_at = score, len(progress.evaluations) - 1
            progress.evaluations_without_gain = 0
        else:
            progress.evaluations_without_gain += 1
        patience = self.recipe.patience
        if patience is not None and progress.evaluations_without_gain >= patience:
            self._end(Outcome.STOPPED_EARLY)
        elif step == limits.steps:
            self._end(Outcome.COMPLETED)
        return better and patience is not None

    def _follow_plateau(self, loss: float) -> None:
        plateau, progress = self.recipe.plateau, self.progress
        if plateau is None:
            return
        best = progress.plateau_loss
        if best is None or loss < best - plateau.threshold * abs(best):
            progress.plateau_loss, progress.plateau_evaluations = loss, 0
            return
        progress.plateau_evaluations += 1
        if progress.plateau_evaluations > plateau.patience:
            progress.plateau_factor *= plateau.factor
            progress.plateau_evaluations = 0

    def final_evaluation(self) -> Evaluation | None:
        """Return the evaluation that counts: the best one where the best weights return, else the last."""
        progress = self.progress
        if progress.outcome is Outcome.DIVERGED or not progress.evaluations:
            return None
        if self.recipe.patience is not None and progress.best_at is not None:
            return progress.evaluations[progress.best_at]
        return progress.evaluations[-1]


def progress_to_data(progress: Progress) -> dict[str, Any]:
    """Return what control remembers as what JSON knows."""
    return dataclasses.asdict(progress)


def progress_from_data(data: Mapping[str, Any]) -> Progress:
    """Build what control remembers from what `progress_to_data` made."""
    outcome = None if data["outcome"] is None else Outcome(data["outcome"])
    evaluations = [Evaluation(**evaluation) for evaluation in data["evaluations"]]
    return Progress(**{**data, "outcome": outcome, "evaluations": evaluations})


def _rates(recipe: Recipe, limits: Limits) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the rate of every update; on the clock of examples an update's tick is its last example."""
    steps = np.arange(limits.steps)
    schedule = recipe.schedule
    if schedule.clock == "steps":
        ticks, total = steps, limits.steps
    elif schedule.clock == "examples":
        whole, rest = np.divmod(steps + 1, limits.steps_per_epoch)
        seen = whole * limits.train_examples + np.minimum(rest * limits.batch_size, limits.train_examples)
        ticks, total = seen - 1, int(seen[-1])
    else:
        raise InputError(
            "the clock of the schedule",
            "be steps or examples on this task",
            schedule.clock,
            "A task of examples has no tokens to count.",
        )
    assert recipe.rate is not None  # a recipe fills it in
    factors = schedule.resolve(total)(ticks.astype(np.float64))
    return np.asarray(recipe.rate * factors)

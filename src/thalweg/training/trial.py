"""A trial, and what it is a trial of."""

import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import Any

from thalweg.errors import InputError
from thalweg.hyper import ABOVE_0, Integer, Interval, Real
from thalweg.records import Direction, Stage
from thalweg.tasks.data.part import Data
from thalweg.tasks.task import Task
from thalweg.training.control import EVALUATIONS, Limits
from thalweg.training.recipe import Recipe


@dataclass(frozen=True)
class Budget:
    """How long to train: in epochs, in updates ("steps"), or in seconds; exactly one is given.

    >>> Budget(epochs=2).steps_for(examples=100, batch_size=32)
    8
    """

    epochs: float | None = None
    steps: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        given = {n: v for n, v in (("epochs", self.epochs), ("steps", self.steps), ("seconds", self.seconds))
                 if v is not None}  # fmt: skip
        if len(given) != 1:
            raise InputError(
                "the budget", "be given in one of epochs, steps and seconds", " and ".join(given) or "none"
            )
        declared = Integer(None, "", Interval(1.0)) if self.steps is not None else Real(None, "", ABOVE_0)
        for name, value in given.items():
            declared.check(name, "the budget", value)

    def steps_for(self, examples: int, batch_size: int, step_seconds: float | None = None) -> int:
        """Return the budget in updates, at least 1.

        Args:
            examples: of the training part.
            batch_size: examples of one update; the last one of an epoch may be short.
            step_seconds: the time of one update, needed where the budget is in seconds.
        """
        if self.steps is not None:
            return self.steps
        if self.epochs is not None:
            return max(1, round(self.epochs * math.ceil(examples / batch_size)))
        if step_seconds is None:
            raise ValueError("A budget in seconds needs the time of one update.")
        assert self.seconds is not None
        return max(1, round(self.seconds / step_seconds))


@dataclass(frozen=True)
class Trial:
    """One training: a recipe, a seed, a number of updates, and what it is run for."""

    contender: str
    stage: Stage
    recipe: Recipe
    seed: int
    steps: int
    evaluations: int = EVALUATIONS  # at least so many of the validation part, where there are so many steps


@dataclass(frozen=True)
class Workload:
    """A task with its data, checked, and what ranks its trials."""

    task: Task
    data: Data
    fingerprint: str
    metric: str
    direction: Direction
    # What fleets have traced and compiled of it, for the next of them.
    programs: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    def batch_size(self, recipe: Recipe) -> int:
        """Return the examples of one update.

        Raises:
            InputError: the batch is larger than the training part.
        """
        examples = self.data.train.examples
        if recipe.batch_size == "all":
            return examples
        assert isinstance(recipe.batch_size, int)
        if recipe.batch_size > examples:
            raise InputError(
                "batch_size",
                f"be at most the {examples} examples of the training part",
                recipe.batch_size,
                'Take a smaller one, or "all".',
            )
        return recipe.batch_size

    def limits(self, trial: Trial) -> Limits:
        """Return what a trial on this workload is bound to."""
        examples, batch_size = self.data.train.examples, self.batch_size(trial.recipe)
        return Limits(
            steps=trial.steps,
            steps_per_epoch=math.ceil(examples / batch_size),
            train_examples=examples,
            batch_size=batch_size,
            metric=self.metric,
            direction=self.direction,
            evaluations=trial.evaluations,
        )


@dataclass(frozen=True)
class Execution:
    """How trials run: part of what their numbers depend on, chosen before the first and recorded."""

    root: int  # the seed from which all others derive
    executor: str
    threads: int
    device: str
    versions: tuple[tuple[str, str], ...]  # of what computes
    wave: int = 0  # replicas that a fleet trains at once; 0: no fleet


def trial_key(workload: Workload, trial: Trial, execution: Execution) -> str:
    """Return the identity of a trial: equal keys mean equal numbers, so a finished one is not rerun."""
    parts: dict[str, Any] = {
        "task": workload.task.name,
        "fingerprint": workload.fingerprint,
        "metric": [workload.metric, str(workload.direction)],
        "contender": trial.contender,
        "stage": str(trial.stage),
        "recipe": trial.recipe.to_data(),
        "seed": trial.seed,
        "steps": trial.steps,
        "root": execution.root,
        "execution": [execution.executor, execution.threads, execution.device, execution.versions],
        **({"wave": execution.wave} if execution.wave else {}),
        **({"evaluations": trial.evaluations} if trial.evaluations != EVALUATIONS else {}),
    }
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]

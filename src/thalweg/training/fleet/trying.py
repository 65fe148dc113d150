"""Whether a model can be stacked: found out by doing it."""

import re
from collections.abc import Sequence
from typing import Final

from thalweg.errors import TaskError
from thalweg.tasks.user_code import isolated_random
from thalweg.training.engine import ModelEngine, Updates
from thalweg.training.fleet.engine import FleetEngine
from thalweg.training.fleet.program import Unstackable
from thalweg.training.trial import Execution, Trial, Workload

ALIKE: Final = 1e-3  # of a loss: more than rounding makes in two updates


def refusal(workload: Workload, trials: Sequence[Trial], execution: Execution) -> str | None:
    """Return why trials cannot run as one fleet, or None; what was tried is thrown away.

    Two updates of each are done in a fleet and alone: what vmap cannot do is found so, and also what it does
    otherwise.
    """
    rates = [trial.recipe.rate or 0.0 for trial in trials]
    with isolated_random(0):
        try:
            fleet = FleetEngine(workload, trials, execution.root, execution.device, execution.threads)
            together = [fleet.update([Updates(r, s, [rates[r]]) for r in range(len(trials))]) for s in (0, 1)]
            fleet.measure(range(len(trials)), workload.data.validation)
        except Unstackable as error:
            return str(error)
        except (RuntimeError, ValueError, TypeError, NotImplementedError, TaskError) as error:
            cause = error.__cause__ if isinstance(error, TaskError) else error  # not where it was raised
            said = re.split(r"[.] |\n", str(cause).strip() or type(cause).__name__)[0]
            return f"it cannot be stacked: {said.rstrip('.')}"
        if fleet.draws:  # other numbers than alone
            return None
        for row, trial in enumerate(trials):
            engine = ModelEngine(workload, trial, execution.root, execution.device)
            for step in (0, 1):
                (alone,) = engine.update([Updates(0, step, [rates[row]])])
                mine, theirs = together[step][row].losses[0], alone.losses[0]
                if abs(mine - theirs) > ALIKE * max(1.0, abs(theirs)):
                    return f"a replica's loss is {mine:g}, and the same model's alone {theirs:g}"
    return None


def draws(workload: Workload) -> bool:
    """Tell whether the model draws random numbers in training, as far as fleets have seen."""
    return any(made.draws for _, gradients, _ in workload.programs.values() for made in gradients.values())

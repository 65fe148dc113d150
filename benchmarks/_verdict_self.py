"""Real races of a recipe against itself for `verdict.py`: the same recipe twice, on fresh seeds."""

from typing import Any

import numpy as np
from _verdict_races import share, verdict_of

from thalweg.api.prepare import execution, prepare
from thalweg.executors import fleet
from thalweg.records import Stage
from thalweg.training.recipe import Recipe
from thalweg.training.trial import Execution, Trial

RECIPE = Recipe("adam", rate=1e-3)
STEPS = 200  # of batches of 32 from the 1,257 training examples of digits: five epochs


def self_races(races: int, seeds: int) -> dict[str, Any]:
    """Race one recipe against itself on digits, once for each root seed, which also splits the data anew.

    The second contender's trials have other seeds than the first one's: other weights, another order. So
    nothing sets the two apart, and the differences of runs that were paired are as likely to have one sign as
    the other.
    """
    winners, scores = 0, []
    for root in range(races):
        workload = prepare("digits", root, 32, None, False).workload
        how = execution(root, "fleet", 1, "cpu", 0.0)
        how = Execution(root, "fleet", 1, "cpu", how.versions, wave=2 * seeds)
        trials = [Trial("adam", Stage.TUNING, RECIPE, seed, STEPS) for seed in range(2 * seeds)]
        by_seed = {t.seed: t.score for t in fleet.run(workload, trials, how, lambda trial: False)}
        found = np.array([[by_seed[i] for i in range(seeds)], [by_seed[seeds + i] for i in range(seeds)]])
        scores.append(found)
        winners += verdict_of(found).winner is not None
    differences = np.concatenate([s[0] - s[1] for s in scores])
    return {
        "task": "digits", "recipe": RECIPE.to_data(), "steps": STEPS, "seeds": seeds, "races": races,
        "false_winners": share(winners, races),
        "mean_accuracy": float(np.mean(scores)),
        "deviation_of_a_difference": float(differences.std(ddof=1)),
        "mean_difference": float(differences.mean()),
    }  # fmt: skip

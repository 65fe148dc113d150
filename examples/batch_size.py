"""Does the gradient noise scale tell how many updates a larger batch saves? Counted on a task.

    python examples/batch_size.py [--task NAME] [--optimizer NAME] [--loss L] [--seeds N] [--out DIR]

For each batch size, the updates are counted until the training loss is L: the median over the seeds, at the
rate that needs the fewest. Beside them stands what the noise scale says, S_min (1 + B_noise/B) with S_min
fitted, and what is left when B is fitted too: the critical batch size, which the noise scale stands for.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch
from experiment import arguments

import thalweg
from thalweg import optim
from thalweg.training.recipe import Recipe

FACTORS = [2.0**k for k in (0, 1, -1, 2, -2, 3, -3, 4, -4, 5)]  # of the optimizer's starting point
MOST = 20000  # updates


def updates_to(goal, task, part, recipe, seed, most):
    """Return how many updates it takes until the loss on the whole part is at most the goal."""
    model = task.model(seed)
    optimizer = optim.BY_RULE[recipe.preset.rule.name](model, **recipe.given())
    whole, size = next(part.batches(part.examples)), recipe.batch_size
    generator, order, step, recent = np.random.default_rng(seed), [], 0, []
    while step < most:
        if len(order) < min(size, part.examples):
            order = list(generator.permutation(part.examples))
        chosen, order = order[:size], order[size:]
        optimizer.zero_grad()
        loss = task.loss(model, part.batch(np.array(chosen)))
        loss.backward()
        optimizer.step()
        step, recent = step + 1, [*recent[-4:], loss.item()]
        if not math.isfinite(recent[-1]):
            break
        if np.mean(recent) < 3 * goal and step % max(1, step // 100) == 0:
            with torch.no_grad():
                if task.loss(model, whole).item() <= goal:
                    return step
    return math.inf


def fitted(sizes, counts, critical):
    """Return S_min of S_min (1 + B/size) that fits best, and by how much it is off: both of logarithms."""
    shape = np.log1p(critical / np.array(sizes))
    off = np.log(counts) - shape
    return float(np.exp(off.mean())), float(off.std())


if __name__ == "__main__":
    asked = arguments(__doc__, task="digits", optimizer="adam", loss=0.1, seeds=5)
    torch.set_num_threads(1)
    task = thalweg.load_task(asked.task)
    part = task.data(0).train
    noise = thalweg.find_batch_size(asked.task, asked.optimizer).to_json()["noise_scale"]
    sizes = [size for size in (8, 16, 32, 64, 128, 256, 512, 1024) if size < part.examples] + [part.examples]
    found = {}
    for size in reversed(sizes):
        best = (math.inf, None)
        for factor in FACTORS:
            recipe = Recipe(asked.optimizer, batch_size=size)
            recipe = recipe.with_rate(recipe.rate * factor)
            most = min(MOST, 1.5 * best[0])
            counts = [updates_to(asked.loss, task, part, recipe, seed, most) for seed in range(asked.seeds)]
            best = min(best, (float(np.median(counts)), recipe.rate))
        found[size] = best
        print(size, *best, flush=True)
    counts = [found[size][0] for size in sizes]
    critical = float(min(np.geomspace(1, 1e4, 2000), key=lambda x: fitted(sizes, counts, x)[1]))
    scale = noise["value"] or noise["low"]
    print()
    for name, value in (("noise scale", scale), ("critical batch size", critical)):
        fewest, off = fitted(sizes, counts, value)
        print(f"{name} {value:.0f}: updates are off by {100 * off:.0f} %")
        print("  ", *(f"{size}: {fewest * (1 + value / size):.0f}" for size in sizes), sep="  ")
    answer = {"asked": vars(asked), "noise_scale": noise, "critical": critical, "updates": found}
    target = Path(asked.out) / f"batch-size-{asked.task}-{asked.optimizer}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(answer, indent=1))
    print(f"\n{target}")

"""What the experiments beside this file share: tune on one split, run on others, compare in pairs."""

import argparse
import itertools
import json
from pathlib import Path

import numpy as np

import thalweg
from thalweg.evidence.statistics import sign_flip_interval, sign_flip_p

HERE = Path(__file__).parent


def arguments(text, **defaults):
    """Read the numbers of an experiment from the command line."""
    parser = argparse.ArgumentParser(description=text.splitlines()[0])
    for name, default in {**defaults, "out": "thalweg-runs"}.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    return parser.parse_args()


def tuned(task, contenders, higher, **how):
    """Return of each contender the recipe that scores best among those it may try, on seed 0.

    Args:
        task: what to train.
        contenders: a list of recipes by name; all lists are equally long.
        higher: whether the metric that ranks the task is better when it is higher.
        how: passed to `thalweg.train`: epochs or steps, and out.
    """
    chosen = {}
    for name, recipes in contenders.items():
        signed = []
        for recipe in recipes:
            score = thalweg.train(task, recipe, seed=0, **how).trace.score
            signed.append(-np.inf if score is None else score if higher else -score)
            print(f"{name}: {recipe} → {score}", flush=True)
        chosen[name] = recipes[int(np.argmax(signed))]
        print(f"{name} takes {chosen[name]}", flush=True)
    return chosen


def rows(task, chosen, seeds, measure, **how):
    """Train every contender on seeds 1, 2, … and return what is measured after each run."""
    found = {name: [] for name in chosen}
    for seed in range(1, seeds + 1):
        for name, recipe in chosen.items():
            trained = thalweg.train(task, recipe, seed=seed, **how)
            found[name].append({"seed": seed, **measure(trained, seed)})
            print(name, found[name][-1], flush=True)
    return found


def differences(found, quantity):
    """Return the difference of every pair over the seeds: mean, 95 % interval, p of the sign-flip test."""
    pairs = []
    for a, b in itertools.combinations(found, 2):
        d = [x[quantity] - y[quantity] for x, y in zip(found[a], found[b], strict=True)]
        interval = sign_flip_interval(d)
        pairs.append({"a": a, "b": b, "mean": float(np.mean(d)), "interval": interval, "p": sign_flip_p(d)})
    return pairs


def conclude(name, asked, chosen, found, quantities):
    """Print means and differences, and write everything as JSON."""
    answer = {"asked": vars(asked), "recipes": chosen, "runs": found, "differences": {}}
    for quantity in quantities:
        print(f"\n{quantity}")
        for contender, runs in found.items():
            values = [run[quantity] for run in runs]
            print(f"  {contender:>16}: mean {np.mean(values):.4g}, s.d. {np.std(values, ddof=1):.2g}")
        answer["differences"][quantity] = differences(found, quantity)
        for pair in answer["differences"][quantity]:
            shown = "–" if pair["interval"] is None else "[{:.3g}, {:.3g}]".format(*pair["interval"])
            print(f"  {pair['a']} − {pair['b']}: {pair['mean']:.3g}, 95 % {shown}, p {pair['p']:.3g}")
    target = Path(asked.out) / f"{name}.json"
    target.write_text(json.dumps(answer, indent=1))
    print(f"\n{target}")

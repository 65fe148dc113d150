"""How fast a landscape is measured: the losses at many weights as a fleet, against one after the other.

    THALWEG_DATA=… python benchmarks/landscape.py

The points of a random plane around a network that was trained for a few updates, on a part of the data.
Three ways to the same losses: as a fleet; one by one, as where a model cannot be stacked; and by hand, as a
notebook does it: weights written into the model, batches of 512 through it, the mean. One thread; the time is
the processor's, so that what else runs on the machine counts little. What the fleet compiles first is not
counted: it is done once for a landscape.
"""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch
from _common import conditions, interleaved, keep_freed_memory, ratios, save, show
from torch import nn

from thalweg import load_task
from thalweg.landscape import random_direction
from thalweg.landscape.directions import weights_of
from thalweg.landscape.losses import Losses, OnPart
from thalweg.landscape.path import record
from thalweg.records import Direction, Stage
from thalweg.tasks.data.part import examples_in
from thalweg.training.recipe import Recipe
from thalweg.training.trial import Execution, Trial, Workload

REPEATS = 7
FLEET, ALONE, HAND = "as a fleet", "one by one", "by hand"
TASKS = (("digits", "train", 256), ("mnist", "validation", 64))  # and how many losses


def by_hand(model: nn.Module, directions: Any, places: Any, part: Any) -> list[float]:
    """Return the losses as a notebook measures them."""
    model.eval()
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    found = []
    with torch.no_grad():
        for place in places:
            for name, p in model.named_parameters():
                p.copy_(weights[name])
                for amount, direction in zip(place, directions, strict=True):
                    if name in direction:
                        p.add_(direction[name], alpha=float(amount))
            total = 0.0
            for batch in part.batches(512):
                loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
                total += loss.item() * examples_in(batch)
            found.append(total / part.examples)
        for name, p in model.named_parameters():
            p.copy_(weights[name])
    return found


def compare(name: str, part_name: str, points: int) -> dict[str, Any]:
    """Measure all three ways on one task."""
    task = load_task(name)
    data = task.data(0)
    part = data.train if part_name == "train" else data.validation
    workload = Workload(task, data, "", "accuracy", Direction.HIGHER)
    recipe = Recipe("momentum", 0.03, batch_size=64)
    how = Execution(0, "serial", 1, "cpu", ())
    model = record(workload, Trial("momentum", Stage.SINGLE, recipe, 0, 100), how, 3).model
    directions = [random_direction(model, 0, k) for k in (0, 1)]
    edge = np.linspace(-1, 1, round(points**0.5))
    places = np.stack(np.meshgrid(edge, edge), axis=-1).reshape(-1, 2)

    def losses(fleet: bool) -> Callable[[], list[float]]:
        measure = Losses(model, OnPart(task, model, part), fleet)
        return lambda: measure.around(weights_of(model), directions, places)

    ways = {
        FLEET: losses(True),
        ALONE: losses(False),
        HAND: lambda: by_hand(model, directions, places, part),
    }
    answers = {way: np.array(measure()) for way, measure in ways.items()}
    apart = max(float(np.abs(answers[way] / answers[HAND] - 1).max()) for way in (FLEET, ALONE))

    def timed(measure: Callable[[], list[float]]) -> Callable[[], float]:
        def run() -> float:
            start = time.process_time()
            measure()
            return (time.process_time() - start) / len(places)

        return run

    measured = interleaved({way: timed(measure) for way, measure in ways.items()}, REPEATS)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"\n{name}, {parameters:,} parameters: {len(places)} losses on {part.examples:,} examples")
    rows: list[tuple[str, ...]] = [("", "ms a loss", "it / as a fleet")]
    found = {}
    for way, times in measured.items():
        milliseconds, against = 1e3 * median(times), median(ratios(measured, way, FLEET))
        found[way] = {"milliseconds": milliseconds, "over_fleet": against}
        rows.append((way, f"{milliseconds:.3g}", "" if way == FLEET else f"{against:.2f}"))
    show(rows)
    print(f"The losses differ by at most {apart:.1e} of themselves.")
    return {
        "task": name,
        "part": part_name,
        "examples": part.examples,
        "parameters": parameters,
        "losses": len(places),
        "ways": found,
        "relative_difference": apart,
    }


def main() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    results = [compare(*task) for task in TASKS]
    print()
    save("landscape", conditions(threads=1), results)


if __name__ == "__main__":
    main()

"""What the loop costs: ours against one written by hand, with the same optimizer in both.

    python benchmarks/loop.py

Ours is `ModelEngine`, `Control` and `train`: the rate of every update from its schedule, a seed for
every forward pass, the curve of the training loss, divergence recognised, and evaluations: about 20 in
so short a run, here on a single batch, and they count against it. The loop by hand does what a tutorial
does: `torch.randperm` for every epoch, `x[index]`, `zero_grad`, `backward`, `step`, and `loss.item()` at
every update (a second one leaves that out); it never evaluates. Models and data are made before the
clock starts. One thread, as a showdown takes for networks of this size; the time is the processor's, so
that what else runs on the machine counts little.
"""

import os
import time
from collections.abc import Callable
from statistics import median, quantiles

import torch
from _common import conditions, interleaved, keep_freed_memory, ratios, save, show
from torch import Tensor, nn

from thalweg import load_task, optim
from thalweg.records import Direction, Stage
from thalweg.tasks import Data, Task, mlp
from thalweg.tasks.arrays import classification_loss, classification_metrics
from thalweg.tasks.data import TensorPart
from thalweg.training.control import Control
from thalweg.training.engine import ModelEngine
from thalweg.training.loop import train
from thalweg.training.recipe import Recipe
from thalweg.training.trial import Trial, Workload

REPEATS = 15
RATE = 1e-3
OURS, PEER = "Thalweg's loop, thalweg Adam", "by hand, thalweg Adam"


def made_up(examples: int, inputs: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(examples, inputs, generator=generator)
    return x, torch.randint(10, (examples,), generator=generator)


def examples_of(name: str) -> tuple[str, Tensor, Tensor]:
    """Return the training part of a built-in task, or what is as large."""
    if name == "mnist" and not os.environ.get("THALWEG_DATA"):
        return "made-up data of MNIST's size", *made_up(54_000, 784)
    x, y = load_task(name).data(0).train.fields  # type: ignore[attr-defined]
    return name, x, y


def ours(x: Tensor, y: Tensor, sizes: list[int], batch_size: int, steps: int) -> Callable[[], float]:
    """Return what measures the seconds of one update in our loop."""
    few = TensorPart((x[:batch_size], y[:batch_size]))
    task = Task(lambda: mlp(sizes), lambda seed: (x, y), classification_loss, metrics=classification_metrics)
    workload = Workload(task, Data(TensorPart((x, y)), few, few), "", "accuracy", Direction.HIGHER)
    trial = Trial("adam", Stage.SINGLE, Recipe("adam", RATE, batch_size=batch_size), 0, steps)

    def measure() -> float:
        engine = ModelEngine(workload, trial, root=0)
        control = Control(trial.recipe, workload.limits(trial))
        start = time.process_time()
        train(engine, [control], workload)
        return (time.process_time() - start) / steps

    return measure


def by_hand(
    x: Tensor,
    y: Tensor,
    sizes: list[int],
    batch_size: int,
    steps: int,
    make: type[torch.optim.Optimizer],
    item: bool = True,
) -> Callable[[], float]:
    """Return what measures the seconds of one update in a loop as a tutorial writes it."""

    def measure() -> float:
        torch.manual_seed(0)
        model = mlp(sizes)
        optimizer = make(model.parameters(), lr=RATE)  # type: ignore[call-arg]
        losses, step = [], 0
        model.train()
        start = time.process_time()
        while step < steps:
            order = torch.randperm(len(x))
            for first in range(0, len(x), batch_size):
                index = order[first : first + batch_size]
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(x[index]), y[index])
                loss.backward()
                optimizer.step()
                if item:
                    losses.append(loss.item())
                step += 1
                if step == steps:
                    break
        return (time.process_time() - start) / steps

    return measure


def compare(name: str, sizes: list[int], batch_size: int, steps: int) -> dict[str, object]:
    """Measure all loops on one network, print them, and return the medians and ratios."""
    data, x, y = examples_of(name)
    setting = (x, y, sizes, batch_size, steps)
    measured = interleaved(
        {
            OURS: ours(*setting),
            PEER: by_hand(*setting, optim.Adam),
            "by hand, thalweg Adam, without item()": by_hand(*setting, optim.Adam, item=False),
            "by hand, torch Adam": by_hand(*setting, torch.optim.Adam),
        },
        REPEATS,
    )
    network = "–".join(map(str, sizes))
    print(f"\n{data}, MLP {network}, batch {batch_size}: {REPEATS} times {steps} updates, medians")
    rows: list[tuple[str, ...]] = [("", "µs an update", "ours / it")]
    results = {}
    for loop, times in measured.items():
        microseconds, against = 1e6 * median(times), median(ratios(measured, OURS, loop))
        results[loop] = {"microseconds": microseconds, "ours_over_it": against}
        rows.append((loop, f"{microseconds:.0f}", "" if loop == OURS else f"{against:.3f}"))
    show(rows)
    low, middle, high = (100 * (r - 1) for r in quantiles(ratios(measured, OURS, PEER), method="inclusive"))
    print(f"With the same optimizer our loop costs {middle:+.1f} % over the loop by hand "
          f"(middle half of the rounds: {low:+.1f} to {high:+.1f} %).")  # fmt: skip
    return {"data": data, "network": network, "batch_size": batch_size, "steps": steps, "loops": results}


def main() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    results = [
        compare("mnist", [784, 128, 10], batch_size=64, steps=844),
        compare("digits", [64, 32, 10], batch_size=32, steps=900),
    ]
    print()
    save("loop", conditions(threads=1), results)


if __name__ == "__main__":
    main()

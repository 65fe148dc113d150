"""What one step of an optimizer costs: each class of thalweg.optim against PyTorch's of the same name.

    python benchmarks/step.py

PyTorch's is taken as it is by default, with ``foreach=False`` (one parameter after the other, as ours
works), and with ``fused=True`` where there is such a kernel. Ours is the eager backend: it runs the text
of the rule as it stands, operation by operation, and is not meant to win. The gradient stays the same
throughout. One thread; the time is the processor's. The tables hold for a process that has freed something
large before (see `keep_freed_memory`); Adam is also measured in processes that have not.
"""

import time
from collections.abc import Callable
from multiprocessing import get_context
from statistics import median
from typing import Any

import torch
from _common import conditions, interleaved, keep_freed_memory, ratios, save, show
from torch import Tensor

from thalweg import optim
from thalweg.tasks import mlp

REPEATS = 15
FRESH = 6
RATE = 1e-6  # small, so that the numbers stay ordinary however many steps are measured
METHODS: dict[str, dict[str, Any]] = {
    "SGD": {},
    "SGD with momentum": {"momentum": 0.9},
    "Adagrad": {},
    "RMSprop": {},
    "Adam": {},
    "AdamW": {},
}
FUSED = ("SGD", "Adagrad", "Adam", "AdamW")
OURS = "thalweg"


def network() -> list[Tensor]:
    """Return the four parameters of MNIST's MLP 784–128–10."""
    return list(mlp([784, 128, 10]).parameters())


def million() -> list[Tensor]:
    """Return one parameter of a million numbers."""
    return [torch.randn(1_000_000, requires_grad=True)]


def steps(make: Callable[..., torch.optim.Optimizer], parameters: list[Tensor], **options: Any) -> Any:
    """Return what measures the seconds of one step."""
    optimizer = make(parameters, lr=RATE, **options)
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    count = 200 if sum(p.numel() for p in parameters) < 500_000 else 50

    def measure() -> float:
        start = time.process_time()
        for _ in range(count):
            optimizer.step()
        return (time.process_time() - start) / count

    return measure


def compare(title: str, parameters: Callable[[], list[Tensor]]) -> dict[str, object]:
    """Measure all methods on parameters of one kind, print them, and return medians and ratios."""
    print(f"\n{title}: µs a step, medians of {REPEATS}; in brackets thalweg / torch")
    rows: list[tuple[str, ...]] = [("", OURS, "torch, default", "torch, foreach=False", "torch, fused")]
    results: dict[str, object] = {}
    for method, options in METHODS.items():
        name = method.split()[0]
        ours, theirs = getattr(optim, name), getattr(torch.optim, name)
        candidates = {
            OURS: steps(ours, parameters(), **options),
            rows[0][2]: steps(theirs, parameters(), **options),
            rows[0][3]: steps(theirs, parameters(), foreach=False, **options),
        }
        if name in FUSED:
            candidates[rows[0][4]] = steps(theirs, parameters(), fused=True, **options)
        measured = interleaved(candidates, REPEATS)
        found = {
            way: {
                "microseconds": 1e6 * median(times),
                "thalweg_over_it": median(ratios(measured, OURS, way)),
            }
            for way, times in measured.items()
        }
        results[method] = found
        cells = [
            f"{found[way]['microseconds']:.0f} ({found[way]['thalweg_over_it']:.1f})" if way in found else "–"
            for way in rows[0][2:]
        ]
        rows.append((method, f"{found[OURS]['microseconds']:.0f}", *cells))
    show(rows)
    return results


def fresh(make: Callable[..., torch.optim.Optimizer]) -> float:
    """Return the microseconds of a step on the million in a process that has freed nothing large."""
    torch.set_num_threads(1)
    measure = steps(make, million())
    return 1e6 * median(measure() for _ in range(3))


def fresh_processes() -> dict[str, list[float]]:
    """Measure Adam on the million in fresh processes, print the extremes, and return all, sorted."""
    makers = {OURS: optim.Adam, "torch": torch.optim.Adam}
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        times = pool.map(fresh, [*makers.values()] * FRESH, chunksize=1)
    found = {way: sorted(times[place :: len(makers)]) for place, way in enumerate(makers)}
    said = "; ".join(f"{way} {values[0]:.0f} to {values[-1]:.0f}" for way, values in found.items())
    print(f"\nAdam on 1,000,000 numbers in {FRESH} fresh processes each: µs a step: {said}")
    return found


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    before = fresh_processes()
    keep_freed_memory()
    results = {
        "million, Adam, fresh processes": before,
        "network": compare("MLP 784–128–10, 4 parameters, 101,770 numbers", network),
        "million": compare("one parameter of 1,000,000 numbers", million),
    }
    print()
    save("step", conditions(threads=1), results)


if __name__ == "__main__":
    main()

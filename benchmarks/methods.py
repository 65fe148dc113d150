"""What a step of every method costs beside Adam's: time and memory, on a small transformer.

    .venv/bin/python benchmarks/methods.py

Processor seconds of the optimizer's step alone, on one thread; the peer is `thalweg.optim.Adam` in the same
rounds, and `torch.optim.Adam` is there as a yardstick. State is in bytes a parameter, of float32.
"""

import time
from collections.abc import Callable
from statistics import median

import torch
from _common import conditions, interleaved, keep_freed_memory, ratios, save, show
from torch import nn

from thalweg import optim
from thalweg.rules.catalogue import CATALOGUE

REPEATS = 7
STEPS = 10
PEER = "adam"
TORCH = "torch.optim.Adam"


def transformer() -> nn.Module:
    """Return two layers of width 64 with an embedding and a head for 65 characters."""
    layer = nn.TransformerEncoderLayer(64, 4, 256, batch_first=True)
    return nn.Sequential(nn.Embedding(65, 64), nn.TransformerEncoder(layer, 2), nn.Linear(64, 65))


def made(name: str) -> torch.optim.Optimizer:
    """Return an optimizer of a transformer that has gradients and has taken its first steps."""
    model = transformer()
    if name == TORCH:
        optimizer: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), lr=1e-6)
    else:
        entry = CATALOGUE[name]
        optimizer = optim.BY_RULE[entry.rule.name](model, lr=1e-6, **entry.fixed)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    for _ in range(2):
        optimizer.step()
    return optimizer


def measuring(optimizer: torch.optim.Optimizer) -> Callable[[], float]:
    """Return what measures the processor seconds of a step."""

    def measure() -> float:
        start = time.process_time()
        for _ in range(STEPS):
            optimizer.step()
        return (time.process_time() - start) / STEPS

    return measure


def state_bytes(optimizer: torch.optim.Optimizer) -> float:
    """Return the bytes of all buffers a parameter; counts of steps are left out."""
    sizes = [
        x.numel() * x.element_size()
        for state in optimizer.state.values()
        for name, x in state.items()
        if name != "step"
    ]
    return sum(sizes) / sum(p.numel() for group in optimizer.param_groups for p in group["params"])


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    keep_freed_memory()
    optimizers = {name: made(name) for name in [*CATALOGUE, TORCH]}
    measured = interleaved({name: measuring(o) for name, o in optimizers.items()}, REPEATS)
    results = {
        name: {
            "microseconds": 1e6 * median(times),
            "times_adam": median(ratios(measured, name, PEER)),
            "state_bytes": state_bytes(optimizers[name]),
        }
        for name, times in measured.items()
    }
    rows: list[tuple[str, ...]] = [("", "µs a step", "times Adam", "bytes of state a parameter")]
    for name, found in sorted(results.items(), key=lambda item: item[1]["microseconds"]):
        rows.append(
            (
                name,
                f"{found['microseconds']:.0f}",
                f"{found['times_adam']:.2f}",
                f"{found['state_bytes']:.2f}",
            )
        )
    show(rows)
    save("methods", conditions(threads=1), results)


if __name__ == "__main__":
    main()

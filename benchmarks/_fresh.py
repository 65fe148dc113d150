"""What only a fresh process shows: what the first use of a rule costs, and what memory a step takes.

Run by itself it is such a process: ``python _fresh.py first OPTIMIZER [BACKEND]``, the same with ``made``,
which makes the optimizer and does not step, or ``memory OPTIMIZER [BACKEND]``; it prints JSON.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CACHE = "THALWEG_CACHE"  # names the folder of compiled rules
ROUNDS = 5
OURS, PEER = "thalweg.optim.Adam", "torch.optim.Adam"


def first_use(backend: str | None = None) -> dict[str, Any]:
    """Measure Adam's first step on the MLP in fresh processes, in seconds.

    The whole time of a process that makes the optimizer and steps once, minus that of one that makes it
    only; both import torch. Each is the shortest of some, since what else runs only makes them longer.
    ``cold`` starts with an empty cache, ``warm`` with one that another process
    filled, ``torch`` is PyTorch's class. ``making`` is what the import of `thalweg.optim` and making the
    optimizer take, with the parts of PyTorch that every optimizer imports; ``torch making`` is the same of
    PyTorch's.
    """
    wall: dict[str, list[float]] = {}
    making: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        warm = str(Path(folder) / "warm")
        _process("first", OURS, backend, warm)
        for number in range(ROUNDS):
            for name, what, optimizer, cache in (
                ("made", "made", OURS, warm),
                ("cold", "first", OURS, str(Path(folder) / f"cold-{number}")),
                ("warm", "first", OURS, warm),
                ("torch made", "made", PEER, warm),
                ("torch", "first", PEER, warm),
            ):
                took, said = _process(what, optimizer, backend if optimizer is OURS else None, cache)
                wall.setdefault(name, []).append(took)
                making.setdefault(optimizer, []).append(said["making"])
    least = {name: min(times) for name, times in wall.items()}
    return {
        "cold": least["cold"] - least["made"],
        "warm": least["warm"] - least["made"],
        "torch": least["torch"] - least["torch made"],
        "making": min(making[OURS]),
        "torch making": min(making[PEER]),
        "rounds": ROUNDS,
    }


def peak_memory(backend: str | None = None) -> dict[str, Any]:
    """Measure the peak of memory during AdamW's third step on GPT-2 small, in bytes, beside PyTorch's."""
    found = {}
    for name in ("thalweg.optim.AdamW", "torch.optim.AdamW"):
        found[name] = _process("memory", name, backend if name.startswith("thalweg") else None)[1]
    return found


def _process(
    what: str, optimizer: str, backend: str | None, cache: str | None = None
) -> tuple[float, Mapping[str, Any]]:
    """Return how long a fresh process took, and what it said."""
    words = [sys.executable, __file__, what, optimizer, *([backend] if backend else [])]
    variables = os.environ | ({CACHE: cache} if cache else {})
    start = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, env=variables)
    took = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{' '.join(words[2:])} ended with {done.returncode}: {done.stderr[-500:]}")
    return took, json.loads(done.stdout.splitlines()[-1])


def _made(name: str, shapes: list[tuple[int, ...]], options: Mapping[str, Any]) -> Any:
    """Return an optimizer of parameters that have gradients."""
    import torch

    parameters = [torch.randn(shape, requires_grad=True) for shape in shapes]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    start = time.perf_counter()
    if name.startswith("thalweg"):
        from thalweg import optim
    else:
        from torch import optim
    optimizer = getattr(optim, name.rpartition(".")[2])(parameters, lr=1e-6, **options)
    return optimizer, time.perf_counter() - start


def _status(line: str) -> int:
    """Return the bytes that the system says this process has, or had at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(found.split()[1]) for found in lines if found.startswith(f"{line}:"))


def _main(what: str, name: str, backend: str | None = None) -> None:
    from _shapes import SHAPES

    options = {"backend": backend} if backend else {}
    shapes = list(SHAPES["gpt2" if what == "memory" else "mlp"].shapes)
    optimizer, making = _made(name, shapes, options)
    said: dict[str, Any] = {"making": making}
    if what == "first":
        optimizer.step()
    if what == "memory":
        for _ in range(2):
            optimizer.step()
        before = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        optimizer.step()
        peak = _status("VmHWM")
        said |= {"before": before, "peak": peak, "more": peak / before - 1}
    print(json.dumps(said))


if __name__ == "__main__":
    _main(*sys.argv[1:])

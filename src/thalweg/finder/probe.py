"""Search for a rate with a person's own model and optimizer, before or in the middle of training.

Everything is done on copies: model, optimizer and their states together, so that the copy of the optimizer
moves the copy of the model. Batches are read once and kept; random states are put back. What was handed over
is bit for bit what it was.
"""

import copy
import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from thalweg.errors import InputError
from thalweg.finder.search import POINTS, Ran, Run, Search, plan_finder
from thalweg.hyper import ABOVE_0, Integer, Interval, Real
from thalweg.records import Finding, Stage

MEASURED: Final = 8  # batches that are kept aside and measured, at most a quarter of all
LEAST, MOST = 2, 512  # batches; no more are read, for they are kept in memory


def probe_lr(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[nn.Module, Any], Tensor],
    batches: Iterable[Any],
    *,
    steps: int = 1000,
    lowest: float = 1e-8,
    highest: float = 10.0,
    seed: int = 0,
) -> Finding:
    """Find the rate with which a model goes on best, and leave no trace.

    Sweeps and short trainings start from where model and optimizer are, states included. The rate is that of
    the optimizer's first group; those of the others keep their ratio to it.

    Args:
        model: any module; its mode, buffers and gradients stay as they are.
        optimizer: over parameters of this model; of any class that can be copied.
        loss: of the model and a batch: a scalar, of any sign.
        batches: what may be gone through again, such as a list or a DataLoader; not an iterator, which would
            be used up. The first 512 are read. A few of them are kept aside to be measured; each sweep and
            training goes through the others in an order of its own.
        steps: updates of the training that the rate is for; the search does 1.2 times as many.
        lowest: rate at which a sweep begins, above 0.
        highest: rate at which it ends.
        seed: of the orders.

    Raises:
        InputError: batches are an iterator or fewer than two, the first group's rate is not above 0, or a
            number is out of range.

    >>> _ = torch.manual_seed(0)
    >>> model = nn.Linear(1, 1)
    >>> x = torch.linspace(-1, 1, 64)[:, None]
    >>> batches = [(x[i::8], 3 * x[i::8]) for i in range(8)]
    >>> squared = lambda model, batch: nn.functional.mse_loss(model(batch[0]), batch[1])
    >>> found = probe_lr(model, torch.optim.SGD(model.parameters(), lr=0.1), squared, batches, steps=400)
    >>> 0.01 < found.suggestion < 1  # the largest eigenvalue is 2, of the bias: from 2/2 on it diverges
    True
    """
    for name, value in (("lowest", lowest), ("highest", highest)):
        Real(None, "", ABOVE_0).check(name, "the sweep", value)
    if not lowest < highest:
        raise InputError("the sweep", "end above where it begins", f"{lowest} to {highest}")
    Integer(None, "", Interval(100.0)).check("steps", "the training that a rate is found for", steps)
    own = float(optimizer.param_groups[0]["lr"])
    if not own > 0:
        raise InputError("the rate of the optimizer's first group", "be above 0", own, "It sets the ratios.")
    with _put_back(batches):
        kept = _taken(batches)
        copies = _Copies(model, optimizer, loss, kept, seed)
        plan = plan_finder(steps)
        rates = np.geomspace(lowest, highest, plan.sweep_steps)
        search = Search(type(optimizer).__name__, rates, plan, steps)
        while runs := search.asks():
            search.takes(runs, [copies.run(run, rates) for run in runs])
    return search.finding()


def _taken(batches: Iterable[Any]) -> list[Any]:
    if isinstance(batches, Iterator):
        must = "be what can be gone through again, such as a list or a DataLoader"
        do = "It would be used up; hand over a list of a few."
        raise InputError("the batches", must, "an iterator", do)
    kept = list(islice(batches, MOST))
    if len(kept) < LEAST:
        do = "One is measured, the others are trained on."
        raise InputError("the batches", f"be at least {LEAST}", len(kept), do)
    return kept


class _Copies:
    """Runs trainings on copies of a model and its optimizer."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Callable[[nn.Module, Any], Tensor],
        batches: Sequence[Any],
        seed: int,
    ) -> None:
        self.given, self.loss, self.seed = (model, optimizer), loss, seed
        aside = max(1, min(MEASURED, len(batches) // 4))
        self.aside, self.batches = batches[:aside], batches[aside:]

    def run(self, run: Run, rates: np.ndarray) -> Ran:
        torch.manual_seed(self.seed + run.seed)
        order = np.random.default_rng([self.seed, run.seed])
        model, optimizer = copy.deepcopy(self.given)
        ratios = [group["lr"] / optimizer.param_groups[0]["lr"] for group in optimizer.param_groups]
        losses: list[float | None] = []
        points: list[tuple[int, float | None]] = []
        queue: list[int] = []
        for step in range(run.steps):
            queue = queue or order.permutation(len(self.batches)).tolist()
            for group, ratio in zip(optimizer.param_groups, ratios, strict=True):
                group["lr"] = ratio * float(rates[step] if run.stage is Stage.SWEEP else run.rate)
            optimizer.zero_grad()
            value = self.loss(model, self.batches[queue.pop()])
            torch.autograd.backward(value)
            losses.append(value.item() if math.isfinite(value.item()) else None)
            if losses[-1] is None:
                break
            optimizer.step()
            if run.stage is Stage.SHORT and (step + 1) % (run.steps // POINTS) == 0:
                points.append((step + 1, self._measured(model)))
        return Ran(len(losses) if losses[-1] is not None else len(losses) - 1, losses, points)

    def _measured(self, model: nn.Module) -> float | None:
        training = {module: module.training for module in model.modules()}
        model.eval()
        with torch.no_grad():
            mean = sum(self.loss(model, batch).item() for batch in self.aside) / len(self.aside)
        for module, mode in training.items():
            module.training = mode
        return mean if math.isfinite(mean) else None


@contextmanager
def _put_back(batches: Any) -> Iterator[None]:
    """Have all random states afterwards as before: Python's, NumPy's, torch's, and those of a DataLoader."""
    sampler = getattr(batches, "sampler", None)
    own = {id(g): g for g in (getattr(batches, "generator", None), getattr(sampler, "generator", None)) if g}
    states = [(g, g.get_state()) for g in own.values()]
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        for generator, state in states:
            generator.set_state(state)
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if devices:
            torch.cuda.set_rng_state_all(devices)

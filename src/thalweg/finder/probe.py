"""Search for a rate with a person's own model and optimizer, before or in the middle of training.

Everything is done on copies: model, optimizer and their states together, so that the copy of the optimizer
moves the copy of the model. Batches are read once and kept; random states are put back. What was handed over
is bit for bit what it was.
"""

import copy
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import islice
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from thalweg.errors import InputError, NonFiniteGradients
from thalweg.finder.search import POINTS, Ran, Run, Search, plan_finder
from thalweg.hyper import ABOVE_0, Integer, Interval, Real
from thalweg.optim.optimizer import RuleOptimizer
from thalweg.records import Finding, Stage
from thalweg.tasks.user_code import isolated_random

SPARSE: Final = 0.5  # decades at most between neighbouring rates of a sweep: those around it are averaged
MEASURED: Final = 8  # batches that are kept aside and measured, at most a quarter of all
COPIED: Final = "be what copy.deepcopy copies whole"
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
        optimizer: over parameters of this model; of any class that can be copied. LBFGS cannot, and Sophia
            needs a loop that measures curvature.
        loss: of the model that it is given, a copy, and a batch: a scalar, of any sign.
        batches: what may be gone through again, such as a list or a DataLoader; not an iterator, which would
            be used up. The first 512 are read. A few of them are kept aside to be measured; each sweep and
            training goes through the others in an order of its own.
        steps: updates of the training that the rate is for; the search does 1.2 times as many.
        lowest: rate at which a sweep begins, above 0.
        highest: rate at which it ends.
        seed: of the orders.

    Raises:
        InputError: batches are an iterator or fewer than two, the first group's rate is not above 0, the
            loss does not depend on what the optimizer moves, or a number is out of range.

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
    Integer(0, "", Interval(0.0, 1e9)).check("seed", "the probe", seed)
    plan = plan_finder(steps)
    widest = SPARSE * (plan.sweep_steps - 1)
    if not (decades := math.log10(highest / lowest)) <= widest:
        must = f"span at most {widest:g} decades in its {plan.sweep_steps} updates"
        raise InputError("the sweep", must, f"{decades:.3g}", "Take more steps, or a narrower range.")
    if isinstance(optimizer, RuleOptimizer) and optimizer.curvature is not None:
        do = "It needs a loop that measures curvature; find_lr has one."
        raise InputError("the optimizer", "step by gradients alone", optimizer.rule.title, do)
    with isolated_random(seed), _put_back(batches):
        copies = _Copies(model, optimizer, loss, _taken(batches), seed)
        copies.check()
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


class _LostError(Exception):
    """The loss is no number."""


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

    def check(self) -> None:
        """Refuse what cannot be trained on copies."""
        try:
            model, optimizer = copy.deepcopy(self.given)
        except Exception as error:
            got = f"{type(error).__name__}: {str(error).split('. ')[0].rstrip('.')}"
            raise InputError("model and optimizer", COPIED, got) from error
        trained = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
        buffers = [buffer.clone() for buffer in self.given[0].buffers()]
        with torch.enable_grad():
            value: Any = self.loss(model, self.batches[0])
        if not isinstance(value, Tensor) or value.numel() != 1:
            got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"{value!r:.60}"
            raise InputError("the loss", "return a scalar tensor", got)
        depends = value.requires_grad and trained
        if not depends or all(g is None for g in torch.autograd.grad(value, trained, allow_unused=True)):
            with torch.no_grad():  # in case it went through the model itself
                for buffer, before in zip(self.given[0].buffers(), buffers, strict=True):
                    buffer.copy_(before)
            do = "Compute it from its first argument, a copy of the model; let the optimizer move that model."
            raise InputError("the loss", "depend on what the optimizer moves", "no gradient of it", do)

    def run(self, run: Run, rates: np.ndarray) -> Ran:
        order = np.random.default_rng([self.seed, run.seed])
        model, optimizer = copy.deepcopy(self.given)
        ratios = [group["lr"] / optimizer.param_groups[0]["lr"] for group in optimizer.param_groups]
        losses: list[float | None] = []
        points: list[tuple[int, float | None]] = []
        queue: list[int] = []
        with isolated_random(self.seed + run.seed):
            for step in range(run.steps):
                queue = queue or order.permutation(len(self.batches)).tolist()
                for group, ratio in zip(optimizer.param_groups, ratios, strict=True):
                    group["lr"] = ratio * float(rates[step] if run.stage is Stage.SWEEP else run.rate)
                try:
                    losses.append(self._update(model, optimizer, self.batches[queue.pop()]))
                except (_LostError, NonFiniteGradients):
                    return Ran(step, [*losses, None], points)
                if run.stage is Stage.SHORT and (step + 1) % (run.steps // POINTS) == 0:
                    points.append((step + 1, self._measured(model, optimizer)))
        return Ran(run.steps, losses, points)

    def _update(self, model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> float:
        """Do an update; return the loss before it."""
        seen = []

        def closure() -> Tensor:
            with torch.enable_grad():
                optimizer.zero_grad()
                value = self.loss(model, batch)
                seen.append(value.item())
                if not math.isfinite(seen[-1]):
                    raise _LostError
                torch.autograd.backward(value)
            return value

        try:
            if _steps_with_closure(optimizer):
                optimizer.step(closure)  # type: ignore[arg-type]
            else:
                closure()
                optimizer.step()
        except AttributeError as error:
            if error.obj is not optimizer:
                raise
            raise InputError("model and optimizer", COPIED, error) from error  # as LBFGS is not
        return seen[0]

    def _measured(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> float | None:
        training = {module: module.training for module in model.modules()}
        shown = optimizer.evaluating() if isinstance(optimizer, RuleOptimizer) else nullcontext()
        with shown, torch.no_grad():
            model.eval()
            mean = sum(self.loss(model, batch).item() for batch in self.aside) / len(self.aside)
        for module, mode in training.items():
            module.training = mode
        return mean if math.isfinite(mean) else None


def _steps_with_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Tell whether a step computes gradients by itself, as LBFGS and SAM do."""
    if isinstance(optimizer, RuleOptimizer):
        return optimizer.own.offset is not None
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


@contextmanager
def _put_back(batches: Any) -> Iterator[None]:
    """Have the random states of a DataLoader, and of what draws its batches, afterwards as before."""
    samplers = [getattr(batches, name, None) for name in ("sampler", "batch_sampler")]
    drawing = [batches, *samplers, getattr(samplers[1], "sampler", None)]
    own = {
        id(g): g for thing in drawing if isinstance(g := getattr(thing, "generator", None), torch.Generator)
    }
    states = [(g, g.get_state()) for g in own.values()]
    try:
        yield
    finally:
        for generator, state in states:
            generator.set_state(state)

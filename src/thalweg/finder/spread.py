"""How much the gradient of a batch varies around that of all examples: measured, beside the law.

With G the mean gradient of all N examples and Σ the covariance of the gradient of one (divided by N − 1),
the mean gradient g_B of a batch of B has

    E‖g_B − G‖² = tr Σ (1/B − 1/N)         for B different examples (`thalweg.curvature.gradient_variance`),
    E‖g_B − G‖² = tr Σ (1 − 1/N) / B       with replacement: σ²/B, with σ² the variance divided by N.

The second is σ²/B, the first that times (N − B)/(N − 1). Both are exact, not only in the mean of many tasks;
they hold for a loss that is a plain mean over the examples.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thalweg import seeds
from thalweg.curvature import gradient_variance, gradients
from thalweg.records.sampling import WITH_REPLACEMENT
from thalweg.tasks.data.part import moved
from thalweg.tasks.user_code import isolated_random
from thalweg.training.engine import ModelEngine
from thalweg.training.measuring import EVALUATION_EXAMPLES

WITHOUT: Final = "without replacement"
DRAWS: Final = 128  # batches of one size, at most
DRAWN: Final = 32768  # examples of all of them together, about
FEWEST: Final = 16  # batches of one size
LARGEST: Final = 1024  # the largest batch that is drawn
ALONE: Final = 2048  # examples whose gradients give tr Σ, at most

Array = NDArray[np.float64]


class Spread(NamedTuple):
    """The variance of the gradient of batches of one size."""

    sampling: str  # "without replacement" or "with replacement"
    batch_size: int
    draws: int
    measured: float
    expected: float


class Spreads(NamedTuple):
    """What was measured at one point of a training."""

    trace: float  # tr Σ
    examples: int  # that it was measured on
    sizes: tuple[Spread, ...]

    @property
    def slope(self) -> float:
        """The power of B with which the measured variance with replacement goes, by least squares."""
        own = [s for s in self.sizes if s.sampling == WITH_REPLACEMENT and s.measured > 0]
        if len(own) < 2:
            return float("nan")
        sizes, variances = (np.log(np.array(x)) for x in zip(*((s[1], s[3]) for s in own), strict=True))
        return float(np.polyfit(sizes, variances, 1)[0])


def batch_sizes(examples: int) -> list[int]:
    """Return the sizes that are measured: 1, 2, 4, … below N, and at most 1024.

    >>> batch_sizes(22), batch_sizes(10**6)[-1]
    ([1, 2, 4, 8, 16], 1024)
    """
    return [size for size in (2**k for k in range(LARGEST.bit_length())) if size < examples]


def spreads(engine: ModelEngine, draws: int = DRAWS) -> Spreads:
    """Measure the variance of the gradient of batches of 1, 2, 4, … at the weights of an engine.

    G is that of all examples, exactly, and each batch is drawn anew: a measured variance is the mean of
    ‖g_B − G‖² over its batches, without bias. tr Σ comes from the gradients of single examples, so that the
    law is no line through the points that it is held against.

    Args:
        engine: with the weights; what its BatchNorm counts, it goes on counting.
        draws: batches of one size at most; of large ones fewer, so that they take no more examples.
    """
    examples = engine.train_part.examples
    drawn = np.random.default_rng(seeds.derive(engine.root, "order", engine.trial.seed, -3))
    found: list[Spread] = []
    with isolated_random(seeds.derive(engine.root, "forward", engine.trial.seed, -3)):
        engine.model.train()
        with engine.task.user_code("training"):
            mean = gradient(engine, np.arange(examples))
            lone = drawn.permutation(examples)[:ALONE]
            apart = [_squared(gradient(engine, np.array([i])), mean) for i in lone]
            trace = float(np.mean(apart)) * examples / (examples - 1)
            for size in batch_sizes(examples):
                count = max(min(draws, DRAWN // size), min(draws, FEWEST))
                for sampling in (WITHOUT, WITH_REPLACEMENT):
                    again = sampling == WITH_REPLACEMENT
                    measured = [
                        _squared(gradient(engine, drawn.choice(examples, size, replace=again)), mean)
                        for _ in range(count)
                    ]
                    law = (
                        gradient_variance(trace * (1 - 1 / examples), size)
                        if again
                        else gradient_variance(trace, size, examples)
                    )
                    found.append(Spread(sampling, size, count, float(np.mean(measured)), law))
    return Spreads(trace, len(lone), tuple(found))


def gradient(engine: ModelEngine, indices: NDArray[np.int64]) -> list[Tensor]:
    """Return the gradient of the mean loss of these examples, in parts that are summed and divided once."""
    parameters = engine.parameters
    dtype = next((p.dtype for p in parameters), None)
    total: list[Tensor] | None = None
    weights = 0.0
    for start in range(0, len(indices), EVALUATION_EXAMPLES):
        part: Any = engine.train_part.batch(indices[start : start + EVALUATION_EXAMPLES])
        part = moved(part, dtype if dtype == torch.float64 else None, engine.device)
        weight = float(engine.task.weight(part))
        loss: Any = engine.task.loss(engine.model, part)
        own = gradients.gradient(loss * weight, parameters)
        total = own if total is None else list(torch._foreach_add(total, own))
        weights += weight
    assert total is not None  # a batch has examples
    return list(torch._foreach_div(total, weights))


def _squared(a: list[Tensor], b: list[Tensor]) -> float:
    return gradients.squared_norm(torch._foreach_sub(a, b))

"""Starts and gradients that are given to the oracles, and how far their paths are apart, for tests."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch

STEPS = 100
# Steps without a gradient: the first, two in a row, one alone and the last.
SILENT = (0, 5, 6, 30, STEPS - 1)
# The schedule's factor changes twice on the way.
FALLING = [1.0] * 40 + [0.5] * 30 + [0.1] * 30
# A warm-up, a level, a drop, and a rate of zero for one step.
WARMED = [min(1.0, (k + 1) / 10) * (0.3 if k > 60 else 1.0) * (k != 80) for k in range(STEPS)]

Gradients = list[np.ndarray | None]


def start_and_gradients(shape: tuple[int, ...] = (3, 4), silent: tuple[int, ...] = (), steps: int = STEPS):
    rng = np.random.default_rng(20261)
    start = rng.standard_normal(shape)
    gradients = [rng.standard_normal(shape) for _ in range(steps)]
    return start, [None if k in silent else g for k, g in enumerate(gradients)]


def global_problem() -> tuple[dict, list[dict], list[float]]:
    """Two parameters, one of which is silent at the first step and twice later; the rate falls twice."""
    gradients = [
        {
            "w": np.array([2 + math.cos(i), -1 + math.sin(2 * i)]),
            "b": None if i in (0, 7, 8) else np.array(0.5 + math.cos(3 * i)),
        }
        for i in range(40)
    ]
    return {"w": np.array([1.0, -2.0]), "b": np.array(0.5)}, gradients, [1.0] * 15 + [0.5] * 10 + [0.1] * 15


def distance(actual: Sequence, expected: Sequence, start: np.ndarray) -> float:
    """The largest difference, in units of the distance travelled.

    That, and not |θ|, is the scale: a small rate must not hide an error in the direction.
    """
    scale = np.abs(np.array(expected) - start).max()
    assert np.isfinite(scale)
    assert scale > 0
    return float(np.abs(np.array(actual) - np.array(expected)).max() / scale)


def of_several_sizes(
    silent: tuple[int, ...], shape: tuple[int, ...] = (3, 4)
) -> tuple[np.ndarray, Gradients]:
    """A start of order 1 and noisy gradients of several sizes, one column having none at all."""
    rng = np.random.default_rng(20261)
    sizes = 10.0 ** rng.uniform(-2, 1, shape)
    if shape:
        sizes[..., :1] = 0.0
    # A drift beside the noise, so that signs agree often enough for Rprop's steps to grow.
    gradients = [sizes * (0.5 + rng.standard_normal(shape)) for _ in range(STEPS)]
    return rng.standard_normal(shape), [None if k in silent else g for k, g in enumerate(gradients)]


def label(case: object) -> str:
    return ",".join(f"{key}={value}" for key, value in case.items()) if isinstance(case, dict) else str(case)


@pytest.fixture(autouse=True)
def float64_scalars() -> Iterator[None]:
    """Let PyTorch keep its scalar states (ASGD's η, NAdam's product of μ) in double precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)

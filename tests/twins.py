"""One method twice over the same walk, by kernels and eagerly: for tests of what changes between steps."""

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from thalweg import optim

SHAPES = ((3, 4), (5,))
Make = Callable[..., optim.RuleOptimizer]
# A few roundings each.
CLOSE = {torch.float64: 1e-13, torch.complex128: 1e-13, torch.float32: 2e-6, torch.bfloat16: 1e-2}


def adam(weights: Any, **more: Any) -> optim.RuleOptimizer:
    return optim.Adam(weights, lr=0.05, betas=(0.8, 0.9), **more)


def slope(shape: Sequence[int], step: int, place: int) -> Tensor:
    """Return a gradient in float64 that differs from element to element, step to step, and place to place."""
    size = torch.Size(shape).numel()
    return torch.sin(torch.arange(size, dtype=torch.float64) * 0.7 + step * 1.3 + place).reshape(shape)


class World:
    """Weights and their optimizer, with gradients that depend on nothing but the step."""

    def __init__(self, backend: str, make: Make, shapes: Sequence[Sequence[int]], dtype: torch.dtype) -> None:
        self.weights = [nn.Parameter(slope(s, 99, i).to(dtype)) for i, s in enumerate(shapes)]
        self.optimizer = make(self.weights, backend=backend)
        self.taken = 0

    def give(self, without: Collection[int] = ()) -> None:
        self.taken += 1
        for place, p in enumerate(self.weights):
            p.grad = None if place in without else slope(p.shape, self.taken, place).to(p.dtype)

    def step(self, times: int = 1, without: Collection[int] = ()) -> None:
        for _ in range(times):
            self.give(without)
            self.optimizer.step()

    def state(self, place: int) -> dict[str, Any]:
        return self.optimizer.state[self.weights[place]]

    @property
    def by_kernels(self) -> int:
        """How many parameters the last step moved by kernels."""
        found = re.search(r"(\d+) by compiled kernels", self.optimizer.runs)
        return int(found[1]) if found else 0


def nothing(world: World) -> None:
    """Change nothing."""


def twins(
    scene: Callable[[World], None],
    make: Make = adam,
    shapes: Sequence[Sequence[int]] = SHAPES,
    dtype: torch.dtype = torch.float64,
    before: int = 3,
    after: int = 3,
) -> tuple[World, World]:
    """Play a scene between steps, with the backend that is chosen and with the eager one; compare all."""
    worlds = World("auto", make, shapes, dtype), World("eager", make, shapes, dtype)
    for world in worlds:
        world.step(before)
        scene(world)
        world.step(after)
    assert worlds[1].by_kernels == 0
    same(*worlds, CLOSE[dtype])
    return worlds


def same(one: World, other: World, tolerance: float) -> None:
    """Assert that two worlds hold the same numbers in weights, states and groups."""
    assert len(one.weights) == len(other.weights)
    for p, q in zip(one.weights, other.weights, strict=True):
        close(p, q, tolerance)
        mine, theirs = one.optimizer.state.get(p, {}), other.optimizer.state.get(q, {})
        assert mine.keys() == theirs.keys()
        for name, value in theirs.items():
            close(mine[name], value, tolerance)
    numbers = one.optimizer.scalars(), other.optimizer.scalars()
    for name, value in numbers[1].items():  # Prodigy's d, say
        close(torch.tensor(numbers[0][name]).double(), torch.tensor(value).double(), tolerance)


@torch.no_grad()
def close(x: Tensor, y: Tensor, tolerance: float) -> None:
    """Assert that tensors are alike, relative to the largest entry."""
    assert x.shape == y.shape
    assert x.dtype == y.dtype
    largest = max(1e-30, y.abs().max().item()) if y.numel() else 0.0
    torch.testing.assert_close(
        x.detach().as_subclass(Tensor),
        y.detach().as_subclass(Tensor),
        rtol=tolerance,
        atol=tolerance * largest,
        equal_nan=True,
    )

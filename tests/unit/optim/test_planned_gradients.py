"""Kernels take gradients however they come: same as eager operations, or refused in words."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from thalweg import optim
from thalweg.errors import InputError
from twins import CLOSE, World, adam, same, slope, twins

BACKENDS = ("auto", "eager")


def sgd(weights: Any, **more: Any) -> optim.RuleOptimizer:
    return optim.SGD(weights, lr=0.1, **more)


class Plain(torch.Tensor):
    """A subclass that changes nothing."""


def given(make_of: Callable[[Tensor, int], Tensor]) -> Callable[[World], None]:
    """Return a scene in which gradients are what is made of them, and of the number of the step."""

    def scene(world: World) -> None:
        for _ in range(4):
            world.give()
            for p in world.weights:
                p.grad = make_of(p.grad, world.taken)  # type: ignore[arg-type]
            world.optimizer.step()

    return scene


def negative(g: Tensor, _: int) -> Tensor:
    view = torch.complex(g, -g).conj().imag
    assert view.is_neg()
    return view


GRADIENTS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "with gaps": lambda g, _: torch.stack([g, g + 1], -1)[..., 0],
    "transposed": lambda g, _: g.t().contiguous().t(),
    "expanded": lambda g, t: torch.tensor(0.1 * t, dtype=g.dtype).expand(g.shape),
    "in part expanded": lambda g, _: g[:1].expand(g.shape),
    "negative": negative,
    "negative at times": lambda g, t: negative(g, t) if t % 2 else g,
    "transposed at times": lambda g, t: g.t().contiguous().t() if t % 2 else g,
    "with a graph": lambda g, t: g.clone().requires_grad_() * 2 if t % 2 else g,
    "part of another tensor": lambda g, _: torch.cat([g.flatten(), g.flatten()])[3:][: g.numel()].view(
        g.shape
    ),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_kernels_take_a_gradient_however_it_lies(name: str) -> None:
    ours, _ = twins(given(GRADIENTS[name]), after=0)

    assert ours.by_kernels == 2


def kept(world: World) -> None:
    world.give()
    gradients = [p.grad for p in world.weights]
    for turn in range(4):
        for place, (p, g) in enumerate(zip(world.weights, gradients, strict=True)):
            p.grad.copy_(slope(p.shape, turn, place)) if turn != 2 else p.grad.zero_()
            assert p.grad is g
        world.optimizer.step()


def one_for_both(world: World) -> None:
    for turn in range(3):
        world.weights[0].grad = world.weights[1].grad = slope((6, 6), turn, 0)
        world.optimizer.step()


def its_parameter(world: World) -> None:
    for _ in range(3):
        for p in world.weights:
            p.grad = p.detach()
        world.optimizer.step()


def its_parameter_transposed(world: World) -> None:
    for _ in range(3):
        for p in world.weights:
            p.grad = p.detach().t()
        world.optimizer.step()


def its_parameter_negated(world: World) -> None:
    for _ in range(3):
        for p in world.weights:
            p.grad = torch._neg_view(p.detach())
        world.optimizer.step()


@pytest.mark.parametrize(
    "scene", [kept, one_for_both, its_parameter, its_parameter_transposed, its_parameter_negated]
)
def test_kernels_take_gradients_that_stay_or_are_shared(scene: Callable[[World], None]) -> None:
    ours, _ = twins(scene, shapes=((6, 6), (6, 6)))

    assert ours.by_kernels == 2


@pytest.mark.parametrize("weights", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("gradients", [torch.channels_last, torch.contiguous_format])
def test_kernels_take_images_in_either_format(weights: Any, gradients: Any) -> None:
    def formatted(world: World) -> None:
        world.weights[0].data = world.weights[0].data.to(memory_format=weights)
        world.state(0).clear()
        for _ in range(3):
            world.give()
            world.weights[0].grad = world.weights[0].grad.to(memory_format=gradients)
            world.optimizer.step()

    ours, _ = twins(formatted, shapes=((2, 3, 4, 5), (5,)), after=0)

    assert ours.by_kernels == 2


@pytest.mark.parametrize("make", [sgd, adam])
@pytest.mark.parametrize(("own", "dtype"), [
    (torch.float32, torch.float64), (torch.float32, torch.float16), (torch.float32, torch.bfloat16),
    (torch.float64, torch.float32), (torch.float64, torch.bfloat16),
])  # fmt: skip
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_gradient_of_another_dtype_loses_nothing_of_its_parameter(
    make: Any, own: torch.dtype, dtype: torch.dtype, backend: str
) -> None:
    worlds = [World(backend, make, ((3, 4), (5,)), own) for _ in range(2)]
    for turn in range(4):
        for world, another in zip(worlds, (True, False), strict=True):
            for place, p in enumerate(world.weights):
                p.grad = slope(p.shape, turn, place).to(dtype).to(own)
                if another and turn > 1:
                    p.grad.data = p.grad.to(dtype)
                    assert p.grad.dtype == dtype
            world.optimizer.step()

    same(*worlds, CLOSE[own])


@pytest.mark.parametrize("make", [sgd, adam])
@pytest.mark.parametrize("bad", [
    torch.ones(3, 4, dtype=torch.int64), torch.ones(3, 4, dtype=torch.complex64),
    torch.ones(4), torch.ones(12),
], ids=["int64", "complex64", "row", "flat"])  # fmt: skip
def test_a_gradient_that_is_none_of_its_parameter_is_refused(make: Any, bad: Tensor) -> None:
    for backend in BACKENDS:
        world = World(backend, make, ((3, 4), (5,)), torch.float32)
        world.step(2)
        world.give()
        before = [p.detach().clone() for p in world.weights]
        world.weights[0].grad.data = bad

        with pytest.raises(InputError, match=r"the gradients that (SGD|Adam) is given must"):
            world.optimizer.step()

        assert all(torch.equal(p, old) for p, old in zip(world.weights, before, strict=True))
        world.step()
        assert not torch.equal(world.weights[0], before[0])


def decaying(weights: Any, **more: Any) -> optim.RuleOptimizer:
    return optim.Adam(weights, lr=0.05, weight_decay=0.01, **more)


@pytest.mark.parametrize("conjugate", [False, True])
def test_kernels_move_complex_parameters(conjugate: bool) -> None:
    def turning(world: World) -> None:
        for _ in range(3):
            world.give()
            for p in world.weights:
                g = (p.grad * (1 + 2j)).conj()
                assert g.is_conj()
                p.grad = g if conjugate else g.resolve_conj()
            world.optimizer.step()

    ours, _ = twins(turning, decaying, dtype=torch.complex128)

    assert ours.by_kernels == 2


def sparse_once(world: World) -> None:
    world.give()
    world.weights[0].grad = world.weights[0].grad.to_sparse(1)
    world.optimizer.step()


def of_a_subclass_once(world: World) -> None:
    world.give()
    world.weights[0].grad = world.weights[0].grad.as_subclass(Plain)
    world.optimizer.step()


@pytest.mark.parametrize("scene", [sparse_once, of_a_subclass_once])
def test_kernels_come_back_after_a_gradient_that_they_cannot_take(scene: Callable[[World], None]) -> None:
    without, _ = twins(scene, after=0)
    assert without.by_kernels == 1

    ours, _ = twins(scene)
    assert ours.by_kernels == 2

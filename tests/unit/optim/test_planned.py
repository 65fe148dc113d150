"""Kernels follow what becomes of parameters between steps: same as eager operations."""

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from thalweg import optim
from thalweg.errors import InputError
from twins import World, adam, close, nothing, same, slope, twins

BACKENDS = ("auto", "eager")


def sgd(weights: Any, **more: Any) -> optim.RuleOptimizer:
    return optim.SGD(weights, lr=0.1, **more)


# What may become of a parameter: a scene, and how many of two parameters kernels move after it.


def other_data(world: World) -> None:
    world.weights[0].data = world.weights[0].data.clone() * 2


def part_of_a_larger_tensor(world: World) -> None:
    larger = torch.zeros(40, dtype=torch.float64)
    larger[7:19] = world.weights[0].data.flatten()
    world.weights[0].data = larger[7:19].view(3, 4)


def both_in_one_buffer(world: World) -> None:
    larger = torch.cat([p.data.flatten() for p in world.weights])
    world.weights[0].data, world.weights[1].data = larger[:12].view(3, 4), larger[12:]


def with_gaps(world: World) -> None:
    larger = torch.zeros(3, 8, dtype=torch.float64)
    larger[:, ::2] = world.weights[0].data
    world.weights[0].data = larger[:, ::2]


def transposed(world: World) -> None:
    world.weights[0].data = world.weights[0].data.t().contiguous().t()


def shared_memory(world: World) -> None:
    world.weights[0].share_memory_()


def other_storage(world: World) -> None:
    with torch.no_grad():
        world.weights[0].set_(world.weights[0].data.clone() + 1)  # type: ignore[call-overload]


def grown_storage(world: World) -> None:
    before = world.weights[0].data_ptr()
    world.weights[0].data.resize_(100_000)
    assert world.weights[0].data_ptr() != before
    assert world.weights[0].shape == (3, 4)


def swapped(world: World) -> None:
    torch.utils.swap_tensors(world.weights[0], nn.Parameter(world.weights[0].data * 3))


def stored_negated(world: World) -> None:
    world.weights[0].data = torch._neg_view(-world.weights[0].data)
    world.state(1)["exp_avg"] = torch._neg_view(-world.state(1)["exp_avg"])


def frozen_and_back(world: World) -> None:
    world.weights[0].requires_grad_(False)
    world.step(2, without=[0])
    world.weights[0].requires_grad_(True)


def in_turns(world: World) -> None:
    for turn in range(5):
        world.step(without=[turn % 2])


def none_has_one(world: World) -> None:
    world.step(2, without=[0, 1])
    assert world.optimizer.runs == "Parameters moved: none."


PARAMETERS: dict[Callable[[World], None], int] = {
    nothing: 2,
    other_data: 2,
    part_of_a_larger_tensor: 2,
    both_in_one_buffer: 2,
    with_gaps: 1,
    transposed: 1,  # whose states are laid out as it was
    shared_memory: 2,
    other_storage: 2,
    grown_storage: 2,
    swapped: 2,
    stored_negated: 0,
    frozen_and_back: 2,
    in_turns: 2,
    none_has_one: 2,
}


@pytest.mark.parametrize("scene", PARAMETERS, ids=lambda f: f.__name__)
def test_kernels_follow_a_parameter(scene: Callable[[World], None]) -> None:
    ours, _ = twins(scene)

    assert ours.by_kernels == PARAMETERS[scene]


def test_an_unaligned_parameter_moves_by_kernels() -> None:
    def shifted(world: World) -> None:
        bytes_ = torch.zeros(12 * 4 + 1, dtype=torch.uint8)
        view = torch.frombuffer(bytes_.numpy(), dtype=torch.float32, offset=1, count=12).view(3, 4)
        view.copy_(world.weights[0].data)
        world.weights[0].data = view
        assert world.weights[0].data_ptr() % 4 == 1

    ours, _ = twins(shifted, dtype=torch.float32)

    assert ours.by_kernels == 2


def reshaped(world: World) -> None:
    world.weights[0].data = slope((7, 2), 50, 0)


def test_kernels_follow_a_parameter_of_another_shape_without_a_state() -> None:
    ours, _ = twins(reshaped, sgd)

    assert ours.by_kernels == 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_parameter_of_another_shape_than_its_state_moves_nothing(backend: str) -> None:
    world = World(backend, adam, ((3, 4), (5,)), torch.float64)
    world.step(2)
    reshaped(world)
    before = [p.detach().clone() for p in world.weights]

    with pytest.raises((InputError, RuntimeError), match=r"shape|size"):
        world.step()

    assert torch.equal(world.weights[0], before[0])
    world.optimizer.state.clear()
    world.step()
    assert not torch.equal(world.weights[0], before[0])


@pytest.mark.parametrize(("start", "end"), [("float32", "float64"), ("float32", "bfloat16")])
def test_a_parameter_of_another_dtype_keeps_its_states(start: str, end: str) -> None:
    was, becomes = getattr(torch, start), getattr(torch, end)
    found = []
    for backend in BACKENDS:
        world = World(backend, adam, ((3, 4), (5,)), was)
        world.step(3)
        world.weights[0].data = world.weights[0].data.to(becomes)
        world.step(3)
        assert world.state(0)["exp_avg"].dtype == was
        found.append(world)

    same(*found, 1e-2 if end == "bfloat16" else 2e-6)
    assert found[0].by_kernels == 2


MODELS: dict[str, Callable[[nn.Module], Any]] = {
    "double": lambda model: model.double(),
    "to": lambda model: model.to(torch.bfloat16),
    "to, with gradients": lambda model: model.to(torch.float64),
    "loaded in place": lambda model: model.load_state_dict({n: x * 2 for n, x in model.state_dict().items()}),
    "shared": lambda model: model.share_memory(),
}


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_kernels_follow_a_model(name: str, swap: bool) -> None:
    def played(backend: str) -> tuple[nn.Module, optim.RuleOptimizer]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
        optimizer = adam(model, backend=backend)
        for turn in range(6):
            if turn == 3:
                if "gradients" not in name:
                    optimizer.zero_grad()
                MODELS[name](model)
            if turn != 3 or "gradients" not in name:
                for place, p in enumerate(model.parameters()):
                    p.grad = slope(p.shape, turn, place).to(p.dtype)
            optimizer.step()
        return model, optimizer

    torch.__future__.set_swap_module_params_on_conversion(swap)
    try:
        (one, ours), (other, _) = played("auto"), played("eager")
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)

    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        close(p, q, 1e-2 if name == "to" else 2e-6)
    assert "4 by compiled kernels" in ours.runs


def test_parameters_that_a_model_was_assigned_do_not_move() -> None:
    model = nn.Linear(3, 2)
    optimizer = adam(model.parameters())
    old = list(model.parameters())
    for p in old:
        p.grad = torch.ones_like(p)
    optimizer.step()
    model.load_state_dict({n: torch.full_like(x, 7.0) for n, x in model.state_dict().items()}, assign=True)
    before = [p.detach().clone() for p in old]

    optimizer.step()

    assert "2 by compiled kernels" in optimizer.runs
    assert all((p == 7.0).all() for p in model.parameters())
    assert all((p != q).all() for p, q in zip(old, before, strict=True))


@pytest.mark.parametrize("whose", ["parameter", "gradient", "state"])
def test_memory_that_was_freed_is_not_written(whose: str) -> None:
    world = World("auto", adam, ((64, 64), (5,)), torch.float64)
    world.step(2)
    if whose == "parameter":
        world.weights[0].data = world.weights[0].data.clone()
    if whose == "gradient":
        world.weights[0].grad = None
    if whose == "state":
        world.state(0)["exp_avg"] = world.state(0)["exp_avg"].clone()
    gc.collect()
    there_now = [torch.full((64, 64), float("nan"), dtype=torch.float64) for _ in range(20)]

    world.step(2)

    assert all(x.isnan().all() for x in there_now)
    assert world.weights[0].isfinite().all()
    assert world.by_kernels == 2


@pytest.mark.parametrize("shapes", [((0,), (5,)), ((3, 0), (0,)), ((), (1,), (1, 1), (2, 1, 3))], ids=str)
@pytest.mark.parametrize("make", [adam, optim.LAMB, optim.Prodigy, optim.NAdam])
def test_kernels_move_parameters_of_no_or_one_element(make: Any, shapes: Any) -> None:
    ours, _ = twins(nothing, make, shapes)

    assert ours.by_kernels == len(shapes)

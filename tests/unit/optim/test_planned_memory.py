"""Where steps by kernels read and write: what overlaps is refused, nothing is held, nothing is missed."""

import gc
import subprocess
import sys
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from thalweg import optim
from thalweg.errors import InputError
from twins import World, adam, close, nothing, same, slope, twins

BACKENDS = ("auto", "eager")
APART = "the parameters of Adam must lie apart in memory"


class Plain(torch.Tensor):
    """A subclass that changes nothing."""


def leaf(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values)


def give(weights: list[nn.Parameter], turn: int) -> None:
    for place, p in enumerate(weights):
        p.grad = slope(p.shape, turn, place).to(p.dtype)


# Overlaps.


def buffer() -> Tensor:
    return slope((6, 8), 3, 0)


OVERLAPPING: dict[str, Callable[[Tensor], list[Tensor]]] = {
    "the same": lambda w: [w, w],
    "transposed": lambda w: [w, w.t()],
    "flat": lambda w: [w, w.view(-1)],
    "in part": lambda w: [w[:4], w[3:]],
    "one inside": lambda w: [w, w[2, 3:5]],
    "columns in part": lambda w: [w[:, :5], w[:, 4:]],
    "a third": lambda w: [w[0], w[1], w.view(-1)[7:9]],
}
APART_IN_ONE: dict[str, tuple[Callable[[Tensor], list[Tensor]], int]] = {
    "rows": (lambda w: [w[:3], w[3:]], 2),
    "neighbours": (lambda w: list(w.view(-1).split(7)), 7),
    "columns": (lambda w: [w[:, :3], w[:, 3:]], 0),
    "even and odd": (lambda w: [w.view(-1)[::2], w.view(-1)[1::2]], 0),
    "empty inside": (lambda w: [w, w[2:2]], 2),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", OVERLAPPING)
def test_parameters_that_overlap_are_refused(name: str, backend: str) -> None:
    whole = buffer()
    weights = list(map(leaf, OVERLAPPING[name](whole)))
    optimizer = adam(weights, backend=backend)
    give(weights, 0)

    for _ in range(2):
        with pytest.raises(InputError, match=APART):
            optimizer.step()

    assert torch.equal(whole, buffer())


@pytest.mark.parametrize("name", APART_IN_ONE)
def test_parameters_that_lie_apart_in_one_buffer_all_move(name: str) -> None:
    divided, by_kernels = APART_IN_ONE[name]
    found = []
    for backend in BACKENDS:
        whole = buffer()
        weights = list(map(leaf, divided(whole)))
        optimizer = adam(weights, backend=backend)
        for turn in range(4):
            give(weights, turn)
            optimizer.step()
        found.append(whole)
        if backend == "auto" and by_kernels:
            assert f"{by_kernels} by compiled kernels" in optimizer.runs

    close(*found, 1e-13)
    assert not torch.isclose(found[0], buffer()).any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mover", [0, 1])
@pytest.mark.parametrize("gaps", [False, True])
def test_a_parameter_that_comes_to_lie_on_another_is_refused(gaps: bool, mover: int, backend: str) -> None:
    shapes = ((12,), (12,))
    world = World(backend, adam, shapes, torch.float64)
    if gaps:  # so that kernels move only the other one
        world.weights[0].data = torch.zeros(24, dtype=torch.float64)[::2]
    world.step(3)
    world.weights[mover].data = world.weights[1 - mover].data
    before, state = world.weights[0].detach().clone(), repr(world.optimizer.state_dict())

    for _ in range(2):
        with pytest.raises(InputError, match=APART):
            world.step()

    assert torch.equal(world.weights[0], before)
    assert repr(world.optimizer.state_dict()) == state
    world.weights[mover].data = before.clone()
    world.step()
    assert not torch.isclose(world.weights[0], before).any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("gaps", [False, True])
def test_a_state_that_lies_on_its_parameter_is_refused(gaps: bool, backend: str) -> None:
    world = World(backend, adam, ((12,), (5,)), torch.float64)
    if gaps:
        world.weights[0].data = torch.zeros(24, dtype=torch.float64)[::2]
    world.step(2)
    world.state(0)["exp_avg"] = world.weights[0].data
    before = [p.detach().clone() for p in world.weights]

    with pytest.raises(InputError, match=APART):
        world.step()

    assert all(torch.equal(p, old) for p, old in zip(world.weights, before, strict=True))


# Tensors without memory of their own.


def test_parameters_without_storage_take_steps() -> None:
    weights = [nn.Parameter(torch.ones(4, device="meta")) for _ in range(2)]
    optimizer = adam(weights)
    for _ in range(2):
        for p in weights:
            p.grad = torch.ones_like(p)
        optimizer.step()

    assert optimizer.runs == "Parameters moved: 2 by eager operations."
    assert optimizer.state[weights[1]]["step"].item() == 2


def test_parameters_of_a_subclass_are_moved_eagerly() -> None:
    def make(weights: list[nn.Parameter], **more: Any) -> optim.RuleOptimizer:
        weights[0] = nn.Parameter(weights[0].data.as_subclass(Plain))
        return adam(weights, **more)

    ours, _ = twins(nothing, make)

    assert isinstance(ours.weights[0], Plain)
    assert ours.by_kernels == 1


class Doubled(torch.Tensor):
    """A subclass that keeps its numbers elsewhere."""

    @staticmethod
    def __new__(cls, inner: Tensor) -> "Doubled":
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)  # type: ignore[attr-defined]

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from torch.utils._pytree import tree_map_only

        plain_args, plain_kwargs = tree_map_only(cls, lambda x: x.inner, (args, kwargs or {}))
        made = function(*plain_args, **plain_kwargs)
        if function.__name__.split(".")[0].endswith("_"):
            return args[0]
        return tree_map_only(Tensor, cls, made)


def test_parameters_that_keep_their_numbers_elsewhere_are_moved_eagerly() -> None:
    weights = [nn.Parameter(Doubled(slope((4,), 9, i))) for i in range(2)]
    plain = [nn.Parameter(slope((4,), 9, i)) for i in range(2)]
    one, other = adam(weights), adam(plain)
    for turn in range(3):
        give(plain, turn)
        for p, q in zip(weights, plain, strict=True):
            p.grad = Doubled(q.grad.clone())
        one.step()
        other.step()

    assert one.runs == "Parameters moved: 2 by eager operations."
    for p, q in zip(weights, plain, strict=True):
        close(p.data.inner, q.data, 1e-13)


ZERO = """
import torch
from thalweg import optim
p = torch.nn.Parameter(torch.ones(8))
optimizer = optim.Adam([p], lr=0.1)
p.grad = torch.ones(8)
optimizer.step()
p.grad = torch._efficientzerotensor(8)
optimizer.step()
print(optimizer.state[p]["exp_avg"][3].item())
"""


def test_a_gradient_of_zeros_that_has_no_memory_is_not_read() -> None:
    done = subprocess.run([sys.executable, "-c", ZERO], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(0.09)


# Modes of torch.


@pytest.mark.parametrize("which", [(0, 1), (2, 3), (0, 1, 2, 3, 4, 5)])
def test_kernels_run_in_inference_mode(which: tuple[int, ...]) -> None:
    found = []
    for backend, modes in (("auto", which), ("eager", ())):
        world = World(backend, adam, ((3, 4), (5,)), torch.float64)
        for turn in range(6):
            with torch.inference_mode(turn in modes):
                world.step()
        found.append(world)

    same(*found, 1e-13)
    assert found[0].by_kernels == 2


def with_gradients(world: World) -> None:
    with torch.enable_grad():
        world.step(2)
    assert not any(x.requires_grad for s in world.optimizer.state.values() for x in s.values())


def without_gradients(world: World) -> None:
    with torch.no_grad():
        world.step(2)


def other_threads(world: World) -> None:
    before = torch.get_num_threads()
    try:
        for count in (1, 3, 2):
            torch.set_num_threads(count)
            world.step()
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("scene", [with_gradients, without_gradients, other_threads])
def test_kernels_run_whatever_the_mode(scene: Callable[[World], None]) -> None:
    ours, _ = twins(scene, shapes=((3, 4), (40_000,)))

    assert ours.by_kernels == 2


def test_optimizers_step_in_threads_beside_each_other() -> None:
    makes: list[Any] = [adam, optim.NAdam, optim.LAMB, optim.Prodigy]
    shapes = ((40, 50), (5,), (3_000,))
    beside = [World("auto", make, shapes, torch.float64) for make in makes * 2]
    with ThreadPoolExecutor(len(beside)) as pool:
        list(pool.map(lambda world: world.step(10), beside))

    for place, world in enumerate(beside):
        alone = World("eager", makes[place % len(makes)], shapes, torch.float64)
        alone.step(10)
        same(world, alone, 1e-12)  # sums of thousands, in another order
        assert world.by_kernels == 3


def in_another_default(world: World) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        more = nn.Parameter(slope((5,), 70, 0).to(world.weights[0].dtype))
        world.weights.append(more)
        world.optimizer.add_param_group({"params": [more]})
        world.step(2)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("make", [adam, optim.NAdam, optim.SGD])
def test_kernels_count_steps_in_another_default_dtype(make: Any) -> None:
    ours, _ = twins(in_another_default, make)

    assert ours.by_kernels == 3


# What autograd must know, and what must not be held.


@pytest.mark.parametrize("backend", BACKENDS)
def test_going_back_through_weights_that_have_moved_is_refused(backend: str) -> None:
    w = nn.Parameter(torch.ones(3))
    optimizer = adam([w], backend=backend)
    w.grad = torch.ones(3)
    optimizer.step()
    loss = (w * w).sum()
    w.grad = torch.ones(3)
    optimizer.step()

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_are_free_once_they_are_set_to_none(backend: str) -> None:
    world = World(backend, adam, ((3, 4), (5,)), torch.float64)
    world.step(3)
    gradients = [weakref.ref(p.grad) for p in world.weights]

    world.optimizer.zero_grad()

    assert [g() for g in gradients] == [None, None]


@pytest.mark.parametrize("backend", BACKENDS)
def test_states_are_free_with_their_optimizer_or_once_they_are_dropped(backend: str) -> None:
    world = World(backend, adam, ((3, 4), (5,)), torch.float64)
    world.step(2)
    state = weakref.ref(world.state(0)["exp_avg"])
    gc.collect()
    gc.disable()
    try:
        del world.optimizer
        assert state() is None
    finally:
        gc.enable()


PEAK = """
import gc
import torch
from thalweg import optim

def status(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name)) * 1024

weights = [torch.nn.Parameter(torch.ones(n)) for n in (10_000_000, 2_000_000, 500_000, 100)]
optimizer = optim.AdamW(weights, lr=1e-3)
for p in weights:
    p.grad = torch.full_like(p, 0.5)
for _ in range(2):
    optimizer.step()
gc.collect()
before = status("VmRSS:")
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
optimizer.step()
assert "4 by compiled kernels" in optimizer.runs, optimizer.runs
print(before, status("VmHWM:"))
"""


def test_a_step_takes_no_memory() -> None:
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=False)
    if "clear_refs" in done.stderr or "/proc/self/status" in done.stderr:
        pytest.skip("there is no /proc/self/clear_refs that can be written")
    assert done.returncode == 0, done.stderr
    before, peak = map(int, done.stdout.split())

    assert peak > 4 * 12_600_100 * 4  # parameters, gradients, and two buffers are there
    assert peak - before <= 0.01 * before + 2**20

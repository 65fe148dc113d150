"""Kernels run in every way of taking steps: hooks, schedulers, scalers, closures, wrappers, mixed methods."""

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from thalweg import optim
from thalweg.errors import InputError
from twins import World, adam, close, nothing, same, slope, twins

BACKENDS = ("auto", "eager")


def worlds(make: Any = adam, **more: Any) -> list[World]:
    return [World(b, make, ((3, 4), (5,)), torch.float64, **more) for b in BACKENDS]


# Hooks and what else wants to know of a step.


Seen = list[tuple[str, int, list[str]]]


@contextmanager
def hooked(optimizer: torch.optim.Optimizer, seen: Seen) -> Iterator[None]:
    def noting(name: str) -> Callable[..., None]:
        return lambda _, args, kwargs: seen.append((name, len(args), list(kwargs)))

    handles = [
        register_optimizer_step_pre_hook(noting("pre, global")),
        optimizer.register_step_pre_hook(noting("pre")),
        optimizer.register_step_post_hook(noting("post")),
        register_optimizer_step_post_hook(noting("post, global")),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def test_hooks_see_what_they_see_of_pytorchs_optimizers() -> None:
    found: list[Seen] = []
    for make in (torch.optim.Adam, optim.Adam):
        w = nn.Parameter(torch.ones(3))
        optimizer = make([w], lr=0.1)
        w.grad = torch.ones(3)
        optimizer.step()
        found.append([])
        with hooked(optimizer, found[-1]):
            optimizer.step()
            optimizer.step(lambda: 1.0)
            optimizer.step(closure=lambda: 1.0)
        optimizer.step()
        assert w.mean().item() == pytest.approx(0.5, rel=1e-5)

    assert [name for name, *_ in found[0]] == ["pre, global", "pre", "post", "post, global"] * 3
    assert found[1] == found[0]


def test_hooks_change_gradients_and_arguments() -> None:
    def doubled(world: World) -> None:
        def pre(optimizer: Any, args: Any, kwargs: Any) -> Any:
            for p in world.weights:
                p.grad = p.grad * 2  # type: ignore[operator]
            return (optimizer, lambda: calls.append("given by the hook")), {}

        calls: list[str] = []
        handle = world.optimizer.register_step_pre_hook(pre)
        world.give()
        world.optimizer.step(lambda: calls.append("given by the caller"))  # type: ignore[arg-type]
        handle.remove()
        assert calls == ["given by the hook"]

    ours, _ = twins(doubled)

    assert ours.by_kernels == 2


@pytest.mark.parametrize("where", ["pre", "post"])
@pytest.mark.parametrize("problem", [KeyboardInterrupt, ValueError])
def test_steps_go_on_after_a_hook_that_is_broken_off(where: str, problem: type[BaseException]) -> None:
    def broken(world: World) -> None:
        def hook(*_: Any) -> None:
            raise problem

        handle = getattr(world.optimizer, f"register_step_{where}_hook")(hook)
        with pytest.raises(problem):
            world.step()
        handle.remove()
        assert world.state(0)["step"].item() == (3 if where == "pre" else 4)

    ours, _ = twins(broken)

    assert ours.by_kernels == 2


def test_a_profiler_sees_steps() -> None:
    world = World("auto", adam, ((3,),), torch.float64)
    world.step(2)

    with torch.autograd.profiler.profile() as profile:
        world.step(3)

    records = {event.key: event.count for event in profile.key_averages()}
    assert records["Optimizer.step#Adam.step"] == 3
    assert world.by_kernels == 1


def test_schedulers_go_without_a_warning_and_survive_copies() -> None:
    def scheduled(world: World) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(world.optimizer, 10)
            for _ in range(3):
                world.step()
                schedule.step()
        twin = copy.deepcopy(world)
        twin.step()
        assert not torch.equal(twin.weights[0], world.weights[0])

    ours, _ = twins(scheduled)

    assert ours.by_kernels == 2


def test_a_grad_scaler_unscales_and_skips() -> None:
    def scaled(world: World) -> None:
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
        for turn in range(5):
            before = [p.detach().clone() for p in world.weights]
            world.optimizer.zero_grad()
            sizes = [slope(p.shape, turn, i) for i, p in enumerate(world.weights)]
            loss = sum((p * g).sum() for p, g in zip(world.weights, sizes, strict=True))
            scaler.scale(loss * (float("inf") if turn == 3 else 1.0)).backward()
            if turn == 2:
                scaler.unscale_(world.optimizer)
                torch.nn.utils.clip_grad_norm_(world.weights, 0.5)
            scaler.step(world.optimizer)
            scaler.update()
            moved = [not torch.equal(p, q) for p, q in zip(world.weights, before, strict=True)]
            assert moved == [turn != 3] * 2

    ours, _ = twins(scaled)

    assert ours.by_kernels == 2


# Closures, second gradients, weights to evaluate with, skipped steps.


def test_a_closure_is_run_before_gradients_are_read() -> None:
    def closed(world: World) -> None:
        def closure() -> float:
            world.give()
            return 0.25

        for _ in range(3):
            assert world.optimizer.step(closure) == 0.25

    ours, _ = twins(closed)

    assert ours.by_kernels == 2


def test_steps_go_on_after_a_closure_that_fails() -> None:
    def failing(world: World) -> None:
        def closure() -> float:
            world.give()
            raise ValueError

        with pytest.raises(ValueError):
            world.optimizer.step(closure)
        assert world.state(0)["step"].item() == 3

    ours, _ = twins(failing)

    assert ours.by_kernels == 2


def bent(weights: list[nn.Parameter]) -> torch.Tensor:
    return sum(((p**4).sum() for p in weights), torch.zeros((), dtype=torch.float64))


@pytest.mark.parametrize("wrapper", [optim.sam(0.1), optim.asam(0.5)])
def test_kernels_take_second_gradients(wrapper: Any) -> None:
    found = worlds(lambda weights, **how: adam(weights, wrappers=[wrapper], **how))
    for world in found:

        def closure(world: World = world) -> torch.Tensor:
            world.optimizer.zero_grad()
            loss = bent(world.weights)
            loss.backward()
            return loss

        for turn in range(6):
            if turn % 2:
                world.optimizer.step(closure)
                continue
            closure()
            with world.optimizer.perturbed():
                closure()
            world.optimizer.step()

    same(*found, 1e-13)
    assert found[0].by_kernels == 2


@pytest.mark.parametrize(
    "make",
    [
        lambda weights, **how: optim.ScheduleFreeAdamW(weights, lr=0.05, **how),
        lambda weights, **how: adam(weights, wrappers=[optim.ema(0.9)], **how),
        lambda weights, **how: adam(weights, wrappers=[optim.lookahead(2, 0.5)], **how),
    ],
    ids=["schedule-free", "ema", "lookahead"],
)
def test_kernels_go_on_after_weights_to_evaluate_with(make: Any) -> None:
    def evaluated(world: World) -> None:
        before = [p.detach().clone() for p in world.weights]
        with world.optimizer.evaluating():
            world.optimizer.load_state_dict(copy.deepcopy(world.optimizer.state_dict()))
        assert all(torch.equal(p, old) for p, old in zip(world.weights, before, strict=True))
        world.step()
        world.optimizer.eval()
        world.optimizer.train()

    ours, _ = twins(evaluated, make)

    assert ours.by_kernels == 2


def skipping(rule: Any) -> Any:
    def make(weights: Any, **how: Any) -> optim.RuleOptimizer:
        return rule(weights, lr=0.05, wrappers=[optim.skip_nonfinite(4), optim.clip_norm(0.5)], **how)

    return make


@pytest.mark.parametrize(
    "rule", [optim.SGD, optim.Adam, optim.NAdam, optim.LAMB, optim.Prodigy, optim.ScheduleFreeAdamW]
)
@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
def test_a_skipped_step_leaves_everything_bit_for_bit(rule: Any, bad: float) -> None:
    def skipped(world: World) -> None:
        kept = copy.deepcopy((world.weights, world.optimizer.state_dict()["state"]))
        scalars = world.optimizer.scalars()
        for turn in (1, 2):
            world.give()
            world.weights[1].grad[3] = bad  # type: ignore[index]
            world.optimizer.step()
            assert all(torch.equal(p, q) for p, q in zip(world.weights, kept[0], strict=True))
            for place, state in kept[1].items():
                assert all(torch.equal(world.state(place)[n], x) for n, x in state.items())
            assert world.optimizer.scalars() == scalars | {"skipped_steps": turn, "skipped_in_a_row": turn}

    ours, _ = twins(skipped, skipping(rule))

    assert ours.by_kernels == 2
    assert ours.optimizer.scalars()["skipped_in_a_row"] == 0


def test_a_first_step_may_be_skipped() -> None:
    def infinite(world: World) -> None:
        world.give()
        world.weights[0].grad.fill_(float("inf"))  # type: ignore[union-attr]
        world.optimizer.step()
        assert world.state(0)["step"].item() == 0

    ours, _ = twins(infinite, skipping(optim.Adam), before=0)

    assert ours.by_kernels == 2


# Parameters that go different ways.


MATRICES = ((4, 3), (5,), (3, 3), (2,))


def muon(weights: Any, **how: Any) -> optim.RuleOptimizer:
    return optim.Muon(weights, lr=0.05, precision="parameter", fallback={"weight_decay": 0.01}, **how)


def test_muons_vectors_are_moved_by_kernels_beside_its_matrices() -> None:
    ours, _ = twins(nothing, muon, MATRICES)
    assert ours.optimizer.runs == "Parameters moved: 2 by compiled kernels, 2 by eager operations."

    wrapped = [optim.clip_norm(0.1)]
    ours, _ = twins(nothing, lambda weights, **how: muon(weights, wrappers=wrapped, **how), MATRICES)
    assert ours.optimizer.runs == "Parameters moved: 4 by eager operations."
    assert ours.optimizer.clipped


def test_adafactors_vectors_are_moved_as_eagerly() -> None:
    twins(nothing, lambda weights, **how: optim.Adafactor(weights, lr=0.05, **how), MATRICES)


def test_an_embedding_with_sparse_gradients_stands_beside_dense_layers() -> None:
    found = []
    for backend in BACKENDS:
        torch.manual_seed(0)
        table, layer = nn.Embedding(6, 4, sparse=True).double(), nn.Linear(4, 2).double()
        weights = [*table.parameters(), *layer.parameters()]
        optimizer = adam(weights, backend=backend)
        for turn in range(5):
            optimizer.zero_grad()
            words = torch.tensor([turn, 2, turn, 5])
            layer(table(words)).pow(2).sum().backward()
            assert table.weight.grad.is_sparse  # type: ignore[union-attr]
            optimizer.step()
        found.append((weights, optimizer))

    for p, q in zip(found[0][0], found[1][0], strict=True):
        close(p, q, 1e-13)
        for name, x in found[1][1].state[q].items():
            close(found[0][1].state[p][name], x, 1e-13)
    assert found[0][1].runs == "Parameters moved: 2 by compiled kernels, 1 by eager operations."


def test_a_gradient_that_one_group_refuses_moves_no_other() -> None:
    w, table = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3, 2))
    optimizer = adam([{"params": [w]}, {"params": [table]}])
    for _ in range(2):
        w.grad, table.grad = torch.ones(3), torch.ones(3, 2).to_sparse(1)
        optimizer.step()
    before = w.detach().clone(), table.detach().clone()
    optimizer.param_groups[1]["weight_decay"] = 0.1

    for _ in range(2):
        with pytest.raises(InputError, match="weight_decay of Adam must be 0 for parameters with sparse"):
            optimizer.step()

    assert torch.equal(w, before[0])
    assert torch.equal(table, before[1])


def test_kernels_come_back_when_parameters_no_longer_have_gradients_at_random() -> None:
    generator = torch.Generator().manual_seed(0)
    leaves = [torch.nn.Parameter(torch.ones(3)) for _ in range(12)]
    optimizer = optim.Adam(leaves)
    runs = []
    for step in range(60):
        for leaf in leaves:
            has_one = step >= 40 or torch.rand(1, generator=generator).item() < 0.5
            leaf.grad = torch.ones(3) if has_one else None
        optimizer.step()
        runs.append(optimizer.runs)

    assert any("eager" in words for words in runs[20:40])  # plans for one step each were given up
    assert runs[45:] == ["Parameters moved: 12 by compiled kernels."] * 15

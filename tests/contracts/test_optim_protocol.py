"""What holds for every optimizer of PyTorch: groups, closures, hooks, schedulers, GradScaler, names."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from cases import Path, deviation, extras, gradients, starts
from thalweg import optim
from thalweg.optim import BY_RULE
from thalweg.rules.catalogue import RULES
from walks import CLOSE, NAMES, RICH, THEIRS, assert_same_bits, begin_for, buffers, double, parameters, walk

__all__ = ["double"]  # a fixture


@pytest.mark.parametrize("name", NAMES)
def test_a_group_added_in_the_middle_of_a_run_equals_pytorchs(name: str) -> None:
    begin, slopes = begin_for(name, 2), gradients(2, steps=20)

    def run(cls: Any) -> Path:
        leaves = parameters(begin)
        late = [leaves.pop("transposed")]
        optimizer = cls(list(leaves.values()), foreach=False, **RICH[name])
        path = walk(optimizer, leaves, slopes[:10])
        optimizer.add_param_group({"params": late, "lr": 0.2})
        leaves["transposed"] = late[0]
        return [{"transposed": begin["transposed"], **at} for at in path] + walk(
            optimizer, leaves, slopes[10:]
        )

    assert deviation(run(BY_RULE[name]), run(THEIRS[name]), begin) <= CLOSE


def test_a_group_may_change_its_structure_in_the_middle_of_a_run_as_in_pytorch() -> None:
    begin, slopes = starts(2), gradients(2, steps=20, silent=0.0)

    def run(cls: Any) -> Path:
        leaves = parameters(begin)
        optimizer = cls(list(leaves.values()), foreach=False, lr=0.01, weight_decay=0.01)
        path = walk(optimizer, leaves, slopes[:10])
        optimizer.param_groups[0]["momentum"] = 0.9
        return path + walk(optimizer, leaves, slopes[10:])

    assert deviation(run(optim.SGD), run(torch.optim.SGD), begin) <= CLOSE


def test_buffers_that_a_change_of_structure_needs_start_empty() -> None:
    leaf = torch.nn.Parameter(torch.ones(1))
    leaf.grad = torch.ones(1)
    optimizer = optim.RMSprop([leaf], lr=0.1)
    optimizer.step()
    optimizer.param_groups[0]["momentum"] = 0.5

    optimizer.step()

    assert sorted(optimizer.state[leaf]) == ["momentum_buffer", "square_avg", "step"]
    assert optimizer.state[leaf]["step"].item() == 2


def test_a_closure_is_run_with_gradients_and_its_loss_returned() -> None:
    leaf = torch.nn.Parameter(torch.tensor(10.0))
    optimizer = optim.SGD([leaf], lr=0.1)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = leaf**2
        loss.backward()
        return loss

    with torch.no_grad():
        assert optimizer.step(closure).item() == 100
    assert leaf.item() == 8
    assert optimizer.step() is None


def test_step_hooks_run_around_the_step_and_may_change_the_gradient() -> None:
    leaf = torch.nn.Parameter(torch.tensor(1.0))
    leaf.grad = torch.tensor(5.0)
    optimizer = optim.SGD([leaf], lr=1.0)
    seen: list[float] = []

    def clip(*_: object) -> None:
        seen.append(leaf.item())
        assert leaf.grad is not None
        leaf.grad.clamp_(max=1.0)

    optimizer.register_step_pre_hook(clip)
    optimizer.register_step_post_hook(lambda *_: seen.append(leaf.item()))
    optimizer.step()

    assert seen == [1.0, 0.0]


def test_zero_grad_forgets_gradients_and_a_step_without_any_moves_nothing() -> None:
    for name in NAMES:
        leaf = torch.nn.Parameter(torch.ones(2))
        leaf.grad = torch.ones(2)
        optimizer = BY_RULE[name]([leaf], **RICH[name])
        optimizer.zero_grad()
        before = buffers(optimizer)
        optimizer.step()

        assert leaf.grad is None
        assert leaf.tolist() == [1, 1]
        assert_same_bits(buffers(optimizer), before)


SCHEDULERS: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "StepLR": lambda o: torch.optim.lr_scheduler.StepLR(o, step_size=4, gamma=0.5),
    "CosineAnnealingLR": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=20),
    "OneCycleLR": lambda o: torch.optim.lr_scheduler.OneCycleLR(
        o,
        max_lr=0.1,
        total_steps=21,
        cycle_momentum="betas" in o.defaults or o.defaults.get("momentum", 0) > 0,
    ),
}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("name", NAMES)
def test_pytorchs_schedulers_drive_it_as_they_drive_pytorchs_class(name: str, scheduler: str) -> None:
    begin, slopes = begin_for(name, 2), gradients(2, steps=20)

    def run(cls: Any) -> tuple[Path, Any]:
        leaves = parameters(begin)
        optimizer = cls(list(leaves.values()), foreach=False, **RICH[name])
        schedule = SCHEDULERS[scheduler](optimizer)
        return walk(optimizer, leaves, slopes, after=schedule.step), optimizer.param_groups[0]

    (ours, mine), (theirs, expected) = run(BY_RULE[name]), run(THEIRS[name])
    assert deviation(ours, theirs, begin) <= CLOSE
    known = [n for n in RULES[name].hyper if n not in extras(RULES[name])]
    assert {n: mine[n] for n in known} == {n: expected[n] for n in known}
    cycled = next((n for n in ("betas", "momentum") if n in RICH[name]), None)
    if scheduler == "OneCycleLR" and cycled:  # the momentum was cycled too
        assert mine[cycled] != RICH[name][cycled]


@pytest.mark.parametrize("name", NAMES)
def test_grad_scaler_skips_a_step_that_is_not_finite(name: str) -> None:
    leaf = torch.nn.Parameter(torch.ones(2))
    optimizer = BY_RULE[name]([leaf], **RICH[name])
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)

    def step(factor: float) -> None:
        optimizer.zero_grad()
        scaler.scale((leaf * factor).sum()).backward()
        scaler.step(optimizer)
        scaler.update()

    step(1.0)
    before, state = leaf.detach().clone(), buffers(optimizer)
    step(float("inf"))
    assert torch.equal(leaf, before)
    assert_same_bits(buffers(optimizer), state)
    assert scaler.get_scale() == 2
    step(1.0)
    assert (leaf < before).all()


def test_named_parameters_are_accepted_and_named_in_the_state() -> None:
    model = torch.nn.Linear(2, 1)
    optimizer = optim.AdamW(model.named_parameters())
    model(torch.ones(1, 2)).sum().backward()

    optimizer.step()

    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]

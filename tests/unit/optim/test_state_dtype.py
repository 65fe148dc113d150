"""States in float32 beside parameters in bfloat16."""

import copy
import io
from typing import Any

import pytest
import torch
from torch import nn

from thalweg import optim
from thalweg.rules.catalogue import RULES

HALF, FULL = torch.bfloat16, torch.float32
NAMES = [n for n in RULES if n not in ("sparse-adam",)]


def leaf(dtype: torch.dtype) -> nn.Parameter:
    return nn.Parameter(torch.linspace(-2, 2, 6).reshape(2, 3).to(HALF).to(dtype))


def slopes() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, generator=generator).to(HALF) for _ in range(6)]


def make(name: str, w: nn.Parameter, **more: Any) -> optim.RuleOptimizer:
    extra = {"precision": "parameter"} if name == "muon" else {}
    momentum = {"momentum": 0.9} if name == "sgd" else {}
    return optim.BY_RULE[name]([w], lr=0.05, **extra, **momentum, **more)


@pytest.mark.parametrize("name", NAMES)
def test_steps_equal_those_in_float32_rounded_at_each_step(name: str) -> None:
    half, full = leaf(HALF), leaf(FULL)
    narrow, wide = make(name, half, state_dtype=FULL), make(name, full)

    for slope in slopes():
        half.grad, full.grad = slope, slope.to(FULL)
        narrow.step()
        wide.step()
        with torch.no_grad():
            full.copy_(full.to(HALF))  # the parameter is rounded, the state is not

        assert half.dtype == HALF
        # Sums over all elements are added up in another order where elements have another size.
        apart = 1e-6 if RULES[name].initial_shared else 0.0
        torch.testing.assert_close(half.to(FULL), full, rtol=apart, atol=apart * 1e-6)
        for key, value in narrow.state[half].items():
            assert value.dtype == FULL
            torch.testing.assert_close(value, wide.state[full][key], rtol=apart, atol=apart * 1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_states_survive_saving_and_copies(name: str) -> None:
    half = leaf(HALF)
    optimizer = make(name, half, state_dtype=FULL)
    for slope in slopes()[:3]:
        half.grad = slope
        optimizer.step()
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    twin_leaf, twin = copy.deepcopy((half, optimizer))
    other_leaf = copy.deepcopy(half)
    other = make(name, other_leaf, state_dtype=FULL)
    other.load_state_dict(torch.load(file, weights_only=True))

    for slope in slopes()[3:]:
        for w, each in ((half, optimizer), (twin_leaf, twin), (other_leaf, other)):
            w.grad = slope
            each.step()

    assert twin.execution.state_dtype == FULL
    for w, each in ((twin_leaf, twin), (other_leaf, other)):
        assert torch.equal(w, half)
        assert {x.dtype for x in each.state[w].values()} == {FULL}


def test_a_small_rate_still_moves_the_memory() -> None:
    half = nn.Parameter(torch.ones(1, dtype=HALF))
    optimizer = optim.Adam([half], lr=1e-5, state_dtype=FULL)
    half.grad = torch.tensor([1.0], dtype=HALF)
    optimizer.step()

    assert half.item() == 1.0  # 1e-5 is lost in bfloat16
    assert optimizer.state[half]["exp_avg_sq"].item() == pytest.approx(1e-3, rel=1e-6)


def test_weights_to_evaluate_with_are_rounded_and_come_back() -> None:
    half = leaf(HALF)
    optimizer = optim.Adam([half], lr=0.05, state_dtype=FULL, wrappers=[optim.ema(0.5)])
    for slope in slopes():
        half.grad = slope
        optimizer.step()
    before = half.detach().clone()

    with optimizer.evaluating():
        assert torch.equal(half, optimizer.state[half]["ema_average"].to(HALF))
        assert not torch.equal(half, before)
    assert torch.equal(half, before)

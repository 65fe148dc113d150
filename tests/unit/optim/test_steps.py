"""What steps of thalweg.optim keep beside the numbers: shared scalars, skips, counts, closures, groups."""

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from thalweg import optim
from thalweg.errors import InputError, NonFiniteGradients
from thalweg.rules.base import Curvature
from thalweg.rules.catalogue import RULES

NAN = float("nan")


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1)).double()


INPUTS = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def loss_of(model: nn.Module) -> Tensor:
    return ((model(INPUTS) - INPUTS.sum(1, keepdim=True)) ** 2).mean()


def descend(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()


def weights(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


# One of each kind: wrappers that keep buffers, shared scalars, two faces, two rules beside each other.
KINDS: dict[str, Callable[[Any], optim.RuleOptimizer]] = {
    "adamw, clipped and averaged": lambda p: optim.AdamW(
        p, lr=0.01, wrappers=[optim.clip_norm(1.0), optim.cautious(), optim.ema(0.9)]
    ),
    "sgd, skipping": lambda p: optim.SGD(p, lr=0.01, momentum=0.9, wrappers=[optim.skip_nonfinite(5)]),
    "sgd, lookahead": lambda p: optim.SGD(p, lr=0.01, wrappers=[optim.lookahead(2, 0.5)]),
    "prodigy": lambda p: optim.Prodigy(p),
    "d-adaptation": lambda p: optim.DAdaptationSGD(p),
    "schedule-free": lambda p: optim.ScheduleFreeAdamW(p, lr=0.01),
    "muon": lambda p: optim.Muon(
        p,
        lr=0.01,
        precision="parameter",
        fallback={"lr": 1e-3, "betas": (0.8, 0.9)},
        wrappers=[optim.clip_norm(1.0)],
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_is_saved_copied_or_pickled_goes_on_bit_for_bit(kind: str) -> None:
    model = network()
    optimizer = KINDS[kind](model)
    descend(model, optimizer)
    twins = [copy.deepcopy((model, optimizer)), pickle.loads(pickle.dumps((model, optimizer)))]
    loaded = network()
    loaded.load_state_dict(model.state_dict())
    resumed = KINDS[kind](loaded)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    twins.append((loaded, resumed))

    descend(model, optimizer)

    for twin, its_optimizer in twins:
        assert not same(twin, model)
        descend(twin, its_optimizer)
        assert same(twin, model)
        assert its_optimizer.wrappers == optimizer.wrappers
        assert its_optimizer.scalars() == optimizer.scalars()


def test_prodigys_d_is_in_every_group_and_survives_the_state() -> None:
    model = network()
    parts = [list(layer.parameters()) for layer in (model[0], model[2], model[4])]
    optimizer = optim.Prodigy([{"params": part} for part in parts[:2]], d0=1e-3)
    optimizer.add_param_group({"params": parts[2]})
    descend(model, optimizer, 5)

    d = optimizer.scalars()["d"]
    assert d > 1e-3
    assert [group["d"] for group in optimizer.param_groups] == [d] * 3
    fresh = optim.Prodigy([{"params": part} for part in parts])
    fresh.load_state_dict(optimizer.state_dict())
    assert fresh.scalars() == optimizer.scalars()
    fresh.set_scalars({"d": 0.5})
    assert [group["d"] for group in fresh.param_groups] == [0.5] * 3


def test_a_group_that_is_added_late_shares_the_d_of_the_others() -> None:
    model = network()
    optimizer = optim.Prodigy(list(model[0].parameters()), d0=1e-3)
    descend(model, optimizer, 5)

    optimizer.add_param_group({"params": list(model[2].parameters())})

    assert optimizer.param_groups[1]["d"] == optimizer.param_groups[0]["d"] > 1e-3


@pytest.mark.parametrize("name", [n for n in RULES if n not in ("sparse-adam",)])
def test_a_step_with_a_gradient_that_is_not_finite_changes_nothing_but_the_count(name: str) -> None:
    model = network()
    wrappers = [optim.skip_nonfinite(3), optim.clip_norm(1.0)]
    optimizer = optim.BY_RULE[name](model, wrappers=wrappers)
    descend(model, optimizer)
    before, state = weights(model), copy.deepcopy(optimizer.state_dict())

    model[0].weight.grad[0, 0] = NAN
    optimizer.step()

    assert all(torch.equal(x, y) for x, y in zip(weights(model), before, strict=True))
    assert str(optimizer.state_dict()["state"]) == str(state["state"])
    assert optimizer.skipped_steps == 1
    for group, old in zip(optimizer.state_dict()["param_groups"], state["param_groups"], strict=True):
        assert group == old | {"skipped_steps": 1, "skipped_in_a_row": 1}
    descend(model, optimizer, 1)
    assert optimizer.scalars()["skipped_in_a_row"] == 0
    assert optimizer.skipped_steps == 1
    assert not torch.equal(weights(model)[0], before[0])


def test_too_many_skipped_steps_in_a_row_are_an_error_also_across_saving() -> None:
    model = network()
    optimizer = optim.AdamW(model, wrappers=[optim.skip_nonfinite(3)])
    for p in model.parameters():
        p.grad = torch.full_like(p, math.inf)
    optimizer.step()
    optimizer.step()
    resumed = optim.AdamW(model, wrappers=[optim.skip_nonfinite(3)])
    resumed.load_state_dict(optimizer.state_dict())

    with pytest.raises(
        NonFiniteGradients, match="finite in at least one of 3 steps in a row; got 3 steps without"
    ):
        resumed.step()

    assert resumed.skipped_steps == 3


def test_clipped_says_whether_the_last_step_shortened_a_gradient() -> None:
    w = nn.Parameter(torch.ones(1))
    optimizer = optim.SGD([w], lr=0.0, wrappers=[optim.clip_norm(1.0)])
    seen = []
    for size in (0.5, 2.0, 0.5):
        w.grad = torch.tensor([size])
        optimizer.step()
        seen.append(optimizer.clipped)

    assert seen == [False, True, False]


def test_clipping_goes_over_the_parameters_of_both_rules() -> None:
    matrix, vector = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    optimizer = optim.Muon(
        [matrix, vector], lr=0.1, fallback={"lr": 1.0, "eps": 1.0}, wrappers=[optim.clip_norm(1.0)]
    )
    matrix.grad, vector.grad = torch.full((2, 2), 4.0), torch.tensor([3.0, 4.0])

    optimizer.step()

    norm = math.sqrt(64 + 25)
    assert torch.allclose(
        optimizer.state[vector]["exp_avg"], torch.tensor([3.0, 4.0]) / norm * 0.1, rtol=1e-5
    )


def test_groups_with_rate_factors_multiply_the_rate() -> None:
    a, b = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))

    plain = optim.SGD([{"params": [a]}, {"params": [b], "rate_factor": 0.5}], lr=0.2)
    routed = optim.Muon(
        [{"params": [a, nn.Parameter(torch.ones(2))], "rate_factor": 0.5}], lr=0.2, fallback={"lr": 0.01}
    )

    assert [g["lr"] for g in plain.param_groups] == [0.2, 0.1]
    assert {g["rule"]: g["lr"] for g in routed.param_groups} == {"muon": 0.1, "adamw": 0.005}


def test_a_rate_factor_that_is_none_is_refused() -> None:
    with pytest.raises(
        InputError, match="rate_factor of a group of SGD must be a finite number of at least 0"
    ):
        optim.SGD([{"params": [nn.Parameter(torch.ones(1))], "rate_factor": -1.0}])


def test_a_group_that_is_refused_leaves_no_part_of_it_behind() -> None:
    optimizer = optim.Muon([nn.Parameter(torch.ones(2, 2))], lr=0.1)
    here = optimizer.param_groups[0]["params"][0]
    matrix, vector = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    with pytest.raises(InputError, match=r"betas of AdamW must be 2 numbers"):
        optimizer.add_param_group({"params": [matrix, vector], "betas": (0.9, 1.0)})
    with pytest.raises(ValueError, match="some parameters appear in more than one parameter group"):
        optimizer.add_param_group({"params": [vector, here]})

    assert len(optimizer.param_groups) == 1


def test_a_fallback_group_holds_its_own_hyperparameters_and_no_others() -> None:
    optimizer = optim.Muon([nn.Parameter(torch.ones(2))], lr=0.1, fallback={"betas": (0.5, 0.6)})
    (group,) = optimizer.param_groups

    assert group["betas"] == (0.5, 0.6)
    assert group["lr"] == 0.1 * 0.015  # Jordan's 3e-4 beside 0.02
    assert not group.keys() & {"momentum", "ns_steps", "adjust_lr_fn"}


def test_pytorchs_schedulers_and_ours_drive_both_rules() -> None:
    model = network()
    optimizer = optim.Muon(model, lr=0.2, fallback={"lr": 0.01})
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.2, total_steps=10, cycle_momentum=True)
    descend(model, optimizer)
    schedule.step()

    assert len({group["lr"] for group in optimizer.param_groups}) == 1


def test_the_curvature_of_sophia_is_taken_in() -> None:
    w = nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
    optimizer = optim.SophiaH([w], betas=(0.9, 0.75))
    assert optimizer.curvature is Curvature.HUTCHINSON
    (w**3).sum().backward()
    u = optim.random_signs([w])
    loss = (w**3).sum()
    w.grad = None
    optim.curvature_along(loss, [w], u).backward()

    optimizer.refresh([u[0] * w.grad])

    assert optimizer.state[w]["hessian"].tolist() == [1.5, 3.0]  # a quarter of 6w
    assert optimizer.state[w]["step"].item() == 0
    with pytest.raises(InputError, match="must be 1 tensors, one a parameter; got 2"):
        optimizer.refresh([w, w])
    with pytest.raises(InputError, match="the curvature that Adam is given must be left out; got 1"):
        optim.Adam([w]).refresh([w])


def test_the_curvature_along_a_loss_that_leaves_a_parameter_out_is_zero_there() -> None:
    a, b = (torch.tensor(2.0, requires_grad=True) for _ in range(2))
    optim.curvature_along(a**2, [a, b], [torch.tensor(1.0), torch.tensor(-1.0)]).backward()

    assert a.grad.item() == 2
    assert b.grad is None

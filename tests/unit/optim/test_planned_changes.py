"""Kernels follow what becomes of states and groups between steps: same as eager operations."""

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from thalweg import optim
from twins import World, adam, close, same, slope, twins

Scene = Callable[[World], None]


def momentum(weights: Any, **more: Any) -> optim.RuleOptimizer:
    return optim.SGD(weights, lr=0.05, momentum=0.5, **more)


def nadam(weights: Any, **more: Any) -> optim.RuleOptimizer:
    return optim.NAdam(weights, lr=0.05, **more)


# States.


def a_buffer_is_a_copy(world: World) -> None:
    for state in world.optimizer.state.values():
        for name in state:
            state[name] = state[name].clone()


def a_buffer_is_another(world: World) -> None:
    world.state(1)["exp_avg"] = slope((5,), 40, 2)


def a_buffer_points_elsewhere(world: World) -> None:
    world.state(1)["exp_avg"].data = slope((5,), 40, 2)


def buffers_change_places(world: World) -> None:
    one, other = world.state(0), world.state(1)
    world.weights[1].data = world.weights[1].data.clone()
    one["exp_avg"], one["exp_avg_sq"] = one["exp_avg_sq"], one["exp_avg"].abs()
    assert other


def a_buffer_is_zeroed_in_place(world: World) -> None:
    world.state(0)["exp_avg"].zero_()


def one_state_is_emptied(world: World) -> None:
    world.optimizer.state[world.weights[0]] = {}


def the_last_state_is_cleared(world: World) -> None:
    world.state(1).clear()


def every_state_is_cleared(world: World) -> None:
    for state in world.optimizer.state.values():
        state.clear()


def a_buffer_is_deleted(world: World) -> None:
    del world.state(1)["exp_avg_sq"]


def all_states_are_cleared(world: World) -> None:
    world.optimizer.state.clear()


def the_table_is_another(world: World) -> None:
    world.optimizer.state = copy.copy(world.optimizer.state)
    world.optimizer.state[world.weights[0]] = {
        n: x.clone() * 0.5 if n != "step" else x.clone() for n, x in world.state(0).items()
    }


def the_count_is_set(world: World) -> None:
    world.state(0)["step"].fill_(10)
    world.state(1)["step"] = torch.tensor(7.0)


def the_count_is_whole(world: World) -> None:
    world.state(0)["step"] = torch.tensor(10)
    world.state(1)["step"] = torch.tensor(7, dtype=torch.int32)


def the_count_is_narrow(world: World) -> None:
    world.state(1)["step"] = torch.tensor(7, dtype=torch.bfloat16)


def the_count_has_an_axis(world: World) -> None:
    world.state(1)["step"] = torch.tensor([7.0])


def one_count_is_wide(world: World) -> None:
    world.state(1)["step"] = world.state(1)["step"].double()


def the_second_count_is_converted_where_it_is(world: World) -> None:
    world.state(1)["step"].data = world.state(1)["step"].double()


def everything_is_converted_by_data(world: World) -> None:
    for state in world.optimizer.state.values():
        for value in state.values():
            value.data = value.data.double()


def everything_is_converted(world: World) -> None:
    for state in world.optimizer.state.values():
        for name, value in state.items():
            state[name] = value.to(torch.float64, copy=True)


def a_note_is_added(world: World) -> None:
    for turn in range(3):
        world.state(1)["note"] = torch.tensor(float(turn))
        world.step()


def own_state_is_loaded(world: World) -> None:
    saved = copy.deepcopy(world.optimizer.state_dict())
    world.step(2)
    world.optimizer.load_state_dict(saved)


def an_empty_state_is_loaded(world: World) -> None:
    fresh = type(world.optimizer)([nn.Parameter(p.detach().clone()) for p in world.weights], lr=0.02)
    world.optimizer.load_state_dict(fresh.state_dict())
    assert not any(world.optimizer.state.values())


def saved_and_loaded(world: World) -> None:
    file = io.BytesIO()
    torch.save(world.optimizer.state_dict(), file)
    file.seek(0)
    world.optimizer.load_state_dict(torch.load(file, weights_only=True))


STATES: list[Scene] = [
    a_buffer_is_a_copy, a_buffer_is_another, a_buffer_points_elsewhere, buffers_change_places,
    a_buffer_is_zeroed_in_place, one_state_is_emptied, the_last_state_is_cleared, every_state_is_cleared,
    a_buffer_is_deleted, all_states_are_cleared, the_table_is_another, the_count_is_set, the_count_is_whole,
    the_count_is_narrow, the_count_has_an_axis, one_count_is_wide,
    the_second_count_is_converted_where_it_is, everything_is_converted_by_data, everything_is_converted,
    a_note_is_added, own_state_is_loaded, an_empty_state_is_loaded, saved_and_loaded,
]  # fmt: skip


@pytest.mark.parametrize("scene", STATES, ids=lambda f: f.__name__)
def test_kernels_follow_a_state(scene: Scene) -> None:
    ours, _ = twins(scene)

    assert ours.by_kernels == 2


def a_single_number_is_wide(world: World) -> None:
    world.state(0)["mu_product"] = world.state(0)["mu_product"].double()


def a_single_number_is_wide_where_it_is(world: World) -> None:
    world.state(1)["mu_product"].data = world.state(1)["mu_product"].double()


def a_single_number_has_axes(world: World) -> None:
    world.state(1)["mu_product"] = world.state(1)["mu_product"].reshape(1)


@pytest.mark.parametrize(
    "scene", [a_single_number_is_wide, a_single_number_is_wide_where_it_is, a_single_number_has_axes]
)
def test_kernels_follow_a_number_in_a_state(scene: Scene) -> None:
    found = []
    for backend in ("auto", "eager"):
        world = World(backend, nadam, ((3, 4), (5,)), torch.float32)
        world.step(3)
        scene(world)
        world.step(3)
        found.append(world)

    same(*found, 2e-6)


@pytest.mark.parametrize("ours", [optim.Adam, optim.AdamW, optim.RMSprop, optim.NAdam, optim.SGD])
def test_kernels_go_on_from_pytorchs_state_and_back(ours: Any) -> None:
    more = {"momentum": 0.9} if ours is optim.SGD else {}
    theirs = getattr(torch.optim, ours.__name__)

    def loaded(world: World) -> None:
        twin = [nn.Parameter(p.detach().clone()) for p in world.weights]
        other = theirs(twin, lr=0.05, **more)
        for turn in range(3):
            for place, p in enumerate(twin):
                p.grad = slope(p.shape, turn, place).to(p.dtype)
            other.step()
        world.optimizer.load_state_dict(other.state_dict())
        world.step()
        other.load_state_dict(world.optimizer.state_dict())

    # In float32, as PyTorch's NAdam keeps the product of its momenta whatever the parameter's dtype.
    moved, _ = twins(
        loaded, lambda weights, **how: ours(weights, lr=0.05, **more, **how), dtype=torch.float32
    )

    assert moved.by_kernels == 2


@pytest.mark.parametrize("make", [adam, momentum, nadam, optim.Prodigy, optim.ScheduleFreeAdamW])
@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_a_copy_and_its_original_go_on_apart(how: str, make: Any) -> None:
    world = World("auto", make, ((3, 4), (5,)), torch.float64)
    world.step(3)
    twin = copy.deepcopy(world) if how == "deepcopy" else pickle.loads(pickle.dumps(world))
    world.step(2)
    between = [p.detach().clone() for p in world.weights]
    for _ in range(2):
        twin.step()
        assert twin.by_kernels == 2
    assert all(torch.equal(p, old) for p, old in zip(world.weights, between, strict=True))

    same(world, twin, 0.0)


# Groups.


def by_a_scheduler(world: World) -> None:
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        world.optimizer, max_lr=0.3, total_steps=20, cycle_momentum=False
    )
    for _ in range(8):
        world.step()
        schedule.step()


def by_a_warm_up_from_zero(world: World) -> None:
    schedule = torch.optim.lr_scheduler.LambdaLR(world.optimizer, lambda t: min(1.0, t / 3))
    for _ in range(6):
        world.step()
        schedule.step()


def by_hand(world: World) -> None:
    for rate in (0.5, 1, 0.0, 0.01):
        world.optimizer.param_groups[0]["lr"] = rate
        world.step()


def by_a_tensor(world: World) -> None:
    rate = torch.tensor(0.05, dtype=torch.float64)
    world.optimizer.param_groups[0]["lr"] = rate
    for factor in (1.0, 3.0, 0.0, 0.5):
        rate.fill_(0.05 * factor)
        world.step()


def decay_comes_and_goes(world: World) -> None:
    for decay in (0.1, 0.2, 0, 0.3):
        world.optimizer.param_groups[0]["weight_decay"] = decay
        world.step()


def betas_change(world: World) -> None:
    for betas in ((0.5, 0.7), [0.6, 0.8], (0.0, 0.9)):
        world.optimizer.param_groups[0]["betas"] = betas
        world.step()


def betas_change_in_place(world: World) -> None:
    world.optimizer.param_groups[0]["betas"] = betas = [0.5, 0.7]
    world.step()
    betas[0] = 0.9
    world.step(2)


def flags_change(world: World) -> None:
    (group,) = world.optimizer.param_groups
    for amsgrad, maximize in ((True, False), (True, True), (False, True)):
        group["amsgrad"], group["maximize"] = amsgrad, maximize
        world.step(2)


def the_group_is_another_table(world: World) -> None:
    world.optimizer.param_groups[0] = dict(world.optimizer.param_groups[0])
    world.step()
    world.optimizer.param_groups[0]["lr"] = 0.4
    world.step()
    world.optimizer.param_groups = copy.copy(world.optimizer.param_groups)
    world.optimizer.param_groups[0] = world.optimizer.param_groups[0] | {"lr": 0.3}


def a_group_is_added(world: World) -> None:
    more = [nn.Parameter(slope(s, 60, 9)) for s in ((4,), (2, 2))]
    world.weights += more
    world.optimizer.add_param_group({"params": more, "lr": 0.2, "weight_decay": 0.1})


def a_parameter_is_removed(world: World) -> None:
    gone = world.optimizer.param_groups[0]["params"].pop(0)
    before = gone.detach().clone()
    world.step(2)
    assert torch.equal(gone, before)


def a_parameter_is_replaced(world: World) -> None:
    world.weights[0] = world.optimizer.param_groups[0]["params"][0] = nn.Parameter(slope((3, 4), 61, 1))


def a_parameter_changes_its_group(world: World) -> None:
    a_group_is_added(world)
    world.step()
    first, second = world.optimizer.param_groups
    second["params"].append(first["params"].pop())
    world.step()
    world.optimizer.param_groups.reverse()


GROUPS: dict[Scene, int] = {
    by_a_scheduler: 2, by_a_warm_up_from_zero: 2, by_hand: 2, by_a_tensor: 2, decay_comes_and_goes: 2,
    betas_change: 2, betas_change_in_place: 2, flags_change: 2, the_group_is_another_table: 2,
    a_group_is_added: 4, a_parameter_is_removed: 1, a_parameter_is_replaced: 2,
    a_parameter_changes_its_group: 4,
}  # fmt: skip


@pytest.mark.parametrize("scene", GROUPS, ids=lambda f: f.__name__)
def test_kernels_follow_a_group(scene: Scene) -> None:
    ours, _ = twins(scene)

    assert ours.by_kernels == GROUPS[scene]


def test_momentum_that_comes_and_goes_makes_new_buffers() -> None:
    def turned(world: World) -> None:
        for size in (0.0, 0.9, 0.5, 0.0):
            world.optimizer.param_groups[0]["momentum"] = size
            world.step(2)
            assert ("momentum_buffer" in world.state(0)) == (world.taken > 5)

    ours, _ = twins(turned, lambda weights, **how: optim.SGD(weights, lr=0.05, **how))

    assert ours.by_kernels == 2


def test_a_schedule_counts_for_rules_whose_step_depends_on_it() -> None:
    ours, _ = twins(by_a_scheduler, lambda weights, **how: optim.Prodigy(weights, lr=1.0, **how))
    assert ours.by_kernels == 2

    ours, _ = twins(by_hand, lambda weights, **how: optim.ScheduleFreeAdamW(weights, lr=0.05, **how))
    assert ours.by_kernels == 2


def test_prodigys_d_is_shared_by_groups_that_kernels_move() -> None:
    def make(weights: Any, **how: Any) -> optim.RuleOptimizer:
        return optim.Prodigy(
            [{"params": weights[:1]}, {"params": weights[1:], "weight_decay": 0.1}], d0=1e-3, **how
        )

    def downhill(world: World) -> None:
        for _ in range(20):
            for p in world.weights:
                p.grad = p.detach() - 10
            world.optimizer.step()

    ours, theirs = twins(downhill, make, after=0)

    assert ours.by_kernels == 2
    assert ours.optimizer.scalars()["d"] > 1e-3
    assert [g["d"] for g in ours.optimizer.param_groups] == [ours.optimizer.scalars()["d"]] * 2
    assert ours.optimizer.scalars()["d"] == pytest.approx(theirs.optimizer.scalars()["d"], rel=1e-13)


def test_states_that_are_dropped_and_come_back_count_anew() -> None:
    world = World("auto", adam, ((3, 4), (5,)), torch.float64)
    world.step(4)
    kept = {n: x.clone() for n, x in world.state(0).items()}
    world.state(0).clear()
    world.step(2)
    assert world.state(0)["step"].item() == 2
    assert world.state(1)["step"].item() == 6

    world.state(0).update({n: x.clone() for n, x in kept.items()})
    world.step()
    assert world.state(0)["step"].item() == 5
    close(world.state(0)["exp_avg"], kept["exp_avg"] * 0.8 + slope((3, 4), 7, 0) * 0.2, 1e-13)

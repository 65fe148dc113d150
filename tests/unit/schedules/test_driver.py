"""The face that drives optimizers of PyTorch."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from thalweg.errors import InputError
from thalweg.schedules import Cosine, Linear, Scheduler, WarmupCosine


def two_groups() -> torch.optim.Optimizer:
    parameters = [torch.zeros(2, requires_grad=True) for _ in range(2)]
    return torch.optim.Adam([{"params": parameters[:1], "lr": 0.1}, {"params": parameters[1:], "lr": 0.01}])


def rates(optimizer: torch.optim.Optimizer) -> list[float]:
    return [group["lr"] for group in optimizer.param_groups]


def test_the_first_rate_is_set_on_construction_and_each_step_sets_the_next() -> None:
    optimizer = two_groups()
    scheduler = Scheduler(optimizer, Linear(length=4))

    seen = [rates(optimizer)]
    for _ in range(4):
        scheduler.step()
        seen.append(rates(optimizer))

    for t, (first, second) in enumerate(seen):
        assert first == 0.1 * (1 - t / 4)
        assert second == 0.01 * (1 - t / 4)  # the groups keep their ratio
    assert scheduler.get_last_lr() == [0.0, 0.0]


def test_starting_at_a_step_gives_the_same_rates_as_stepping_there() -> None:
    schedule = WarmupCosine(warmup=3, length=20)
    stepped = two_groups()
    scheduler = Scheduler(stepped, schedule)
    for t in range(25):
        fresh = two_groups()
        Scheduler(fresh, schedule, step=t)
        assert rates(fresh) == rates(stepped)
        scheduler.step()


def test_a_resumed_run_has_bit_identical_rates() -> None:
    schedule = Cosine(length=50)
    straight = two_groups()
    scheduler = Scheduler(straight, schedule)
    for _ in range(17):
        scheduler.step()
    stored = straight.state_dict(), scheduler.state_dict()

    resumed = two_groups()
    again = Scheduler(resumed, schedule)
    resumed.load_state_dict(stored[0])
    again.load_state_dict(stored[1])

    for _ in range(10):
        assert rates(resumed) == rates(straight)
        scheduler.step()
        again.step()


def test_the_base_rate_is_where_pytorchs_schedulers_keep_it() -> None:
    optimizer = two_groups()
    Scheduler(optimizer, Linear(length=4), step=2)

    assert [group["initial_lr"] for group in optimizer.param_groups] == [0.1, 0.01]
    following = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1.0, last_epoch=0)
    assert following.base_lrs == [0.1, 0.01]


def test_a_second_scheduler_on_the_same_optimizer_starts_from_the_same_base() -> None:
    optimizer = two_groups()
    Scheduler(optimizer, Linear(length=4), step=3)
    Scheduler(optimizer, Linear(length=4), step=2)

    assert rates(optimizer) == [0.05, 0.005]


def test_a_rate_that_is_a_tensor_is_filled_in_place() -> None:
    rate = torch.tensor(0.5, dtype=torch.float64)
    optimizer = torch.optim.Adam([torch.zeros(2, requires_grad=True)], lr=rate)
    scheduler = Scheduler(optimizer, Linear(length=4))
    scheduler.step()
    scheduler.step()

    assert optimizer.param_groups[0]["lr"] is rate
    assert rate.item() == 0.25
    assert optimizer.param_groups[0]["initial_lr"] == 0.5


def test_a_group_that_is_added_later_joins_with_its_own_base() -> None:
    optimizer = two_groups()
    scheduler = Scheduler(optimizer, Linear(length=4))
    scheduler.step()
    optimizer.add_param_group({"params": [torch.zeros(1, requires_grad=True)], "lr": 1.0})
    scheduler.step()

    assert rates(optimizer) == [0.05, 0.005, 0.5]


def test_a_clock_of_examples_advances_by_the_examples_of_the_update() -> None:
    optimizer = two_groups()
    scheduler = Scheduler(optimizer, Linear(length=256, clock="examples"))
    scheduler.step(64)
    scheduler.step(ticks=64)

    assert scheduler.state_dict() == {"position": 128}
    assert rates(optimizer) == [0.05, 0.005]


def test_sgd_follows_the_schedule_update_by_update() -> None:
    weight = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.5)
    scheduler = Scheduler(optimizer, Linear(length=2))
    for _ in range(3):
        optimizer.zero_grad()
        weight.sum().backward()
        optimizer.step()
        scheduler.step()

    assert weight.item() == 1.0 - 0.5 - 0.25 - 0.0


@pytest.mark.parametrize("step", [-1, 1.5, None, True])
def test_an_impossible_step_is_refused_before_a_rate_is_changed(step: Any) -> None:
    optimizer = two_groups()
    with pytest.raises(InputError, match="step of Scheduler must be a whole number of at least 0"):
        Scheduler(optimizer, Linear(length=4), step=step)
    scheduler = Scheduler(optimizer, Linear(length=4))
    with pytest.raises(InputError, match=r"ticks of Scheduler\.step must be a whole number of at least 0"):
        scheduler.step(-1)
    with pytest.raises(InputError, match="step of Scheduler must be a whole number of at least 0"):
        scheduler.load_state_dict({"position": step})

    assert rates(optimizer) == [0.1, 0.01]


def test_an_open_schedule_a_function_and_a_thing_without_groups_are_refused() -> None:
    with pytest.raises(InputError, match=r"Give a value, or call resolve\(total\)"):
        Scheduler(two_groups(), Cosine())
    with pytest.raises(InputError, match="the schedule of a Scheduler must be a schedule"):
        Scheduler(two_groups(), abs)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="must have param_groups, each with an lr; got SimpleNamespace"):
        Scheduler(SimpleNamespace(), Cosine(length=4))
    with pytest.raises(InputError, match="the state of a Scheduler must have a position"):
        Scheduler(two_groups(), Cosine(length=4)).load_state_dict({})

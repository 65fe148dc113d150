"""Schedules under a winner: who is entered, at which rates, and what does not fit."""

from dataclasses import replace

import pytest

from small_tasks import EXECUTION, linear, recipe, workload
from thalweg import schedules
from thalweg.racing import Entry, make_plan
from thalweg.racing.follow import SCHEDULES, fitting, under

KNOWN = {name: schedules.parse(name) for name in SCHEDULES}


@pytest.mark.parametrize(
    ("rate", "rates"), [(0.01, (0.00316, 0.01, 0.0316)), (0.12345, (0.039, 0.12345, 0.39))]
)
def test_schedules_are_entered_at_the_rate_that_won_and_half_a_decade_to_either_side(
    rate: float, rates: tuple[float, ...]
) -> None:
    how = recipe("adam", wrappers={"clip_norm": 1.0}, batch_size=11)
    entries = [Entry("other", recipe()), Entry("mine", how, steps=4)]
    plan = make_plan(workload(linear()), entries, EXECUTION, 10, 1.0)

    found = under(plan, plan.contenders[1], rate, KNOWN)

    assert [entry.name for entry in found] == ["constant", "cosine", "step", "warmup-cosine"]
    assert [entry.recipe for entry in found] == [replace(how, schedule=s) for s in KNOWN.values()]
    assert {(entry.rates, entry.steps) for entry in found} == {(rates, 4)}


def test_a_schedule_that_needs_more_room_than_there_is_does_not_fit() -> None:
    long = {"long": schedules.WarmupCosine(warmup=9), **KNOWN}

    assert list(fitting(long, 9)) == list(KNOWN)
    assert list(fitting(long, 10)) == list(long)
    assert list(fitting(KNOWN, 1)) == list(KNOWN)

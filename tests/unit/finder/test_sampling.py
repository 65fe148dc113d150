"""Trainings that are looked at on their way: the same numbers as the loop's, in a fleet and alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from small_tasks import BATCH, EXECUTION, ROOT, TRAIN, cliff, linear, network, recipe, trial, workload
from thalweg.executors import serial
from thalweg.finder.sampling import counted, coverage, follow, looks
from thalweg.records import Direction, Stage
from thalweg.records.sampling import IN_ORDER, SAMPLINGS, SHUFFLED, WITH_REPLACEMENT
from thalweg.training.control import Limits
from thalweg.training.engine import ModelEngine
from thalweg.training.order import Order
from thalweg.training.trial import Trial

FLEET = replace(EXECUTION, executor="fleet", wave=4)
PER_EPOCH = 5  # ⌈22/5⌉


def limits(examples: int, batch_size: int) -> Limits:
    return Limits(1, -(-examples // batch_size), examples, batch_size, "loss", Direction.LOWER)


@given(st.integers(1, 10_000), st.integers(1, 500))
def test_first_and_last_moment_are_looked_at_and_no_more_than_a_few(steps, per_epoch):
    at = looks(steps, per_epoch)

    assert at == sorted(set(at))
    assert (at[0], at[-1]) == (0, steps)
    assert len(at) <= 54


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("batch_size", [1, BATCH, "all"])
def test_one_seed_gives_the_same_numbers_alone_and_in_a_fleet_in_float64(sampling, batch_size):
    work = workload(network())
    one = recipe(batch_size=batch_size, sampling=sampling, precision="float64", rate=0.1)
    trials = [trial(one, 8, seed) for seed in range(3)]
    alone, fleet = (follow(work, trials, how, [0, 3, 8]) for how in (EXECUTION, FLEET))

    assert alone == follow(work, trials, EXECUTION, [0, 3, 8])
    # Sums in another order: a few units of the last place of float64.
    assert np.allclose(np.array(alone), np.array(fleet), rtol=1e-12, atol=0)


def test_the_end_is_what_an_executor_measures_at_the_end():
    work = workload(network())
    trials = [trial(recipe(rate=0.1), 12, seed, Stage.SINGLE) for seed in range(2)]
    found = follow(work, trials, EXECUTION, [12])
    traces = list(serial.run(work, trials, EXECUTION, lambda trial: False))

    assert [looked[-1].train for looked in found] == [trace.train["loss"] for trace in traces]
    assert [looked[-1].validation for looked in found] == [trace.validation["loss"] for trace in traces]


@pytest.mark.parametrize("how", [EXECUTION, FLEET], ids=["alone", "fleet"])
def test_looking_changes_nothing(how):
    work = workload(linear())
    trials = [trial(recipe(rate=0.1), 9)]

    assert follow(work, trials, how, [9])[0][-1] == follow(work, trials, how, [0, 1, 4, 9])[0][-1]


def test_what_has_diverged_has_no_losses_from_then_on_and_others_go_on():
    work = workload(cliff())
    done: list[int] = []
    trials = [trial(recipe(rate=rate), 10) for rate in (10.0, 1e-3)]
    lost, kept = follow(work, trials, FLEET, [0, 10], done.append)

    assert (lost[-1].train, lost[-1].validation) == (None, None)
    assert kept[-1].train == pytest.approx((0.5 - 10 * 1e-3 / (2 * 0.5**0.5)) ** 0.5, rel=1e-3)
    assert sum(done) == 20


def test_full_batch_in_parts_is_the_full_batch_in_one_piece():
    work = workload(network())
    whole = recipe(batch_size="all", precision="float64", rate=0.5)
    parts = replace(whole, micro_batch=7)
    once, added = (follow(work, [trial(one, 6)], EXECUTION, [6])[0][-1] for one in (whole, parts))

    assert added.train == pytest.approx(once.train, rel=1e-13)  # rounding of sums of 22 numbers


@pytest.mark.parametrize("batch_size", [1, 5, 22])
def test_an_epoch_shows_exactly_what_it_should(batch_size):
    for sampling in SAMPLINGS:
        order = Order(limits(TRAIN, batch_size), sampling, ROOT, seed=0)
        batches = -(-TRAIN // batch_size)
        seen = np.concatenate([order.indices(step) for step in range(batches)])

        assert len(seen) == TRAIN
        if sampling == IN_ORDER:
            assert seen.tolist() == list(range(TRAIN))
        elif sampling == SHUFFLED:
            assert sorted(seen) == list(range(TRAIN)) != seen.tolist()
        else:
            assert len(set(seen)) < TRAIN


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([SHUFFLED, IN_ORDER]))
def test_without_replacement_an_epoch_shows_all_in_as_many_batches_as_the_formula_says(n, size, sampling):
    found = counted(limits(n, min(n, size)), sampling, ROOT, [0, 1], 2)

    assert found.coverage == coverage(n, sampling) == 1.0
    assert found.batches == -(-n // min(n, size))


def test_with_replacement_an_epoch_shows_63_percent():
    n, epochs = 1437, 64
    found = counted(limits(n, 32), WITH_REPLACEMENT, ROOT, range(4), epochs // 4)
    p = coverage(n, WITH_REPLACEMENT)

    assert p == pytest.approx(1 - np.exp(-1), abs=1 / n)
    # The share of one epoch has the variance (e⁻¹ − 2 e⁻²)/N, that of the empty boxes of N balls; four
    # deviations of the mean.
    assert found.coverage == pytest.approx(p, abs=4 * np.sqrt((np.exp(-1) - 2 * np.exp(-2)) / n / epochs))


def test_smallest_data_set_by_hand():
    assert coverage(1, WITH_REPLACEMENT) == 1.0
    assert coverage(2, WITH_REPLACEMENT) == 0.75  # of four draws, two show one example and two show both


def test_a_training_loss_is_that_of_the_weights_and_not_a_mean_over_batches():
    work = workload(linear())
    start = follow(work, [trial(recipe(rate=0.1), 1)], EXECUTION, [0, 1])[0][0]
    engine = ModelEngine(work, Trial("x", Stage.SINGLE, recipe(rate=0.1), 0, 1), ROOT)
    x, y = work.data.train.batch(np.arange(TRAIN))
    exact = torch.nn.functional.mse_loss(engine.model(x), y).item()

    assert start.train == pytest.approx(exact, rel=1e-6)

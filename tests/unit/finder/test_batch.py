"""What noise and clock say of batch sizes, measured on tasks that are small enough to be checked."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from small_tasks import BATCH, EXECUTION, ROOT, TRAIN, batch_norm, dropout, linear, network, recipe, workload
from thalweg import seeds
from thalweg.curvature import noise_scale
from thalweg.errors import InputError
from thalweg.finder.batch import (
    HOLES,
    NEAR,
    ROUNDS,
    SEEDS,
    Advice,
    End,
    Timing,
    Timings,
    advise,
    candidates,
    foretold,
    free,
    noise,
    throughput,
)
from thalweg.finder.batch import timed as timed_alone
from thalweg.tasks import Task
from thalweg.training.trial import Workload

PLENTY = 1e12
SIZES = [1, 2, 4, BATCH, 8, 16, TRAIN]


def timed(
    work: Workload, memory: float = PLENTY, progress: Callable[[int], None] = int, **more: Any
) -> Timings:
    return throughput(work, recipe(**more), lambda size: EXECUTION, memory, progress)


def sizes(found: Timings) -> list[int]:
    return [t.batch_size for t in found.sizes]


def squared_norms_by_hand(task: Task, seed: int) -> tuple[float, float]:
    """Mean squared norm of the gradients of 16 examples, and that of their mean, for linear regression.

    The gradient of (x·w + b − y)² in (w, b) is 2 (x·w + b − y) (x, 1).
    """
    x, y = workload(task).data.train.batch(seeds.order(ROOT, seed, -1, TRAIN)[:16])
    model = task.model(seeds.derive(ROOT, "initial weights", seed))
    off = (model(x) - y).detach().numpy().astype(float)
    gradients = 2 * off * np.column_stack([x.numpy(), np.ones(16)])
    return float((gradients**2).sum(1).mean()), float((gradients.mean(0) ** 2).sum())


def test_the_noise_at_the_start_is_that_of_gradients_by_hand() -> None:
    task = linear()

    found = noise(workload(task), recipe(rate=0.01), EXECUTION)

    by_hand = [squared_norms_by_hand(task, seed) for seed in range(SEEDS)]
    expected = noise_scale(*zip(*by_hand, strict=True), part_size=1, batch_size=16, examples=TRAIN)
    # The gradients are those of float32.
    for name in ("value", "low", "high", "squared_gradient", "covariance_trace"):
        assert getattr(found.at_start, name) == pytest.approx(getattr(expected, name), rel=1e-4)


def test_noise_is_measured_again_after_half_of_the_tasks_training() -> None:
    task = replace(network(), epochs=30)

    found = noise(workload(task), recipe("adam", rate=0.01), EXECUTION)

    assert found.updates == 30 * 5 // 2
    assert found.after is not None
    assert found.scale is found.after
    assert found.after.squared_gradient < found.at_start.squared_gradient


def test_no_more_updates_are_done_than_the_most() -> None:
    assert noise(workload(replace(linear(), epochs=1000)), recipe(rate=0.01), EXECUTION).updates == 300


def test_the_variance_of_larger_batches_is_measured_from_the_same_gradients() -> None:
    found = noise(workload(linear()), recipe(rate=0.01), EXECUTION)

    assert [size for size, _ in found.variances] == [1, 2, 4, 8, 16]
    trace = found.scale.covariance_trace
    # The law is drawn through the first and the last.
    for place, size in ((0, 1), (-1, 16)):
        assert found.variances[place][1] == pytest.approx(trace * (1 / size - 1 / TRAIN), rel=1e-6)
    # Eight trainings and some directions of noise leave the others within about a third.
    for size, measured in found.variances[1:3]:
        assert measured == pytest.approx(trace * (1 / size - 1 / TRAIN), rel=0.35)


@pytest.mark.parametrize("rate", [50.0, 1e30])
def test_after_a_training_that_did_not_lower_the_loss_the_start_counts(rate: float) -> None:
    found = noise(workload(linear()), recipe(rate=rate), EXECUTION)

    assert found.after is None
    assert found.scale is found.at_start
    assert np.isfinite(found.at_start.known)


@pytest.mark.parametrize("task", [dropout(), batch_norm()], ids=lambda task: task.name)
def test_noise_is_repeatable_and_touches_no_global_random_numbers(task: Task) -> None:
    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    threads = torch.get_num_threads()

    found = [noise(workload(task), recipe(rate=0.1), EXECUTION) for _ in range(2)]

    assert found[0] == found[1]
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before
    assert torch.get_num_threads() == threads


def test_parts_of_a_model_with_batch_norm_are_not_single_examples() -> None:
    found = noise(workload(batch_norm()), recipe(rate=0.1), EXECUTION)

    assert [size for size, _ in found.variances] == [11, 22]


def test_one_example_has_no_noise_to_be_told() -> None:
    single = replace(
        linear(), make_data=lambda seed: {part: (torch.ones(1, 3), torch.ones(1, 1)) for part in PART_NAMES}
    )
    data = single.data(ROOT)
    work = replace(workload(linear()), task=single, data=data)

    with pytest.raises(InputError, match="the training part must have at least 2 examples, to tell noise"):
        noise(work, recipe(batch_size=1), EXECUTION)


PART_NAMES = ("train", "validation", "test")


def test_doubled_sizes_are_timed_with_the_present_one_and_all_examples() -> None:
    done: list[int] = []

    found = timed(workload(linear()), progress=done.append)

    assert sizes(found) == SIZES == candidates(TRAIN, BATCH)
    assert (found.end, found.left_out) == (End.EXAMPLES, ())
    assert all(t.update_seconds > 0 and t.throughput == t.batch_size / t.update_seconds for t in found.sizes)
    assert sum(done) == ROUNDS * len(SIZES)


def wide() -> Task:
    return replace(
        network(name="wide"),
        make_model=lambda: nn.Sequential(nn.Linear(3, 5000), nn.Tanh(), nn.Linear(5000, 3)),
    )


def test_memory_is_that_of_weights_states_gradients_and_what_a_batch_makes() -> None:
    found = {t.batch_size: t.memory / HOLES for t in timed(workload(wide()), optimizer="adam").sizes}

    weights = 4 * (4 * 5000 + 5001 * 3)
    # Adam's two averages and a gradient of the size of the weights; then an activation and its gradient.
    assert 4 * weights <= found[1] <= 4.1 * weights + 4 * 4 * 5000
    per_example = (found[22] - found[2]) / 20
    assert 2 * 4 * 5000 <= per_example <= 4 * 4 * 5000


def test_no_size_is_timed_that_takes_more_memory_than_it_may() -> None:
    work = workload(wide())
    takes = {t.batch_size: t.memory for t in timed(work).sizes}

    found = timed(work, memory=takes[8] * 1.001)

    assert (sizes(found), found.end) == ([1, 2, 4, 5, 8], End.MEMORY)
    with pytest.raises(InputError, match="the memory of a training must hold one batch of the smallest size"):
        timed(work, memory=1.0)


def test_what_larger_batches_take_is_foretold_from_smaller_ones() -> None:
    takes = {t.batch_size: t for t in timed(workload(wide())).sizes}

    # What a batch makes is in proportion to it, but for some small tensors.
    assert foretold([takes[4], takes[8]], 16) == pytest.approx(takes[16].memory, rel=0.02)


def greedy(most: int) -> Task:
    """A task that asks for a million gigabytes as soon as a batch is larger than so many examples."""

    def loss(model: nn.Module, batch: Any) -> Tensor:
        x, y = batch
        if len(x) > most:
            torch.empty(2**50)
        return nn.functional.mse_loss(model(x), y)

    return replace(linear(), loss=loss, name="greedy", source=f"greedy {most}")


def test_a_refused_allocation_ends_the_doubling() -> None:
    found = timed(workload(greedy(8)))

    assert (sizes(found), found.end) == ([1, 2, 4, 5, 8], End.REFUSED)


def particular(*refused: int) -> Task:
    """A task whose loss raises for some sizes of a batch."""

    def loss(model: nn.Module, batch: Any) -> Tensor:
        x, y = batch
        if len(x) in refused:
            raise ValueError(f"not with {len(x)}")
        return nn.functional.mse_loss(model(x), y)

    return replace(linear(), loss=loss, name="particular", source=f"particular {refused}")


def test_a_size_that_the_task_cannot_take_is_left_out_with_its_words() -> None:
    found = timed(workload(particular(1, 16)))

    assert sizes(found) == [2, 4, 5, 8, 22]
    assert found.left_out == ((1, "ValueError: not with 1"), (16, "ValueError: not with 16"))


def test_what_the_present_size_raises_is_raised() -> None:
    work = replace(workload(linear()), task=particular(BATCH))

    with pytest.raises(InputError, match="ValueError: not with 5"):
        timed(work)


def test_sizes_that_leave_batch_norm_one_example_are_left_out() -> None:
    found = timed(workload(batch_norm()), batch_size=4)

    assert sizes(found) == [2, 4, 8, 16, 22]  # 22 = 10·2 + 2 = 5·4 + 2 = 2·8 + 6
    assert found.left_out == ((1, "a last batch of one example has no statistics for BatchNorm"),)


def crowded() -> Task:
    """A task in which every example of a batch is compared with every other: the work grows as its square."""

    def make_data(seed: int) -> dict[str, Any]:
        x = torch.randn(4096, 8, generator=torch.Generator().manual_seed(seed))
        return dict.fromkeys(PART_NAMES, (x, x[:, :1]))

    def loss(model: nn.Module, batch: Any) -> Tensor:
        x, y = batch
        near = torch.softmax(-torch.cdist(x, x), 1)
        return nn.functional.mse_loss(near @ model(x), y)

    return Task(lambda: nn.Linear(8, 1), make_data, loss, name="crowded", source="crowded")


def test_the_doubling_ends_where_throughput_has_fallen_twice() -> None:
    found = timed(workload(crowded()))

    # From some 512 examples on, twice as many take four times as long.
    assert found.end == End.FALLEN
    assert sizes(found)[-1] < 4096


def test_free_memory_is_some_of_what_there_is() -> None:
    assert 2**20 < free("cpu") < 2**60


times = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=12)


def timings_of(seconds: list[float]) -> list[Timing]:
    return [Timing(2**k, s, 0.0, 1) for k, s in enumerate(seconds)]


@given(times, st.floats(0.0, 1e6))
def test_the_advice_is_the_least_predicted_time_and_its_neighbours(
    seconds: list[float], scale: float
) -> None:
    found = advise(timings_of(seconds), scale)

    by_size = dict(zip([2**k for k in range(len(seconds))], found.predicted, strict=True))
    assert found.low <= found.batch_size <= found.high
    assert by_size[found.batch_size] == min(by_size.values()) == 1.0
    assert all(by_size[size] <= NEAR * (1 + 1e-12) for size in by_size if found.low <= size <= found.high)
    for beyond in (found.low // 2, found.high * 2):
        assert by_size.get(beyond, 2 * NEAR) > NEAR


@given(times)
def test_without_noise_the_quickest_update_is_best_and_with_much_the_best_throughput(
    seconds: list[float],
) -> None:
    timings = timings_of(seconds)

    assert advise(timings, 0.0).batch_size == min(timings, key=lambda t: t.update_seconds).batch_size
    best = advise(timings, 1e30).batch_size
    throughputs = {t.batch_size: t.throughput for t in timings}
    assert throughputs[best] == pytest.approx(max(throughputs.values()), rel=1e-12)


def test_the_knee_is_the_first_size_near_the_best_throughput() -> None:
    # 1, 2, 3.7, 4 and 3.9 examples a second: the third is within a tenth of 4.
    timings = timings_of([1.0, 1.0, 4 / 3.7, 2.0, 16 / 3.9])

    assert advise(timings, 100.0).knee == 4


def test_between_equal_times_the_smaller_batch_is_taken() -> None:
    # 2 · 1 and (1 + 1/2) · 4/3.
    assert advise(timings_of([1.0, 4 / 3]), 1.0) == Advice(1, 1, 2, 2, (1.0, 1.0))


def test_one_size_is_timed_and_measured_alone():
    work = workload(linear())
    small, large = (timed_alone(work, recipe(), size, EXECUTION) for size in (1, TRAIN))

    assert (small.batch_size, large.batch_size) == (1, TRAIN)
    assert small.update_seconds > 0
    assert 0 < small.memory < large.memory

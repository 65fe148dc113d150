"""Batch, stochastic and mini-batch compared, on tasks so small that all of it can be checked."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import torch

from small_tasks import TRAIN, batch_norm, linear, network
from thalweg.api.sampling import Sampling, _Weight, compare_sampling
from thalweg.errors import InputError
from thalweg.records.sampling import IN_ORDER, SHUFFLED, WITH_REPLACEMENT, SamplingRow

RATES = {"all": 0.3, 5: 0.1, 1: 0.03}


def compared(**options: Any) -> Sampling:
    """Given rates, few epochs: a second at most."""
    usual = {"batch_sizes": ["all", 5, 1], "rate": RATES, "epochs": 2, "seeds": 2}
    return compare_sampling(network(), **{**usual, **options})


@pytest.fixture(scope="module")
def found() -> Sampling:
    return compared()


def timeless(row: SamplingRow) -> SamplingRow:
    """A row without what depends on the clock."""
    return dataclasses.replace(row, update_seconds=0.0, memory_bytes=0.0, equal_seconds=None)


def test_rows_are_the_batch_sizes_and_the_other_samplings_of_the_mini_batch(found):
    record = found.record

    assert [(r.batch_size, r.sampling, r.updates_per_epoch, r.steps) for r in record.rows] == [
        (TRAIN, SHUFFLED, 1, 2),
        (5, SHUFFLED, 5, 10),
        (1, SHUFFLED, TRAIN, 2 * TRAIN),
        (5, IN_ORDER, 5, 10),
        (5, WITH_REPLACEMENT, 5, 10),
    ]
    assert [r.name for r in record.rows] == [
        *("full batch", "batch 5", "batch 1"),
        *("batch 5, in order", "batch 5, with replacement"),
    ]
    assert all(r.counted == r.updates_per_epoch for r in record.rows)
    assert all(r.equal_epochs.epochs == r.epochs == 2 and not r.cut for r in record.rows)
    assert [r.equal_updates.updates for r in record.rows] == [2] * 5
    assert [path.name for path in record.paths] == ["full batch", "batch 5", "batch 1"]
    # All start from the same weights, whatever the batch size, at each seed.
    assert len({r.moments[0].train for r in record.rows}) == 1


def test_one_seed_gives_one_result_and_another_another(found):
    first, again, other = found.record, compared().record, compared(seed=1, samplings=["shuffled"]).record

    assert list(map(timeless, first.rows)) == list(map(timeless, again.rows))
    assert (first.variances, first.paths, first.sizes) == (again.variances, again.paths, again.sizes)
    assert first.rows[0].train_loss != other.rows[0].train_loss


@pytest.mark.slow
def test_a_fleet_and_one_after_the_other_agree_in_float64():
    one, fleet = (compared(precision="float64", executor=name).record for name in ("serial", "fleet"))

    for a, b in zip(one.rows, fleet.rows, strict=True):
        for x, y in zip(a.moments, b.moments, strict=True):
            assert np.allclose(x.train + x.validation, y.train + y.validation, rtol=1e-11, atol=0)


def test_each_takes_the_best_rate_of_the_same_grid():
    few: dict[str, Any] = {"batch_sizes": ["all", 5], "samplings": ["shuffled"], "epochs": 3, "seeds": 1}
    record = compare_sampling(linear(), **few).record

    assert len(record.grid) == 9
    for row in record.rows:
        assert tuple(t.rate for t in row.tried) == record.grid
        assert row.rate == min((t.loss, t.rate) for t in row.tried if t.loss is not None)[1]
        assert (row.edge == "highest") == (row.rate == record.grid[-1])


def test_what_takes_too_many_updates_is_cut_and_said_and_has_no_part_in_the_comparison():
    found = compared(most_updates=11)
    full, mini, single, *_ = found.record.rows

    assert [(r.cut, r.steps) for r in (full, mini, single)] == [(False, 2), (False, 10), (True, 11)]
    assert single.epochs == 0.5
    assert [r.equal_epochs.updates for r in (full, mini, single)] == [2, 10, 11]
    assert {s.optimizer for s in found.record.sizes.ranking} == {"full batch", "batch 5"}
    (said,) = [s for s in found.sentences if "instead of" in s]
    assert said.startswith("Batch 1 was trained for 0.5 epochs instead of 2")


def test_where_all_are_cut_they_are_compared_where_the_shortest_ends():
    record = compared(most_updates=11, epochs=50, samplings=["shuffled"]).record

    assert record.compared_epochs == 0.5
    assert [r.epochs for r in record.rows] == [11.0, 2 + 5 / 22, 0.5]
    assert [r.equal_epochs.updates for r in record.rows] == [1, 2, 11]  # of 1, 5 and 22 an epoch
    assert len(record.sizes.ranking) == 3


def test_batch_norm_leaves_out_single_examples_and_the_variance():
    found = compare_sampling(
        dataclasses.replace(batch_norm(), batch_size=11), rate=0.1, epochs=2, seeds=2, samplings=["shuffled"]
    )

    assert [r.batch_size for r in found.record.rows] == [TRAIN, 11]
    assert found.record.left_out[0].startswith("Batch 1 was left out")
    assert "BatchNorm" in found.record.left_out[1]
    assert found.record.variances == ()
    assert set(found.record.left_out) <= set(found.sentences)


def test_batch_norm_with_single_examples_that_were_asked_for_is_refused():
    with pytest.raises(InputError):
        compare_sampling(batch_norm(), batch_sizes=[1, 11], rate=0.1, epochs=1)


def test_a_rate_at_which_all_diverges_is_worse_than_any():
    found = compared(seeds=7, samplings=["shuffled"], rate={"all": 0.3, 5: 1e39, 1: 0.03})
    lost = found.record.row("batch 5")

    assert lost.validation_loss is None
    assert found.record.sizes.ranking[-1].optimizer == "batch 5"
    assert any(s.startswith("Batch 5 diverged on 7 of 7 seeds") for s in found.sentences)
    json.dumps(found.to_json(), allow_nan=False)


def test_answer_as_json_holds_every_number(found):
    answer = found.to_json()

    json.dumps(answer, allow_nan=False)
    assert answer["examples"] == TRAIN
    assert {"batch_size", "sampling", "updates_per_epoch", "rate", "train_loss", "validation_loss"} <= set(
        answer["rows"][0]
    )
    assert answer["rows"][0]["seconds_per_update"] > 0
    assert answer["rows"][0]["peak_memory_bytes"] > 0
    assert answer["rows"][0]["path_ratio"] >= 1 - 1e-6
    assert {v["batch_size"] for v in answer["variance"]} == {1, 2, 4, 8, 16}
    assert {v["moment"] for v in answer["variance"]} == {"start", "end"}
    assert [s["moment"] for s in answer["slopes"]] == ["start", "end"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch_sizes": [0]}, "batch_sizes of the comparison must be a whole number"),
        ({"batch_sizes": [23]}, "each batch size must be at most the 22 examples"),
        ({"batch_sizes": []}, "the batch sizes must be at least one"),
        ({"samplings": ["sorted"]}, "the samplings must be among shuffled, in order and with replacement"),
        ({"samplings": []}, "the samplings must be at least one"),
        ({"rate": -1.0}, "rate of the comparison must be"),
        ({"rate": {5: 0.1}}, "the rates must be given for each batch size once: 22, 5 and 1; got for 5"),
        ({"rate": {**RATES, TRAIN: 0.5}}, "once: 22, 5 and 1; got for all, 5, 1 and 22"),
        ({"rate": {**RATES, "x": 0.1}}, "once: 22, 5 and 1; got for all, 5, 1 and x"),
        ({"rate": {"all": 0.1, "x": 0.1, 1: 0.1}}, "once: 22, 5 and 1; got for all, x and 1"),
        (
            {"epochs": 0.3},
            "epochs of the comparison must make an update of the largest batch, and be at least 1",
        ),
        ({"seeds": 0}, "seeds of the comparison must be"),
        ({"most_updates": 0}, "most_updates of the comparison must be"),
        ({"executor": "processes"}, "the executor must be one of auto, serial, fleet"),
        ({"optimizer": "sdg"}, "sgd"),
        ({"precision": "float8"}, "precision of the recipe must be"),
        ({"epochs": 0}, "epochs of the budget must be"),
    ],
)
def test_what_cannot_work_is_refused_in_words(options, said):
    with pytest.raises(InputError) as error:
        compared(**options)
    assert said in str(error.value)


def test_a_bar_comes_to_its_end_where_an_update_takes_less_than_what_it_counts_in():
    seen: list[int] = []

    class Counting:
        def advance(self, count: int) -> None:
            seen.append(count)

    weight = _Weight(Counting(), 0.0003)  # milliseconds are counted
    for _ in range(1000):
        weight(1)

    assert sum(seen) in (299, 300)  # the last part of one may be left


def test_everything_runs_on_as_many_threads_as_are_said():
    # Small gradients on two threads wait for each other: on a busy machine twenty times as long as on one.
    small, counts = network(), set()

    def loss(model: Any, batch: Any) -> Any:
        counts.add(torch.get_num_threads())
        return small.loss(model, batch)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        task = dataclasses.replace(small, loss=loss)
        compare_sampling(task, batch_sizes=["all", 5], rate=0.1, epochs=1, seeds=2, executor="serial")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)

    assert counts == {1}

"""What make_data may return, how it is split, what is refused."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from thalweg.errors import TaskError
from thalweg.tasks import Classification, Data, as_data, split
from thalweg.tasks.data.part import DatasetPart, TensorPart, leaves
from thalweg.tasks.data.split import indices, kept_aside, tenth

X, Y = np.arange(60.0).reshape(30, 2), np.arange(30) % 3


class Squares(Dataset[Any]):
    """Items (float array, whole number): i, i²."""

    def __init__(self, length: int = 20) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> Any:
        return np.array([float(i)]), i * i


class Endless(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return itertools.count()


def sizes(data: Data) -> tuple[int, int, int]:
    return data.train.examples, data.validation.examples, data.test.examples


def firsts(data: Data) -> list[Any]:
    """The first field of all three parts, as lists."""
    return [leaves(next(p.batches(10**6)))[0].tolist() for p in (data.train, data.validation, data.test)]


@pytest.mark.parametrize(
    "part",
    [X, torch.tensor(X), (X, Y), {"x": X, "y": Y}, Squares(30), TensorDataset(torch.tensor(X)), ((X, Y),)],
    ids=["array", "tensor", "tuple", "dict", "dataset", "TensorDataset", "tuple of one part"],
)
def test_one_part_is_split_80_10_10_without_loss(part: Any) -> None:
    data = as_data(part, seed=0)

    assert sizes(data) == (24, 3, 3)
    train, validation, test = firsts(data)
    whole = firsts(as_data(dict.fromkeys(("train", "validation", "test"), part), seed=0))[0]
    assert sorted(train + validation + test) == sorted(whole)


def test_of_two_parts_validation_is_split_off_the_training_part() -> None:
    data = as_data(((X, Y), (X[:5], Y[:5])), seed=0)

    assert sizes(data) == (27, 3, 5)
    train, validation, test = firsts(data)
    assert sorted(train + validation) == X.tolist()
    assert test == X[:5].tolist()


def test_three_parts_are_taken_as_they_are() -> None:
    data = as_data(((X, Y), (X[:4], Y[:4]), (X[:5], Y[:5])), seed=0)

    assert firsts(data) == [X.tolist(), X[:4].tolist(), X[:5].tolist()]


@pytest.mark.parametrize(
    ("given_names", "expected"),
    [
        (("train",), (24, 3, 3)),
        (("train", "test"), (27, 3, 30)),
        (("train", "validation"), (27, 30, 3)),
        (("train", "validation", "test"), (30, 30, 30)),
    ],
)
def test_each_part_missing_from_a_dict_takes_a_tenth_of_the_training_part(
    given_names: tuple[str, ...], expected: tuple[int, int, int]
) -> None:
    assert sizes(as_data(dict.fromkeys(given_names, (X, Y)), seed=0)) == expected


def test_a_split_depends_on_the_seed_and_on_nothing_else() -> None:
    assert firsts(as_data((X, Y), seed=1)) == firsts(as_data((X, Y), seed=1))
    assert firsts(as_data((X, Y), seed=1)) != firsts(as_data((X, Y), seed=2))


@given(st.integers(0, 99), st.lists(st.integers(2, 60), min_size=2, max_size=4))
def test_a_split_keeps_the_mix_of_classes_within_one_example(seed: int, counts: list[int]) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    n = len(labels)
    train, validation, test = indices(n, 2, seed, labels)

    assert sorted(np.concatenate([train, validation, test])) == list(range(n))
    assert len(validation) == len(test) == tenth(n)
    for k, m in enumerate(counts):
        # one part is exact to one example; the second is drawn from what the first left
        assert abs(np.sum(labels[validation] == k) - m * tenth(n) / n) < 1
        assert abs(np.sum(labels[test] == k) - m * tenth(n) / n) < 2


@given(st.integers(1, 100), st.data())
def test_exactly_the_wanted_number_is_kept_aside(n: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, n))

    assert kept_aside(count, np.arange(n)).sum() == count


def test_every_example_is_equally_likely_to_be_kept_aside() -> None:
    draws = 4000
    times = sum(np.bincount(indices(10, 1, seed)[1], minlength=10) for seed in range(draws))

    # binomial(4000, 0.1) has deviation 19; 4.5 of them, for ten counts; the seeds are fixed
    assert np.abs(times - draws / 10).max() < 85


def test_declared_classes_are_mixed_evenly_in_the_parts() -> None:
    data = as_data((X, np.repeat([0, 1], [20, 10])), seed=3, kind=Classification(2))

    counts = [np.bincount(p.fields[1].numpy()).tolist() for p in (data.validation, data.test)]  # type: ignore[attr-defined]
    assert counts == [[2, 1], [2, 1]]


def test_split_cuts_arrays_alike() -> None:
    train, validation, test = split({"x": X, "y": X[:, 0]}, seed=0, labels=Y)

    assert [len(p["x"]) for p in (train, validation, test)] == [24, 3, 3]
    assert all((p["x"][:, 0] == p["y"]).all() for p in (train, validation, test))


def test_three_examples_are_the_fewest_that_can_be_split() -> None:
    assert sizes(as_data(X[:3], seed=0)) == (1, 1, 1)
    with pytest.raises(TaskError, match="at least 3 examples, one for each part; got 2"):
        as_data(X[:2], seed=0)


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.ones(3, np.float64), torch.float32),
        (np.ones(3, np.longdouble), torch.float32),
        (np.ones(3, np.float16), torch.float16),
        (np.ones(3, ">f8"), torch.float32),
        (np.ones(3, ">f4"), torch.float32),
        (np.ones(3, np.int32), torch.int64),
        (np.ones(3, np.uint8), torch.int64),
        (np.ones((3, 2), np.uint8), torch.uint8),
        (np.ones(3, np.bool_), torch.bool),
        (torch.ones(3, dtype=torch.float64), torch.float64),
    ],
)
def test_arrays_become_tensors_by_one_rule_of_types(array: Any, dtype: torch.dtype) -> None:
    part = (array, array)
    train = as_data((part, part, part), seed=0).train

    assert [x.dtype for x in train.batch(np.array([0]))] == [dtype, dtype]


def test_arrays_of_any_layout_keep_their_values() -> None:
    frozen = X.copy()
    frozen.flags.writeable = False
    for array in (X[::-1], X.T[:, ::2], frozen, np.asfortranarray(X)):
        train = as_data({"train": array, "validation": array, "test": array}, seed=0).train

        assert train.batch(np.arange(len(array))).tolist() == array.tolist()


def test_a_batch_has_the_examples_asked_for_in_their_order() -> None:
    part = TensorPart({"x": torch.arange(10), "pair": (torch.arange(10) * 2,)})

    for asked in (np.array([7, 0, 7]), torch.tensor([7, 0, 7])):
        batch = part.batch(asked)
        assert batch["x"].tolist() == [7, 0, 7]
        assert batch["pair"][0].tolist() == [14, 0, 14]


def test_a_dataset_gives_the_same_batches_as_its_tensors() -> None:
    x, y = DatasetPart(Squares()).batch(np.array([3, 1]))

    assert x.tolist() == [[3.0], [1.0]]
    assert y.tolist() == [9, 1]
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)


@pytest.mark.parametrize("part", [TensorPart(torch.arange(20)), DatasetPart(range(20))])
@pytest.mark.parametrize("size", [1, 7, 20, 50])
def test_batches_visit_every_example_once_in_order(part: TensorPart | DatasetPart, size: int) -> None:
    batches = list(part.batches(size))

    assert torch.cat(batches).tolist() == list(range(20))
    assert all(len(b) == min(size, 20) for b in batches[:-1])


def test_another_precision_reaches_floating_numbers_only() -> None:
    for data in (as_data((X, Y), seed=0), as_data(Squares(), seed=0)):
        x, y = data.to(torch.float64).train.batch(np.array([0]))

        assert (x.dtype, y.dtype) == (torch.float64, torch.int64)


def loader() -> DataLoader[Any]:
    return DataLoader(Squares())


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (loader(), r"training data of t must be the data.*got a DataLoader. Return its \.dataset instead"),
        ((loader(), loader()), "got a DataLoader"),
        ({"train": (X, Y), "test": loader()}, "test data of t must be the data.*got a DataLoader"),
        ({"x": loader()}, "got a DataLoader"),
        (None, "training data of t must be tensors, arrays or map-style datasets; got NoneType None"),
        (Endless(), "must be tensors, arrays or map-style datasets; got Endless"),
        ("mnist", "got str 'mnist'"),
        (np.array(["a", "b"]), "hold numbers, one row an example; got an array of <U1"),
        (torch.tensor(1.0), "hold numbers, one row an example; got"),
        ((X, Y[:-1]), "equally many examples in each of its arrays; got 30, 29"),
        ((), "equally many examples in each of its arrays; got nothing"),
        (X[:0], "at least one example; got none"),
        (Squares(0), "at least one example; got none"),
        (np.where(X == 58.0, np.nan, X), "be finite numbers; got NaN or infinity at example 29"),
        (np.where(X == 4.0, np.inf, X), "NaN or infinity at example 2"),
        ({"train": X, "vaildation": X}, "got 'vaildation'. Did you mean validation"),
        ({"validation": X, "test": X}, "have a part named train; got validation, test"),
        (((X, Y), (X, Y), (X, Y), (X, Y)), "one, two or three parts; got 4 parts"),
        ((X, {"a": X}), "be built alike"),
    ],
)
def test_what_is_no_data_is_refused_in_words(returned: Any, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        as_data(returned, seed=0, owner="t")


@pytest.mark.parametrize("bad", [-1, 3])
def test_labels_outside_the_classes_are_refused_with_their_place(bad: int) -> None:
    labels = Y.copy()
    labels[7] = bad
    with pytest.raises(TaskError, match=f"whole numbers from 0 to 2; got {bad} at example 7"):
        as_data((X, labels), seed=0, kind=Classification(3))


def test_labels_of_a_dict_stand_under_a_declared_key() -> None:
    kind = Classification(2, labels="y")
    with pytest.raises(TaskError, match="whole numbers from 0 to 1; got 2 at example 2"):
        as_data({"x": X, "y": Y}, seed=0, kind=kind)
    with pytest.raises(TaskError, match=r'nothing at -1\. Write Classification\(3, labels="KEY"\)'):
        as_data({"x": X, "y": Y}, seed=0, kind=Classification(3))


def test_items_that_cannot_be_collated_are_refused_in_words() -> None:
    part = DatasetPart([torch.zeros(2), torch.zeros(3)])
    with pytest.raises(TaskError, match=r"items of list must be tensors.*of one shape"):
        part.batch(np.array([0, 1]))


def test_fewer_than_two_classes_are_refused() -> None:
    with pytest.raises(TaskError, match="at least 2; got 1"):
        Classification(1)


def test_batches_are_copies_so_that_a_loss_may_work_in_place() -> None:
    part = TensorPart((torch.arange(6.0).reshape(3, 2), torch.tensor([0, 1, 1])))

    for x, y in part.batches(2):
        x.mul_(0)
        y.add_(5)

    assert part.fields[0].flatten().tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert part.fields[1].tolist() == [0, 1, 1]

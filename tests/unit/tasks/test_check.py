"""What cannot work is said before any work, and the trying leaves no trace."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from thalweg.errors import TaskError
from thalweg.records import Direction
from thalweg.tasks import Checked, check_task
from unit.tasks.toy import loss, make_data, make_task


def accuracy(model: nn.Module, batch: Any) -> dict[str, Any]:
    right = (model(batch[0]).argmax(1) == batch[1]).float()
    return {"accuracy": right.mean(), "recall": (right.sum(), 3), "top": 0.5}


def test_a_good_task_is_told_apart_by_its_parameters_and_ranking() -> None:
    task = make_task(metrics=accuracy, directions={"top": "higher"})

    assert check_task(task, task.data(0), 8) == Checked(
        parameters=10, metric="accuracy", direction=Direction.HIGHER, metrics=("accuracy", "recall", "top")
    )
    assert check_task(make_task(), task.data(0), 8) == Checked(10, "loss", Direction.LOWER, ())


def test_a_dataset_is_tried_like_tensors() -> None:
    task = make_task(make_data=lambda seed: TensorDataset(*make_data(seed)))

    assert check_task(task, task.data(0), 48).parameters == 10


def test_checking_leaves_no_trace_in_the_random_numbers() -> None:
    task = make_task(metrics=lambda m, b: {"error": torch.rand(()) + np.random.rand() + random.random()})
    before = (torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate())  # type: ignore[index,union-attr]
    check_task(task, task.data(0), 8)

    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index,union-attr]
    assert random.getstate() == before[2]


@pytest.mark.parametrize("batch_size", [0, -1, 49, 2.0, True])
def test_a_batch_size_beyond_the_training_data_is_refused(batch_size: Any) -> None:
    task = make_task()
    with pytest.raises(TaskError, match=r"from 1 to 48, the number of training examples; got"):
        check_task(task, task.data(0), batch_size)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"make_model": lambda: nn.Linear}, r"return an nn.Module; got <class .*Call the class"),
        ({"make_model": lambda: None}, "return an nn.Module; got None. Did it forget to return"),
        ({"make_model": nn.ReLU}, "model of toy must have parameters to train; got none"),
        ({"loss": lambda m, b: loss(m, b).item()}, "return a scalar tensor; got .*without .item"),
        ({"loss": lambda m, b: None}, "return a scalar tensor; got None"),
        ({"loss": lambda m, b: m(b[0])}, r"return a scalar, the mean over the batch; got shape \(8, 2\)"),
        ({"loss": lambda m, b: loss(m, b).reshape(1)}, r"got shape \(1,\). Add .mean"),
        ({"loss": lambda m, b: loss(m, b) * torch.inf}, "be finite before the first step; got inf"),
        ({"loss": lambda m, b: loss(m, b) * torch.nan}, "be finite before the first step; got nan"),
        ({"loss": lambda m, b: loss(m, b).detach()}, "depend on the parameters"),
        ({"loss": lambda m, b: torch.ones((), requires_grad=True) * 2}, "depend on the parameters"),
        ({"loss_weight": lambda b: 0.0}, "loss_weight of toy must return a finite number above 0; got 0.0"),
        ({"loss_weight": lambda b: b[1]}, "return a finite number above 0; got tensor"),
        ({"metrics": lambda m, b: 0.5}, "return a dict of named values; got 0.5"),
        ({"metrics": lambda m, b: {}}, "return a dict of named values"),
        ({"metrics": lambda m, b: {"accuracy": "high"}}, "accuracy in metrics of toy must be a number or a"),
        ({"metrics": lambda m, b: {"accuracy": m(b[0])}}, "must be a number or a pair"),
        ({"metrics": lambda m, b: {"accuracy": (1, 2, 3)}}, "must be a number or a pair"),
        (
            {"metrics": lambda m, b: {"speed": 1.0}},
            'metric speed of toy must have a direction.*{"speed": "higher"}',
        ),
        ({"metrics": lambda m, b: {"loss": 1.0}}, "differ from loss, which is always measured"),
    ],
)
def test_what_cannot_work_is_refused_in_words(change: dict[str, Any], message: str) -> None:
    task = make_task(**change)
    with pytest.raises(TaskError, match=message):
        check_task(task, task.data(0), 8)


def test_labels_of_a_dataset_are_checked_in_the_batch_that_is_tried() -> None:
    task = make_task(make_data=lambda seed: TensorDataset(*make_data(seed)))
    data = task.data(0)
    items = [(x, y + 5) for x, y in zip(*make_data(0), strict=True)]
    wrong = make_task(make_data=lambda seed: (items_dataset(items),))
    check_task(task, data, 8)
    with pytest.raises(TaskError, match="whole numbers from 0 to 1; got"):
        check_task(wrong, wrong.data(0), 8)


def items_dataset(items: list[Any]) -> Any:
    class Items(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return len(items)

        def __getitem__(self, i: int) -> Any:
            return items[i]

    return Items()


def test_an_error_in_a_metric_is_shown_at_its_line() -> None:
    def metrics(model: nn.Module, batch: Any) -> dict[str, Any]:
        return {"accuracy": model(batch[2])}

    task = make_task(metrics=metrics)
    with pytest.raises(TaskError) as caught:
        check_task(task, task.data(0), 8)

    assert str(caught.value).startswith(
        "metrics of toy must run without an error; got IndexError: tuple index out of range. "
        "It was raised here:\n  test_check.py, line "
    )
    assert str(caught.value).endswith('in metrics\n    return {"accuracy": model(batch[2])}')

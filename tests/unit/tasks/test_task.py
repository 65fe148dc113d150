"""The task as a value: its data, weights, directions and identity."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from thalweg.errors import TaskError
from thalweg.records import Direction
from thalweg.tasks import Data, as_data
from thalweg.tasks.data.part import TensorPart
from thalweg.tasks.user_code import isolated_random, user_code
from unit.tasks.toy import loss, make_task


def test_data_and_weights_are_those_of_their_seed() -> None:
    task = make_task()
    for make in (lambda s: task.data(s).train.batch(np.arange(48))[0], lambda s: task.model(s).weight):
        torch.manual_seed(1)
        first = make(3)
        torch.manual_seed(2)

        assert torch.equal(make(3), first)
        assert not torch.equal(make(4), first)


def test_making_data_and_models_leaves_the_global_random_numbers_alone() -> None:
    task = make_task()
    before = torch.get_rng_state()
    task.data(0)
    task.model(0)

    assert torch.equal(torch.get_rng_state(), before)


def test_a_batch_weighs_as_many_as_its_examples_unless_the_task_says_otherwise() -> None:
    batch = (torch.zeros(7, 4), torch.zeros(7))

    assert make_task().weight(batch) == 7
    assert make_task(loss_weight=lambda b: 2.5).weight(batch) == 2.5


def test_known_metrics_have_a_direction_and_declared_ones_come_first() -> None:
    task = make_task(directions={"speed": "higher", "error": Direction.HIGHER})

    found = [task.direction(name) for name in ("accuracy", "f1", "rmse", "speed", "error")]
    assert [str(d) for d in found] == ["higher", "higher", "lower", "higher", "higher"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": None}, "loss of toy must be a function; got None"),
        ({"metrics": 3}, "metrics of toy must be a function; got 3"),
        ({"kind": "classification"}, r"be Classification\(classes\) or Regression\(\); got 'classification'"),
        ({"directions": {"speed": "up"}}, "direction of speed in toy must be .*; got 'up'"),
    ],
)
def test_what_is_no_task_is_refused_at_once(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        make_task(**change)


def test_the_fingerprint_is_the_same_every_time() -> None:
    task = make_task()

    prints = {
        task.fingerprint(task.data(0)),
        task.fingerprint(task.data(0)),
        make_task().fingerprint(task.data(0)),
    }
    assert len(prints) == 1
    assert len(prints.pop()) == 64


def test_the_fingerprint_sees_every_byte_of_the_data() -> None:
    task = make_task()
    data = task.data(0)
    prints = {task.fingerprint(data)}
    for part in (data.train, data.validation, data.test):
        x, y = part.fields  # type: ignore[attr-defined]
        x[-1, -1] += 1e-6 * (1 + x[-1, -1].abs())
        prints.add(task.fingerprint(data))
        y[0] = 1 - y[0]
        prints.add(task.fingerprint(data))

    assert len(prints) == 7


def test_the_fingerprint_sees_type_structure_and_a_datasets_items() -> None:
    task = make_task()
    data = task.data(0)
    variants = [
        data,
        data.to(torch.float64),
        task.data(1),
        Data(data.train, data.test, data.validation),
        as_data({"train": {"x": torch.zeros(3)}}, 0),
        as_data({"train": {"y": torch.zeros(3)}}, 0),
        *(as_data((items, items, items), 0) for items in (range(5), range(6), range(1, 6))),
    ]

    assert len({task.fingerprint(d) for d in variants}) == len(variants)


def test_the_fingerprint_sees_the_source_the_model_and_closed_over_values() -> None:
    def weighted(gamma: float) -> Any:
        return lambda model, batch: gamma * loss(model, batch)

    tasks = [
        make_task(),
        make_task(source="x"),
        make_task(source="y"),
        make_task(make_model=lambda: nn.Linear(4, 2, bias=False)),
        make_task(loss=weighted(1.0)),
        make_task(loss=weighted(2.0)),
    ]
    data = tasks[0].data(0)

    assert len({task.fingerprint(data) for task in tasks}) == len(tasks)


def scaled_loss(model: nn.Module, batch: Any, scale: float) -> torch.Tensor:
    return scale * loss(model, batch)


def test_the_fingerprint_sees_arguments_of_partials_and_what_functions_use() -> None:
    def helper(x: float) -> float:
        return x

    class Net(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(-x)

    class OtherNet(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x)

    OtherNet.__name__ = "Net"  # the same layers, so the model prints the same
    tasks = [
        make_task(loss=partial(scaled_loss, scale=1.0)),
        make_task(loss=partial(scaled_loss, scale=2.0)),
        make_task(loss=lambda model, batch: helper(1.0) * loss(model, batch)),
        *(make_task(make_model=lambda net=net: net(4, 2)) for net in (Net, OtherNet)),
        *(make_task(make_model=partial(net, 4, 2)) for net in (Net, OtherNet)),
    ]
    data = tasks[0].data(0)
    prints = [task.fingerprint(data) for task in tasks]

    assert len(set(prints)) == len(tasks)


class Weighted:
    """A loss with attributes, without a representation of its own."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__ |= attributes

    def __call__(self, model: nn.Module, batch: Any) -> torch.Tensor:
        return loss(model, batch)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (1, 2),
        ([1.0, 5.0], [1.0, 10.0]),
        ({"k": 1}, {"j": 1}),
        ((1, (2,)), (1, 2)),
        (torch.tensor([1.0, 5.0]), torch.tensor([1.0, 5.000001])),
        (np.arange(5), np.arange(5.0)),
        (np.array(["a"]), np.array(["b"])),
        (nn.CrossEntropyLoss(torch.tensor([1.0, 5.0])), nn.CrossEntropyLoss(torch.tensor([1.0, 6.0]))),
        (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.1)),
        (Weighted(w=[1]), Weighted(w=[2])),
        (Weighted(w=1).__call__, Weighted(w=2).__call__),
        (torch.relu, torch.tanh),
        (nn.ReLU, nn.Tanh),
        (np, torch),
    ],
)
def test_the_fingerprint_sees_the_values_that_a_loss_uses(a: Any, b: Any) -> None:
    def using(value: Any) -> Any:
        return lambda model, batch: (value, loss(model, batch))[1]

    first, second = (make_task(loss=using(value)) for value in (a, b))
    data = first.data(0)
    prints = [first.fingerprint(data), second.fingerprint(data), make_task(loss=using(a)).fingerprint(data)]

    assert prints[0] == prints[2] != prints[1]
    assert make_task(loss=Weighted(w=a)).fingerprint(data) != make_task(loss=Weighted(w=b)).fingerprint(data)


def test_functions_without_text_are_told_apart_by_their_code() -> None:
    def typed(text: str) -> Any:
        names: dict[str, Any] = {"base": loss}
        exec(text, names)
        return names["loss"]

    texts = ["1.0 * base(model, batch)", "2.0 * base(model, batch)", "(lambda: 3.0)() * base(model, batch)"]
    tasks = [make_task(loss=typed(f"def loss(model, batch): return {t}")) for t in (*texts, texts[0])]
    data = tasks[0].data(0)
    prints = [task.fingerprint(data) for task in tasks]

    assert prints[0] == prints[3]
    assert len(set(prints)) == 3


def test_nested_and_half_precision_data_have_a_fingerprint() -> None:
    part = TensorPart({"a": (torch.ones(4, 2, dtype=torch.bfloat16),), "b": torch.ones(4, dtype=torch.bool)})
    data = make_task(kind=None, make_data=lambda s: (part, part, part)).data(0)

    assert len(make_task().fingerprint(data)) == 64


def test_random_numbers_inside_are_seeded_and_those_outside_go_on() -> None:
    def draw() -> tuple[float, float]:
        return torch.rand(()).item(), float(np.random.rand())

    with isolated_random(5):
        first = draw()
    outside = draw()
    with isolated_random(5):
        assert draw() == first
    assert draw() != outside


def test_an_error_that_was_never_in_the_persons_file_stays_what_it_is() -> None:
    with pytest.raises(ZeroDivisionError), user_code("loss", path=Path("elsewhere.py")):
        _ = 1 / 0


def test_an_error_in_a_notebook_is_shown_without_the_frames_of_libraries() -> None:
    with pytest.raises(TaskError) as caught, user_code("loss"):
        nn.Linear(2, 2)(torch.zeros(3))

    said = str(caught.value)
    assert said.count(", line ") == 1
    assert said.endswith("nn.Linear(2, 2)(torch.zeros(3))")

"""What kernels must know of tensors before each step, by torch's own tools or one by one."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from thalweg.backends import tensors
from thalweg.backends.tensors import Likeness, Places


@pytest.fixture(params=[True, False], ids=["torch's tools", "one by one"], autouse=True)
def _tools(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run each test with and without what only some versions of torch have."""
    if not request.param:
        monkeypatch.setattr(tensors, "_TensorGuards", None)
        monkeypatch.setattr(tensors, "_ADDRESS", None)
    tensors._reader.cache_clear()
    yield
    tensors._reader.cache_clear()


def made() -> list[Any]:
    return [torch.nn.Parameter(torch.ones(2, 3)), torch.ones(4), torch.ones((), dtype=torch.bfloat16)]


class Own(torch.Tensor):
    """A tensor of another class."""


CHANGES: dict[str, Callable[[Any], Any]] = {
    "type": lambda x: x.double(),
    "shape": lambda x: torch.ones(3, 2),
    "axes": lambda x: torch.ones(6),
    "length": lambda x: torch.ones(2, 4),
    "layout": lambda x: torch.ones(3, 2).t(),
    "gaps": lambda x: torch.ones(2, 6)[:, ::2],
    "device": lambda x: x.to("meta"),
    "sparsity": lambda x: x.to_sparse(),
    "class": lambda x: x.as_subclass(Own),
    "existence": lambda x: None,
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_nature_is_noticed(change: str) -> None:
    known, now = Likeness([torch.ones(2, 3), torch.ones(4)]), [torch.ones(2, 3), torch.ones(4)]
    assert known.holds(now)
    now[0] = CHANGES[change](now[0])

    assert not known.holds(now)


def test_a_gradient_that_is_to_be_read_negated_is_another_nature() -> None:
    negated = torch.ones(3, dtype=torch.complex64).conj().imag
    assert negated.is_neg()

    assert not Likeness([torch.ones(3), negated.detach().clone()]).holds([torch.ones(3), negated])


def test_other_numbers_memory_and_histories_are_no_other_nature() -> None:
    given = made()
    known = Likeness(given)
    given[0].data = torch.zeros(2, 3)
    given[1].add_(1)

    assert known.holds(given)
    assert known.holds(made())
    with torch.no_grad():
        assert known.holds(given)


def test_no_tensors_are_like_no_tensors() -> None:
    assert Likeness([]).holds([])


def test_the_same_tensor_twice_is_like_itself() -> None:
    x = torch.ones(2)

    assert Likeness([x, x]).holds([x, x])


def test_places_are_those_of_now() -> None:
    given: list[Tensor] = made()
    places = Places(len(given))
    for _ in range(3):
        assert places.read(given).tolist() == [x.data_ptr() for x in given]
        given[0].data = torch.zeros(2, 3)
        given[1] = torch.zeros(9)[2:6]


def test_a_tensor_without_memory_lies_nowhere() -> None:
    assert Places(1).read([torch.ones(0)]).tolist() == [0]

"""The order of the examples: a closed form, which serves one model and all replicas of a fleet."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg import seeds
from thalweg.records import Direction
from thalweg.training.control import Limits
from thalweg.training.order import Order

ROOT = 7


def limits(examples: int, batch_size: int) -> Limits:
    return Limits(
        steps=1000,
        steps_per_epoch=-(-examples // batch_size),
        train_examples=examples,
        batch_size=batch_size,
        metric="loss",
        direction=Direction.LOWER,
    )


@given(
    examples=st.integers(1, 40),
    batch_size=st.integers(1, 40),
    sampling=st.sampled_from(["shuffled", "in order", "with replacement"]),
    asked=st.lists(st.integers(0, 60), min_size=1, max_size=12),
)
def test_what_an_update_sees_does_not_depend_on_what_was_asked_before(
    examples: int, batch_size: int, sampling: str, asked: list[int]
) -> None:
    batch_size = min(batch_size, examples)
    bound = limits(examples, batch_size)
    used = Order(bound, sampling, ROOT, 3)
    for step in asked:
        found = used.indices(step)
        assert found.tolist() == Order(bound, sampling, ROOT, 3).indices(step).tolist()
        place = step % bound.steps_per_epoch
        assert len(found) == min(batch_size, examples - place * batch_size)
        assert ((found >= 0) & (found < examples)).all()


@pytest.mark.parametrize("epoch", [0, 1, 17])
def test_an_epoch_is_the_order_that_the_seeds_give_cut_into_batches(epoch: int) -> None:
    bound = limits(22, 5)
    steps = range(5 * epoch, 5 * epoch + 5)

    def seen(sampling: str, seed: int = 3) -> list[int]:
        order = Order(bound, sampling, ROOT, seed)
        return np.concatenate([order.indices(step) for step in steps]).tolist()

    assert seen("shuffled") == seeds.order(ROOT, 3, epoch, 22).tolist()
    assert seen("with replacement") == seeds.draws(22, ROOT, "order", 3, epoch).tolist()
    assert seen("in order") == list(range(22)) == seen("in order", 4)
    assert sorted(seen("shuffled")) == list(range(22))
    assert seen("shuffled") != seen("shuffled", 4)

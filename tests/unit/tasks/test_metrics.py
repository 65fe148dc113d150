"""Metrics against scikit-learn, exact however the data are cut."""

from collections.abc import Callable

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given
from hypothesis import strategies as st

from thalweg.tasks import metrics
from thalweg.tasks.metrics import Pair

LABELS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=2, max_size=40)


def over_batches(metric: Callable[..., Pair], *arrays: torch.Tensor, size: int) -> float:
    pairs = [metric(*batch) for batch in zip(*(a.split(size) for a in arrays), strict=True)]
    return float(sum(top for top, _ in pairs) / sum(bottom for _, bottom in pairs))


@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
@given(LABELS, st.integers(1, 40), st.integers(0, 1))
def test_ratios_of_sums_over_batches_are_those_of_scikit_learn(
    name: str, rows: list[tuple[int, int]], size: int, positive: int
) -> None:
    said, true = torch.tensor(rows).T
    reference = getattr(sklearn.metrics, f"{name}_score")
    expected = reference(true.numpy(), said.numpy(), pos_label=positive, zero_division=np.nan)

    actual = over_batches(
        lambda a, b: getattr(metrics, name)(a, b, positive), said.contiguous(), true.contiguous(), size=size
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-6)  # counts in float32, one division


def test_accuracy_over_batches_of_unequal_size_is_the_share_of_all() -> None:
    logits = torch.eye(3)[torch.tensor([0, 1, 2, 2, 2])]

    assert over_batches(metrics.accuracy, logits, torch.tensor([0, 1, 2, 0, 1]), size=2) == pytest.approx(0.6)


def test_r2_is_scikit_learns_where_the_means_agree() -> None:
    target = torch.tensor([3.0, -1.0, -2.0, 0.0])  # mean 0, as of standardised training targets
    output = torch.tensor([2.5, 0.0, -2.0, 1.0])

    expected = sklearn.metrics.r2_score(target, output)
    assert over_batches(metrics.r2, output, target, size=3) == pytest.approx(expected)


def test_predicting_the_training_mean_has_r2_0() -> None:
    target = torch.tensor([3.0, 8.0])

    assert over_batches(lambda a, b: metrics.r2(a, b, 2.0), torch.full((2,), 2.0), target, size=1) == 0.0

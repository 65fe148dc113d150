"""Metrics as pairs (numerator, denominator), which are summed over batches and divided once.

A ratio of sums is exact however the data are cut into batches; a mean of ratios is not: precision
is not the mean of the batches' precisions. Where a denominator adds up to 0, the metric does not exist.
"""

import torch
from torch import Tensor

Pair = tuple[Tensor, Tensor]


def accuracy(logits: Tensor, labels: Tensor) -> Pair:
    """Share of examples whose largest logit is that of their label; logits (n, K), labels (n,).

    >>> right, of = accuracy(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([1, 1]))
    >>> right.item(), of.item()
    (1.0, 2.0)
    """
    right = (logits.argmax(dim=-1) == labels).to(torch.float32)
    return right.sum(), torch.ones_like(right).sum()


def precision(predicted: Tensor, labels: Tensor, positive: int = 1) -> Pair:
    """TP / (TP + FP): of those called positive, how many are; predicted classes and labels (n,)."""
    said, is_so = predicted == positive, labels == positive
    return _count(said & is_so), _count(said)


def recall(predicted: Tensor, labels: Tensor, positive: int = 1) -> Pair:
    """TP / (TP + FN): of those that are positive, how many were called so."""
    said, is_so = predicted == positive, labels == positive
    return _count(said & is_so), _count(is_so)


def f1(predicted: Tensor, labels: Tensor, positive: int = 1) -> Pair:
    """2 TP / (2 TP + FP + FN), the harmonic mean of precision and recall.

    >>> top, bottom = f1(torch.tensor([1, 1, 0, 0]), torch.tensor([1, 0, 1, 0]))
    >>> (top / bottom).item()  # precision 1/2, recall 1/2
    0.5
    """
    said, is_so = predicted == positive, labels == positive
    return 2 * _count(said & is_so), _count(said) + _count(is_so)


def r2(output: Tensor, target: Tensor, train_mean: float = 0.0) -> Pair:
    """R² = 1 − Σ (y − ŷ)² / Σ (y − ȳ)², with ȳ the mean of the *training* targets.

    scikit-learn's ``r2_score`` takes ȳ from the part that is judged, which is known only after all of
    it was seen; against the training mean the score is a ratio of sums, and says how much better the
    model is than the constant that one would have predicted. ȳ = 0 for standardised targets.

    >>> top, bottom = r2(torch.tensor([1.0, -1.0]), torch.tensor([2.0, -2.0]))
    >>> (top / bottom).item()  # 1 − 2/8
    0.75
    """
    around_mean = (target - train_mean).square().sum()
    return around_mean - (target - output).square().sum(), around_mean


def _count(which: Tensor) -> Tensor:
    return which.to(torch.float32).sum()

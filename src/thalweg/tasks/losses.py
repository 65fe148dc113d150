"""Losses as means over a batch, PyTorch's where it has them, stable at extreme logits.

Logits go in, never probabilities: −y log p fails at p = 0. Where classes are weighted, the mean is
over weights and not over examples; then a task's ``loss_weight`` is `label_weight`, so that parts of
a batch, and batches of an evaluation, add up exactly.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from thalweg.errors import TaskError


def categorical_cross_entropy(logits: Tensor, labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy −Σᵢ w_{yᵢ} log softmax(zᵢ)_{yᵢ} / Σᵢ w_{yᵢ}, over K classes.

    ``logits`` z of shape (n, K), ``labels`` y of shape (n,) in [0, K), ``class_weights`` w of shape
    (K,), all 1 when not given. PyTorch's ``cross_entropy``.

    >>> categorical_cross_entropy(torch.zeros(2, 4), torch.tensor([0, 3])).item()  # log 4
    1.3862943649291992
    """
    return functional.cross_entropy(logits, labels, weight=_weights(class_weights, logits))


def binary_cross_entropy(logits: Tensor, labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Mean binary cross-entropy Σᵢ w_{yᵢ} (log(1 + eᶻⁱ) − yᵢ zᵢ) / Σᵢ w_{yᵢ}.

    ``logits`` z and ``labels`` y ∈ {0, 1} of one shape; ``class_weights`` (w₀, w₁). PyTorch's
    ``binary_cross_entropy_with_logits``; with weights the mean is over weights, as for K classes,
    where PyTorch divides by n.

    >>> binary_cross_entropy(torch.tensor([1e4, -1e4]), torch.tensor([0, 0])).item()
    5000.0
    """
    _same_shape("binary_cross_entropy", logits, labels)
    targets = labels.to(logits.dtype)
    weights = _weights(class_weights, logits)
    if weights is None:
        return functional.binary_cross_entropy_with_logits(logits, targets)
    each = weights[labels.long()]
    total = functional.binary_cross_entropy_with_logits(logits, targets, weight=each, reduction="sum")
    return total / each.sum()


def label_weight(labels: Tensor, class_weights: Tensor) -> Tensor:
    """Return Σᵢ w_{yᵢ}, the weight of a batch's mean loss when classes are weighted.

    >>> label_weight(torch.tensor([0, 1, 1]), torch.tensor([0.5, 2.0])).item()
    4.5
    """
    return class_weights.to(labels.device)[labels.long()].sum()


def binary_focal(logits: Tensor, labels: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Mean focal loss −α_t (1 − p_t)^γ log p_t of two classes.

    p = σ(z); for y = 1, p_t = p and α_t = α; for y = 0, p_t = 1 − p and α_t = 1 − α. ``logits`` z and
    ``labels`` y ∈ {0, 1} of one shape, α in [0, 1], γ ≥ 0. Both log p_t and log(1 − p_t) are log σ(±z),
    so nothing overflows or cancels. T.-Y. Lin et al., "Focal loss for dense object detection" (2017),
    who divide by the number of foreground boxes; this is the mean over examples.

    >>> binary_focal(torch.tensor([0.0]), torch.tensor([1])).item()  # 0.25 · 0.5² · log 2
    0.043321698904037476
    """
    _same_shape("binary_focal", logits, labels)
    signed = torch.where(labels == 1, logits, -logits)
    alpha_t = torch.where(labels == 1, alpha, 1 - alpha)
    log_p, log_rest = functional.logsigmoid(signed), functional.logsigmoid(-signed)
    return -(alpha_t * torch.exp(gamma * log_rest) * log_p).mean()


def categorical_focal(
    logits: Tensor, labels: Tensor, alpha: Tensor | None = None, gamma: float = 2.0
) -> Tensor:
    """Mean focal loss −α_y (1 − p_y)^γ log p_y over K ≥ 2 classes, p = softmax(z).

    ``logits`` z of shape (n, K), ``labels`` y of shape (n,), ``alpha`` of shape (K,), all 1 when not
    given, γ ≥ 0. 1 − p_y is the sum of the other probabilities, taken in logarithms. With K = 2,
    logits (0, z) and alpha (1 − α, α) it equals `binary_focal`.

    >>> categorical_focal(torch.zeros(1, 2), torch.tensor([1])).item()  # 0.5² · log 2
    0.1732867956161499
    """
    if logits.ndim != 2 or logits.shape[-1] < 2:
        raise TaskError("logits of categorical_focal", "have shape (n, K), K ≥ 2", tuple(logits.shape))
    log_p = functional.log_softmax(logits, dim=-1)
    true = torch.arange(logits.shape[-1], device=logits.device) == labels.unsqueeze(-1)
    log_rest = torch.logsumexp(log_p.masked_fill(true, -torch.inf), dim=-1)
    log_true = log_p.masked_fill(~true, 0.0).sum(-1)
    each = -torch.exp(gamma * log_rest) * log_true
    weights = _weights(alpha, logits)
    return (each if weights is None else weights[labels] * each).mean()


def mean_squared_error(output: Tensor, target: Tensor) -> Tensor:
    """Mean of (output − target)² over all numbers; the two must have one shape.

    >>> mean_squared_error(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 4.0])).item()
    2.5
    """
    _same_shape("mean_squared_error", output, target)
    return functional.mse_loss(output, target)


def mean_absolute_error(output: Tensor, target: Tensor) -> Tensor:
    """Mean of |output − target| over all numbers; the two must have one shape.

    >>> mean_absolute_error(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 4.0])).item()
    1.5
    """
    _same_shape("mean_absolute_error", output, target)
    return functional.l1_loss(output, target)


def huber(output: Tensor, target: Tensor, delta: float = 1.0) -> Tensor:
    """Mean Huber loss: r²/2 where |r| ≤ δ, δ(|r| − δ/2) beyond, r = output − target.

    The two tensors must have one shape; δ > 0.

    >>> huber(torch.tensor([0.5, 3.0]), torch.tensor([0.0, 0.0])).item()  # (0.125 + 2.5) / 2
    1.3125
    """
    _same_shape("huber", output, target)
    return functional.huber_loss(output, target, delta=delta)


def _weights(weights: Any, like: Tensor) -> Tensor | None:
    return None if weights is None else torch.as_tensor(weights, dtype=like.dtype, device=like.device)


def _same_shape(who: str, output: Tensor, target: Tensor) -> None:
    # (n, 1) against (n,) would be broadcast to n × n without a word
    if output.shape != target.shape:
        raise TaskError(
            f"output and target of {who}",
            "have the same shape",
            f"{tuple(output.shape)} and {tuple(target.shape)}",
            "Use .squeeze(-1) or .unsqueeze(-1) on one of them.",
        )

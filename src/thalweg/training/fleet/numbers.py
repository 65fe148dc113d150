"""Numbers of replicas: one for all, or one for each."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thalweg.rules.base import Rule, Values


def stacked(rule: Rule, each: Sequence[Values]) -> Values:
    """Return hyperparameters of several replicas as one record: what all have in common stays a number."""

    def column(xs: tuple[Any, ...]) -> Any:
        if isinstance(xs[0], tuple):
            return tuple(column(entries) for entries in zip(*xs, strict=True))
        if all(x == xs[0] for x in xs):
            return xs[0]
        return np.array(xs, np.float64)

    return rule.values(
        {name: column(xs) for name, xs in zip(rule.hyper, zip(*each, strict=True), strict=True)}
    )


def _mapped(values: Values, change: Any) -> Values:
    return type(values)(*(tuple(map(change, x)) if isinstance(x, tuple) else change(x) for x in values))


def in_torch(values: Values, like: Tensor) -> Values:
    """Return hyperparameters whose arrays are tensors, where a tensor is."""
    return _mapped(
        values, lambda x: torch.as_tensor(x, device=like.device) if isinstance(x, np.ndarray) else x
    )


def chosen(values: Values, kept: np.ndarray) -> Values:
    """Return the hyperparameters of these of the replicas."""
    return _mapped(values, lambda x: at(x, kept))


def at(x: Any, kept: np.ndarray) -> Any:
    """Return what a number, or one number a replica, is for these of the replicas."""
    return np.asarray(x)[kept] if np.ndim(x) else x


def alike(x: np.ndarray) -> Any:
    """Return one number where all are alike."""
    first = x.flat[0]
    return first.item() if (x == first).all() else x


def one_each(x: Any, count: int) -> np.ndarray:
    """Return one answer a replica in NumPy."""
    array = x.cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)
    return np.broadcast_to(array.reshape(-1) if array.ndim else array, count)


def put(known: Any, where: np.ndarray, own: Any, count: int) -> Any:
    """Put the answers of one squad among those of all replicas; None: nobody has any."""
    if own is None:
        return known
    known = np.zeros(count, bool) if known is None else known
    known[where] = own
    return known


def columns(steps: Sequence[Any]) -> Any:
    """Turn the answers of several steps into one list a replica; None: none has any."""
    told = [x for x in steps if x is not None]
    if not told:
        return None
    return np.stack([np.zeros_like(told[0]) if x is None else x for x in steps]).T.tolist()

"""Of what kind a row is: what decides which text moves it."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from thalweg.backends import llvm, machine
from thalweg.backends.program import Family
from thalweg.backends.symbols import Untraceable
from thalweg.hyper import Real, Reals
from thalweg.rules.base import Rule, Scope, Values, nonzero
from thalweg.rules.tail import Row

TYPES = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
}
PLAIN = (Tensor, torch.nn.Parameter)  # what a subclass means by its address is its own affair


class Kind(NamedTuple):
    """What rows must have in common to be moved by one text."""

    family: Family
    structure: tuple[Any, ...]
    types: llvm.Types
    replicas: int
    stacked: bool  # whether there is an axis of replicas at all
    fields: tuple[int, ...]  # of the state, those with one number for each element

    @property
    def key(self) -> tuple[Any, ...]:
        """The same as a value that can be looked up."""
        return (id(self.family.rule), *self.family[1:], *self[1:])


def structure(rule: Rule, values: Values) -> tuple[Any, ...]:
    """Return what of hyperparameters decides the text of a step: all but how large numbers are."""
    found: list[Any] = []
    for (name, declared), value in zip(rule.hyper.items(), values, strict=True):
        if isinstance(declared, Real):
            found.append(None if value is None else nonzero(value))
        elif isinstance(declared, Reals):
            found.append(tuple(None if x is None else nonzero(x) for x in value))
        else:
            found.append((name, value))
    return tuple(found)


def kind_of(row: Row, dtype: torch.dtype | None = None, stochastic: bool = False) -> Kind:
    """Return the kind of a row.

    Args:
        row: a parameter with its gradient and state.
        dtype: in which to compute where there is no state; None: the gradient's.
        stochastic: whether what becomes bfloat16 is rounded by chance.

    Raises:
        Untraceable: its tensors are laid out or stored as no kernel reads them.
    """
    p, g, s = row.parameter, row.gradient, row.state
    axes = 1 if row.rule.scope is Scope.ELEMENT or p.ndim - row.replicas < 2 else 2
    numbers = _numbers(row.rule, row.values, axes)
    dense = [p, g, *(x for x, number in zip(s, numbers, strict=True) if not number)]
    for x in (*dense, *s):
        if x.is_neg() or x.is_conj() or x._is_zerotensor():
            raise Untraceable("A kernel must have tensors whose memory holds what they are.")
        if type(x) not in PLAIN:
            raise Untraceable(f"A kernel must have ordinary tensors; got {type(x).__name__}.")
        if x.layout is not torch.strided or x.device.type != "cpu" or x.dtype not in TYPES:
            raise Untraceable(f"A kernel must have dense floating-point tensors on the CPU; got {x.dtype}.")
    for x in dense:
        if x.shape != p.shape or layout(x) != layout(p) or not _compact(x):
            raise Untraceable("A kernel must have tensors without gaps, in one layout.")
    if row.replicas and not all(x.is_contiguous() for x in dense):
        raise Untraceable("A kernel must have replicas one behind the other.")
    stored = iter(TYPES[x.dtype] for x in dense[2:])
    types = (TYPES[p.dtype], TYPES[g.dtype], *(None if number else next(stored) for number in numbers))
    wide = next((TYPES[x.dtype] for x in s), TYPES[dtype or torch.promote_types(p.dtype, g.dtype)])
    if "float16" in types and not machine.reads_float16():
        raise Untraceable("A kernel must have a processor that converts float16.")
    return Kind(
        Family(row.rule, type(s), numbers, axes, row.group),
        structure(row.rule, row.values),
        llvm.Types(types, "double" if wide == "float64" else "float", stochastic),
        p.shape[0] if row.replicas else 1,
        row.replicas,
        tuple(i for i, number in enumerate(numbers) if not number),
    )


def _numbers(rule: Rule, values: Values, axes: int) -> tuple[bool, ...]:
    """Tell which buffers hold one number a parameter."""
    single = values._replace(
        **{n: x.flat[0].item() for n, x in values._asdict().items() if isinstance(x, np.ndarray) and x.ndim}
    )
    return tuple(x.size == 1 for x in rule.initial(_probe(axes), single))


@cache
def _probe(axes: int) -> np.ndarray:
    return np.zeros((2,) * axes)


def layout(x: Tensor) -> tuple[int, ...]:
    """Return the strides of the axes that have any: not of those of length 1, nor of an empty tensor."""
    if x.numel() == 0:
        return ()
    return tuple(stride for stride, size in zip(x.stride(), x.shape, strict=True) if size != 1)


def _compact(x: Tensor) -> bool:
    """Tell whether a tensor fills its memory without gaps or overlaps, in whatever order of axes."""
    if x.numel() == 0:
        return True
    expected = 1
    for stride, size in sorted((st, n) for st, n in zip(x.stride(), x.shape, strict=True) if n != 1):
        if stride != expected:
            return False
        expected *= size
    return True

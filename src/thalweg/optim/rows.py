"""From parameters of torch, with their gradients and states, to the rows that a backend moves."""

from collections.abc import Container, Mapping
from typing import Any

import torch
from torch import Tensor

from thalweg.errors import InputError
from thalweg.rules.base import Rule, Scope, State, Values, nonzero
from thalweg.rules.tail import Row


def plain(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a group holds, with a number where PyTorch allows a tensor with one element: the rate."""
    return {n: x.item() if isinstance(x, Tensor) and x.numel() == 1 else x for n, x in group.items()}


def as_real(x: Tensor) -> Tensor:
    """See a complex tensor as pairs of reals, as PyTorch's optimizers do."""
    return torch.view_as_real(x) if x.is_complex() else x


def row_of(
    rule: Rule,
    parameter: Tensor,
    gradient: Tensor,
    state: dict[str, Any],
    values: Values,
    place: int,
    multiplier: float = 1.0,
) -> Row:
    """Return the row of a parameter whose state is complete; its next step is the one that counts."""
    return Row(
        rule,
        as_real(parameter),
        as_real(gradient.resolve_conj() if gradient.is_conj() else gradient),
        buffers_of(rule, parameter, state, values),
        int(state["step"].item()) + 1,
        values,
        multiplier=multiplier,
        group=place,
    )


def buffers_of(rule: Rule, parameter: Tensor, state: Mapping[str, Any], values: Values) -> State:
    """Return the state of a parameter as the record that the rule knows."""
    kind = rule.state(values, tuple(as_real(parameter).shape))
    return kind(*(as_real(state[name]) for name in kind._fields))  # type: ignore[attr-defined]


def complete(
    rule: Rule, parameter: Tensor, state: dict[str, Any], values: Values, dtype: torch.dtype | None
) -> None:
    """Give a state what its hyperparameters need, or have come to need: a count, and buffers.

    One number a parameter is kept without axes, as PyTorch keeps it.
    """
    if "step" not in state:
        state["step"] = torch.tensor(0.0)
    real = as_real(parameter)
    missing = [name for name in rule.state_fields(values, tuple(real.shape)) if name not in state]
    if not missing:
        return
    start = rule.initial(real.to(dtype or real.dtype), values)
    for name in missing:
        buffer = getattr(start, name)
        if buffer.shape == real.shape:
            state[name] = torch.view_as_complex(buffer) if parameter.is_complex() else buffer
        else:
            single = buffer.shape == (1,) * real.ndim
            state[name] = buffer.reshape(()) if single else buffer


def taken(rule: Rule, parameter: Tensor, values: Values) -> Tensor:
    """Return the gradient of a parameter; refuse one that the rule cannot take."""
    gradient = parameter.grad
    assert gradient is not None
    numbers = "complex" if parameter.is_complex() else "floating-point"
    of_kind = gradient.is_complex() if parameter.is_complex() else gradient.is_floating_point()
    if gradient.shape != parameter.shape or not of_kind:
        raise InputError(
            f"the gradients that {rule.title} is given",
            f"have the shape of their parameters, here {tuple(parameter.shape)}, and {numbers} entries",
            f"shape {tuple(gradient.shape)} of {gradient.dtype}",
            "Let backward() make them, or assign what has the parameter's shape.",
        )
    if gradient.layout is torch.strided:
        if parameter.is_complex() and rule.scope is not Scope.ELEMENT:
            raise InputError(
                f"the parameters of {rule.title}", "be real", parameter.dtype, "Take Adam or AdamW."
            )
        return gradient
    if not (gradient.layout is torch.sparse_coo and gradient.sparse_dim() == 1 and rule.lazy):
        raise InputError(
            f"the gradients that {rule.title} is given",
            "be dense",
            f"one of layout {gradient.layout}",
            "Make the embedding with sparse=False, or call .to_dense() on the gradient.",
        )
    decay = getattr(values, "weight_decay", 0.0)
    if nonzero(decay):
        raise InputError(
            f"weight_decay of {rule.title}",
            "be 0 for parameters with sparse gradients, whose other rows do not move",
            decay,
            "Put them in a group of their own with weight_decay=0.",
        )
    return gradient.coalesce()


def rows_of(
    optimizer: Any, wanted: Container[int] | None = None
) -> tuple[list[Row], list[Tensor], list[Tensor]]:
    """Return the parameters that have a gradient as rows, the counts of their steps, and themselves.

    Args:
        optimizer: whose groups and states to read; states are completed.
        wanted: the ids of parameters to return; None: all.
    """
    rows, counts, parameters = [], [], []
    for place, group in enumerate(optimizer.param_groups):
        rule, numbers = optimizer.rule_of(group), plain(group)
        values = rule.values(numbers)
        multiplier = multiplier_of(numbers)
        for parameter in group["params"]:
            if parameter.grad is None or (wanted is not None and id(parameter) not in wanted):
                continue
            gradient = taken(rule, parameter, values)
            state = optimizer.state[parameter]
            complete(rule, parameter, state, values, optimizer.execution.state_dtype)
            counts.append(state["step"])
            parameters.append(parameter)
            rows.append(row_of(rule, parameter, gradient, state, values, place, multiplier))
    return rows, counts, parameters


def multiplier_of(numbers: Mapping[str, Any]) -> float:
    """Return what of a group's rate is a schedule's doing."""
    peak = numbers.get("initial_lr", numbers["lr"])  # PyTorch's schedulers, and ours, put it there
    return numbers["lr"] / peak if peak else 1.0

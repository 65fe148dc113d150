"""What Sophia needs to know of the curvature: products with the Hessian along random signs."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from thalweg.errors import InputError
from thalweg.optim.rows import complete, plain, row_of
from thalweg.rules.tail import refreshed


def random_signs(parameters: Sequence[Tensor], generator: torch.Generator | None = None) -> list[Tensor]:
    """Return a tensor of −1 and 1, equally likely, for each parameter.

    >>> random_signs([torch.zeros(2, 3)])[0].abs().sum().item()
    6.0
    """
    return [
        torch.randint(0, 2, p.shape, generator=generator, device=p.device).to(p.dtype) * 2 - 1
        for p in parameters
    ]


def curvature_along(loss: Tensor, parameters: Sequence[Tensor], signs: Sequence[Tensor]) -> Tensor:
    """Return ⟨∇loss, u⟩, whose gradient is Hu: u ⊙ Hu is an estimate of the diagonal of the Hessian H.

    Args:
        loss: with its graph.
        parameters: all that u has parts for; those that the loss does not depend on count as zero.
        signs: u, a tensor for each parameter, from `random_signs`.

    Hutchinson's estimator as in Sophia-H (Liu et al. 2023, arXiv 2305.14342). For x³ at 2 the second
    derivative is 12:

    >>> x = torch.tensor(2.0, requires_grad=True)
    >>> u = [torch.tensor(-1.0)]
    >>> curvature_along(x**3, [x], u).backward()
    >>> (u[0] * x.grad).item()
    12.0
    """
    gradients = torch.autograd.grad(loss, list(parameters), create_graph=True, allow_unused=True)
    products = [(g * u).sum() for g, u in zip(gradients, signs, strict=True) if g is not None]
    return sum(products[1:], products[0]) if products else loss * 0


@torch.no_grad()
def refresh(optimizer: Any, diagonal: Iterable[Tensor]) -> None:
    """Let the states of an optimizer take in an estimate of the diagonal, a tensor for each parameter.

    Under `skip_nonfinite` an estimate that is not finite is passed over whole.

    Raises:
        InputError: the method takes none, or the tensors are not those of the parameters. Nothing has
            changed then.
    """
    rule, given = optimizer.own, list(diagonal)
    shapes = [tuple(p.shape) for group in optimizer.param_groups for p in group["params"]]
    who = f"the curvature that {rule.title} is given"
    if rule.refresh is None or len(given) != len(shapes):
        must = "be left out" if rule.refresh is None else f"be {len(shapes)} tensors, one a parameter"
        raise InputError(who, must, len(given))
    if (got := [tuple(x.shape) for x in given]) != shapes:
        raise InputError(who, f"have the shapes of the parameters, {shapes}", got)
    if "skip_nonfinite_limit" in rule.hyper and not all(x.isfinite().all() for x in given):
        return
    estimates = iter(given)
    for place, group in enumerate(optimizer.param_groups):
        values = rule.values(plain(group))
        for parameter in group["params"]:
            state = optimizer.state[parameter]
            complete(rule, parameter, state, values, optimizer.execution.state_dtype)
            row = row_of(rule, parameter, torch.zeros_like(parameter), state, values, place)
            for old, new in zip(row.state, refreshed(row, next(estimates)), strict=True):
                old.copy_(new.reshape(old.shape))

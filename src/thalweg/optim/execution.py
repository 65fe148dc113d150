"""How the steps of an optimizer are carried out, which changes nothing but rounding."""

import inspect
from typing import Any, NamedTuple

import torch

from thalweg.errors import InputError
from thalweg.rules.base import Rule

# How PyTorch is to execute a step, not what it computes. They are accepted, kept in the groups so that
# PyTorch finds them again, and change nothing here.
EXECUTION_FLAGS = ("foreach", "fused", "capturable", "decoupled_weight_decay")
# Without PyTorch's decorator, which imports a compiler: that takes longer than many a training.
add_param_group: Any = inspect.unwrap(torch.optim.Optimizer.add_param_group)
zero_grad: Any = inspect.unwrap(torch.optim.Optimizer.zero_grad)
BACKENDS = ("auto", "kernels", "compiled", "eager")


class Execution(NamedTuple):
    """What was asked for."""

    state_dtype: torch.dtype | None  # of the states, and of the computation; None: the parameter's
    stochastic_rounding: bool  # of what becomes bfloat16
    backend: str  # one of BACKENDS

    @classmethod
    def checked(cls, rule: Rule, state_dtype: Any, stochastic_rounding: Any, backend: Any) -> "Execution":
        """Return what was asked for; refuse what has no meaning.

        Raises:
            InputError: no dtype that can hold states, no backend of ours, or rounding by chance of nothing.
        """
        if state_dtype is not None and not (
            isinstance(state_dtype, torch.dtype) and state_dtype.is_floating_point
        ):
            must = "be a floating dtype of torch, or None"
            raise InputError(f"state_dtype of {rule.title}", must, repr(state_dtype), "Write torch.float32.")
        if not isinstance(stochastic_rounding, bool):
            who = f"stochastic_rounding of {rule.title}"
            raise InputError(who, "be True or False", repr(stochastic_rounding))
        if stochastic_rounding and state_dtype not in (torch.float32, torch.float64):
            raise InputError(
                f"stochastic_rounding of {rule.title}",
                "come with steps that are computed in more precision than bfloat16",
                f"state_dtype={state_dtype}",
                "Pass state_dtype=torch.float32.",
            )
        if backend not in BACKENDS:
            who = f"the backend of {rule.title}"
            raise InputError(who, f"be one of {', '.join(BACKENDS)}", repr(backend))
        return cls(state_dtype, stochastic_rounding, backend)

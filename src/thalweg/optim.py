"""The methods as optimizers of PyTorch: drop-in classes, derived from the rules.

    >>> import torch
    >>> w = torch.tensor(10.0, requires_grad=True)
    >>> optimizer = Adam([w], lr=0.1)
    >>> for _ in range(2):  # minimise w²
    ...     optimizer.zero_grad()
    ...     (w**2).backward()
    ...     optimizer.step()
    >>> round(w.item(), 4)
    9.8

Everything that holds for `torch.optim.Optimizer` holds here: parameter groups, closures, hooks,
PyTorch's schedulers, `GradScaler`, `deepcopy`, `torch.save`. Names and defaults are PyTorch's, and a
`state_dict` can be exchanged with PyTorch's class of the same name in both directions, in the middle of
a run. Two departures: a bad value is refused in a parameter group too, and `load_state_dict` copies, and
keeps the dtype of the saved state instead of casting it to the parameter's.
"""

import inspect
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor

from thalweg.backends import eager
from thalweg.errors import InputError
from thalweg.rules.adagrad import ADAGRAD
from thalweg.rules.adam import ADAM, ADAMW
from thalweg.rules.base import Rule
from thalweg.rules.rmsprop import RMSPROP
from thalweg.rules.sgd import SGD as SGD_RULE
from thalweg.rules.tail import Row

__all__ = ["BY_RULE", "EXECUTION_FLAGS", "SGD", "Adagrad", "Adam", "AdamW", "RMSprop", "RuleOptimizer"]

# How PyTorch is to execute a step, not what it computes. They are accepted, kept in the groups so that
# PyTorch finds them again, and change nothing here.
EXECUTION_FLAGS = ("foreach", "fused", "capturable", "decoupled_weight_decay")


def _positions(rule: Rule) -> list[str]:
    """Return what may be passed by position. PyTorch has execution flags before `maximize`, or a bar."""
    return [name for name in rule.hyper if name != "maximize"]


class RuleOptimizer(torch.optim.Optimizer):
    """A rule as a `torch.optim.Optimizer`; use one of its subclasses.

    Args:
        params: parameters, groups of them, or named parameters, as PyTorch takes them.
        hyperparameters: by position or name, as the rule declares them.

    Raises:
        InputError: an unknown name, or a value out of range, the latter also in a group.
    """

    rule: ClassVar[Rule]

    def __init_subclass__(cls, rule: Rule) -> None:
        cls.rule = rule
        either, named = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
        options = [
            inspect.Parameter(name, either if name in _positions(rule) else named, default=h.default)
            for name, h in rule.hyper.items()
        ]
        cls.__signature__ = inspect.Signature([inspect.Parameter("params", either), *options])  # type: ignore[attr-defined]
        rows = "\n".join(f"    {name}: {h.meaning}; {h.must}" for name, h in rule.hyper.items())
        cls.__doc__ = f"{cls.__doc__}\n{rule.formula}\n\n{rows}\n\n{rule.source}"

    def __init__(self, params: Any, *positional: Any, **named: Any) -> None:
        places = _positions(self.rule)
        if len(positional) > len(places):
            raise InputError(
                self.rule.title,
                f"take at most {len(places)} hyperparameters by position",
                len(positional),
                "Pass them by name.",
            )
        by_place = dict(zip(places, positional, strict=False))
        if twice := sorted(by_place.keys() & named.keys()):
            raise InputError(
                f"{twice[0]} of {self.rule.title}", "be given once", "two values", "Pass it by name."
            )
        if named.pop("differentiable", False):
            raise InputError(
                f"differentiable of {self.rule.title}",
                "be False",
                True,
                "The step works in place and is not recorded by autograd.",
            )
        flags = {name: named.pop(name) for name in EXECUTION_FLAGS if name in named}
        super().__init__(params, self._checked(by_place | named) | flags)

    def _checked(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return all hyperparameters; a rate may be a tensor with one element, as PyTorch allows."""
        return self.rule.checked(_plain(given)) | dict(given)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with hyperparameters of their own; those not given are the defaults."""
        if isinstance(param_group, Mapping):  # anything else PyTorch itself refuses
            self._checked({n: param_group.get(n, self.defaults[n]) for n in self.rule.hyper})
        super().add_param_group(param_group)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every parameter that has a gradient; return what the closure, run first, returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.no_grad():
            ready = [self._rows(group) for group in self.param_groups]  # all, so that a refusal is in time
        for rows, counts in ready:
            eager.advance(self.rule, rows)
            for count in counts:
                count += 1
        return loss

    def _rows(self, group: dict[str, Any]) -> tuple[list[Row], list[Tensor]]:
        """Return the parameters of a group that have a gradient, and the counts of their steps."""
        values = self.rule.values(_plain(group))
        rows, counts = [], []
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            if parameter.grad.layout is not torch.strided:
                raise InputError(
                    f"the gradients that {self.rule.title} is given",
                    "be dense",
                    f"one of layout {parameter.grad.layout}",
                    "Make the embedding with sparse=False, or call .to_dense() on the gradient.",
                )
            state = self._state_of(parameter, values)
            t = 1
            if "step" in state:
                t = int(state["step"].item()) + 1
                counts.append(state["step"])
            buffers = (state[name] for name in self.rule.state_fields(values))
            p, g, *real = (_as_real(x) for x in (parameter, parameter.grad, *buffers))
            rows.append(Row(p, g, self.rule.state(values)(*real), t, values))
        return rows, counts

    def _state_of(self, parameter: Tensor, values: Any) -> dict[str, Any]:
        """Return the state of a parameter, completed with what its hyperparameters have come to need."""
        state: dict[str, Any] = self.state[parameter]
        missing = [name for name in self.rule.state_fields(values) if name not in state]
        if missing:
            start = self.rule.initial(_as_real(parameter), values)
            state.setdefault("step", torch.tensor(0.0))
            for name in missing:
                buffer = getattr(start, name)
                state[name] = torch.view_as_complex(buffer) if parameter.is_complex() else buffer
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state saved by this class or by PyTorch's of the same name.

        Tensors are copied to the parameter's device and keep their dtype.

        Raises:
            InputError: the state is another method's, or lacks a buffer. Nothing was changed then.
        """
        # Between the hooks of the user: what theirs return is loaded, and theirs see what was kept.
        final: dict[str, Any] = {}

        def examine(_: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
            self._refuse_foreign(saved)
            final.update(saved)

        last = self.register_load_state_dict_pre_hook(examine)
        first = self.register_load_state_dict_post_hook(lambda _: self._keep(final), prepend=True)
        try:
            super().load_state_dict(state_dict)
        finally:
            last.remove()
            first.remove()

    def _keep(self, state_dict: Mapping[str, Any]) -> None:
        saved = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        own = chain.from_iterable(group["params"] for group in self.param_groups)
        for place, parameter in zip(saved, own, strict=True):
            if place not in state_dict["state"]:
                continue
            self.state[parameter] = {
                name: _copied(name, value, parameter)
                for name, value in state_dict["state"][place].items()
                if value is not None  # PyTorch's SGD may store a buffer that it has not yet made
            }
            if self.state[parameter]:
                # PyTorch's SGD keeps no count; its buffer says that a step was taken.
                self.state[parameter].setdefault("step", torch.tensor(1.0))

    def _refuse_foreign(self, state_dict: Mapping[str, Any]) -> None:
        who = f"the state that {self.rule.title} loads"
        for group in state_dict["param_groups"]:
            lacking = [name for name in self.rule.hyper if name not in group and name != "maximize"]
            if lacking:
                raise InputError(
                    who, f"have {', '.join(self.rule.hyper)} in every group", f"a group without {lacking}",
                    "Load a state that the same method has saved.",
                )  # fmt: skip
            needed = self.rule.state_fields(self.rule.values({"maximize": False, **group}))
            for place in group["params"]:
                state = state_dict["state"].get(place, {})
                have = {name for name, value in state.items() if value is not None}
                if have - {"step"} and not have.issuperset(needed):
                    raise InputError(
                        who, f"have {', '.join(needed)} for parameter {place}", sorted(have),
                        "Load a state that the same method has saved.",
                    )  # fmt: skip

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("maximize", False)  # younger than some saved states of PyTorch


class SGD(RuleOptimizer, rule=SGD_RULE):
    """Gradient descent, with or without momentum."""


class Adagrad(RuleOptimizer, rule=ADAGRAD):
    """Adagrad."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters; their state is made at once, because PyTorch's Adagrad relies on finding it."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        with torch.no_grad():
            for parameter in group["params"]:
                self._state_of(parameter, self.rule.values(group))


class RMSprop(RuleOptimizer, rule=RMSPROP):
    """RMSprop, plain, centred, or with momentum."""


class Adam(RuleOptimizer, rule=ADAM):
    """Adam, and AMSGrad."""


class AdamW(RuleOptimizer, rule=ADAMW):
    """Adam with decoupled decay."""


BY_RULE: Mapping[str, type[RuleOptimizer]] = {
    cls.rule.name: cls for cls in (SGD, Adagrad, RMSprop, Adam, AdamW)
}


def _plain(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a group holds, with a number where PyTorch allows a tensor with one element: the rate."""
    return {n: x.item() if isinstance(x, Tensor) and x.numel() == 1 else x for n, x in group.items()}


def _as_real(x: Tensor) -> Tensor:
    """See a complex tensor as pairs of reals, as PyTorch's optimizers do."""
    return torch.view_as_real(x) if x.is_complex() else x


def _copied(name: str, value: Any, parameter: Tensor) -> Any:
    if name == "step":  # a tensor on the CPU, as in PyTorch; a number in states of older versions
        return torch.tensor(float(value))
    return value.to(device=parameter.device, copy=True) if isinstance(value, Tensor) else value

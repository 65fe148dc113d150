"""Two sets of weights: those that are trained, and those to evaluate with and to save."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.errors import ThalwegError
from thalweg.optim.arguments import refuse_no_model
from thalweg.optim.rows import as_real, buffers_of, complete, plain
from thalweg.rules.base import Rule

TRAINED = "trained"  # under which a state keeps the weights that are trained while the others are in place


@torch.no_grad()
def show(
    groups: list[dict[str, Any]],
    states: dict[Tensor, dict[str, Any]],
    rule_of: Callable[[dict[str, Any]], Rule],
    dtype: torch.dtype | None,
) -> None:
    """Put the weights to evaluate with in place, and keep the others in the states."""
    for group in groups:
        rule = rule_of(group)
        if rule.evaluated is None:
            continue
        values = rule.values(plain(group))
        for parameter in group["params"]:
            state = states.get(parameter)
            if not state:  # it has never moved
                continue
            complete(rule, parameter, state, values, dtype)
            real = as_real(parameter)
            state[TRAINED] = parameter.detach().clone()
            wide = real.to(dtype or real.dtype)
            real.copy_(rule.evaluated(wide, buffers_of(rule, parameter, state, values), values))


@torch.no_grad()
def bring_back(states: dict[Tensor, dict[str, Any]]) -> None:
    """Put the weights that are trained in place again, bit for bit."""
    for parameter, state in states.items():
        if TRAINED in state:
            parameter.copy_(state.pop(TRAINED))


class Attachment:
    """The watch that an optimizer keeps over a model; `remove` ends it."""

    def __init__(self, optimizer: Any, model: nn.Module) -> None:
        refuse_no_model("the model to attach to", model)
        self._optimizer = weakref.ref(optimizer)
        self._model = weakref.ref(model)
        if not isinstance(model, _Watched):
            model.__class__ = _watched_class(type(model))
        watched: Any = type(model)
        watched.watches[id(self)] = self

    def remove(self) -> None:
        """End the watch; the model is as it was."""
        model = self._model()
        if model is not None and isinstance(model, _Watched):
            watched: Any = type(model)
            watched.watches.pop(id(self), None)
            if not watched.watches:
                model.__class__ = watched.plain

    def check(self, model: nn.Module, what: str) -> None:
        """Refuse what a model is asked to do with the wrong set of weights."""
        optimizer = self._optimizer()
        if model is not self._model() or optimizer is None or not optimizer.two_faced:
            return
        title, evaluating = optimizer.rule.title, optimizer.evaluates
        if what == "train" and evaluating:
            raise ThalwegError(
                f"A model must have the weights that are trained before model.train(); got those to "
                f"evaluate with, of {title}. Call optimizer.train() first."
            )
        if what == "eval" and not evaluating:
            raise ThalwegError(
                f"A model must have the weights to evaluate with before model.eval(); got those that {title} "
                "trains. Call optimizer.eval() first, and optimizer.train() before model.train()."
            )
        if what == "save" and not evaluating:
            raise ThalwegError(
                "A model must have the weights to evaluate with before model.state_dict(); got those that "
                f"{title} trains. Call optimizer.eval() first. To go on later, save model and optimizer both "
                "so; after loading, optimizer.train() brings the weights back that are trained."
            )


class _Watched:
    """Marks the class of a model that is watched."""

    watches: dict[int, Attachment]
    plain: type[nn.Module]


def _made(how: Callable[..., Any], *given: Any) -> Any:
    """Make a copy of a model; pickle would insist on the class of the model if it did not call this."""
    return how(*given)


def _watched_class(plain: type[nn.Module]) -> Any:
    """Return a class like that of a model, whose instances ask before they switch modes or give their state.

    Copies and what is pickled are of the plain class.
    """

    class Watched(_Watched, plain):  # type: ignore[misc, valid-type]
        def train(self, mode: bool = True) -> Any:
            for watch in self.watches.values():
                watch.check(self, "train" if mode else "eval")
            return super().train(mode)

        def state_dict(self, *positional: Any, **named: Any) -> Any:
            for watch in self.watches.values():
                watch.check(self, "save")
            return super().state_dict(*positional, **named)

        def __reduce_ex__(self, protocol: Any) -> Any:
            how, given, *rest = super().__reduce_ex__(protocol)
            return (_made, (_plain(how), *(_plain(x) for x in given)), *rest)

    def _plain(x: Any) -> Any:
        return plain if x is Watched else x

    Watched.watches, Watched.plain = {}, plain
    Watched.__name__, Watched.__qualname__, Watched.__module__ = (
        plain.__name__, plain.__qualname__, plain.__module__,
    )  # fmt: skip
    Watched.__doc__ = plain.__doc__
    return Watched

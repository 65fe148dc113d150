"""States of optimizers: matched by name, checked before anything is changed, copied."""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from thalweg.errors import InputError
from thalweg.optim.arguments import positions
from thalweg.optim.routing import BECAUSE, FALLBACK
from thalweg.optim.rows import as_real, plain
from thalweg.rules.base import Rule

Group = Mapping[str, Any]
ROUTE = ("rule", BECAUSE)  # where a group goes is the optimizer's to say, not a state's
SAME_METHOD = "Load a state that the same method has saved, or see optim.convert and optim.change."


def load(
    optimizer: Any, state_dict: dict[str, Any], strict: bool, parent: Callable[[dict[str, Any]], None]
) -> None:
    """Have PyTorch load a state, examined before and completed after, between the hooks of the user.

    What their hooks return is what is loaded, and theirs see what was kept.
    """
    final: dict[str, Any] = {}

    def examine(_: torch.optim.Optimizer, saved: dict[str, Any]) -> dict[str, Any]:
        final.update(examined(saved, optimizer, strict))
        return final

    def take(_: torch.optim.Optimizer) -> None:
        keep(final, optimizer)
        optimizer.settle()

    last = optimizer.register_load_state_dict_pre_hook(examine)
    first = optimizer.register_load_state_dict_post_hook(take, prepend=True)
    try:
        parent(state_dict)
    finally:
        last.remove()
        first.remove()


def examined(saved: Mapping[str, Any], optimizer: Any, strict: bool) -> Mapping[str, Any]:
    """Return a saved state with the optimizer's groups and parameters, in their order.

    Raises:
        InputError: it does not fit.
    """
    who = f"the state that {optimizer.rule.title} loads"
    own = optimizer.param_groups
    refuse_no_state(saved, who)
    named = all(g.get("param_names") for g in (*saved["param_groups"], *own))
    if named:
        saved = _by_name(saved, own, who, strict)
    _refuse_other_groups(saved["param_groups"], own, who)
    groups = [
        {**{n: x for n, x in theirs.items() if n not in ROUTE}, **{n: mine[n] for n in ROUTE if n in mine}}
        for mine, theirs in zip(own, saved["param_groups"], strict=True)
    ]
    state = {place: dict(buffers) for place, buffers in saved["state"].items()}
    for mine, theirs, given in zip(own, groups, saved["param_groups"], strict=True):
        _refuse_foreign(state, mine, theirs, given, optimizer, who, strict)
    return {**saved, "state": state, "param_groups": groups}


def refuse_no_state(saved: Any, who: str) -> None:
    """Refuse what is no state of an optimizer."""
    if not (isinstance(saved, Mapping) and {"state", "param_groups"} <= saved.keys()):
        got = sorted(map(str, saved)) if isinstance(saved, Mapping) else type(saved).__name__
        raise InputError(who, "have state and param_groups", got, "Save optimizer.state_dict().")


def _by_name(saved: Mapping[str, Any], own: Sequence[Group], who: str, strict: bool) -> Mapping[str, Any]:
    """Return a saved state with its parameters matched by name, in the optimizer's order."""
    theirs = saved["param_groups"]
    places = {n: p for g in theirs for n, p in zip(g["param_names"], g["params"], strict=True)}
    names = [n for g in own for n in g["param_names"]]
    if strict:
        _refuse_other_names(names, places, who)
    groups: list[dict[str, Any]] = []
    state: dict[int, Any] = {}
    for mine in own:
        here = set(mine["param_names"])
        like = next((g for g in theirs if set(g["param_names"]) == here), None)
        if like is None and strict:
            first = next(g for g in theirs if here & set(g["param_names"]))
            raise InputError(
                who, "group the parameters as the optimizer does",
                f"a group of {', '.join(first['param_names'])}", "Make the same groups, or strict=False.",
            )  # fmt: skip
        numbers = {
            n: x for n, x in (mine if like is None else like).items() if n not in ("params", "param_names")
        }
        first_place = sum(len(g["params"]) for g in groups)
        ordered = list(mine["param_names"])
        groups.append(
            {**numbers, "params": [first_place + i for i in range(len(ordered))], "param_names": ordered}
        )
        for place, name in enumerate(ordered, first_place):
            if name in places and places[name] in saved["state"]:
                state[place] = saved["state"][places[name]]
    return {**saved, "state": state, "param_groups": groups}


def _refuse_other_names(names: Sequence[str], places: Mapping[str, Any], who: str) -> None:
    missing = [n for n in names if n not in places]
    extra = [n for n in places if n not in set(names)]
    if missing or extra:
        got = [f"no {', '.join(missing)}"] * bool(missing) + [f"also {', '.join(extra)}"] * bool(extra)
        raise InputError(
            who, "have the model's parameters", "; ".join(got),
            "Load the state of this model, or pass strict=False to take over what both have.",
        )  # fmt: skip


def _refuse_other_groups(theirs: Sequence[Group], own: Sequence[Group], who: str) -> None:
    sizes, expected = ([len(g["params"]) for g in groups] for groups in (theirs, own))
    if sizes != expected:
        raise InputError(
            who,
            f"have groups of {expected} parameters",
            sizes,
            "Make the same groups, or name the parameters.",
        )


def _refuse_foreign(
    state: dict[Any, dict[str, Any]],
    mine: Group,
    theirs: Group,
    given: Group,
    optimizer: Any,
    who: str,
    strict: bool,
) -> None:
    """Refuse, in words, a state that lacks what the rule of a group needs, or is another's."""
    rule: Rule = optimizer.rule_of(mine)
    bare = FALLBACK if rule.name == FALLBACK.name and optimizer.rule.least_axes else optimizer.rule
    if given.get("rule", rule.name) != rule.name:
        raise InputError(
            who, f"have its parameters moved by {rule.name}, as the optimizer does",
            given["rule"], "Route them in the same way: see optimizer.routes.",
        )  # fmt: skip
    lacking = [name for name in positions(bare) if name not in theirs]
    if lacking:
        raise InputError(
            who,
            f"have {', '.join(positions(bare))} in every group",
            f"a group without {lacking}",
            SAME_METHOD,
        )
    values = rule.values(plain(rule.defaults() | {n: x for n, x in theirs.items() if n in rule.hyper}))
    names = mine.get("param_names") or [f"parameter {place}" for place in theirs["params"]]
    for name, place, parameter in zip(names, theirs["params"], mine["params"], strict=True):
        buffers = {n: x for n, x in state.get(place, {}).items() if x is not None}
        if not buffers.keys() - {"step"}:
            continue
        shape = tuple(as_real(parameter).shape)
        kept = bare.state_fields(bare.values(plain(bare.defaults() | values._asdict())), shape)
        needed = rule.state_fields(values, shape) if strict else kept
        if absent := [n for n in needed if n not in buffers]:
            its_own = any(n in kept for n in absent)
            raise InputError(
                who, f"have {', '.join(needed)} for {name}", sorted(buffers),
                SAME_METHOD if its_own else "Pass strict=False to start anew what wrappers keep.",
            )  # fmt: skip
        meta = torch.empty(shape, dtype=as_real(parameter).dtype, device="meta")
        start = rule.initial(meta, values)
        for n in needed:
            if as_real(buffers[n]).numel() != getattr(start, n).numel():
                raise InputError(
                    who, f"have {n} of shape {tuple(getattr(start, n).shape)} for {name}",
                    tuple(buffers[n].shape), "Load the state of this model.",
                )  # fmt: skip


def keep(saved: Mapping[str, Any], optimizer: Any) -> None:
    """Put copies of the tensors of an examined state into an optimizer that PyTorch has made load it."""
    theirs = chain.from_iterable(group["params"] for group in saved["param_groups"])
    own = chain.from_iterable(group["params"] for group in optimizer.param_groups)
    for place, parameter in zip(theirs, own, strict=True):
        if place not in saved["state"]:
            continue
        optimizer.state[parameter] = {
            name: _copied(name, value, parameter)
            for name, value in saved["state"][place].items()
            if value is not None  # PyTorch's SGD may store a buffer that it has not yet made
        }
        if optimizer.state[parameter]:
            # PyTorch's SGD keeps no count; its buffer says that a step was taken.
            optimizer.state[parameter].setdefault("step", torch.tensor(1.0))


def _copied(name: str, value: Any, parameter: Tensor) -> Any:
    if name == "step":  # a tensor on the CPU, as in PyTorch; a number in states of older versions
        return torch.tensor(float(value))
    return value.to(device=parameter.device, copy=True) if isinstance(value, Tensor) else value

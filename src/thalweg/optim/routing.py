"""Which rule moves which parameter, where a rule takes matrices only."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from thalweg.errors import InputError
from thalweg.optim import roles
from thalweg.optim.rows import plain
from thalweg.rules.adam import ADAMW
from thalweg.rules.base import Rule

FALLBACK = ADAMW

# Keys of groups. Names of parameters that a rule for matrices leaves aside, with the reason; why a group went
# where it went.
NOT_HIDDEN, BECAUSE = "not_hidden", "because"
BARE = "2 axes or more"


def not_hidden(model: nn.Module) -> dict[str, str]:
    """Return the matrices that Muon's author leaves to AdamW, with the reason.

    Embeddings, the head, and the first convolution, as Jordan recommends (github.com/KellerJordan/Muon). A
    weight that is both embedding and head is tied, and comes once.

    >>> not_hidden(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 10)))
    {'0.weight': 'the first convolution', '2.weight': 'the head', '2.bias': 'the head'}
    """
    reasons = [
        ("an embedding", roles.embeddings(model)),
        ("the first convolution", roles.first_convolution(model)),
        ("the head", roles.head(model)),
    ]
    return {
        name: next(reason for reason, names in reasons if name in names)
        for name, _ in roles.trained(model)
        if any(name in names for _, names in reasons)
    }


def routed(params: Any, rule: Rule) -> Any:
    """Return what PyTorch's constructor takes, made from a model where a model was given."""
    if not isinstance(params, nn.Module):
        return params
    named = roles.trained(params)
    if not named:
        raise InputError(
            f"the model that {rule.title} is given",
            "have parameters to train",
            "none",
            "Unfreeze some of them.",
        )
    if rule.least_axes == 0:
        return named
    return [{"params": named, NOT_HIDDEN: not_hidden(params)}]


def split(group: Mapping[str, Any], rule: Rule) -> list[dict[str, Any]]:
    """Return the groups that a group becomes: one for each rule and reason.

    Raises:
        InputError: the group names a rule that is neither the optimizer's nor the one it falls back on.
    """
    rest = {name: value for name, value in group.items() if name != NOT_HIDDEN}
    if rest.get("rule", rule.name) not in (rule.name, *([FALLBACK.name] if rule.least_axes else [])):
        known = f"'{rule.name}'" + (f" or '{FALLBACK.name}'" if rule.least_axes else "")
        raise InputError(
            f"rule of a group of {rule.title}", f"be {known}", repr(rest["rule"]), "Leave it out."
        )
    if rule.least_axes == 0:
        return [rest]
    params = group["params"]
    listed = [params] if isinstance(params, Tensor) else list(params)
    if not all(isinstance(x[1] if isinstance(x, tuple) else x, Tensor) for x in listed):
        return [rest | {"params": listed}]  # which PyTorch refuses
    if "rule" in group:
        _refuse_few_axes(group["rule"], listed, rule)
        return [{**rest, "params": listed, BECAUSE: group.get(BECAUSE, "as its group says")}]
    aside = group.get(NOT_HIDDEN)
    parts: dict[tuple[str, str], list[Any]] = {}
    for each in listed:
        name, tensor = each if isinstance(each, tuple) else ("", each)
        parts.setdefault(_destination(name, tensor, aside, rule), []).append(each)
    return [
        {**rest, "params": part, "rule": taker, BECAUSE: reason} for (taker, reason), part in parts.items()
    ]


def _destination(name: str, tensor: Tensor, aside: Mapping[str, str] | None, rule: Rule) -> tuple[str, str]:
    if tensor.ndim < rule.least_axes:
        return FALLBACK.name, f"fewer than {rule.least_axes} axes"
    if aside is None:
        return rule.name, BARE
    return (FALLBACK.name, aside[name]) if name in aside else (rule.name, "hidden matrices and filters")


def _refuse_few_axes(taker: str, listed: list[Any], rule: Rule) -> None:
    shapes = [tuple((x[1] if isinstance(x, tuple) else x).shape) for x in listed]
    if taker == rule.name and (few := [shape for shape in shapes if len(shape) < rule.least_axes]):
        raise InputError(
            f"the parameters that a group gives to {rule.title}",
            f"have at least {rule.least_axes} axes",
            f"one of shape {few[0]}",
            f"Give it to '{FALLBACK.name}', or leave the group's rule out.",
        )


def checked_fallback(given: Mapping[str, Any] | None, rule: Rule) -> dict[str, Any]:
    """Return the hyperparameters that were given for the fallback.

    Raises:
        InputError: one is unknown or out of range, or the rule takes all parameters by itself.
    """
    if given is None:
        return {}
    if rule.least_axes == 0:
        raise InputError(
            f"fallback of {rule.title}", "be left out", "one", f"{rule.title} takes all parameters by itself."
        )
    if not isinstance(given, Mapping):
        raise InputError(f"fallback of {rule.title}", "be a table of names and values", repr(given))
    FALLBACK.checked(given)
    return dict(given)


def fallback_defaults(given: Mapping[str, Any], main: Mapping[str, Any], rule: Rule) -> dict[str, Any]:
    """Return the hyperparameters of the fallback: as given; else the rule's decay and a share of its rate."""
    own = rule.values(plain(main))
    beside = {"lr": own.lr * rule.rate_beside(own), "weight_decay": own.weight_decay}
    return FALLBACK.defaults() | beside | dict(given)


def words(groups: Iterable[Mapping[str, Any]], rule: Rule) -> str:
    """Say which rule moves what, and why, one line a group."""
    lines, bare = [], False
    for group in groups:
        params: list[Tensor] = group["params"]
        names = group.get("param_names") or [f"shape {tuple(p.shape)}" for p in params]
        taker = FALLBACK if group.get("rule", rule.name) == FALLBACK.name else rule
        reason = f" ({group[BECAUSE]})" if BECAUSE in group else ""
        numbers = sum(p.numel() for p in params)
        rate = float(group["lr"])
        lines.append(f"{taker.title} at {rate:.4g}{reason}: {numbers:,} numbers: {', '.join(names)}")
        bare = bare or group.get(BECAUSE) == BARE
    if bare:
        lines.append(
            "Without their model, embeddings and head cannot be told from other matrices: pass the model, or "
            f'give them a group with "rule": "{FALLBACK.name}".'
        )
    return "\n".join(lines)

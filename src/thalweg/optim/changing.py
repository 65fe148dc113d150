"""Going on with another method in the middle of a run: what means the same is carried over.

`MEMORIES` says what each buffer means. One that is a weighted sum of past gradients (or their squares) is
carried as the estimate that it holds: divided by what the weights add up to in the old method, and
multiplied by what they add up to in the new one. So a sum becomes a mean (× (1 − μ) once it has filled), and
memories may differ.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from thalweg.errors import InputError
from thalweg.optim import routing
from thalweg.optim.optimizer import RuleOptimizer
from thalweg.optim.rows import plain
from thalweg.rules.base import Rule, Values
from thalweg.rules.wrap import Applied


class Memory(NamedTuple):
    """What a buffer means: of what it is a weighted sum, and what the weights add up to after t steps."""

    of: str
    weight: Callable[[Values, int], float]
    corrected: bool  # whether the method divides by that weight: then the count of steps must go along


def _beta(place: int) -> Callable[[Values, int], float]:
    return lambda h, t: float(1 - h.betas[place] ** t)


def _sgd_weight(h: Values, t: int) -> float:
    if h.buffer == "mean":
        return float(1 - h.momentum**t)
    later = (1 - h.dampening) * (1 - h.momentum ** (t - 1)) / (1 - h.momentum)
    return float(h.momentum ** (t - 1) + later)  # the first gradient enters whole


GRADIENT, SQUARE, LARGEST = "gradients", "squared gradients", "largest mean of squared gradients"
MEAN, CORRECTED_MEAN = Memory(GRADIENT, _beta(0), False), Memory(GRADIENT, _beta(0), True)
CORRECTED_SQUARE = Memory(SQUARE, _beta(1), True)
MEAN_AND_SQUARE = {"exp_avg": CORRECTED_MEAN, "exp_avg_sq": CORRECTED_SQUARE}
# Methods that are not here, and buffers that are not, have memories that mean something only to themselves:
# sums that hold a rate (LARS, Prodigy, D-Adaptation), bases (SOAP, Shampoo), points (ASGD, Schedule-Free),
# sums over all time (Adagrad), factors (Adafactor), signs and sizes of steps (Rprop), maxima that fade
# (Adamax), curvature (Sophia).
MEMORIES: Mapping[str, Mapping[str, Memory]] = {
    "sgd": {"momentum_buffer": Memory(GRADIENT, _sgd_weight, False)},
    "adam": {**MEAN_AND_SQUARE, "max_exp_avg_sq": Memory(LARGEST, _beta(1), False)},
    "adamw": {**MEAN_AND_SQUARE, "max_exp_avg_sq": Memory(LARGEST, _beta(1), False)},
    "nadam": MEAN_AND_SQUARE,
    "radam": MEAN_AND_SQUARE,
    "lamb": MEAN_AND_SQUARE,
    "adamax": {"exp_avg": CORRECTED_MEAN},
    "rmsprop": {"square_avg": Memory(SQUARE, lambda h, t: float(1 - h.alpha**t), False)},
    "adadelta": {"square_avg": Memory(SQUARE, lambda h, t: float(1 - h.rho**t), False)},
    "lion": {"exp_avg": Memory(GRADIENT, _beta(1), False)},
    "sophia-h": {"exp_avg": MEAN},
    "sophia-g": {"exp_avg": MEAN},
    "muon": {"momentum_buffer": Memory(GRADIENT, lambda h, t: float(1 - h.momentum**t), False)},
}


def _mu_product(h: Values, t: int) -> float:
    return float(math.prod(h.betas[0] * (1 - 0.5 * 0.96 ** (i * h.momentum_decay)) for i in range(1, t + 1)))


# Buffers that follow from the hyperparameters and the count of steps.
FOLLOWING: Mapping[str, Mapping[str, Callable[[Values, int], float]]] = {"nadam": {"mu_product": _mu_product}}


def change(
    optimizer: RuleOptimizer,
    method: type[RuleOptimizer],
    *,
    lr: float,
    wrappers: Sequence[Applied] | None = None,
    fallback: Mapping[str, Any] | None = None,
    **hyperparameters: Any,
) -> RuleOptimizer:
    """Return an optimizer of another method that goes on with the same parameters, in the same groups.

    Its attribute `carried` says what was carried over and what starts anew. A memory is carried where the
    new method has one of the same thing (see `MEMORIES`), with the count of steps. A method that corrects
    its memories by the count must get all that it corrects, else none; a new memory beside an old count
    would be far too small. Memories hold what the old method received: Adam's, with its L2 penalty in it.

    Args:
        optimizer: as it stands; it is not changed, and the two share no tensor but the parameters. With
            weights to evaluate with in place, these are what the new method starts from.
        method: the class to go on with, which may be the same.
        lr: its rate. Rates of groups keep their `rate_factor`, and a group without decay stays without.
        wrappers: as for `method`; None: those of the optimizer, whose averages go on where the counts of
            steps do.
        fallback: as for `method`.
        hyperparameters: as for `method`; those not given are the groups' where both methods declare the same
            meaning, else the new method's defaults.

    Raises:
        InputError: not an optimizer of this package, or a bad value.

    >>> from thalweg import optim
    >>> w = torch.tensor(1.0, requires_grad=True)
    >>> first = optim.Adam([w], lr=0.1)
    >>> w.grad = torch.tensor(2.0)
    >>> first.step()
    >>> second = optim.change(first, optim.SGD, lr=0.1, momentum=0.9)
    >>> round(second.state[w]["momentum_buffer"].item(), 6)  # the mean 0.2 of Adam holds an estimate of 2
    2.0
    >>> print(second.carried)
    Adam → SGD: carried over momentum_buffer and the count of steps.
    """
    if not isinstance(optimizer, RuleOptimizer):
        raise InputError(
            "the optimizer to change", "be one of thalweg.optim", type(optimizer).__name__,
            "Make the class of the same name from thalweg.optim, and load its state.",
        )  # fmt: skip
    if not (isinstance(method, type) and issubclass(method, RuleOptimizer)):
        raise InputError("the method to change to", "be a class of thalweg.optim", method)
    worn = optimizer.wrappers if wrappers is None else tuple(wrappers)
    groups = [_group(optimizer, group, method.rule, hyperparameters) for group in optimizer.param_groups]
    new = method(
        groups,
        lr=lr,
        wrappers=worn,
        fallback=fallback,
        **optimizer.execution._asdict(),
        **hyperparameters,
    )
    new._model = optimizer._model
    old_groups = {p: group for group in optimizer.param_groups for p in group["params"]}
    sentences: dict[str, None] = {}
    for group in new.param_groups:
        for parameter in group["params"]:
            if parameter in optimizer.state:
                sentences[_carry(optimizer, old_groups[parameter], new, group, parameter)] = None
    new.carried = "\n".join(sentences) or "Nothing was carried over: no step had been taken."
    return new


def _group(
    optimizer: RuleOptimizer, group: Mapping[str, Any], rule: Rule, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a group for the new method."""
    old = optimizer.rule_of(group)
    names = group.get("param_names")
    params = list(zip(names, group["params"], strict=True)) if names else list(group["params"])
    made = {n: group[n] for n in ("rate_factor", "description") if n in group} | {"params": params}
    for name, declared in rule.hyper.items():
        known = old.hyper.get(name)
        same = known is not None and known.meaning == declared.meaning and declared.accepts(group[name])
        if same and name not in given and name != "lr":
            made[name] = group[name]
    if group.get("weight_decay") == 0 and optimizer.defaults.get("weight_decay") != 0:
        made["weight_decay"] = 0.0
    model = optimizer._model()
    if rule.least_axes and optimizer.rule.least_axes:
        made["rule"] = routing.FALLBACK.name if old.name == routing.FALLBACK.name else rule.name
        made[routing.BECAUSE] = group[routing.BECAUSE]
    elif rule.least_axes and model is not None:
        made[routing.NOT_HIDDEN] = routing.not_hidden(model)
    return made


def _carry(
    old: RuleOptimizer,
    old_group: Mapping[str, Any],
    new: RuleOptimizer,
    group: Mapping[str, Any],
    parameter: Tensor,
) -> str:
    """Carry over what one parameter may keep, and say so."""
    rules = old.rule_of(old_group), new.rule_of(group)
    values = tuple(rule.values(plain(g)) for rule, g in zip(rules, (old_group, group), strict=True))
    state, t = old.state[parameter], int(old.state[parameter]["step"].item())
    title = f"{rules[0].title} → {rules[1].title}"
    kept = _memories(rules, values, state, t, parameter)
    real = torch.view_as_real(parameter) if parameter.is_complex() else parameter
    fields = rules[1].state_fields(values[1], tuple(real.shape))
    needed = [n for n, m in MEMORIES.get(rules[1].name, {}).items() if m.corrected and n in fields]
    if rules[0].name == rules[1].name and values[0].maximize == values[1].maximize:
        kept = {n: x.clone() for n, x in state.items() if n in fields} | kept
        new.set_scalars(old.scalars())
    elif not kept or any(n not in kept for n in needed):
        return f"{title}: nothing was carried over; {', '.join([*fields, 'the count of steps'])} starts anew."
    else:
        for name, follow in FOLLOWING.get(rules[1].name, {}).items():
            kept[name] = torch.as_tensor(follow(values[1], t), dtype=next(iter(kept.values())).dtype)
        worn = {a.wrapper.name for a in old.wrappers} & {a.wrapper.name for a in new.wrappers}
        averages = [n for n in fields if n in state and any(n.startswith(f"{w}_") for w in worn)]
        kept |= {n: state[n].clone() for n in averages}
    new.state[parameter] = {"step": state["step"].clone(), **kept}
    new._complete_state(rules[1], parameter, values[1])
    carried = ", ".join([n for n in fields if n in kept]) + (" and " if kept else "")
    anew = [n for n in fields if n not in kept]
    return f"{title}: carried over {carried}the count of steps" + (
        f"; {', '.join(anew)} starts anew." if anew else "."
    )


def _memories(
    rules: tuple[Rule, Rule], values: tuple[Values, ...], state: Mapping[str, Any], t: int, parameter: Tensor
) -> dict[str, Tensor]:
    """Return the new method's memories that the old method's state holds, as it would hold them."""
    if t == 0 or values[0].maximize != values[1].maximize:  # a sign would be wrong
        return {}
    have = {m.of: (n, m) for n, m in MEMORIES.get(rules[0].name, {}).items() if n in state}
    kept = {}
    shape = tuple(torch.view_as_real(parameter).shape if parameter.is_complex() else parameter.shape)
    fields = rules[1].state_fields(values[1], shape)
    for name, memory in MEMORIES.get(rules[1].name, {}).items():
        if memory.of not in have or name not in fields:
            continue
        source, theirs = have[memory.of]
        before, after = theirs.weight(values[0], t), memory.weight(values[1], t)
        if before != 0:
            kept[name] = state[source].clone() if before == after else state[source] * (after / before)
    return kept

"""States of the packages in which methods were first published, to and from ours.

    optimizer = optim.Prodigy(model)
    optimizer.load_state_dict(convert.from_package(optimizer, torch.load("prodigyopt.pt")))

The states of PyTorch's own classes need no conversion: their keys are ours. Each package keeps some numbers
a group that we keep a parameter, or the other way round; what cannot be said in the other form is refused in
words.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from thalweg.errors import InputError
from thalweg.optim.faces import TRAINED
from thalweg.optim.optimizer import RuleOptimizer
from thalweg.optim.states import refuse_no_state

State = dict[str, Any]
Group = dict[str, Any]


class Package(NamedTuple):
    """How a package keeps what one of its classes knows."""

    name: str  # package.Class
    # taken(state, group, parameter) -> our state, from a state and a group of the package
    taken: Callable[[State, Group, Tensor], State]
    # given(state, group) -> the package's state
    given: Callable[[State, Group], State]
    # group(our group, our states of it) -> what the package's group has beside our hyperparameters
    group: Callable[[Group, list[State]], Group]


def from_package(optimizer: RuleOptimizer, state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Return a package's state as one that `optimizer.load_state_dict` takes; nothing is changed.

    Args:
        optimizer: of the method that the state is of, over the same parameters in the same groups. For
            Schedule-Free in evaluation mode, the model must have loaded the weights that were saved with the
            state.
        state_dict: what the package's `state_dict()` has returned.

    Raises:
        InputError: no package is known for the method, or the state is of a form that we do not have.
    """
    package = _package(optimizer)
    who = f"the state of {package.name}"
    refuse_no_state(state_dict, who)
    own = optimizer.param_groups
    sizes, expected = ([len(g["params"]) for g in groups] for groups in (state_dict["param_groups"], own))
    if sizes != expected:
        raise InputError(who, f"have groups of {expected} parameters", sizes, "Make the same groups.")
    states: dict[int, State] = {}
    groups: list[Group] = []
    for theirs, mine in zip(state_dict["param_groups"], own, strict=True):
        _refuse_other_forms(theirs, who)
        for place, parameter in zip(theirs["params"], mine["params"], strict=True):
            if given := state_dict["state"].get(place):
                states[place] = package.taken(dict(given), theirs, parameter)
        kept = {n: theirs.get(n, x) for n, x in mine.items() if n not in ("params", "param_names")}
        if theirs.get("k", 0) and "d_step" in kept:
            kept["d_step"] = kept["d"]
        groups.append(kept | {"params": list(theirs["params"])})
    return {"state": states, "param_groups": groups}


def to_package(optimizer: RuleOptimizer) -> dict[str, Any]:
    """Return the optimizer's state as one that the package's `load_state_dict` takes, as a copy.

    Raises:
        InputError: no package is known for the method; or parameters of a group were at different steps,
            where the package has one number for all of them.
    """
    package = _package(optimizer)
    saved = optimizer.state_dict()
    states: dict[int, State] = {}
    groups: list[Group] = []
    for group in saved["param_groups"]:
        mine = {place: saved["state"][place] for place in group["params"] if saved["state"].get(place)}
        states |= {place: package.given(state, group) for place, state in mine.items()}
        groups.append(group | package.group(group, list(mine.values())))
    copied = {
        p: {n: x.clone() if isinstance(x, Tensor) else x for n, x in s.items()} for p, s in states.items()
    }
    return {"state": copied, "param_groups": groups}


def _package(optimizer: object) -> Package:
    if not isinstance(optimizer, RuleOptimizer):
        got = type(optimizer).__name__
        raise InputError("the optimizer whose state is converted", "be one of thalweg.optim", got)
    rule = optimizer.rule
    if rule.name not in PACKAGES or optimizer.wrappers:
        got = f"{rule.title} with wrappers" if rule.name in PACKAGES else rule.title
        raise InputError(
            "the method whose state is converted",
            f"be one of {', '.join(sorted(PACKAGES))} without wrappers",
            got,
            "PyTorch's states need no conversion.",
        )  # fmt: skip
    return PACKAGES[rule.name]


# Options of the packages of which only one value is our method.
ONLY = {"slice_p": 1, "layer_scale": 1.0, "fsdp_in_use": False, "cautious": False}


def _refuse_other_forms(group: Group, who: str) -> None:
    for name, value in ONLY.items():
        if group.get(name, value) != value:
            raise InputError(f"{name} in {who}", f"be {value}", group[name], "Other forms are not ours.")


def _one(states: list[State], name: str, default: float) -> float:
    """Return the number that all parameters of a group have in common."""
    numbers = {float(state[name]) for state in states}
    if len(numbers) > 1:
        raise InputError(
            f"{name} of the parameters of a group", "be the same, of which the package has one a group",
            f"{len(numbers)} numbers", "Parameters that missed gradients have no state in that package.",
        )  # fmt: skip
    return numbers.pop() if numbers else default


def _without(state: State, *names: str) -> State:
    return {n: x for n, x in state.items() if n not in names}


def _take_lion(state: State, group: Group, parameter: Tensor) -> State:
    return state | {"step": torch.tensor(1.0)}  # the package counts none, and the method needs none


def _take_prodigy(state: State, group: Group, parameter: Tensor) -> State:
    if group.get("decouple") is False:
        raise InputError("decouple in the state of prodigyopt", "be True", False, "Other forms are not ours.")
    start = torch.zeros_like(parameter) + state["p0"].reshape(
        parameter.shape if state["p0"].numel() > 1 else ()
    )
    mean = state.get("exp_avg", torch.zeros_like(parameter))  # left out where β₁ = 0
    return state | {"exp_avg": mean, "s": state["s"].reshape(parameter.shape), "p0": start}


def _give_prodigy(state: State, group: Group) -> State:
    return {
        **_without(state, "exp_avg" if group["betas"][0] == 0 else ""),
        "step": int(state["step"]),
        "s": state["s"].flatten(),
        "p0": state["p0"].flatten(),
    }


def _take_schedule_free(state: State, group: Group, parameter: Tensor) -> State:
    beta = group["betas"][0] if "betas" in group else group["momentum"]
    taken = {
        **state,
        "step": torch.tensor(float(group["k"])),
        "weight_sum": state["z"].new_tensor(float(group["weight_sum"])),
        "lr_max": state["z"].new_tensor(max(float(group["lr_max"]), 0.0)),  # −1 before the first step
    }
    if not group["train_mode"]:  # the parameters are the averages
        taken[TRAINED] = torch.lerp(parameter.detach(), state["z"].to(parameter.dtype), 1 - beta)
    return taken


def _schedule_free_group(group: Group, states: list[State]) -> Group:
    return {
        "k": int(_one(states, "step", 0.0)),
        "weight_sum": _one(states, "weight_sum", 0.0),
        "lr_max": _one(states, "lr_max", -1.0),
        "train_mode": not any(TRAINED in state for state in states),
        "scheduled_lr": float(group["lr"]),
        "foreach": False,
    }


PACKAGES: Mapping[str, Package] = {
    "lion": Package("lion_pytorch.Lion", _take_lion, lambda s, g: _without(s, "step"), lambda g, states: {}),
    "prodigy": Package(
        "prodigyopt.Prodigy",
        _take_prodigy,
        _give_prodigy,
        lambda g, states: {"decouple": True, "slice_p": 1, "fsdp_in_use": False, "k": int(g["k"])},
    ),
    "dadapt-adam": Package(
        "dadaptation.DAdaptAdam",
        lambda s, g, p: s,
        lambda s, g: s | {"step": int(s["step"])},
        lambda g, states: {"layer_scale": 1.0, "log_every": 0, "fsdp_in_use": False, "k": int(g["k"])},
    ),
    "dadapt-sgd": Package(
        "dadaptation.DAdaptSGD",
        lambda s, g, p: _without(s, "z") | {"step": torch.tensor(float(g["k"]))},
        lambda s, g: _without(s, "step") | {"z": s["x0"] - s["s"]},
        lambda g, states: {"log_every": 0, "fsdp_in_use": False, "k": int(g["k"])},
    ),
    **{
        rule: Package(
            f"schedulefree.{name}",
            _take_schedule_free,
            lambda s, g: _without(s, "step", "weight_sum", "lr_max", TRAINED),
            _schedule_free_group,
        )
        for rule, name in (
            ("schedule-free-adamw", "AdamWScheduleFree"),
            ("schedule-free-sgd", "SGDScheduleFree"),
        )
    },
}

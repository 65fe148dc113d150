"""Whom a step is compared with: a table for each peer, from the name of a preset to the peer's method.

Hyperparameters are each side's defaults, but for the rate, which is small so that numbers stay ordinary
however many steps are measured, and for options that decide how many buffers there are.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor

RATE = 1e-6


class Way(NamedTuple):
    """A peer's method: its name or what makes it, options, and what its parameter groups say."""

    make: str | Callable[..., Any]
    options: Mapping[str, Any] = {}
    group: Mapping[str, Any] = {}


class Peer(NamedTuple):
    """A package or a mode of one."""

    title: str
    module: str
    ways: Mapping[str, Way]


def sophia_with_curvature(parameters: list[Tensor], lr: float) -> torch.optim.Optimizer:
    """Return pytorch_optimizer's SophiaH, with curvature from a first step, and none taken later."""
    optimizer = import_module("pytorch_optimizer").SophiaH(parameters, lr=lr, update_period=10**9)
    optimizer.step(hessian=[torch.rand_like(p) for p in parameters])
    return optimizer  # type: ignore[no-any-return]


TORCH = {
    "sgd": Way("SGD"),
    "momentum": Way("SGD", {"momentum": 0.9}),
    "nesterov": Way("SGD", {"momentum": 0.9, "nesterov": True}),
    "adagrad": Way("Adagrad"),
    "rmsprop": Way("RMSprop"),
    "adam": Way("Adam"),
    "amsgrad": Way("Adam", {"amsgrad": True}),
    "adamw": Way("AdamW"),
    "adadelta": Way("Adadelta"),
    "adamax": Way("Adamax"),
    "nadam": Way("NAdam"),
    "radam": Way("RAdam"),
    "rprop": Way("Rprop"),
    "asgd": Way("ASGD", {"t0": 1.0}),
    "adafactor": Way("Adafactor"),
    "muon": Way("Muon", {"adjust_lr_fn": "match_rms_adamw"}),
}
WITHOUT_FOREACH = ("muon",)
WITH_FUSED = ("sgd", "momentum", "nesterov", "adagrad", "adam", "amsgrad", "adamw")
FOREACH = {
    name: way._replace(options={**way.options, "foreach": True})
    for name, way in TORCH.items()
    if name not in WITHOUT_FOREACH
}
FUSED = {name: TORCH[name]._replace(options={**TORCH[name].options, "fused": True}) for name in WITH_FUSED}
# Its SGD, RMSprop, Adam, AdamW and NAdam are PyTorch's own classes.
PYTORCH_OPTIMIZER = {
    "adadelta": Way("AdaDelta"),
    "adamax": Way("AdaMax"),
    "radam": Way("RAdam"),
    "lion": Way("Lion"),
    "lars": Way("LARS"),
    "lamb": Way("Lamb"),
    "adafactor": Way("AdaFactor", {"betas": (None, 0.999), "relative_step": False}),
    "schedule-free-sgd": Way("ScheduleFreeSGD"),
    "schedule-free-adamw": Way("ScheduleFreeAdamW"),
    "prodigy": Way("Prodigy"),
    "dadapt-adam": Way("DAdaptAdam"),
    "dadapt-sgd": Way("DAdaptSGD", {"momentum": 0.0}),
    "muon": Way("Muon", {}, {"use_muon": True}),
    "shampoo": Way("Shampoo"),
    "soap": Way("SOAP"),
    "sophia-h": Way(sophia_with_curvature),
}
OPTAX = {
    "sgd": Way("sgd"),
    "momentum": Way("sgd", {"momentum": 0.9}),
    "nesterov": Way("sgd", {"momentum": 0.9, "nesterov": True}),
    "adagrad": Way("adagrad"),
    "rmsprop": Way("rmsprop"),
    "adam": Way("adam"),
    "amsgrad": Way("amsgrad"),
    "adamw": Way("adamw"),
    "adadelta": Way("adadelta"),
    "adamax": Way("adamax"),
    "nadam": Way("nadam"),
    "radam": Way("radam"),
    "rprop": Way("rprop"),
    "lion": Way("lion"),
    "lars": Way("lars"),
    "lamb": Way("lamb"),
    "adafactor": Way("adafactor"),
    "schedule-free-sgd": Way("contrib.schedule_free_sgd"),
    "schedule-free-adamw": Way("contrib.schedule_free_adamw"),
    "prodigy": Way("contrib.prodigy"),
    "dadapt-adam": Way("contrib.dadapt_adamw"),
    "muon": Way("contrib.muon"),
}
LION_PYTORCH = {"lion": Way("Lion")}
PRODIGYOPT = {"prodigy": Way("Prodigy")}
DADAPTATION = {"dadapt-adam": Way("DAdaptAdam"), "dadapt-sgd": Way("DAdaptSGD")}
SCHEDULEFREE = {
    "schedule-free-sgd": Way("SGDScheduleFree"),
    "schedule-free-adamw": Way("AdamWScheduleFree"),
}
# As ours: bases turned every 10 steps, sides up to 10,000, one matrix a parameter.
SOAP_AS_OURS = {
    "precondition_frequency": 10,
    "use_precond_schedule": False,
    "max_precond_dim": 10_000,
    "merge_dims": False,
}
HEAVYBALL = {"muon": Way("Muon"), "soap": Way("SOAP", SOAP_AS_OURS)}

PEERS: Mapping[str, Peer] = {
    "torch": Peer("torch, default", "torch.optim", TORCH),
    "foreach": Peer("torch, foreach", "torch.optim", FOREACH),
    "fused": Peer("torch, fused", "torch.optim", FUSED),
    "pytorch_optimizer": Peer("pytorch_optimizer", "pytorch_optimizer", PYTORCH_OPTIMIZER),
    "optax": Peer("optax", "optax", OPTAX),
    "lion-pytorch": Peer("lion-pytorch", "lion_pytorch", LION_PYTORCH),
    "prodigyopt": Peer("prodigyopt", "prodigyopt", PRODIGYOPT),
    "dadaptation": Peer("dadaptation", "dadaptation", DADAPTATION),
    "schedulefree": Peer("schedulefree", "schedulefree", SCHEDULEFREE),
    "heavyball": Peer("heavyball", "heavyball", HEAVYBALL),
}
# Methods of the same name that there are, and why they are not measured.
LEFT_OUT = {
    ("torch", "sparse-adam"): "takes sparse gradients only",
    ("pytorch_optimizer", "asgd"): "is another method",
    ("optax", "sophia-h"): "measures curvature inside of its step",
}

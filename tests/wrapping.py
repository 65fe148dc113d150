"""Wrappers with values, and walks of wrapped rules over given gradients, for tests: in NumPy and in torch."""

from typing import Any

import numpy as np
import torch

from cases import Path
from thalweg.backends.reference import Reference
from thalweg.optim import RuleOptimizer
from thalweg.rules.base import Rule
from thalweg.rules.wrap import Applied
from thalweg.rules.wrappers import WRAPPERS
from walks import give, now

SHAPES = {
    "matrix": (3, 4),
    "column": (4, 1),
    "filter": (2, 3, 2, 2),
    "vector": (5,),
    "0-d": (),
    "empty": (0,),
}
# SAM and ASAM change where gradients are taken, which given gradients cannot show: tests of their own.
NAMES = [name for name, wrapper in WRAPPERS.items() if wrapper.offset is None]
STEPS = 30
METHODS: dict[str, dict[str, Any]] = {
    "sgd": {"lr": 0.05, "momentum": 0.9},
    "adam": {"lr": 0.03, "betas": (0.8, 0.95), "eps": 1e-3},
    "lion": {"lr": 0.01, "betas": (0.8, 0.95)},
}
FACTORS = [min(1.0, (step + 1) / 5) * (0.3 if step > 20 else 1.0) for step in range(STEPS)]
# What each wrapper is called with, several times where it has several structures. Limits that some steps
# exceed and others not.
CALLS: dict[str, list[dict[str, Any]]] = {
    "clip_value": [{"limit": 0.7}],
    "clip_norm": [{"limit": 6.0}],
    "clip_group_norm": [{"limit": 6.0}],
    "agc": [{"clipping": 0.9, "floor": 0.8}, {}],
    "centralise": [{}],
    "skip_nonfinite": [{}],
    "cautious": [{"floor": 0.4}, {}],
    "l2": [{"weight_decay": 0.2}],
    "decoupled_decay": [
        {"weight_decay": 0.2, "by": by} for by in ("rate", "schedule", "corrected", "cautious")
    ],
    "proximal": [
        {"penalty": "l1", "strength": 0.3},
        {"penalty": "elastic_net", "strength": 0.5, "l1_share": 0.3},
        {"penalty": "group", "strength": 0.5},
        {"penalty": "box", "low": -0.4, "high": 0.6},
        {"penalty": "nonnegative"},
    ],
    "lookahead": [{"every": 3, "alpha": 0.3}, {}],
    "ema": [{"memory": 0.7}, {"memory": 0.7, "corrected": True}, {"memory": 0.0, "corrected": True}],
    "swa": [{"start": 4, "every": 3}, {}],
}
Listed = list[tuple[str, dict[str, Any]]]
SINGLE: list[Listed] = [[(name, values)] for name, calls in CALLS.items() for values in calls]
TOGETHER: list[Listed] = [
    [("clip_norm", {"limit": 6.0}), ("clip_value", {"limit": 0.7})],
    [("clip_value", {"limit": 0.7}), ("clip_norm", {"limit": 4.0})],
    [("l2", {"weight_decay": 0.2}), ("clip_norm", {"limit": 6.0})],
    [("decoupled_decay", {"weight_decay": 0.2, "by": "cautious"}), ("cautious", {})],
    [("ema", {"memory": 0.7}), ("proximal", {"penalty": "l1", "strength": 0.3})],
    [("lookahead", {"every": 3}), ("proximal", {"penalty": "group", "strength": 0.5}), ("cautious", {})],
    [("swa", {"start": 4}), ("centralise", {}), ("decoupled_decay", {"weight_decay": 0.2, "by": "schedule"})],
    [
        ("skip_nonfinite", {}),
        ("agc", {"clipping": 0.9}),
        ("l2", {"weight_decay": 0.2}),
        ("ema", {"memory": 0.9}),
    ],
]
EPS = 1e-12  # of the scale of a path: sums of thirty terms in other orders


def label(value: Any) -> str | None:
    if isinstance(value, list):
        return "+".join(f"{name}({','.join(str(x) for x in values.values())})" for name, values in value)
    return None


def applied(listed: Listed) -> list[Applied]:
    return [WRAPPERS[name](**values) for name, values in listed]


def in_numpy(rule: Rule, values: dict[str, Any], begin: Any, slopes: Any, factors: Any) -> tuple[Path, Path]:
    """Walk in NumPy; return the parameters that are trained and those to evaluate with, after each step."""
    work, at, path, faces = Reference(rule, values), begin, [], []
    h = rule.values(values)
    for given, factor in zip(slopes, factors, strict=True):
        at = work.step(at, given, factor)
        path.append(at)
        seen = {n: rule.evaluated(at[n], s, h) for n, s in work.states.items() if rule.evaluated}
        faces.append({**at, **seen})
    return path, faces


def in_torch(
    optimizer: RuleOptimizer, leaves: dict[str, Any], slopes: Any, factors: Any
) -> tuple[Path, Path]:
    """Walk with a class of `thalweg.optim`, whose rate is changed as PyTorch's schedulers do it."""
    path, faces = [], []
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
    for given, factor in zip(slopes, factors, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        give(leaves, given)
        optimizer.step()
        path.append(now(leaves))
        with optimizer.evaluating():
            faces.append(now(leaves))
    return path, faces


def leaves_of(begin: dict[str, np.ndarray]) -> dict[str, Any]:
    return {name: torch.nn.Parameter(torch.tensor(x)) for name, x in begin.items()}


def values_of(rule: Rule) -> dict[str, Any]:
    """Return what differs from the defaults: Newton–Schulz in float64, which both backends have."""
    return {"lr": 0.05} | ({"precision": "parameter"} if "precision" in rule.hyper else {})

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

Wrappers go around any of them: ``AdamW(model, wrappers=[clip_norm(1.0), cautious()])``. `groups` makes
parameter groups from a model, `change` goes on with another method, and `convert` knows the states of
other packages.
"""

from collections.abc import Mapping
from typing import Any

from thalweg.optim import convert as convert
from thalweg.optim.batchnorm import recompute_batchnorm as recompute_batchnorm
from thalweg.optim.changing import change as change
from thalweg.optim.curvature import curvature_along as curvature_along
from thalweg.optim.curvature import random_signs as random_signs
from thalweg.optim.execution import EXECUTION_FLAGS
from thalweg.optim.grouping import groups as groups
from thalweg.optim.optimizer import RuleOptimizer
from thalweg.rules.base import Rule
from thalweg.rules.catalogue import RULES
from thalweg.rules.wrappers import WRAPPERS


def _face(rule: Rule) -> type[RuleOptimizer]:
    """Return the class of a rule, importable under its name."""
    body = {"__doc__": f"{rule.title}.", "__module__": __name__, "__qualname__": rule.class_name}
    return type(rule.class_name, (RuleOptimizer,), body, rule=rule)


BY_RULE: Mapping[str, type[RuleOptimizer]] = {name: _face(rule) for name, rule in RULES.items()}
_PUBLIC = {cls.__name__: cls for cls in BY_RULE.values()} | dict(WRAPPERS)
globals().update(_PUBLIC)

__all__ = [
    "BY_RULE",
    "EXECUTION_FLAGS",
    "RuleOptimizer",
    "change",
    "convert",
    "curvature_along",
    "groups",
    "random_signs",
    "recompute_batchnorm",
    *_PUBLIC,
]


def __getattr__(name: str) -> Any:
    """Tell type checkers that there are names which the catalogue decides."""
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

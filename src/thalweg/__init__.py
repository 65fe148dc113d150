"""Thalweg: a workbench for gradient descent in PyTorch.

The public names are imported when they are used: ``import thalweg`` imports no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from thalweg import optim as optim
    from thalweg import reference as reference
    from thalweg import schedules as schedules
    from thalweg.api import BatchSize as BatchSize
    from thalweg.api import Sampling as Sampling
    from thalweg.api import Showdown as Showdown
    from thalweg.api import Showdowns as Showdowns
    from thalweg.api import Training as Training
    from thalweg.api import compare_sampling as compare_sampling
    from thalweg.api import find_batch_size as find_batch_size
    from thalweg.api import find_lr as find_lr
    from thalweg.api import find_lrs as find_lrs
    from thalweg.api import loss_landscape as loss_landscape
    from thalweg.api import showdown as showdown
    from thalweg.api import showdowns as showdowns
    from thalweg.api import train as train
    from thalweg.finder.probe import probe_lr as probe_lr
    from thalweg.functions.analysis import analyse as analyse
    from thalweg.functions.expression import parse as parse
    from thalweg.functions.trace import trace as trace
    from thalweg.rules.translate import translate as translate
    from thalweg.solvers.finite_sum import FiniteSum as FiniteSum
    from thalweg.solvers.minimize import minimize as minimize
    from thalweg.tasks import Task as Task
    from thalweg.tasks import load_task as load_task
    from thalweg.training.recipe import Plateau as Plateau
    from thalweg.training.recipe import Recipe as Recipe

_MODULES = ("optim", "reference", "schedules")
_HOME = {
    "BatchSize": "api",
    "FiniteSum": "solvers.finite_sum",
    "Plateau": "training.recipe",
    "Recipe": "training.recipe",
    "Sampling": "api",
    "Showdown": "api",
    "Showdowns": "api",
    "Task": "tasks",
    "Training": "api",
    "analyse": "functions.analysis",
    "compare_sampling": "api",
    "find_batch_size": "api",
    "find_lr": "api",
    "find_lrs": "api",
    "load_task": "tasks",
    "loss_landscape": "api",
    "minimize": "solvers.minimize",
    "parse": "functions.expression",
    "probe_lr": "finder.probe",
    "showdown": "api",
    "showdowns": "api",
    "trace": "functions.trace",
    "train": "api",
    "translate": "rules.translate",
}

__all__ = [*_MODULES, *_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"thalweg.{name}")
    if name in _HOME:
        return getattr(import_module(f"thalweg.{_HOME[name]}"), name)
    raise AttributeError(f"module 'thalweg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

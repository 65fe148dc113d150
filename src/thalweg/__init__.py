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
    from thalweg.api.batch import BatchSize as BatchSize
    from thalweg.api.batch import find_batch_size as find_batch_size
    from thalweg.api.landscape import loss_landscape as loss_landscape
    from thalweg.api.race import Showdown as Showdown
    from thalweg.api.race import showdown as showdown
    from thalweg.api.rate import find_lr as find_lr
    from thalweg.api.rate import find_lrs as find_lrs
    from thalweg.api.sampling import Sampling as Sampling
    from thalweg.api.sampling import compare_sampling as compare_sampling
    from thalweg.api.several import Showdowns as Showdowns
    from thalweg.api.several import showdowns as showdowns
    from thalweg.api.single import Training as Training
    from thalweg.api.single import train as train
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
    "BatchSize": "api.batch",
    "FiniteSum": "solvers.finite_sum",
    "Plateau": "training.recipe",
    "Recipe": "training.recipe",
    "Sampling": "api.sampling",
    "Showdown": "api.race",
    "Showdowns": "api.several",
    "Task": "tasks",
    "Training": "api.single",
    "analyse": "functions.analysis",
    "compare_sampling": "api.sampling",
    "find_batch_size": "api.batch",
    "find_lr": "api.rate",
    "find_lrs": "api.rate",
    "load_task": "tasks",
    "loss_landscape": "api.landscape",
    "minimize": "solvers.minimize",
    "parse": "functions.expression",
    "probe_lr": "finder.probe",
    "showdown": "api.race",
    "showdowns": "api.several",
    "trace": "functions.trace",
    "train": "api.single",
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

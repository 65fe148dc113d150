"""Tasks: what is to be learnt. Importing this package imports neither torch nor data.

The listing of the built-in tasks is at hand at once; every other name is imported when it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from thalweg.tasks.listing import BUILTIN as BUILTIN
from thalweg.tasks.listing import Listing as Listing

if TYPE_CHECKING:
    from thalweg.tasks.arrays import task_from_arrays as task_from_arrays
    from thalweg.tasks.check import Checked as Checked
    from thalweg.tasks.check import check_task as check_task
    from thalweg.tasks.data import PCA as PCA
    from thalweg.tasks.data import ConstantFeatureWarning as ConstantFeatureWarning
    from thalweg.tasks.data import Data as Data
    from thalweg.tasks.data import MinMax as MinMax
    from thalweg.tasks.data import Part as Part
    from thalweg.tasks.data import Standardise as Standardise
    from thalweg.tasks.data import as_data as as_data
    from thalweg.tasks.data import balanced_class_weights as balanced_class_weights
    from thalweg.tasks.data import split as split
    from thalweg.tasks.kind import Classification as Classification
    from thalweg.tasks.kind import Regression as Regression
    from thalweg.tasks.load import load_task as load_task
    from thalweg.tasks.models import mlp as mlp
    from thalweg.tasks.task import Task as Task

_HOMES = {
    "arrays": ("task_from_arrays",),
    "check": ("Checked", "check_task"),
    "data": (
        "PCA",
        "ConstantFeatureWarning",
        "Data",
        "MinMax",
        "Part",
        "Standardise",
        "as_data",
        "balanced_class_weights",
        "split",
    ),
    "kind": ("Classification", "Regression"),
    "load": ("load_task",),
    "models": ("mlp",),
    "task": ("Task",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["BUILTIN", "Listing", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)

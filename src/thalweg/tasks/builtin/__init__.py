"""The built-in tasks, one file a family; `thalweg.tasks.listing` is their table."""

import os
from pathlib import Path

from thalweg.tasks.builtin import handwriting, tabular
from thalweg.tasks.task import Task


def make_builtin(name: str, data_dir: str | os.PathLike[str] | None = None, download: bool = False) -> Task:
    """Return the built-in task of a name that stands in the listing."""
    folder = None if data_dir is None else Path(data_dir)
    if name == "digits":
        return handwriting.digits()
    if name in handwriting.IMAGES:
        return handwriting.images(name, folder, download)
    return tabular.table(name)

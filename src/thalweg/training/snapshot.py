"""Snapshots: everything that the next update depends on, in one file that runs nothing when read.

A snapshot is taken at the boundary between two updates and holds weights, buffers, optimizer state,
kept weights and what control remembers. Orders and random numbers are closed forms of seed and step,
so none are stored; an interrupted accumulation is replayed from its first micro-batch. The format is
safetensors: numbers and a header of JSON, nothing that could be executed.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from thalweg.errors import InputError
from thalweg.files import write_whole
from thalweg.training.control import Progress, progress_from_data, progress_to_data

SCHEMA = "1"


def write(path: Path, tensors: dict[str, Tensor], progress: Progress, key: str) -> None:
    """Write a snapshot so that after a crash at any moment the old or the new one is there, whole.

    Args:
        path: the file; its folder exists.
        tensors: what `Engine.snapshot` returned.
        progress: what control remembers.
        key: of the trial that this belongs to.

    Raises:
        InputError: the file cannot be written (no permission, disk full).
    """
    header = {"schema": SCHEMA, "key": key, "progress": json.dumps(progress_to_data(progress))}
    write_whole(path, save(tensors, header))


def read(path: Path, key: str) -> tuple[dict[str, Tensor], Progress]:
    """Read a snapshot of the trial with this key.

    Raises:
        InputError: it is damaged, of another trial, or of another version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header: dict[str, Any] = file.metadata() or {}
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"the snapshot {path}", "be a file that Thalweg wrote", str(error), "Start anew with --fresh."
        ) from error
    if header.get("schema") != SCHEMA or header.get("key") != key:
        raise InputError(
            f"the snapshot {path}",
            "belong to this task, recipe, seed, budget and version",
            f"one of trial {header.get('key')}",
            "Go on with what it was made for, or start anew with --fresh.",
        )
    return tensors, progress_from_data(json.loads(header["progress"]))

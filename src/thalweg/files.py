"""Writing a file whole or not at all, and asking beforehand whether that will be possible."""

import os
from contextlib import suppress
from pathlib import Path

from thalweg.errors import InputError


def refuse_unwritable(option: str, path: Path) -> None:
    """Refuse a file that could not be written, before the work whose result it is to hold.

    Folders on the way that do not exist yet are made when it is written. Nothing is made here.

    Raises:
        InputError: it is a folder, lies below something that is none, or in one that may not be written to.
    """
    try:
        is_folder = path.is_dir()
        above = next(folder for folder in path.absolute().parents if folder.exists())
    except OSError as error:  # a name that is too long, or a folder that may not be looked into
        raise InputError(option, "name a file that can be written", error.strerror or error) from error
    if is_folder:
        raise InputError(option, "name a file", f"the folder {path}", f"Such as {path / 'report.html'}.")
    if not above.is_dir():
        raise InputError(option, "name a file in a folder", f"{path}, where {above} is a file")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(option, "name a file that can be written", f"{path}: no permission in {above}")


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file by new content, so that after a crash at any moment the old or the new one is there.

    Raises:
        InputError: the file cannot be written: no permission, no folder, disk full. The old one stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise InputError(
            f"the file {path}",
            "be one that can be written",
            error.strerror or error,
            "Name another folder, or make room in this one.",
        ) from error
    finally:
        with suppress(OSError):  # where nothing can be written, nothing can be removed either
            temporary.unlink(missing_ok=True)

"""Writing a file whole or not at all."""

import os
from contextlib import suppress
from pathlib import Path

from thalweg.errors import InputError


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

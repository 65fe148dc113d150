"""Where the examples find their data: in the folder that the environment variable THALWEG_DATA names."""

import os
from pathlib import Path

from thalweg.errors import InputError


def find(name: str, places: tuple[str, ...], source: str) -> Path:
    """Return the first of the places in the data folder that is there; ``source`` says where to get them."""
    wanted = " or ".join(f"DIR/{place}" for place in places)
    named = os.environ.get("THALWEG_DATA")
    if not named:
        raise InputError(
            f"the data folder of {name}", "be named", "none", f"Set THALWEG_DATA=DIR, with {wanted}. {source}"
        )
    folder = Path(named).expanduser()
    if not folder.is_dir():
        got = "a file" if folder.exists() else "no such folder"
        raise InputError(
            f"the data folder {folder}", "be a folder", got, "Set THALWEG_DATA to another folder."
        )
    for place in places:
        if (folder / place).exists():
            return folder / place
    raise InputError(
        f"the data folder {folder}", f"hold the data of {name}", "a folder without", f"Add {wanted}. {source}"
    )

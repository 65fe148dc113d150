"""Files of data sets: found, verified, fetched when that is asked for, and read."""

import gzip
import hashlib
import os
import tempfile
import urllib.request
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import TaskError

VARIABLE: Final = "THALWEG_DATA"

_TYPES: Final = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


@dataclass(frozen=True)
class RemoteFile:
    """A published file, known by its size and checksum."""

    name: str
    size: int  # bytes
    sha256: str


@dataclass(frozen=True)
class FileSet:
    """The files of one data set: where they are looked for, and where they can be fetched."""

    name: str
    folders: tuple[str, ...]  # below the data folder, in the order of search; the first receives downloads
    url: str  # of the folder, ending in /
    files: tuple[RemoteFile, ...]


def locate(files: FileSet, data_dir: str | os.PathLike[str] | None, download: bool = False) -> Path:
    """Return the folder that holds all the files; nothing is read yet.

    ``data_dir`` is the data folder, else the environment variable THALWEG_DATA names it. With
    ``download`` missing or damaged files are fetched into it first. Raises TaskError.
    """
    root = data_dir or os.environ.get(VARIABLE)
    names = ", ".join(file.name for file in files.files)
    if not root:
        raise TaskError(
            f"the data folder of {files.name}",
            "be named",
            "none",
            f"Give --data DIR or set {VARIABLE}; with --download the files are fetched into it.",
        )
    folder = Path(root).expanduser()
    if not folder.is_dir() and not (download and not folder.exists()):
        got = "a file" if folder.exists() else "no such folder"
        raise TaskError(f"the data folder {folder}", "be a folder", got, "Give another --data DIR.")
    for candidate in (*(folder / name for name in files.folders), folder):
        there = all((candidate / file.name).is_file() for file in files.files)
        if there and not (download and any(_sha256(candidate / f.name) != f.sha256 for f in files.files)):
            return candidate
    if download:
        return fetch(files, folder / files.folders[0], files.url)
    raise TaskError(
        f"the data folder {folder}",
        f"hold the files of {files.name} ({names}), in {files.folders[0]}/ or directly",
        "a folder without them",
        "Name another folder with --data DIR, or add --download to fetch them into this one.",
    )


def verified(path: Path, file: RemoteFile) -> bytes:
    """Return the bytes of a file after comparing its checksum; raises TaskError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TaskError(f"the file {path}", "be readable", error.strerror or str(error)) from error
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise TaskError(
            f"the file {path}",
            f"have the published checksum (sha256 {file.sha256[:12]}…)",
            f"{found[:12]}…",
            "It is damaged or belongs to another data set. Remove it and add --download to fetch it anew.",
        )
    return content


def fetch(files: FileSet, folder: Path, url: str, timeout: float = 60.0) -> Path:
    """Fetch into ``folder`` the files that are not yet there and intact; return the folder.

    ``url`` is the address of the folder they come from, ending in /; ``timeout``, in seconds, is for
    each answer of the server. A file appears under its name only when it is whole and has its
    checksum; one that was damaged is then replaced. Raises TaskError.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in files.files:
            target = folder / file.name
            if not target.is_file() or _sha256(target) != file.sha256:
                _fetch_one(file, target, url, timeout)
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise TaskError(
            f"the download of {files.name} from {url}",
            "succeed",
            reason,
            f"Try again, or put the files into {folder} yourself.",
        ) from error
    return folder


def _fetch_one(file: RemoteFile, target: Path, url: str, timeout: float) -> None:
    handle, temporary = tempfile.mkstemp(prefix=f".{file.name}.", dir=target.parent)
    try:
        with (
            os.fdopen(handle, "wb") as out,
            urllib.request.urlopen(url + file.name, timeout=timeout) as answer,
        ):
            content = answer.read(file.size + 1)  # never more than can be right
            out.write(content)
        found = hashlib.sha256(content).hexdigest()
        if found != file.sha256:
            raise TaskError(
                f"the download {url}{file.name}",
                f"have the published checksum (sha256 {file.sha256[:12]}…)",
                f"{found[:12]}… ({len(content)} bytes)",
                "Nothing was kept. Try again later.",
            )
        Path(temporary).chmod(0o644)
        os.replace(temporary, target)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_idx(content: bytes, who: str = "an IDX file") -> NDArray[Any]:
    """Read an array in IDX format, gzipped or not.

    Big-endian: two zero bytes, one for the type, one for the number of dimensions; each dimension as
    a 32-bit number; the values in C order. Y. LeCun, C. Cortes, C. Burges, "The MNIST database".

    >>> read_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9])).tolist()
    [7, 8, 9]
    """
    try:
        raw = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError, zlib.error) as error:
        raise TaskError(who, "be a whole gzip file", str(error)) from error
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _TYPES:
        raise TaskError(who, "begin as IDX files do", raw[:4].hex(" ") or "an empty file")
    start = 4 + 4 * raw[3]
    header = raw[4:start]
    if len(header) < start - 4:
        raise TaskError(who, f"hold {raw[3]} dimensions", f"{len(raw)} bytes")
    shape = tuple(int(n) for n in np.frombuffer(header, ">u4"))
    kind = np.dtype(_TYPES[raw[2]])
    expected = start + kind.itemsize * int(np.prod(shape, dtype=object))
    if len(raw) != expected:
        raise TaskError(who, f"have {expected} bytes for its shape {shape}", len(raw))
    return np.frombuffer(raw, kind, offset=start).reshape(shape).astype(kind.newbyteorder("="))


def _idx_files(rows: Sequence[tuple[str, int, str]]) -> tuple[RemoteFile, ...]:
    return tuple(RemoteFile(f"{name}-ubyte.gz", size, sha256) for name, size, sha256 in rows)


# The four original files of each, in the order training images and labels, test images and labels.
MNIST: Final = FileSet(
    "mnist",
    ("mnist", "MNIST/raw"),
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    _idx_files(
        [
            (
                "train-images-idx3",
                9912422,
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            ),
            ("train-labels-idx1", 28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            ("t10k-images-idx3", 1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            ("t10k-labels-idx1", 4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        ]
    ),
)
FASHION_MNIST: Final = FileSet(
    "fashion-mnist",
    ("fashion-mnist", "fashion_mnist", "FashionMNIST/raw"),
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    _idx_files(
        [
            (
                "train-images-idx3",
                26421880,
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            ),
            ("train-labels-idx1", 29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            ("t10k-images-idx3", 4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            ("t10k-labels-idx1", 5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        ]
    ),
)

"""Files of data sets: found, verified, fetched from a server, read."""

import gzip
import hashlib
import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from thalweg.errors import TaskError
from thalweg.tasks.files import FASHION_MNIST, MNIST, FileSet, RemoteFile, fetch, locate, read_idx, verified

CONTENT = {"a.gz": b"first" * 100, "b.gz": b"second"}


def remote(name: str, content: bytes) -> RemoteFile:
    return RemoteFile(name, len(content), hashlib.sha256(content).hexdigest())


class Quiet(http.server.SimpleHTTPRequestHandler):
    asked: list[str] = []

    def do_GET(self) -> None:
        Quiet.asked.append(self.path)
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, FileSet]]:
    """A folder that is served, and the files that it should hold."""
    served = tmp_path / "served"
    served.mkdir()
    for name, content in CONTENT.items():
        (served / name).write_bytes(content)
    Quiet.asked = []
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(served))
    ) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{listening.server_port}/"
        yield served, FileSet("toy", ("toy", "other"), url, tuple(remote(*row) for row in CONTENT.items()))
        listening.shutdown()
        thread.join()


def put(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in CONTENT.items():
        (folder / name).write_bytes(content)


def test_files_are_fetched_whole_and_nothing_else_is_left(
    server: tuple[Path, FileSet], tmp_path: Path
) -> None:
    folder = locate(server[1], tmp_path / "data", download=True)

    assert folder == tmp_path / "data" / "toy"
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == CONTENT


def test_intact_files_are_not_fetched_again(server: tuple[Path, FileSet], tmp_path: Path) -> None:
    put(tmp_path / "toy")
    (tmp_path / "toy" / "b.gz").write_bytes(b"damaged")

    locate(server[1], tmp_path, download=True)
    assert Quiet.asked == ["/b.gz"]
    assert (tmp_path / "toy" / "b.gz").read_bytes() == CONTENT["b.gz"]


def test_a_download_with_a_wrong_checksum_keeps_what_was_there(
    server: tuple[Path, FileSet], tmp_path: Path
) -> None:
    (server[0] / "a.gz").write_bytes(b"tampered with")
    (tmp_path / "a.gz").write_bytes(b"old")
    with pytest.raises(
        TaskError, match=r"a\.gz must have the published checksum.*\(13 bytes\)\. Nothing was"
    ):
        fetch(server[1], tmp_path, server[1].url)

    assert (tmp_path / "a.gz").read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.gz", "served"]


def test_no_more_is_fetched_than_can_be_right(server: tuple[Path, FileSet], tmp_path: Path) -> None:
    (server[0] / "a.gz").write_bytes(b"x" * 10_000)
    with pytest.raises(TaskError, match=r"\(501 bytes\)"):
        fetch(server[1], tmp_path / "toy", server[1].url)


def test_a_server_without_the_file_is_said(server: tuple[Path, FileSet], tmp_path: Path) -> None:
    (server[0] / "a.gz").unlink()
    with pytest.raises(TaskError, match=r"download of toy from http.* must succeed; got File not found"):
        fetch(server[1], tmp_path / "toy", server[1].url)


def test_no_server_is_said_with_what_to_do(tmp_path: Path) -> None:
    files = FileSet("toy", ("toy",), "", (remote("a.gz", b""),))
    with pytest.raises(TaskError, match=r"must succeed; got .*refused.* put the files into"):
        fetch(files, tmp_path, "http://127.0.0.1:9/")


@pytest.mark.parametrize("where", ["toy", "other", "."])
def test_files_are_found_in_their_folders_or_directly(
    server: tuple[Path, FileSet], tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / where)
    monkeypatch.setenv("THALWEG_DATA", str(tmp_path))

    assert locate(server[1], tmp_path) == locate(server[1], None) == tmp_path / where
    assert Quiet.asked == []


def test_nothing_is_fetched_unless_asked(server: tuple[Path, FileSet], tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"hold the files of toy \(a\.gz, b\.gz\).*add --download"):
        locate(server[1], tmp_path)

    assert Quiet.asked == []


def test_a_missing_folder_is_said_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THALWEG_DATA", raising=False)
    with pytest.raises(
        TaskError, match=r"be named; got none. Give --data DIR or set THALWEG_DATA; with --download"
    ):
        locate(MNIST, None, download=True)
    with pytest.raises(TaskError, match=r"be a folder; got no such folder"):
        locate(MNIST, tmp_path / "absent")
    (tmp_path / "file").write_text("")
    with pytest.raises(TaskError, match=r"be a folder; got a file"):
        locate(MNIST, tmp_path / "file", download=True)


def test_a_damaged_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(b"damaged")
    with pytest.raises(TaskError, match=r"published checksum.*add --download to fetch it anew"):
        verified(tmp_path / "a.gz", remote("a.gz", CONTENT["a.gz"]))


def test_published_addresses_are_encrypted_and_checksums_whole() -> None:
    for files in (MNIST, FASHION_MNIST):
        assert files.url.startswith("https://")
        assert files.url.endswith("/")
        assert all(len(bytes.fromhex(file.sha256)) == 32 for file in files.files)
        assert len({file.name for file in files.files}) == 4


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 1, 3)])
def test_an_idx_file_is_read_back(dtype: str, shape: tuple[int, ...]) -> None:
    code = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}[dtype]
    array = (np.arange(np.prod(shape)) - 2).reshape(shape).astype(dtype)
    header = bytes([0, 0, code, len(shape)]) + np.array(shape, ">u4").tobytes()
    raw = header + array.astype(">" + dtype).tobytes()

    for content in (raw, gzip.compress(raw, mtime=0)):
        found = read_idx(content)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


WHOLE = bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begin as IDX files do; got an empty file"),
        (b"PK\x03\x04", "begin as IDX files do; got 50 4b 03 04"),
        (bytes([0, 0, 7, 1]), "begin as IDX files do"),
        (WHOLE[:6], "hold 1 dimensions; got 6 bytes"),
        (WHOLE[:-1], r"have 11 bytes for its shape \(3,\); got 10"),
        (WHOLE + b"\0", "have 11 bytes .* got 12"),
        (gzip.compress(WHOLE, mtime=0)[:-9], "be a whole gzip file"),
        (b"\x1f\x8bnonsense", "be a whole gzip file"),
        (bytes([0, 0, 8, 3]) + b"\xff" * 12, "bytes for its shape"),
    ],
)
def test_what_is_no_whole_idx_file_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(TaskError, match=f"labels must .*{message}"):
        read_idx(content, "labels")

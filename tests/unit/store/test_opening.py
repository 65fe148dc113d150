"""A folder that cannot be used is refused in one sentence, and nothing in it is changed."""

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.errors import InputError, StoreError
from thalweg.records import Race, Trace
from thalweg.store import FILE_NAME, RaceSummary, Store, opening

# What to do about it: the end of the sentence.
FOREIGN = "Move it, or use another folder (--out)."
DAMAGED = "Put a copy of it in its place, or use another folder (--out)."


def content(folder: Path) -> dict[str, bytes | str]:
    return {
        path.name: path.read_bytes() if path.is_file() else str(path.lstat()) for path in folder.iterdir()
    }


def no_database(path: Path) -> None:
    path.write_text("epoch,loss\n" * 100)


def two_bytes(path: Path) -> None:
    path.write_bytes(b"??")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 + 100])


def garbage_in_the_middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 8192] = b"\xaa" * 8192
    path.write_bytes(data)


def garbage_in_the_header(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[100:4096] = b"\xaa" * 3996  # after application and version: the first page's own content
    path.write_bytes(data)


def zeros_in_the_header(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[60:110] = bytes(50)  # as in a new database: no application, no version, no table
    path.write_bytes(data)


def schema_that_is_no_text(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE races", b"CREATE TABL\xfa races"))


def sql(statement: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(statement)

    return change


def another_database(path: Path) -> None:
    path.unlink()
    sql("CREATE TABLE notes (text)")(path)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_link(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere.sqlite")
    path.symlink_to(path.parent.parent / "elsewhere.sqlite")


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.fixture(scope="session")
def sound(
    tmp_path_factory: pytest.TempPathFactory, race: Race, begin: Callable[[Store, Race], None]
) -> bytes:
    """The bytes of a store that holds the race."""
    folder = tmp_path_factory.mktemp("sound")
    with Store.open(folder) as store:
        begin(store, race)
    return (folder / FILE_NAME).read_bytes()


REFUSED = {
    no_database: f"be a file of Thalweg's; got a file that is no SQLite database. {FOREIGN}",
    two_bytes: f"be a file of Thalweg's; got a file that is no SQLite database. {FOREIGN}",
    another_database: f"be a file of Thalweg's; got the database of another program. {FOREIGN}",
    sql("PRAGMA application_id = 7"): (
        f"be a file of Thalweg's; got the database of another program. {FOREIGN}"
    ),
    truncated: f"be an undamaged database; got a damaged file. {DAMAGED}",
    garbage_in_the_middle: f"be an undamaged database; got a damaged file. {DAMAGED}",
    zeros_in_the_header: f"be an undamaged database; got a damaged file. {DAMAGED}",
    schema_that_is_no_text: f"be an undamaged database; got a damaged file. {DAMAGED}",
    garbage_in_the_header: f"be an undamaged database; got a damaged file. {DAMAGED}",
    sql("PRAGMA user_version = 99"): (
        "have a schema version from 1 to 1; got 99. A newer Thalweg wrote it: update thalweg, "
        "or use another folder (--out)."
    ),
    a_folder: f"be a file; got a link, a folder or a device. {FOREIGN}",
    a_link: f"be a file; got a link, a folder or a device. {FOREIGN}",
    a_pipe: f"be a file; got a link, a folder or a device. {FOREIGN}",
}


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize(("spoil", "message"), REFUSED.items())
def test_what_is_no_sound_store_is_refused_in_words_and_left_as_it_was(
    folder: Path, spoil: Callable[[Path], None], message: str, create: bool
) -> None:
    spoil(folder / FILE_NAME)
    before = content(folder)
    with pytest.raises(StoreError) as caught:
        Store.open(folder, create=create)

    assert str(caught.value) == f"store {folder / FILE_NAME} must {message}"
    assert caught.value.exit_code == 2
    assert content(folder) == before


@settings(max_examples=200)
@given(start=st.floats(0, 1), garbage=st.binary(min_size=1, max_size=500))
def test_whichever_bytes_are_damaged_the_store_is_read_or_refused_in_words(
    sound: bytes, race: Race, start: float, garbage: bytes
) -> None:
    """Any other exception fails this test; that damage is found at all is what the table above shows."""
    keys = [trace.key for trace in race.traces]
    at = int(start * len(sound))
    damaged = (sound[:at] + garbage + sound[at + len(garbage) :])[: len(sound)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, FILE_NAME)
        path.write_bytes(damaged)
        with contextlib.suppress(StoreError), Store.open(folder, create=False) as store:
            assert {type(summary) for summary in store.races()} == {RaceSummary}
            assert {type(trace) for trace in store.traces(keys).values()} <= {Trace}
        assert path.read_bytes() == damaged


@pytest.mark.parametrize(
    ("statement", "got"),
    [
        ("DROP TABLE races", "no such table: races"),
        ("UPDATE races SET record = CAST(x'22ff22' AS TEXT)", "a damaged file"),  # not UTF-8
    ],
)
def test_damage_that_shows_only_when_it_is_read_is_told_in_words(
    folder: Path, statement: str, got: str
) -> None:
    sql(statement)(folder / FILE_NAME)
    with Store.open(folder) as store, pytest.raises(StoreError) as caught:
        store.races()

    assert str(caught.value) == (
        f"store {folder / FILE_NAME} must be an undamaged database; got {got}. {DAMAGED}"
    )


@pytest.mark.parametrize(
    ("make", "got"),
    [
        (lambda folder: None, "no such folder"),
        (lambda folder: folder.write_text("a file"), "no such folder"),
        (lambda folder: folder.mkdir(), "a folder without thalweg.sqlite"),
        (
            lambda folder: (folder.mkdir(), (folder / FILE_NAME).touch()),
            "an empty thalweg.sqlite",
        ),
    ],
)
def test_where_nothing_is_stored_nothing_is_made_to_read_it(
    tmp_path: Path, make: Callable[[Path], object], got: str
) -> None:
    folder = tmp_path / "runs"
    make(folder)
    before = content(tmp_path), folder.is_dir() and content(folder)
    with pytest.raises(InputError) as caught:
        Store.open(folder, create=False)

    assert not isinstance(caught.value, StoreError)
    assert str(caught.value) == (
        f"folder {folder} must hold stored runs; got {got}. "
        "Run thalweg showdown first, or name the folder that keeps its runs."
    )
    assert (content(tmp_path), folder.is_dir() and content(folder)) == before


@pytest.mark.parametrize(
    ("name", "got"),
    [
        ("file", "a file"),
        ("file/under", "Not a directory"),
        ("x" * 300, "File name too long"),
        ("nul\0", "embedded null byte"),
    ],
)
def test_a_folder_that_cannot_be_made_is_refused_in_words(tmp_path: Path, name: str, got: str) -> None:
    (tmp_path / "file").write_text("a file")
    folder = tmp_path / name
    with pytest.raises(StoreError) as caught:
        Store.open(folder)

    assert str(caught.value) == (
        f"folder {folder} must be a folder that can be used; got {got}. "
        "Check its name and its permissions, or use another folder (--out)."
    )
    assert content(tmp_path) == {"file": b"a file"}


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no /proc here")
def test_a_folder_in_which_nothing_can_be_made_is_refused_in_words() -> None:
    with pytest.raises(StoreError) as caught:
        Store.open("/proc/self")

    assert str(caught.value) == (
        "store /proc/self/thalweg.sqlite must be readable and writable; got unable to open database file. "
        "Check its permissions and its disk, or use another folder (--out)."
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not hold back the administrator")
@pytest.mark.parametrize(("file_mode", "folder_mode"), [(0o444, 0o755), (0o644, 0o555)])
def test_a_store_without_permission_to_write_is_read_but_not_opened_for_writing(
    folder: Path, race: Race, file_mode: int, folder_mode: int
) -> None:
    (folder / FILE_NAME).chmod(file_mode)
    folder.chmod(folder_mode)
    try:
        with Store.open(folder, create=False) as store:
            assert store.race(race.key) == race
        with pytest.raises(StoreError) as caught:
            Store.open(folder)
    finally:
        folder.chmod(0o755)

    assert str(caught.value) == (
        f"store {folder / FILE_NAME} must be readable and writable; got attempt to write a "
        "readonly database. Check its permissions and its disk, or use another folder (--out)."
    )


def test_an_empty_file_is_a_store_whose_making_was_interrupted(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).touch()
    with Store.open(tmp_path) as store:
        assert store.races() == ()


def test_opening_a_store_changes_nothing_and_leaves_no_other_file(folder: Path) -> None:
    before = content(folder)
    Store.open(folder).close()
    Store.open(folder, create=False).close()

    assert list(before) == [FILE_NAME]
    assert content(folder) == before


@pytest.mark.parametrize("name", ["a?mode=memory", "50%20#1", "ä \n 'quoted'", "..", "-"])
def test_no_character_of_a_folder_name_has_a_meaning(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "inner" / name
    Store.open(folder).close()

    assert [path.name for path in folder.iterdir() if path.is_file()] == [FILE_NAME]


@pytest.mark.parametrize("kind", ["EXCLUSIVE", "IMMEDIATE"])
def test_a_store_locked_by_another_process_is_refused_in_words(
    folder: Path, race: Race, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(opening, "LOCK_SECONDS", 0.01)
    message = (
        f"store {folder / FILE_NAME} must be free; got a file locked by another process. "
        "Wait until that has ended, or use another folder (--out)."
    )
    with Store.open(folder) as store, contextlib.closing(sqlite3.connect(folder / FILE_NAME)) as other:
        other.execute(f"BEGIN {kind}")
        with pytest.raises(StoreError) as caught:
            Store.open(folder)
        assert str(caught.value) == message
        with pytest.raises(StoreError) as caught:
            store.save_trace(race.traces[0])
        assert str(caught.value) == message
        other.rollback()
        store.save_trace(race.traces[0])

        assert store.race(race.key) == race


def test_a_reader_in_the_way_of_a_commit_is_told_in_words_and_nothing_is_half_done(
    folder: Path, race: Race, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "LOCK_SECONDS", 0.01)
    with Store.open(folder) as store, contextlib.closing(sqlite3.connect(folder / FILE_NAME)) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM races").fetchone()
        with pytest.raises(StoreError, match="must be free"):
            store.save_race("new", race.plan, "", {}, "2027")
        other.rollback()

        assert [summary.key for summary in store.races()] == [race.key]
        store.save_race("new", race.plan, "", {}, "2027")
        assert len(store.races()) == 2


def test_a_full_disk_is_told_in_words_and_what_was_kept_stays(folder: Path, race: Race) -> None:
    with Store.open(folder) as store:
        # The only way to fill a disk without one: SQLite's own limit on the size of the file.
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
        store._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreError) as caught:
            store.save_race("new", race.plan, "a long command " * 1000, {}, "2027")

        assert str(caught.value) == (
            f"store {folder / FILE_NAME} must have room to grow; got a full disk. Free some space and run "
            "the same again, what has finished is kept; or use another folder (--out)."
        )
        assert [summary.key for summary in store.races()] == [race.key]
        assert store.race(race.key) == race

"""Which file is the store of a folder, and what is said of one that cannot be used."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from thalweg.errors import InputError, StoreError
from thalweg.store.migrations import APPLICATION_ID, MIGRATIONS, migrate, schema_version, transaction

FILE_NAME = "thalweg.sqlite"
LOCK_SECONDS = 10.0  # how long to wait for another process; a write holds the lock for milliseconds
ELSEWHERE = "use another folder (--out)"


def connect(folder: Path, create: bool) -> tuple[Path, sqlite3.Connection]:
    """Find or make the database of a folder, check it, bring it up to date; see `Store.open`."""
    path = folder / FILE_NAME
    try:
        if create:
            folder.mkdir(parents=True, exist_ok=True)
        _check_place(folder, path, create)
        # Absolute, as an address: then no character of a folder's name has a meaning of its own.
        address = f"{folder.resolve().as_uri()}/{FILE_NAME}?mode={'rwc' if create else 'rw'}"
    except InputError:
        raise
    except (OSError, ValueError) as error:  # a ValueError: a NUL in the name
        got = "a file" if isinstance(error, FileExistsError) else getattr(error, "strerror", None) or error
        do = f"Check its name and its permissions, or {ELSEWHERE}."
        raise StoreError(f"folder {folder}", "be a folder that can be used", got, do) from error
    with in_words(path):
        connection = sqlite3.connect(address, uri=True, timeout=LOCK_SECONDS, isolation_level=None)
        try:
            _prepare(connection, folder, path, create)
        except BaseException:
            connection.close()
            raise
    return path, connection


def _check_place(folder: Path, path: Path, create: bool) -> None:
    if not create and not folder.is_dir():
        raise _nothing_stored(folder, "no such folder")
    if path.is_symlink() or (path.exists() and not path.is_file()):
        # A link could lead out of the folder, and opening a pipe would wait for ever.
        raise StoreError(_who(path), "be a file", "a link, a folder or a device", f"Move it, or {ELSEWHERE}.")
    if not create and not path.exists():
        raise _nothing_stored(folder, f"a folder without {FILE_NAME}")


def _prepare(connection: sqlite3.Connection, folder: Path, path: Path, create: bool) -> None:
    """Refuse what is no sound store before anything is written; then bring it up to date."""
    # EXTRA: a commit is on the disk when it returns, even if the power fails. The default rollback journal
    # is kept, not WAL: the store stays one file, and works on folders shared over a network.
    connection.execute("PRAGMA synchronous = EXTRA")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA trusted_schema = OFF")  # the file may be a stranger's
    connection.execute("PRAGMA cell_size_check = ON")
    known = len(MIGRATIONS)
    with transaction(connection, "DEFERRED"):  # another process may be making the store just now
        version = schema_version(connection)
        mark = connection.execute("PRAGMA application_id").fetchone()[0]
        # A file without any content is a store whose making was interrupted.
        new = mark == 0 and version == 0 and not connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    if mark != APPLICATION_ID and not new:
        raise _foreign(path, "the database of another program")
    if not 1 <= version <= known and not new:
        raise StoreError(
            _who(path),
            f"have a schema version from 1 to {known}",
            version,
            f"A newer Thalweg wrote it: update thalweg, or {ELSEWHERE}.",
        )
    # Reads the whole file once, so that nothing is added to one with a damaged middle.
    if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
        raise damaged(path, "a damaged file")
    if new and not create:
        raise _nothing_stored(folder, f"an empty {FILE_NAME}")
    migrate(connection)
    if create:
        # Writing the same version opens the journal: a place that cannot be written is found out now,
        # not after the first trial. Rolled back, it leaves the file as it was.
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"PRAGMA user_version = {known}")
        connection.execute("ROLLBACK")


def _who(path: Path) -> str:
    return f"store {path}"


def _nothing_stored(folder: Path, got: str) -> InputError:
    do = "Run thalweg showdown first, or name the folder that keeps its runs."
    return InputError(f"folder {folder}", "hold stored runs", got, do)


def _foreign(path: Path, got: str) -> StoreError:
    return StoreError(_who(path), "be a file of Thalweg's", got, f"Move it, or {ELSEWHERE}.")


def damaged(path: Path, got: str) -> StoreError:
    """Make the error for a file whose content is not what was written to it."""
    return StoreError(
        _who(path), "be an undamaged database", got, f"Put a copy of it in its place, or {ELSEWHERE}."
    )


@contextmanager
def in_words(path: Path) -> Iterator[None]:
    """Say what SQLite refuses so that a person can act on it."""
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
        raise  # a mistake of the caller, not of the file
    except sqlite3.DatabaseError as error:
        raise _explained(path, error) from error
    except UnicodeDecodeError as error:  # SQLite's own message quotes a damaged schema
        raise damaged(path, "a damaged file") from error


def _explained(path: Path, error: sqlite3.DatabaseError) -> StoreError:
    # The low byte is the kind of error, the rest a detail. Errors of Python's own, such as text that is
    # not UTF-8, have no code: they too come from a damaged file.
    kind = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    if kind in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        do = f"Wait until that has ended, or {ELSEWHERE}."
        return StoreError(_who(path), "be free", "a file locked by another process", do)
    if kind == sqlite3.SQLITE_NOTADB:
        return _foreign(path, "a file that is no SQLite database")
    if kind == sqlite3.SQLITE_CORRUPT:
        return damaged(path, "a damaged file")
    if kind == sqlite3.SQLITE_ERROR:  # a table or a column that should be there is not
        return damaged(path, str(error))
    if kind == sqlite3.SQLITE_FULL:
        do = f"Free some space and run the same again, what has finished is kept; or {ELSEWHERE}."
        return StoreError(_who(path), "have room to grow", "a full disk", do)
    return StoreError(
        _who(path),
        "be readable and writable",
        str(error),
        f"Check its permissions and its disk, or {ELSEWHERE}.",
    )

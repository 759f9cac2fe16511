"""The file that a ledger lies in: made whole or not at all, its owner's alone, and no link."""

from __future__ import annotations

import os
import secrets
import sqlite3
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from fedimg.durable import sync_folder
from fedimg.errors import LedgerError

_SCHEMA = """
CREATE TABLE entries (sequence INTEGER PRIMARY KEY, body BLOB NOT NULL, digest BLOB NOT NULL,
                      signature BLOB NOT NULL);
CREATE TRIGGER no_update BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER no_delete BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'append only'); END;
"""


def refuse(
    found: str, remedy: str = "restore the ledger from its backup; nothing is released until then"
) -> LedgerError:
    return LedgerError("a complete, untouched privacy ledger", found, remedy)


def one_exists() -> LedgerError:
    return LedgerError("no ledger here yet", "one that exists", "open it: a site has one ledger, for good")


def restored_of(path: Path) -> Path:
    """Where a restored home has its old ledger: beside the place of the one in use, which it never takes itself."""
    return path.with_name("ledger-backup.sqlite")


def check_recovered(path: Path) -> None:
    """Raises LedgerError where a home was restored and its ledger is older than what may have been spent since."""
    old = restored_of(path)
    if old.exists() and not path.exists():
        raise LedgerError(
            "a ledger that knows of all that was spent",
            "the older one of a restored home",
            "`fedimg ledger recover HOME --backup HOME/ledger-backup.sqlite --head NUMBER-DIGEST --reserved NUMBER`, "
            "with the last head that the coordinator keeps; nothing is released until then",
        )


def check_own(path: Path) -> None:
    """A file of its owner alone, and no link: what is signed here must not be kept by someone else elsewhere."""
    check_recovered(path)
    try:
        mode = path.lstat().st_mode
    except OSError as failure:
        raise refuse("no ledger file") from failure
    if not stat.S_ISREG(mode):
        raise refuse("a link, or something that is no file", "put the ledger's own file there")
    if mode & 0o077:
        found = f"one of mode {stat.S_IMODE(mode):04o}, which others may read or change"
        raise refuse(found, "chmod 600 it after asking who could")


def _discard(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


@contextmanager
def made_whole(path: Path) -> Iterator[Path]:
    """Another name to make a ledger under; it gets its own when it is on the disk, or nothing is left of it."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    try:
        _discard(path.parent.glob(f".{path.name}.*.partial*"))  # of a crash
        yield partial
        os.link(partial, path)  # unlike a rename, never over a ledger that another process made
        sync_folder(path.parent)
    except FileExistsError:
        raise one_exists() from None
    except (OSError, sqlite3.Error) as failure:
        raise refuse(f"a folder that cannot be written ({type(failure).__name__})") from failure
    finally:
        _discard(path.parent.glob(f"{partial.name}*"))


Row = tuple[int, bytes, bytes, bytes]


def write_new(path: Path, first: Callable[[], Row]) -> None:
    """A closed, synced database of one entry, in one file: the log beside it comes when it is opened."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?)", first())


def copy(backup: Path, path: Path) -> None:
    """An older file with its log, as one file."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    if not backup.is_file():
        raise refuse("no backup", "name the file that was kept")
    with closing(sqlite3.connect(backup)) as source, closing(sqlite3.connect(path)) as target:
        source.backup(target)


def connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error as failure:
        connection.close()
        raise refuse(f"an unreadable one ({type(failure).__name__})") from failure
    return connection

"""An append-only file of signed, hash-chained entries that survives a crash.

Each entry's digest covers the digest before it, so the signature of the last entry covers all of
them. SQLite in WAL mode with synchronous = FULL: when `append` returns, the entry is on the disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fedimg.crypto.keys import SigningKey, verify
from fedimg.durable import sync_folder
from fedimg.errors import LedgerError

DOMAIN = b"fedimg-ledger-v1"
START = hashlib.sha256(DOMAIN + b" start").digest()

_SCHEMA = """
CREATE TABLE entries (sequence INTEGER PRIMARY KEY, body BLOB NOT NULL, digest BLOB NOT NULL,
                      signature BLOB NOT NULL);
CREATE TRIGGER no_update BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER no_delete BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'append only'); END;
"""


@dataclass(frozen=True, slots=True)
class Head:
    """The last entry: how many there are, and the digest that covers them all."""

    sequence: int
    digest: bytes

    @property
    def name(self) -> str:
        """As messages and files name it."""
        return f"{self.sequence}-{self.digest.hex()}"


def link(previous: bytes, body: bytes) -> bytes:
    """SHA-256 of the previous digest and an entry's bytes."""
    return hashlib.sha256(DOMAIN + previous + body).digest()


def head_of(text: str) -> Head:
    """The inverse of `Head.name`. Raises LedgerError for anything else."""
    try:
        sequence, digest = text.split("-")
        head = Head(int(sequence), bytes.fromhex(digest))
    except ValueError:
        head = Head(0, b"")
    if head.sequence < 1 or len(head.digest) != len(START):
        raise LedgerError(
            "a head as the server keeps it: NUMBER-DIGEST, 64 hex digits", "something else", "copy it whole"
        )
    return head


def follow(bodies: Iterable[bytes]) -> Iterator[tuple[Head, Head | None]]:
    """(head behind each entry, the head that it was resumed from).

    Numbers have no gap, but where a ledger was recovered: that entry names the head that was seen before
    the loss and stands behind it. Raises LedgerError for one that stands before entries that are there.
    """
    head = Head(0, START)
    for body in bodies:
        resumed = _resumed(body)
        if resumed is not None and resumed.sequence < head.sequence:
            raise refuse("a recovery of fewer entries than there are")
        before = head.sequence if resumed is None else resumed.sequence
        head = Head(before + 1, link(head.digest, body))
        yield head, resumed


def _resumed(body: bytes) -> Head | None:
    if b'"kind":"recover"' not in body:
        return None
    try:
        entry = json.loads(body)
        return head_of(entry["seen"]) if entry["kind"] == "recover" else None
    except (ValueError, KeyError, TypeError, AttributeError) as failure:
        raise refuse("a recovery that no ledger writes") from failure


def refuse(
    found: str, remedy: str = "restore the ledger from its backup; nothing is released until then"
) -> LedgerError:
    return LedgerError("a complete, untouched privacy ledger", found, remedy)


class Chain:
    """The entries of one file. One process writes; a second writer's entry makes this one refuse."""

    def __init__(
        self, connection: sqlite3.Connection, key: SigningKey, bodies: list[bytes], head: Head
    ) -> None:
        self._connection, self._key, self._lock = connection, key, threading.Lock()
        self.bodies, self.head = bodies, head

    @classmethod
    def create(cls, path: Path, key: SigningKey, first: bytes) -> Self:
        """A new file, mode 0600, with its first entry. Raises LedgerError where one is there already.

        Whole or not at all: it is made under another name and gets its own when it is on the disk, so a
        crash leaves no ledger, and never one without an opening entry.
        """
        if path.exists() or path.with_name(f"{path.name}-wal").exists():
            raise _one_exists()
        with _made_whole(path) as partial:
            _write_new(partial, key, first)
        return cls.open(path, key)

    @classmethod
    def restore(
        cls, path: Path, key: SigningKey, backup: Path | Sequence[bytes], last: Callable[[Self], bytes]
    ) -> Self:
        """A new file from a backup, whole or not at all: an older file, or entries, and one more behind them.

        Raises:
            LedgerError: there is a ledger here, or the backup does not verify.
        """
        if path.exists():
            raise _one_exists()
        with _made_whole(path) as partial:
            if isinstance(backup, Path):
                _copy(backup, partial)
            else:
                _write_new(partial, key, backup[0])
            chain = cls.open(partial, key)
            for body in () if isinstance(backup, Path) else backup[1:]:
                chain.append(body)
            chain.append(last(chain))
            chain.connection.execute("PRAGMA journal_mode = DELETE")  # one file, log included
            chain.close()
        return cls.open(path, key)

    @property
    def connection(self) -> sqlite3.Connection:
        """For what lies beside the chain in the same file."""
        return self._connection

    @classmethod
    def open(cls, path: Path, key: SigningKey, known: Head | None = None) -> Self:
        """Read and verify every entry.

        Args:
            known: a head that was seen earlier, by the server or in an extract: a chain that is shorter,
                or holds another entry there, was rolled back or forked.

        Raises:
            LedgerError: missing, unreadable, tampered with, signed by another key, short or forked.
        """
        if not path.is_file():
            raise refuse("no ledger file")
        connection = _connect(path)
        try:
            rows = connection.execute(
                "SELECT sequence, body, digest, signature FROM entries ORDER BY sequence"
            )
            entries = rows.fetchall()
        except sqlite3.Error as failure:
            connection.close()
            raise refuse(f"an unreadable one ({type(failure).__name__})") from failure
        try:
            bodies, head = _verified(entries, key.public_bytes, known)
        except LedgerError:
            connection.close()
            raise
        return cls(connection, key, bodies, head)

    def append(self, body: bytes) -> Head:
        """Add one entry; on return it is durable. Raises LedgerError, and then nothing was added."""
        with self._lock:
            resumed = _resumed(body)
            before = self.head.sequence if resumed is None else resumed.sequence
            head = Head(before + 1, link(self.head.digest, body))
            row = (head.sequence, body, head.digest, self._key.sign(DOMAIN + head.digest))
            try:
                with self._connection, closing(self._connection.cursor()) as cursor:
                    cursor.execute("BEGIN IMMEDIATE")
                    last = cursor.execute(
                        "SELECT sequence, digest FROM entries ORDER BY sequence DESC LIMIT 1"
                    )
                    if (last.fetchone() or (0, START)) != (self.head.sequence, self.head.digest):
                        raise refuse(
                            "entries written by another process", "stop the other process and open it again"
                        )
                    cursor.execute("INSERT INTO entries VALUES (?, ?, ?, ?)", row)
            except sqlite3.Error as failure:
                remedy = "free disk space or stop the other process; nothing was released"
                raise refuse(f"one that cannot be written ({type(failure).__name__})", remedy) from failure
            self.bodies.append(body)
            self.head = head
            return head

    def close(self) -> None:
        self._connection.close()

    def __del__(self) -> None:
        # a site that forgets to close must not leave a connection to the interpreter's shutdown
        self._connection.close()


def _one_exists() -> LedgerError:
    return LedgerError("no ledger here yet", "one that exists", "open it: a site has one ledger, for good")


def _discard(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


@contextmanager
def _made_whole(path: Path) -> Iterator[Path]:
    """Another name to make a ledger under; it gets its own when it is on the disk, or nothing is left of it."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    try:
        _discard(path.parent.glob(f".{path.name}.*.partial*"))  # of a crash
        yield partial
        os.link(partial, path)  # unlike a rename, never over a ledger that another process made
        sync_folder(path.parent)
    except FileExistsError:
        raise _one_exists() from None
    except (OSError, sqlite3.Error) as failure:
        raise refuse(f"a folder that cannot be written ({type(failure).__name__})") from failure
    finally:
        _discard(path.parent.glob(f"{partial.name}*"))


def _write_new(path: Path, key: SigningKey, first: bytes) -> None:
    """A closed, synced database of one entry, in one file: the log beside it comes when it is opened."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    digest = link(START, first)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        connection.execute(
            "INSERT INTO entries VALUES (1, ?, ?, ?)", (first, digest, key.sign(DOMAIN + digest))
        )


def _copy(backup: Path, path: Path) -> None:
    """An older file with its log, as one file."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    if not backup.is_file():
        raise refuse("no backup", "name the file that was kept")
    with closing(sqlite3.connect(backup)) as source, closing(sqlite3.connect(path)) as target:
        source.backup(target)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error as failure:
        connection.close()
        raise refuse(f"an unreadable one ({type(failure).__name__})") from failure
    return connection


def _verified(
    entries: list[tuple[int, bytes, bytes, bytes]], public_key: bytes, known: Head | None
) -> tuple[list[bytes], Head]:
    for number, entry in enumerate(entries, start=1):
        if not all(type(value) is bytes for value in entry[1:]):
            raise refuse(f"an entry {number} of another type")
    bodies = [body for _, body, _, _ in entries]
    head = Head(0, START)
    for (sequence, _, digest, signature), (head, resumed) in zip(entries, follow(bodies), strict=True):
        number = head.sequence
        if sequence != number or head.digest != digest:
            raise refuse(f"an entry {number} that does not continue the one before it")
        if not verify(public_key, signature, DOMAIN + digest):
            raise refuse(f"an entry {number} that this site did not sign")
        for here in (head, resumed):
            if here is not None and known is not None and known.sequence == here.sequence and known != here:
                raise refuse(f"another entry {here.sequence} than the one seen before: the ledger was forked")
    if known is not None and known.sequence > head.sequence:
        raise refuse(f"{head.sequence} entries where {known.sequence} were seen before: it was rolled back")
    return bodies, head

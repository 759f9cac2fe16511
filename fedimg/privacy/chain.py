"""An append-only file of signed, hash-chained entries that survives a crash.

Each entry's digest covers the digest before it, so the signature of the last entry covers all of
them. SQLite in WAL mode with synchronous = FULL: when `append` returns, the entry is on the disk.
"""

from __future__ import annotations

import functools
import hashlib
import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fedimg.crypto.keys import SigningKey, verify
from fedimg.errors import LedgerError
from fedimg.privacy.chain_file import (
    Row,
    check_own,
    check_recovered,
    connect,
    copy,
    made_whole,
    one_exists,
    refuse,
    write_new,
)

__all__ = ["DOMAIN", "START", "Chain", "Head", "follow", "head_of", "link", "refuse"]

DOMAIN = b"fedimg-ledger-v1"
START = hashlib.sha256(DOMAIN + b" start").digest()


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


def follow(bodies: Iterable[bytes], head: Head | None = None) -> Iterator[tuple[Head, Head | None]]:
    """(head behind each entry, the head that it was resumed from), from `head` on, or from the beginning.

    Numbers have no gap, but where a ledger was recovered: that entry names the head that was seen before
    the loss and stands behind it. Raises LedgerError for one that stands before entries that are there.
    """
    head = head or Head(0, START)
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


class Chain:
    """The entries of one file. Processes write one after the other, each behind what it has read and verified."""

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
        check_recovered(path)
        if path.exists() or path.with_name(f"{path.name}-wal").exists():
            raise one_exists()
        with made_whole(path) as partial:
            write_new(partial, functools.partial(_first, key, first))
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
            raise one_exists()
        with made_whole(path) as partial:
            if isinstance(backup, Path):
                copy(backup, partial)
            else:
                write_new(partial, functools.partial(_first, key, backup[0]))
            chain = cls.open(partial, key)
            for body in () if isinstance(backup, Path) else backup[1:]:
                chain.append(functools.partial(_constant, body))
            chain.append(functools.partial(_constant, last(chain)))
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
        check_own(path)
        connection = connect(path)
        try:
            rows = connection.execute(
                "SELECT sequence, body, digest, signature FROM entries ORDER BY sequence"
            )
            entries = rows.fetchall()
        except sqlite3.Error as failure:
            connection.close()
            raise refuse(f"an unreadable one ({type(failure).__name__})") from failure
        try:
            bodies, head = _verified(entries, key.public_bytes, known, Head(0, START))
        except LedgerError:
            connection.close()
            raise
        return cls(connection, key, bodies, head)

    def append(self, decide: Callable[[Sequence[bytes]], bytes | None]) -> Head:
        """Add the entry that `decide` returns, if any; on return it is durable. Returns the last entry's head.

        Between reading and writing nobody else writes: what `decide` says rests on every entry that there is.

        Args:
            decide: given the entries that other processes have added since; they are verified, and in `bodies`.

        Raises:
            LedgerError: nothing was added. Whatever `decide` raises: likewise.
        """
        with self._lock:
            try:
                with self._connection, closing(self._connection.cursor()) as cursor:
                    cursor.execute("BEGIN IMMEDIATE")
                    others = self._take_up(cursor)
                    body = decide(others)
                    if body is None:
                        return self.head
                    ((head, _),) = follow([body], self.head)
                    row = (head.sequence, body, head.digest, self._key.sign(DOMAIN + head.digest))
                    cursor.execute("INSERT INTO entries VALUES (?, ?, ?, ?)", row)
            except sqlite3.Error as failure:
                remedy = "free disk space or stop the other process; nothing was released"
                raise refuse(f"one that cannot be written ({type(failure).__name__})", remedy) from failure
            self.bodies.append(body)
            self.head = head
            return head

    def _take_up(self, cursor: sqlite3.Cursor) -> list[bytes]:
        """What others have added behind the entry that this process knows as the last."""
        rows = cursor.execute(
            "SELECT sequence, body, digest, signature FROM entries WHERE sequence >= ? ORDER BY sequence",
            (self.head.sequence,),
        ).fetchall()
        if not rows or (rows[0][0], rows[0][2]) != (self.head.sequence, self.head.digest):
            raise refuse("another last entry than the one that was read: it was put back or forked")
        others, self.head = _verified(rows[1:], self._key.public_bytes, None, self.head)
        self.bodies += others
        return others

    def close(self) -> None:
        self._connection.close()

    def __del__(self) -> None:
        # a site that forgets to close must not leave a connection to the interpreter's shutdown
        self._connection.close()


def _constant(body: bytes, _others: Sequence[bytes]) -> bytes:
    return body


def _first(key: SigningKey, body: bytes) -> Row:
    digest = link(START, body)
    return 1, body, digest, key.sign(DOMAIN + digest)


def _verified(
    entries: list[tuple[int, bytes, bytes, bytes]], public_key: bytes, known: Head | None, last: Head
) -> tuple[list[bytes], Head]:
    """Bodies of entries that stand behind `last`, and the head after them."""
    for number, entry in enumerate(entries, start=last.sequence + 1):
        if not all(type(value) is bytes for value in entry[1:]):
            raise refuse(f"an entry {number} of another type")
    bodies = [body for _, body, _, _ in entries]
    head = last
    for (sequence, _, digest, signature), (head, resumed) in zip(entries, follow(bodies, last), strict=True):
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

"""Who did and saw what: entries whose digests cover all before them, so that a change or a hole shows."""

from __future__ import annotations

import hashlib
import sqlite3
from typing import Final

from fedimg import canonical
from fedimg.errors import DataError
from sites.watch.store.database import Database

_DOMAIN: Final = b"fedimg-watch-audit-v1"
START: Final = hashlib.sha256(_DOMAIN + b" start").digest()


def note(database: Database, who: str, what: str, about: str, at: float) -> None:
    """An entry, in the transaction that is open if there is one. `about`: a study's or an alert's key, never a UID."""
    with database.change() as change:
        last = change.execute("SELECT sequence, digest FROM audit ORDER BY sequence DESC LIMIT 1").fetchone()
        sequence, previous = (0, START) if last is None else (last["sequence"], last["digest"])
        digest = _link(previous, sequence + 1, at, who, what, about)
        values = (sequence + 1, at, who, what, about, digest)
        change.execute(
            "INSERT INTO audit (sequence, at, who, what, about, digest) VALUES (?, ?, ?, ?, ?, ?)", values
        )


def verify(connection: sqlite3.Connection) -> tuple[int, str]:
    """How many entries there are, and the digest that covers them all: whoever has written that down sees a cut.

    Raises DataError at the first entry that does not continue the one before it.
    """
    previous, count = START, 0
    for row in connection.execute(
        "SELECT sequence, at, who, what, about, digest FROM audit ORDER BY sequence"
    ):
        count += 1
        sequence, at, who, what, about, digest = row
        if sequence != count or digest != _link(previous, sequence, at, who, what, about):
            raise DataError(
                "an audit trail as it was written",
                f"another one from entry {count} on",
                "keep the file, and find out who had access to it",
            )
        previous = digest
    return count, previous.hex()


def _link(previous: bytes, sequence: int, at: float, who: str, what: str, about: str) -> bytes:
    entry = canonical.encode([sequence, repr(at), who, what, about])
    return hashlib.sha256(_DOMAIN + previous + entry).digest()

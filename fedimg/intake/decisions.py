"""What earlier runs decided, and who owns an image or a path, on disk instead of in memory.

Keyed digests and codes only, in SQLite's own temporary file, which vanishes with the connection.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from fedimg.dicom.receipt import Receipt

_SCHEMA = """
CREATE TABLE decided (link TEXT PRIMARY KEY, position INTEGER, decision TEXT, reason TEXT, basis TEXT,
                      output TEXT, sha256 TEXT, size INTEGER, modality TEXT, kind TEXT, keys TEXT) WITHOUT ROWID;
CREATE TABLE owners (what TEXT PRIMARY KEY, link TEXT) WITHOUT ROWID;
"""


class Decision(NamedTuple):
    """The last line of the receipts about one input, without what is not asked again."""

    link: str
    position: int
    decision: str
    reason: str | None
    basis: str
    output: str | None
    sha256: str | None
    size: int
    modality: str
    kind: str
    keys: Mapping[str, str]

    def same_as(self, other: Decision) -> bool:
        """Whether another line would say the same."""
        return self._replace(position=0, modality="", keys={}) == other._replace(
            position=0, modality="", keys={}
        )


def basis_of(profile: Mapping[str, Any], origin: Mapping[str, str]) -> str:
    """Digest of what a release depends on beside its input: table, project, key."""
    return hashlib.sha256(json.dumps([dict(profile), dict(origin)], sort_keys=True).encode()).hexdigest()


def decision_of(receipt: Receipt) -> Decision:
    return Decision(
        receipt.link,
        receipt.position,
        receipt.decision,
        receipt.reason,
        basis_of(receipt.profile, receipt.origin),
        receipt.output,
        receipt.sha256,
        receipt.size or 0,
        receipt.modality or "OT",
        receipt.kind or "dicom",
        receipt.keys,
    )


class Decisions:
    """Link → decision; pixel digest and output path → the link that owns them."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -8192"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.executescript(_SCHEMA)

    def note(self, receipt: Receipt) -> None:
        """A line of the receipts; a later one about the same input replaces it."""
        made = decision_of(receipt)
        row = (*made[:-1], json.dumps(dict(made.keys)))
        marks = ", ".join("?" * len(row))
        self._database.execute(f"INSERT OR REPLACE INTO decided VALUES ({marks})", row)  # noqa: S608
        if receipt.decision == "released":
            self.own(receipt.link, receipt.pixel_digest or "", receipt.output or "")
        else:
            self._database.execute("DELETE FROM owners WHERE link = ?", (receipt.link,))

    def get(self, link: str) -> Decision | None:
        row = self._database.execute("SELECT * FROM decided WHERE link = ?", (link,)).fetchone()
        return Decision._make((*row[:-1], json.loads(row[-1]))) if row else None

    def own(self, link: str, *things: str) -> None:
        """Give pixel digests and output paths to an input."""
        self._database.executemany(
            "INSERT OR REPLACE INTO owners VALUES (?, ?)", [(thing, link) for thing in things]
        )

    def owned_by_another(self, link: str, *things: str) -> bool:
        for thing in things:
            row = self._database.execute("SELECT link FROM owners WHERE what = ?", (thing,)).fetchone()
            if row is not None and row[0] != link:
                return True
        return False

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

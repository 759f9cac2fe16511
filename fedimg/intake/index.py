"""What the survey found, in one SQLite file inside quarantine (0600): memory stays flat over any number of files.

It holds patient data as the inputs spell them, and is removed at the end of the run. A killed run
leaves it where it is, behind the folder's mode 0700, for the next run to use or to remove.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Self

from fedimg.dicom.headers import codecs_of, decoded
from fedimg.dicom.identifiers import Identifiers

NAME = "survey.sqlite"
_SCHEMA = """
CREATE TABLE inputs (position INTEGER PRIMARY KEY, path BLOB, size INTEGER, changed INTEGER,
                     subject INTEGER, series INTEGER);
CREATE INDEX of_series ON inputs (series);
CREATE TABLE subjects (subject INTEGER PRIMARY KEY, name BLOB UNIQUE);
CREATE TABLE series (series INTEGER PRIMARY KEY, name BLOB UNIQUE);
CREATE TABLE identifiers (subject INTEGER, rank INTEGER, vr TEXT, value BLOB, charset BLOB,
                          PRIMARY KEY (subject, rank, vr, value, charset)) WITHOUT ROWID;
CREATE TABLE survey (complete INTEGER);
"""
# One broken exporter gives all its files one patient number: what is searched for stays bounded.
MOST_IDENTIFIERS = 400
MOST_SAMPLES = 12
_CACHED_SUBJECTS = 64
_MIXER = 2654435761  # Knuth's multiplicative hash: samples spread over the series, the same in every run


class Surveyed(NamedTuple):
    """One input's row. `path` and the names are PHI."""

    position: int
    path: bytes
    size: int
    changed: int
    subject: bytes | None
    series: bytes | None


class SurveyIndex:
    """The file, open for writing. Rows become visible to others at `commit`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        fresh = not path.exists()
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
        self._database = sqlite3.connect(path, isolation_level=None)
        # Safe against a killed process; after a power failure the file is made anew (`survey`).
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = OFF")
        if fresh:
            self._database.executescript(_SCHEMA)
        self._database.execute("BEGIN")
        self._numbers: dict[str, dict[bytes, int]] = {"subjects": {}, "series": {}}

    def surveyed(self) -> int:
        """How many inputs have a row; they are the first ones."""
        return int(self._database.execute("SELECT count(*) FROM inputs").fetchone()[0])

    def row(self, position: int) -> tuple[bytes, int, int] | None:
        """(path, size, time of change) of an input."""
        found = self._database.execute(
            "SELECT path, size, changed FROM inputs WHERE position = ?", (position,)
        ).fetchone()
        return tuple(found) if found else None

    def add(self, inputs: Sequence[Surveyed]) -> None:
        rows = [
            (
                *entry[:4],
                self._number("subjects", "subject", entry.subject),
                self._number("series", "series", entry.series),
            )
            for entry in inputs
        ]
        self._database.executemany("INSERT INTO inputs VALUES (?, ?, ?, ?, ?, ?)", rows)

    def add_identifiers(self, subject: bytes, found: Iterable[tuple[int, str, bytes, bytes]]) -> None:
        """(rank, VR, value, character set) of one subject; what is known already is ignored."""
        number = self._number("subjects", "subject", subject)
        rows = [(number, *entry) for entry in found]
        self._database.executemany("INSERT OR IGNORE INTO identifiers VALUES (?, ?, ?, ?, ?)", rows)

    def _number(self, table: str, column: str, name: bytes | None) -> int | None:
        if name is None:
            return None
        known = self._numbers[table]
        if name not in known:
            if len(known) >= 1 << 14:
                known.clear()
            self._database.execute(f"INSERT OR IGNORE INTO {table} (name) VALUES (?)", (name,))  # noqa: S608
            query = f"SELECT {column} FROM {table} WHERE name = ?"  # noqa: S608 - names of this module
            known[name] = self._database.execute(query, (name,)).fetchone()[0]
        return known[name]

    def commit(self) -> None:
        self._database.execute("COMMIT")
        self._database.execute("BEGIN")

    def close(self) -> None:
        self._database.execute("COMMIT")
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def remove(quarantine: Path) -> None:
    """The index and what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        (quarantine / (NAME + suffix)).unlink(missing_ok=True)


class SubjectHints:
    """The file, open for reading, in every process that takes inputs in."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path.absolute().as_uri() + "?mode=ro", uri=True)
        self._needles = lru_cache(_CACHED_SUBJECTS)(self._needles_of)

    def needles(self, position: int) -> frozenset[bytes]:
        """Identifiers of all surveyed files of the input's subject, as the gate searches for them.

        The same object for every input of one subject, as long as it is remembered.
        """
        found = self._database.execute(
            "SELECT subject FROM inputs WHERE position = ?", (position,)
        ).fetchone()
        return self._needles(found[0]) if found and found[0] is not None else frozenset()

    def _needles_of(self, subject: int) -> frozenset[bytes]:
        rows = self._database.execute(
            "SELECT vr, value, charset FROM identifiers WHERE subject = ? ORDER BY rank, vr, value, charset LIMIT ?",
            (subject, MOST_IDENTIFIERS),
        )
        identifiers, codecs = Identifiers(), set[str]()
        for vr, value, charset in rows:
            identifiers.add(vr, decoded(value, charset), value)
            codecs.update(codecs_of(charset))
        return identifiers.needles(sorted(codecs - {"iso8859"}))

    def series(self, position: int) -> int | None:
        """The number of the input's series; None where it names none."""
        found = self._database.execute("SELECT series FROM inputs WHERE position = ?", (position,)).fetchone()
        return found[0] if found else None

    def samples(self, series: int) -> list[Path]:
        """Some of a series' files, spread over it, the same ones in every run."""
        rows = self._database.execute(
            f"SELECT path FROM inputs WHERE series = ? ORDER BY (position * {_MIXER}) % 4294967296 LIMIT ?",  # noqa: S608
            (series, MOST_SAMPLES),
        )
        return [Path(os.fsdecode(path)) for (path,) in rows]

    def close(self) -> None:
        self._database.close()

"""Which runs a coordinator was asked for, and where each stands: one SQLite file beside the runs' folders.

    queued → gathering → running ⇄ waiting → closing → finished
                                           ↘ stopped, failed: `runs resume` queues them again, `runs abandon` ends them

WAL with synchronous = FULL: what a call has written is on the disk when it returns, and a kill leaves the row before
or after. The run's folder has everything that a resumed run needs; what is here is what people and programs ask for.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Self

from fedimg.errors import DataError

FILE = "runs.sqlite"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    run TEXT PRIMARY KEY, position INTEGER NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '',
    round INTEGER NOT NULL DEFAULT 0, rounds INTEGER NOT NULL, stop INTEGER NOT NULL DEFAULT 0,
    submitted TEXT NOT NULL, changed TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS owed (run TEXT NOT NULL, site TEXT NOT NULL, PRIMARY KEY (run, site));
"""


class Stage(StrEnum):
    """Where a run stands. Waiting: for sites, with the reason beside it."""

    QUEUED = "queued"
    GATHERING = "gathering"
    RUNNING = "running"
    WAITING = "waiting"
    CLOSING = "closing"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"
    ABANDONED = "abandoned"


ACTIVE = (Stage.GATHERING, Stage.RUNNING, Stage.WAITING, Stage.CLOSING)
_RESUMABLE = (Stage.STOPPED, Stage.FAILED)


@dataclass(frozen=True, slots=True)
class Entry:
    """A run: `reason` says why it waits, stopped or failed; `round` is the last that was finished."""

    run: str
    stage: Stage
    reason: str
    round: int
    rounds: int
    submitted: str
    changed: str


class Registry:
    """The runs of one federation's folder. Several processes may have it open."""

    def __init__(self, root: Path) -> None:
        """Raises DataError where the file is no registry."""
        path = root / FILE
        try:
            self._connection = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=30
            )
            path.chmod(0o600)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.executescript(_SCHEMA)
        except sqlite3.OperationalError:
            raise DataError(
                "a registry of runs that can be opened",
                "one that is locked, or has no room",
                "see who holds it, or free space, and try again; change nothing by hand",
            ) from None
        except sqlite3.DatabaseError:
            raise DataError(
                "a registry of runs",
                "a file that is none",
                f"restore {FILE}; or move it away, and `fedimg runs resume` each run: their folders have the rest",
            ) from None

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, run: str, rounds: int) -> None:
        """A run to be done after those that are there."""
        with self._change() as change:
            (last,) = change.execute("SELECT COALESCE(MAX(position), 0) FROM runs").fetchone()
            now = _now()
            change.execute(
                "INSERT INTO runs (run, position, state, rounds, submitted, changed) VALUES (?, ?, ?, ?, ?, ?)",
                (run, last + 1, Stage.QUEUED, rounds, now, now),
            )

    def next(self) -> Entry | None:
        """What to do now: a run that was under way when the server ended, else the first of the queue."""
        marks = ", ".join("?" * len(ACTIVE))
        rows = self._rows(f"WHERE state IN ({marks}) ORDER BY position LIMIT 1", ACTIVE)
        rows = rows or self._rows("WHERE state = ? ORDER BY position LIMIT 1", (Stage.QUEUED,))
        return rows[0] if rows else None

    def all(self) -> tuple[Entry, ...]:
        """In the order in which they were asked for."""
        return self._rows("ORDER BY position", ())

    def entry(self, run: str) -> Entry:
        """Raises DataError where there is none."""
        found = self._rows("WHERE run = ?", (run,))
        if not found:
            raise DataError(
                "a run of this federation", "another name", "`fedimg runs list FOLDER` names them"
            )
        return found[0]

    def begin(self, run: str) -> bool:
        """Take a run up; whether it is still wanted: someone may have stopped it a moment ago."""
        with self._change() as change:
            entry = self.entry(run)
            if entry.stage is Stage.QUEUED:
                change.execute(
                    "UPDATE runs SET state = ?, stop = 0, changed = ? WHERE run = ?",
                    (Stage.GATHERING, _now(), run),
                )
            return entry.stage is Stage.QUEUED or entry.stage in ACTIVE

    def move(self, run: str, stage: Stage, reason: str = "", round_number: int | None = None) -> None:
        """Note where a run stands, where that is new."""
        with self._change() as change:
            known = change.execute("SELECT state, reason, round FROM runs WHERE run = ?", (run,)).fetchone()
            number = known[2] if round_number is None else round_number
            if known != (stage, reason, number):
                change.execute(
                    "UPDATE runs SET state = ?, reason = ?, round = ?, changed = ? WHERE run = ?",
                    (stage, reason, number, _now(), run),
                )
            if stage not in ACTIVE:
                change.execute("UPDATE runs SET stop = 0 WHERE run = ?", (run,))

    def ask_to_stop(self, run: str) -> Entry:
        """The server stops it before its next message; one that is not under way is stopped at once."""
        with self._change() as change:
            entry = self.entry(run)
            if entry.stage is Stage.CLOSING:
                raise DataError("a run with rounds to go", "one that is closing", "it ends by itself")
            if entry.stage in ACTIVE:
                change.execute("UPDATE runs SET stop = 1 WHERE run = ?", (run,))
            elif entry.stage is Stage.QUEUED:
                change.execute(
                    "UPDATE runs SET state = ?, reason = ?, changed = ? WHERE run = ?",
                    (Stage.STOPPED, "asked to, before it began", _now(), run),
                )
            else:
                raise DataError(
                    "a run that is queued or under way", f"one that is {entry.stage}", "nothing to do"
                )
        return self.entry(run)

    def is_asked_to_stop(self, run: str) -> bool:
        row = self._connection.execute("SELECT stop FROM runs WHERE run = ?", (run,)).fetchone()
        return row is not None and bool(row[0])

    def resume(self, run: str) -> Entry:
        """Queue a run again that was stopped or has failed. Raises DataError for another."""
        with self._change() as change:
            entry = self.entry(run)
            if entry.stage not in _RESUMABLE:
                raise DataError(
                    "a run that was stopped or has failed", f"one that is {entry.stage}", "nothing to do"
                )
            change.execute(
                "UPDATE runs SET state = ?, reason = '', stop = 0, changed = ? WHERE run = ?",
                (Stage.QUEUED, _now(), run),
            )
        return self.entry(run)

    def adopt(self, run: str, rounds: int) -> Entry:
        """A run whose folder is there and whose row is not: as if it had stopped."""
        with suppress(sqlite3.IntegrityError):
            self.add(run, rounds)
            self.move(run, Stage.STOPPED, "found without an entry")
        return self.entry(run)

    def abandon(self, run: str, sites: Sequence[str]) -> Entry:
        """End a run that nobody will resume: `sites` are told, and what they had set aside is free again.

        Raises DataError for one that is under way, or has finished.
        """
        with self._change() as change:
            entry = self.entry(run)
            if entry.stage not in (*_RESUMABLE, Stage.QUEUED, Stage.ABANDONED):
                raise DataError(
                    "a run that was stopped or has failed", f"one that is {entry.stage}", "stop it first"
                )
            change.execute(
                "UPDATE runs SET state = ?, changed = ? WHERE run = ?", (Stage.ABANDONED, _now(), run)
            )
            change.executemany("INSERT OR IGNORE INTO owed VALUES (?, ?)", [(run, site) for site in sites])
        return self.entry(run)

    def owe(self, run: str, sites: tuple[str, ...]) -> None:
        """Sites that are still to be told of a run's end."""
        with self._change() as change:
            change.executemany("INSERT OR IGNORE INTO owed VALUES (?, ?)", [(run, site) for site in sites])

    def settle(self, run: str, site: str) -> None:
        with self._change() as change:
            change.execute("DELETE FROM owed WHERE run = ? AND site = ?", (run, site))

    def owed(self) -> tuple[tuple[str, str], ...]:
        """(run, site) of every end that is still to be told."""
        found = self._connection.execute(
            "SELECT owed.run, site FROM owed JOIN runs ON runs.run = owed.run WHERE state IN (?, ?) "
            "ORDER BY owed.run, site",
            (Stage.FINISHED, Stage.ABANDONED),
        )
        return tuple(found.fetchall())

    def _rows(self, where: str, values: tuple[str, ...]) -> tuple[Entry, ...]:
        columns = "run, state, reason, round, rounds, submitted, changed"
        found = self._connection.execute(f"SELECT {columns} FROM runs {where}", values)  # noqa: S608 - constants
        return tuple(Entry(run, Stage(state), *rest) for run, state, *rest in found.fetchall())

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


class ShownRegistry(Registry):
    """A registry that is there, every page of it checked: nothing is made, and it changes nothing."""

    def __init__(self, root: Path) -> None:
        """Raises DataError where the file is no registry, or is damaged."""
        file = f"{(root / FILE).resolve().as_uri()}?mode=rw"  # a reader of its log writes an index beside it
        try:
            self._connection = sqlite3.connect(file, uri=True, isolation_level=None, timeout=30)
        except sqlite3.DatabaseError:
            raise _damaged() from None
        try:
            self._connection.execute("PRAGMA query_only = ON")
            (said,) = self._connection.execute("PRAGMA integrity_check(1)").fetchone()
            self._connection.execute("SELECT state FROM runs, owed LIMIT 1").fetchone()
        except sqlite3.DatabaseError:
            said = ""
        if said != "ok":
            self._connection.close()
            raise _damaged()


def _damaged() -> DataError:
    return DataError("a registry of runs", "a file that is none, or is damaged", f"restore {FILE}")


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"

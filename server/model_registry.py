"""Which models of this federation were released: one SQLite file beside the registry of runs.

    candidate → released ⇄ superseded          by a later version of its name, or back to it
        ↘          ↓         ↙
               withdrawn                        with a reason, for good

Where a model stands is the last entry of its history, and nothing else: entries are added, never changed or removed,
and the file itself refuses to. WAL with synchronous = FULL: what a call has written is on the disk when it returns,
and a kill leaves all of a change or nothing of it, so that of one name two versions are never released at once.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

from fedimg.crypto.certificates import utc_now
from fedimg.errors import ConfigError, DataError
from fedimg.federation.request import TIME
from server.model_facts import ModelFacts

FILE = "models.sqlite"
MOST_WHO, MOST_WHY = 64, 500
_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS model (
    digest TEXT PRIMARY KEY, name TEXT NOT NULL, version TEXT NOT NULL, facts TEXT NOT NULL, UNIQUE (name, version));
CREATE TABLE IF NOT EXISTS history (
    sequence INTEGER PRIMARY KEY, digest TEXT NOT NULL REFERENCES model,
    state TEXT NOT NULL CHECK (state IN ('candidate', 'released', 'superseded', 'withdrawn')),
    who TEXT NOT NULL CHECK (who <> ''), why TEXT NOT NULL CHECK (state <> 'withdrawn' OR why <> ''), at TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS history_digest ON history (digest, sequence);
CREATE TRIGGER IF NOT EXISTS history_is_not_changed BEFORE UPDATE ON history
    BEGIN SELECT RAISE(ABORT, 'an entry is never changed'); END;
CREATE TRIGGER IF NOT EXISTS history_stays BEFORE DELETE ON history
    BEGIN SELECT RAISE(ABORT, 'an entry is never dropped'); END;
CREATE TRIGGER IF NOT EXISTS models_are_not_changed BEFORE UPDATE ON model
    BEGIN SELECT RAISE(ABORT, 'a model is never changed'); END;
CREATE TRIGGER IF NOT EXISTS models_stay BEFORE DELETE ON model
    BEGIN SELECT RAISE(ABORT, 'a model is never dropped'); END;
CREATE TRIGGER IF NOT EXISTS withdrawn_for_good BEFORE INSERT ON history
    WHEN EXISTS (SELECT 1 FROM history WHERE digest = NEW.digest AND state = 'withdrawn')
    BEGIN SELECT RAISE(ABORT, 'what was withdrawn stays so'); END;
"""


class ModelState(StrEnum):
    """Where a model stands. Superseded: another version of its name was released after it."""

    CANDIDATE = "candidate"
    RELEASED = "released"
    SUPERSEDED = "superseded"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class Change:
    """An entry of a model's history: what it became, by whom, why ("" where nobody said), when (UTC)."""

    state: ModelState
    who: str
    why: str
    at: str


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A model and its history, the first entry first; there is always one."""

    facts: ModelFacts
    history: tuple[Change, ...]

    @property
    def state(self) -> ModelState:
        return self.history[-1].state

    @property
    def title(self) -> str:
        return f"{self.facts.name} {self.facts.version}"


class ModelRegistry:
    """The models of one federation's folder. Several processes and threads may use it at once."""

    def __init__(self, root: Path) -> None:
        """Raises DataError where the file is none of this program's."""
        self._lock = threading.RLock()
        path = root / FILE
        path.touch(mode=0o600)
        try:
            self._connection = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=30
            )
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                self._connection.execute(f"PRAGMA {pragma}")
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            if version not in (0, _VERSION):
                raise DataError(
                    f"a registry of models of version {_VERSION}", f"version {version}", "use its fedimg"
                )
            self._connection.executescript(f"{_SCHEMA} PRAGMA user_version = {_VERSION};")
        except sqlite3.OperationalError:
            raise DataError(
                "a registry of models that can be opened",
                "one that is locked, or has no room",
                "see who holds it, or free space, and try again; change nothing by hand",
            ) from None
        except sqlite3.DatabaseError:
            raise DataError(
                "a registry of models",
                "a file that is none",
                f"restore {FILE} from its backup, or move it away",
            ) from None

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, facts: ModelFacts, who: str) -> RegisteredModel:
        """A verified model as a candidate; one that is here already stays as it is.

        Raises DataError where its name and version are another bundle's: that version means those bytes, for good.
        """
        who = _words(who, 1, MOST_WHO, "who does this")
        with self._change() as change:
            known = change.execute(
                "SELECT digest FROM model WHERE digest = ? OR (name = ? AND version = ?)",
                (facts.digest, facts.name, facts.version),
            ).fetchone()
            if known is None:
                values = (facts.digest, facts.name, facts.version, facts.to_text())
                change.execute("INSERT INTO model (digest, name, version, facts) VALUES (?, ?, ?, ?)", values)
                self._enter(facts.digest, ModelState.CANDIDATE, who, "")
            elif known[0] != facts.digest:
                raise DataError(
                    "a name and version that no other bundle has",
                    f"those of the bundle {known[0][:16]}…",
                    "make the bundle with another --release",
                )
        return self.model(facts.digest)

    def release(self, digest: str, who: str, why: str = "") -> RegisteredModel:
        """Make it the released version of its name; the one that was is superseded, at the same moment.

        Raises DataError for one that is released already or was withdrawn; ConfigError for words that cannot be.
        """
        who, why = _words(who, 1, MOST_WHO, "who does this"), _words(why, 0, MOST_WHY, "why")
        with self._change():
            found = self.model(digest)
            if found.state not in (ModelState.CANDIDATE, ModelState.SUPERSEDED):
                raise _not_now("a model that is a candidate or superseded", found)
            for other in self.all():
                if other.facts.name == found.facts.name and other.state is ModelState.RELEASED:
                    text = f"version {found.facts.version} was released"
                    self._enter(other.facts.digest, ModelState.SUPERSEDED, who, text)
            self._enter(digest, ModelState.RELEASED, who, why)
        return self.model(digest)

    def withdraw(self, digest: str, who: str, why: str) -> RegisteredModel:
        """Nobody is to use it any more. No other version takes its place by itself.

        Raises DataError for one that was withdrawn already; ConfigError for words that cannot be.
        """
        who, why = _words(who, 1, MOST_WHO, "who does this"), _words(why, 1, MOST_WHY, "why")
        with self._change():
            found = self.model(digest)
            if found.state is ModelState.WITHDRAWN:
                raise _not_now("a model that was not withdrawn", found)
            self._enter(digest, ModelState.WITHDRAWN, who, why)
        return self.model(digest)

    def model(self, digest: str) -> RegisteredModel:
        """Raises DataError where there is none."""
        return self._one("model.digest = ?", (digest,))

    def named(self, name: str, version: str) -> RegisteredModel:
        """Raises DataError where there is none."""
        return self._one("model.name = ? AND model.version = ?", (name, version))

    def all(self) -> tuple[RegisteredModel, ...]:
        """The latest that was added first."""
        return self._rows("1", ())[::-1]

    def _one(self, where: str, values: tuple[str, ...]) -> RegisteredModel:
        found = self._rows(where, values)
        if not found:
            raise DataError(
                "a model of this federation", "another one", "`fedimg server models list FOLDER` names them"
            )
        return found[0]

    def _rows(self, where: str, values: tuple[str, ...]) -> tuple[RegisteredModel, ...]:
        tables = "model JOIN history ON history.digest = model.digest"
        query = (
            f"SELECT facts, state, who, why, at FROM {tables} WHERE {where} ORDER BY model.rowid, sequence"  # noqa: S608 - constants
        )
        with self._lock:
            rows = self._connection.execute(query, values).fetchall()
        histories: dict[str, list[Change]] = {}
        for facts, state, *rest in rows:
            histories.setdefault(facts, []).append(Change(ModelState(state), *rest))
        return tuple(
            RegisteredModel(ModelFacts.from_text(facts), tuple(own)) for facts, own in histories.items()
        )

    def _enter(self, digest: str, state: ModelState, who: str, why: str) -> None:
        at = utc_now().strftime(TIME)
        self._connection.execute(
            "INSERT INTO history (digest, state, who, why, at) VALUES (?, ?, ?, ?, ?)",
            (digest, state, who, why, at),
        )

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:  # of a COMMIT that failed, too: a full disk
                    self._connection.execute("ROLLBACK")


def _words(text: str, least: int, most: int, what: str) -> str:
    """One line of text without what could hide in it. Raises ConfigError for another."""
    found = " ".join(text.split())
    if not (least <= len(found) <= most and found.isprintable()):
        expected = f"{what}, in {least} to {most} letters" if least else f"{what}, in at most {most} letters"
        raise ConfigError(expected, "none" if not found else "another text", "say it in one sentence")
    return found


def _not_now(expected: str, found: RegisteredModel) -> DataError:
    return DataError(
        expected, f"one that is {found.state}", "`fedimg server models list FOLDER` says where each stands"
    )

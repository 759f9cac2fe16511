"""What was taken from an archive already, over restarts: poll.sqlite beside the spool (0600), of keyed digests alone.

An instance is noted after it is on the disk: what a kill cuts off is asked for again, and is a repeat for spool and store.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from fedimg.errors import DataError
from sites.watch.delivering import Retries

FILE: Final = "poll.sqlite"
JITTER: Final = random.SystemRandom().random
_KEPT_DAYS: Final = 7
_DAY_S: Final = 86400.0
_SCHEMA: Final = """
-- said: images of a study or series when it was looked at, -1: it did not say. due: seconds since 1970. day: of the study.
CREATE TABLE IF NOT EXISTS item (
    digest BLOB PRIMARY KEY, kind TEXT NOT NULL CHECK (kind IN ('study', 'series', 'instance')),
    state TEXT NOT NULL CHECK (state IN ('taken', 'refused', 'failing', 'left', 'looked', 'waiting')),
    said INTEGER NOT NULL, tries INTEGER NOT NULL, due REAL NOT NULL, day INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS item_failing ON item (state, day) WHERE state = 'failing';
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


class State(StrEnum):
    """TAKEN, REFUSED, LEFT: of an instance, at an end. FAILING: to be tried again. LOOKED, WAITING: of a study or series:
    all of it is settled, or some of it fails and is waited for.
    """

    TAKEN = "taken"
    REFUSED = "refused"
    FAILING = "failing"
    LEFT = "left"
    LOOKED = "looked"
    WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class Key:
    """A study, series or instance. day: of the study, as `date.toordinal` counts."""

    digest: bytes
    kind: str
    day: int


@dataclass(frozen=True, slots=True)
class Item:
    """What is remembered of one."""

    state: State
    said: int
    tries: int
    due: float


# 12 tries with pauses of half a minute up to six hours: half a day or more
RETRIES: Final = Retries(attempts=12, first_s=30.0, longest_s=21600.0)


class Memory:
    """One thread's. Raises DataError where its file is none."""

    def __init__(
        self,
        root: Path,
        retries: Retries = RETRIES,
        jitter: Callable[[], float] = JITTER,
    ) -> None:
        path = root / FILE
        path.touch(mode=0o600)
        self._retries, self._jitter = retries, jitter
        self._table = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._table.execute("PRAGMA journal_mode = WAL")
            self._table.execute(
                "PRAGMA synchronous = NORMAL"
            )  # a power cut may cost a note, and that a repeat
            self._table.executescript(_SCHEMA)
        except sqlite3.DatabaseError:
            self._table.close()
            remedy = f"remove {FILE} from the spool: its images are fetched again, and known as repeats"
            raise DataError("what was polled so far", "a file that is something else", remedy) from None

    def close(self) -> None:
        self._table.close()

    def find(self, key: Key) -> Item | None:
        row = self._table.execute(
            "SELECT state, said, tries, due FROM item WHERE digest = ?", (key.digest,)
        ).fetchone()
        return None if row is None else Item(State(row[0]), *row[1:])

    def is_due(self, key: Key, said: int, now: float) -> bool:
        """Whether a study or series is to be looked at. Its images say so, where it says how many there are; else its time."""
        item = self.find(key)
        if item is None:
            return True
        if item.state is State.FAILING:
            return item.due <= now
        if item.state is State.LEFT:
            return said not in (-1, item.said)
        return said < 0 or said != item.said or item.due <= now

    def settle(self, key: Key, state: State, said: int = -1, due: float = 0.0) -> None:
        self._put(key, state, said, 0, due)

    def charge(self, key: Key, now: float, said: int = -1) -> Item:
        """One try more that failed: it is tried again after a pause that doubles, or left."""
        item = self.find(key)
        tries = 1 + (item.tries if item is not None and item.state in (State.FAILING, State.LEFT) else 0)
        state = State.LEFT if tries >= self._retries.attempts else State.FAILING
        due = now + self._retries.pause(tries, self._jitter())
        self._put(key, state, said, tries, due)
        return Item(state, said, tries, due)

    def begin(self, archive: str, today: int, overlap: int, first: int, now: float) -> int:
        """The first day to ask about: that of the last round that was whole, less the overlap; what fails goes with it.

        Args:
            archive: hex digest of its address: another archive begins anew.
        """
        whole = self._fact(f"whole {archive}")
        begin = today - first if whole is None else min(int(whole), today) - overlap
        # what is due for a day and was not met any more is not there any more
        question = "SELECT min(day) FROM item WHERE state = 'failing' AND due > ?"
        (oldest,) = self._table.execute(question, (now - _DAY_S,)).fetchone()
        return max(min(begin, begin if oldest is None else oldest), today - 366)

    def whole(self, archive: str, begin: int, today: int) -> None:
        """A round over these days has met everything. What is long before them is forgotten."""
        self._note(f"whole {archive}", str(today))
        self._table.execute("DELETE FROM item WHERE day < ?", (begin - _KEPT_DAYS,))

    def forgive(self, begin: int) -> None:
        """After a restart: everything since a day is looked at once, and what was left is tried anew."""
        anew = "UPDATE item SET state = 'failing', tries = 0, due = 0 WHERE state = 'left' AND day >= ?"
        self._table.execute(anew, (begin,))
        self._table.execute("UPDATE item SET due = 0 WHERE kind != 'instance' AND day >= ?", (begin,))

    def trouble(self, word: str) -> None:
        """How the last round ended; "" where it was whole."""
        self._note("trouble", word)

    def _put(self, key: Key, state: State, said: int, tries: int, due: float) -> None:
        row = (key.digest, key.kind, state.value, said, tries, due, key.day)
        self._table.execute("INSERT OR REPLACE INTO item VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def _note(self, name: str, value: str) -> None:
        self._table.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, value))

    def _fact(self, name: str) -> str | None:
        row = self._table.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])


def standing(root: Path) -> Mapping[str, int]:
    """Instances by state, and 1 under the trouble of the last round; empty where nothing was polled. Nothing is written.

    Args:
        root: of the spool.
    """
    path = root / FILE
    if not path.exists():
        return {}
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=10)) as table:
        question = "SELECT state, count(*) FROM item WHERE kind = 'instance' OR state = 'left' GROUP BY 1"
        found = {str(state): int(count) for state, count in table.execute(question)}
        trouble = table.execute("SELECT value FROM fact WHERE name = 'trouble' AND value != ''").fetchone()
    return found | ({f"trouble: {trouble[0]}": 1} if trouble is not None else {})

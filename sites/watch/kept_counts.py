"""What was refused, by reason, over all starts: in the store, where another process reads it too."""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import dataclass, field

from sites.watch.counts import Counts
from sites.watch.store.database import Database

REFUSED = "refused"
_PREFIX = "refused."


@dataclass
class KeptCounts:
    """Of one process. A kill loses the last second's counts, and no file: those were not acknowledged."""

    counts: Counts
    database: Database
    _kept: Counter[str] = field(default_factory=Counter)

    def tick(self, at: float) -> None:
        """Called every second or so. Raises sqlite3.OperationalError where the store is locked or full; nothing is lost by it."""
        del at
        for name, count in self.counts.read().items():
            reason = "full" if name == "full" else name.removeprefix(_PREFIX)
            if (name == "full" or name.startswith(_PREFIX)) and count > self._kept[name]:
                self.database.count(REFUSED, reason, count - self._kept[name])
                self._kept[name] = count


def refused(connection: sqlite3.Connection) -> dict[str, int]:
    """Reason → how many files, since the first start; "full": for which there was no room."""
    rows = connection.execute("SELECT label, value FROM counter WHERE name = ? ORDER BY 1", (REFUSED,))
    return {str(label): int(value) for label, value in rows}

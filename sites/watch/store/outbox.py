"""What is to go out, taken by the deliverer and marked as it goes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sites.watch.deliveries import Delivery
from sites.watch.store.database import Database

_LONGEST_PAUSE_S: Final = 2 * 3600.0
"""No target and no retry asks for more; what waits for longer was put here by a clock that was set back since."""


class StoreOutbox:
    """The delivery table as the deliverer knows it. delivered: called with an alert's key once a target has taken it."""

    def __init__(self, database: Database, delivered: Callable[[str, float], None]) -> None:
        self._database, self._delivered = database, delivered

    def due(self, now: float, most: int) -> list[Delivery]:
        """The oldest first."""
        rows = self._database.rows(
            "SELECT id, target, kind, key, body, paths, attempts FROM delivery WHERE state = 'due'"
            " AND (next_at <= ? OR next_at > ?) ORDER BY id LIMIT ?",
            (now, now + _LONGEST_PAUSE_S, most),
        )
        return [
            Delivery(
                row["id"],
                row["target"],
                row["kind"],
                row["key"],
                bytes(row["body"]),
                tuple(Path(path) for path in json.loads(row["paths"])),
                row["attempts"],
            )
            for row in rows
        ]

    def done(self, delivery: int, now: float) -> None:
        with self._database.change() as change:
            row = change.execute("SELECT alert, target FROM delivery WHERE id = ?", (delivery,)).fetchone()
            change.execute(
                "UPDATE delivery SET state = 'done', attempts = attempts + 1, done_at = ?, why = '' WHERE id = ?",
                (now, delivery),
            )
            self._database.count("delivered", row["target"])
            if row["alert"]:
                self._delivered(row["alert"], now)

    def again(self, delivery: int, why: str, at: float) -> None:
        with self._database.change() as change:
            change.execute(
                "UPDATE delivery SET attempts = attempts + 1, next_at = ?, why = ? WHERE id = ?",
                (at, why, delivery),
            )

    def dead(self, delivery: int, why: str, now: float) -> None:
        with self._database.change() as change:
            change.execute(
                "UPDATE delivery SET state = 'dead', attempts = attempts + 1, done_at = ?, why = ? WHERE id = ?",
                (now, why, delivery),
            )
            row = change.execute("SELECT target FROM delivery WHERE id = ?", (delivery,)).fetchone()
            self._database.count("dead", row["target"])

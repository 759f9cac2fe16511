"""One connection that changes the store, for all threads of the watcher, a transaction at a time."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sites.watch.store.schema import writer

Arguments = Sequence[Any]


class Database:
    """`change` within `change` joins the outer one: what is done together is on the disk together, or not at all."""

    def __init__(self, root: Path) -> None:
        """Raises DataError where the file is none of this program's."""
        self.root = root
        self._connection = writer(root)
        self._connection.row_factory = sqlite3.Row
        self._lock = threading.RLock()
        self._within = False

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """A transaction: committed and on the disk when this ends, rolled back where it raises."""
        with self._lock:
            if self._within:
                yield self._connection
                return
            self._connection.execute("BEGIN IMMEDIATE")
            self._within = True
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            finally:
                self._within = False
                # Of a COMMIT that failed, too (a full disk). SQLite has ended some transactions by itself then.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def rows(self, query: str, arguments: Arguments = ()) -> list[sqlite3.Row]:
        with self._lock:
            return self._connection.execute(query, arguments).fetchall()

    def row(self, query: str, arguments: Arguments = ()) -> sqlite3.Row | None:
        found = self.rows(query, arguments)
        return found[0] if found else None

    def count(self, name: str, label: str = "", by: int = 1) -> None:
        """Add to a total that lasts."""
        with self.change() as change:
            change.execute(
                "INSERT INTO counter (name, label, value) VALUES (?, ?, ?)"
                " ON CONFLICT (name, label) DO UPDATE SET value = value + excluded.value",
                (name, label, by),
            )

"""The store, read by one thread over one connection that can change nothing, a snapshot at a time."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

from sites.watch.store.schema import reader

_T = TypeVar("_T")
Question = Callable[[sqlite3.Connection], _T]
_MOST_KEPT = 32


class Reading:
    """Answers are of one moment each. From any thread, one at a time.

    Raises DataError where there is no store yet.
    """

    def __init__(self, root: Path) -> None:
        # a connection is for one thread
        self._thread = ThreadPoolExecutor(1, "console-reading")
        self._kept: dict[Hashable, object] = {}
        self._before: dict[Hashable, object] = {}
        self._version = -1
        try:
            self._connection = self._thread.submit(reader, root).result()
        except BaseException:
            self._thread.shutdown()
            raise

    def close(self) -> None:
        self._thread.submit(self._connection.close).result()
        self._thread.shutdown()

    def read(self, question: Question[_T], kept_as: Hashable = None) -> _T:
        """What the question finds; `kept_as` names it, and it is asked again only when the store has changed.

        What has not changed is the same object as before, so that whoever has drawn it need not draw it again.
        """
        return self._thread.submit(self._answer, question, kept_as).result()

    def _answer(self, question: Question[_T], kept_as: Hashable) -> _T:
        self._connection.execute("BEGIN")
        try:
            version = version_of(self._connection)  # begins the snapshot
            if version != self._version or len(self._kept) >= _MOST_KEPT:
                self._version, self._kept, self._before = version, {}, self._kept
            if kept_as in self._kept:
                return cast("_T", self._kept[kept_as])
            found = question(self._connection)
            if kept_as is not None:
                if (before := self._before.get(kept_as)) == found:
                    found = before
                self._kept[kept_as] = found
            return found
        finally:
            self._connection.execute("ROLLBACK")


def version_of(connection: sqlite3.Connection) -> int:
    """Changes whenever another connection has changed the store."""
    return int(connection.execute("PRAGMA data_version").fetchone()[0])


@contextmanager
def mark_of(root: Path) -> Iterator[Callable[[], object]]:
    """What `Changes` looks at, for one thread: some microseconds.

    A store that cannot be read counts as changed, so that whoever reads finds it out.
    """
    with closing(reader(root)) as connection:

        def mark() -> object:
            try:
                return version_of(connection)
            except sqlite3.Error:
                return object()

        yield mark


def counted(connection: sqlite3.Connection, table: str, column: str, where: str = "1") -> dict[str, int]:
    """Rows by a column's value. The names are this program's own."""
    rows = connection.execute(f"SELECT {column}, count(*) FROM {table} WHERE {where} GROUP BY 1 ORDER BY 1")  # noqa: S608
    return {str(name): int(count) for name, count in rows}


def read_json(text: object) -> Any:
    """A column's JSON; None for what is none."""
    try:
        return json.loads(cast("str", text))
    except (TypeError, ValueError, RecursionError):
        return None


def mapping(value: object) -> dict[str, Any]:
    """The same value if it is an object of JSON, else an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def text_of(value: object, most: int = 200) -> str:
    return value[:most] if isinstance(value, str) else ""


def number_of(value: object) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    found = float(value)
    return found if abs(found) < float("inf") else None

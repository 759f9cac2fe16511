"""A file of JSON lines by key, at the home (0600): it is appended to, and the last line of a key counts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

Value = TypeVar("Value")
Entry = Callable[[bytes], tuple[str, Value] | None]
"""A line → its key and value; None for one that an interruption cut short."""


def read_lines(path: Path, entry: Entry[Value]) -> dict[str, Value]:
    """What the file says; nothing where there is none. A line cut short is skipped: its input comes again."""
    found: dict[str, Value] = {}
    if not path.exists():
        return found
    with path.open("rb") as file:
        for line in file:
            parsed = entry(line)
            if parsed is not None:
                found[parsed[0]] = parsed[1]
    return found


class KeyedLines(Generic[Value]):
    """Appends; durable from `flush` on."""

    def __init__(self, path: Path, entry: Entry[Value]) -> None:
        self._known = read_lines(path, entry)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        self._file = os.fdopen(descriptor, "wb")
        self._file.write(b"\n")  # ends a line that an interruption cut short; empty lines are skipped

    def _append(self, key: str, value: Value, body: Mapping[str, Any]) -> None:
        """Write the line that says so, unless that is known already. Raises OSError."""
        if self._known.get(key) == value:
            return
        self._known[key] = value
        self._file.write(json.dumps(body, sort_keys=True, separators=(",", ":")).encode() + b"\n")

    def flush(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

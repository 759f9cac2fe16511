"""Labels of released files, by instance pseudonym, at the home: one JSON line each, the last one counts."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from fedimg.values import Split

Label = tuple[int, Split]


def label_key(keys: Mapping[str, str]) -> str:
    """Patient and instance: broken exporters give two patients one instance number, and the label of
    one must not depend on the other.
    """
    return f"{keys['patient']}/{keys['instance']}"


def read_labels(path: Path) -> dict[str, Label]:
    """Instance → (class index, split). A line cut short by an interruption is skipped: its input comes again."""
    labels: dict[str, Label] = {}
    if not path.exists():
        return labels
    with path.open("rb") as file:
        for line in file:
            entry = _entry(line)
            if entry is not None:
                labels[entry[0]] = entry[1]
    return labels


def _entry(line: bytes) -> tuple[str, Label] | None:
    try:
        body: Any = json.loads(line)
        instance, label, split = body["instance"], body["label"], body["split"]
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(instance, str) or type(label) is not int or split not in ("train", "public"):
        return None
    return instance, (label, split)


class LabelFile:
    """Appends; durable from `flush` on."""

    def __init__(self, path: Path) -> None:
        self._known = read_labels(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        self._file = os.fdopen(descriptor, "wb")
        self._file.write(b"\n")  # ends a line that an interruption cut short; empty lines are skipped

    def put(self, instance: str, label: int, split: Split) -> None:
        """Note a label, unless it is known already. Raises OSError."""
        if self._known.get(instance) == (label, split):
            return
        self._known[instance] = (label, split)
        body = {"instance": instance, "label": label, "split": split}
        self._file.write(json.dumps(body, sort_keys=True, separators=(",", ":")).encode() + b"\n")

    def flush(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

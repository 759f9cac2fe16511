"""Labels of released files, by instance pseudonym, at the home: one JSON line each, the last one counts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedimg.intake.keyed_lines import KeyedLines, read_lines
from fedimg.values import Split

Label = tuple[int, Split]


def label_key(keys: Mapping[str, str]) -> str:
    """Patient and instance: broken exporters give two patients one instance number, and the label of
    one must not depend on the other.
    """
    return f"{keys['patient']}/{keys['instance']}"


def read_labels(path: Path) -> dict[str, Label]:
    """Instance → (class index, split). A line cut short by an interruption is skipped: its input comes again."""
    return read_lines(path, _entry)


def _entry(line: bytes) -> tuple[str, Label] | None:
    try:
        body: Any = json.loads(line)
        instance, label, split = body["instance"], body["label"], body["split"]
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(instance, str) or type(label) is not int or split not in ("train", "public"):
        return None
    return instance, (label, split)


class LabelFile(KeyedLines[Label]):
    """Appends; durable from `flush` on."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, _entry)

    def put(self, instance: str, label: int, split: Split) -> None:
        """Note a label, unless it is known already. Raises OSError."""
        self._append(instance, (label, split), {"instance": instance, "label": label, "split": split})

"""Models as they are at this site, from the store: their roles, and what their metadata promise."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fedimg.monitoring.operating_point import OperatingPoint
from fedimg.values import Interval
from sites.watch.console.reading import items, mapping, number_of, read_json, text_of

_ROLES: Final = "CASE role WHEN 'active' THEN 0 WHEN 'shadow' THEN 1 ELSE 2 END"


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A released model. `findings`: (class, what it means). `point`: None where no sensitivity is promised."""

    name: str
    version: str
    digest: str
    kind: str
    role: str
    since: float
    task: str
    classes: tuple[str, ...]
    findings: tuple[tuple[str, str], ...]
    modalities: tuple[str, ...]
    body_parts: tuple[str, ...]
    threshold: float | None
    point: OperatingPoint | None
    run: str

    @property
    def title(self) -> str:
        return f"{self.name} {self.version}"


def models(connection: sqlite3.Connection) -> list[ModelInfo]:
    """A question for `Reading`: active, shadow, retired; each by name, the latest first."""
    return [
        _model(row)
        for row in connection.execute(
            f"SELECT * FROM model ORDER BY {_ROLES}, name, since DESC, digest"  # noqa: S608 - own words
        )
    ]


def _model(row: sqlite3.Row) -> ModelInfo:
    read = mapping(read_json(row["metadata"]))
    said = mapping(read.get("fedimg")) or read  # the bundle's whole metadata, or its own part
    return ModelInfo(
        row["name"],
        row["version"],
        row["digest"],
        row["kind"],
        row["role"],
        row["since"],
        text_of(said.get("task")),
        _texts(said.get("classes")),
        tuple(_finding(mapping(one)) for one in items(said.get("findings"))),
        _texts(said.get("modalities")),
        _texts(said.get("body_parts")),
        number_of(said.get("threshold")),
        _point(said.get("operating_point")),
        text_of(said.get("run")),
    )


def _finding(said: Mapping[str, Any]) -> tuple[str, str]:
    code = items(said.get("code"))
    meaning = text_of(code[2]) if len(code) == 3 else text_of(mapping(said.get("code")).get("meaning"))
    return text_of(said.get("class")), meaning


def _point(said: object) -> OperatingPoint | None:
    found = mapping(said)
    numbers = [number_of(found.get(name)) for name in ("threshold", "target", "confidence")]
    counts = [number_of(found.get(name)) for name in ("positives", "negatives")]
    intervals = [_interval(found.get(name)) for name in ("sensitivity", "specificity")]
    if None in numbers or None in counts or None in intervals:
        return None
    threshold, target, confidence = (one for one in numbers if one is not None)
    positives, negatives = (int(one) for one in counts if one is not None)
    sensitivity, specificity = (one for one in intervals if one is not None)
    return OperatingPoint(threshold, target, confidence, positives, negatives, sensitivity, specificity)


def _interval(said: object) -> Interval | None:
    """As an object or as [value, low, high], each a share."""
    found = mapping(said)
    listed = [found.get(name) for name in ("value", "low", "high")] if found else items(said)
    numbers = [number_of(one) for one in listed]
    if len(numbers) != 3 or any(one is None or not 0 <= one <= 1 for one in numbers):
        return None
    value, low, high = (one for one in numbers if one is not None)
    return Interval(value, low, high)


def _texts(said: object) -> tuple[str, ...]:
    return tuple(text_of(one) for one in items(said))

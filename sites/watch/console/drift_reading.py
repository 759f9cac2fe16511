"""Drift at this site, from the store: the streams of each model at the last look, and every look that was taken."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sites.watch.console.models_reading import ModelInfo, models
from sites.watch.console.reading import mapping, number_of, read_json

_MOST_VALUES: Final = 200
_MOST_LOOKS: Final = 30


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """A stream at the last look. `values`: of the latest studies, the oldest first; of vectors there are none."""

    name: str
    p: float | None
    effect: float | None
    alarm: bool
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class LookTaken:
    """One look: when, after how many studies, in which streams it found something."""

    at: float
    studies: int
    streams: int
    alarms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Drifting:
    """A model's. `looks`: the last one first."""

    model: ModelInfo
    streams: list[StreamInfo]
    looks: list[LookTaken]
    measured: int


def drifting(connection: sqlite3.Connection) -> list[Drifting]:
    """A question for `Reading`: every model that is not retired, with its last look."""
    return [_drifting(connection, one) for one in models(connection) if one.role != "retired"]


def _drifting(connection: sqlite3.Connection, model: ModelInfo) -> Drifting:
    taken = connection.execute(
        "SELECT at, studies, streams FROM drift_look WHERE model = ? ORDER BY id DESC LIMIT ?",
        (model.digest, _MOST_LOOKS),
    ).fetchall()
    said = [mapping(read_json(row["streams"])) for row in taken]
    looks = [
        LookTaken(
            row["at"],
            row["studies"],
            len(streams),
            tuple(sorted(str(name) for name, one in streams.items() if mapping(one).get("alarm") is True)),
        )
        for row, streams in zip(taken, said, strict=True)
    ]
    (measured,) = connection.execute(
        "SELECT count(*) FROM measure WHERE model = ?", (model.digest,)
    ).fetchone()
    values = _values(connection, model.digest)
    last = said[0] if said else {}
    streams = [
        _stream(name, mapping(last.get(name)), values.get(name, [])) for name in sorted({*last, *values})
    ]
    return Drifting(model, sorted(streams, key=lambda one: not one.alarm), looks, int(measured))


def _stream(name: str, said: Mapping[str, Any], values: list[float]) -> StreamInfo:
    effect = number_of(said.get("effect"))
    return StreamInfo(str(name), number_of(said.get("p")), effect, said.get("alarm") is True, tuple(values))


def _values(connection: sqlite3.Connection, digest: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for (numbers,) in connection.execute(
        "SELECT numbers FROM (SELECT id, numbers FROM measure WHERE model = ? ORDER BY id DESC LIMIT ?) ORDER BY id",
        (digest, _MOST_VALUES),
    ):
        for name, value in mapping(read_json(numbers)).items():
            number = number_of(value)
            if number is not None:
                found.setdefault(str(name), []).append(number)
    return found

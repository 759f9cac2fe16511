"""Drift of each model at this site: its first studies here are the reference, all later ones are watched.

Everything follows from the store: after a restart the windows are as they were, and no look is taken twice. A study
counts once a model, however often it was looked at: what is tested are its latest numbers before the look.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from fedimg.monitoring.drift import DriftConfig, Drifted, DriftMonitor, Reference
from sites.watch.store.database import Database

PERSISTENT: Final = 3
"""So many looks in a row with an alarm ask for a new training."""
EMBEDDING: Final = "image.embedding"


@dataclass(frozen=True, slots=True)
class Look:
    """What was found of one model. persists: for so many looks in a row that its training is worth asking for."""

    model: str
    studies: int
    moved: tuple[Drifted, ...]
    persists: bool


@dataclass
class Drifting:
    """All models of one watcher. Within the caller's transaction: the threads of the workers come one after the other."""

    database: Database
    references: int
    config: DriftConfig
    _monitors: dict[str, DriftMonitor] = field(default_factory=dict)
    _last: dict[str, int] = field(default_factory=dict)

    def observed(self, model: str, at: float) -> Look | None:
        """There may be new results of a model: the last look that they made due, written down; else None."""
        monitor = self._monitors.get(model)
        if monitor is None:
            if (monitor := self._restored(model)) is None:
                return None
            self._monitors[model] = monitor
            return self._look(model, monitor, at) if self._owed(model, monitor) else None
        look = None
        for row in self._rows(model, self._last[model]):
            self._last[model] = row["id"]
            monitor.take(_values(row, monitor.references))
            if monitor.is_due:
                look = self._look(model, monitor, at)
        return look

    def _owed(self, model: str, monitor: DriftMonitor) -> bool:
        """Whether a look is due that nobody has taken."""
        row = self.database.row("SELECT MAX(studies) AS last FROM drift_look WHERE model = ?", (model,))
        return monitor.is_due and (row is None or (row["last"] or 0) < monitor.studies)

    def _look(self, model: str, monitor: DriftMonitor, at: float) -> Look:
        tests = monitor.tests()
        moved = monitor.moved(tests)
        self._note(model, monitor.studies, tests, moved, at)
        return Look(model, monitor.studies, moved, self._persists(model))

    def _restored(self, model: str) -> DriftMonitor | None:
        """As the store has it; None as long as there are too few references."""
        rows = self._rows(model, 0)
        if len(rows) < self.references:
            return None
        first, later = rows[: self.references], rows[self.references :]
        if not (references := _references(first)):
            return None  # nothing in them that can be compared
        monitor = DriftMonitor(references, self.config)
        kept = later[-self.config.window :]
        monitor.studies = len(later) - len(kept)
        for row in kept:
            monitor.take(_values(row, monitor.references))
        self._last[model] = rows[-1]["id"]
        return monitor

    def _rows(self, model: str, after: int) -> list[Any]:
        return self.database.rows(
            "SELECT id, numbers, embedding FROM measure WHERE model = ? AND id > ? ORDER BY id",
            (model, after),
        )

    def _note(
        self, model: str, studies: int, tests: Mapping[str, Drifted], moved: tuple[Drifted, ...], at: float
    ) -> None:
        alarmed = {one.stream for one in moved}
        streams = {
            name: {"p": one.p, "effect": one.shift, "alarm": name in alarmed} for name, one in tests.items()
        }
        with self.database.change() as change:
            change.execute(
                "INSERT INTO drift_look (model, at, studies, streams, alarm) VALUES (?, ?, ?, ?, ?)",
                (model, at, studies, json.dumps(streams), int(bool(moved))),
            )

    def _persists(self, model: str) -> bool:
        """Whether this look is the one at which the alarm has lasted for long enough: true once, then again after a calm."""
        rows = self.database.rows(
            "SELECT alarm FROM drift_look WHERE model = ? ORDER BY id DESC LIMIT ?", (model, PERSISTENT + 1)
        )
        alarms = [bool(row["alarm"]) for row in rows]
        begun = len(alarms) == PERSISTENT or not alarms[-1]
        return len(alarms) >= PERSISTENT and all(alarms[:PERSISTENT]) and begun


def _references(rows: list[Any]) -> dict[str, Reference]:
    """Streams that nearly every one of the first studies has: a number each, and the embedding as a vector."""
    numbers = [json.loads(row["numbers"]) for row in rows]
    vectors = [json.loads(row["embedding"]) for row in rows]
    found = {}
    for name in sorted({name for one in numbers for name in one}):
        own = np.array([one[name] for one in numbers if _finite(one.get(name))], dtype=np.float64)
        if len(own) >= max(50, len(rows) // 2):
            found[name] = Reference("number", own)
    lengths = {len(one) for one in vectors}
    if len(lengths) == 1 and lengths != {0} and all(_finite(value) for one in vectors for value in one):
        found[EMBEDDING] = Reference("vector", np.array(vectors, dtype=np.float64))
    return found


def _values(row: Any, references: Mapping[str, Reference]) -> dict[str, Any]:
    numbers = {name: value for name, value in json.loads(row["numbers"]).items() if name in references}
    vector = json.loads(row["embedding"])
    whole = EMBEDDING in references and len(vector) == references[EMBEDDING].values.shape[1]
    return numbers | ({EMBEDDING: vector} if whole else {})


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)

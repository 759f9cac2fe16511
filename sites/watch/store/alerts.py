"""Alerts as they live, and what is to go out because of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedimg.codes import Code
from fedimg.errors import DataError
from fedimg.monitoring import alerts as life
from fedimg.monitoring.alerts import Alert, State
from fedimg.monitoring.pushing import Pushes
from sites.watch.store.database import Database

_COLUMNS = (
    "key, study, finding, code, kind, location, size_mm, score, threshold, model_name, model_version, model, raised_at,"
    " state, reason, revision, escalated"
)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What one target is to be told. key: of this message, for good; body, paths: as the target's kind has them."""

    target: str
    kind: str
    key: str
    body: bytes
    paths: tuple[Path, ...] = ()
    alert: str | None = None


class Alerts:
    """The alert, alert_event and pushes tables, and what is put into the outbox."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, key: str) -> Alert | None:
        row = self._database.row(f"SELECT {_COLUMNS} FROM alert WHERE key = ?", (key,))  # noqa: S608 - our own words
        return None if row is None else _alert(row)

    def known(self, key: str) -> Alert:
        """Raises DataError where there is none."""
        if (alert := self.find(key)) is None:
            raise DataError("an alert of this watcher", "none of that key", "open the worklist again")
        return alert

    def unacknowledged(self) -> list[Alert]:
        """The first raised first."""
        marks = ", ".join("?" * len(life.OPEN))
        query = f"SELECT {_COLUMNS} FROM alert WHERE state IN ({marks}) ORDER BY raised_at, key"  # noqa: S608
        return [_alert(row) for row in self._database.rows(query, sorted(life.OPEN))]

    def of_study(self, study: str, model: str) -> list[Alert]:
        """Of one study, by one model."""
        query = f"SELECT {_COLUMNS} FROM alert WHERE study = ? AND model = ? ORDER BY key"  # noqa: S608
        return [_alert(row) for row in self._database.rows(query, (study, model))]

    def put(self, alert: Alert, job: int, at: float, *, suppressed: bool = False) -> None:
        """As it is now. `job`: the run whose evidence it shows."""
        code = json.dumps([alert.code.value, alert.code.scheme, alert.code.meaning])
        with self._database.change() as change:
            change.execute(
                f"INSERT INTO alert ({_COLUMNS}, job, changed_at, suppressed)"  # noqa: S608
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET"
                " location = excluded.location, size_mm = excluded.size_mm, score = excluded.score,"
                " threshold = excluded.threshold, raised_at = excluded.raised_at, state = excluded.state,"
                " reason = excluded.reason, revision = excluded.revision, escalated = excluded.escalated,"
                " job = excluded.job, changed_at = excluded.changed_at, suppressed = excluded.suppressed",
                (
                    *(alert.key, alert.study, alert.finding, code, alert.kind, alert.where, alert.size_mm),
                    *(
                        alert.score,
                        alert.threshold,
                        alert.model_name,
                        alert.model_version,
                        alert.model_digest,
                    ),
                    *(alert.raised_at, alert.state, alert.reason, alert.revision, alert.escalated),
                    *(job, at, int(suppressed)),
                ),
            )

    def changed(self, alert: Alert, at: float) -> None:
        """The same evidence, another state."""
        with self._database.change() as change:
            change.execute(
                "UPDATE alert SET state = ?, reason = ?, revision = ?, escalated = ?, changed_at = ? WHERE key = ?",
                (alert.state, alert.reason, alert.revision, alert.escalated, at, alert.key),
            )

    def event(self, key: str, what: str, who: str, at: float, reason: str = "") -> None:
        with self._database.change() as change:
            change.execute(
                "INSERT INTO alert_event (alert, at, event, who, reason) VALUES (?, ?, ?, ?, ?)",
                (key, at, what, who, reason),
            )

    def job_of(self, key: str) -> int:
        row = self._database.row("SELECT job FROM alert WHERE key = ?", (key,))
        return 0 if row is None else int(row["job"])

    def suppressed(self, key: str) -> bool:
        """Whether its last message was above the rate limit."""
        row = self._database.row("SELECT suppressed FROM alert WHERE key = ?", (key,))
        return row is not None and bool(row["suppressed"])

    def pushes(self, name: str) -> Pushes:
        row = self._database.row("SELECT body FROM pushes WHERE finding = ?", (name,))
        return Pushes(name) if row is None else Pushes.from_json(json.loads(row["body"]))

    def all_pushes(self) -> list[Pushes]:
        return [
            Pushes.from_json(json.loads(row["body"]))
            for row in self._database.rows("SELECT body FROM pushes")
        ]

    def put_pushes(self, pushes: Pushes) -> None:
        with self._database.change() as change:
            change.execute(
                "INSERT INTO pushes (finding, body) VALUES (?, ?) ON CONFLICT (finding) DO UPDATE SET body = excluded.body",
                (pushes.finding, json.dumps(pushes.as_json())),
            )

    def send(self, study: str, outgoing: Iterable[Outgoing], at: float) -> None:
        """Due from now on; a message that was put here before is not put twice."""
        with self._database.change() as change:
            change.executemany(
                "INSERT INTO delivery (alert, study, target, kind, key, body, paths, state, next_at, made_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, 'due', ?, ?) ON CONFLICT (target, key) DO NOTHING",
                [
                    (one.alert, study, one.target, one.kind, one.key, one.body, _paths(one.paths), at, at)
                    for one in outgoing
                ],
            )


def _paths(paths: Sequence[Path]) -> str:
    return json.dumps([str(path) for path in paths])


def _alert(row: Any) -> Alert:
    value, scheme, meaning = json.loads(row["code"])
    return Alert(
        row["key"],
        row["study"],
        row["finding"],
        Code(value, scheme, meaning),
        row["kind"],
        row["location"],
        row["size_mm"],
        row["score"],
        row["threshold"],
        row["model_name"],
        row["model_version"],
        row["model"],
        row["raised_at"],
        State(row["state"]),
        row["reason"],
        row["revision"],
        row["escalated"],
    )

"""The worklist and the alerts, from the store. STAT first, then priority, then arrival; whoever was read stands apart."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from typing import Final, Literal

from sites.watch.console.reading import counted, items, read_json, text_of
from sites.watch.console.values import AlertInfo, Alerts, FindingInfo, Patient, Worklist, WorkRow

Show = Literal["unread", "read", "all"]
AlertState = Literal[
    "open", "all", "raised", "delivered", "acknowledged", "confirmed", "dismissed", "superseded"
]
MOST_ROWS: Final = 100
_SHOWN: Final = {"unread": "read_at IS NULL", "read": "read_at IS NOT NULL", "all": "1"}
_ORDER: Final = "stat DESC, priority DESC, first_at, key"
_LATEST: Final = "read_at DESC, key"
OPEN: Final = "('raised', 'delivered')"
_RANK: Final = (
    "CASE WHEN a.state IN ('raised', 'delivered') THEN 0 WHEN a.state = 'acknowledged' THEN 1 ELSE 2 END"
)


def worklist(show: Show, first: int) -> Callable[[sqlite3.Connection], Worklist]:
    """A question for `Reading`: `MOST_ROWS` of the list from number `first` on."""

    def question(connection: sqlite3.Connection) -> Worklist:
        where, order = _SHOWN[show], _LATEST if show == "read" else _ORDER
        found = connection.execute(
            f"SELECT * FROM study WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?",  # noqa: S608 - own words
            (MOST_ROWS, first),
        ).fetchall()
        (total,) = connection.execute(f"SELECT count(*) FROM study WHERE {where}").fetchone()  # noqa: S608
        alerts = connection.execute(
            f"SELECT count(*), coalesce(sum(suppressed), 0) FROM alert WHERE state IN {OPEN}"  # noqa: S608
        ).fetchone()
        return Worklist(
            rows(connection, found),
            first,
            int(total),
            int(alerts[0]),
            int(alerts[1]),
            counted(connection, "study", "state", "read_at IS NULL"),
        )

    return question


def rows(connection: sqlite3.Connection, studies: Sequence[sqlite3.Row]) -> list[WorkRow]:
    """Rows of the study table with what was found in each."""
    keys = [study["key"] for study in studies]
    asked = (json.dumps(keys),)
    findings: dict[str, list[FindingInfo]] = {key: [] for key in keys}
    for alert in connection.execute(
        "SELECT * FROM alert WHERE study IN (SELECT value FROM json_each(?)) AND state != 'superseded' "
        "ORDER BY score DESC, key",
        asked,
    ):
        findings[alert["study"]].append(_finding(alert))
    looked: dict[str, list[str]] = {key: [] for key in keys}
    for study, name, version in connection.execute(
        # +: by the study, of which there are few jobs, not by the state
        "SELECT DISTINCT job.study, model.name, model.version FROM json_each(?) one CROSS JOIN job ON job.study = one.value "
        "JOIN model ON model.digest = job.model WHERE +job.state = 'done' AND NOT job.shadow ORDER BY 2, 3",
        asked,
    ):
        looked[study].append(f"{name} {version}")
    return [_row(study, tuple(findings[study["key"]]), tuple(looked[study["key"]])) for study in studies]


def alerts(state: AlertState, finding: str, first: int) -> Callable[[sqlite3.Connection], Alerts]:
    """A question for `Reading`: the open ones first, then the latest; `finding`: "" for every one."""
    chosen = {"open": "a.state IN ('raised', 'delivered', 'acknowledged')", "all": "1"}.get(
        state, "a.state = :state"
    )
    where = f"{chosen} AND (:finding = '' OR a.finding = :finding)"
    asked = {"state": state, "finding": finding, "most": MOST_ROWS, "first": first}

    def question(connection: sqlite3.Connection) -> Alerts:
        found = connection.execute(
            f"{ALERT} WHERE {where} ORDER BY {_RANK}, a.raised_at DESC, a.key LIMIT :most OFFSET :first",
            asked,
        )
        listed = [alert_info(row) for row in found]
        (total,) = connection.execute(f"SELECT count(*) FROM alert a WHERE {where}", asked).fetchone()  # noqa: S608
        names = [str(name) for (name,) in connection.execute("SELECT DISTINCT finding FROM alert ORDER BY 1")]
        return Alerts(listed, first, int(total), names)

    return question


ALERT: Final = (
    "SELECT a.key AS alert, a.*, s.patient_id, s.patient_name, s.accession, s.study_date, s.description, s.modalities, "
    "s.body_parts FROM alert a JOIN study s ON s.key = a.study"
)


def alert_info(row: sqlite3.Row) -> AlertInfo:
    """Of a row of `ALERT`."""
    code = [text_of(part) for part in items(read_json(row["code"]))]
    return AlertInfo(
        row["alert"],
        row["study"],
        patient_of(row),
        row["finding"],
        (code[0], code[1], code[2]) if len(code) == 3 else ("", "", row["finding"]),
        row["kind"],
        row["location"],
        row["size_mm"],
        row["score"],
        row["threshold"],
        f"{row['model_name']} {row['model_version']}",
        row["model"],
        row["state"],
        row["reason"],
        row["raised_at"],
        row["changed_at"],
        not row["suppressed"],
        bool(row["escalated"]),
    )


def patient_of(row: sqlite3.Row) -> Patient:
    """Of a row that has the study's columns."""
    return Patient(
        row["patient_id"],
        row["patient_name"],
        row["accession"],
        row["study_date"],
        row["description"],
        row["modalities"],
        row["body_parts"],
    )


def _row(study: sqlite3.Row, findings: tuple[FindingInfo, ...], looked: tuple[str, ...]) -> WorkRow:
    return WorkRow(
        study["key"],
        bool(study["stat"]),
        study["priority"],
        patient_of(study),
        study["images"],
        study["first_at"],
        study["last_at"],
        study["state"],
        study["completeness"],
        study["reason"],
        study["read_at"],
        findings,
        looked,
    )


def _finding(alert: sqlite3.Row) -> FindingInfo:
    code = items(read_json(alert["code"]))
    meaning = text_of(code[2]) if len(code) == 3 else ""
    return FindingInfo(
        alert["key"],
        meaning or alert["finding"],
        alert["score"],
        alert["threshold"],
        alert["state"],
        not alert["suppressed"],
        alert["location"],
        alert["size_mm"],
    )

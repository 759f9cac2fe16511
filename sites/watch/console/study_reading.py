"""One study, from the store: its series, what each model did, what a person did, and in which order."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from fedimg.errors import DataError
from sites.watch.console.files import OUTPUTS
from sites.watch.console.reading import items, mapping, number_of, read_json, text_of
from sites.watch.console.values import (
    Happened,
    LabelInfo,
    LookInfo,
    PlaceInfo,
    ResultInfo,
    SeriesInfo,
    StudyDetail,
)
from sites.watch.console.worklist_reading import ALERT, alert_info, rows

_MOST_PLACES = 50
_PICTURES = {"made": "picture made", "failed": "picture failed", "not_wanted": "picture not wanted"}


def study(key: str) -> Callable[[sqlite3.Connection], StudyDetail]:
    """A question for `Reading`; it raises DataError for a study that is not there."""

    def question(connection: sqlite3.Connection) -> StudyDetail:
        found = connection.execute("SELECT * FROM study WHERE key = ?", (key,)).fetchone()
        if found is None:
            raise DataError("a study of this site", "another key", "open it from the worklist")
        (row,) = rows(connection, [found])
        alerts = [
            alert_info(one)
            for one in connection.execute(f"{ALERT} WHERE a.study = ? ORDER BY a.score DESC, a.key", (key,))
        ]
        results = _results(connection, key)
        labels = [
            LabelInfo(name, bool(present), at)
            for name, present, at in connection.execute(
                "SELECT finding, present, at FROM label WHERE study = ? ORDER BY 1", (key,)
            )
        ]
        names = {one.finding for one in alerts} | {one.finding for one in labels} | _known(connection)
        return StudyDetail(
            row,
            found["study_uid"],
            found["revision"],
            found["completed_at"],
            _series(connection, key),
            results,
            alerts,
            labels,
            sorted(names),
            _timeline(connection, found),
        )

    return question


def _known(connection: sqlite3.Connection) -> set[str]:
    """The findings that active models look for."""
    said = connection.execute("SELECT metadata FROM model WHERE role = 'active'")
    return {name for (metadata,) in said for name in _sought(metadata)}


def _sought(metadata: object) -> set[str]:
    """The classes that stand for a finding: of the others, such as one for everything else, no score is shown."""
    read = mapping(read_json(metadata))
    own = mapping(read.get("fedimg")) or read
    return {text_of(mapping(one).get("class")) for one in items(own.get("findings"))} - {""}


def _series(connection: sqlite3.Connection, key: str) -> list[SeriesInfo]:
    looks: dict[str, list[LookInfo]] = {}
    for row in connection.execute(
        "SELECT job.series, coalesce(model.name || ' ' || model.version, '') AS model, job.state, job.reason, job.shadow "
        "FROM job LEFT JOIN model ON model.digest = job.model WHERE job.study = ? ORDER BY job.id",
        (key,),
    ):
        look = LookInfo(row["model"], row["state"], row["reason"], bool(row["shadow"]))
        looks.setdefault(row["series"], []).append(look)
    for row in connection.execute(
        "SELECT routing.series, coalesce(model.name || ' ' || model.version, routing.model) AS model, routing.reason "
        "FROM routing LEFT JOIN model ON model.digest = routing.model WHERE routing.study = ? ORDER BY 2",
        (key,),
    ):
        look = LookInfo(row["model"], "not analysed", row["reason"], shadow=False)
        looks.setdefault(row["series"], []).append(look)
    found = connection.execute(
        "SELECT series_uid, count(DISTINCT sop_uid) AS images, min(received_at) AS at, max(arrival) AS arrival, "
        "max(source) AS source FROM instance WHERE study = ? GROUP BY 1 ORDER BY at, 1",
        (key,),
    )
    return [_one_series(row, looks.get(row["series_uid"], [])) for row in found]


def _one_series(row: sqlite3.Row, looks: list[LookInfo]) -> SeriesInfo:
    said = mapping(read_json(row["arrival"]))
    return SeriesInfo(
        row["series_uid"],
        text_of(said.get("modality")),
        text_of(said.get("body_part")),
        text_of(said.get("description")),
        row["images"],
        row["source"],
        looks,
    )


def _results(connection: sqlite3.Connection, key: str) -> list[ResultInfo]:
    found = connection.execute(
        "SELECT result.*, job.shadow, job.state, model.metadata, coalesce(attention.state, '') AS picture, "
        "coalesce(attention.reason, '') AS why, coalesce(model.name || ' ' || model.version, '') AS model_text "
        "FROM result JOIN job ON job.id = result.job LEFT JOIN model ON model.digest = result.model "
        "LEFT JOIN attention ON attention.job = result.job "
        "WHERE result.study = ? ORDER BY job.state = 'superseded', result.finished_at DESC, result.job",
        (key,),
    )
    return [_result(row) for row in found]


def _result(row: sqlite3.Row) -> ResultInfo:
    said = mapping(read_json(row["prediction"]))
    scores = {str(name): number_of(value) for name, value in mapping(said.get("scores")).items()}
    sought = _sought(row["metadata"])
    outputs = mapping(read_json(row["outputs"]))
    return ResultInfo(
        row["job"],
        row["model_text"],
        row["model"],
        bool(row["shadow"]),
        row["state"] != "superseded",
        row["score"],
        row["threshold"],
        bool(row["called"]),
        {name: value for name, value in scores.items() if value is not None and name in sought},
        [_place(mapping(one)) for one in items(said.get("found"))[:_MOST_PLACES]],
        row["seconds"],
        row["finished_at"],
        [name for name, known in OUTPUTS.items() if known.key in outputs],
        row["picture"],
        row["why"],
    )


def _place(said: dict[str, Any]) -> PlaceInfo:
    return PlaceInfo(
        text_of(said.get("finding")),
        _meaning(said.get("code")),
        _meaning(said.get("site")),
        number_of(said.get("score")) or 0.0,
        text_of(said.get("where")),
        number_of(said.get("size_mm")),
        text_of(said.get("image")),
    )


def _meaning(code: object) -> str:
    """Of a code as JSON writes it: an object, or a list of three."""
    listed = items(code)
    return text_of(listed[2]) if len(listed) == 3 else text_of(mapping(code).get("meaning"))


def _timeline(connection: sqlite3.Connection, study: sqlite3.Row) -> list[Happened]:
    """In the order of time; what happened at the same moment in the order of its causes."""
    images = f"{study['images']} {'image' if study['images'] == 1 else 'images'} so far"
    found = [Happened(study["first_at"], "first image arrived", images)]
    if study["completed_at"] is not None:
        how = {"quiet": "no image came any more", "partial": "images are missing"}.get(
            study["completeness"], ""
        )
        found.append(Happened(study["completed_at"], "study complete", how))
    for row in connection.execute(
        "SELECT job.*, coalesce(model.name || ' ' || model.version, '') AS model_text, attention.finished_at AS shown_at, "
        "attention.state AS picture, attention.reason AS why FROM job LEFT JOIN model ON model.digest = job.model "
        "LEFT JOIN attention ON attention.job = job.id WHERE job.study = ? ORDER BY job.id",
        (study["key"],),
    ):
        found += _job_course(row)
    for row in connection.execute(
        "SELECT e.*, a.finding FROM alert_event e JOIN alert a ON a.key = e.alert WHERE a.study = ? ORDER BY e.id",
        (study["key"],),
    ):
        who = "" if row["who"] == "watcher" else row["who"]
        about = row["finding"] + (f": {row['reason'].replace('-', ' ')}" if row["reason"] else "")
        found.append(Happened(row["at"], f"alert {row['event']}", about, who))
    for row in connection.execute(
        "SELECT target, kind, done_at FROM delivery WHERE study = ? AND state = 'done' AND done_at IS NOT NULL ORDER BY id",
        (study["key"],),
    ):
        found.append(Happened(row["done_at"], "sent", f"{row['kind']} to {row['target']}"))
    for row in connection.execute(
        "SELECT at, who, what FROM audit WHERE about = ? AND what = 'read' ORDER BY sequence", (study["key"],)
    ):
        found.append(Happened(row["at"], "read", "", row["who"]))
    if study["read_at"] is not None and not any(one.what == "read" for one in found):
        found.append(Happened(study["read_at"], "read"))
    return sorted(found, key=lambda one: one.at)


def _job_course(row: sqlite3.Row) -> list[Happened]:
    name = f"{row['model_text']}{' (shadow)' if row['shadow'] else ''}"
    found = [Happened(row["queued_at"], "queued", name)]
    if row["started_at"] is not None:
        found.append(Happened(row["started_at"], "analysis began", name))
    if row["finished_at"] is not None:
        ended = {"done": "analysed", "failed": "analysis failed"}.get(row["state"], row["state"])
        about = f"{name}: {row['reason']}" if row["reason"] else name
        found.append(Happened(row["finished_at"], ended, about))
    if row["shown_at"] is not None and row["picture"] in _PICTURES:
        about = f"{name}: {row['why']}" if row["why"] else name
        found.append(Happened(row["shown_at"], _PICTURES[row["picture"]], about))
    return found

"""Jobs and deliveries, from the store. Nothing of a patient but the study's key."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Final

from sites.watch.console.reading import counted
from sites.watch.console.values import DeliveryInfo, JobInfo, Queue

MOST_LINES: Final = 50
_JOBS: Final = (
    "SELECT job.*, study.stat, study.priority, coalesce(model.name || ' ' || model.version, '') AS model_text FROM job "
    "JOIN study ON study.key = job.study LEFT JOIN model ON model.digest = job.model WHERE job.state = ? "
)


def queue(connection: sqlite3.Connection) -> Queue:
    """A question for `Reading`: without what is measured, and what only the running watcher knows."""
    return Queue(
        counted(connection, "job", "state"),
        counted(connection, "delivery", "state"),
        _jobs(connection, "running", "job.started_at"),
        _jobs(connection, "queued", "job.shadow, study.stat DESC, study.priority DESC, job.queued_at"),
        _jobs(connection, "failed", "job.finished_at DESC"),
        _deliveries(connection, "due", "next_at"),
        _deliveries(connection, "dead", "id DESC"),
        [],
        pictures=counted(connection, "attention", "state"),
    )


def has_delivery(delivery: int) -> Callable[[sqlite3.Connection], bool]:
    def question(connection: sqlite3.Connection) -> bool:
        return connection.execute("SELECT 1 FROM delivery WHERE id = ?", (delivery,)).fetchone() is not None

    return question


def _jobs(connection: sqlite3.Connection, state: str, order: str) -> list[JobInfo]:
    return [
        JobInfo(
            row["id"],
            row["study"],
            row["model_text"],
            row["state"],
            bool(row["shadow"]),
            row["attempts"],
            bool(row["stat"]),
            row["priority"],
            row["queued_at"],
            row["started_at"],
            row["finished_at"],
            row["reason"],
        )
        for row in connection.execute(f"{_JOBS} ORDER BY {order}, job.id LIMIT {MOST_LINES}", (state,))
    ]


def _deliveries(connection: sqlite3.Connection, state: str, order: str) -> list[DeliveryInfo]:
    return [
        DeliveryInfo(
            row["id"],
            row["study"],
            row["target"],
            row["kind"],
            row["state"],
            row["attempts"],
            row["next_at"],
            row["made_at"],
            row["why"],
        )
        for row in connection.execute(
            f"SELECT * FROM delivery WHERE state = ? ORDER BY {order} LIMIT {MOST_LINES}",  # noqa: S608
            (state,),
        )
    ]

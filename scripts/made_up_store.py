"""Rows of a watcher's store that nobody has sent, for programs that measure its console."""

from __future__ import annotations

import time
from hashlib import sha256
from typing import TypeAlias

from sites.watch.store.database import Database

MODEL = "ab" * 32
Row: TypeAlias = "tuple[str, tuple[object, ...]]"


def key_of(number: int) -> str:
    return sha256(str(number).encode()).hexdigest()[:32]


def a_study(number: int, at: float, state: str, read_at: float | None = None) -> Row:
    values = (
        key_of(number),
        f"1.2.{number}",
        f"ID{number}",
        f"Family^Given{number}",
        f"ACC{number}",
        at,
        at,
        state,
        read_at,
    )
    statement = (
        "INSERT INTO study (key, study_uid, patient_id, patient_name, accession, study_date, description, modalities, "
        "body_parts, stat, images, first_at, last_at, state, completeness, read_at) "
        "VALUES (?, ?, ?, ?, ?, '20260131', 'CT chest, native', 'CT', 'CHEST', 0, 30, ?, ?, ?, '', ?)"
    )
    return statement, values


def a_job(number: int, at: float) -> Row:
    values = (number, key_of(number), MODEL, str(number), f"1.2.{number}.1", at, at, at)
    statement = (
        "INSERT INTO job (id, study, model, images, series, shadow, revision, state, queued_at, started_at, finished_at) "
        "VALUES (?, ?, ?, ?, ?, 0, 1, 'done', ?, ?, ?)"
    )
    return statement, values


def an_alert(number: int, at: float) -> Row:
    key = sha256(f"alert {number}".encode()).hexdigest()
    statement = (
        "INSERT INTO alert (key, study, job, finding, code, kind, location, score, threshold, model_name, model_version, "
        "model, state, raised_at, changed_at) VALUES (?, ?, ?, 'nodule', '[\"1\", \"SCT\", \"Nodule\"]', 'tumour', "
        "'right lung', 0.9, 0.6, 'nodule', '1', ?, 'raised', ?, ?)"
    )
    return statement, (key, key_of(number), number, MODEL, at, at)


def write(database: Database, *rows: Row) -> float:
    """One transaction; when it was on the disk."""
    with database.change() as change:
        for statement, values in rows:
            change.execute(statement, values)
    return time.time()


def fill(database: Database, unread: int, read: int) -> None:
    """So many studies to be read, the newest, and so many that were read; a model has looked at each of them."""
    now = time.time()
    write(
        database,
        ("INSERT INTO model VALUES (?, 'nodule', '1', 'tumour', '', '{}', 'active', ?)", (MODEL, now)),
        *(a_study(k, now - 60 * k, "analysed", None if k < unread else now) for k in range(unread + read)),
        *(a_job(k, now - 60 * k) for k in range(unread + read)),
    )

"""The watcher's tables: one SQLite file, WAL, synchronous = FULL; what must never happen is refused by the file itself.

Priorities are never lowered, studies, alerts and audit entries never deleted, audit entries never changed (21 CFR
892.2080; IHE ATNA). A study's `key` is a keyed hash of its UID: it stands in file names, addresses and logs; the UID does not.
Times are seconds since 1970, UTC. JSON columns say so.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from fedimg.errors import DataError

FILE: Final = "watch.sqlite"
VERSION: Final = 1

SCHEMA: Final = """
-- A study as its images came in. Patient data: for the worklist alone.
CREATE TABLE IF NOT EXISTS study (
    key TEXT PRIMARY KEY, study_uid TEXT NOT NULL UNIQUE,
    patient_id TEXT NOT NULL, patient_name TEXT NOT NULL, accession TEXT NOT NULL,
    study_date TEXT NOT NULL, description TEXT NOT NULL,
    modalities TEXT NOT NULL,                 -- distinct, sorted, with commas
    body_parts TEXT NOT NULL,
    stat INTEGER NOT NULL,                    -- 1: ordered as urgent
    images INTEGER NOT NULL, first_at REAL NOT NULL, last_at REAL NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('arriving', 'queued', 'running', 'analysed', 'not_analysed', 'failed')),
    completeness TEXT NOT NULL CHECK (completeness IN ('', 'complete', 'quiet', 'partial')),
    revision INTEGER NOT NULL DEFAULT 0,      -- how often it was found complete
    completed_at REAL,                        -- the last time
    priority INTEGER NOT NULL DEFAULT 0,      -- 0 routine, else as urgent as what a model has called
    reason TEXT NOT NULL DEFAULT '',          -- why not analysed or failed, in words
    read_at REAL);                            -- when a person said that it was read

-- The worklist's own order: without it a page takes a look at every study there ever was.
CREATE INDEX IF NOT EXISTS study_unread ON study (stat DESC, priority DESC, first_at, key, state) WHERE read_at IS NULL;

CREATE TRIGGER IF NOT EXISTS priority_only_rises BEFORE UPDATE OF priority ON study
    WHEN NEW.priority < OLD.priority BEGIN SELECT RAISE(ABORT, 'a priority is never lowered'); END;
CREATE TRIGGER IF NOT EXISTS studies_stay BEFORE DELETE ON study
    BEGIN SELECT RAISE(ABORT, 'a study is never dropped'); END;

-- One file. path is empty once it was removed after `keep_days`.
CREATE TABLE IF NOT EXISTS instance (
    study TEXT NOT NULL REFERENCES study, sop_uid TEXT NOT NULL, sha256 TEXT NOT NULL, series_uid TEXT NOT NULL,
    path TEXT NOT NULL, arrival TEXT NOT NULL,          -- JSON of `Arrival`
    source TEXT NOT NULL, received_at REAL NOT NULL,
    PRIMARY KEY (study, sop_uid, sha256)) WITHOUT ROWID;

-- Released models as they were here. One 'active' for each name.
CREATE TABLE IF NOT EXISTS model (
    digest TEXT PRIMARY KEY, name TEXT NOT NULL, version TEXT NOT NULL, kind TEXT NOT NULL, folder TEXT NOT NULL,
    metadata TEXT NOT NULL,                             -- JSON, what pages show: task, classes, threshold, figures
    role TEXT NOT NULL CHECK (role IN ('active', 'shadow', 'retired')), since REAL NOT NULL);

-- A model looks at a study's images once for each set of images.
CREATE TABLE IF NOT EXISTS job (
    id INTEGER PRIMARY KEY, study TEXT NOT NULL REFERENCES study, model TEXT NOT NULL REFERENCES model,
    images TEXT NOT NULL,                               -- SHA-256 over the digests of the images that it looks at
    series TEXT NOT NULL, shadow INTEGER NOT NULL, revision INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'superseded')),
    attempts INTEGER NOT NULL DEFAULT 0, queued_at REAL NOT NULL, started_at REAL, finished_at REAL,
    reason TEXT NOT NULL DEFAULT '',
    UNIQUE (study, model, series, images));
CREATE INDEX IF NOT EXISTS job_state ON job (state);

-- Series that a model did not look at, and why (words).
CREATE TABLE IF NOT EXISTS routing (
    study TEXT NOT NULL REFERENCES study, model TEXT NOT NULL, series TEXT NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (study, model, series)) WITHOUT ROWID;

-- What a job found. folder: its SR, SEG and pictures.
CREATE TABLE IF NOT EXISTS result (
    job INTEGER PRIMARY KEY REFERENCES job, study TEXT NOT NULL, model TEXT NOT NULL,
    prediction TEXT NOT NULL,                           -- JSON of `Prediction`
    outputs TEXT NOT NULL,                              -- JSON: name → path
    score REAL NOT NULL, threshold REAL, called INTEGER NOT NULL, seconds REAL NOT NULL, finished_at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS result_study ON result (study);
CREATE INDEX IF NOT EXISTS result_model ON result (model, finished_at);

-- A picture of what a call rests on: owed from the alert on, made when nothing more urgent waits.
CREATE TABLE IF NOT EXISTS attention (
    job INTEGER PRIMARY KEY REFERENCES job,
    image INTEGER NOT NULL, inputs TEXT NOT NULL,       -- which prepared image; digest of all that were looked at
    state TEXT NOT NULL CHECK (state IN ('owed', 'making', 'made', 'failed', 'not_wanted')),
    attempts INTEGER NOT NULL DEFAULT 0, owed_at REAL NOT NULL, started_at REAL, finished_at REAL,
    reason TEXT NOT NULL DEFAULT '');
CREATE INDEX IF NOT EXISTS attention_state ON attention (state);

CREATE TABLE IF NOT EXISTS alert (
    key TEXT PRIMARY KEY, study TEXT NOT NULL REFERENCES study, job INTEGER NOT NULL, finding TEXT NOT NULL,
    code TEXT NOT NULL,                                 -- JSON: [value, scheme, meaning]
    kind TEXT NOT NULL, location TEXT NOT NULL, size_mm REAL, score REAL NOT NULL, threshold REAL NOT NULL,
    model_name TEXT NOT NULL, model_version TEXT NOT NULL, model TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('raised', 'delivered', 'acknowledged', 'confirmed', 'dismissed', 'superseded')),
    reason TEXT NOT NULL DEFAULT '', raised_at REAL NOT NULL, changed_at REAL NOT NULL,
    revision INTEGER NOT NULL DEFAULT 0,                -- how often a later run of the study has changed it
    escalated INTEGER NOT NULL DEFAULT 0,
    suppressed INTEGER NOT NULL DEFAULT 0);             -- 1: above the rate limit, shown but not pushed
CREATE INDEX IF NOT EXISTS alert_study ON alert (study);
CREATE INDEX IF NOT EXISTS alert_state ON alert (state);
CREATE TRIGGER IF NOT EXISTS alerts_stay BEFORE DELETE ON alert
    BEGIN SELECT RAISE(ABORT, 'an alert is never dropped'); END;

-- An alert's life, for its page: event, by whom ('watcher' or the console's), a dismissal's reason.
CREATE TABLE IF NOT EXISTS alert_event (
    id INTEGER PRIMARY KEY, alert TEXT NOT NULL REFERENCES alert, at REAL NOT NULL,
    event TEXT NOT NULL, who TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '');
CREATE INDEX IF NOT EXISTS alert_event_alert ON alert_event (alert);

-- What is remembered of a finding's pushes, for the rate limit: JSON of `Pushes`.
CREATE TABLE IF NOT EXISTS pushes (finding TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;

-- What is to go out, written in the transaction that makes it due.
CREATE TABLE IF NOT EXISTS delivery (
    id INTEGER PRIMARY KEY, alert TEXT, study TEXT NOT NULL, target TEXT NOT NULL, kind TEXT NOT NULL,
    key TEXT NOT NULL, body BLOB NOT NULL, paths TEXT NOT NULL,    -- JSON list
    state TEXT NOT NULL CHECK (state IN ('due', 'done', 'dead')), attempts INTEGER NOT NULL DEFAULT 0,
    next_at REAL NOT NULL, why TEXT NOT NULL DEFAULT '', made_at REAL NOT NULL, done_at REAL,
    UNIQUE (target, key));
CREATE INDEX IF NOT EXISTS delivery_state ON delivery (state, next_at);

-- What drift watches, one row for each model's study (its latest result); and every look that was taken.
CREATE TABLE IF NOT EXISTS measure (
    id INTEGER PRIMARY KEY, study TEXT NOT NULL, model TEXT NOT NULL, at REAL NOT NULL,
    numbers TEXT NOT NULL, embedding TEXT NOT NULL,     -- JSON: stream → number; list of numbers
    UNIQUE (model, study));
CREATE TABLE IF NOT EXISTS drift_look (
    id INTEGER PRIMARY KEY, model TEXT NOT NULL, at REAL NOT NULL, studies INTEGER NOT NULL,
    streams TEXT NOT NULL,                              -- JSON: stream → {p, effect, alarm}
    alarm INTEGER NOT NULL);

-- What a person found, for calibration at this site and for re-evaluation.
CREATE TABLE IF NOT EXISTS label (
    study TEXT NOT NULL REFERENCES study, finding TEXT NOT NULL, present INTEGER NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (study, finding)) WITHOUT ROWID;

-- Now and then: what this site's labels say of a model, shadows too, at its threshold.
CREATE TABLE IF NOT EXISTS evaluation (
    id INTEGER PRIMARY KEY, model TEXT NOT NULL, at REAL NOT NULL,
    positives INTEGER NOT NULL, hits INTEGER NOT NULL, negatives INTEGER NOT NULL, false_alarms INTEGER NOT NULL,
    target REAL,                                        -- the sensitivity that was promised, if any
    kept INTEGER NOT NULL);                             -- 0: the labels contradict the promise

-- Totals since the first start, for metrics: refused by reason, received by source, …
CREATE TABLE IF NOT EXISTS counter (name TEXT NOT NULL, label TEXT NOT NULL, value INTEGER NOT NULL,
    PRIMARY KEY (name, label)) WITHOUT ROWID;

-- Who did and saw what; each entry's digest covers the one before it.
CREATE TABLE IF NOT EXISTS audit (
    sequence INTEGER PRIMARY KEY, at REAL NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL, about TEXT NOT NULL,
    digest BLOB NOT NULL);
CREATE TRIGGER IF NOT EXISTS audit_is_not_changed BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'an audit entry is never changed'); END;
CREATE TRIGGER IF NOT EXISTS audit_stays BEFORE DELETE ON audit
    BEGIN SELECT RAISE(ABORT, 'an audit entry is never dropped'); END;
"""


def writer(root: Path) -> sqlite3.Connection:
    """The connection that changes the file; makes it where there is none. Any thread may use it, one at a time.

    Raises DataError where the file is none of this program's, or of another version of it.
    """
    path = root / FILE
    if not path.exists():
        path.touch(mode=0o600)
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, VERSION):
            raise DataError(
                f"a store of version {VERSION}", f"version {version}", "use the fedimg that made it"
            )
        connection.executescript(SCHEMA)
        connection.execute(f"PRAGMA user_version = {VERSION}")
    except sqlite3.OperationalError:
        raise DataError(
            "a watcher's store that can be opened",
            "one that is locked, or has no room",
            "see who holds it, or free space, and try again; change nothing by hand",
        ) from None
    except sqlite3.DatabaseError:
        raise DataError(
            f"a watcher's {FILE}", "a file that is none", "restore it from the backup, or move it away"
        ) from None
    return connection


def reader(root: Path) -> sqlite3.Connection:
    """A connection that can change nothing, for one thread: rows are `sqlite3.Row`.

    Raises DataError where there is no store yet, or one of an older version that no watcher has opened since.
    """
    path = (root / FILE).absolute()
    try:
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=30)
        connection.row_factory = sqlite3.Row
        connection.execute("SELECT 1 FROM study, attention LIMIT 1")
    except sqlite3.DatabaseError:
        raise DataError("a watcher's store", "none that can be read", "start the watcher once") from None
    return connection

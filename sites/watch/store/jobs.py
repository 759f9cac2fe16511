"""What models are to look at: made once for each set of images, taken by one worker at a time, tried again after a crash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sites.watch.store.database import Database

MOST_ATTEMPTS: Final = 3
_RETIRED: Final = "its model was retired before it was looked at"


OF_LATEST_RESULT: Final = (
    "NOT EXISTS (SELECT 1 FROM job AS later JOIN result AS said ON said.job = later.id WHERE later.study = job.study"
    " AND later.model = job.model AND later.series = job.series AND later.shadow = 0"
    " AND (later.revision, later.id) > (job.revision, job.id))"
)
"""Of a `job` that was not a shadow's: no later one of its series has a result."""
_MAY_BE_TAKEN: Final = (
    "job.state = 'queued' AND NOT EXISTS (SELECT 1 FROM job AS other WHERE other.study = job.study"
    " AND other.model = job.model AND other.series = job.series AND other.state = 'running')"
)


@dataclass(frozen=True, slots=True)
class Owed:
    """A picture of what a call rests on. image, inputs: as the analysis gave them. prediction: the result's, as JSON."""

    image: int
    inputs: str
    prediction: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Job:
    """A model and a study's series.

    Attributes:
        model: the bundle's digest. images: of the files' digests. files: of the series' images.
        shadow: nobody is told what it finds. owed: not to be looked at, but for the picture of what was called.
    """

    id: int
    study: str
    model: str
    series: str
    images: str
    files: tuple[Path, ...]
    shadow: bool
    attempts: int
    owed: Owed | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """What a worker says of a job.

    Attributes:
        prediction: JSON, as `fedimg.prediction` writes it. outputs: name → path of what was written.
        measures, embedding: for drift.
    """

    prediction: Mapping[str, Any]
    outputs: Mapping[str, str]
    score: float
    threshold: float | None
    called: bool
    seconds: float
    measures: Mapping[str, float]
    embedding: Sequence[float]


def images_digest(digests: Iterable[str]) -> str:
    """Of a set of files, whatever their order."""
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()


class Jobs:
    """The job, routing and result tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def plan(
        self, study: str, model: str, series: str, images: str, *, shadow: bool, revision: int, at: float
    ) -> bool:
        """A job, unless this model has looked at these very images; what waits for fewer of them, or has failed of
        them, is superseded.
        """
        with self._database.change() as change:
            change.execute(
                "UPDATE job SET state = 'superseded', finished_at = ? WHERE study = ? AND model = ? AND series = ?"
                " AND images <> ? AND state IN ('queued', 'failed')",
                (at, study, model, series, images),
            )
            made = change.execute(
                "INSERT INTO job (study, model, images, series, shadow, revision, state, queued_at)"
                " VALUES (?, ?, ?, ?, ?, ?, 'queued', ?) ON CONFLICT DO NOTHING",
                (study, model, images, series, int(shadow), revision, at),
            )
            # what was superseded before it was looked at, and is wanted again: for the model as it is now
            again = change.execute(
                "UPDATE job SET state = 'queued', queued_at = ?, shadow = ?, revision = ?, attempts = 0"
                " WHERE study = ? AND model = ? AND series = ? AND images = ? AND state = 'superseded'",
                (at, int(shadow), revision, study, model, series, images),
            )
        return bool(made.rowcount or again.rowcount)

    def not_looked_at(self, study: str, model: str, reasons: Mapping[str, str]) -> None:
        """Series that a model leaves alone, and why; replaces what was said of the study before."""
        with self._database.change() as change:
            change.execute("DELETE FROM routing WHERE study = ? AND model = ?", (study, model))
            change.executemany(
                "INSERT INTO routing (study, model, series, reason) VALUES (?, ?, ?, ?)",
                [(study, model, series, reason) for series, reason in reasons.items()],
            )

    def waits(self) -> bool:
        """Whether a study waits for a model that speaks, and a worker could look at it."""
        return bool(
            self._database.rows(f"SELECT 1 FROM job WHERE {_MAY_BE_TAKEN} AND job.shadow = 0 LIMIT 1")  # noqa: S608
        )

    def claim(self, at: float, *, shadows: bool = True) -> Job | None:
        """The next one, now running: urgent studies first, then by priority, then by when they came; shadows last.

        A series is looked at by one worker of a model at a time, so that what fewer images said never comes last.
        Args: shadows: also what nobody is told of.
        """
        with self._database.change() as change:
            row = change.execute(
                "SELECT job.id, job.study, job.model, job.series, job.images, job.shadow, job.attempts FROM job"  # noqa: S608
                f" JOIN study ON study.key = job.study WHERE {_MAY_BE_TAKEN} AND job.shadow <= ?"
                " ORDER BY job.shadow, study.stat DESC, study.priority DESC, job.queued_at, job.id LIMIT 1",
                (int(shadows),),
            ).fetchone()
            if row is None:
                return None
            change.execute(
                "UPDATE job SET state = 'running', started_at = ? WHERE id = ?",
                (at, row["id"]),
            )
            if not row["shadow"]:
                change.execute(
                    "UPDATE study SET state = 'running' WHERE key = ? AND completeness <> ''", (row["study"],)
                )
            files = change.execute(
                "SELECT path FROM instance WHERE study = ? AND series_uid = ? AND path <> '' ORDER BY sop_uid, sha256",
                (row["study"], row["series"]),
            ).fetchall()
        paths = tuple(Path(one["path"]) for one in files)
        shadow, attempts = bool(row["shadow"]), row["attempts"] + 1
        return Job(
            row["id"], row["study"], row["model"], row["series"], row["images"], paths, shadow, attempts
        )

    def finished(self, job: Job, found: Finished, at: float) -> None:
        """In the transaction that also raises what follows from it."""
        with self._database.change() as change:
            change.execute(
                "UPDATE job SET state = 'done', finished_at = ?, reason = '' WHERE id = ?", (at, job.id)
            )
            change.execute(
                "INSERT OR REPLACE INTO result"
                " (job, study, model, prediction, outputs, score, threshold, called, seconds, finished_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(job.id, job.study, job.model, _finite(found.prediction), _finite(found.outputs)),
                    *(found.score, found.threshold, int(found.called), found.seconds, at),
                ),
            )
            change.execute(
                "INSERT INTO measure (study, model, at, numbers, embedding) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (model, study) DO UPDATE SET numbers = excluded.numbers, embedding = excluded.embedding",
                (job.study, job.model, at, _finite(found.measures), _finite(found.embedding)),
            )

    def calling(self, study: str, model: str) -> list[tuple[int, dict[str, Any]]]:
        """Of each series' last job that was not a shadow's and has a result: its number and prediction, where it calls."""
        rows = self._database.rows(
            "SELECT job.id, result.prediction FROM job JOIN result ON result.job = job.id"  # noqa: S608
            " WHERE job.study = ? AND job.model = ? AND job.shadow = 0 AND result.called = 1"
            f" AND {OF_LATEST_RESULT} ORDER BY job.id",
            (study, model),
        )
        return [(row["id"], json.loads(row["prediction"])) for row in rows]

    def refused(self, job: Job, reason: str) -> None:
        """The model's own preparation says that it cannot look at this series: not analysed, never scored."""
        with self._database.change() as change:
            change.execute("DELETE FROM job WHERE id = ?", (job.id,))
            change.execute(
                "INSERT OR REPLACE INTO routing (study, model, series, reason) VALUES (?, ?, ?, ?)",
                (job.study, job.model, job.series, reason),
            )

    def drop_retired(self) -> list[str]:
        """What waits for a model that was retired meanwhile is not looked at: that is no failure; whose studies it was."""
        with self._database.change() as change:
            rows = change.execute(
                "SELECT id, study, model, series FROM job WHERE state = 'queued'"
                " AND model IN (SELECT digest FROM model WHERE role = 'retired')"
            ).fetchall()
            change.executemany(
                "INSERT OR REPLACE INTO routing (study, model, series, reason) VALUES (?, ?, ?, ?)",
                [(row["study"], row["model"], row["series"], _RETIRED) for row in rows],
            )
            change.executemany("DELETE FROM job WHERE id = ?", [(row["id"],) for row in rows])
        return sorted({row["study"] for row in rows})

    def crashed(self, job: Job, reason: str, at: float, *, for_good: bool = False) -> bool:
        """Its worker ended, or took too long: queued again, and failed when that happened too often (True), or `for_good`.

        Nothing, where its result is there already; superseded, where its series waits with further images.
        """
        failed = for_good or job.attempts >= MOST_ATTEMPTS
        with self._database.change() as change:
            done = change.execute(
                "UPDATE job SET state = ?, attempts = attempts + 1, finished_at = ?, reason = ?"
                " WHERE id = ? AND state = 'running'",
                ("failed" if failed else "queued", at if failed else None, reason, job.id),
            )
            self._overtaken()
        return failed and done.rowcount == 1

    def put_back(self, job: Job) -> None:
        """Nobody could look at it: it waits again, and has lost no attempt."""
        with self._database.change() as change:
            change.execute("UPDATE job SET state = 'queued' WHERE id = ? AND state = 'running'", (job.id,))
            self._overtaken()

    def recover(self) -> int:
        """After a restart: what was running is queued again, and what has failed is tried once more; how many.

        A restart fails no job: only the ends of workers count, and they count anew.
        """
        with self._database.change() as change:
            done = change.execute(
                "UPDATE job SET state = 'queued', attempts = 0 WHERE state IN ('running', 'failed')"
            )
            self._overtaken()
            change.execute(
                "UPDATE study SET state = 'queued', reason = '' WHERE state IN ('running', 'failed') AND key IN"
                " (SELECT study FROM job WHERE state = 'queued' AND shadow = 0)"
            )
        return done.rowcount

    def _overtaken(self) -> None:
        """Of what waits of one series and model only the newest revision is looked at."""
        with self._database.change() as change:
            change.execute(
                "UPDATE job SET state = 'superseded' WHERE state = 'queued' AND EXISTS (SELECT 1 FROM job AS later"
                " WHERE later.study = job.study AND later.model = job.model AND later.series = job.series"
                " AND later.revision > job.revision AND later.state = 'queued')"
            )


def _finite(value: object) -> str:
    """JSON. Raises ValueError for NaN and infinity, which are none."""
    return json.dumps(value, allow_nan=False)

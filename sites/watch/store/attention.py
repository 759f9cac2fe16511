"""Pictures of what a call rests on: owed with the alert, made after it, of the latest result of a series alone.

An owed picture holds up nobody: it is taken when no study waits for a model that speaks, and never while its own study is
open again. What is made counts only if it is wanted still when it is stored.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sites.watch.store.database import Database
from sites.watch.store.jobs import MOST_ATTEMPTS, OF_LATEST_RESULT, Job, Owed

_OPEN_AGAIN: Final = (
    "(study.completeness = '' OR EXISTS (SELECT 1 FROM job AS other WHERE other.study = job.study"
    " AND other.model = job.model AND other.series = job.series AND other.state IN ('queued', 'running')))"
)
"""Later images may say something else of the series, or have come for another one: nobody knows yet."""


class Attention:
    """The attention table. speaking: digests of the models that speak; what a model has called before it was silent stands,
    but no more is told of it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def owe(self, job: int, image: int, inputs: str, at: float) -> None:
        """In the transaction that raises the alert."""
        with self._database.change() as change:
            change.execute(
                "INSERT INTO attention (job, image, inputs, state, owed_at) VALUES (?, ?, ?, 'owed', ?)"
                " ON CONFLICT DO NOTHING",
                (job, image, inputs, at),
            )

    def pending(self, job: int) -> bool:
        """Whether its place may still be said."""
        row = self._database.row("SELECT state FROM attention WHERE job = ?", (job,))
        return row is not None and row["state"] in ("owed", "making")

    def claim(self, at: float, speaking: Collection[str]) -> Job | None:
        """The next one, now being made: as studies are taken. What nobody wants any more is put away."""
        with self._database.change() as change:
            self._put_away(at, speaking)
            row = change.execute(
                "SELECT job.id, job.study, job.model, job.series, job.images, attention.attempts, attention.image,"  # noqa: S608
                " attention.inputs, result.prediction FROM attention JOIN job ON job.id = attention.job"
                " JOIN result ON result.job = job.id JOIN study ON study.key = job.study"
                f" WHERE attention.state = 'owed' AND NOT {_OPEN_AGAIN}"
                " ORDER BY study.stat DESC, study.priority DESC, attention.owed_at, job.id LIMIT 1"
            ).fetchone()
            if row is None:
                return None
            change.execute(
                "UPDATE attention SET state = 'making', started_at = ? WHERE job = ?", (at, row["id"])
            )
            files = change.execute(
                "SELECT path FROM instance WHERE study = ? AND series_uid = ? AND path <> '' ORDER BY sop_uid, sha256",
                (row["study"], row["series"]),
            ).fetchall()
        return Job(
            *(row["id"], row["study"], row["model"], row["series"], row["images"]),
            tuple(Path(one["path"]) for one in files),
            shadow=False,
            attempts=row["attempts"] + 1,
            owed=Owed(row["image"], row["inputs"], json.loads(row["prediction"])),
        )

    def finished(
        self,
        job: Job,
        found: Sequence[Mapping[str, Any]],
        outputs: Mapping[str, str],
        speaking: Collection[str],
        at: float,
    ) -> bool:
        """Whether it is wanted still; then the result says where, and names its picture.

        Args: found: of the prediction, with places. outputs: name → path, beside those that the result has.
        """
        with self._database.change() as change:
            self.put_back(job)
            self._put_away(at, speaking)
            made = change.execute(
                "UPDATE attention SET state = 'made', finished_at = ? WHERE job = ? AND state = 'owed' AND EXISTS"  # noqa: S608
                " (SELECT 1 FROM job JOIN study ON study.key = job.study"
                f" WHERE job.id = attention.job AND NOT {_OPEN_AGAIN})",
                (at, job.id),
            )
            if not made.rowcount:
                return False
            row = change.execute("SELECT prediction, outputs FROM result WHERE job = ?", (job.id,)).fetchone()
            said = json.loads(row["prediction"]) | {"found": list(found)}
            change.execute(
                "UPDATE result SET prediction = ?, outputs = ? WHERE job = ?",
                (
                    json.dumps(said, allow_nan=False),
                    json.dumps(json.loads(row["outputs"]) | dict(outputs)),
                    job.id,
                ),
            )
        return True

    def refused(self, job: Job, reason: str, at: float) -> bool:
        """It cannot be made of these images: whether that is so for good, and no late image's doing."""
        with self._database.change() as change:
            done = change.execute(
                "UPDATE attention SET state = 'failed', finished_at = ?, reason = ? WHERE job = ? AND state = 'making'"  # noqa: S608
                " AND EXISTS (SELECT 1 FROM job JOIN study ON study.key = job.study"
                f" WHERE job.id = attention.job AND NOT {_OPEN_AGAIN})",
                (at, reason, job.id),
            )
            self.put_back(job)
        return done.rowcount == 1

    def crashed(self, job: Job, reason: str, at: float) -> bool:
        """Its worker ended, or took too long: owed again, and failed when that happened too often (True)."""
        failed = job.attempts >= MOST_ATTEMPTS
        with self._database.change() as change:
            done = change.execute(
                "UPDATE attention SET state = ?, attempts = attempts + 1, finished_at = ?, reason = ?"
                " WHERE job = ? AND state = 'making'",
                ("failed" if failed else "owed", at if failed else None, reason, job.id),
            )
        return failed and done.rowcount == 1

    def put_back(self, job: Job) -> None:
        """Something more urgent came: it is owed again, and has lost no attempt."""
        with self._database.change() as change:
            change.execute(
                "UPDATE attention SET state = 'owed' WHERE job = ? AND state = 'making'", (job.id,)
            )

    def recover(self) -> int:
        """After a restart: what was being made is owed again; how many. What has failed stays so."""
        with self._database.change() as change:
            done = change.execute("UPDATE attention SET state = 'owed', attempts = 0 WHERE state = 'making'")
        return done.rowcount

    def _put_away(self, at: float, speaking: Collection[str]) -> None:
        with self._database.change() as change:
            for reason, test, arguments in (
                ("later images were looked at", f"NOT {OF_LATEST_RESULT}", ()),
                (
                    "its model does not speak any more",
                    "job.model NOT IN (SELECT value FROM json_each(?))",
                    (json.dumps(sorted(speaking)),),
                ),
            ):
                change.execute(
                    "UPDATE attention SET state = 'not_wanted', finished_at = ?, reason = ? WHERE state = 'owed' AND EXISTS"  # noqa: S608
                    f" (SELECT 1 FROM job WHERE job.id = attention.job AND {test})",
                    (at, reason, *arguments),
                )

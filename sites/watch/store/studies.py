"""Studies and their images, as they come in and as a person reads them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from fedimg.dicom.arrival import Arrival
from fedimg.errors import DataError
from fedimg.monitoring.assembly import Completeness, Plane
from sites.watch.store import audit
from sites.watch.store.database import Database


class Studies:
    """The study and instance tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def received(self, study: str, arrival: Arrival, path: Path, source: str, at: float) -> bool:
        """Note an image; True if it was not there before (or its file was removed), and the study is open again.

        Of two images that disagree about the patient the first one's words stay: what an alert names does not change
        under a reader's eyes.
        """
        with self._database.change() as change:
            words = (arrival.patient_id, arrival.patient_name, arrival.accession, arrival.study_date)
            change.execute(
                "INSERT INTO study (key, study_uid, patient_id, patient_name, accession, study_date, description,"
                " modalities, body_parts, stat, images, first_at, last_at, state, completeness, priority)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, '', '', 0, 0, ?, ?, 'arriving', '', 0) ON CONFLICT (key) DO NOTHING",
                (study, arrival.study_uid, *words, arrival.description, at, at),
            )
            values = (study, arrival.sop_uid, arrival.sha256, arrival.series_uid, str(path))
            added = change.execute(
                "INSERT INTO instance (study, sop_uid, sha256, series_uid, path, arrival, source, received_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (*values, json.dumps(asdict(arrival)), source, at),
            ).rowcount
            back = change.execute(
                "UPDATE instance SET path = ? WHERE study = ? AND sop_uid = ? AND sha256 = ? AND path = ''",
                (str(path), study, arrival.sop_uid, arrival.sha256),
            ).rowcount
            if not (added or back):
                return False
            row = change.execute(
                "SELECT modalities, body_parts FROM study WHERE key = ?", (study,)
            ).fetchone()
            change.execute(
                "UPDATE study SET images = images + ?, last_at = MAX(last_at, ?), state = 'arriving', completeness = '',"
                " modalities = ?, body_parts = ?, stat = MAX(stat, ?), reason = ''"
                " WHERE key = ?",
                (
                    added,
                    at,
                    _with(row["modalities"], arrival.modality),
                    _with(row["body_parts"], arrival.body_part),
                    int(arrival.stat),
                    study,
                ),
            )
            return True

    def completed(self, study: str, reason: Completeness, at: float) -> int:
        """It is whole by now; how often it was. Jobs for it are made next, in the same transaction."""
        with self._database.change() as change:
            change.execute(
                "UPDATE study SET completeness = ?, revision = revision + 1, completed_at = ? WHERE key = ?",
                (reason.value, at, study),
            )
            row = change.execute("SELECT revision FROM study WHERE key = ?", (study,)).fetchone()
        return int(row["revision"])

    def settle(self, study: str) -> None:
        """Its state, as it follows from its jobs; called whenever one of them has changed."""
        with self._database.change() as change:
            states = {
                row["state"]
                for row in change.execute(
                    "SELECT state FROM job WHERE study = ? AND shadow = 0 AND state <> 'superseded'", (study,)
                )
            }
            state = next((one for one in ("running", "queued") if one in states), None)
            if state is None:
                state = "failed" if "failed" in states else "analysed" if states else "not_analysed"
            reason = ""
            if state == "not_analysed":
                reason = self._why_not(study)
            if state == "failed":
                found = self._database.row(
                    "SELECT reason FROM job WHERE study = ? AND state = 'failed' ORDER BY id DESC", (study,)
                )
                reason = found["reason"] if found else ""
            change.execute(
                "UPDATE study SET state = ?, reason = ? WHERE key = ? AND completeness <> ''",
                (state, reason, study),
            )

    def _why_not(self, study: str) -> str:
        rows = self._database.rows(
            "SELECT DISTINCT reason FROM routing WHERE study = ? ORDER BY reason", (study,)
        )
        return "; ".join(row["reason"] for row in rows) or "no model is here"

    def raise_priority(self, study: str, to: int) -> None:
        """Never below what it is."""
        with self._database.change() as change:
            change.execute("UPDATE study SET priority = MAX(priority, ?) WHERE key = ?", (to, study))

    def arrivals(self, study: str) -> list[tuple[Arrival, Path, str]]:
        """Its images, in a fixed order: what is known of each, its file, its digest."""
        rows = self._database.rows(
            "SELECT arrival, path, sha256 FROM instance WHERE study = ? AND path <> '' ORDER BY series_uid, sop_uid, sha256",
            (study,),
        )
        return [(Arrival(**json.loads(row["arrival"])), Path(row["path"]), row["sha256"]) for row in rows]

    def planes(self, study: str) -> Iterable[Plane]:
        """Where its images stand in their series."""
        rows = self._database.rows(
            "SELECT series_uid, json_extract(arrival, '$.position_mm'), json_extract(arrival, '$.number')"
            " FROM instance WHERE study = ? AND path <> ''",
            (study,),
        )
        return [Plane(*row) for row in rows]

    def unfinished(self) -> list[str]:
        """Studies that were arriving when the watcher ended."""
        return [row["key"] for row in self._database.rows("SELECT key FROM study WHERE completeness = ''")]

    def read(self, study: str, who: str, at: float) -> None:
        """A person has read it. Raises DataError where there is none."""
        with self._database.change() as change:
            done = change.execute(
                "UPDATE study SET read_at = COALESCE(read_at, ?) WHERE key = ?", (at, study)
            )
            if not done.rowcount:
                raise DataError("a study of this watcher", "none of that key", "open the worklist again")
            audit.note(self._database, who, "read", study, at)

    def label(self, study: str, finding: str, present: bool, who: str, at: float) -> None:
        """What a person found. Raises DataError where there is no such study."""
        with self._database.change() as change:
            if not change.execute("SELECT 1 FROM study WHERE key = ?", (study,)).fetchone():
                raise DataError("a study of this watcher", "none of that key", "open the worklist again")
            change.execute(
                "INSERT INTO label (study, finding, present, at) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (study, finding) DO UPDATE SET present = excluded.present, at = excluded.at",
                (study, finding, int(present), at),
            )
            audit.note(self._database, who, f"label {'present' if present else 'absent'}", study, at)

    def remove_files(self, before: float) -> int:
        """Remove the images of studies that were done before then; how many.

        A study at a time within a transaction, so that no image that comes back meanwhile is removed after it was noted.
        What a kill leaves of it is removed the next time.
        """
        done = self._database.rows(
            "SELECT key FROM study WHERE last_at < ? AND state IN ('analysed', 'not_analysed') AND EXISTS"
            " (SELECT 1 FROM instance WHERE study = key AND path <> '')",
            (before,),
        )
        return sum(self._remove_files_of(row["key"], before) for row in done)

    def _remove_files_of(self, study: str, before: float) -> int:
        with self._database.change() as change:
            rows = change.execute(
                "SELECT path FROM instance WHERE path <> '' AND study = (SELECT key FROM study WHERE key = ? AND last_at < ?"
                " AND state IN ('analysed', 'not_analysed'))",
                (study, before),
            ).fetchall()
            for row in rows:
                Path(row["path"]).unlink(missing_ok=True)
            if rows:
                change.execute("UPDATE instance SET path = '' WHERE study = ?", (study,))
        return len(rows)

    def not_to_look_at(self, study: str, arrivals: Iterable[Arrival]) -> dict[str, str]:
        """Series that no model may look at, and why.

        One with an image of another PatientID than the study's: what is found would be told under the wrong name (an image
        that names nobody is the study's). One of which images were removed: a result of the others takes back no alert.
        """
        row = self._database.row("SELECT patient_id FROM study WHERE key = ?", (study,))
        own = row["patient_id"] if row is not None else ""
        gone = {
            row["series_uid"]
            for row in self._database.rows(
                "SELECT DISTINCT series_uid FROM instance WHERE study = ? AND path = ''", (study,)
            )
        }
        found = {
            one.series_uid: "images that came after others of theirs were removed"
            for one in arrivals
            if one.series_uid in gone
        }
        return found | {
            one.series_uid: "images of another patient than the study's first ones"
            for one in arrivals
            if own and one.patient_id and one.patient_id != own
        }


def _with(listed: str, one: str) -> str:
    return ",".join(sorted({*listed.split(","), one} - {""}))

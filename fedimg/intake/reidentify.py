"""From a pseudonym back to a patient, under custody: recomputed from candidates, every look-up written down first.

There is no crosswalk: who holds the site key and a list of patient numbers can find the one behind a
pseudonym, nobody else can. The log of look-ups is chained and signed like the receipts.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from fedimg.dicom.chain import ChainLog
from fedimg.dicom.pseudonyms import Pseudonyms
from fedimg.errors import ConfigError, DataError
from fedimg.home import ReleaseFolder

LABEL = b"fedimg look-ups 1"


class Candidate(NamedTuple):
    """A patient number as the archive writes it, with its issuer where one is stored."""

    patient_id: str
    issuer: str = ""


def candidates(path: Path) -> Iterator[Candidate]:
    """A CSV file: patient_id, or patient_id and issuer; a first line with these names is skipped.

    Raises DataError where it cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.reader(file):
                if row and row[0].strip() and row[0].strip() != "patient_id":
                    yield Candidate(row[0], row[1] if len(row) > 1 else "")
    except (OSError, ValueError, csv.Error):
        raise DataError(
            "a CSV file of patient numbers", "none that can be read", "one patient_id[,issuer] a line"
        ) from None


def reidentify(
    folder: ReleaseFolder, project: str, pseudonym: str, listed: Path, custodian: str
) -> tuple[Candidate, ...]:
    """The candidates whose pseudonym this is. The look-up is in the log, durable, before anything is told.

    Raises ConfigError without a name, DataError for what is no pseudonym and for an unreadable list.
    """
    if not custodian.strip():
        raise ConfigError("who looks it up", "no name", "give --custodian")
    counted = _Counted(candidates(listed))
    found = Pseudonyms(folder.site_key, project).matches(pseudonym, counted)
    with ChainLog(folder.audit, folder.signing_key, LABEL) as log:
        log.write(
            {
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "custodian": custodian,
                "pseudonym": pseudonym,
                "candidates": counted.number,
                "found": len(found),
            }
        )
    return tuple(Candidate(patient_id, issuer) for issuer, patient_id in found)


class _Counted:
    """(issuer, patient number) of each candidate, counted on the way."""

    def __init__(self, listed: Iterator[Candidate]) -> None:
        self._listed, self.number = listed, 0

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for candidate in self._listed:
            self.number += 1
            yield candidate.issuer, candidate.patient_id

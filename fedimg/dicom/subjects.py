"""Whom an object is of: the subject behind its pseudonym, and what happens where the header names nobody."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydicom.dataset import Dataset

from fedimg.dicom import attributes, routing
from fedimg.dicom.ledger_keys import LedgerKeys
from fedimg.dicom.pseudonyms import Pseudonyms, normalise_id
from fedimg.dicom.refusal import Quarantined
from fedimg.values import Quarantine

MissingPatient = Literal["quarantine", "study"]
_PATIENT_ID, _ISSUER, _STUDY = 0x00100020, 0x00100021, 0x0020000D


class Subject(NamedTuple):
    """PHI: (issuer, patient number) as the header spells them, or the study of an object that names nobody."""

    issuer: str
    patient_id: str
    study_uid: str = ""

    def pseudonym(self, pseudonyms: Pseudonyms) -> str:
        """Of the release: salted with the project."""
        if self.study_uid:
            return pseudonyms.subject_of_study(self.study_uid)
        return pseudonyms.subject(self.issuer, self.patient_id)

    def ledger_key(self, keys: LedgerKeys) -> str:
        """Of the privacy ledger: the same in every project."""
        if self.study_uid:
            return keys.of_study(self.study_uid)
        return keys.of(self.issuer, self.patient_id)


def patient_key(
    dataset: Dataset, pseudonyms: Pseudonyms, named: str | None, missing: MissingPatient = "quarantine"
) -> str:
    """The pseudonym of `subject_of`, which see."""
    return subject_of(dataset, named, missing).pseudonym(pseudonyms)


def subject_of(dataset: Dataset, named: str | None, missing: MissingPatient = "quarantine") -> Subject:
    """Whom an object is of.

    Args:
        named: a patient number beside the file; it goes before the header's.
        missing: without any number, "study" makes every study a subject of its own (never joined with
            another, even of the same person); "quarantine" holds the object back.

    Raises Quarantined (NO_PATIENT_ID).
    """
    encodings = attributes.encodings_of(dataset, ("iso8859",))
    patient_id = named or routing.first_text(dataset, _PATIENT_ID, encodings)
    if normalise_id(patient_id):
        return Subject(routing.first_text(dataset, _ISSUER, encodings), patient_id)
    study = routing.first_text(dataset, _STUDY)
    if missing == "study" and study:
        return Subject("", "", study)
    raise Quarantined(Quarantine.NO_PATIENT_ID, "an empty PatientID")

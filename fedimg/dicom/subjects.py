"""Whom an object is of: the subject behind its pseudonym, and what happens where the header names nobody."""

from __future__ import annotations

from typing import Literal

from pydicom.dataset import Dataset

from fedimg.dicom import attributes, routing
from fedimg.dicom.pseudonyms import Pseudonyms, normalise_id
from fedimg.dicom.refusal import Quarantined
from fedimg.values import Quarantine

MissingPatient = Literal["quarantine", "study"]
_PATIENT_ID, _ISSUER, _STUDY = 0x00100020, 0x00100021, 0x0020000D


def patient_key(
    dataset: Dataset, pseudonyms: Pseudonyms, named: str | None, missing: MissingPatient = "quarantine"
) -> str:
    """The pseudonym of (issuer, normalised PatientID).

    Args:
        named: a patient number beside the file; it goes before the header's.
        missing: without any number, "study" makes every study a subject of its own (never joined with
            another, even of the same person); "quarantine" holds the object back.

    Raises Quarantined (NO_PATIENT_ID).
    """
    encodings = attributes.encodings_of(dataset, ("iso8859",))
    patient_id = named or routing.first_text(dataset, _PATIENT_ID, encodings)
    if normalise_id(patient_id):
        return pseudonyms.subject(routing.first_text(dataset, _ISSUER, encodings), patient_id)
    study = routing.first_text(dataset, _STUDY)
    if missing == "study" and study:
        return pseudonyms.subject_of_study(study)
    raise Quarantined(Quarantine.NO_PATIENT_ID, "an empty PatientID")

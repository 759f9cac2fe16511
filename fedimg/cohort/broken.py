"""The files that every real export holds: cut short, not DICOM at all, without a patient, unlabelled, twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from fedimg.cohort.studies import Truth, Written
from fedimg.dicom.authoring import encoded
from fedimg.dicom.reader import read_dataset

Fault = dict[str, str]


def _truncated(root: Path, truth: Truth) -> Truth:
    path = root / truth.path
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 55 // 100])
    return truth


def _text(root: Path, truth: Truth) -> Truth:
    (root / truth.path).write_text("The image of this examination could not be exported.\n" * 20)
    return truth


def _no_patient_id(root: Path, truth: Truth) -> Truth:
    dataset = read_dataset(root / truth.path)
    dataset.PatientID = ""
    (root / truth.path).write_bytes(encoded(dataset))
    return replace(truth, patient_id="")


def _no_label(_: Path, truth: Truth) -> Truth:
    return replace(truth, label=None, mask="", box=None, diameter_mm=0.0)


FAULTS: dict[str, Callable[[Path, Truth], Truth]] = {
    "truncated": _truncated,
    "text": _text,
    "no_patient_id": _no_patient_id,
    "no_label": _no_label,
}


def patients_needed(count: int) -> int:
    """Patients beyond the hospital's own, of whom one file each is broken."""
    return count * len(FAULTS)


def break_files(
    root: Path, own: Sequence[Written], spare: Sequence[Written], count: int
) -> tuple[list[Written], list[Fault]]:
    """Break the first file of each spare patient, and copy the first file of `count` others.

    Returns all patients with their rows, and {"path", "fault"} of every broken file.
    """
    patients, faults = list(own), []
    for number, patient in enumerate(spare):
        fault = list(FAULTS)[number % len(FAULTS)]
        first, *others = patient.truths
        patients.append(replace(patient, truths=[FAULTS[fault](root, first), *others]))
        faults.append({"path": first.path, "fault": fault})
    for index in range(min(count, len(own))):
        original = patients[index].truths[0]
        twin = str(Path(original.path).with_name("COPY.dcm"))
        (root / twin).write_bytes((root / original.path).read_bytes())
        again = replace(original, path=twin)
        patients[index] = replace(patients[index], truths=[*patients[index].truths, again])
        faults.append({"path": twin, "fault": "duplicate"})
    return patients, faults

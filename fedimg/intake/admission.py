"""What training may read: released files with a valid receipt, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from fedimg.dicom import receipts
from fedimg.dicom.receipts import Receipt
from fedimg.errors import ReceiptError
from fedimg.home import SiteHome
from fedimg.intake.labels import Label, label_key, read_labels
from fedimg.values import DeidentifiedRecord


@dataclass(frozen=True, slots=True)
class Admission:
    """Attributes: records: to train on, by path. refused: one error per file that is not its receipt's."""

    records: tuple[DeidentifiedRecord, ...]
    refused: tuple[ReceiptError, ...]


def record_of(receipt: Receipt, label: Label) -> DeidentifiedRecord:
    """The record of a released file."""
    return DeidentifiedRecord(
        path=PurePosixPath(receipt.output or ""),
        sha256=receipt.sha256 or "",
        patient_key=receipt.keys["patient"],
        study_key=receipt.keys["study"],
        series_key=receipt.keys["series"],
        instance_key=receipt.keys["instance"],
        modality=receipt.modality or "OT",
        label=label[0],
        split=label[1],
        kind="nifti" if receipt.kind == "nifti" else "dicom",
    )


def admission(home: SiteHome) -> Admission:
    """Verify chain, root and signature, then every released byte.

    Raises ReceiptError where the receipts as a whole do not verify; a single changed, missing or
    unlabelled file is refused alone.
    """
    if not receipts.head_path(home.receipts).exists() and not home.receipts.exists():
        return Admission((), ())  # a new home: nothing was taken in
    latest: dict[str, Receipt] = {}
    for receipt in receipts.read(home.receipts, home.signing_key.public_bytes):
        if receipt.decision == "released":
            latest[receipt.output or ""] = receipt
    labels = read_labels(home.labels)
    records, refused = [], []
    for path in sorted(latest):
        receipt = latest[path]
        try:
            receipts.check_file(receipt, home.released)
            records.append(record_of(receipt, _label(receipt, labels)))
        except ReceiptError as error:
            refused.append(error)
    return Admission(tuple(records), tuple(refused))


def _label(receipt: Receipt, labels: dict[str, Label]) -> Label:
    label = labels.get(label_key(receipt.keys))
    if label is None:
        where = f"a label for the file of run position {receipt.position}"
        raise ReceiptError(where, "none", "take the input in again with its label")
    return label


def admitted(home: SiteHome) -> tuple[DeidentifiedRecord, ...]:
    """The records that training may read. Raises ReceiptError as `admission`, which also tells the refused."""
    return admission(home).records

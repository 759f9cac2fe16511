"""What training may read: released files with a valid receipt, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from fedimg.dicom import receipts
from fedimg.dicom.chain import GENESIS
from fedimg.dicom.masks import areas_of
from fedimg.dicom.receipts import Anchor, Receipt
from fedimg.errors import ReceiptError
from fedimg.home import ReleaseFolder, SiteHome
from fedimg.intake.basis import one_basis
from fedimg.intake.decisions import Decision
from fedimg.intake.labels import Label, label_key, read_labels
from fedimg.values import DeidentifiedRecord


@dataclass(frozen=True, slots=True)
class Admission:
    """Attributes: records: to train on, by path. refused: one error per file that is not its receipt's."""

    records: tuple[DeidentifiedRecord, ...]
    refused: tuple[ReceiptError, ...]


def record_of(receipt: Receipt | Decision, label: Label) -> DeidentifiedRecord:
    """The record of a released file."""
    return DeidentifiedRecord(
        path=PurePosixPath(receipt.output or ""),
        sha256=receipt.sha256 or "",
        patient_key=receipt.keys["patient"],
        study_key=receipt.keys["study"],
        series_key=receipt.keys["series"],
        instance_key=receipt.keys["instance"],
        modality=label.modality or receipt.modality or "OT",
        label=label.index,
        split=label.split,
        kind="nifti" if receipt.kind == "nifti" else "dicom",
        masked=areas_of(receipt.evidence) if isinstance(receipt, Receipt) else (),
        target=label.target,
        value=label.value,
        groups=label.groups,
        features=label.features,
    )


def _needed(receipt: Receipt) -> dict[str, Any]:
    """Of the evidence what is asked here, in training and in sharing; the rest would fill memory."""
    areas = areas_of(receipt.evidence)
    needed: dict[str, Any] = {"masked": areas} if areas else {}
    layers = receipt.evidence.get("pixels", {}).get("layers", ())
    # A NIfTI file's route ends with L0, and what this site wrote before comes in without layers.
    if receipt.kind == "dicom" and layers and "L5" not in layers:
        needed["unproven"] = True
    if receipt.evidence.get("pixels", {}).get("head", {}).get("signs"):
        needed["head"] = True
    return needed


def admission(home: SiteHome, profile: str | None = None) -> Admission:
    """Verify chain, root and signature, then every released byte.

    Args:
        profile: the only one whose releases the terms of a training allow; None: whichever it is.

    Raises ReceiptError where the receipts as a whole do not verify, were put back to an earlier
    state, or are of several profiles, projects or keys; a single changed, missing or unlabelled
    file, or one of another profile, is refused alone.
    """
    latest, labels = standing(home), read_labels(home.labels)
    records, refused = [], []
    for path in sorted(latest):
        receipt = latest[path]
        try:
            _check_profile(receipt, profile)
            check_proof(receipt)
            receipts.check_file(receipt, path, home.released)
            records.append(record_of(receipt, _label(receipt, labels)))
        except ReceiptError as error:
            refused.append(error)
    return Admission(tuple(records), tuple(refused))


def standing(folder: ReleaseFolder) -> dict[str, Receipt]:
    """Output path → the receipt by which it is released, as chain, root and signature hold; none in a new folder.

    Raises ReceiptError as `admission`. The bytes of the files are not looked at.
    """
    if (
        not receipts.head_path(folder.receipts).exists()
        and not folder.receipts.exists()
        and not _seen(folder)
    ):
        return {}  # nothing was taken in
    latest: dict[str, Receipt] = {}
    outputs: dict[str, str] = {}
    for receipt in receipts.read(folder.receipts, folder.signing_key.public_bytes, anchor_of(folder)):
        latest.pop(outputs.pop(receipt.link, ""), None)
        if receipt.decision == "released":
            outputs[receipt.link] = receipt.output or ""
            latest[receipt.output or ""] = replace(receipt, evidence=_needed(receipt), gate={}, versions={})
    one_basis(latest.values())
    return latest


def anchor_of(home: ReleaseFolder) -> Anchor | None:
    """Where this machine notes the folder's receipts; None for a simulated site."""
    return Anchor(home.anchor) if home.anchor is not None else None


def _seen(folder: ReleaseFolder) -> bool:
    anchor = anchor_of(folder)
    return anchor is not None and anchor.seen() not in (None, (0, GENESIS))


def _check_profile(receipt: Receipt, profile: str | None) -> None:
    if profile is not None and receipt.profile.get("name") != profile:
        where = f"a release under {profile} of run position {receipt.position}"
        raise ReceiptError(
            where, "another profile", "take the input in under the profile that the terms name"
        )


def check_proof(receipt: Receipt) -> None:
    """Refuse a release whose pixels were not proven free of text. Raises ReceiptError."""
    if receipt.evidence.get("unproven"):
        where = f"pixels proven free of text (L5) in the file of run position {receipt.position}"
        raise ReceiptError(where, "a release made to measure without them", "take the input in again")


def _label(receipt: Receipt, labels: dict[str, Label]) -> Label:
    label = labels.get(label_key(receipt.keys))
    if label is None:
        where = f"a label for the file of run position {receipt.position}"
        raise ReceiptError(where, "none", "take the input in again with its label")
    return label


def admitted(home: SiteHome, profile: str | None = None) -> tuple[DeidentifiedRecord, ...]:
    """The records that training may read. Raises ReceiptError as `admission`, which also tells the refused."""
    return admission(home, profile).records

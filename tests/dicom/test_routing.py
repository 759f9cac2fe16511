"""Pixel layer L1 and structure: what is held back, and that the refusal quotes nothing."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from fedimg.crypto.keys import SiteKey
from fedimg.dicom.authoring import build_image
from fedimg.dicom.deidentify import Deidentifier
from fedimg.dicom.refusal import Quarantined
from fedimg.values import Quarantine

KEY = SiteKey.from_bytes(b"k" * 32)
PIXELS = (np.add.outer(np.arange(16), np.arange(16)) * 9).astype(np.uint16)


@pytest.fixture(scope="module")
def deidentifier() -> Deidentifier:
    return Deidentifier(KEY, "project")


def image(**attributes) -> Dataset:
    known = {
        "PatientID": "4711",
        "PatientName": "DOE^JANE",
        "PatientBirthDate": "19500607",
        "StudyDate": "20120309",
    }
    return build_image(modality="CT", pixels=PIXELS, attributes=known | attributes)


def nested(depth: int) -> Dataset:
    dataset = image()
    inner = Dataset()
    inner.PatientName = "QQNAMEQQ"
    for _ in range(depth):
        outer = Dataset()
        outer.ViewModifierCodeSequence = Sequence([inner])
        inner = outer
    dataset.ViewCodeSequence = Sequence([inner])
    return dataset


def multi_frame_capture() -> Dataset:
    return build_image(modality="OT", pixels=np.zeros((8, 8), np.uint8), attributes={"PatientID": "4711"})


def without(keyword: str) -> Dataset:
    dataset = image()
    delattr(dataset, keyword)
    return dataset


def with_high_bit(value: int) -> Dataset:
    dataset = image()
    dataset.BitsStored, dataset.HighBit = 12, value
    return dataset


REFUSED = {
    "no number": (lambda: image(PatientID=" "), Quarantine.NO_PATIENT_ID),
    "capture": (multi_frame_capture, Quarantine.OBJECT_TYPE),
    "report": (lambda: image(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11"), Quarantine.OBJECT_TYPE),
    "document": (lambda: image(SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1"), Quarantine.OBJECT_TYPE),
    "private class": (lambda: image(SOPClassUID="1.3.12.2.1107.5.9.1"), Quarantine.OBJECT_TYPE),
    "screen save": (lambda: image(ImageType=["ORIGINAL", "PRIMARY", "SCREEN SAVE"]), Quarantine.OBJECT_TYPE),
    "dose": (lambda: image(ImageType=["ORIGINAL", "PRIMARY", "DOSE_INFO"]), Quarantine.OBJECT_TYPE),
    "secondary": (lambda: image(ImageType=["DERIVED", "SECONDARY"]), Quarantine.OBJECT_TYPE),
    "drawn": (lambda: image(ConversionType="DRW"), Quarantine.OBJECT_TYPE),
    "no pixels": (lambda: without("PixelData"), Quarantine.NOT_AN_IMAGE),
    "burned in": (lambda: image(BurnedInAnnotation="YES"), Quarantine.BURNED_IN_TEXT),
    "no instance": (lambda: without("SOPInstanceUID"), Quarantine.UNSAFE_STRUCTURE),
    "no rows": (lambda: without("Rows"), Quarantine.UNSAFE_STRUCTURE),
    "high bit": (lambda: with_high_bit(3), Quarantine.UNSAFE_STRUCTURE),
    "depth": (lambda: nested(14), Quarantine.UNSAFE_STRUCTURE),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_held_back(case, deidentifier):
    make, reason = REFUSED[case]
    with pytest.raises(Quarantined) as refusal:
        deidentifier.deidentify(make())
    assert refusal.value.reason is reason
    assert "QQNAMEQQ" not in str(refusal.value) and "4711" not in str(refusal.value)

"""What is examined: the exams of the four modalities with their lesion, and the exam of each ready finding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from fedimg.cohort.scanners import Scanner

LESION = "lesion"


@dataclass(frozen=True, slots=True)
class Exam:
    """One kind of study.

    Attributes:
        modality, description, body_part: as the header says them.
        field: side of the image, as a share of the scanner's field of view; depth_mm: from the first slice to the last;
            None: as `paired.HALF_STACK` has it.
        centre_mm: where the field's middle lies in the body. noise, blur: of the modality's and the scanner's: heads get
            many photons, and a small field has a fine focus.
        window: (centre, width) on display.
        measure: name of the manifest's column with the study's number; "" without one.
        classes: names of the two, the healthy one first.
        outlined: whether healthy studies have an outline too, of the organ that is measured.
    """

    modality: str
    description: str
    body_part: str
    field: float = 1.0
    depth_mm: float | None = None
    centre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    noise: float = 1.0
    blur: float = 1.0
    window: tuple[int, int] = (40, 400)
    measure: str = ""
    classes: tuple[str, str] = ("no lesion", "lesion")
    outlined: bool = False


BY_MODALITY: Mapping[str, Exam] = MappingProxyType(
    {
        "CT": Exam("CT", "CT THORAX", "CHEST"),
        "MR": Exam("MR", "MRI HEAD FLAIR", "HEAD", window=(500, 1000)),
        "CR": Exam("CR", "CHEST PA", "CHEST", window=(2000, 4000)),
        "US": Exam("US", "SONOGRAPHY", "BREAST", window=(128, 256)),
    }
)
_HEAD = Exam("CT", "CT HEAD", "HEAD", 0.68, 128.0, (0.0, 0.0, 14.0), 0.12, 0.6, (40, 80), "volume_ml")
BY_FINDING: Mapping[str, Exam] = MappingProxyType(
    {
        "nodule": Exam(
            "CT", "CT THORAX", "CHEST", 1.0, 120.0, (0.0, 4.0, 8.0), 0.6, 0.6, (-600, 1500), "diameter_mm", ("no nodule", "nodule")
        ),
        "cardiomegaly": Exam(
            "CR", "CHEST PA", "CHEST", 1.0, None, (0.0, 0.0, -12.0), 1.0, 0.7, (2000, 4000), "cardiothoracic_ratio",
            ("normal heart", "cardiomegaly"), outlined=True,
        ),
        "calcium": Exam(
            "CT", "CT CHEST CALCIUM SCORE", "CHEST", 0.62, 110.0, (8.0, -8.0, -26.0), 0.4, 0.35, (90, 750), "agatston",
            ("no calcium", "coronary calcium"),
        ),
        "haemorrhage": replace(_HEAD, classes=("no bleed", "haemorrhage")),
        "infarct": replace(_HEAD, classes=("no infarct", "infarct")),
    }
)  # fmt: skip


def exam_of(finding: str, modality: str, *, paired: bool = False) -> Exam:
    if paired:
        return Exam(modality, f"{modality} HEAD", "HEAD", window=BY_MODALITY[modality].window)
    return BY_MODALITY[modality] if finding == LESION else BY_FINDING[finding]


def technique(exam: Exam, scanner: Scanner, spacing: str, plane: Mapping[str, Any]) -> dict[str, Any]:
    """Acquisition and display attributes of the modality (PS3.3 C.8.2.1, C.8.3.1, C.8.1.3).

    Args: spacing: mm between pixels, as written. plane: what slices of a stack have, with SliceThickness.
    """
    centre, width = (str(part) for part in exam.window)
    display = {"WindowCenter": centre, "WindowWidth": width}
    if exam.modality == "CT":
        return {**plane, "KVP": "120", "ConvolutionKernel": scanner.kernel, **display}
    if exam.modality == "MR":
        times = {
            "EchoTime": "120",
            "RepetitionTime": "9000",
            "InversionTime": "2500",
            "EchoTrainLength": "20",
        }
        return {**plane, **times, **display, "ScanningSequence": "IR", "SequenceVariant": "SK"}
    if exam.modality == "CR":
        position = {"ViewPosition": "PA", "PatientOrientation": ["L", "F"]}
        return position | {"ImagerPixelSpacing": [spacing, spacing], **display}
    return {"Laterality": "L", "PatientOrientation": ["L", "F"], **display}

"""One study of one patient: phantom → scanner → DICOM files with their ground truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedimg.cohort import anatomy, exams
from fedimg.cohort.anatomy import Generator, Phantom
from fedimg.cohort.config import CohortConfig
from fedimg.cohort.exams import Exam
from fedimg.cohort.findings import Order, body_of
from fedimg.cohort.identities import Person, Planted, container, header, private_elements
from fedimg.cohort.paired import HALF_STACK, Body
from fedimg.cohort.scanners import Scanner, acquire
from fedimg.dicom.authoring import HEART, LESION, derived_uid, encode_image, write_segmentation
from fedimg.dicom.lettering import LINE_HEIGHT_PX, draw, fitting

_BANNER_ROWS = LINE_HEIGHT_PX + 5
_US_WIDTH_MM = 80.0


@dataclass(frozen=True, slots=True)
class Truth:
    """One row of a hospital's manifest; paths are relative to the hospital's folder."""

    path: str
    patient_id: str
    label: int | None
    modality: str
    mask: str = ""
    box: tuple[int, int, int, int] | None = None
    diameter_mm: float = 0.0
    measure: float = 0.0


@dataclass(frozen=True, slots=True)
class Written:
    """One patient's rows, what was planted, and the cells of the patient's features."""

    patient_id: str
    truths: list[Truth] = field(default_factory=list)
    planted: list[dict[str, Any]] = field(default_factory=list)
    features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Study:
    """What is to be written.

    Attributes:
        root: the hospital's folder. folder: the study's, below it.
        uid: parts that make the study's UIDs. lesion: whether the patient has one. body: of paired studies.
        exam: what is examined.
    """

    root: Path
    folder: Path
    who: Person
    scanner: Scanner
    modality: str
    day: date
    accession: str
    uid: tuple[str, ...]
    lesion: bool
    exam: Exam
    body: Body | None = None

    @property
    def field_mm(self) -> float:
        """Side of the image."""
        zoom = self.body.zoom_of(self.modality) if self.body else self.exam.field
        return self.scanner.field_of_view_mm * zoom


def write_study(study: Study, config: CohortConfig, planted: Planted, rng: Generator) -> list[Truth]:
    """Write the study's files and, where there is one to draw, its mask: of CT and MR with a lesion, of every organ that a
    finding measures. Returns one row per image file.
    """
    phantoms, zs, measure = _phantoms(study, config, rng)
    attributes = _attributes(study, config, planted)
    scanner = replace(study.scanner, blur_px=study.scanner.blur_px * study.exam.blur)
    study.folder.mkdir(parents=True, exist_ok=True)
    if study.modality == "US":
        return [_write_ultrasound(study, config, phantoms, attributes, planted, rng)]
    truths = []
    for number, (phantom, z) in enumerate(zip(phantoms, zs, strict=True), 1):
        seen = acquire(phantom.values, study.modality, scanner, config.noise * study.exam.noise, rng)
        own = _instance(study, planted, number) | _plane(study, config, z)
        pixels, extra = _stored(seen, study)
        path = study.folder / f"{study.modality}{number:04d}.dcm"
        _write(path, study, pixels, attributes | own | extra, planted)
        truths.append(replace(_truth(study, path, phantom, study.field_mm), measure=measure))
    drawn = study.exam.outlined or study.modality in ("CT", "MR")
    if drawn and any(phantom.lesion.any() for phantom in phantoms):
        mask = study.folder / "mask.seg.dcm"
        images = [study.root / truth.path for truth in truths]
        lesion = np.stack([p.lesion for p in phantoms])
        instance = write_segmentation(mask, images, lesion, HEART if study.exam.outlined else LESION)
        planted.note("uid", instance, "SOPInstanceUID")
        relative = str(mask.relative_to(study.root))
        truths = [replace(truth, mask=relative) for truth in truths]
    return truths


def _phantoms(study: Study, config: CohortConfig, rng: Generator) -> tuple[list[Phantom], list[float], float]:
    """One a file, the slices' places in units of half the scanner's field of view, and the study's number."""
    size, contrast = config.image_size, config.lesion_contrast
    if config.finding != exams.LESION:
        order = Order(size, config.slices, study.field_mm, study.exam, study.lesion, contrast)
        body = body_of(config.finding, order, rng)
        half = study.scanner.field_of_view_mm / 2
        return body.phantoms(), [float(z) / half for z in body.zs_mm], body.measure
    phantoms, zs = _with_lesion(study, config, rng, size, contrast)
    return phantoms, zs, 0.0


def _with_lesion(
    study: Study, config: CohortConfig, rng: Generator, size: int, contrast: float
) -> tuple[list[Phantom], list[float]]:
    stacked = study.modality in ("CT", "MR")
    zs = [float(z) for z in np.linspace(-HALF_STACK, HALF_STACK, config.slices)]
    if not stacked or config.slices == 1:
        zs = [0.0]
    half = max(zs)
    if study.body is not None:
        return study.body.slices(rng, study.modality, size, zs, contrast), zs
    lesion = anatomy.place(rng, study.modality, config.lesion_diameter, half) if study.lesion else None
    if study.modality == "CT":
        return anatomy.chest_ct(rng, size, zs, lesion, contrast), zs
    if study.modality == "MR":
        return anatomy.head_mr(rng, size, zs, lesion, contrast), zs
    if study.modality == "CR":
        return [anatomy.chest_cr(rng, size, lesion, contrast)], zs
    frames = config.cine_frames if rng.uniform() < 0.3 else 1
    return anatomy.ultrasound(rng, (2 * size - _BANNER_ROWS, 2 * size), frames, lesion, contrast), zs


def _attributes(study: Study, config: CohortConfig, planted: Planted) -> dict[str, Any]:
    """What all files of the study's series share."""
    scanner = study.scanner
    station = (
        f"{study.who.institution.split()[-1].upper()[:11]}-{study.modality}1" if not study.who.public else ""
    )
    attributes = header(study.who, planted, study.exam.description, study.day, study.accession) | {
        "StudyInstanceUID": planted.note("uid", derived_uid(*study.uid), "StudyInstanceUID"),
        "SeriesInstanceUID": planted.note("uid", derived_uid(*study.uid, "series"), "SeriesInstanceUID"),
        "SeriesDescription": study.exam.description,
        "BodyPartExamined": study.exam.body_part,
        "Manufacturer": scanner.manufacturer,
        "ManufacturerModelName": scanner.model,
        "SoftwareVersions": scanner.software,
    }
    if station:
        attributes["StationName"] = planted.note("institution", station, "StationName")
    return attributes | _technique(study, config, planted)


def _technique(study: Study, config: CohortConfig, planted: Planted) -> dict[str, Any]:
    """See `exams.technique`; slices of a stack have a frame of reference, which paired ones share."""
    spacing = f"{study.field_mm / config.image_size:.6g}"
    plane: dict[str, Any] = {}
    if study.modality in ("CT", "MR"):
        of_frame = study.uid if study.body is None else study.uid[:-1]
        frame = planted.note("uid", derived_uid(*of_frame, "frame of reference"), "FrameOfReferenceUID")
        depth = study.exam.depth_mm or HALF_STACK * study.scanner.field_of_view_mm
        step = depth / max(1, config.slices - 1)
        plane = {
            "FrameOfReferenceUID": frame,
            "PixelSpacing": [spacing, spacing],
            "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"],
            "SliceThickness": f"{min(5.0, step):.6g}",
        }
        if study.modality == "MR":
            plane["SpacingBetweenSlices"] = f"{step:.6g}"
    return exams.technique(study.exam, study.scanner, spacing, plane)


def _instance(study: Study, planted: Planted, number: int) -> dict[str, Any]:
    uid = derived_uid(*study.uid, "instance", str(number))
    return {
        "SOPInstanceUID": planted.note("uid", uid, "SOPInstanceUID"),
        "InstanceNumber": str(number),
    }


def _plane(study: Study, config: CohortConfig, z: float) -> dict[str, Any]:
    if study.modality not in ("CT", "MR"):
        return {}
    field = study.scanner.field_of_view_mm
    shift = study.body.shift_of(study.modality) if study.body else (0.0, 0.0)
    corner = (1 / config.image_size - 1) * study.field_mm / 2
    place = [f"{corner + share * field / 2:.6g}" for share in shift]
    position = [*place, f"{z * field / 2:.6g}"]
    return {"ImagePositionPatient": position, "SliceLocation": position[2]}


def _stored(seen: npt.NDArray[np.float32], study: Study) -> tuple[npt.NDArray[Any], dict[str, Any]]:
    """Physical values as the scanner stores them, with the attributes that undo it."""
    if study.modality == "CT" and study.scanner.signed:
        return np.clip(np.round(seen), -1024, 3071).astype(np.int16), {}
    if study.modality == "CT":
        stored = np.clip(np.round(seen) + 1024, 0, 4095).astype(np.uint16)
        return stored, {"RescaleIntercept": "-1024", "BitsStored": 12, "HighBit": 11}
    scale = 1000.0 if study.modality == "MR" else 4000.0
    stored = np.clip(np.round(seen * scale), 0, 4095).astype(np.uint16)
    bits = {"BitsStored": 12, "HighBit": 11}
    if study.modality == "CR" and study.scanner.inverted:
        return 4095 - stored, bits | {"PhotometricInterpretation": "MONOCHROME1", "WindowCenter": "2095"}
    return stored, bits


def _write(
    path: Path, study: Study, pixels: npt.NDArray[Any], attributes: Mapping[str, Any], planted: Planted
) -> None:
    preamble, meta = container(study.who, planted)
    syntax: Any = study.scanner.syntax
    data = encode_image(
        modality=study.modality,
        pixels=pixels,
        attributes={**attributes, **meta},
        transfer_syntax=syntax,
        private=private_elements(study.who, planted),
    )
    path.write_bytes(preamble + data[len(preamble) :])


def _truth(study: Study, path: Path, phantom: Phantom, width_mm: float, first_row: int = 0) -> Truth:
    relative = str(path.relative_to(study.root))
    rows, columns = np.flatnonzero(phantom.lesion.any(1)), np.flatnonzero(phantom.lesion.any(0))
    label = bool(rows.size) if phantom.positive is None else phantom.positive
    if not rows.size:
        return Truth(relative, study.who.patient_id, 0, study.modality)
    top, bottom = int(rows[0]) + first_row, int(rows[-1]) + 1 + first_row
    box = (int(columns[0]), top, int(columns[-1]) + 1, bottom)
    return Truth(
        relative,
        study.who.patient_id,
        int(label),
        study.modality,
        box=box,
        diameter_mm=phantom.radius * width_mm,
    )


def _write_ultrasound(
    study: Study,
    config: CohortConfig,
    phantoms: list[Phantom],
    attributes: Mapping[str, Any],
    planted: Planted,
    rng: Generator,
) -> Truth:
    """The echo below a banner in which the machine writes who lies there (PS3.3 C.8.5.5, (0018,6011))."""
    side = 2 * config.image_size
    pixels = np.zeros((len(phantoms), side, side), np.uint8)
    for frame, phantom in enumerate(phantoms):
        seen = acquire(phantom.values, "US", study.scanner, config.noise, rng)
        pixels[frame, _BANNER_ROWS:] = np.clip(np.round(seen * 255), 0, 255).astype(np.uint8)
    text = fitting(f"{study.who.family} {study.who.patient_id}", side - 4)
    draw(pixels, text, 2, 2, 255)
    if not study.who.public:
        planted.note("pixels", text, "PixelData")
    centimetres = _US_WIDTH_MM / 10 / side
    region = {
        "RegionSpatialFormat": 1,
        "RegionDataType": 1,
        "RegionFlags": 0,
        "RegionLocationMinX0": 0,
        "RegionLocationMinY0": _BANNER_ROWS,
        "RegionLocationMaxX1": side - 1,
        "RegionLocationMaxY1": side - 1,
        "PhysicalUnitsXDirection": 3,
        "PhysicalUnitsYDirection": 3,
        "PhysicalDeltaX": centimetres,
        "PhysicalDeltaY": centimetres,
    }
    own = _instance(study, planted, 1) | {"SequenceOfUltrasoundRegions": [region]}
    if len(phantoms) > 1:
        own |= {"FrameTime": "50", "FrameIncrementPointer": 0x00181063}
    path = study.folder / "US0001.dcm"
    _write(path, study, pixels if len(phantoms) > 1 else pixels[0], {**attributes, **own}, planted)
    whole = phantoms[0] if len(phantoms) == 1 else _joined(phantoms)
    return _truth(study, path, whole, _US_WIDTH_MM, _BANNER_ROWS)


def _joined(phantoms: list[Phantom]) -> Phantom:
    """A cine's box holds the lesion in every frame."""
    anywhere = np.logical_or.reduce([p.lesion for p in phantoms])
    return Phantom(phantoms[0].values, anywhere, phantoms[0].radius)

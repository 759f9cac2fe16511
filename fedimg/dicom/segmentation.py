"""Lesion masks as DICOM Segmentation objects (PS3.3 A.51, C.8.20): one binary segment, written and read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom.uid as uids
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels.decoders.base import get_decoder

from fedimg.dicom.elements import derived_uid, encode_file
from fedimg.dicom.reader import read_dataset, transfer_syntax
from fedimg.dicom.refusal import Quarantined, contained
from fedimg.errors import DataError
from fedimg.values import Quarantine

SEGMENTATIONS = (
    uids.SegmentationStorage,
    "1.2.840.10008.5.1.4.1.1.66.7",
)
"""Segmentation and Label Map Segmentation Storage, PS3.4 table B.5-1."""


_IDENTITY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
    *("FrameOfReferenceUID", "PositionReferenceIndicator"),
)
_GEOMETRY = (
    "PatientOrientation",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "PixelSpacing",
    "SliceThickness",
)


@dataclass(frozen=True, slots=True)
class Segmented:
    """What a segment is of: its label, and category and type as codes of DICOM's context groups."""

    label: str
    category: tuple[str, str, str]
    type: tuple[str, str, str]


LESION = Segmented(
    "Lesion", ("49755003", "SCT", "Morphologically Abnormal Structure"), ("52988006", "SCT", "Lesion")
)
HEART = Segmented("Heart", ("91723000", "SCT", "Anatomical Structure"), ("80891009", "SCT", "Heart"))


def _code(value: str, scheme: str, meaning: str) -> list[dict[str, str]]:
    return [{"CodeValue": value, "CodingSchemeDesignator": scheme, "CodeMeaning": meaning}]


Attributes = Mapping[str, Any]


def write_segmentation(
    path: Path,
    references: Sequence[Path | Dataset],
    mask_DHW: npt.NDArray[np.bool_],
    of: Segmented = LESION,
) -> str:
    """One mask over single-frame images of one series, as a BINARY segmentation.

    Args:
        references: the D images, of one series, in the order of the mask; of one frame of reference if they have any.
        mask_DHW: True in the lesion, or in `of`.

    Returns the object's SOPInstanceUID. Raises DataError where the mask does not fit the images,
    Quarantined where one cannot be read.
    """
    images = [_attributes(read_dataset(r) if isinstance(r, Path) else r) for r in references]
    if not images or not mask_DHW.size or mask_DHW.shape != (len(images), *_size(images[0])):
        raise DataError("one mask plane for every image, of its size", str(mask_DHW.shape), "pass (D, H, W)")
    first = images[0]
    instance = derived_uid("SEG", *(str(i["SOPInstanceUID"]) for i in images))
    series = derived_uid("SEG series", str(first["SeriesInstanceUID"]))
    organisation = derived_uid("SEG dimensions", str(first["SeriesInstanceUID"]))
    attributes = _identity(first) | _segment(
        (instance, series, organisation), mask_DHW, of, placed="ImagePositionPatient" in first
    )
    attributes |= _functional_groups(images) | {"ReferencedSeriesSequence": [_references(images)]}
    packed = np.packbits(mask_DHW.ravel(), bitorder="little").tobytes()  # PS3.5 D.1
    path.write_bytes(encode_file(attributes, packed, uids.ExplicitVRLittleEndian))
    return instance


def _size(image: Attributes) -> tuple[int, int]:
    return int(image["Rows"]), int(image["Columns"])


def _attributes(dataset: Dataset) -> dict[str, Any]:
    """What a segmentation takes from its images, as plain values."""
    keywords = (
        *_IDENTITY,
        *_GEOMETRY,
        "SOPClassUID",
        "SOPInstanceUID",
        "SeriesInstanceUID",
        "Rows",
        "Columns",
    )
    found = {keyword: dataset.get(keyword) for keyword in keywords if keyword in dataset}
    return {k: list(v) if isinstance(v, MultiValue) else v for k, v in found.items()}


def _identity(first: Attributes) -> dict[str, Any]:
    """Patient and study of the images, and the frame of reference."""
    projected = (
        {} if "FrameOfReferenceUID" in first else {"PatientOrientation": first.get("PatientOrientation", "")}
    )
    named = _IDENTITY if not projected else _IDENTITY[: _IDENTITY.index("FrameOfReferenceUID")]
    found = {keyword: first.get(keyword, "") for keyword in named}
    return found | projected | {"SpecificCharacterSet": "ISO_IR 192"}


def _segment(
    uids_of: tuple[str, str, str], mask_DHW: npt.NDArray[np.bool_], of: Segmented, *, placed: bool
) -> dict[str, Any]:
    """The object, its one segment, and how its frames are counted: by place too, where the images have one."""
    instance, series, organisation = uids_of
    # ReferencedSegmentNumber in SegmentIdentification, then ImagePositionPatient in PlanePosition
    pointers = ((0x0062000B, 0x0062000A), (0x00200032, 0x00209113))[: 2 if placed else 1]
    dimensions = [
        {
            "DimensionOrganizationUID": organisation,
            "DimensionIndexPointer": pointer,
            "FunctionalGroupPointer": group,
        }
        for pointer, group in pointers
    ]
    return {
        "SOPClassUID": uids.SegmentationStorage,
        "SOPInstanceUID": instance,
        "SeriesInstanceUID": series,
        "Modality": "SEG",
        "SeriesNumber": "100",
        "InstanceNumber": "1",
        "ContentDate": "20200101",
        "ContentTime": "000000",
        "ContentLabel": of.label.upper(),
        "ContentDescription": "",
        "ContentCreatorName": "",
        "ImageType": ["DERIVED", "PRIMARY"],
        "Manufacturer": "fedimg",
        "ManufacturerModelName": "cohort",
        "DeviceSerialNumber": "0",
        "SoftwareVersions": "1",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "NumberOfFrames": str(mask_DHW.shape[0]),
        "Rows": mask_DHW.shape[1],
        "Columns": mask_DHW.shape[2],
        "BitsAllocated": 1,
        "BitsStored": 1,
        "HighBit": 0,
        "PixelRepresentation": 0,
        "LossyImageCompression": "00",
        "SegmentationType": "BINARY",
        "SegmentSequence": [
            {
                "SegmentNumber": 1,
                "SegmentLabel": of.label,
                "SegmentAlgorithmType": "MANUAL",
                "SegmentedPropertyCategoryCodeSequence": _code(*of.category),
                "SegmentedPropertyTypeCodeSequence": _code(*of.type),
            }
        ],
        "DimensionOrganizationSequence": [{"DimensionOrganizationUID": organisation}],
        "DimensionIndexSequence": dimensions,
    }


def _functional_groups(images: Sequence[Attributes]) -> dict[str, Any]:
    """Plane geometry, where the images have one, and the source image of every frame (PS3.3 C.7.6.16)."""
    first = images[0]
    placed = "ImagePositionPatient" in first
    shared: dict[str, Any] = {"SegmentIdentificationSequence": [{"ReferencedSegmentNumber": 1}]}
    if placed:
        shared |= {
            "PlaneOrientationSequence": [{"ImageOrientationPatient": first["ImageOrientationPatient"]}],
            "PixelMeasuresSequence": [
                {"PixelSpacing": first["PixelSpacing"], "SliceThickness": first.get("SliceThickness", "1")}
            ],
        }
    own = [
        {"PlanePositionSequence": [{"ImagePositionPatient": i["ImagePositionPatient"]}]} if placed else {}
        for i in images
    ]
    frames = [
        {
            "FrameContentSequence": [{"DimensionIndexValues": [1, index + 1][: 1 + placed]}],
            **own[index],
            "DerivationImageSequence": [
                {
                    "DerivationCodeSequence": _code("113076", "DCM", "Segmentation"),
                    "SourceImageSequence": [
                        _reference(image)
                        | {
                            "PurposeOfReferenceCodeSequence": _code("121322", "DCM", "Source of Measurement"),
                            "SpatialLocationsPreserved": "YES",
                        }
                    ],
                }
            ],
        }
        for index, image in enumerate(images)
    ]
    return {"SharedFunctionalGroupsSequence": [shared], "PerFrameFunctionalGroupsSequence": frames}


def _reference(image: Attributes) -> dict[str, Any]:
    return {
        "ReferencedSOPClassUID": image["SOPClassUID"],
        "ReferencedSOPInstanceUID": image["SOPInstanceUID"],
    }


def _references(images: Sequence[Attributes]) -> dict[str, Any]:
    return {
        "SeriesInstanceUID": images[0]["SeriesInstanceUID"],
        "ReferencedInstanceSequence": [_reference(image) for image in images],
    }


def segmentation_masks(path: Path) -> dict[str, npt.NDArray[np.bool_]]:
    """Masks of any segment, (H, W), by SOPInstanceUID of the image they belong to.

    Frames of several segments over one image are joined. An image that the object refers to but
    has no frame for is absent: no pixel of it is set. Raises Quarantined.
    """
    dataset = read_dataset(path)
    try:
        with contained():
            if dataset.get("SOPClassUID") not in SEGMENTATIONS:
                raise Quarantined(Quarantine.OBJECT_TYPE, "an object that is no segmentation")
            values = get_decoder(transfer_syntax(dataset)).as_array(dataset, raw=True)[0]
            planes = values.reshape(-1, dataset.Rows, dataset.Columns) != 0
            sources = [_source(group) for group in dataset.PerFrameFunctionalGroupsSequence]
    except Quarantined:
        raise
    # A decoder meets whatever the file holds; each exception means the same here, and its text may quote it.
    except Exception as error:  # noqa: BLE001
        found = f"a segmentation that does not decode ({type(error).__name__})"
        raise Quarantined(Quarantine.PIXELS_UNDECODABLE, found) from None
    if len(sources) != len(planes):
        raise Quarantined(
            Quarantine.UNSAFE_STRUCTURE, "a segmentation whose frames and functional groups differ"
        )
    masks: dict[str, npt.NDArray[np.bool_]] = {}
    for source, plane in zip(sources, planes, strict=True):
        masks[source] = masks[source] | plane if source in masks else plane
    return masks


def _source(group: Dataset) -> str:
    return str(group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID)


def segmentation_label(path: Path, image: str | None = None) -> bool:
    """Is any pixel set: of the whole object, or of the image with this SOPInstanceUID? Raises Quarantined."""
    masks = segmentation_masks(path)
    chosen = masks.values() if image is None else [masks[image]] if image in masks else []
    return any(bool(mask.any()) for mask in chosen)

"""What a model outlined, as a DICOM Segmentation (PS3.3 A.51) over the images that it looked at: binary, one segment.

Beside `segmentation`, which writes the cohort's manual masks: here an algorithm made it, says so, and geometry may be that
of an enhanced multi-frame image, or none at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import highdicom as hd
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as PydicomCode

from fedimg.codes import Code
from fedimg.dicom.elements import derived_uid
from fedimg.dicom.original import Original
from fedimg.dicom.refusal import contained
from fedimg.dicom.result_object import (
    MANUFACTURER,
    NOT_DIAGNOSTIC,
    SERIES_NUMBERS,
    Maker,
    headers,
    stamped,
    uids_of,
)
from fedimg.errors import DataError

Planes = Sequence[tuple[int, int]]
_ALGORITHMS = PydicomCode("123109", "DCM", "Artificial Intelligence")


def segmentation(
    originals: Sequence[Original],
    planes: Planes,
    mask_DHW: npt.NDArray[np.bool_],
    code: Code,
    maker: Maker,
    inputs: str,
) -> Dataset:
    """Of a mask whose slices are the (place in `originals`, frame) of `planes`.

    Raises DataError for an empty mask, or images of which no segmentation can be made.
    """
    if not mask_DHW.any() or len(mask_DHW) != len(planes):
        raise DataError("a mask over its images, with something in it", str(mask_DHW.shape), "see `predict`")
    used = sorted({number for number, _ in planes})
    sources, pixels = _ordered(originals, planes, mask_DHW, used)
    uids = uids_of("SEG", originals[used[0]], maker, inputs)
    algorithm = hd.AlgorithmIdentificationSequence(
        name=maker.name[:64],
        version=maker.version[:64],
        family=hd.sr.CodedConcept(*_ALGORITHMS),
        parameters={"bundle": maker.digest},
    )
    described = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label=code.meaning,
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=hd.sr.CodedConcept(code.value, code.scheme, code.meaning),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        tracking_uid=derived_uid("fedimg SEG segment", uids.instance),
        tracking_id=code.meaning,
    )
    try:
        with contained():
            found = hd.seg.Segmentation(
                source_images=sources,
                pixel_array=pixels,
                segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=[described],
                series_instance_uid=uids.series,
                series_number=SERIES_NUMBERS["SEG"],
                sop_instance_uid=uids.instance,
                instance_number=1,
                manufacturer=MANUFACTURER,
                manufacturer_model_name=MANUFACTURER,
                software_versions=maker.version[:64],
                device_serial_number=maker.digest[:16],
                content_description=NOT_DIAGNOSTIC,
                content_creator_name=None,
                content_label="FEDIMG",
            )
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        # the library's own words may quote a header
        reason = f"a header that it cannot follow ({type(error).__name__})"
        raise DataError(
            "images of which a segmentation can be made", reason, "see the report in its place"
        ) from None
    if "FrameOfReferenceUID" not in found:  # then type 2C (PS3.3 C.7.6.1)
        found.PatientOrientation = sources[0].get("PatientOrientation") or ""
    organisation = derived_uid("fedimg SEG dimensions", uids.instance)
    for sequence in ("DimensionOrganizationSequence", "DimensionIndexSequence"):
        for item in found[sequence].value:
            item.DimensionOrganizationUID = organisation  # the library draws one
    stamped(found, maker, f"{maker.shown}: outline, {NOT_DIAGNOSTIC.lower()}")
    return found


def _ordered(
    originals: Sequence[Original], planes: Planes, mask_DHW: npt.NDArray[np.bool_], used: Sequence[int]
) -> tuple[list[Dataset], npt.NDArray[np.uint8]]:
    """Source images and their planes of pixels: single images in the grid's order, frames of one file as stored."""
    if len(used) == 1:
        (number,) = used
        frames = len(originals[number].frames)
        pixels = np.zeros((frames, *mask_DHW.shape[1:]), np.uint8)
        for plane, (_, frame) in zip(mask_DHW, planes, strict=True):
            pixels[originals[number].frames[frame] - 1] = plane
        return headers([originals[number]]), pixels
    return headers([originals[number] for number, _ in planes]), mask_DHW.astype(np.uint8)


def encoded_object(dataset: Dataset) -> bytes:
    """The bytes of its file (PS3.10)."""
    file = BytesIO()
    with contained():
        dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()

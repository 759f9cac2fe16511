"""What a model called, as a Comprehensive 3D SR of TID 1500 "Measurement Report" (PS3.16), as IHE AI Results asks for.

Unverified and preliminary (PS3.3 C.17.2): a person has seen none of it. Of each finding: code, site, probability, the
threshold it was held to, its size, and the outline (a segment), the box or the image that it is about; the algorithm
with its version and the digest of its bundle. There is no report of "nothing found": that is nothing a triage may say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

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

_IMAGING = Code("363679005", "SCT", "Imaging")
_CERTAINTY = Code("111012", "DCM", "Certainty of Finding")
_LONG_AXIS = Code("103339001", "SCT", "Long Axis")
_RIGHT_LEFT = {"right side": Code("24028007", "SCT", "Right"), "left side": Code("7771000", "SCT", "Left")}


@dataclass(frozen=True, slots=True)
class Reported:
    """One finding, as the report says it.

    Attributes: where: in words. score, threshold: probabilities. image: place in the originals, frame: of it.
        box: (top, left, bottom, right) in pixels on that image, of a finding that was boxed.
    """

    code: Code
    site: Code | None
    where: str
    score: float
    threshold: float | None
    size_mm: float | None
    image: int
    frame: int
    box: tuple[float, float, float, float] | None = None


def report(
    originals: Sequence[Original],
    findings: Sequence[Reported],
    maker: Maker,
    inputs: str,
    outline: Dataset | None = None,
) -> Dataset:
    """Of at least one finding; `outline`: their segmentation. Raises DataError for images it cannot refer to."""
    if not findings:
        raise DataError("findings to report", "none", "write no report of a series that was not called")
    uids = uids_of("SR", originals[0], maker, inputs)
    evidence = headers(originals) + ([] if outline is None else [outline])
    try:
        with contained():
            content = hd.sr.MeasurementReport(
                observation_context=_observer(maker),
                procedure_reported=_concept(_IMAGING),
                imaging_measurements=[
                    _group(one, number, originals, maker, uids.instance, outline)
                    for number, one in enumerate(findings, start=1)
                ],
                title=codes.DCM.ImagingMeasurementReport,
            )
            found = hd.sr.Comprehensive3DSR(
                evidence=evidence,
                content=content,
                series_instance_uid=uids.series,
                series_number=SERIES_NUMBERS["SR"],
                sop_instance_uid=uids.instance,
                instance_number=1,
                manufacturer=MANUFACTURER,
                is_complete=True,
                is_final=False,
                is_verified=False,
            )
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        # the library's own words may quote a header
        reason = f"a header that it cannot follow ({type(error).__name__})"
        raise DataError("images that a report can refer to", reason, "see the webhook or the CSV") from None
    stamped(found, maker, f"{maker.shown}: report, {NOT_DIAGNOSTIC.lower()}")
    return found


def _concept(code: Code) -> hd.sr.CodedConcept:
    return hd.sr.CodedConcept(code.value, code.scheme, code.meaning)


def _observer(maker: Maker) -> hd.sr.ObservationContext:
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=derived_uid("fedimg device", maker.digest),
        name=maker.name[:64],
        manufacturer_name=MANUFACTURER,
        model_name=maker.shown[:64],
        serial_number=maker.digest,
    )
    context = hd.sr.ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    return hd.sr.ObservationContext(observer_device_context=context)


def _group(
    one: Reported,
    number: int,
    originals: Sequence[Original],
    maker: Maker,
    instance: str,
    outline: Dataset | None,
) -> Any:
    """TID 1411 of an outline, TID 1410 of a box, TID 1501 of an image as a whole."""
    common: dict[str, Any] = {
        "tracking_identifier": hd.sr.TrackingIdentifier(
            uid=derived_uid("fedimg finding", instance, str(number)),
            identifier=f"{one.code.meaning}: {one.where}",
        ),
        "finding_type": _concept(one.code),
        "algorithm_id": hd.sr.AlgorithmIdentification(
            name=maker.name, version=maker.version, parameters=_parameters(one, maker)
        ),
        "finding_sites": [] if one.site is None else [_site(one.site, one.where)],
        "measurements": _measurements(one),
    }
    image = originals[one.image]
    frames = None if len(image.frames) == 1 else [image.frames[one.frame]]
    where = (image.sop_class, image.sop_uid, frames)
    if outline is not None:
        return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            referenced_segment=_segment(outline, originals), **common
        )
    if one.box is not None:
        top, left, bottom, right = one.box
        corners = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
        region = hd.sr.ImageRegion(
            graphic_type=hd.sr.GraphicTypeValues.POLYLINE,
            graphic_data=np.array(corners, np.float64),
            source_image=hd.sr.SourceImageForRegion(*where),
        )
        return hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(referenced_region=region, **common)
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        source_images=[hd.sr.SourceImageForMeasurementGroup(*where)], **common
    )


def _segment(outline: Dataset, originals: Sequence[Original]) -> hd.sr.ReferencedSegment:
    """By hand: the library's own `from_segmentation` looks for the segment's number in every frame, and a segmentation
    of one segment has it once for all.
    """
    instances = {
        str(one.ReferencedSOPInstanceUID)
        for series in outline.ReferencedSeriesSequence
        for one in series.ReferencedInstanceSequence
    }
    sources = [
        hd.sr.SourceImageForSegmentation(one.sop_class, one.sop_uid)
        for one in originals
        if one.sop_uid in instances
    ]
    return hd.sr.ReferencedSegment(
        sop_class_uid=outline.SOPClassUID,
        sop_instance_uid=outline.SOPInstanceUID,
        segment_number=1,
        source_images=sources,
    )


def _parameters(one: Reported, maker: Maker) -> list[str]:
    """The threshold is the algorithm's, not a measurement of the patient."""
    held = [] if one.threshold is None else [f"called from a probability of {100 * one.threshold:.2f} % on"]
    return [f"bundle sha256 {maker.digest}", *held, NOT_DIAGNOSTIC]


def _site(site: Code, where: str) -> hd.sr.FindingSite:
    """With a side where geometry says one, and the finding has a place: attention has none."""
    side = next((code for words, code in _RIGHT_LEFT.items() if where.startswith(words)), None)
    return hd.sr.FindingSite(
        anatomic_location=_concept(site), laterality=None if side is None else _concept(side)
    )


def _measurements(one: Reported) -> list[hd.sr.Measurement]:
    share = codes.UCUM.Percent
    found = [hd.sr.Measurement(_concept(_CERTAINTY), round(100 * one.score, 2), share)]
    if one.size_mm is not None:
        found.append(hd.sr.Measurement(_concept(_LONG_AXIS), round(one.size_mm, 1), codes.UCUM.Millimeter))
    return found

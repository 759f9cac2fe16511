"""A prediction's objects into a folder: report, outline, picture. Each is there whole or not at all.

Only what was called is written: there is no object of a series in which nothing was. UIDs and names of files follow from
study, model and images, so that writing the same again replaces the same files.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from fedimg.codes import Code
from fedimg.dicom.result_object import Maker
from fedimg.dicom.secondary_capture import Overlay, Pixels, drawn, png, secondary_capture
from fedimg.dicom.segmentation_out import encoded_object, segmentation
from fedimg.dicom.structured_report import Reported, report
from fedimg.durable import write_durably
from fedimg.errors import DataError
from fedimg.prediction.results import Analysis, Prediction

_OUTLINED = Code("52988006", "SCT", "Lesion")


@dataclass(frozen=True, slots=True)
class Outputs:
    """Paths of what was written, None for what was not; why_not: of an object that its images do not allow, in words."""

    report: Path | None = None
    outline: Path | None = None
    picture: Path | None = None
    preview: Path | None = None
    why_not: tuple[str, ...] = ()

    @property
    def dicom(self) -> tuple[Path, ...]:
        """What goes into an archive, referred-to objects first."""
        return tuple(path for path in (self.outline, self.picture, self.report) if path is not None)


def write_outputs(
    analysis: Analysis, folder: Path, *, at: datetime | None = None, always: bool = False
) -> Outputs:
    """Into a folder that exists (files 0600). Whoever is killed in between leaves whole files, and may write again.

    Args: at: when the objects say that they were made; now without. always: outline and picture also of what was not
        called, for looking at a model; never a report.

    Of an analysis that owes its attention there is no picture yet: `write_picture`, once it is there.

    Raises DataError where not even a picture can be written; OSError of the disk.
    """
    prediction = analysis.prediction
    if not (prediction.called or always):
        return Outputs()
    maker = _maker(prediction, at)
    faults: list[str] = []
    outline = _outline(analysis, maker, faults)
    written: dict[str, Path] = {}
    if outline is not None:
        written["outline"] = _write(folder / f"{_stem(analysis)}.seg.dcm", encoded_object(outline))
    if analysis.owed is None:
        written |= _picture(analysis, folder, maker)
    if prediction.called and (said := _report(analysis, maker, outline, faults)) is not None:
        written["report"] = _write(folder / f"{_stem(analysis)}.sr.dcm", said)
    return Outputs(**written, why_not=tuple(faults))


def write_picture(analysis: Analysis, folder: Path, *, at: datetime | None = None) -> Outputs:
    """Of what was called and written without one: the picture, with what its score rests on. Raises as `write_outputs`."""
    made = _picture(analysis, folder, _maker(analysis.prediction, at))
    return Outputs(picture=made["picture"], preview=made["preview"])


def _maker(prediction: Prediction, at: datetime | None) -> Maker:
    name, version = _line(prediction.model_name), _line(prediction.model_version)
    return Maker(name, version, prediction.model_digest, at or datetime.now().astimezone())


def _picture(analysis: Analysis, folder: Path, maker: Maker) -> dict[str, Path]:
    pixels, stem = _pixels(analysis, maker), _stem(analysis)
    number, _ = analysis.planes[analysis.shown]
    capture = secondary_capture(
        pixels, analysis.originals[number], maker, analysis.inputs, first=analysis.originals[0]
    )
    return {
        "picture": _write(folder / f"{stem}.sc.dcm", capture),
        "preview": _write(folder / f"{stem}.png", png(pixels)),
    }


def _write(path: Path, data: bytes) -> Path:
    write_durably(path, data)
    return path


def _stem(analysis: Analysis) -> str:
    """Says nothing of the patient, and is the same for the same images and model."""
    parts = (analysis.prediction.series_uid, analysis.prediction.model_digest, analysis.inputs)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:20]


def _outline(analysis: Analysis, maker: Maker, faults: list[str]) -> Any:
    """The segmentation's data set; None without an outline, or where the images allow none."""
    if analysis.mask_DHW is None:
        return None
    found = analysis.prediction.found
    code = found[0].code if found else _OUTLINED
    try:
        return segmentation(
            analysis.originals, analysis.planes, analysis.mask_DHW, code, maker, analysis.inputs
        )
    except DataError as fault:
        faults.append(f"no outline: {fault.found}")
        return None


def _report(analysis: Analysis, maker: Maker, outline: Any, faults: list[str]) -> bytes | None:
    image, frame = analysis.planes[analysis.shown]
    said = [
        Reported(
            code=one.code,
            site=one.site,
            where=one.where,
            score=one.score,
            threshold=analysis.prediction.threshold,
            size_mm=one.size_mm,
            image=image,
            frame=frame,
            box=_box(analysis),
        )
        for one in analysis.prediction.found
    ]
    try:
        return encoded_object(report(analysis.originals, said, maker, analysis.inputs, outline))
    except DataError as fault:
        faults.append(f"no report: {fault.found}")
        return None


def _pixels(analysis: Analysis, maker: Maker) -> Pixels:
    prediction, mask = analysis.prediction, analysis.mask_DHW
    words = [f"{one.finding} {one.score:.3f}: {one.where}" for one in prediction.found]
    overlay = Overlay(
        mask_HW=None if mask is None else mask[analysis.shown],
        attention_HW=analysis.attention_HW,
        box=_box(analysis),
        words=tuple(words),
    )
    return drawn(analysis.picture_HW, overlay, maker)


def _box(analysis: Analysis) -> tuple[float, float, float, float] | None:
    box = analysis.box
    return None if box is None else (box.top, box.left, box.bottom, box.right)


def _line(text: str) -> str:
    """As an LO takes it (PS3.5 6.2): 64 characters, no backslash, never empty."""
    return text.replace("\\", "/").strip()[:64].strip() or "model"

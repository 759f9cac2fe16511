"""The image that shows a finding best with what was outlined on it, as a Secondary Capture and as a PNG for a page.

Around the picture stand words that cannot be switched off: what it is, by which model, and that it is not for diagnosis.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from textwrap import wrap

import numpy as np
import numpy.typing as npt
import pydicom.uid as uids
from PIL import Image
from scipy import ndimage

from fedimg.dicom.elements import encode_file
from fedimg.dicom.lettering import CHARACTER_WIDTH_PX, LINE_HEIGHT_PX, draw, fitting
from fedimg.dicom.original import Original
from fedimg.dicom.result_object import MANUFACTURER, NOT_DIAGNOSTIC, SERIES_NUMBERS, Maker, identity, uids_of
from fedimg.values import FloatArray

Pixels = npt.NDArray[np.uint8]
_LEAST_SIDE = 384  # pixels: smaller pictures are shown larger, so that the words fit
_LETTERS = 2  # times the font's own size
_OUTLINE, _WARM = np.array([255, 210, 0]), np.array([255, 80, 0])
_UNPAIRED = frozenset(
    {
        *(
            "ABDOMEN",
            "BRAIN",
            "CHEST",
            "CSPINE",
            "HEAD",
            "HEART",
            "LIVER",
            "LSPINE",
            "NECK",
            "PELVIS",
            "SKULL",
        ),
        *("SPINE", "TSPINE", "WHOLEBODY"),
    }
)
_VEIL = 0.45  # of the colour over the image, where attention is full


@dataclass(frozen=True, slots=True)
class Overlay:
    """Attributes: mask_HW: outlined. attention_HW: [0, 1], coloured. box: (top, left, bottom, right). words: a line each."""

    mask_HW: npt.NDArray[np.bool_] | None = None
    attention_HW: FloatArray | None = None
    box: tuple[float, float, float, float] | None = None
    words: tuple[str, ...] = ()


def drawn(picture_HW: FloatArray, overlay: Overlay, maker: Maker) -> Pixels:
    """(H, W, 3): the picture, [0, 1], enlarged by a whole number, its overlay, and the words above and below it."""
    factor = max(1, -(-_LEAST_SIDE // max(picture_HW.shape)))
    grey = np.round(np.clip(_larger(picture_HW, factor), 0, 1) * 255)
    colours = np.repeat(grey[..., None], 3, axis=2)
    if overlay.attention_HW is not None:
        veil = _VEIL * np.clip(_larger(overlay.attention_HW, factor), 0, 1)[..., None]
        colours = colours * (1 - veil) + _WARM * veil
    if overlay.mask_HW is not None:
        mask = _larger(overlay.mask_HW, factor)
        colours[mask & ~ndimage.binary_erosion(mask, iterations=2)] = _OUTLINE
    if overlay.box is not None:
        colours[_frame(grey.shape, overlay.box, factor)] = _OUTLINE
    above = _lines((NOT_DIAGNOSTIC, f"{MANUFACTURER} {maker.shown}"), grey.shape[1])
    below = _lines((*overlay.words, NOT_DIAGNOSTIC), grey.shape[1])
    return np.concatenate([above, np.round(colours).astype(np.uint8), below])


def secondary_capture(
    pixels: Pixels, original: Original, maker: Maker, inputs: str, *, first: Original | None = None
) -> bytes:
    """The bytes of a file of it (PS3.3 A.8.1) in the study of `original`, whose picture it is.

    BurnedInAnnotation is about words that identify a patient. The words here do not; those that the image came with may,
    so that it is NO only where the image itself says NO.
    """
    header = original.header
    own = uids_of("SC", first or original, maker, inputs)
    clean = str(header.get("BurnedInAnnotation") or "").upper() == "NO"
    attributes = identity(original) | {
        "SpecificCharacterSet": "ISO_IR 192",
        "SOPClassUID": uids.SecondaryCaptureImageStorage,
        "SOPInstanceUID": own.instance,
        "SeriesInstanceUID": own.series,
        "SeriesNumber": str(SERIES_NUMBERS["SC"]),
        "InstanceNumber": "1",
        "Modality": "OT",
        "ConversionType": "WSD",
        "ImageType": ["DERIVED", "SECONDARY"],
        "DerivationDescription": f"{maker.shown}: overlay; {NOT_DIAGNOSTIC.lower()}",
        "SeriesDescription": f"{maker.shown}: picture, {NOT_DIAGNOSTIC.lower()}"[:64],
        "SeriesDate": maker.date,
        "SeriesTime": maker.time,
        "ContentDate": maker.date,
        "ContentTime": maker.time,
        "Manufacturer": MANUFACTURER,
        "SoftwareVersions": maker.version[:64],
        "PatientOrientation": "",
        "BurnedInAnnotation": "NO" if clean else "YES",
        "SourceImageSequence": [
            {"ReferencedSOPClassUID": original.sop_class, "ReferencedSOPInstanceUID": original.sop_uid}
        ],
        "SamplesPerPixel": 3,
        "PhotometricInterpretation": "RGB",
        "PlanarConfiguration": 0,
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        "LossyImageCompression": "00",
    }
    part = str(header.get("BodyPartExamined") or "")
    if part:
        attributes["BodyPartExamined"] = part
    if (
        part not in _UNPAIRED
    ):  # type 2C (PS3.3 C.7.3.1): of a paired body part, and which one it is may be unknown
        side = str(header.get("Laterality") or header.get("ImageLaterality") or "")
        attributes["Laterality"] = side if side in ("L", "R") else ""
    data = np.ascontiguousarray(pixels).tobytes()
    return encode_file(attributes, data + b"\0" * (len(data) % 2), uids.ExplicitVRLittleEndian)


def png(pixels: Pixels) -> bytes:
    """For a page; no metadata."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _larger(values: npt.NDArray[np.generic], factor: int) -> npt.NDArray[np.generic]:
    return np.repeat(np.repeat(values, factor, axis=0), factor, axis=1)


def _frame(
    shape: tuple[int, ...], box: tuple[float, float, float, float], factor: int
) -> npt.NDArray[np.bool_]:
    """The rim of a box, in enlarged pixels."""
    top, left, bottom, right = (round((edge + 0.5) * factor) for edge in box)
    inside = np.zeros(shape, bool)
    inside[max(0, top) : bottom + 1, max(0, left) : right + 1] = True
    rim: npt.NDArray[np.bool_] = inside & ~ndimage.binary_erosion(inside, iterations=2)
    return rim


def _lines(lines: tuple[str, ...], width: int) -> Pixels:
    """White words on black, each line broken where it does not fit."""
    columns = -(-width // _LETTERS)
    broken = [row for line in lines for row in wrap(line, (columns - 4) // CHARACTER_WIDTH_PX) or [""]]
    small = np.zeros((len(broken) * (LINE_HEIGHT_PX + 2) + 2, columns), np.uint8)
    for number, line in enumerate(broken):
        draw(small, fitting(line, columns - 4), 2 + number * (LINE_HEIGHT_PX + 2), 2, 255)
    large = np.asarray(_larger(small, _LETTERS))[:, :width]
    return np.repeat(large[..., None], 3, axis=2)

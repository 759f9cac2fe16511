"""Images that are no DICOM: PNG, JPEG, TIFF and scanned film → Secondary Capture; NIfTI → clean NIfTI.

Metadata are dropped by construction: only decoded pixels are handed on, so text chunks, EXIF, ICC
profiles, XMP and comments have no way along. A Secondary Capture made here still carries the
hospital's own patient number: it takes the same way through de-identification as every other file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom.uid as uids
from PIL import Image, ImageOps, UnidentifiedImageError

from fedimg.dicom.authoring import write_image
from fedimg.dicom.elements import derived_uid
from fedimg.dicom.nifti import clean_bytes, read_nifti
from fedimg.dicom.reader import DEFAULT_LIMITS, ReadLimits, read_capped
from fedimg.dicom.refusal import Quarantined, contained
from fedimg.values import Quarantine

_FORMATS = ("PNG", "JPEG", "TIFF")
_MAX_SIDE = (1 << 16) - 1  # Rows and Columns are US
_TO_8_BIT = {
    "1": "L",
    "LA": "L",
    "La": "L",
    "P": "RGB",
    "PA": "RGB",
    "RGBA": "RGB",
    "RGBX": "RGB",
    "RGBa": "RGB",
}
_COLOUR = {"CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB", "HSV": "RGB"}
_CLASSES: Mapping[tuple[bool, str], uids.UID] = {  # PS3.4 table B.5-1, by (several frames, kind of pixel)
    (False, "L"): uids.SecondaryCaptureImageStorage,
    (False, "I;16"): uids.SecondaryCaptureImageStorage,
    (False, "RGB"): uids.SecondaryCaptureImageStorage,
    (True, "L"): uids.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    (True, "I;16"): uids.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    (True, "RGB"): uids.MultiFrameTrueColorSecondaryCaptureImageStorage,
}


def image_to_dicom(path: Path, patient_id: str, out: Path, limits: ReadLimits = DEFAULT_LIMITS) -> None:
    """A picture as a Secondary Capture (PS3.3 A.8) of the given patient, written to `out`.

    Guarantee: 8- and 16-bit grey and 8-bit RGB values are kept exactly (EXIF orientation is
    applied, transparency discarded); nothing else of the picture's file is kept; equal bytes and
    patient give an equal file. Raises Quarantined only.
    """
    data = _read(path, limits)
    pixels, kind = decode_picture(data, limits)
    digest = hashlib.sha256(data).hexdigest()
    study = derived_uid("picture study", patient_id, digest)
    attributes = {
        "SOPClassUID": _CLASSES[pixels.ndim - (kind == "RGB") == 3, kind],
        "PatientID": patient_id,
        "PatientName": patient_id,
        "StudyInstanceUID": study,
        "SeriesInstanceUID": derived_uid("picture series", study),
        "SOPInstanceUID": derived_uid("picture", study),
    }
    if pixels.ndim - (kind == "RGB") == 3:
        attributes |= _multi_frame(len(pixels), kind)
    write_image(out, modality="OT", pixels=pixels, attributes=attributes)


def _multi_frame(frames: int, kind: str) -> dict[str, Any]:
    """SC Multi-frame Image and Vector modules (PS3.3 C.8.6.3, C.8.6.4); unknown burned-in text counts as yes."""
    attributes: dict[str, Any] = {
        "BurnedInAnnotation": "YES",
        "FrameIncrementPointer": 0x00182001,
        "PageNumberVector": [str(n + 1) for n in range(frames)],
    }
    if kind != "RGB":
        grey = {"PresentationLUTShape": "IDENTITY", "RescaleIntercept": "0", "RescaleSlope": "1"}
        attributes |= grey | {"RescaleType": "US"}
    return attributes


def _read(path: Path, limits: ReadLimits) -> bytes:
    try:
        return read_capped(path, limits.file_bytes)
    except OSError as error:
        raise Quarantined(Quarantine.UNREADABLE, f"the system could not read it ({error.strerror})") from None


def decode_picture(data: bytes, limits: ReadLimits = DEFAULT_LIMITS) -> tuple[npt.NDArray[Any], str]:
    """Pixels of a PNG, JPEG or TIFF: (H, W), (F, H, W) or with a last axis of 3; and "L", "I;16" or "RGB".

    Raises Quarantined: NOT_AN_IMAGE, UNREADABLE, UNSAFE_STRUCTURE (before decoding) or WRONG_SHAPE.
    """
    try:
        with contained(), Image.open(BytesIO(data), formats=_FORMATS) as image:
            frames = getattr(image, "n_frames", 1)
            if max(image.size) > _MAX_SIDE or image.width * image.height * frames * 3 > limits.pixel_samples:
                found = f"{image.width} × {image.height} × {frames} pixels, limit {limits.pixel_samples // 3}"
                raise Quarantined(Quarantine.UNSAFE_STRUCTURE, found)
            decoded = []
            for frame in range(frames):
                image.seek(frame)
                decoded.append(_frame(image, limits))
    except Quarantined:
        raise
    except UnidentifiedImageError:
        raise Quarantined(Quarantine.NOT_AN_IMAGE, "bytes that are no PNG, JPEG or TIFF") from None
    except Image.DecompressionBombError:
        raise Quarantined(Quarantine.UNSAFE_STRUCTURE, "a picture that unpacks to an extreme size") from None
    # Pillow's decoders raise SyntaxError, struct.error, OSError, ValueError, … for bad files.
    except Exception as error:  # noqa: BLE001
        found = f"a picture that does not decode ({type(error).__name__})"
        raise Quarantined(Quarantine.UNREADABLE, found) from None
    kinds = {kind for _, kind in decoded}
    if len(kinds) > 1 or len({pixels.shape for pixels, _ in decoded}) > 1:
        raise Quarantined(Quarantine.WRONG_SHAPE, "pages of different sizes or kinds")
    pixels = np.stack([pixels for pixels, _ in decoded]) if len(decoded) > 1 else decoded[0][0]
    return pixels, kinds.pop()


def _frame(image: Image.Image, limits: ReadLimits) -> tuple[npt.NDArray[Any], str]:
    if image.width * image.height * 3 > limits.pixel_samples or max(image.size) > _MAX_SIDE:
        raise Quarantined(Quarantine.UNSAFE_STRUCTURE, f"a page of {image.width} × {image.height} pixels")
    upright = ImageOps.exif_transpose(image)
    mode = upright.mode
    if mode.startswith("I"):  # 16 bits; Pillow widens some of them to 32
        values = np.asarray(upright).astype(np.int64)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise Quarantined(Quarantine.WRONG_SHAPE, "grey values beyond 16 bits")
        return values.astype(np.uint16), "I;16"
    target = _TO_8_BIT.get(mode) or _COLOUR.get(mode) or mode
    if target not in ("L", "RGB"):
        raise Quarantined(Quarantine.WRONG_SHAPE, "a picture that is neither grey nor colour of 8 or 16 bits")
    return np.array(upright if mode == target else upright.convert(target), dtype=np.uint8), target


def clean_nifti(path: Path, out: Path, limits: ReadLimits = DEFAULT_LIMITS) -> None:
    """A NIfTI with the same values and geometry and no other header content, gzipped, written to `out`.

    Guarantee: see `nifti.clean_bytes`. Raises Quarantined only.
    """
    out.write_bytes(clean_bytes(read_nifti(_read(path, limits), limits)))

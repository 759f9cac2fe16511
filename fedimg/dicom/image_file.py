"""A file of any of the formats that are taken in, known by its first bytes and not by its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydicom.dataset import Dataset

from fedimg.dicom.asked import AskedHeader
from fedimg.dicom.foreign import decode_picture
from fedimg.dicom.nifti import is_nifti, read_nifti
from fedimg.dicom.pixels import decode_dataset, decode_nifti
from fedimg.dicom.reader import DEFAULT_LIMITS, ReadLimits, parse, read_capped
from fedimg.dicom.refusal import Quarantined
from fedimg.values import Area, DecodedImage, Quarantine

Kind = Literal["dicom", "nifti", "image"]

_PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*")
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as DICOM's colours are read


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An opened file."""

    kind: Kind
    _dataset: Dataset | None
    _data: bytes
    _limits: ReadLimits

    @property
    def header(self) -> AskedHeader | None:
        """Of a DICOM file; the others have none to ask."""
        return AskedHeader(self._dataset) if self._dataset is not None else None

    def decode(self, masked: Sequence[Area] = ()) -> DecodedImage:
        """Its pixels, finite, (D, H, W); `masked` are areas that its de-identification filled. Raises Quarantined only."""
        if self._dataset is not None:
            image = decode_dataset(self._dataset, masked)
        elif self.kind == "nifti":
            image = decode_nifti(read_nifti(self._data, self._limits))
        else:
            image = _of_picture(self._data, self._limits)
        if not np.isfinite(image.pixels_DHW).all():
            raise Quarantined(Quarantine.PIXELS_NOT_FINITE, "NaN or infinite pixel values")
        return image


def open_image(path: Path, limits: ReadLimits = DEFAULT_LIMITS) -> ImageFile:
    """Read a file and see what it is; pixels are not decoded yet.

    Raises Quarantined only: LINK, UNREADABLE, NOT_AN_IMAGE, UNSAFE_STRUCTURE, OBJECT_TYPE (a directory of files).
    """
    try:
        if path.is_symlink():
            raise Quarantined(Quarantine.LINK, "a link to another place")
        data = read_capped(path, limits.file_bytes)
    except OSError as error:
        raise Quarantined(Quarantine.UNREADABLE, f"the system could not read it ({error.strerror})") from None
    if data[128:132] != b"DICM":  # one file may be a TIFF and a DICOM file at once
        if is_nifti(data):
            return ImageFile("nifti", None, data, limits)
        if data.startswith(_PICTURES):
            return ImageFile("image", None, data, limits)
    return ImageFile("dicom", parse(data, limits), data, limits)


def _of_picture(data: bytes, limits: ReadLimits) -> DecodedImage:
    pixels, kind = decode_picture(data, limits)
    values = pixels.astype(np.float32)
    grey = values @ _LUMA if kind == "RGB" else values
    return DecodedImage(
        pixels_DHW=np.ascontiguousarray(grey if grey.ndim == 3 else grey[None], dtype=np.float32),
        affine_lps_mm=np.eye(4),
        spacing_mm=(1.0, 1.0, 1.0),
        modality="OT",
        units="arbitrary",
    )

"""Pixel layers L0 and L2: the pixels without anything beside them, and ultrasound without its banner.

L0: every image is decoded and written anew, so that comments, application segments, overlays in
unused bits (PS3.5 8.1.1), rows beyond the stated size and padding cannot survive. L2: outside
the regions of (0018,6011) an ultrasound image is filled with a constant (PS3.3 C.8.5.5).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from fedimg.dicom import recompress
from fedimg.dicom.encoder import PIXEL_DATA, Element, text
from fedimg.dicom.pixels import decoded_array
from fedimg.dicom.reader import DEFAULT_LIMITS, Quarantined, transfer_syntax
from fedimg.values import Quarantine

Pixels = npt.NDArray[Any]
Rectangle = tuple[int, int, int, int]

_NUMBERS = {
    0x00280002: "SamplesPerPixel",
    0x00280006: "PlanarConfiguration",
    0x00280010: "Rows",
    0x00280011: "Columns",
    0x00280100: "BitsAllocated",
    0x00280101: "BitsStored",
    0x00280102: "HighBit",
    0x00280103: "PixelRepresentation",
}
_FRAMES, _PHOTOMETRIC, _REGIONS = 0x00280008, 0x00280004, 0x00186011
_LOCATION = (0x00186018, 0x0018601A, 0x0018601C, 0x0018601E)
_SUBSAMPLED = ("YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420")
_ADDED_LATER = frozenset({*_NUMBERS, _FRAMES, _PHOTOMETRIC})


@dataclass(frozen=True, slots=True)
class StoredImage:
    """Decoded stored values with what is needed to write them again.

    `values` is (frames, rows, columns, samples), integers; samples last, colour never subsampled.
    """

    values: Pixels
    photometric: str
    bits_stored: int


def decode(dataset: Dataset, kept: Mapping[int, Element]) -> StoredImage:
    """Decode pixel data by the sizes that stay in the release.

    Raises Quarantined: UNSAFE_STRUCTURE for sizes that are missing or contradict each other,
    PIXELS_UNDECODABLE where the codec refuses or none is there.
    """
    image = _image_module(kept)
    element = dataset.get_item(PIXEL_DATA)
    if element is None:
        raise Quarantined(Quarantine.OBJECT_TYPE, "floating-point pixels")
    image.add_new(PIXEL_DATA, "OB", element.value)
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = transfer_syntax(dataset)
    image["PixelData"].is_undefined_length = image.file_meta.TransferSyntaxUID.is_encapsulated
    values, photometric = decoded_array(image, raw=True)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    frames = int(image.get("NumberOfFrames", 1))
    shape = (frames, image.Rows, image.Columns, image.SamplesPerPixel)
    if values.size != int(np.prod(shape)) or values.dtype.itemsize * 8 != image.BitsAllocated:
        raise Quarantined(Quarantine.PIXELS_UNDECODABLE, "pixels of another size than the header states")
    if photometric in _SUBSAMPLED:  # the decoder has given every pixel its own chroma
        photometric = "YBR_FULL"
    return StoredImage(
        without_unused_bits(values.reshape(shape), image.BitsStored), photometric, image.BitsStored
    )


def _image_module(kept: Mapping[int, Element]) -> Dataset:
    image = Dataset()
    for tag, keyword in _NUMBERS.items():
        value = kept[tag].value if tag in kept else None
        if isinstance(value, bytes) and len(value) == 2:
            setattr(image, keyword, struct.unpack("<H", value)[0])
    needed = (
        "SamplesPerPixel",
        "Rows",
        "Columns",
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
    )
    missing = [keyword for keyword in needed if keyword not in image]
    photometric = kept.get(_PHOTOMETRIC)
    if missing or photometric is None:
        raise Quarantined(
            Quarantine.UNSAFE_STRUCTURE, f"an image without {(missing or ['PhotometricInterpretation'])[0]}"
        )
    image.PhotometricInterpretation = _ascii(photometric)
    frames = _ascii(kept[_FRAMES]) if _FRAMES in kept else ""
    image.NumberOfFrames = int(frames) if frames else 1
    if image.SamplesPerPixel == 3 and "PlanarConfiguration" not in image:
        image.PlanarConfiguration = 0
    _check_sizes(image)
    return image


def _check_sizes(image: Dataset) -> None:
    consistent = (
        image.BitsAllocated in (8, 16, 32)
        and 1 <= image.BitsStored <= image.BitsAllocated
        and image.HighBit == image.BitsStored - 1
        and image.PixelRepresentation in (0, 1)
        and image.SamplesPerPixel in (1, 3)
        and min(image.Rows, image.Columns, int(image.NumberOfFrames)) > 0
    )
    if not consistent:
        raise Quarantined(Quarantine.UNSAFE_STRUCTURE, "bits, samples or sizes that contradict each other")
    if (
        image.Rows * image.Columns * int(image.NumberOfFrames) * image.SamplesPerPixel
        > DEFAULT_LIMITS.pixel_samples
    ):
        raise Quarantined(
            Quarantine.UNSAFE_STRUCTURE, f"more than {DEFAULT_LIMITS.pixel_samples} pixel samples"
        )


def _ascii(element: Element) -> str:
    return element.value.decode("ascii").strip(" \0") if isinstance(element.value, bytes) else ""


def without_unused_bits(values: Pixels, bits_stored: int) -> Pixels:
    """Stored values with the bits above BitsStored zero, or equal to the sign bit for signed values.

    `values` of any integer dtype; the result has the same dtype and says no more than `bits_stored` bits.
    """
    unused = values.dtype.itemsize * 8 - bits_stored
    if not unused:
        return values
    if values.dtype.kind == "i":
        signed: Pixels = (values << unused) >> unused
        return signed
    unsigned: Pixels = values & values.dtype.type((1 << bits_stored) - 1)
    return unsigned


def regions(kept: Mapping[int, Element], rows: int, columns: int) -> list[Rectangle]:
    """The ultrasound regions as (x0, y0, x1, y1), corners included, cut to the image; empty ones are left out."""
    element = kept.get(_REGIONS)
    found = []
    for item in element.value if element is not None and isinstance(element.value, list) else ():
        numbers = {child.tag: child.value for child in item}
        corners = [numbers.get(tag, b"") for tag in _LOCATION]
        if any(not isinstance(corner, bytes) or len(corner) != 4 for corner in corners):
            continue
        x0, y0, x1, y1 = (int.from_bytes(bytes(corner), "little") for corner in corners)  # type: ignore[arg-type]
        x1, y1 = min(x1, columns - 1), min(y1, rows - 1)
        if x0 < x1 and y0 < y1:
            found.append((x0, y0, x1, y1))
    return found


def blank_outside(image: StoredImage, rectangles: Sequence[Rectangle]) -> tuple[StoredImage, int]:
    """The image with a constant outside the rectangles, and how many pixels of a frame that fills."""
    keep = np.zeros(image.values.shape[1:3], np.bool_)
    for x0, y0, x1, y1 in rectangles:
        keep[y0 : y1 + 1, x0 : x1 + 1] = True
    # Black, or index 0 of a palette. In YBR black has its chroma at the middle (PS3.3 C.7.6.3.1.2).
    fill = (0, 128, 128) if image.photometric == "YBR_FULL" else (0,) * image.values.shape[3]
    values = np.where(keep[None, :, :, None], image.values, np.array(fill, image.values.dtype))
    return StoredImage(values, image.photometric, image.bits_stored), int((~keep).sum())


def digest(image: StoredImage, kept: Mapping[int, Element]) -> bytes:
    """SHA-256 of the stored values with their size and place: equal for copies of one image."""
    place = [kept[tag].value for tag in (0x00200032, 0x00200037) if tag in kept]
    header = repr((image.values.shape, str(image.values.dtype), image.photometric, place)).encode()
    return hashlib.sha256(header + b"\0" + np.ascontiguousarray(image.values).tobytes()).digest()


def written(
    image: StoredImage, kept: Mapping[int, Element], method: recompress.Method
) -> tuple[list[Element], str]:
    """All elements of the release, ordered, with pixels written anew; and its transfer syntax."""
    module = _image_module(kept)
    module.PhotometricInterpretation, samples = image.photometric, module.SamplesPerPixel
    if samples == 3:
        module.PlanarConfiguration = 0
    module.file_meta = FileMetaDataset()
    module.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    native = (
        np.ascontiguousarray(image.values).astype(image.values.dtype.newbyteorder("<"), copy=False).tobytes()
    )
    vr = "OW" if module.BitsAllocated > 8 else "OB"
    module.add_new(PIXEL_DATA, vr, native + b"\0" * (len(native) % 2))
    module.set_original_encoding(False, True)
    packed = recompress.lossless(module, method)
    syntax = str(packed.file_meta.TransferSyntaxUID)
    compressed = packed.file_meta.TransferSyntaxUID.is_encapsulated
    elements = [element for tag, element in kept.items() if tag not in _ADDED_LATER]
    for tag, keyword in _NUMBERS.items():
        if keyword in module and not (keyword == "PlanarConfiguration" and samples == 1):
            elements.append(Element(tag, "US", struct.pack("<H", module[keyword].value)))
    if _FRAMES in kept:
        elements.append(text(_FRAMES, "IS", str(int(module.NumberOfFrames))))
    elements.append(text(_PHOTOMETRIC, "CS", image.photometric, closed=True))
    elements.append(
        Element(PIXEL_DATA, "OB" if compressed else vr, packed.PixelData, encapsulated=compressed)
    )
    return sorted(elements, key=lambda element: element.tag), syntax

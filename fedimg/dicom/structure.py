"""Pixel layer L0: stored values without anything beside them, and the elements that hold them again.

Every image is decoded and written anew, so that comments, application segments, overlays in
unused bits (PS3.5 8.1.1), rows beyond the stated size, frames beyond the stated number and
padding cannot survive. Overlays, curves and icons are elements, and no profile names them.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pydicom.uid as uids
from pydicom.dataset import Dataset, FileMetaDataset

from fedimg.dicom import recompress
from fedimg.dicom.encoder import PIXEL_DATA, Element, text, text_of
from fedimg.dicom.pixels import decoded_array
from fedimg.dicom.reader import DEFAULT_LIMITS, transfer_syntax
from fedimg.dicom.refusal import Quarantined
from fedimg.values import Quarantine

Pixels = npt.NDArray[Any]

_NUMBERS = {  # tag → keyword, name in `Sizes`
    0x00280002: ("SamplesPerPixel", "samples"),
    0x00280006: ("PlanarConfiguration", "planar"),
    0x00280010: ("Rows", "rows"),
    0x00280011: ("Columns", "columns"),
    0x00280100: ("BitsAllocated", "bits_allocated"),
    0x00280101: ("BitsStored", "bits_stored"),
    0x00280102: ("HighBit", "high_bit"),
    0x00280103: ("PixelRepresentation", "signed"),
}
_FRAMES, _PHOTOMETRIC = 0x00280008, 0x00280004
_SUBSAMPLED = ("YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420")
_WRITABLE = frozenset({"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL"})
_WORDWISE = (uids.ImplicitVRLittleEndian, uids.ExplicitVRLittleEndian, uids.DeflatedExplicitVRLittleEndian)
_BIT_EXACT = (*_WORDWISE, uids.ExplicitVRBigEndian, uids.RLELossless)
_SOP_CLASS = 0x00080016
_ULTRASOUND = frozenset({uids.UltrasoundImageStorage, uids.UltrasoundMultiFrameImageStorage})
_ADDED_LATER = frozenset({*_NUMBERS, _FRAMES, _PHOTOMETRIC})


@dataclass(frozen=True, slots=True)
class StoredImage:
    """Decoded stored values with what is needed to write them again.

    `values` is (frames, rows, columns, samples), integers; samples last, colour never subsampled.
    """

    values: Pixels
    photometric: str
    bits_stored: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """The Image Pixel module (PS3.3 C.7.6.3) as numbers that do not contradict each other."""

    frames: int
    rows: int
    columns: int
    samples: int
    planar: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: int
    photometric: str

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.frames, self.rows, self.columns, self.samples

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of stored values, in the order of this machine."""
        return np.dtype(f"{'i' if self.signed else 'u'}{self.bits_allocated // 8}")


def decode(dataset: Dataset, kept: Mapping[int, Element]) -> StoredImage:
    """Decode pixel data by the sizes that stay in the release.

    Raises Quarantined: UNSAFE_STRUCTURE for sizes that are missing or contradict each other,
    OBJECT_TYPE for pixels that are no integers of 8, 16 or 32 bits, PIXELS_UNDECODABLE where the
    codec refuses or none is there.
    """
    element = dataset.get_item(PIXEL_DATA)
    if element is None:
        raise Quarantined(Quarantine.OBJECT_TYPE, "floating-point pixels")
    sizes, syntax = sizes_of(kept), transfer_syntax(dataset)
    raw, photometric = element.value or b"", sizes.photometric
    plain = sizes.samples == 1 or (sizes.planar == 0 and photometric not in _SUBSAMPLED)
    if syntax in _WORDWISE and plain:
        values = _native(raw, sizes)
    else:
        values, photometric = _decoded(raw, sizes, syntax)
    if photometric in _SUBSAMPLED:  # the decoder has given every pixel its own chroma
        photometric = "YBR_FULL"
    if photometric not in _WRITABLE:
        raise Quarantined(Quarantine.PIXELS_UNDECODABLE, "a PhotometricInterpretation that is not supported")
    return StoredImage(_in_low_bits(values, sizes), photometric, sizes.bits_stored)


def _native(raw: bytes, sizes: Sizes) -> Pixels:
    count = int(np.prod(sizes.shape))
    if len(raw) < count * sizes.dtype.itemsize:
        raise Quarantined(Quarantine.PIXELS_UNDECODABLE, "pixels of another size than the header states")
    values: Pixels = np.frombuffer(raw, sizes.dtype.newbyteorder("<"), count).reshape(sizes.shape)
    return values.astype(sizes.dtype, copy=False)


def _decoded(raw: bytes, sizes: Sizes, syntax: uids.UID) -> tuple[Pixels, str]:
    """By the codec of the transfer syntax. Whole words where the high bit is not the last (see `_in_low_bits`)."""
    image = _module(sizes)
    if sizes.high_bit != sizes.bits_stored - 1:
        image.BitsStored, image.HighBit = sizes.bits_allocated, sizes.bits_allocated - 1
        image.PixelRepresentation = 0
    image.add_new(PIXEL_DATA, "OB", raw)
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = syntax
    image["PixelData"].is_undefined_length = syntax.is_encapsulated
    if sizes.high_bit != sizes.bits_stored - 1 and syntax not in _BIT_EXACT:
        raise Quarantined(Quarantine.UNSAFE_STRUCTURE, "compressed pixels with a HighBit of their own")
    values, photometric = decoded_array(image, raw=True)
    if values.size != int(np.prod(sizes.shape)) or values.dtype.itemsize * 8 != sizes.bits_allocated:
        raise Quarantined(Quarantine.PIXELS_UNDECODABLE, "pixels of another size than the header states")
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    return native.reshape(sizes.shape), photometric


def _in_low_bits(values: Pixels, sizes: Sizes) -> Pixels:
    """Values whose high bit is BitsStored − 1. Files of before 2014 may keep theirs elsewhere (PS3.5 8.1.1)."""
    shift = sizes.high_bit + 1 - sizes.bits_stored
    if shift:
        words = values.view(f"u{values.dtype.itemsize}") >> shift
        values = words.view(sizes.dtype)
    return without_unused_bits(values, sizes.bits_stored)


def sizes_of(kept: Mapping[int, Element]) -> Sizes:
    """The sizes among the elements of a release. Raises Quarantined (UNSAFE_STRUCTURE, OBJECT_TYPE)."""
    numbers = {"planar": 0}
    for tag, (_, name) in _NUMBERS.items():
        value = kept[tag].value if tag in kept else None
        if isinstance(value, bytes) and len(value) == 2:
            numbers[name] = value[0] | value[1] << 8
    missing = [keyword for keyword, name in _NUMBERS.values() if name not in numbers]
    photometric = kept.get(_PHOTOMETRIC)
    if missing or photometric is None:
        found = f"an image without {(missing or ['PhotometricInterpretation'])[0]}"
        raise Quarantined(Quarantine.UNSAFE_STRUCTURE, found)
    frames = _ascii(kept[_FRAMES]) if _FRAMES in kept else ""
    sizes = Sizes(frames=int(frames or 1), photometric=_ascii(photometric), **numbers)
    _check(sizes)
    return sizes


def _check(sizes: Sizes) -> None:
    if sizes.bits_allocated == 1:
        raise Quarantined(Quarantine.OBJECT_TYPE, "pixels of one bit: a mask or a drawing, not an image")
    consistent = (
        sizes.bits_allocated in (8, 16, 32)
        and 1 <= sizes.bits_stored <= sizes.high_bit + 1 <= sizes.bits_allocated
        and sizes.signed in (0, 1)
        and sizes.planar in (0, 1)
        and sizes.samples in (1, 3)
        and min(sizes.rows, sizes.columns, sizes.frames) > 0
    )
    if not consistent:
        raise Quarantined(Quarantine.UNSAFE_STRUCTURE, "bits, samples or sizes that contradict each other")
    if sizes.rows * sizes.columns * sizes.frames * sizes.samples > DEFAULT_LIMITS.pixel_samples:
        found = f"more than {DEFAULT_LIMITS.pixel_samples} pixel samples"
        raise Quarantined(Quarantine.UNSAFE_STRUCTURE, found)


def _ascii(element: Element) -> str:
    return element.value.decode("ascii").strip(" \0") if isinstance(element.value, bytes) else ""


def without_unused_bits(values: Pixels, bits_stored: int) -> Pixels:
    """Stored values with the bits above BitsStored zero, or equal to the sign bit for signed values.

    `values` of any integer dtype; the result has the same dtype and says no more than `bits_stored`
    bits. It is `values` itself where nothing is to be done.
    """
    unused = values.dtype.itemsize * 8 - bits_stored
    if not unused:
        return values
    if values.dtype.kind == "i":
        limit = 1 << (bits_stored - 1)
        if -limit <= values.min() and values.max() < limit:
            return values
        signed: Pixels = (values << unused) >> unused
        return signed
    if values.max() < 1 << bits_stored:
        return values
    unsigned: Pixels = values & values.dtype.type((1 << bits_stored) - 1)
    return unsigned


def digest(image: StoredImage, kept: Mapping[int, Element], of_values: bytes) -> bytes:
    """SHA-256 of the stored values' fingerprint with their size and place: equal for copies of one image.

    Args:
        of_values: fingerprint of the values' bytes in little-endian order (`little_endian`).
    """
    place = [kept[tag].value for tag in (0x00200032, 0x00200037) if tag in kept]
    header = repr((image.values.shape, str(image.values.dtype), image.photometric, place)).encode()
    return hashlib.sha256(header + b"\0" + of_values).digest()


def written(
    image: StoredImage, kept: Mapping[int, Element], method: recompress.Method
) -> tuple[list[Element], str]:
    """All elements of the release, ordered, with pixels written anew; and its transfer syntax."""
    bits = image.values.dtype.itemsize * 8
    signed = int(image.values.dtype.kind == "i")
    frames, rows, columns, samples = image.values.shape
    stored = image.bits_stored
    sizes = Sizes(frames, rows, columns, samples, 0, bits, stored, stored - 1, signed, image.photometric)
    native = little_endian(image.values)
    pixels = Element(PIXEL_DATA, "OW" if bits > 8 else "OB", native + b"\0" * (len(native) % 2))
    pixels, syntax = _packed(pixels, sizes, "rle" if _planes_only(image, kept) else method)
    if syntax == uids.RLELossless:
        sizes = replace(sizes, planar=1)
    elements = [element for tag, element in kept.items() if tag not in _ADDED_LATER]
    elements += [
        Element(tag, "US", struct.pack("<H", getattr(sizes, name)))
        for tag, (_, name) in _NUMBERS.items()
        if not (name == "planar" and samples == 1)
    ]
    if _FRAMES in kept:
        elements.append(text(_FRAMES, "IS", str(frames)))
    elements.append(text(_PHOTOMETRIC, "CS", image.photometric, closed=True))
    elements.append(pixels)
    return sorted(elements, key=lambda element: element.tag), syntax


def little_endian(values: Pixels) -> bytes:
    """The values' bytes; the very bytes of the input where nothing came between, so that they are not copied."""
    if values.dtype.newbyteorder("<") == values.dtype and values.flags.c_contiguous:
        owner: Any = values
        while isinstance(owner, np.ndarray):
            owner = owner.base
        if isinstance(owner, bytes) and len(owner) == values.nbytes:
            return owner
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def _planes_only(image: StoredImage, kept: Mapping[int, Element]) -> bool:
    """Ultrasound in YBR_FULL may be written in RLE, by planes, and no other way (PS3.3 C.8.5.6.1.2, .1.16)."""
    return image.photometric == "YBR_FULL" and text_of(kept, _SOP_CLASS) in _ULTRASOUND


def _packed(pixels: Element, sizes: Sizes, method: recompress.Method | Literal["rle"]) -> tuple[Element, str]:
    """Pixel data in fewer bytes, or in run lengths, where the codec gives them back exactly."""
    if method == "none":
        return pixels, str(uids.ExplicitVRLittleEndian)
    module = _module(sizes)
    module.file_meta = FileMetaDataset()
    module.file_meta.TransferSyntaxUID = uids.ExplicitVRLittleEndian
    module.add_new(PIXEL_DATA, pixels.vr, pixels.value)
    module.set_original_encoding(False, True)
    packed = recompress.run_lengths(module) if method == "rle" else recompress.lossless(module, method)
    if packed is module:
        return pixels, str(uids.ExplicitVRLittleEndian)
    return Element(PIXEL_DATA, "OB", packed.PixelData, encapsulated=True), str(
        packed.file_meta.TransferSyntaxUID
    )


def _module(sizes: Sizes) -> Dataset:
    """The Image Pixel module as pydicom's codecs ask for it."""
    image = Dataset()
    image.SamplesPerPixel, image.PhotometricInterpretation = sizes.samples, sizes.photometric
    if sizes.samples == 3:
        image.PlanarConfiguration = sizes.planar
    image.NumberOfFrames, image.Rows, image.Columns = sizes.frames, sizes.rows, sizes.columns
    image.BitsAllocated, image.BitsStored, image.HighBit = (
        sizes.bits_allocated,
        sizes.bits_stored,
        sizes.high_bit,
    )
    image.PixelRepresentation = sizes.signed
    return image

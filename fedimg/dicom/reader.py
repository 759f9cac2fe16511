"""Station 1: bytes on disk → `pydicom.Dataset`. A bad file gets a reason, never a crash.

pydicom is lenient: it reads past the end of a truncated file in silence, inflates without
limit, and puts values read from the file into warnings and log lines. Here the opposite
holds: what is not whole is refused, sizes are capped before anything is allocated, and
neither warnings nor log lines of pydicom leave this package.

Layout of a file: PS3.10 section 7; transfer syntaxes: PS3.5 annex A; Image Pixel: PS3.3 C.7.6.3.
"""

from __future__ import annotations

import logging
import os
import stat
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset as read_elements
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from fedimg.dicom.plain import PIXEL_TAGS, read_plain
from fedimg.dicom.refusal import Quarantined, contained
from fedimg.values import Quarantine

# Parsers log values that they read, codecs log what they stumble over: none of it may reach an
# application's log (log lines are PHI). A child's record climbs past a disabled parent, hence all three.
for _parser in ("pydicom", "pylibjpeg", "openjpeg", "jpeg_ls", "nibabel", "nibabel.global", "PIL"):
    _logger = logging.getLogger(_parser)
    _logger.disabled, _logger.propagate = True, False
    _logger.addHandler(logging.NullHandler())

_UNDEFINED_LENGTH = 0xFFFFFFFF
_DIRECTORY_RECORDS = BaseTag(0x00041220)  # DirectoryRecordSequence
_LONGEST_UID = 66  # bytes, with padding (PS3.5 9.1)
_CUT = "a file that ends within an element"
PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """What is refused before memory is spent on it.

    Attributes:
        file_bytes: size of a file, and of a deflated one once inflated.
        pixel_samples: rows × columns × frames × samples per pixel.
    """

    file_bytes: int = 2 << 30
    pixel_samples: int = 1 << 29


DEFAULT_LIMITS = ReadLimits()


@dataclass(frozen=True, slots=True)
class PixelShape:
    """The Image Pixel module's sizes, all ≥ 1."""

    frames: int
    rows: int
    columns: int
    samples: int
    bits_allocated: int

    @property
    def values(self) -> int:
        return self.frames * self.rows * self.columns * self.samples


def read_dataset(path: Path, limits: ReadLimits = DEFAULT_LIMITS) -> Dataset:
    """The data set of one file, elements still raw, with `file_meta`.

    Guarantee: every top-level element is whole; pixel data, if any, are within `limits` and, if
    native, not shorter than Rows × Columns × NumberOfFrames; no warning is shown.
    Raises Quarantined, and no other exception, whatever the file holds.
    """
    try:
        data = read_capped(path, limits.file_bytes)
    except OSError as error:
        raise Quarantined(Quarantine.UNREADABLE, f"the system could not read it ({error.strerror})") from None
    return parse(data, limits)


def read_capped(path: Path, file_bytes: int) -> bytes:
    """The bytes of a regular file of at most `file_bytes`. Raises Quarantined, OSError."""
    # O_NONBLOCK: opening a FIFO that somebody left in the folder must not hang the intake.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Quarantined(Quarantine.NOT_AN_IMAGE, "something that is not a regular file")
        if status.st_size > file_bytes:
            raise Quarantined(
                Quarantine.UNSAFE_STRUCTURE, f"a file of {status.st_size} bytes, limit {file_bytes}"
            )
        data = file.read(status.st_size + 1)  # asked for at once, all of `file_bytes` would be allocated
        return data if len(data) <= status.st_size else data + file.read(file_bytes + 1 - len(data))


def parse(data: bytes, limits: ReadLimits = DEFAULT_LIMITS) -> Dataset:
    """`read_dataset` for bytes in memory. Raises Quarantined only."""
    if not _looks_like_dicom(data):
        raise Quarantined(Quarantine.NOT_AN_IMAGE, "bytes that are not DICOM")
    try:
        with contained() as caught:
            if (dataset := read_plain(data)) is None:
                _check_inflated_size(data, limits)
                dataset = read_partial(BytesIO(data), stop_when=_behind_pixels(), force=True)
                _check_whole(dataset)
            if any("end of file" in str(w.message).lower() for w in caught):
                raise Quarantined(Quarantine.UNREADABLE, _CUT)
            _check_kind(dataset)
            _check_image(dataset, limits)
    except Quarantined:
        raise
    # pydicom raises what its parser happens to meet (struct.error, KeyError, RecursionError, zlib.error,
    # LookupError …): any of them means the same here. The original is dropped: its text may quote values.
    except Exception as error:  # noqa: BLE001
        raise Quarantined(
            Quarantine.UNREADABLE, f"a structure that does not parse ({type(error).__name__})"
        ) from None
    return dataset


def _behind_pixels() -> Callable[[BaseTag, str | None, int], bool]:
    """Whether reading is to stop: behind the pixel data only padding and signatures may follow (PS3.5 7.1,
    PS3.6), and what else was appended to a file is none of its elements.
    """
    seen = False

    def stop(tag: BaseTag, _vr: str | None, _length: int) -> bool:
        nonlocal seen
        behind, seen = seen, seen or tag in PIXEL_TAGS
        return behind

    return stop


def _looks_like_dicom(data: bytes) -> bool:
    """Part 10 prefix, or a bare data set: one that starts with group 0002 or 0008 (ACR-NEMA too)."""
    if data[128:132] == b"DICM":
        return True
    if len(data) < 16:
        return False
    little, big = (struct.unpack_from(order + "HH", data) for order in ("<", ">"))
    if little[0] in (2, 8) and little[1] < 0x3000:
        explicit = data[4:6].isalpha() and data[4:6].isupper()
        return explicit or struct.unpack_from("<I", data, 4)[0] <= len(data) - 8
    return big[0] == 8 and data[4:6].isalpha() and data[4:6].isupper()


def _check_inflated_size(data: bytes, limits: ReadLimits) -> None:
    """A deflated data set (PS3.5 A.5) is inflated here once, in steps, to learn its size."""
    if DeflatedExplicitVRLittleEndian.encode() not in data:
        return
    stream = BytesIO(data)
    stream.seek(132 if data[128:132] == b"DICM" else 0)
    meta = read_elements(stream, False, True, stop_when=lambda tag, *_: tag >> 16 != 2)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    inflater, total, step = zlib.decompressobj(-zlib.MAX_WBITS), 0, 1 << 24
    pending = data[stream.tell() :]
    while pending and not inflater.eof:
        total += len(inflater.decompress(pending, step))
        pending = inflater.unconsumed_tail
        if total > limits.file_bytes:
            raise Quarantined(
                Quarantine.UNSAFE_STRUCTURE, f"a data set that inflates beyond {limits.file_bytes} bytes"
            )


def _check_whole(dataset: Dataset) -> None:
    """Every element is as long as it says: pydicom reads past the end of a file in silence."""
    if not len(dataset):
        raise Quarantined(Quarantine.UNREADABLE, "a file without a data set")
    for element in dataset.values():
        if not isinstance(element, RawDataElement) or element.length == _UNDEFINED_LENGTH:
            continue
        if len(element.value or b"") != element.length:
            raise Quarantined(Quarantine.UNREADABLE, _CUT)


def _check_kind(dataset: Dataset) -> None:
    """A directory is no object."""
    storage_class = _of_meta(dataset, "MediaStorageSOPClassUID")
    if storage_class == "1.2.840.10008.1.3.10" or _DIRECTORY_RECORDS in dataset:
        raise Quarantined(Quarantine.OBJECT_TYPE, "a DICOMDIR")


def whole_number(dataset: Dataset, keyword: str, default: int | None = None) -> int:
    """An attribute as one non-negative int, without touching the raw element. Raises Quarantined."""
    tag = tag_for_keyword(keyword)
    element: Any = dataset.get_item(tag) if tag is not None else None
    if isinstance(element, RawDataElement):
        if element.VR == "US" and element.is_little_endian and len(element.value or b"") == 2:
            return int.from_bytes(element.value or b"", "little")
        element = convert_raw_data_element(element)
    value = getattr(element, "value", None)
    if value in (None, ""):
        if default is not None:
            return default
        raise Quarantined(Quarantine.UNREADABLE, f"pixel data without {keyword}")
    try:
        number = int(value)
    except (TypeError, ValueError):
        raise Quarantined(Quarantine.UNSAFE_STRUCTURE, f"{keyword} that is not one number") from None
    if not 0 <= number < 1 << 31:
        raise Quarantined(Quarantine.UNSAFE_STRUCTURE, f"{keyword} out of range")
    return number


def pixel_shape(dataset: Dataset) -> PixelShape:
    """Sizes of the Image Pixel module (PS3.3 C.7.6.3.1). Raises Quarantined if absent or zero."""
    shape = PixelShape(
        frames=whole_number(dataset, "NumberOfFrames", 1) or 1,
        rows=whole_number(dataset, "Rows"),
        columns=whole_number(dataset, "Columns"),
        samples=whole_number(dataset, "SamplesPerPixel", 1),
        bits_allocated=whole_number(dataset, "BitsAllocated"),
    )
    if not (shape.values and shape.bits_allocated):
        raise Quarantined(Quarantine.UNSAFE_STRUCTURE, "an image of size zero")
    return shape


def transfer_syntax(dataset: Dataset) -> UID:
    """(0002,0010), or what a file without meta was found to be encoded as."""
    syntax = _of_meta(dataset, "TransferSyntaxUID")
    if syntax:
        return syntax if isinstance(syntax, UID) else UID(str(syntax))
    implicit, little = dataset.original_encoding
    if implicit or implicit is None:
        return pydicom.uid.ImplicitVRLittleEndian
    return pydicom.uid.ExplicitVRLittleEndian if little else pydicom.uid.ExplicitVRBigEndian


def _of_meta(dataset: Dataset, keyword: str) -> Any:
    """The value of an element of the file meta; None where there is no such element, or no file meta."""
    meta: Dataset | None = getattr(dataset, "file_meta", None)
    if meta is None:
        return None
    tag = tag_for_keyword(keyword)
    element: Any = meta.get_item(tag) if tag is not None else None
    value = element.value if isinstance(element, RawDataElement) and element.VR == "UI" else None
    if value and len(value) <= _LONGEST_UID and b"\\" not in value:
        return _uid(value)
    return meta.get(keyword)


@lru_cache(256)
def _uid(value: bytes) -> UID:
    """One UID as pydicom reads it, padding off (`pydicom.values.convert_UI`)."""
    return UID(value.decode("iso8859").rstrip("\0 "))


def _is_image(dataset: Dataset) -> bool:
    """By its storage class (PS3.4 B.5), or by having rows and columns: the end of a file may be missing."""
    classes = (_of_meta(dataset, "MediaStorageSOPClassUID"), dataset.get("SOPClassUID"))
    named = any("Image Storage" in UID(str(uid)).name for uid in classes if uid)
    return named or ("Rows" in dataset and "Columns" in dataset)


def _check_image(dataset: Dataset, limits: ReadLimits) -> None:
    """Sizes before any decoder sees them. Objects without an Image Pixel module pass."""
    stored = [keyword for keyword in PIXEL_KEYWORDS if keyword in dataset]
    if not stored:
        if _is_image(dataset):
            raise Quarantined(Quarantine.UNREADABLE, "an image without pixel data")
        return
    shape = pixel_shape(dataset)
    if shape.values > limits.pixel_samples:
        found = f"{shape.values} pixel samples, limit {limits.pixel_samples}"
        raise Quarantined(Quarantine.UNSAFE_STRUCTURE, found)
    syntax = transfer_syntax(dataset)
    if syntax.is_private or syntax.is_encapsulated:
        return
    samples_stored = shape.values
    if dataset.get("PhotometricInterpretation") == "YBR_FULL_422":
        samples_stored = shape.values // 3 * 2  # PS3.3 C.7.6.3.1.2: one chroma pair for two pixels
    needed = (samples_stored * shape.bits_allocated + 7) // 8
    element = dataset.get_item(stored[0])
    if len(getattr(element, "value", None) or b"") < needed:
        raise Quarantined(
            Quarantine.UNREADABLE, f"pixel data shorter than the {needed} bytes of its stated size"
        )

"""Keywords and values → the bytes of a DICOM file (PS3.5 section 7, PS3.10 section 7.1).

An encoder of its own, because a data set of a hundred elements takes pydicom milliseconds to
build and write, and a cohort has thousands of files. Its judge is pydicom, which reads every
byte of it back, in the tests and at every intake.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from io import BytesIO
from typing import Any, Literal, NamedTuple

import pydicom.uid as uids
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID

from fedimg.dicom.encoder import LONG_VRS
from fedimg.errors import DataError

PrivateElement = tuple[int, str, int, str, Any]
"""(group, creator, element 0x00–0xFF, VR, value)."""

IMPLEMENTATION_CLASS_UID = "2.25.213377417362953172583205170349216830469"
_IMPLEMENTATION_VERSION = "FEDIMG"
_PIXEL_DATA = 0x7FE00010
_BINARY: Mapping[str, str] = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "AT": "I"}


class _Encoding(NamedTuple):
    implicit: bool
    order: Literal["<", ">"]
    characters: str


def derived_uid(*parts: str) -> str:
    """A UID of its parts alone (PS3.5 B.2, "2.25." + a UUIDv8 of SHA-256): equal in every run and process.

    No pseudonym: whoever knows the parts can recompute it. For files in front of the identity boundary.
    """
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "big") + data)
    number = int.from_bytes(digest.digest()[:16], "big")
    number = number & ~(0xF << 76) | 8 << 76
    number = number & ~(0x3 << 62) | 2 << 62
    return f"2.25.{number}"


@lru_cache(maxsize=4096)
def _tag_and_vr(keyword: str) -> tuple[int, str]:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise DataError("a keyword of the DICOM dictionary", keyword, "see PS3.6")
    vr = dictionary_VR(tag)
    # Of the ambiguous ones, what is written here is unsigned; pixels are named by who writes them.
    return tag, "US" if vr.startswith("US or") else vr


def encode_file(
    attributes: Mapping[str, Any], pixel_data: bytes, syntax: UID, private: Sequence[PrivateElement] = ()
) -> bytes:
    """A whole file: zero preamble, file meta, data set.

    Args:
        attributes: DICOM keywords; a list of mappings is a sequence, another list several values.
            Keywords of group 0002 go into the file meta. Values are written as given, unvalidated.
        pixel_data: in the order of `syntax`, or encapsulated (PS3.5 A.4) without the last delimiter.
        syntax: any but the private ones.
        private: blocks are reserved in the order in which creators appear (PS3.5 7.8).

    Raises DataError for a keyword that the dictionary does not have.
    """
    elements = _elements(attributes)
    meta = {tag: element for tag, element in elements.items() if tag >> 16 == 2}
    body = {tag: element for tag, element in elements.items() if tag >> 16 != 2} | _private(private)
    meta |= _meta(attributes["SOPClassUID"], attributes["SOPInstanceUID"], syntax)
    big = syntax == uids.ExplicitVRBigEndian
    declared = "utf-8" if attributes.get("SpecificCharacterSet") == "ISO_IR 192" else "latin-1"
    encoding = _Encoding(syntax == uids.ImplicitVRLittleEndian, ">" if big else "<", declared)
    data = _encode(body.items(), encoding) + _pixels(pixel_data, attributes, encoding, syntax.is_encapsulated)
    if syntax == uids.DeflatedExplicitVRLittleEndian:
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        data = deflater.compress(data) + deflater.flush()
        data += b"\0" * (len(data) % 2)
    return _prefix(meta) + data


def file_meta(sop_class: str, sop_uid: str, syntax: str) -> bytes:
    """What stands before a data set that came without: zero preamble, prefix, file meta (PS3.10 7.1)."""
    return _prefix(_meta(sop_class, sop_uid, syntax))


def _meta(sop_class: str, sop_uid: str, syntax: str) -> dict[int, tuple[str, Any]]:
    return {
        0x00020001: ("OB", b"\x00\x01"),
        0x00020002: ("UI", sop_class),
        0x00020003: ("UI", sop_uid),
        0x00020010: ("UI", syntax),
        0x00020012: ("UI", IMPLEMENTATION_CLASS_UID),
        0x00020013: ("SH", _IMPLEMENTATION_VERSION),
    }


def _prefix(meta: Mapping[int, tuple[str, Any]]) -> bytes:
    group = _encode(meta.items(), _Encoding(implicit=False, order="<", characters="latin-1"))
    return b"\0" * 128 + b"DICM" + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(group)) + group


def _elements(attributes: Mapping[str, Any]) -> dict[int, tuple[str, Any]]:
    found = {}
    for keyword, value in attributes.items():
        tag, vr = _tag_and_vr(keyword)
        found[tag] = (vr, value)
    return found


def _private(private: Sequence[PrivateElement]) -> dict[int, tuple[str, Any]]:
    blocks: dict[tuple[int, str], int] = {}
    elements: dict[int, tuple[str, Any]] = {}
    for group, creator, element, vr, value in private:
        taken = sum(1 for other, _ in blocks if other == group)
        block = blocks.setdefault((group, creator), 0x10 + taken)
        elements[group << 16 | block] = ("LO", creator)
        elements[group << 16 | block << 8 | element] = (vr, value)
    return elements


def _encode(elements: Iterable[tuple[int, tuple[str, Any]]], encoding: _Encoding) -> bytes:
    parts = []
    for tag, (vr, value) in sorted(elements, key=lambda item: item[0]):
        data = _value(vr, value, encoding)
        group, element = tag >> 16, tag & 0xFFFF
        if encoding.implicit:
            parts.append(struct.pack("<HHI", group, element, len(data)))
        elif vr in LONG_VRS:
            parts.append(struct.pack(encoding.order + "HH2sHI", group, element, vr.encode(), 0, len(data)))
        elif len(data) > 0xFFFF:
            raise DataError(f"at most 65535 bytes in {vr}", f"{len(data)} bytes", "use another VR")
        else:
            parts.append(struct.pack(encoding.order + "HH2sH", group, element, vr.encode(), len(data)))
        parts.append(data)
    return b"".join(parts)


def _value(vr: str, value: Any, encoding: _Encoding) -> bytes:
    if vr == "SQ":
        items = [_encode(_elements(item).items(), encoding) for item in value]
        head = encoding.order + "HHI"
        return b"".join(struct.pack(head, 0xFFFE, 0xE000, len(item)) + item for item in items)
    if isinstance(value, bytes):
        return value + b"\0" * (len(value) % 2)
    values = value if isinstance(value, (list, tuple)) else () if value in ("", None) else (value,)
    if vr == "AT":  # two halves, each in the byte order
        return b"".join(struct.pack(encoding.order + "HH", int(v) >> 16, int(v) & 0xFFFF) for v in values)
    if vr in _BINARY:
        return struct.pack(f"{encoding.order}{len(values)}{_BINARY[vr]}", *values)
    text = "\\".join(map(str, values)).encode(encoding.characters, "replace")
    return text + (b"\0" if vr == "UI" else b" ") * (len(text) % 2)


def _pixels(data: bytes, attributes: Mapping[str, Any], encoding: _Encoding, encapsulated: bool) -> bytes:
    if encapsulated:
        head = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF)
        return head + data + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    vr = "OB" if attributes.get("BitsAllocated", 16) <= 8 and not encoding.implicit else "OW"
    return _encode([(_PIXEL_DATA, (vr, data))], encoding)


def encoded(dataset: Dataset) -> bytes:
    """A pydicom data set with `file_meta` as the bytes of a file; its own `preamble`, if set, else zeros."""
    buffer = BytesIO()
    if not getattr(dataset, "preamble", None):
        dataset.preamble = b"\0" * 128
    dcmwrite(buffer, dataset, enforce_file_format=False)
    return buffer.getvalue()

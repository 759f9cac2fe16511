"""Data elements → bytes: Explicit VR Little Endian (PS3.5 A.2) behind a fresh file meta (PS3.10 7.1).

A writer of its own, because the release must be deterministic over versions of libraries, must
say where each value came to lie (the residual gate asks), and takes values as raw bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

# A fixed UUID below 2.25 and a name without version: the same bytes whatever release of this software.
IMPLEMENTATION_CLASS_UID = "2.25.310547029264415862330958277421067159846"
IMPLEMENTATION_VERSION_NAME = "FEDIMG"

PIXEL_DATA = 0x7FE00010
# VRs whose length takes 32 bits (PS3.5 7.1.2).
LONG_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
_ITEM = struct.Struct("<HHI")
_UNDEFINED = 0xFFFFFFFF


class Element(NamedTuple):
    """One element of a release.

    Attributes:
        value: raw little-endian bytes, or the items of a sequence.
        closed: the value is from a closed vocabulary or a constant of this software, so a word in
            it says nothing about a patient. encapsulated: undefined length (PS3.5 A.4).
    """

    tag: int
    vr: str
    value: bytes | list[list[Element]]
    closed: bool = False
    encapsulated: bool = False


@dataclass(slots=True)
class Encoded:
    """A file's bytes and where things lie in it.

    Attributes:
        closed: (start, end) of values from closed vocabularies. values: tag of each top-level
            element → (start, end) of its value.
    """

    data: bytearray = field(default_factory=bytearray)
    closed: list[tuple[int, int]] = field(default_factory=list)
    values: dict[int, tuple[int, int]] = field(default_factory=dict)


def text(tag: int, vr: str, value: str, *, closed: bool = False) -> Element:
    """An ASCII element, padded to even length as its VR wants it."""
    raw = value.encode("ascii")
    return Element(tag, vr, raw + (b"\0" if vr == "UI" else b" ") * (len(raw) % 2), closed)


def text_of(kept: Mapping[int, Element], tag: int) -> str:
    """The text of an element that stays, padding off; empty where it is absent or a sequence."""
    value = kept[tag].value if tag in kept else b""
    return value.decode("ascii", "replace").strip(" \0") if isinstance(value, bytes) else ""


def encode_file(
    elements: Sequence[Element], transfer_syntax: str, sop_class: str, sop_instance: str
) -> Encoded:
    """A whole Part 10 file: zero preamble, the seven meta elements that PS3.10 asks for, data set.

    `elements` are ordered by tag. Deterministic: the same arguments give the same bytes.
    """
    out = Encoded(bytearray(128) + b"DICM")
    meta = (
        Element(0x00020000, "UL", bytes(4)),
        Element(0x00020001, "OB", b"\0\1"),
        text(0x00020002, "UI", sop_class, closed=True),
        text(0x00020003, "UI", sop_instance),
        text(0x00020010, "UI", transfer_syntax, closed=True),
        text(0x00020012, "UI", IMPLEMENTATION_CLASS_UID, closed=True),
        text(0x00020013, "SH", IMPLEMENTATION_VERSION_NAME, closed=True),
    )
    _append(meta, out)
    start, end = out.values[0x00020000]
    struct.pack_into("<I", out.data, start, len(out.data) - end)
    _append(elements, out)
    return out


def _append(elements: Sequence[Element], out: Encoded) -> None:
    for element in elements:
        start = len(out.data)
        _write(element, out)
        header = 12 if element.vr in LONG_VRS else 8
        out.values[element.tag] = (start + header, len(out.data))


def _write(element: Element, out: Encoded) -> None:
    tag, vr, value = element.tag, element.vr, element.value
    data = out.data
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode()
    if isinstance(value, list):
        data += head + b"\0\0\0\0\0\0"
        start = len(data)
        for item in value:
            data += _ITEM.pack(0xFFFE, 0xE000, 0)
            item_start = len(data)
            for child in item:
                _write(child, out)
            struct.pack_into("<I", data, item_start - 4, len(data) - item_start)
        struct.pack_into("<I", data, start - 4, len(data) - start)
        return
    if element.encapsulated:
        data += head + b"\0\0" + struct.pack("<I", _UNDEFINED) + value + _ITEM.pack(0xFFFE, 0xE0DD, 0)
        return
    padded = value + b"\0" if len(value) % 2 else value
    length = len(padded)
    if vr in LONG_VRS:
        data += head + b"\0\0" + struct.pack("<I", length)
    else:
        data += head + struct.pack("<H", length)
    if element.closed:
        out.closed.append((len(data), len(data) + length))
    data += padded

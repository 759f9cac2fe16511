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
_ITEM, _SHORT, _LONG = (struct.Struct(form) for form in ("<HHI", "<HH2sH", "<HH2sHI"))
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
        head: what lies before the value of pixel data; all, where there is none. pixels: that value, with
            which a release ends, its delimiter included.
        closed: (start, end) of values from closed vocabularies. values: tag of each top-level
            element → (start, end) of its value.
    """

    head: bytearray = field(default_factory=bytearray)
    pixels: bytes = b""
    closed: list[tuple[int, int]] = field(default_factory=list)
    values: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def data(self) -> bytes:
        """The whole file, put together anew each time."""
        return b"".join((self.head, self.pixels))


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

    `elements` are ordered by tag, none behind pixel data. Deterministic: the same arguments give the same
    bytes.
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
    for element in meta:
        _append(element, out)
    start, end = out.values[0x00020000]
    struct.pack_into("<I", out.head, start, len(out.head) - end)
    for element in elements:
        if PIXEL_DATA in out.values:
            raise ValueError("elements behind pixel data")
        if element.tag == PIXEL_DATA and isinstance(element.value, bytes):
            _end_with_pixels(element, element.value, out)
        else:
            _append(element, out)
    return out


def _append(element: Element, out: Encoded) -> None:
    """One more element of the data set, and where its value lies."""
    start = _write(element, out)
    out.values[element.tag] = (start, len(out.head))


def _end_with_pixels(element: Element, value: bytes, out: Encoded) -> None:
    """The header of pixel data; their value, large as it is, is kept as it came."""
    if element.encapsulated:
        length, out.pixels = _UNDEFINED, value + _ITEM.pack(0xFFFE, 0xE0DD, 0)
    else:
        out.pixels = value + b"\0" if len(value) % 2 else value
        length = len(out.pixels)
    out.head += _header(element, length)
    out.values[PIXEL_DATA] = (len(out.head), len(out.head) + len(out.pixels))


def _header(element: Element, length: int) -> bytes:
    """Tag, VR and length (PS3.5 7.1.2)."""
    tag, vr = element.tag, element.vr
    if vr in LONG_VRS:
        return _LONG.pack(tag >> 16, tag & 0xFFFF, vr.encode(), 0, length)
    return _SHORT.pack(tag >> 16, tag & 0xFFFF, vr.encode(), length)


def _write(element: Element, out: Encoded) -> int:
    """An element with all it holds; the offset of its value."""
    value, data = element.value, out.head
    if isinstance(value, list):
        data += _header(element, 0)
        start = len(data)
        for item in value:
            data += _ITEM.pack(0xFFFE, 0xE000, 0)
            item_start = len(data)
            for child in item:
                _write(child, out)
            struct.pack_into("<I", data, item_start - 4, len(data) - item_start)
        struct.pack_into("<I", data, start - 4, len(data) - start)
        return start
    padded = value + b"\0" if len(value) % 2 else value
    data += _header(element, len(padded))
    start = len(data)
    data += padded
    if element.closed:
        out.closed.append((start, len(data)))
    return start

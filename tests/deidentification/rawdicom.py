"""DICOM files as bytes, right or deliberately wrong: PS3.5 section 7, PS3.10 section 7.1.

A writer without any check, beside pydicom's and the software's own, because an attacker's file is
not what a careful library writes: duplicate tags, wrong VRs, lengths that lie, items without end.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword

EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
NATIVE = (EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED)
UNDEFINED = 0xFFFFFFFF
_LONG = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
_PACKED = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "OW": "H"}


@dataclass(frozen=True)
class E:
    """One element. `value`: bytes as they are; text; a tuple of numbers; a list of items (lists of `E`).

    `undefined`: sequence and items without stated length. `length`: a lie about the length.
    """

    tag: int
    vr: str
    value: Any = b""
    undefined: bool = False
    length: int | None = None


def e(keyword: str, value: Any = "", vr: str | None = None, **options: Any) -> E:
    """An element by its keyword, with the dictionary's VR unless another is wanted."""
    tag = tag_for_keyword(keyword)
    known = dictionary_VR(tag).split(" or ")[0]
    return E(tag, vr or known, value, **options)


@dataclass(frozen=True)
class File:
    """A whole file. `elements` by tag come sorted; `extra` come after them, in their own order.

    Attributes:
        syntax: of the data set. stated: what the file meta says instead, if that is to differ.
        meta: more elements of group 0002. trailing: bytes behind the data set.
    """

    elements: Mapping[int, E]
    syntax: str = EXPLICIT
    stated: str | None = None
    meta: tuple[E, ...] = ()
    preamble: bytes = bytes(128)
    trailing: bytes = b""
    extra: tuple[E, ...] = ()
    with_meta: bool = True
    charset: str = "utf-8"
    media_instance: str | None = None
    inside: bytes = field(default=b"", repr=False)

    def having(self, *elements: E, **options: Any) -> File:
        """The same file with these elements added or replaced."""
        return replace(self, elements={**self.elements, **{x.tag: x for x in elements}}, **options)

    def without(self, *keywords: str) -> File:
        gone = {tag_for_keyword(keyword) for keyword in keywords}
        return replace(self, elements={t: x for t, x in self.elements.items() if t not in gone})

    def to_bytes(self) -> bytes:
        ordered = [self.elements[tag] for tag in sorted(self.elements)]
        body = encode((*ordered, *self.extra), self.syntax, self.charset) + self.inside
        if self.syntax == DEFLATED:
            packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
            body = packer.compress(body) + packer.flush()
        if not self.with_meta:
            return body + self.trailing
        return self.preamble + b"DICM" + self._meta() + body + self.trailing

    def _meta(self) -> bytes:
        own = {
            0x00020001: E(0x00020001, "OB", b"\0\1"),
            0x00020002: E(0x00020002, "UI", self.elements[0x00080016].value),
            0x00020003: E(0x00020003, "UI", self.media_instance or self.elements[0x00080018].value),
            0x00020010: E(0x00020010, "UI", self.stated or self.syntax),
            0x00020012: E(0x00020012, "UI", "1.2.3.4"),
        }
        own |= {x.tag: x for x in self.meta}
        group = encode([own[tag] for tag in sorted(own)], EXPLICIT, self.charset)
        return struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(group)) + group


def encode(elements: Iterable[E], syntax: str, charset: str = "utf-8") -> bytes:
    """Elements in the given order; compressed syntaxes are explicit little endian."""
    implicit, big = syntax == IMPLICIT, syntax == BIG_ENDIAN
    return b"".join(_element(x, implicit, ">" if big else "<", charset) for x in elements)


def _element(x: E, implicit: bool, order: str, charset: str) -> bytes:
    value = _value(x, implicit, order, charset)
    length = UNDEFINED if x.undefined else len(value) if x.length is None else x.length
    tag = struct.pack(order + "HH", x.tag >> 16, x.tag & 0xFFFF)
    if x.undefined:
        value += struct.pack(order + "HHI", 0xFFFE, 0xE0DD, 0)
    if implicit:
        return tag + struct.pack("<I", length) + value
    if x.vr in _LONG:
        return tag + x.vr.encode() + b"\0\0" + struct.pack(order + "I", length) + value
    return tag + x.vr.encode() + struct.pack(order + "H", length) + value


def _value(x: E, implicit: bool, order: str, charset: str) -> bytes:
    if isinstance(x.value, list):
        return b"".join(_item(item, x.undefined, implicit, order, charset) for item in x.value)
    if isinstance(x.value, tuple):
        if x.vr == "AT":
            return b"".join(struct.pack(order + "HH", v >> 16, v & 0xFFFF) for v in x.value)
        return struct.pack(f"{order}{len(x.value)}{_PACKED[x.vr]}", *x.value)
    if isinstance(x.value, bytes):
        return x.value + b"\0" * (len(x.value) % 2) if x.length is None else x.value
    raw = str(x.value).encode(charset)
    return raw + (b"\0" if x.vr == "UI" else b" ") * (len(raw) % 2)


def _item(item: Sequence[E] | bytes, undefined: bool, implicit: bool, order: str, charset: str) -> bytes:
    if isinstance(item, bytes):
        return item
    body = b"".join(_element(x, implicit, order, charset) for x in item)
    if undefined:
        end = struct.pack(order + "HHI", 0xFFFE, 0xE00D, 0)
        return struct.pack(order + "HHI", 0xFFFE, 0xE000, UNDEFINED) + body + end
    return struct.pack(order + "HHI", 0xFFFE, 0xE000, len(body)) + body


def fragments(frames: Sequence[bytes], table: bytes = b"") -> bytes:
    """Encapsulated frames with a basic offset table (PS3.5 A.4), one fragment each, without delimiter."""
    parts = [table, *(frame + b"\0" * (len(frame) % 2) for frame in frames)]
    return b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(part)) + part for part in parts)

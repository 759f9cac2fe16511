"""Whether the lengths of a data set add up, at every depth: one pass over its bytes, before anybody follows them.

pydicom reads a sequence when it is asked for, and then past lengths that lie; two readers of such a file may see two
different objects. Here every element ends within what holds it, every item within its sequence, nothing is nested
without end, and group lengths (PS3.5 7.2, retired but still written) say where their group ends.

Layout of elements: PS3.5 7.1; of sequences: 7.5; of UN with an undefined length: 6.2.2; of fragments: A.4.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from fedimg.dicom.attributes import dictionary_vr
from fedimg.dicom.encoder import LONG_VRS
from fedimg.dicom.plain import PIXEL_TAGS
from fedimg.dicom.refusal import Quarantined
from fedimg.values import Quarantine

DEEPEST: Final = 16
"""Sequences within each other; real objects have six or seven."""
_LONG: Final = frozenset(vr.encode() for vr in LONG_VRS)
_SHORT: Final = frozenset(
    b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split()  # PS3.5 table 7.1-2
)
_UNDEFINED: Final = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_CUT: Final = "a file that ends within an element"


@dataclass(slots=True)
class _Open:
    """What is being read into. `end`: offset behind it, -1 where a delimiter ends it. kind: "set", "items", "fragments"."""

    kind: str
    end: int
    implicit: bool
    little: bool


def after_meta(data: bytes) -> int:
    """Where the data set begins, behind preamble and group 0002. Raises Quarantined for a meta group length that lies."""
    at = start = 132 if data[128:132] == b"DICM" else 0
    said = -1
    while data[at : at + 2] == b"\x02\0" and at + 8 <= len(data):
        long = data[at + 4 : at + 6] in _LONG
        if at + 12 > len(data):
            raise Quarantined(Quarantine.UNREADABLE, _CUT)
        length = _number(data, at + 8, 4) if long else _number(data, at + 6, 2)
        begin = at + (12 if long else 8)
        if begin + length > len(data):
            raise Quarantined(Quarantine.UNREADABLE, _CUT)
        if at == start and data[at + 2 : at + 4] == b"\0\0" and length == 4:
            said = begin + 4 + _number(data, begin, 4)
        at = begin + length
    if said not in (-1, at):
        raise Quarantined(Quarantine.UNSAFE_STRUCTURE, "a group length of the file meta that is wrong")
    return at


def check_framing(data: bytes, start: int, *, implicit: bool, little: bool) -> None:
    """Follow every length of the data set that begins at `start`, up to its pixel data.

    Raises Quarantined: UNREADABLE where something is cut or is no element, UNSAFE_STRUCTURE where lengths contradict
    each other or sequences are nested deeper than `DEEPEST`.
    """
    _Walk(data, implicit=implicit, little=little).run(start)


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "little")


class _Walk:
    def __init__(self, data: bytes, *, implicit: bool, little: bool) -> None:
        self._data, self._size = data, len(data)
        self._within = [_Open("set", self._size, implicit, little)]
        self._pair = {True: struct.Struct("<HHI").unpack_from, False: struct.Struct(">HHI").unpack_from}
        self._group, self._group_end = -1, -1  # of the group length that was read last

    def run(self, at: int) -> None:
        while True:
            inner = self._within[-1]
            while inner.end == at and len(self._within) > 1:
                self._within.pop()
                inner = self._within[-1]
            if len(self._within) == 1 and self._size - at < 8:  # a last padding byte or two
                self._end_group(at)
                return
            if at + 8 > (inner.end if inner.end >= 0 else self._size):
                raise Quarantined(Quarantine.UNREADABLE, _CUT)
            group, element, length = self._pair[inner.little](self._data, at)
            tag = group << 16 | element
            if group == 0xFFFE or inner.kind != "set":
                at = self._delimiter(inner, tag, length, at + 8)
                continue
            behind = self._element(inner, tag, length, at)
            if behind < 0:
                return
            at = behind

    def _delimiter(self, inner: _Open, tag: int, length: int, at: int) -> int:
        """An item, a fragment, or the end of one; the offset behind it."""
        if tag == _ITEM and inner.kind == "items":
            self._open("set", at, length, inner.implicit, inner.little)
            return at
        if tag == _ITEM and inner.kind == "fragments" and length != _UNDEFINED:
            return self._within_bounds(at + length)
        closes = {"items": _SEQUENCE_END, "fragments": _SEQUENCE_END, "set": _ITEM_END}[inner.kind]
        if tag != closes or length or inner.end >= 0:
            raise Quarantined(Quarantine.UNSAFE_STRUCTURE, "items that do not fit their sequence")
        self._within.pop()
        return at

    def _element(self, inner: _Open, tag: int, length: int, at: int) -> int:
        """One element of a data set or item; the offset behind its header or value, -1 behind the pixels."""
        top = len(self._within) == 1
        if top and tag >> 16 != self._group:
            self._end_group(at)
        vr, start = b"", at + 8
        if not inner.implicit:
            vr = self._data[at + 4 : at + 6]
            if vr in _LONG:
                start = at + 12
                length = int.from_bytes(self._data[at + 8 : start], "little" if inner.little else "big")
            elif vr in _SHORT:
                length = int.from_bytes(self._data[at + 6 : start], "little" if inner.little else "big")
            else:
                raise Quarantined(Quarantine.UNREADABLE, "an element without a value representation")
        if top and tag in PIXEL_TAGS:
            if length != _UNDEFINED:
                self._end_group(self._within_bounds(start + length))
            return -1
        if length == _UNDEFINED:
            self._begin(inner, vr, -1)
            return start
        end = self._within_bounds(start + length)
        if vr == b"SQ" or (inner.implicit and dictionary_vr(tag) == "SQ"):
            self._begin(inner, vr, end)
            return start
        if top and not tag & 0xFFFF and length == 4:
            said = int.from_bytes(self._data[start:end], "little" if inner.little else "big")
            self._group, self._group_end = tag >> 16, end + said
        return end

    def _begin(self, inner: _Open, vr: bytes, end: int) -> None:
        """A sequence, or fragments; `end` -1 where its length is not defined."""
        if len(self._within) > 2 * DEEPEST:
            raise Quarantined(Quarantine.UNSAFE_STRUCTURE, "sequences nested too deep")
        if vr in (b"OB", b"OW"):
            self._within.append(_Open("fragments", end, inner.implicit, inner.little))
            return
        if vr not in (b"", b"SQ", b"UN"):
            raise Quarantined(
                Quarantine.UNSAFE_STRUCTURE, "an undefined length of a value that is no sequence"
            )
        unknown = vr == b"UN"  # its items are Implicit VR Little Endian
        self._within.append(_Open("items", end, inner.implicit or unknown, inner.little or unknown))

    def _open(self, kind: str, at: int, length: int, implicit: bool, little: bool) -> None:
        end = -1 if length == _UNDEFINED else self._within_bounds(at + length)
        self._within.append(_Open(kind, end, implicit, little))

    def _within_bounds(self, end: int) -> int:
        """Raises Quarantined where something ends behind what holds it."""
        if end > self._size:
            raise Quarantined(Quarantine.UNREADABLE, _CUT)
        for holder in reversed(self._within):
            if holder.end >= 0:
                if end > holder.end:
                    raise Quarantined(Quarantine.UNSAFE_STRUCTURE, "a length beyond the end of its sequence")
                break
        return end

    def _end_group(self, at: int) -> None:
        """Another group begins here, or the data set ends: where its group length said so."""
        if self._group >= 0 and self._group_end != at:
            raise Quarantined(Quarantine.UNSAFE_STRUCTURE, "a group length that is wrong")
        self._group = -1

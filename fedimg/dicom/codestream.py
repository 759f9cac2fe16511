"""Sizes written in a compressed frame, read before any decoder allocates for them.

JPEG: ISO/IEC 10918-1 B.2.2 (SOFn); JPEG-LS: ISO/IEC 14495-1 C.2.2 (SOF55); JPEG 2000 and HTJ2K:
ISO/IEC 15444-1 A.5.1 (SIZ). RLE (PS3.5 annex G) has no sizes of its own, and cannot expand
beyond 128 bytes for two.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

_STANDALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a length: TEM, RSTn
_NOT_SOF = {0xC4, 0xC8, 0xCC}  # DHT, JPG, DAC lie among the SOFn


class FrameSize(NamedTuple):
    """What a codestream says it decodes to."""

    rows: int
    columns: int
    components: int


def frame_size(codestream: bytes) -> FrameSize | None:
    """The size in the header of one frame, or None where it holds none that can be read.

    Guarantee: reads the header only; never raises.
    """
    start = codestream.find(b"\xff\x4f\xff\x51", 0, 4096)  # raw, or inside the boxes of a JP2 file
    if start >= 0 and not codestream.startswith(b"\xff\xd8"):
        return _jpeg_2000(codestream[start + 4 : start + 48])
    return _jpeg(codestream) if codestream.startswith(b"\xff\xd8") else None


def _jpeg_2000(siz: bytes) -> FrameSize | None:
    if len(siz) < 38:
        return None
    _, _, right, bottom, left, top = struct.unpack_from(">HHIIII", siz)
    return FrameSize(bottom - top, right - left, struct.unpack_from(">H", siz, 36)[0])


def _jpeg(data: bytes) -> FrameSize | None:
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker in _STANDALONE:
            position += 2
        elif marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in _NOT_SOF):
            if position + 10 > len(data):
                return None
            return FrameSize(*struct.unpack_from(">HHB", data, position + 5))
        else:
            length = struct.unpack_from(">H", data, position + 2)[0]
            if length < 2:
                return None
            position += 2 + length
    return None

"""Ordinary files read in one loop: Part 10, Explicit or Implicit VR Little Endian. pydicom reads the others.

What comes out is what `pydicom.filereader.read_partial` makes of the same bytes up to their pixel data,
element for element, in a third of the time. An element of undefined length is given to pydicom's own reader,
alone; a file with anything else out of the ordinary (another byte order, deflated, no file meta, an unknown
VR, a value that is cut off) is not read here at all.

Layout of an element: PS3.5 section 7.1; of file meta: PS3.10 section 7.1; transfer syntaxes: PS3.5 annex A.
"""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from struct import Struct
from typing import Any, Literal

import pydicom.uid as uids
from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element, empty_value_for_VR
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filereader import data_element_generator
from pydicom.tag import BaseTag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_16, EXPLICIT_VR_LENGTH_32, STANDARD_VR

_Elements = dict[BaseTag, RawDataElement | DataElement]

_raw = tuple.__new__  # what RawDataElement's own `__new__` does, behind a Python function
_EXPLICIT = Struct("<L2sH").unpack_from
_IMPLICIT = Struct("<LL").unpack_from
_LENGTH = Struct("<L").unpack_from
_SHORT_VRS, _LONG_VRS = (
    {vr.encode(): vr.value for vr in group} for group in (EXPLICIT_VR_LENGTH_16, EXPLICIT_VR_LENGTH_32)
)
_EMPTY: dict[str | None, Any] = {vr: empty_value_for_VR(vr, raw=True) for vr in (*STANDARD_VR, None)}
_UNDEFINED = 0xFFFFFFFF
_PREFIX_END = 132
_ITEM_STORED = 0xE000FFFE  # (FFFE,E000), group first
_META, _FOREIGN_GROUPS = 2, (0, 2, 0xFFFE)
_GROUP_LENGTH, _SYNTAX, _CHARACTER_SET = 0x00020000, 0x00020010, 0x00080005
PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
# Of the compressed ones only pixel data are written in another way (PS3.5 A.4).
_EXPLICIT_SYNTAXES = (
    uids.ExplicitVRLittleEndian,
    uids.JPEGBaseline8Bit,
    uids.JPEGExtended12Bit,
    uids.JPEGLossless,
    uids.JPEGLosslessSV1,
    uids.JPEGLSLossless,
    uids.JPEGLSNearLossless,
    uids.JPEG2000Lossless,
    uids.JPEG2000,
    uids.HTJ2KLossless,
    uids.HTJ2KLosslessRPCL,
    uids.HTJ2K,
    uids.RLELossless,
)
_IMPLICIT_OF = dict.fromkeys((uid.encode() for uid in _EXPLICIT_SYNTAXES), False)
_IMPLICIT_OF[uids.ImplicitVRLittleEndian.encode()] = True


class _NotPlain(Exception):
    """Something that is pydicom's to read."""


def read_plain(data: bytes) -> FileDataset | None:
    """The data set of a file up to its pixel data, elements still raw; None for a file that is not plain.

    Raises what pydicom raises for a character set that it cannot read.
    """
    if data[_PREFIX_END - 4 : _PREFIX_END] != b"DICM":
        return None
    try:
        meta, start = _elements(data, _PREFIX_END, len(data), implicit=False, part="meta")
        implicit = _IMPLICIT_OF.get(_syntax(meta))
        vr = data[start + 4 : start + 6]
        if implicit is None or (implicit and vr.isalpha() and vr.isupper()):  # explicit VR after all
            return None
        elements, end = _elements(data, start, len(data), implicit=implicit, part="data set")
    except _NotPlain:
        return None
    # Where the header of a next element ends early, pydicom fails.
    if not elements or 8 <= len(data) - end < 12:
        return None
    dataset = FileDataset(BytesIO(data), elements, data[:128], FileMetaDataset(meta), implicit)
    charset: Any = dataset.get(BaseTag(_CHARACTER_SET))  # typed as never None, though it may be
    encodings = default_encoding if charset is None else convert_encodings(charset.value)
    dataset.set_original_encoding(implicit, is_little_endian=True, character_encoding=encodings)
    return dataset


def read_items(value: bytes, *, implicit: bool) -> list[Dataset] | None:
    """The items of a little-endian sequence, elements still raw, as `pydicom.values.convert_SQ` gives them.

    None where pydicom has to look: undefined lengths, lengths that lie, an item's own character set.
    """
    items, at = [], 0
    try:
        while at < len(value):
            tag, length = _IMPLICIT(value, at) if at + 8 <= len(value) else (0, 0)
            end = at + 8 + length
            if tag != _ITEM_STORED or end > len(value):
                return None
            elements, at = _elements(value, at + 8, end, implicit=implicit, part="item")
            if at != end:
                return None
            item = Dataset(elements)
            item.set_original_encoding(implicit, is_little_endian=True, character_encoding=default_encoding)
            items.append(item)
    except _NotPlain:
        return None
    return items


def _elements(
    data: bytes, at: int, end: int, *, implicit: bool, part: Literal["meta", "data set", "item"]
) -> tuple[_Elements, int]:
    """The elements between two offsets, and the offset behind them.

    Of the file meta group 0002 is read and nothing else; a data set ends with its pixel data.
    """
    elements: _Elements = {}
    while at + 8 <= end:
        start, vr = at + 8, None
        if implicit:
            stored_tag, length = _IMPLICIT(data, at)
        else:
            stored_tag, stored_vr, length = _EXPLICIT(data, at)
            if part == "meta" and stored_tag & 0xFFFF != _META:
                break
            vr = _SHORT_VRS.get(stored_vr)
            if vr is None:
                vr = _LONG_VRS.get(stored_vr)
                if vr is None or at + 12 > end:
                    raise _NotPlain
                length, start = _LENGTH(data, start)[0], at + 12
        tag, special = _tag(stored_tag)
        if special and part != "meta" and not _belongs(tag, vr, elements, part):
            raise _NotPlain
        if length == _UNDEFINED:
            if part == "item":
                raise _NotPlain
            elements[tag], at = _by_pydicom(data, at, implicit, _encodings(elements))
        else:
            at = start + length
            if at > end:
                raise _NotPlain
            value = data[start:at] if length else _EMPTY[vr]
            elements[tag] = _raw(RawDataElement, (tag, vr, length, value, start, implicit, True, True, False))
        if special and part == "data set" and tag in PIXEL_TAGS:
            break
    return elements, at


@lru_cache(1 << 14)
def _tag(stored: int) -> tuple[BaseTag, bool]:
    """The tag of a little-endian number as it is stored (group first), and whether `_elements` has to look at it."""
    tag = BaseTag((stored & 0xFFFF) << 16 | stored >> 16)
    return tag, tag >> 16 in _FOREIGN_GROUPS or tag in PIXEL_TAGS or tag == _CHARACTER_SET


def _belongs(tag: BaseTag, vr: str | None, elements: _Elements, part: str) -> bool:
    """Whether a data set or item may hold an element here: no other part's group, one character set at most."""
    if tag == _CHARACTER_SET:
        return part == "data set" and tag not in elements and vr in ("CS", None)
    return tag >> 16 not in _FOREIGN_GROUPS


def _by_pydicom(
    data: bytes, at: int, implicit: bool, encodings: str | list[str]
) -> tuple[RawDataElement | DataElement, int]:
    """One element of undefined length (PS3.5 7.5, A.4), and the offset behind it."""
    stream = BytesIO(data)
    stream.seek(at)
    try:
        return next(data_element_generator(stream, implicit, True, encoding=encodings)), stream.tell()
    # Whatever it meets, it meets again where it reads the whole file.
    except Exception:  # noqa: BLE001
        raise _NotPlain from None


def _syntax(meta: _Elements) -> bytes:
    """The transfer syntax of a file meta that begins as it should (PS3.10 7.1)."""
    first: Any = next(iter(meta.values()), None)
    syntax: Any = meta.get(BaseTag(_SYNTAX))
    if first is None or syntax is None or syntax.VR != "UI":
        raise _NotPlain
    if (first.tag, first.VR, first.length) != (_GROUP_LENGTH, "UL", 4):
        raise _NotPlain
    return (syntax.value or b"").rstrip(b"\0")


def _encodings(elements: _Elements) -> str | list[str]:
    """The Python codecs of (0008,0005) among raw elements; the default's where it is absent."""
    charset = elements.get(BaseTag(_CHARACTER_SET))
    if not isinstance(charset, RawDataElement):
        return default_encoding
    return convert_encodings(convert_raw_data_element(charset).value)

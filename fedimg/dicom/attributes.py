"""Raw values of single attributes: their text, their form, their byte order. No decision is made here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomIO
from pydicom.filewriter import write_data_element
from pydicom.values import convert_SQ

from fedimg.dicom.plain import read_items
from fedimg.dicom.profile import read_table

_TEXT_DELIMITERS = {0x0D, 0x0A, 0x0C, 0x09, ord("\\"), ord("^"), ord("=")}
_WIDTH = {"US": 2, "SS": 2, "OW": 2, "AT": 2, "UL": 4, "SL": 4, "FL": 4, "OF": 4, "OL": 4}
_WIDTH |= {"FD": 8, "OD": 8, "SV": 8, "UV": 8, "OV": 8}
_UNIT = _WIDTH | {"AT": 4}
_DECIMAL = rb" *[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)? *"
_DS = re.compile(rb"(?:" + _DECIMAL + rb")?(?:\\(?:" + _DECIMAL + rb")?)*")
_INTEGER = rb" *[+-]?\d{1,12} *"
_IS = re.compile(rb"(?:" + _INTEGER + rb")?(?:\\(?:" + _INTEGER + rb")?)*")
_LONGEST_NUMBER = 24  # DS holds 16 by the standard; common software writes a few more
_LONGEST_SHORT_VALUE = 65534


def stored_vr(element: RawDataElement | DataElement) -> str | None:
    """The VR in the file; None where the transfer syntax has none (implicit)."""
    if isinstance(element, RawDataElement) and element.is_implicit_VR and element.VR == "UN":
        return None
    return element.VR


@cache
def dictionary_vr(tag: int) -> str | None:
    """The VR of PS3.6 for a public tag, None for an unknown one.

    Attributes younger than pydicom's dictionary, which arrive as UN, are looked up in Table E.1-1.
    """
    try:
        return dictionary_VR(tag)
    except KeyError:
        return _confidential_vrs().get(tag)


@cache
def _confidential_vrs() -> Mapping[int, str]:
    return {int(tag, 16): vr for tag, vr, *_ in read_table("ps315_e1_1")["rows"]}


def raw_value(element: RawDataElement | DataElement, encodings: Sequence[str]) -> bytes:
    """The value's bytes. An element set through pydicom's interface is encoded first."""
    if isinstance(element, RawDataElement):
        return element.value or b""
    buffer = DicomIO(BytesIO())
    buffer.is_little_endian, buffer.is_implicit_VR = True, True
    write_data_element(buffer, element, list(encodings))
    buffer.seek(8)
    return buffer.read()


def value_of(dataset: Dataset, tag: int) -> bytes:
    """The raw value of an element of a data set; empty where it is absent."""
    element: Any = dataset.get_item(tag)  # typed as never None, though it may be
    return raw_value(element, ()) if element is not None else b""


def private_creator(dataset: Dataset, reserved: int) -> str:
    """The creator of a private block in this data set, padding off; empty where nobody reserved it (PS3.5 7.8)."""
    element: Any = dataset.get_item(reserved)
    named = element is not None and stored_vr(element) in (None, "LO")
    return raw_value(element, ()).strip(b" \0").decode("ascii", "replace") if named else ""


def little_endian(element: RawDataElement | DataElement, raw: bytes, vr: str) -> bytes:
    """Raw bytes with binary numbers in little-endian order."""
    width = _WIDTH.get(vr)
    if (
        width is None
        or not isinstance(element, RawDataElement)
        or element.is_little_endian
        or len(raw) % width
    ):
        return raw
    return np.frombuffer(raw, dtype=f">u{width}").astype(f"<u{width}").tobytes()


def checked_number(raw: bytes, vr: str, maximum: int | None) -> bytes | None:
    """Raw bytes of a numeric VR, padding off; None where they are not such numbers or too many."""
    unit = _UNIT.get(vr)
    if unit is not None:
        count = len(raw) // unit
        fits = len(raw) % unit == 0 and (vr == "OW" or maximum is None or count <= maximum)
        return raw if fits and (vr == "OW" or len(raw) <= _LONGEST_SHORT_VALUE) else None
    value = raw.rstrip(b" \0")
    pattern = _DS if vr == "DS" else _IS if vr == "IS" else None
    if pattern is None or pattern.fullmatch(value) is None or len(value) > _LONGEST_SHORT_VALUE:
        return None
    parts = value.split(b"\\")
    if (maximum is not None and len(parts) > maximum) or max(map(len, parts)) > _LONGEST_NUMBER:
        return None
    value = b"\\".join(part.strip() for part in parts)
    return value + b" " * (len(value) % 2)


def text_value(raw: bytes, encodings: Sequence[str]) -> str:
    """A text value in its character set; what cannot be decoded becomes a replacement character."""
    if raw.isascii() and b"\x1b" not in raw:
        return raw.decode("ascii")
    return decode_bytes(raw, list(encodings), _TEXT_DELIMITERS)


def encodings_of(dataset: Dataset, inherited: Sequence[str]) -> Sequence[str]:
    """Python codecs of a data set's SpecificCharacterSet, else the enclosing data set's."""
    element = dataset.get_item(0x00080005)
    if element is None:
        return inherited
    raw = element.value
    text = raw.decode("ascii", "replace") if isinstance(raw, bytes) else raw
    names = text.split("\\") if isinstance(text, str) else list(text or ())
    try:
        return convert_encodings([name.strip(" \0") for name in names])
    except (LookupError, ValueError):
        return inherited


def items_of(element: RawDataElement | DataElement, *, implicit: bool = False) -> list[Dataset]:
    """The items of a sequence, still raw inside. Raises whatever pydicom meets in a malformed one.

    `implicit`: the bytes of a UN element, which are Implicit VR Little Endian (PS3.5 6.2.2).
    """
    if isinstance(element, DataElement):
        return list(element.value or ())
    raw = element.value or b""
    implicit, little = (True, True) if implicit else (element.is_implicit_VR, element.is_little_endian)
    items = read_items(raw, implicit=implicit) if little else None
    return list(convert_SQ(raw, implicit, little)) if items is None else items

"""A quick look at a file's header: its identifying elements as raw bytes, nothing decoded.

One linear pass over element headers (PS3.5 section 7), through sequences, up to the pixels. It is a
survey, not a parser: what it does not understand (deflated, big endian, damaged) gives nothing here
and is judged when the file itself is taken in.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from pydicom.charset import convert_encodings

from fedimg.dicom.attributes import dictionary_vr, text_value
from fedimg.dicom.encoder import LONG_VRS
from fedimg.dicom.refusal import contained

PATIENT_ID, ISSUER, CHARACTER_SET = 0x00100020, 0x00100021, 0x00080005
STUDY, SERIES, FRAME_OF_REFERENCE, INSTANCE = 0x0020000D, 0x0020000E, 0x00200052, 0x00080018
# Numbers by which a patient, a visit or an order is found, and where a patient lives.
_NUMBERS = frozenset(
    (
        PATIENT_ID,
        0x00101000,  # OtherPatientIDs
        0x00101040,  # PatientAddress
        0x00101090,  # MedicalRecordLocator
        0x00102154,  # PatientTelephoneNumbers
        0x00102155,  # PatientTelecomInformation
        0x00080050,  # AccessionNumber
        0x00200010,  # StudyID
        0x00380010,  # AdmissionID
        0x00380060,  # ServiceEpisodeID
        0x00400009,  # ScheduledProcedureStepID
        0x00400253,  # PerformedProcedureStepID
        0x00401001,  # RequestedProcedureID
        0x00402016,  # PlacerOrderNumberImagingServiceRequest
        0x00402017,  # FillerOrderNumberImagingServiceRequest
    )
)
_UIDS = frozenset((STUDY, SERIES, FRAME_OF_REFERENCE, INSTANCE))
_FURTHER = frozenset((ISSUER, CHARACTER_SET))
_WANTED = _NUMBERS | _UIDS | _FURTHER
_KINDS = frozenset((b"PN", b"DA", b"DT"))
_LONG = frozenset(vr.encode() for vr in LONG_VRS)
_TEXT_VRS = frozenset((b"LO", b"SH", b"ST", b"LT", b"UT", b"UI", b"CS", b"UC"))
_ITEM = 0xFFFEE000
_UNDEFINED = 0xFFFFFFFF
_HEAD = struct.Struct("<HHI").unpack_from
_WINDOW, _LONGEST_VALUE, _MOST_ELEMENTS = 1 << 16, 1 << 12, 20000
_IMPLICIT = b"1.2.840.10008.1.2"
_BIG, _DEFLATED = b"1.2.840.10008.1.2.2", b"1.2.840.10008.1.2.1.99"


class RawElement(NamedTuple):
    """An identifying element: tag, VR (two letters), value bytes as they stand in the file."""

    tag: int
    vr: bytes
    value: bytes


@dataclass(slots=True)
class Header:
    """What was found. `root` holds elements of the data set itself by tag, `found` those at any depth."""

    root: dict[int, bytes] = field(default_factory=dict)
    found: list[RawElement] = field(default_factory=list)


class _Window:
    """A file read in pieces: a header of 2 kB costs one read, a value that nobody asks for none."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor, self.size, self.start = descriptor, size, 0
        self.data = os.pread(descriptor, _WINDOW, 0)

    def at(self, offset: int, length: int) -> int:
        """Where `length` bytes at `offset` of the file begin in `data`; −1 beyond the end."""
        begin = offset - self.start
        if begin < 0 or begin + length > len(self.data):
            if offset + length > self.size:
                return -1
            self.start, begin = offset, 0
            self.data = os.pread(self._descriptor, max(_WINDOW, length), offset)
            if len(self.data) < length:
                return -1
        return begin


def read_header(descriptor: int, size: int) -> Header:
    """The identifying elements of an open file of `size` bytes. Raises OSError."""
    window, header = _Window(descriptor, size), Header()
    start = 132 if window.data[128:132] == b"DICM" else 0
    if start == 0 and window.data[:2] not in (b"\x08\0", b"\x02\0"):
        return header
    offset, syntax = _after_meta(window, start)
    if syntax in (_BIG, _DEFLATED):
        return header
    at = window.at(offset, 8)
    explicit = at >= 0 and window.data[at + 4 : at + 6].isalpha() and syntax != _IMPLICIT
    _scan(window, offset, explicit, header)
    return header


def _after_meta(window: _Window, offset: int) -> tuple[int, bytes]:
    """Behind group 0002 (always Explicit VR Little Endian, PS3.10 7.1), and the transfer syntax."""
    syntax = b""
    while (at := window.at(offset, 8)) >= 0 and window.data[at : at + 2] == b"\x02\0":
        data = window.data
        if data[at + 4 : at + 6] in _LONG:
            if (at := window.at(offset, 12)) < 0:
                break
            length, head = struct.unpack_from("<I", window.data, at + 8)[0], 12
        else:
            length, head = struct.unpack_from("<H", data, at + 6)[0], 8
        if data[at + 2 : at + 4] == b"\x10\0" and length <= 64 and window.at(offset, head + length) >= 0:
            begin = window.at(offset, head + length) + head
            syntax = window.data[begin : begin + length].strip(b" \0")
        offset += head + length
    return offset, syntax


def _scan(window: _Window, offset: int, explicit: bool, header: Header) -> None:
    """Through all elements, sequences included: the header of a sequence or item is stepped over, not its value."""
    ends: list[int] = []  # of open sequences and items; beyond the file where undefined
    for _ in range(_MOST_ELEMENTS):
        while ends and offset >= ends[-1]:
            ends.pop()
        at = offset - window.start
        if at + 12 > len(window.data) and (at := window.at(offset, min(12, window.size - offset))) < 0:
            return
        data = window.data
        if at + 8 > len(data):
            return
        group, element, length = _HEAD(data, at)
        tag, head = group << 16 | element, 8
        if group >= 0x7FE0:
            if group == 0xFFFE:
                offset += 8
                if tag == _ITEM:
                    ends.append(window.size + 1 if length == _UNDEFINED else offset + length)
                elif ends:
                    ends.pop()
                continue
            if group == 0x7FE0 and not ends:
                return
        if explicit:
            vr = data[at + 4 : at + 6]
            if vr in _LONG:
                if at + 12 > len(data):
                    return
                head, length = 12, int.from_bytes(data[at + 8 : at + 12], "little")
            else:
                length >>= 16
        else:
            vr = _dictionary_vr(tag)
        offset += head
        if vr == b"SQ" or length == _UNDEFINED:
            if vr != b"SQ" and explicit:  # encapsulated pixels of an icon, or implicit items inside UN
                return
            ends.append(window.size + 1 if length == _UNDEFINED else offset + length)
            continue
        if length and (vr in _KINDS or tag in _WANTED or vr == b"UN"):
            _take(window, tag, vr, offset, length, header, root=not ends)
        offset += length


@lru_cache(1 << 14)
def _dictionary_vr(tag: int) -> bytes:
    return (dictionary_vr(tag) or "UN")[:2].encode()


def _take(
    window: _Window, tag: int, vr: bytes, offset: int, length: int, header: Header, *, root: bool
) -> None:
    if vr == b"UN":
        vr = _dictionary_vr(tag)
    if (vr not in _KINDS and (tag not in _WANTED or vr not in _TEXT_VRS)) or length > _LONGEST_VALUE:
        return
    if (begin := window.at(offset, length)) < 0:
        return
    value = window.data[begin : begin + length].strip(b" \0")
    if not value:
        return
    if root:
        header.root[tag] = value
    if tag not in _FURTHER:
        header.found.append(RawElement(tag, vr, value))


def header_of(path: Path, *, follow_links: bool = True) -> tuple[Header, int, int]:
    """(header, size, time of change in ns) of a regular file; an empty header for anything else.

    Raises OSError, also for a symbolic link that is not to be followed.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | (0 if follow_links else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    try:
        status = os.fstat(descriptor)
        regular = status.st_mode & 0o170000 == 0o100000
        header = read_header(descriptor, status.st_size) if regular else Header()
        return header, status.st_size, status.st_mtime_ns
    finally:
        os.close(descriptor)


@lru_cache(1 << 10)
def codecs_of(character_set: bytes) -> tuple[str, ...]:
    """Python codecs of a raw SpecificCharacterSet; the default's for one that is not known."""
    names = character_set.decode("ascii", "replace").split("\\")
    try:
        with contained():
            return tuple(convert_encodings([name.strip(" \0") for name in names]))
    except (LookupError, ValueError):
        return ("iso8859",)


def decoded(value: bytes, character_set: bytes) -> str:
    """A raw text in its character set; what cannot be decoded becomes a replacement character."""
    with contained():
        return text_value(value, codecs_of(character_set))

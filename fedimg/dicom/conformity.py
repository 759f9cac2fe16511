"""What was written holds nothing that the profile does not allow: a reading of its own, value by value.

A release is Explicit VR Little Endian with defined lengths, or encapsulated pixels behind such a
data set, because `encoder` writes nothing else; so this reader takes nothing else. It shares no
code with the walk that made the values or with the encoder that wrote them: it knows the compiled
table, the bytes, and what a value of each row may look like.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator

from fedimg.dicom import cleaning
from fedimg.dicom.e1_1 import dummy
from fedimg.dicom.marks import CID_7050, METHOD, method
from fedimg.dicom.profile import Context, Profile, Row, registered_uids
from fedimg.dicom.pseudonyms import is_patient_key

_META = frozenset({0x00020000, 0x00020001, 0x00020002, 0x00020003, 0x00020010, 0x00020012, 0x00020013})
_PATIENT_NAME, _PATIENT_ID, _REMOVED = 0x00100010, 0x00100020, 0x00120062
_SOP_CLASS, _METHOD_CODES, _PIXEL_DATA = 0x00080016, 0x00120064, 0x7FE00010
_CODE = (0x00080100, 0x00080102, 0x00080104)
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_UNDEFINED = 0xFFFFFFFF
_HEAD, _SHORT, _WIDE, _ITEM = (struct.Struct(form) for form in ("<HH2s", "<H", "<I", "<HHI"))
_DEEPEST, _LONGEST_NUMBER = 16, 26
_UNIT = {"US": 2, "SS": 2, "UL": 4, "SL": 4, "FL": 4, "FD": 8, "AT": 4, "SV": 8, "UV": 8, "OW": 2}
_DECIMAL = rb"(?:[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)?"
_DECIMALS = re.compile(_DECIMAL + rb"(?: *\\ *" + _DECIMAL + rb")* *")
_KEYED = re.compile(r"2\.25\.\d{1,39}")
_AGE = re.compile(rb"0(?:[0-8]\d|90)Y|\d{3}[DWM]")
_BAND = re.compile(rb"0(?:[0-8][05]|90)Y ?")
_DATE = re.compile(rb"(?:\d{8})?")
_DATETIME = re.compile(rb"(?:\d{4}(?:\d\d){0,5}(?:\.\d{1,6})?(?:[+-]\d{4})?)?")
_DAY = re.compile(rb"(?:\d{4}|\d{6}|\d{8})?")


class _Fault(Exception):
    """Found; its text is the fault."""


_Value = tuple[int, bytes, int, int, bool]
"""(tag, VR, start, end, encapsulated)."""


def structure_fault(data: bytes, profile: Profile) -> str | None:
    """What in a written file contradicts the profile, in words without values; None if nothing does."""
    if data[:128] != bytes(128) or data[128:132] != b"DICM":
        return "a preamble that is not zero"
    try:
        _Conformity(data, profile).check()
    except _Fault as fault:
        return str(fault)
    except (struct.error, UnicodeDecodeError, IndexError):
        return "a file that is not explicit VR little endian with defined lengths"
    return None


class _Conformity:
    def __init__(self, data: bytes, profile: Profile) -> None:
        self._data, self._profile = data, profile
        self._method = method(profile).encode()
        self._checks: dict[str, Callable[[Row, bytes, str], bool]] = {
            "number": _is_number,
            "registered": _is_registered,
            "keyed": _is_keyed,
            "words": _is_of_vocabulary,
            "empty": lambda _row, raw, _vr: not raw,
            "dummy": lambda _row, raw, vr: raw == dummy(vr),
            "age_band": lambda _row, raw, _vr: _BAND.fullmatch(raw) is not None,
            "age_cap": lambda _row, raw, _vr: _AGE.fullmatch(raw.rstrip(b" ")) is not None,
            "date": lambda _row, raw, _vr: _all(_DATE, raw),
            "datetime": lambda _row, raw, _vr: _all(_DATETIME if profile.keep_times else _DAY, raw),
            "time": lambda _row, raw, _vr: cleaning.is_time(raw.decode("ascii").rstrip(" ")),
            "device": _is_device,
            "descriptor": lambda _row, raw, _vr: cleaning.is_descriptor(raw.decode("ascii"), profile.terms),
            "constant": self._is_constant,
        }

    def check(self) -> None:
        at = self._meta()
        values = list(self._elements(at, len(self._data)))
        found = {tag: self._data[start:end] for tag, _, start, end, _ in values if tag != _PIXEL_DATA}
        for tag, keyword in ((_PATIENT_ID, "PatientID"), (_PATIENT_NAME, "PatientName")):
            if not _is_subject(tag, found.get(tag, b"")):
                raise _Fault(f"{keyword} that is no pseudonym")
        if found.get(_REMOVED) != b"YES ":
            raise _Fault("a file without the marks of de-identification")
        sop_class = found.get(_SOP_CLASS, b"").decode("ascii", "replace").rstrip("\0")
        self._dataset(values, self._profile.root(sop_class), 0)

    def _meta(self) -> int:
        """The offset behind the file meta."""
        at, end = 132, len(self._data)
        for tag, _, start, stop, _ in self._elements(132, end, meta=True):
            if tag not in _META:
                raise _Fault("a file meta element too many")
            if tag == 0x00020000:
                end = stop + _WIDE.unpack_from(self._data, start)[0]
            at = stop
            if at >= end:
                break
        return at

    def _elements(self, at: int, end: int, *, meta: bool = False) -> Iterator[_Value]:
        """The elements between two offsets, in ascending order of tags."""
        data, last = self._data, -1
        while at < end:
            group, number, vr = _HEAD.unpack_from(data, at)
            tag = group << 16 | number
            if tag <= last:
                raise _Fault("elements that are not in order")
            last = tag
            if vr in _LONG:
                length, start = _WIDE.unpack_from(data, at + 8)[0], at + 12
            else:
                length, start = _SHORT.unpack_from(data, at + 6)[0], at + 8
            encapsulated = length == _UNDEFINED
            if encapsulated:
                if tag != _PIXEL_DATA or data[end - 8 : end] != _ITEM.pack(0xFFFE, 0xE0DD, 0):
                    raise _Fault("an element of undefined length")
                length = end - start
            at = start + length
            if at > end or (meta and group != 2):
                raise _Fault("a file that ends within an element")
            yield tag, vr, start, at, encapsulated

    def _dataset(self, values: list[_Value], context: Context, depth: int) -> None:
        row_of, checks, data = context.get, self._checks, self._data
        for tag, stored, start, end, _ in values:
            if tag == _PIXEL_DATA and depth == 0:
                continue
            if tag >> 16 & 1:
                self._private(values, tag, stored.decode("ascii"), data[start:end])
                continue
            row = row_of(tag)
            if row is None or row.kind == "drop":
                raise _Fault("an attribute that the profile does not name")
            vr = stored.decode("ascii")
            if vr not in row.choices:
                raise _Fault(f"{row.keyword} with another VR than the dictionary's")
            if vr == "SQ":
                self._sequence(row, context, start, end, depth)
                continue
            raw = data[start:end]
            if not (checks[row.kind](row, raw, vr) or _is_substitute(row, raw, vr)):
                raise _Fault(f"{row.keyword} with a value that the profile does not allow")

    def _sequence(self, row: Row, context: Context, start: int, end: int, depth: int) -> None:
        if depth > _DEEPEST:
            raise _Fault("sequences nested too deep")
        items = list(self._items(start, end))
        if row.tag == _METHOD_CODES and row.kind == "constant":
            for item in items:
                self._method_code(item)
            return
        if len(items) == 1 and "D" in (row.action, row.fallback) and self._is_dummy_item(items[0]):
            return
        if items and row.kind in ("empty", "dummy"):
            raise _Fault(f"{row.keyword} with items that the profile does not allow")
        if row.kind == "codes":
            for item in items:
                self._coded(item, depth)
            return
        inside = context.inside(row) if items else context
        for item in items:
            self._dataset(item, inside, depth + 1)

    def _items(self, at: int, end: int) -> Iterator[list[_Value]]:
        while at < end:
            group, number, length = _ITEM.unpack_from(self._data, at)
            if (group, number) != (0xFFFE, 0xE000) or at + 8 + length > end:
                raise _Fault("a sequence that is not made of items of defined length")
            yield list(self._elements(at + 8, at + 8 + length))
            at += 8 + length

    def _texts(self, item: list[_Value]) -> dict[int, str]:
        return {
            tag: self._data[start:end].decode("ascii").rstrip(" ")
            for tag, vr, start, end, _ in item
            if vr != b"SQ"
        }

    def _coded(self, item: list[_Value], depth: int) -> None:
        texts = self._texts([value for value in item if value[0] in _CODE])
        code, scheme, meaning = (texts.get(tag, "") for tag in _CODE)
        if self._profile.meaning(scheme, code) != meaning or not meaning:
            raise _Fault("a code that is not in the vocabulary")
        self._dataset([value for value in item if value[0] not in _CODE], self._profile.code, depth + 1)

    def _method_code(self, item: list[_Value]) -> None:
        texts = self._texts(item)
        known = CID_7050.get(texts.get(0x00080100, ""))
        if texts.keys() != {0x00080100, 0x00080102, 0x00080104} or len(item) != 3:
            raise _Fault("an attribute that the profile does not name")
        if texts[0x00080102] != "DCM" or texts[0x00080104] != known:
            raise _Fault("a code that is not in the vocabulary")

    def _is_dummy_item(self, item: list[_Value]) -> bool:
        if [value[0] for value in item] != list(_CODE):
            return False
        return list(self._texts(item).values()) == ["REMOVED", "99FEDIMG", "Removed"]

    def _private(self, values: list[_Value], tag: int, vr: str, raw: bytes) -> None:
        """Only safe elements behind their creator, and creators with an element behind them."""
        group, number = tag >> 16, tag & 0xFFFF
        block = number if number < 0x100 else number >> 8
        starts = {v[0]: v for v in values if v[0] >> 16 == group}
        creator = starts.get(group << 16 | block)
        named = self._data[creator[2] : creator[3]].decode("ascii").rstrip(" ") if creator else ""
        rows = self._profile.private.get((group, named))
        if rows is None:
            raise _Fault("an attribute that the profile does not name")
        if number < 0x100:
            used = vr == "LO" and any(
                other & 0xFFFF >= 0x1000 and other >> 8 & 0xFF == block for other in starts
            )
            if not used:
                raise _Fault("an attribute that the profile does not name")
            return
        row = rows.get(number & 0xFF)
        if row is None or vr != row.vr or not _is_number(row, raw, vr):
            raise _Fault("a private attribute that is not a safe one")

    def _is_constant(self, row: Row, raw: bytes, _: str) -> bool:
        if row.rule == "patient_key":
            return _is_subject(row.tag, raw)
        if row.tag == METHOD:
            return (
                raw.startswith(self._method)
                and re.fullmatch(rb"[0-9a-f]{32} ?", raw[len(self._method) :]) is not None
            )
        texts = {"yes": b"YES ", "temporal": self._profile.temporal.encode(), "burned_in": b"NO"}
        return raw.rstrip(b" ") == texts.get(row.rule or "", b"").rstrip(b" ")


def _is_substitute(row: Row, raw: bytes, vr: str) -> bool:
    """Whether it is what stands in the place of a refused value."""
    return not raw if row.fallback == "Z" else row.fallback == "D" and raw == dummy(vr)


def _is_number(row: Row, raw: bytes, vr: str) -> bool:
    unit = _UNIT.get(vr)
    if unit is not None:
        return len(raw) % unit == 0 and (row.maximum is None or vr == "OW" or len(raw) // unit <= row.maximum)
    if max(map(len, raw.split(b"\\"))) > _LONGEST_NUMBER:
        return False
    many = row.maximum is not None and raw.count(b"\\") >= row.maximum
    return not many and _DECIMALS.fullmatch(raw) is not None


def _is_of_vocabulary(row: Row, raw: bytes, _: str) -> bool:
    allowed = row.allowed or frozenset()
    value = raw.decode("ascii").rstrip(" ")
    return not value or value in allowed or all(not word or word in allowed for word in value.split("\\"))


def _is_registered(_: Row, raw: bytes, __: str) -> bool:
    known = registered_uids()
    return all(uid in known for uid in raw.decode("ascii").rstrip("\0").split("\\"))


def _is_keyed(_: Row, raw: bytes, __: str) -> bool:
    uids = raw.decode("ascii").rstrip("\0").split("\\")
    return all(_KEYED.fullmatch(uid) is not None or uid in registered_uids() for uid in uids)


def _is_subject(tag: int, raw: bytes) -> bool:
    """A pseudonym; as a name it is a family name without others (PS3.5 6.2.1)."""
    if tag == _PATIENT_NAME:
        return raw.endswith(b"^ ") and is_patient_key(raw[:-2].decode("ascii", "replace"))
    return is_patient_key(raw.decode("ascii", "replace"))


def _is_device(_: Row, raw: bytes, __: str) -> bool:
    return all(cleaning.is_device(part.strip()) for part in raw.decode("ascii").rstrip(" ").split("\\"))


def _all(pattern: re.Pattern[bytes], raw: bytes) -> bool:
    return all(pattern.fullmatch(part.rstrip(b" ")) is not None for part in raw.split(b"\\"))

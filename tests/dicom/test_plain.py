"""The reader of ordinary files agrees with pydicom's on whatever it does not hand over."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_partial
from pydicom.values import convert_SQ

from fedimg.dicom.plain import PIXEL_TAGS, read_items, read_plain
from fedimg.dicom.refusal import contained

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "dicom"
SHIPPED = Path(pydicom.__file__).parent / "data"
FILES = sorted(
    path
    for folder in (SHIPPED, SHARED)
    for path in folder.rglob("*")
    if path.is_file() and path.stat().st_size < 1 << 22 and path.suffix not in (".py", ".pyc", ".json", ".md")
)
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
LONG = ("OB", "OW", "OF", "SQ", "UN", "UT", "UC", "UR", "OD", "OL", "OV", "SV", "UV")
SHORT = (
    "AE",
    "AS",
    "AT",
    "CS",
    "DA",
    "DS",
    "DT",
    "FD",
    "IS",
    "LO",
    "LT",
    "PN",
    "SH",
    "SL",
    "ST",
    "TM",
    "UI",
    "US",
)


def by_pydicom(data: bytes) -> Dataset | None:
    """What pydicom reads up to the pixel data; None where it fails or warns of an early end."""
    seen = False

    def stop(tag: int, _vr: str | None, _length: int) -> bool:
        nonlocal seen
        behind, seen = seen, seen or tag in PIXEL_TAGS
        return behind

    with contained() as caught:
        try:
            dataset = read_partial(BytesIO(data), stop_when=stop, force=True)
        except Exception:  # noqa: BLE001 - whatever it meets
            return None
    return None if any("end of file" in str(w.message).lower() for w in caught) else dataset


def told(dataset: Dataset) -> object:
    """Everything that one data set holds, items included, without decoding what is still raw."""
    return [
        tuple(element)
        if isinstance(element, RawDataElement)
        else (
            element.tag,
            element.VR,
            element.is_undefined_length,
            [told(item) for item in element.value] if element.VR == "SQ" else element.value,
        )
        for element in dataset.values()
    ]


def assert_agreement(data: bytes) -> bool:
    """Returns whether the file was plain."""
    with contained():
        try:
            found = read_plain(data)
        except Exception:  # noqa: BLE001 - a caller refuses it, as it refuses what pydicom raises
            assert by_pydicom(data) is None
            return False
    if found is None:
        return False
    expected = by_pydicom(data)
    assert expected is not None
    assert told(found) == told(expected)
    with contained():
        assert {e.tag: e.value for e in found.file_meta} == {e.tag: e.value for e in expected.file_meta}
    assert found.preamble == expected.preamble
    assert found.original_encoding == expected.original_encoding
    assert found.original_character_set == expected.original_character_set
    return True


def test_real_files_are_read_as_pydicom_reads_them():
    plain = sum(assert_agreement(path.read_bytes()) for path in FILES)
    assert plain > len(FILES) // 2  # deflated, big-endian, headless and damaged ones are the exception


def meta(syntax: str) -> bytes:
    uid = syntax.encode() + b"\0" * (len(syntax) % 2)
    body = struct.pack("<HH2sH", 2, 0x10, b"UI", len(uid)) + uid
    return bytes(128) + b"DICM" + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(body)) + body


@st.composite
def elements(draw, implicit: bool) -> bytes:
    """One element, or bytes that look like one; with lengths that may lie."""
    group = draw(st.sampled_from([0x0008, 0x0009, 0x0010, 0x0018, 0x0028, 0x7FE0, 0x0000, 0x0002, 0xFFFE]))
    number = draw(st.sampled_from([0x0005, 0x0010, 0x0018, 0x0100, 0x1140, 0xE000, 0xE00D, 0xE0DD]))
    value = draw(
        st.one_of(
            st.binary(max_size=12),
            st.sampled_from(
                [b"ISO_IR 100", b"nonsense", struct.pack("<HHI", 0xFFFE, 0xE000, 0), b"\\ISO 2022 IR 87"]
            ),
        )
    )
    length = draw(st.one_of(st.just(len(value)), st.just(len(value)), st.sampled_from([0, 3, 0xFFFFFFFF])))
    if length == 0xFFFFFFFF:
        value += struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    if implicit:
        return struct.pack("<HHI", group, number, length) + value
    vr = draw(st.sampled_from([*LONG, *SHORT, "ZZ", "\0\0"])).encode()
    if vr.decode() in LONG:
        return struct.pack("<HH2s2sI", group, number, vr, b"\0\0", length) + value
    return struct.pack("<HH2sH", group, number, vr, length & 0xFFFF) + value


@st.composite
def written(draw) -> bytes:
    syntax = draw(st.sampled_from([EXPLICIT, EXPLICIT, IMPLICIT, "1.2.840.10008.1.2.4.80"]))
    implicit = (syntax == IMPLICIT) is (draw(st.integers(0, 9)) > 0)  # a file meta that lies, now and then
    body = draw(st.lists(elements(implicit), max_size=6))
    return meta(syntax) + b"".join(body) + draw(st.binary(max_size=13))


@settings(max_examples=500)
@given(written())
def test_random_data_sets_are_read_as_pydicom_reads_them(data):
    assert_agreement(data)


@pytest.mark.parametrize("implicit", [False, True])
@settings(max_examples=100)
@given(st.data())
def test_what_is_well_formed_is_not_handed_over(implicit, data):
    tags = sorted(data.draw(st.sets(st.integers(0x00080010, 0x0028FFFF), min_size=1, max_size=20)))
    body = b""
    for tag in tags:
        value = data.draw(st.binary(max_size=40))
        head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
        if implicit:
            body += head + struct.pack("<I", len(value)) + value
            continue
        vr = data.draw(st.sampled_from(LONG + SHORT))
        long = vr in LONG
        body += (
            head + vr.encode() + (b"\0\0" if long else b"") + struct.pack("<I" if long else "<H", len(value))
        )
        body += value
    assert assert_agreement(meta(IMPLICIT if implicit else EXPLICIT) + body)


@st.composite
def items(draw, implicit: bool) -> bytes:
    body = b"".join(draw(st.lists(elements(implicit), max_size=3)))
    length = draw(st.sampled_from([len(body)] * 6 + [0, 7, 0xFFFFFFFF]))
    end = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) if length == 0xFFFFFFFF else b""
    return struct.pack("<HHI", 0xFFFE, draw(st.sampled_from([0xE000] * 9 + [0xE0DD])), length) + body + end


@pytest.mark.parametrize("implicit", [False, True])
@settings(max_examples=500)
@given(st.data())
def test_items_are_read_as_pydicom_reads_them(implicit, data):
    """Whatever comes first in an item: in explicit VR pydicom takes it for implicit where it has to."""
    value = b"".join(data.draw(st.lists(items(implicit), max_size=3))) + data.draw(st.binary(max_size=3))
    found = read_items(value, implicit=implicit)
    if found is not None:
        with contained():
            expected = convert_SQ(value, implicit, True)
        assert list(map(told, found)) == list(map(told, expected))
        # Of an empty item pydicom tells what lies behind it.
        both = zip(found, expected, strict=True)
        assert all(ours.original_encoding == theirs.original_encoding for ours, theirs in both if len(ours))


def test_nested_items_of_stated_length_are_not_handed_over():
    inner = struct.pack("<HH2sH", 0x0008, 0x0104, b"LO", 4) + b"Head"
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner
    nested = struct.pack("<HH2s2sI", 0x0008, 0x2218, b"SQ", b"\0\0", len(item)) + item
    found = read_items(struct.pack("<HHI", 0xFFFE, 0xE000, len(nested)) + nested + item, implicit=False)
    assert found is not None and [len(one) for one in found] == [1, 1]
    assert read_items(found[0].get_item(0x00082218).value, implicit=False)[0][0x00080104].value == "Head"
    assert read_items(b"", implicit=True) == []

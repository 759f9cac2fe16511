"""The encoder against pydicom's reader: every value comes back, and offsets say where it lies."""

from __future__ import annotations

import io

import pydicom
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID

from fedimg.dicom.encoder import IMPLEMENTATION_CLASS_UID, Element, encode_file, text

CLASS, INSTANCE, SYNTAX = "1.2.840.10008.5.1.4.1.1.2", "2.25.1", "1.2.840.10008.1.2.1"
words = st.text(alphabet="ABC 123", min_size=1, max_size=11).map(str.strip).filter(bool)


def items(depth: int) -> st.SearchStrategy:
    leaf = st.tuples(words, st.binary(max_size=9)).map(
        lambda pair: [text(0x00080104, "LO", pair[0], closed=True), Element(0x00281201, "OW", pair[1])]
    )
    if not depth:
        return st.lists(leaf, max_size=3)
    inner = items(depth - 1).map(lambda below: Element(0x00082218, "SQ", below))
    return st.lists(st.tuples(leaf, inner).map(lambda pair: [pair[0][0], pair[1], pair[0][1]]), max_size=3)


def same(dataset: pydicom.Dataset, elements: list[Element]) -> None:
    assert [int(tag) for tag in dataset.keys()] == [element.tag for element in elements]  # noqa: SIM118
    for element in elements:
        found = dataset[element.tag]
        assert element.vr == found.VR
        if isinstance(element.value, list):
            for item, below in zip(found.value, element.value, strict=True):
                same(item, below)
        elif element.vr in ("LO", "CS"):
            assert found.value == element.value.decode().strip()
        else:
            assert (found.value or b"") == element.value + b"\0" * (len(element.value) % 2)


@given(items(2))
def test_pydicom_reads_back_what_was_encoded(sequence):
    elements = [text(0x00080060, "CS", "CT", closed=True), Element(0x00082228, "SQ", sequence)]
    encoded = encode_file(elements, SYNTAX, CLASS, INSTANCE)
    dataset = pydicom.dcmread(io.BytesIO(bytes(encoded.data)))
    same(dataset, elements)
    assert bytes(encoded.data) == bytes(encode_file(elements, SYNTAX, CLASS, INSTANCE).data)
    for element in elements:
        start, end = encoded.values[element.tag]
        if isinstance(element.value, bytes):
            assert bytes(encoded.data[start:end]) == element.value


@given(items(1))
def test_closed_spans_are_the_closed_values(sequence):
    encoded = encode_file([Element(0x00082228, "SQ", sequence)], SYNTAX, CLASS, INSTANCE)
    expected = sorted(value for item in sequence for value in closed_values(item))
    meta = [encoded.values[tag] for tag in (0x00020002, 0x00020010, 0x00020012, 0x00020013)]
    found = [span for span in encoded.closed if span not in meta]
    assert sorted(bytes(encoded.data[start:end]) for start, end in found) == expected


def closed_values(item: list[Element]) -> list[bytes]:
    found = []
    for element in item:
        if isinstance(element.value, list):
            found += [value for below in element.value for value in closed_values(below)]
        elif element.closed:
            found.append(element.value)
    return found


def test_encapsulated_pixels_end_with_their_delimiter():
    fragments = pydicom.encaps.encapsulate([b"abcd"])
    encoded = encode_file(
        [Element(0x7FE00010, "OB", fragments, encapsulated=True)], "1.2.840.10008.1.2.4.80", CLASS, INSTANCE
    )
    dataset = pydicom.dcmread(io.BytesIO(bytes(encoded.data)))
    assert next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1)) == b"abcd"


def test_the_meta_is_fresh_and_its_length_right():
    encoded = encode_file([], SYNTAX, CLASS, INSTANCE)
    meta = pydicom.dcmread(io.BytesIO(bytes(encoded.data))).file_meta
    assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) == (CLASS, INSTANCE)
    assert meta.FileMetaInformationGroupLength == len(encoded.data) - 132 - 12
    assert UID(IMPLEMENTATION_CLASS_UID).is_valid and int(IMPLEMENTATION_CLASS_UID[5:]) < 1 << 128

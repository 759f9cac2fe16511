"""Raw values: numbers that are numbers stay, anything else in a numeric VR goes."""

from __future__ import annotations

import re
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from fedimg.dicom.attributes import checked_number, encodings_of, little_endian, text_value

decimals = st.floats(-1e6, 1e6).map(lambda value: f"{value:.6g}")


@given(st.lists(decimals, min_size=1, max_size=6), st.booleans())
def test_decimal_strings_stay_exact(values, padded):
    raw = "\\".join(f" {value} " if padded else value for value in values).encode()
    found = checked_number(raw + b"\0" * (len(raw) % 2), "DS", None)
    assert found is not None and len(found) % 2 == 0
    assert found.decode().rstrip().split("\\") == values


@given(st.text(alphabet="0123456789+-.eE \\ABCJOHN^", max_size=14), st.sampled_from(["DS", "IS"]))
def test_only_what_python_reads_as_numbers_is_kept(value, vr):
    found = checked_number(value.encode(), vr, None)
    kind = float if vr == "DS" else int

    def number(part: str) -> bool:
        if not part.strip(" "):
            return True
        try:
            kind(part)
        except ValueError:
            return False
        return re.search(r"[a-df-zA-DF-Z_]", part) is None

    parts = value.rstrip(" ").split("\\")
    assert (found is not None) == all(number(part) and "  " not in part.strip() for part in parts)


@pytest.mark.parametrize(
    ("raw", "vr", "maximum"),
    [
        (b"1\\2\\3", "DS", 2),
        (b"1234567890123456789012345", "DS", 1),
        (b"1234567890123", "IS", 1),
        (b"JANE", "IS", 1),
        (b"nan", "DS", 1),
        (b"\1\0\2\0", "US", 1),
        (b"\1\0\2", "US", None),
        (b"JANE^DOE", "FL", 1),
        (b"x" * 65536, "UL", None),
        (b"abc", "OW", None),
    ],
)
def test_too_many_too_long_or_no_numbers_are_refused(raw, vr, maximum):
    assert checked_number(raw, vr, maximum) is None


@given(st.lists(st.integers(0, 65535), min_size=1, max_size=8))
def test_big_endian_numbers_are_turned(values):
    raw = struct.pack(f">{len(values)}H", *values)
    element = RawDataElement(Tag(0x00280010), "US", len(raw), raw, 0, False, False)
    assert np.frombuffer(little_endian(element, raw, "US"), "<u2").tolist() == values
    text = RawDataElement(Tag(0x00100020), "LO", len(raw), raw, 0, False, False)
    assert little_endian(text, raw, "LO") == raw


def test_text_is_read_in_its_character_set():
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    assert text_value("Müller".encode(), encodings_of(dataset, ("iso8859",))) == "Müller"
    dataset.SpecificCharacterSet = "ISO_IR 100"
    assert text_value("Müller".encode("latin-1"), encodings_of(dataset, ("iso8859",))) == "Müller"
    assert list(encodings_of(Dataset(), ("shift_jis",))) == ["shift_jis"]

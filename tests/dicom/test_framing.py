"""Lengths that lie are found at every depth; whatever pydicom writes adds up."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from fedimg.dicom.framing import DEEPEST, after_meta, check_framing
from fedimg.dicom.refusal import Quarantined, contained
from fedimg.values import Quarantine

ITEM, ITEM_END, SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
UNDEFINED = 0xFFFFFFFF


def short(tag, vr, value):
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def sequence(content, length=None):
    return struct.pack("<HH2sHI", 0x40, 0x275, b"SQ", 0, len(content) if length is None else length) + content


def item(content, length=None):
    return struct.pack("<HHI", *ITEM, len(content) if length is None else length) + content


def end(tag):
    return struct.pack("<HHI", *tag, 0)


LEAF = short(0x00401001, b"SH", b"7 ")


def reason_of(data):
    with pytest.raises(Quarantined) as caught:
        check_framing(data, 0, implicit=False, little=True)
    return caught.value.reason


def nested(depth, *, defined):
    data = LEAF
    for _ in range(depth):
        data = (
            sequence(item(data))
            if defined
            else (sequence(item(data + end(ITEM_END), UNDEFINED) + end(SEQUENCE_END), UNDEFINED))
        )
    return data


@pytest.mark.parametrize("defined", [True, False])
def test_sequences_within_each_other_are_followed_to_a_depth(defined):
    check_framing(nested(DEEPEST, defined=defined), 0, implicit=False, little=True)
    assert reason_of(nested(DEEPEST + 1, defined=defined)) is Quarantine.UNSAFE_STRUCTURE
    assert reason_of(nested(3000, defined=defined)[:60_000]) in (
        Quarantine.UNSAFE_STRUCTURE,
        Quarantine.UNREADABLE,
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (sequence(item(LEAF, len(LEAF) + 2)), Quarantine.UNREADABLE),  # behind the end of the file
        (sequence(item(LEAF, len(LEAF) + 2)) + LEAF, Quarantine.UNSAFE_STRUCTURE),  # into what follows
        (sequence(item(LEAF, len(LEAF) - 2)), Quarantine.UNSAFE_STRUCTURE),
        (sequence(item(LEAF), len(item(LEAF)) + 4) + LEAF, Quarantine.UNREADABLE),
        (sequence(LEAF), Quarantine.UNSAFE_STRUCTURE),  # no item
        (sequence(item(LEAF, UNDEFINED)), Quarantine.UNREADABLE),  # never delimited
        (sequence(item(LEAF), UNDEFINED), Quarantine.UNREADABLE),
        (sequence(item(LEAF) + end(ITEM_END), UNDEFINED), Quarantine.UNSAFE_STRUCTURE),
        (end(SEQUENCE_END) + LEAF, Quarantine.UNSAFE_STRUCTURE),
        (LEAF[:-1], Quarantine.UNREADABLE),
        (struct.pack("<HH2sH", 0x10, 0x10, b"PN", 65000), Quarantine.UNREADABLE),
        (short(0x00100010, b"??", b"A "), Quarantine.UNREADABLE),
        (struct.pack("<HH2sHI", 0x10, 0x10, b"UT", 0, UNDEFINED) + LEAF, Quarantine.UNSAFE_STRUCTURE),
    ],
)
def test_lengths_that_lie_are_refused(data, reason):
    assert reason_of(data) is reason


def test_a_group_length_says_where_its_group_ends():
    group = short(0x00100010, b"PN", b"A ") + short(0x00100020, b"LO", b"1 ")
    other = short(0x00200011, b"IS", b"1 ")

    def measured(length):
        return short(0x00100000, b"UL", struct.pack("<I", length)) + group + other

    check_framing(measured(len(group)), 0, implicit=False, little=True)
    for wrong in (0, len(group) - 1, len(group) + 1, len(group) + len(other), 0xFFFFFFF0):
        assert reason_of(measured(wrong)) is Quarantine.UNSAFE_STRUCTURE
    last = short(0x00100000, b"UL", struct.pack("<I", 3)) + group
    assert reason_of(last) is Quarantine.UNSAFE_STRUCTURE


def test_the_file_meta_ends_where_its_group_length_says():
    data = Path(str(get_testdata_file("CT_small.dcm"))).read_bytes()
    length = struct.unpack_from("<I", data, 140)[0]
    assert after_meta(data) == 144 + length
    wrong = data[:140] + struct.pack("<I", length + 2) + data[144:]
    with pytest.raises(Quarantined, match="a group length of the file meta that is wrong"):
        after_meta(wrong)


VALUES = st.one_of(
    st.tuples(st.just("PatientComments"), st.text("AB ", max_size=9)),
    st.tuples(st.just("Rows"), st.integers(0, 65535)),
    st.tuples(st.just("RedPaletteColorLookupTableData"), st.binary(max_size=6).map(lambda b: b + b)),
)
SETS = st.recursive(
    st.lists(VALUES, max_size=3),
    lambda inner: st.lists(
        st.one_of(VALUES, st.tuples(st.just("ContentSequence"), st.lists(inner, max_size=2)))
    ),
    max_leaves=8,
)


def built(values, undefined):
    dataset = Dataset()
    for keyword, value in values:
        if keyword == "ContentSequence":
            dataset.ContentSequence = Sequence([built(one, undefined) for one in value])
            dataset["ContentSequence"].is_undefined_length = undefined
            for one in dataset.ContentSequence:
                one.is_undefined_length_sequence_item = undefined
        else:
            setattr(dataset, keyword, value)
    return dataset


@given(SETS, st.booleans(), st.booleans(), st.booleans())
def test_what_pydicom_writes_adds_up(values, implicit, little, undefined):
    if implicit and not little:
        return
    stream = DicomBytesIO()
    stream.is_implicit_VR, stream.is_little_endian = implicit, little
    write_dataset(stream, built(values, undefined))
    data = stream.getvalue()
    check_framing(data, 0, implicit=implicit, little=little)


@given(st.binary(max_size=300), st.booleans(), st.booleans())
def test_any_bytes_are_followed_or_refused(noise, implicit, little):
    with suppress(Quarantined):
        check_framing(noise, after_meta(noise), implicit=implicit, little=little)


@given(st.data())
def test_a_length_changed_anywhere_is_followed_or_refused(data):
    whole = nested(3, defined=data.draw(st.booleans())) + LEAF
    damaged = bytearray(whole)
    damaged[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with suppress(Quarantined):
        check_framing(bytes(damaged), 0, implicit=False, little=True)


def test_files_of_pydicoms_collection_add_up_but_for_four():
    folder = Path(str(get_testdata_file("CT_small.dcm"))).parent
    wrong = []
    for path in sorted(folder.glob("*.dcm")):
        try:
            with contained():
                dataset = dcmread(path)
            implicit, little = dataset.original_encoding
        except Exception:  # noqa: BLE001 - broken on purpose
            continue
        data = path.read_bytes()
        if dataset.file_meta.get("TransferSyntaxUID") == "1.2.840.10008.1.2.1.99":
            continue
        try:
            check_framing(data, after_meta(data), implicit=implicit, little=little)
        except Quarantined as refusal:
            wrong.append((path.name, refusal.detail))
    cut = "a file that ends within an element"
    assert (
        dict(wrong)
        == {
            "693_J2KI.dcm": "a group length that is wrong",  # one that another program compressed, and left it as it was
            "MR_truncated.dcm": cut,
            "SC_rgb_jpeg.dcm": "an element without a value representation",  # implicit, and says that it is explicit
            "rtplan_truncated.dcm": cut,
        }
    )

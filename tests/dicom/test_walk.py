"""The walk on data sets of any content: what it lets through is conformant, readable and free of what was planted."""

from __future__ import annotations

import io
import struct

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom._dicom_dict import DicomDictionary
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from fedimg.crypto.keys import SiteKey
from fedimg.dicom import marks
from fedimg.dicom.conformity import structure_fault
from fedimg.dicom.encoder import PIXEL_DATA, Element, encode_file
from fedimg.dicom.profile import PROFILES, load_profile
from fedimg.dicom.pseudonyms import Pseudonyms
from fedimg.dicom.refusal import Quarantined, contained
from fedimg.dicom.steps import Steps
from fedimg.dicom.walk import Walk

PSEUDONYMS = Pseudonyms(SiteKey.from_bytes(b"k" * 32), "p")
SUBJECT = PSEUDONYMS.subject("", "4711")
CT, ENHANCED, DX = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.1.1"
VRS = sorted({vr for entry in DicomDictionary.values() for vr in entry[0].split(" or ")} - {"NONE", ""})
PUBLIC = sorted(tag for tag, entry in DicomDictionary.items() if tag >> 16 >= 8 and tag < PIXEL_DATA)
SECRET = b"QQSECRETQQX"  # odd, so that it is no array of numbers

tags = st.one_of(st.sampled_from(PUBLIC), st.integers(0x00080001, 0x7FDFFFFF))
values = st.one_of(
    st.binary(max_size=12),
    st.sampled_from(
        [b"", b" ", b"1", b"-1.5e3 ", b"1\\2", b"\\", b"20120309", b"2012", b"101112", b"045Y", b"YES "]
    ),
    st.sampled_from(
        [b"1.2.3", b"1.2.840.10008.1.2", b"CT CHEST", b"SIEMENS ", b"A1", b"M\xfcller", b"M\\F", b"HFS "]
    ),
    st.just(SECRET),
)


def raw(tag: int, vr: str, value: bytes, *, little: bool = True) -> RawDataElement:
    return RawDataElement(Tag(tag), vr, len(value), value, 0, False, little)


@st.composite
def elements(draw, depth: int = 0):
    found = {}
    for _ in range(draw(st.integers(0, 6))):
        tag = draw(tags)
        listed = DicomDictionary.get(tag, ("LO",))[0].split(" or ")[0]
        vr = draw(st.sampled_from(VRS)) if draw(st.integers(0, 3)) == 0 or listed not in VRS else listed
        if vr == "SQ" and depth < 3:
            items = draw(st.lists(elements(depth + 1), max_size=2))
            found[tag] = raw(tag, draw(st.sampled_from(["SQ", "SQ", "UN"])), b"".join(map(item, items)))
        elif vr != "SQ":
            found[tag] = raw(tag, vr, draw(values))
    return found


def item(children: dict[int, RawDataElement]) -> bytes:
    body = b""
    for tag, child in sorted(children.items()):
        head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + child.VR.encode()
        long = child.VR in ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
        body += (
            head
            + (struct.pack("<HI", 0, child.length) if long else struct.pack("<H", child.length))
            + child.value
        )
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(body)) + body


def released(dataset: Dataset, profile, sop_class: str) -> bytes:
    dataset.update({0x00080016: raw(0x00080016, "UI", sop_class.encode())})
    with contained():
        kept = {e.tag: e for e in Walk(profile, PSEUDONYMS).run(dataset, SUBJECT)}
        marks.add_constants(dataset, kept, profile, SUBJECT)
    kept[PIXEL_DATA] = Element(PIXEL_DATA, "OW", bytes(32))
    data = encode_file(sorted(kept.values(), key=lambda e: e.tag), "1.2.840.10008.1.2.1", sop_class, "2.25.1")
    marks.seal(data, PSEUDONYMS)
    return bytes(data.data)


@pytest.mark.parametrize("name", PROFILES)
@settings(max_examples=200, deadline=None)
@given(found=elements(), sop_class=st.sampled_from([CT, ENHANCED, DX]))
def test_of_any_data_set_only_what_the_table_allows_is_released(name, found, sop_class):
    profile = load_profile(name)
    dataset = Dataset()
    dataset.update(found)
    try:
        data = released(dataset, profile, sop_class)
    except Quarantined:
        return
    assert structure_fault(data, profile) is None
    assert SECRET not in data
    read = pydicom.dcmread(io.BytesIO(data))
    assert read.PatientID == SUBJECT
    assert read.file_meta.MediaStorageSOPClassUID == sop_class


@pytest.mark.parametrize("name", PROFILES)
@settings(max_examples=60, deadline=None)
@given(found=elements())
def test_its_own_output_comes_out_as_it_went_in(name, found):
    """A second walk over a release changes UIDs and dates only: what was allowed once is allowed again."""
    profile = load_profile(name)
    dataset = Dataset()
    dataset.update(found)
    try:
        data = released(dataset, profile, CT)
    except Quarantined:
        return
    once = pydicom.dcmread(io.BytesIO(data))
    with contained():
        twice = Walk(profile, PSEUDONYMS).run(once, SUBJECT)
    changing = ("UI", "DA", "DT")
    again = {e.tag: e.vr for e in twice if e.vr not in changing}
    before = {int(e.tag): e.VR for e in once.values() if e.VR not in changing and e.tag != PIXEL_DATA}
    # Of a sequence whose descriptors held no allowed word an empty item stays, and goes the next time.
    hollow = {t for t, vr in before.items() if vr == "SQ" and not any(len(item) for item in once[t].value)}
    marked = {0x00100010, 0x00100020, 0x00120062, 0x00120063, 0x00120064, 0x00280301, 0x00280303, 0x00101010}
    assert {t: v for t, v in before.items() if t not in marked | hollow} == {
        t: v for t, v in again.items() if t not in marked | hollow
    }


def test_big_endian_numbers_are_turned():
    dataset = Dataset()
    dataset.update({0x00280010: raw(0x00280010, "US", b"\x01\x02", little=False)})
    kept = Walk(load_profile("ps315-basic"), PSEUDONYMS).run(dataset)
    assert kept == [Element(0x00280010, "US", b"\x02\x01")]


def test_a_duplicate_tag_leaves_one_element_and_none_of_its_values():
    """pydicom keeps the last of two equal tags; whichever it is, it is judged like any other."""
    twice = item({0x00104000: raw(0x00104000, "LT", SECRET)})[8:] * 2
    value = struct.pack("<HHI", 0xFFFE, 0xE000, len(twice)) + twice
    dataset = Dataset()
    dataset.update({0x0008114A: raw(0x0008114A, "SQ", value)})
    for name in PROFILES:
        assert SECRET not in released(dataset, load_profile(name), CT)


@pytest.mark.parametrize("cut", [1, 5, 9, 20])
def test_a_kept_sequence_that_is_cut_short_is_held_back(cut):
    inner = item(
        {0x00280010: raw(0x00280010, "US", b"\x01\x02"), 0x00280011: raw(0x00280011, "US", b"\x01\x02")}
    )
    dataset = Dataset()
    dataset.update({0x0008114A: raw(0x0008114A, "SQ", inner[:-cut])})
    assert outcome(dataset) in (None, "a sequence that does not parse")


def outcome(dataset: Dataset) -> str | None:
    """The fault of the release, the reason of a refusal, or None."""
    profile = load_profile("ps315-basic")
    try:
        return structure_fault(released(dataset, profile, CT), profile)
    except Quarantined as refusal:
        return refusal.detail.partition(" (")[0]


def test_a_sequence_in_un_that_does_not_parse_goes():
    dataset = Dataset()
    dataset.update({0x0008114A: raw(0x0008114A, "UN", SECRET)})
    for name in PROFILES:
        assert SECRET not in released(dataset, load_profile(name), CT)


def one_of(tag: int, vr: str, *choices: bytes):
    return st.sampled_from(choices).map(lambda value: raw(tag, vr, value))


SURROUNDINGS = st.fixed_dictionaries(
    {
        0x00080020: one_of(0x00080020, "DA", b"20120309"),
        0x00100020: one_of(0x00100020, "LO", b"12345678", b"87654321"),
        0x00200011: one_of(0x00200011, "IS", b"12345678", b"7 "),
        0x00280103: one_of(0x00280103, "US", b"\0\0", b"\1\0"),
    },
    optional={
        0x00080005: one_of(0x00080005, "CS", b"ISO_IR 192", b"ISO_IR 100"),
        0x00081010: one_of(0x00081010, "SH", b"M\xc3\xbcller "),
        0x00280106: one_of(0x00280106, "SS", b"\0\0", b"\1\0"),
        0x00181030: one_of(0x00181030, "LO", b"CHEST QQNAME"),
        0x00181000: one_of(0x00181000, "LO", b"SN 12345678 "),
        0x00100010: one_of(0x00100010, "PN", b"QQNAME^A", b"CHEST^B "),
    },
)


def walked(dataset: Dataset, profile, subject: str, steps: Steps | None):
    walk = Walk(profile, PSEUDONYMS, steps)
    try:
        with contained():
            kept = walk.run(dataset, subject)
    except Quarantined as held:
        return held.reason, held.detail
    return kept, walk.record, walk.identifiers, tuple(walk.encodings)


@pytest.mark.parametrize("name", PROFILES)
@settings(max_examples=150, deadline=None)
@given(common=elements(), varied=st.lists(st.tuples(elements(), SURROUNDINGS), min_size=2, max_size=3))
def test_what_is_remembered_of_other_files_changes_nothing(name, common, varied):
    profile, steps = load_profile(name), Steps()
    subjects = (SUBJECT, SUBJECT, PSEUDONYMS.subject("", "0815"))
    for own, around in (*varied, *varied):
        dataset = Dataset()
        dataset.update({**common, **own, **around, 0x00080016: raw(0x00080016, "UI", CT.encode())})
        for subject in subjects:
            assert walked(dataset, profile, subject, steps) == walked(dataset, profile, subject, None)


def test_what_is_remembered_is_bounded():
    steps, profile = Steps(), load_profile("train")
    for number in range(6000):
        dataset = Dataset()
        dataset.update({0x00200013: raw(0x00200013, "IS", b"%d " % number)})
        dataset.update({0x00081030: raw(0x00081030, "LO", b"x" * 300)})
        walked(dataset, profile, SUBJECT, steps)
        assert len(steps._last[1]) <= 4098
        assert all(len(value or b"") <= 256 for _, _, value, _ in steps._last[1])

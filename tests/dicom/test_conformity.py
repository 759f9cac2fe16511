"""The independent reading of a release: any value, VR, place or byte that the profile does not allow is a fault."""

from __future__ import annotations

import io
import struct
import time

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from fedimg.crypto.keys import SiteKey
from fedimg.dicom import marks
from fedimg.dicom.authoring import build_image, encoded
from fedimg.dicom.conformity import structure_fault
from fedimg.dicom.encoder import PIXEL_DATA, Element, encode_file
from fedimg.dicom.profile import PROFILES, load_profile
from fedimg.dicom.pseudonyms import Pseudonyms
from fedimg.dicom.reader import parse
from fedimg.dicom.walk import Walk

PSEUDONYMS = Pseudonyms(SiteKey.from_bytes(b"k" * 32), "p")
SUBJECT = PSEUDONYMS.subject("", "4711")
CT = "1.2.840.10008.5.1.4.1.1.2"


def release(profile, **attributes) -> bytes:
    """Headers of a release as they are written, pixels of zeros."""
    known = {
        "PatientID": "4711", "PatientName": "DOE^JANE", "StudyDate": "20120309", "PatientAge": "060Y",
        "BodyPartExamined": "CHEST", "SliceThickness": "2.5", "StudyDescription": "CT CHEST",
        "AnatomicRegionSequence": [{"CodeValue": "51185008", "CodingSchemeDesignator": "SCT", "CodeMeaning": "x"}],
        "StationName": "CT01", "FrameOfReferenceUID": "1.2.3",
    }  # fmt: skip
    source = build_image(modality="CT", pixels=np.zeros((4, 4), np.uint16), attributes=known | attributes)
    kept = {e.tag: e for e in Walk(profile, PSEUDONYMS).run(parse(encoded(source)), SUBJECT)}
    marks.add_constants(source, kept, profile, SUBJECT, clean_pixels=True)
    kept[PIXEL_DATA] = Element(PIXEL_DATA, "OW", bytes(32))
    data = encode_file(sorted(kept.values(), key=lambda e: e.tag), "1.2.840.10008.1.2.1", CT, "2.25.1")
    marks.seal(data, PSEUDONYMS)
    return bytes(data.data)


def changed(data: bytes, change) -> bytes:
    dataset = pydicom.dcmread(io.BytesIO(data))
    with pydicom.config.disable_value_validation():
        change(dataset)
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.mark.parametrize("name", PROFILES)
def test_a_release_is_what_its_profile_allows_and_no_other(name):
    data = release(load_profile(name))
    assert structure_fault(data, load_profile(name)) is None
    for other in set(PROFILES) - {name}:
        assert structure_fault(data, load_profile(other)) is not None  # its marks name another profile
    # Written anew by pydicom it still is: the reading knows the format, not the writer.
    assert structure_fault(changed(data, lambda _: None), load_profile(name)) is None


def put(keyword, value):
    return lambda dataset: setattr(dataset, keyword, value)


def add(tag, vr, value):
    return lambda dataset: dataset.add_new(tag, vr, value)


def raw(tag, vr, value):
    return lambda dataset: dataset.update(
        {tag: RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)}
    )


ALLOWED = "{} with a value that the profile does not allow"
UNKNOWN = "an attribute that the profile does not name"
CHANGES = {
    "a word": ("research", put("BodyPartExamined", "JANE"), ALLOWED.format("BodyPartExamined")),
    "a number that is none": ("basic", raw(0x00180050, "DS", b"JANE"), ALLOWED.format("SliceThickness")),
    "letters of a number": ("basic", raw(0x00180050, "DS", b"EE"), ALLOWED.format("SliceThickness")),
    "too many numbers": ("basic", put("SliceThickness", ["1", "2"]), ALLOWED.format("SliceThickness")),
    "a UID that is not keyed": ("basic", put("FrameOfReferenceUID", "1.2.3"), ALLOWED.format("FrameOfReferenceUID")),
    "a class that is not registered": ("basic", put("SOPClassUID", "1.2.3.4"), None),
    "an emptied date": ("basic", put("StudyDate", "20120309"), ALLOWED.format("StudyDate")),
    "a date that is none": ("research", put("StudyDate", "JANE"), ALLOWED.format("StudyDate")),
    "an age over 89": ("research", put("PatientAge", "095Y"), ALLOWED.format("PatientAge")),
    "an age that is no band": ("train", put("PatientAge", "063Y"), ALLOWED.format("PatientAge")),
    "a descriptor": ("research", put("StudyDescription", "CT DAVIDSON"), ALLOWED.format("StudyDescription")),
    "a device's name": ("research", put("StationName", "JANE1"), ALLOWED.format("StationName")),
    "a removed attribute": ("basic", put("StudyDescription", "CT"), UNKNOWN),
    "an unknown attribute": ("basic", add(0x00100012, "LT", "x"), UNKNOWN),
    "a private element": ("research", add(0x00291010, "LO", "x"), UNKNOWN),
    "an unused creator": ("research", add(0x00190010, "LO", "GEMS_ACQU_01"), UNKNOWN),
    "a group of overlays": ("basic", add(0x60000010, "US", 5), UNKNOWN),
    "a character set": ("basic", put("SpecificCharacterSet", "ISO_IR 192"), UNKNOWN),
    "another mark": ("basic", put("LongitudinalTemporalInformationModified", "MODIFIED"),
                     ALLOWED.format("LongitudinalTemporalInformationModified")),
    "burned in": ("basic", put("BurnedInAnnotation", "YES"), ALLOWED.format("BurnedInAnnotation")),
    "a meaning": ("basic", lambda d: setattr(d.AnatomicRegionSequence[0], "CodeMeaning", "Jane"),
                  "a code that is not in the vocabulary"),
    "a method": ("basic", lambda d: setattr(d.DeidentificationMethodCodeSequence[0], "CodeMeaning", "x"),
                 "a code that is not in the vocabulary"),
    "deep text": ("basic", lambda d: setattr(d, "ReferencedInstanceSequence", Sequence([comment()])), UNKNOWN),
    "another VR": ("basic", add(0x00280010, "UL", 4), "Rows with another VR than the dictionary's"),
}  # fmt: skip


def comment() -> Dataset:
    item = Dataset()
    item.ImageComments = "x"
    return item


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_release_has_a_fault(change):
    name, function, fault = CHANGES[change]
    profile = load_profile(name if name == "train" else f"ps315-{name}")
    found = structure_fault(changed(release(profile), function), profile)
    assert found == fault if fault else found is not None


def test_safe_private_elements_are_allowed_where_their_creator_is():
    profile = load_profile("ps315-research")

    def safe(dataset, vr="DS", value="1.5", element=0x23):
        block = dataset.private_block(0x0019, "GEMS_ACQU_01", create=True)
        block.add_new(element, vr, value)

    assert structure_fault(changed(release(profile), safe), profile) is None
    wrong = "a private attribute that is not a safe one"
    for change in ({"vr": "LO", "value": "12"}, {"value": "1\\2"}, {"element": 0x99}):
        assert structure_fault(changed(release(profile), lambda d, c=change: safe(d, **c)), profile) == wrong
    assert structure_fault(changed(release(load_profile("ps315-basic")), safe), load_profile("ps315-basic"))


PLAIN = release(load_profile("train"))


@pytest.mark.parametrize("at", ["end", "pixels"])
def test_bytes_that_belong_to_nothing_are_a_fault(at):
    profile = load_profile("train")
    trailing = PLAIN + b"JANE DOE"
    assert structure_fault(trailing, profile) is not None
    if at == "pixels":
        assert structure_fault(PLAIN[:-2], profile) == "a file that ends within an element"


def test_elements_out_of_order_or_twice_are_a_fault():
    profile = load_profile("train")
    at = PLAIN.index(b"\x18\0\x50\0DS")
    element = PLAIN[at : at + 8 + struct.unpack_from("<H", PLAIN, at + 6)[0]]
    twice = PLAIN[:at] + element + PLAIN[at:]
    assert structure_fault(twice, profile) == "elements that are not in order"


@settings(max_examples=300, deadline=None)
@given(st.integers(132, len(PLAIN) - 1), st.integers(1, 255))
def test_whatever_byte_changes_the_reading_ends_without_an_error(at, change):
    """A changed byte may be harmless (a digit of a number); it never crashes the reading."""
    broken = bytearray(PLAIN)
    broken[at] ^= change
    found = structure_fault(bytes(broken), load_profile("train"))
    assert found is None or ("JANE" not in found and len(found) < 120)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400))
def test_noise_behind_the_prefix_is_a_fault(noise):
    assert structure_fault(bytes(128) + b"DICM" + noise, load_profile("train")) is not None


def test_a_header_takes_less_than_a_millisecond():
    profile = load_profile("train")
    fastest = min(_seconds(profile) for _ in range(20))
    print(f"{fastest * 1e3:.3f} ms")
    assert fastest < 1e-3


def _seconds(profile) -> float:
    start = time.perf_counter()
    structure_fault(PLAIN, profile)
    return time.perf_counter() - start

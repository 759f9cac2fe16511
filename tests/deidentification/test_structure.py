"""Adversarial structures: where the walk could stop short, or take one thing for another."""

from __future__ import annotations

import struct

import numpy as np
import pydicom.uid as uids
import pytest
from hospital import take
from images import ct, ct_pixels, image_elements, mr, us
from planting import Plant
from rawdicom import EXPLICIT, IMPLICIT, NATIVE, UNDEFINED, E, e, encode

CODE = (e("CodeValue", "39607008"), e("CodingSchemeDesignator", "SCT"), e("CodeMeaning", "Lung"))


def nest(plant: Plant, levels: int) -> E:
    """AnatomicRegionSequence, which the table keeps, with persons `levels` deep beside the codes."""
    item = [
        *CODE,
        e("PatientName", plant.name(f"level {levels}/PatientName")),
        e("PatientComments", plant.text(f"level {levels}/PatientComments")),
        E(0x00090010, "LO", plant.text(f"level {levels}/private creator")),
        E(0x00091001, "LO", plant.text(f"level {levels}/private value")),
    ]
    for level in range(levels - 1, 0, -1):
        keyword = "AnatomicRegionModifierSequence" if level % 2 else "ViewModifierCodeSequence"
        item = [*CODE, e("OperatorsName", plant.name(f"level {level}")), e(keyword, [item])]
    return e("AnatomicRegionSequence", [item])


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_phi_one_two_and_three_levels_deep_in_a_kept_sequence(tmp_path, profile, levels, syntax):
    plant = Plant(levels)
    file = ct().having(nest(plant, levels), syntax=syntax)
    if syntax == NATIVE[2]:
        file = file.having(e("PixelData", ct_pixels().byteswap().tobytes(), "OW"))
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert taken.dataset.AnatomicRegionSequence[0].CodeValue == "39607008"


def test_phi_in_the_regions_of_an_ultrasound(tmp_path, profile):
    plant = Plant()
    file = us()
    regions = file.elements[0x00186011]
    item = [*regions.value[0], e("PatientName", plant.name("name")), e("TextValue", plant.text("text"))]
    taken = take(tmp_path, file.having(E(0x00186011, "SQ", [item])), profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert len(taken.dataset.SequenceOfUltrasoundRegions) == 1


@pytest.mark.parametrize("syntax", NATIVE[:2])
def test_request_attributes(tmp_path, profile, syntax):
    plant = Plant()
    item = [
        e("RequestedProcedureID", plant.number("id")),
        e("RequestedProcedureDescription", plant.text("description")),
        e("ReasonForTheRequestedProcedure", plant.text("reason")),
        e("ReferringPhysicianName", plant.name("physician")),
        e("ScheduledProcedureStepStartDate", plant.day("day")),
        e("ScheduledProtocolCodeSequence", [[*CODE[:2], e("CodeMeaning", plant.text("meaning"))]]),
    ]
    taken = take(
        tmp_path, ct().having(e("RequestAttributesSequence", [item]), syntax=syntax), profile=profile
    )
    assert taken.leaks(plant.secrets) == []
    assert taken.only


def test_original_attributes(tmp_path, profile):
    plant = Plant()
    was = [e("PatientName", plant.name("name")), e("PatientID", plant.number("id"))]
    item = [
        e("SourceOfPreviousValues", plant.text("source")),
        e("AttributeModificationDateTime", plant.of("DT", "time")),
        e("ModifyingSystem", plant.text("system")),
        e("ModifiedAttributesSequence", [was]),
    ]
    taken = take(tmp_path, ct().having(e("OriginalAttributesSequence", [item])), profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert taken.only


def test_referenced_study(tmp_path, profile):
    plant = Plant()
    item = [
        e("ReferencedSOPClassUID", "1.2.840.10008.3.1.2.3.1"),
        e("ReferencedSOPInstanceUID", plant.uid("uid")),
        e("PatientName", plant.name("name")),
    ]
    taken = take(tmp_path, ct().having(e("ReferencedStudySequence", [item])), profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert taken.only


def test_functional_groups_with_more_than_a_thousand_items(tmp_path, profile):
    plant, count = Plant(), 1100
    frames = np.stack([ct_pixels(16, seed) for seed in range(4)]).repeat(count // 4, axis=0)
    shared = [
        e("PixelMeasuresSequence", [[e("PixelSpacing", "1\\1"), e("SliceThickness", "1")]]),
        e("PlaneOrientationSequence", [[e("ImageOrientationPatient", "1\\0\\0\\0\\1\\0")]]),
    ]
    each = [
        [
            e("PlanePositionSequence", [[e("ImagePositionPatient", f"0\\0\\{n}")]]),
            e(
                "FrameContentSequence",
                [
                    [
                        e("FrameComments", plant.text(f"frame {n}")) if n % 100 == 37 else e("StackID", "1"),
                        e("FrameReferenceDateTime", plant.of("DT", f"time {n}"))
                        if n % 100 == 37
                        else e("InStackPositionNumber", (n + 1,)),
                    ]
                ],
            ),
            *([e("PatientName", plant.name(f"name {n}"))] if n % 100 == 37 else []),
        ]
        for n in range(count)
    ]
    file = ct(ImageType="ORIGINAL\\PRIMARY\\VOLUME\\NONE").having(
        e("SOPClassUID", uids.EnhancedCTImageStorage),
        *image_elements(frames, 12),
        e("SharedFunctionalGroupsSequence", [shared]),
        e("PerFrameFunctionalGroupsSequence", each),
    )
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert len(taken.dataset.PerFrameFunctionalGroupsSequence) == count


def test_sequence_coded_un(tmp_path, profile):
    plant = Plant()
    item = encode([*CODE, e("PatientName", plant.name("name"))], IMPLICIT)
    kept = struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item
    dropped = encode([e("PatientName", plant.name("dropped"))], IMPLICIT)
    other = struct.pack("<HHI", 0xFFFE, 0xE000, len(dropped)) + dropped
    file = ct().having(E(0x00082218, "UN", kept), E(0x00400275, "UN", other))
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert taken.only


def test_sequence_coded_un_of_undefined_length(tmp_path, profile):
    plant = Plant()
    item = encode([*CODE, e("PatientName", plant.name("name"))], IMPLICIT)
    body = struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED) + item + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    taken = take(tmp_path, ct().having(E(0x00082218, "UN", body, undefined=True)), profile=profile)
    assert taken.leaks(plant.secrets) == []


def test_explicit_vr_inside_un(tmp_path, profile):
    plant = Plant()
    item = encode([*CODE, e("PatientName", plant.name("name"))], EXPLICIT)
    body = struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item
    file = ct().having(E(0x00082218, "UN", body), E(0x00400275, "UN", body))
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks(plant.secrets) == []


@pytest.mark.parametrize("syntax", NATIVE[:2])
def test_undefined_length(tmp_path, profile, syntax):
    plant = Plant()
    inner = e(
        "AnatomicRegionModifierSequence", [[*CODE, e("PatientName", plant.name("inner"))]], undefined=True
    )
    item = [*CODE, inner, e("OperatorsName", plant.name("outer"))]
    dropped = e("ReferencedPatientSequence", [[e("PatientID", plant.number("dropped"))]], undefined=True)
    file = ct().having(e("AnatomicRegionSequence", [item], undefined=True), dropped, syntax=syntax)
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert taken.only


def test_empty_items(tmp_path, profile):
    plant = Plant()
    items = [[], [*CODE, e("PatientName", plant.name("name"))], []]
    file = ct().having(e("AnatomicRegionSequence", items), e("RequestAttributesSequence", [[], []]))
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert taken.only


@pytest.mark.parametrize("cut", [1, 5, 20])
@pytest.mark.parametrize("keyword", ["AnatomicRegionSequence", "RequestAttributesSequence"])
def test_truncated_items(tmp_path, profile, keyword, cut):
    plant = Plant()
    item = encode([*CODE, e("PatientName", plant.name("name"))], EXPLICIT)
    body = (struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item)[:-cut]
    taken = take(tmp_path, ct().having(e(keyword, body)), profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert len(taken.released) + len(taken.reasons) == 1


def test_duplicate_tags(tmp_path, profile):
    plant = Plant()
    twice = (
        e("StudyDescription", plant.text("description")),
        e("StudyDescription", plant.text("description again")),
        e("BodyPartExamined", plant.word("body part")[:16]),
        e("BodyPartExamined", "CHEST"),
        e("ViewPosition", "AP"),
        e("ViewPosition", plant.word("view")[:16]),
        e("PatientID", plant.number("first id")),
        e("PatientID", plant.number("second id")),
        e("PatientName", plant.name("first name")),
        e("PatientName", plant.name("second name")),
    )
    file = ct().without("PatientID", "PatientName", "BodyPartExamined")
    pixels = file.elements[0x7FE00010]
    file = file.without("PixelData").having(extra=(*twice, pixels))
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks(plant.secrets) == []


def test_duplicate_pixel_data(tmp_path, profile):
    plant = Plant()
    message = plant.text("second pixel data").encode()
    second = E(0x7FE00010, "OW", message.ljust(96 * 96 * 2, b"\0"))
    taken = take(tmp_path, ct().having(extra=(second,)), profile=profile)
    assert taken.leaks(plant.secrets) == []


@pytest.mark.parametrize("depth", [14, 60, 400])
def test_depth_bomb(tmp_path, profile, depth):
    plant = Plant()
    for keyword in ("AnatomicRegionSequence", "RequestAttributesSequence"):
        body = encode([e("PatientName", plant.name(f"{keyword} bottom"))], EXPLICIT)
        for _ in range(depth):  # from the inside out: a writer that recurses would break first
            item = struct.pack("<HHI", 0xFFFE, 0xE000, len(body)) + body
            body = encode([*CODE, e("AnatomicRegionModifierSequence", [item])], EXPLICIT)
        item = [struct.pack("<HHI", 0xFFFE, 0xE000, len(body)) + body]
        taken = take(tmp_path / keyword, ct().having(e(keyword, item)), profile=profile)
        assert taken.leaks(plant.secrets) == []
        assert len(taken.released) + len(taken.reasons) == 1


def test_item_that_claims_to_be_longer_than_its_sequence(tmp_path, profile):
    plant = Plant()
    item = encode([*CODE, e("PatientName", plant.name("name"))], EXPLICIT)
    body = struct.pack("<HHI", 0xFFFE, 0xE000, len(item) + 4000) + item
    taken = take(tmp_path, ct().having(e("AnatomicRegionSequence", body)), profile=profile)
    assert taken.leaks(plant.secrets) == []


def test_text_between_items_and_in_their_delimiters(tmp_path, profile):
    plant = Plant()
    item = encode([*CODE], EXPLICIT)
    text = plant.text("delimiter").encode()
    body = struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED) + item
    body += struct.pack("<HHI", 0xFFFE, 0xE00D, len(text)) + text
    other = plant.text("between").encode()
    taken = take(
        tmp_path,
        ct().having(e("AnatomicRegionSequence", body), e("RequestAttributesSequence", other)),
        mr(SOPInstanceUID="1.2.3.9").having(e("ViewCodeSequence", [other], undefined=True)),
        profile=profile,
    )
    assert taken.leaks(plant.secrets) == []

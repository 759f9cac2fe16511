"""What headers say, attribute by attribute, and that no header makes it fail."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.dicom.asked import AskedHeader
from fedimg.dicom.authoring import build_image
from fedimg.sorting.answer import By
from fedimg.sorting.header import ask

PIXELS = np.arange(256, dtype=np.uint16).reshape(16, 16)


def said(modality="OT", **attributes):
    found = ask(AskedHeader(build_image(modality=modality, pixels=PIXELS, attributes=attributes)))
    return found.modality, found.body_part, found.view, found.told


def test_attributes_come_first():
    modality, part, view, told = said(
        "CR", BodyPartExamined="CHEST", ViewPosition="PA", StudyDescription="XR CHEST lateral"
    )
    assert (modality.value, part.value, view.value) == ("CR", "chest", "pa")
    assert {modality.by, part.by, view.by} == {By.HEADER}
    assert told == ""


@pytest.mark.parametrize(
    ("cosines", "plane"),
    [
        (["1", "0", "0", "0", "1", "0"], "axial"),
        (["1", "0", "0", "0", "0", "-1"], "coronal"),
        (["0", "1", "0", "0", "0", "-1"], "sagittal"),
        (["0.9848", "0", "0.1736", "0", "1", "0"], "axial"),  # tilted by 10°
        (["0.7071", "0", "0.7071", "0", "1", "0"], "oblique"),
    ],
)
def test_a_plane_is_that_of_its_normal(cosines, plane):
    assert said("MR", ImageOrientationPatient=cosines)[2].value == plane


def test_a_broken_orientation_says_nothing():
    assert not said("MR", ImageOrientationPatient=["0", "0", "0", "0", "0", "0"])[2].known


def test_codes_by_the_meaning_that_the_standard_gives_them():
    """The written meaning may be anything; SNOMED-RT's retired identifiers are known too."""
    for scheme, code in (("SCT", "69536005"), ("SRT", "T-D1100")):
        item = {"CodeValue": code, "CodingSchemeDesignator": scheme, "CodeMeaning": "Knee"}
        assert said("MR", AnatomicRegionSequence=[item])[1].value == "head"
    view = {"CodeValue": "399162004", "CodingSchemeDesignator": "SCT", "CodeMeaning": "x"}
    assert said("OT", Modality="MG", ViewCodeSequence=[view])[2].value == "cc"


def test_words_are_asked_where_attributes_are_silent():
    modality, part, view, _ = said(
        "CT", ProtocolName="Sch\u00e4del nativ axial", SpecificCharacterSet="ISO_IR 192"
    )
    assert (part.value, part.by) == ("head", By.TEXT)
    assert (view.value, view.by) == ("axial", By.TEXT)
    assert modality.by is By.HEADER


def test_a_phase_direction_is_no_projection():
    """EPI PE=AP: the phase of an MR, not where rays came from."""
    assert not said("MR", ProtocolName="EPI PE=AP")[2].known


def test_header_and_words_that_contradict_each_other_are_told():
    _, part, _, told = said("CT", BodyPartExamined="CHEST", StudyDescription="CT KNEE")
    assert (part.value, told) == ("chest", "header_and_text_differ")
    _, part, _, told = said("CT", BodyPartExamined="CHEST", StudyDescription="Coronary CT")
    assert (part.value, told) == ("chest", "")


@pytest.mark.parametrize(
    ("sides", "view"),
    [(["L", "F"], "frontal"), (["A", "F"], "lateral"), (["P", "F"], "lateral"), (["L", "P"], None)],
)
def test_the_sides_of_a_radiograph(sides, view):
    found = said("CR", PatientOrientation=sides)[2]
    assert found.value == (view or "unknown")


def test_a_secondary_capture_has_the_modality_that_it_states():
    assert said("OT", Modality="MG")[0].value == "MG"
    assert not said("OT")[0].known
    assert said("OT", StudyDescription="MRT Knie")[0].value == "MR"


def test_a_modality_that_is_no_defined_term_is_not_repeated():
    """Names are written into any attribute: nothing of the file may become an answer, or a folder's name."""
    assert not said("OT", Modality="MUELLER")[0].known


@given(
    st.dictionaries(
        st.sampled_from(
            ["BodyPartExamined", "ViewPosition", "ProtocolName", "SeriesDescription", "StudyDescription"]
        ),
        st.text(st.characters(codec="ascii", exclude_categories=["C"]), max_size=16),
    )
)
def test_no_value_of_a_header_comes_out(attributes):
    from fedimg.sorting.vocabulary import listed

    modality, part, view, _ = said("CR", SpecificCharacterSet="ISO_IR 192", **attributes)
    assert modality.value == "CR"
    assert part.value in {*listed("body_part"), "unknown"}
    assert view.value in {*listed("projection"), "unknown"}

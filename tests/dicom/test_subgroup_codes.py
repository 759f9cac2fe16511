"""Sex, age and manufacturer of headers as they come, hostile ones among them: a code, and never an exception."""

from __future__ import annotations

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from fedimg.dicom.subgroup_codes import codes_of
from fedimg.subgroups import AGE_STEPS, MANUFACTURERS, MOST_GROUPS, SEXES, UNKNOWN, age_code

_TAGS = {
    "PatientSex": (0x0010, 0x0040),
    "PatientAge": (0x0010, 0x1010),
    "PatientBirthDate": (0x0010, 0x0030),
    "StudyDate": (0x0008, 0x0020),
    "Manufacturer": (0x0008, 0x0070),
}


def header(**values):
    dataset = Dataset()
    with pydicom.config.disable_value_validation():
        for keyword, value in values.items():
            setattr(dataset, keyword, value)
    return dataset


def raw(keyword, vr, value):
    """As a file has it, before anything is converted."""
    dataset = Dataset()
    tag = Tag(*_TAGS[keyword])
    dataset._dict[tag] = RawDataElement(
        tag, vr, len(value), value, 0, is_implicit_VR=False, is_little_endian=True
    )
    return dataset


def named(codes):
    sex, age, maker = codes
    return SEXES[sex], AGE_STEPS[age - 1] if age else None, MANUFACTURERS[maker]


def test_a_plain_header_says_all_three():
    found = codes_of(header(PatientSex="F", PatientAge="037Y", Manufacturer="SIEMENS"))
    assert named(found) == ("female", 35, "siemens")
    assert codes_of(Dataset()) == UNKNOWN


@pytest.mark.parametrize(
    ("birth", "study", "years"),
    [
        ("19500607", "20120309", 60),  # 61
        ("19940309", "20120309", 18),  # the birthday itself
        ("19940310", "20120309", 15),  # 17
        ("20120309", "20120309", 0),
        ("19000101", "20120309", 90),
        ("21000101", "20120309", None),  # not born yet
        ("18000101", "20120309", None),
        ("19501307", "20120309", None),
        ("1950", "20120309", None),
        ("", "20120309", None),
        ("19500607", "", None),
        ("99991231", "99991231", 0),
    ],
)
def test_without_an_age_the_dates_tell_it(birth, study, years):
    assert named(codes_of(header(PatientBirthDate=birth, StudyDate=study)))[1] == years
    # an age that is stated counts more, one that is none does not
    dates = {"PatientBirthDate": birth, "StudyDate": study}
    assert codes_of(header(PatientAge="050Y", **dates))[1] == age_code("050Y")
    assert named(codes_of(header(PatientAge="-10Y", **dates)))[1] == years


@pytest.mark.parametrize(
    "value",
    ["DOE^JANE", "Jane Doe, born 1950", "S" * 100_000, "\x1b[31m", "Ω", "a\\b\\c", "\\".join("x" * 5000)],
)
def test_free_text_never_passes(value):
    found = codes_of(header(Manufacturer=value, PatientSex=value, PatientAge=value))
    assert found == (0, 0, MANUFACTURERS.index("other"))


def test_of_several_values_the_first_counts():
    assert named(codes_of(header(Manufacturer=["GE MEDICAL SYSTEMS", "DOE"], PatientSex=["M", "F"]))) == (
        *("male", None),
        "ge",
    )


@pytest.mark.parametrize("keyword", sorted(_TAGS))
@given(
    st.sampled_from(["CS", "AS", "DA", "LO", "PN", "DS", "IS", "OB", "SQ", "UI", "US", "FD", "UN"]),
    st.binary(max_size=80),
)
def test_whatever_bytes_stand_there_the_answer_is_a_code(keyword, vr, value):
    codes = codes_of(raw(keyword, vr, value))
    assert all(0 <= code < most for code, most in zip(codes, MOST_GROUPS, strict=True))

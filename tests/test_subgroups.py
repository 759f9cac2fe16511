"""Codes of groups: closed, whatever a header or a table says; and the groups that a run tells apart."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.errors import ConfigError
from fedimg.subgroups import (
    AGE_STEPS,
    ATTRIBUTES,
    MANUFACTURERS,
    MOST_GROUPS,
    SEXES,
    UNKNOWN,
    Grouping,
    age_code,
    age_code_of,
    checked_codes,
    maker_code,
    merged,
    sex_code,
)


@given(st.text(max_size=200))
def test_whatever_a_text_says_it_becomes_a_code_of_a_list(text):
    codes = sex_code(text), age_code(text), maker_code(text)
    assert all(0 <= code < most for code, most in zip(codes, MOST_GROUPS, strict=True))


@pytest.mark.parametrize(
    ("text", "sex"),
    [("F", "female"), ("m ", "male"), ("O", "other"), ("female", "female"), ("\0", "unknown")],
)
def test_sexes(text, sex):
    assert SEXES[sex_code(text)] == sex


@pytest.mark.parametrize("text", ["", "X", "U", "FM", "F^DOE", "female patient", "Ｆ", "F" * 10_000])
def test_other_words_are_no_sex(text):
    assert SEXES[sex_code(text)] == "unknown"


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        *(("037Y", 35), ("011M", 0), ("013M", 1), ("030M", 2), ("400W", 5), ("900D", 2), ("000D", 0)),
        *(("17", 15), ("18", 18), ("64.9", 60), ("90", 90), ("120Y", 90), ("005Y", 5), (" 042Y ", 40)),
    ],
)
def test_ages(text, begins):
    assert AGE_STEPS[age_code(text) - 1] == begins


@pytest.mark.parametrize(
    "text", ["", "-1", "-37Y", "999Y", "151", "nan", "inf", "1e2", "37 years", "٣٧", "37Y" * 99]
)
def test_what_is_no_age_is_unknown(text):
    assert age_code(text) == 0
    assert age_code_of(float("nan")) == 0 == age_code_of(-0.1)


@pytest.mark.parametrize(
    ("text", "maker"),
    [
        ("GE MEDICAL SYSTEMS", "ge"),
        ("GE Healthcare", "ge"),
        ("General Electric", "ge"),
        ("SIEMENS", "siemens"),
        ("Siemens Healthineers", "siemens"),
        ("Philips Medical Systems", "philips"),
        ("TOSHIBA", "canon"),
        ("Canon Medical Systems", "canon"),
        ("TOSHIBA_MEC", "canon"),
        ("FUJIFILM Corporation", "fujifilm"),
        ("FUJI PHOTO FILM Co., Ltd.", "fujifilm"),
        ("KONICA MINOLTA", "konica_minolta"),
        ("United Imaging Healthcare", "united_imaging"),
        ("Aurelia Imaging", "aurelia"),
        ("", "unknown"),
        (" \0", "unknown"),
    ],
)
def test_manufacturers(text, maker):
    assert MANUFACTURERS[maker_code(text)] == maker


@pytest.mark.parametrize(
    "text", ["DOE^JANE", "Gemini", "GEORGE^ANN", "?", "123", "x" * 100_000, "unknown", "SIE MENS"]
)
def test_other_texts_are_another_manufacturer_s_and_never_their_own(text):
    assert MANUFACTURERS[maker_code(text)] == "other"


def test_a_table_counts_more_than_a_header_where_it_says_anything():
    assert merged((1, 0, 0), (2, 3, 4)) == (1, 3, 4)
    assert merged(UNKNOWN, (2, 3, 4)) == (2, 3, 4)


@pytest.mark.parametrize(
    "found", [[1, 2], [1, 2, 3, 4], [True, 0, 0], [9, 0, 0], [0, -1, 0], ["1", 0, 0], {}, None, [0, 0, 1e0]]
)
def test_codes_of_a_file_are_judged(found):
    with pytest.raises(ValueError, match="no codes"):
        checked_codes(found)
    assert checked_codes(json.loads("[1,2,3]")) == (1, 2, 3)


def test_every_code_is_in_the_group_that_its_list_says():
    grouping = Grouping(ATTRIBUTES, (0, 18, 65), ("siemens", "ge"))
    names = {name: grouping.groups(name) for name in ATTRIBUTES}
    assert names == {
        "sex": ("female", "male", "other", "unknown"),
        "age_band": ("0-17", "18-64", "65+", "unknown"),
        "scanner": ("siemens", "ge", "other", "unknown"),
    }

    def told(sex, age, maker):
        (row,) = grouping.indices(np.array([[sex, age, maker]]))
        return tuple(names[a][k] for a, k in zip(ATTRIBUTES, row, strict=True))

    for age in range(100):
        expected = "0-17" if age < 18 else "18-64" if age < 65 else "65+"
        assert told(0, age_code_of(age), 0) == ("unknown", expected, "unknown")
    for maker, name in enumerate(MANUFACTURERS):
        expected = name if name in ("siemens", "ge", "unknown") else "other"
        assert told(maker % 4, 0, maker) == (SEXES[maker % 4], "unknown", expected)
    assert told(-1, 10**6, -(2**40)) == ("unknown",) * 3  # what is in no list does not stop an evaluation


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"attributes": ("race",)}, "evaluation.subgroups"),
        ({"attributes": ("sex", "sex")}, "evaluation.subgroups"),
        ({"age_edges": ()}, "evaluation.age_edges"),
        ({"age_edges": (18, 40)}, "evaluation.age_edges"),
        ({"age_edges": (0, 40, 18)}, "evaluation.age_edges"),
        ({"age_edges": (0, 37)}, "evaluation.age_edges"),
        ({"scanners": ("other",)}, "evaluation.scanners"),
        ({"scanners": ("acme",)}, "evaluation.scanners"),
    ],
)
def test_groups_that_no_list_has_are_refused(changes, key):
    with pytest.raises(ConfigError, match=key):
        Grouping(**changes)

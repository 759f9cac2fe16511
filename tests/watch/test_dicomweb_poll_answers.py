"""Whatever an archive answers is rows with UIDs of the standard, or refused."""

from __future__ import annotations

import json

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import RE_VALID_UID

from sites.watch.dicomweb_poll_answers import Level, Row, page_of

TAGS = ("0020000D", "0020000E", "00080018", "00080020", "00080060", "00201206", "00201208", "00201209")


def test_rows_are_read_as_pydicom_writes_them():
    dataset = pydicom.Dataset()
    dataset.StudyInstanceUID, dataset.StudyDate = "1.2.3", "20260102"
    dataset.NumberOfStudyRelatedSeries, dataset.NumberOfStudyRelatedInstances = 2, 40
    body = f"[{dataset.to_json()}]".encode()
    assert page_of(body, Level.STUDY).rows == (Row("1.2.3", "20260102", "", 2, 40),)
    dataset.SeriesInstanceUID, dataset.Modality, dataset.NumberOfSeriesRelatedInstances = "1.2.3.4", "MR", 20
    body = f"[{dataset.to_json()}]".encode()
    assert page_of(body, Level.SERIES, ("1.2.3",)).rows == (Row("1.2.3.4", "20260102", "MR", 20, 20),)
    dataset.SOPInstanceUID = "1.2.3.4.5"
    body = f"[{dataset.to_json()}]".encode()
    assert page_of(body, Level.INSTANCE, ("1.2.3", "1.2.3.4")).rows[0].uid == "1.2.3.4.5"
    for parents in (("1.2.9", "1.2.3.4"), ("1.2.3", "1.2.9")):
        found = page_of(body, Level.INSTANCE, parents)
        assert (found.rows, found.said, found.misnamed) == ((), 1, 1), "of another study or series"


def test_what_is_not_said_is_not_known_and_nothing_is_no_row():
    assert page_of(b'[{"0020000D": {"vr": "UI", "Value": ["1.2"]}}]', Level.STUDY).rows == (Row("1.2"),)
    for empty in (b"", b"  ", b"[]"):
        assert page_of(empty, Level.STUDY) == page_of(b"[ ]", Level.STUDY)


@pytest.mark.parametrize(
    "body", [b"{}", b"null", b"[1]", b"[[]]", b"[{}", b"\xff", b"[" * 300_000, b"9" * 5000]
)
def test_what_is_no_list_of_data_sets_is_refused(body):
    with pytest.raises(ValueError):
        page_of(body, Level.STUDY)


VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.from_regex(RE_VALID_UID)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["Value", "vr", *TAGS]), inner, max_size=3),
    ),
    max_leaves=12,
)
DATASETS = st.dictionaries(
    st.sampled_from(TAGS),
    st.one_of(VALUES, st.fixed_dictionaries({"Value": st.lists(VALUES, max_size=2)})),
    max_size=5,
)


@given(st.lists(DATASETS, max_size=4), st.sampled_from(list(Level)))
def test_no_row_has_another_uid_than_one_of_the_standard(found, level):
    parents = ("1.2.3", "1.2.3.4")[: list(Level).index(level)]
    page = page_of(json.dumps(found).encode(), level, parents)
    assert page.said == len(found) == len(page.rows) + page.misnamed
    for row in page.rows:
        assert pydicom.uid.UID(row.uid).is_valid
        assert row.date == "" or (len(row.date) == 8 and row.date.isdigit())
        assert -1 <= row.holds < 10**9 and -1 <= row.images < 10**9


@given(st.binary(max_size=80), st.sampled_from(list(Level)))
def test_any_bytes_are_read_or_refused(body, level):
    try:
        page = page_of(body, level, ("1.2", "1.3")[: list(Level).index(level)])
    except ValueError:
        return
    assert all(pydicom.uid.UID(row.uid).is_valid for row in page.rows)

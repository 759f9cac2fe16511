"""Whom an object is of: (issuer, number), or one subject per study where nobody is named and the site says so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from fedimg.crypto.keys import SiteKey
from fedimg.dicom.pseudonyms import Pseudonyms, is_patient_key
from fedimg.dicom.refusal import Quarantined
from fedimg.dicom.subjects import patient_key
from fedimg.values import Quarantine

PSEUDONYMS = Pseudonyms(SiteKey.from_bytes(b"k" * 32), "p")


def dataset(**attributes) -> Dataset:
    found = Dataset()
    for keyword, value in {"StudyInstanceUID": "1.2.3", **attributes}.items():
        setattr(found, keyword, value)
    return found


def test_a_subject_is_issuer_and_number_of_the_header():
    found = patient_key(dataset(PatientID=" 47 11", IssuerOfPatientID="h"), PSEUDONYMS, None)
    assert found == PSEUDONYMS.subject("H", "47 11")
    assert patient_key(dataset(PatientID="4711"), PSEUDONYMS, None) != found


def test_a_number_beside_the_file_goes_first():
    assert patient_key(dataset(PatientID="4711"), PSEUDONYMS, "12") == PSEUDONYMS.subject("", "12")


@pytest.mark.parametrize("missing", ["", "  ", "\0"])
def test_without_a_number_the_object_is_held_back(missing):
    with pytest.raises(Quarantined) as refusal:
        patient_key(dataset(PatientID=missing), PSEUDONYMS, None)
    assert refusal.value.reason is Quarantine.NO_PATIENT_ID
    assert patient_key(dataset(PatientID=missing), PSEUDONYMS, None, "study")


studies = st.from_regex(r"[1-9](\.[1-9]){1,6}", fullmatch=True)


@given(studies, studies)
def test_by_policy_a_study_is_a_subject_of_its_own(first, second):
    keys = [patient_key(dataset(StudyInstanceUID=uid), PSEUDONYMS, None, "study") for uid in (first, second)]
    assert all(map(is_patient_key, keys))
    assert (keys[0] == keys[1]) == (first == second)
    # Whatever the issuer and number: a study is none of them.
    assert keys[0] not in (PSEUDONYMS.subject("study", first), PSEUDONYMS.subject("", first))


def test_without_number_and_study_nothing_helps():
    with pytest.raises(Quarantined):
        patient_key(dataset(StudyInstanceUID=""), PSEUDONYMS, None, "study")

"""Identifiers in free text, and dates in every form: none stays, none becomes another patient's."""

from __future__ import annotations

import re
from datetime import date, datetime, timezone

import pytest
from hospital import take
from images import ct, in_syntax, mr
from planting import Plant
from rawdicom import NATIVE, E, e
from scanner import Secret


@pytest.mark.parametrize("syntax", NATIVE)
def test_a_name_in_study_description(tmp_path, profile, syntax):
    """The one that survives two common tools: the name is in PatientName too, in another order."""
    plant = {"family": Secret("Davidsonbergh"), "given": Secret("Douglasine")}
    file = ct(PatientName="Davidsonbergh^Douglasine").having(
        e("StudyDescription", "XR CHEST AP PORTABLE for Douglasine Davidsonbergh"),
        e("SeriesDescription", "AP DAVIDSONBERGH"),
        e("ProtocolName", "chest/douglasine_davidsonbergh/2"),
    )
    taken = take(tmp_path, in_syntax(file, syntax), profile=profile)
    assert taken.leaks(plant) == []
    assert taken.only


def test_a_name_in_study_description_that_is_nowhere_else(tmp_path, profile):
    plant = Plant()
    file = ct().having(
        e("StudyDescription", "XR CHEST AP PORTABLE for " + plant.word("study")),
        e("SeriesDescription", "thorax " + plant.word("series")),
        e("ProtocolName", plant.word("protocol")),
        e("RequestedProcedureDescription", plant.text("procedure")),
    )
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert taken.only


def test_a_number_in_image_comments(tmp_path, profile):
    plant = Plant()
    file = ct(PatientID="MRN-88213947").having(
        e("ImageComments", "patient 88213947, call " + plant.number("phone", 10)),
        e("PatientComments", "SSN " + plant.number("social security")),
    )
    plant.secrets["MRN"] = Secret("88213947")
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert taken.only


def test_code_meaning(tmp_path, profile):
    """A real code of the vocabulary with a name for its meaning; and a name for a code."""
    plant = Plant()
    item = [
        e("CodeValue", "39607008"),
        e("CodingSchemeDesignator", "SCT"),
        e("CodeMeaning", plant.text("meaning")),
        e("CodingSchemeVersion", plant.word("version")),
        e("ContextIdentifier", plant.word("context")[:16]),
        e("LongCodeValue", plant.text("long value")),
        e("URNCodeValue", "urn:" + plant.word("urn")),
    ]
    other = [
        e("CodeValue", plant.word("code")),
        e("CodingSchemeDesignator", plant.word("scheme")),
        e("CodeMeaning", "Lung"),
    ]
    file = ct().having(e("AnatomicRegionSequence", [item, other]), e("ProcedureCodeSequence", [item, other]))
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert taken.dataset.AnatomicRegionSequence[0].CodeMeaning.startswith("Lung")


def test_window_center_width_explanation(tmp_path, profile):
    plant = Plant()
    file = ct().having(
        e("WindowCenter", "40\\600"),
        e("WindowWidth", "400\\1200"),
        e("WindowCenterWidthExplanation", f"{plant.word('first')}\\{plant.word('second')}"),
        e("RescaleType", plant.word("rescale type")),
    )
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert [float(v) for v in taken.dataset.WindowCenter] == [40, 600]


SPELLINGS = ("20170309", "2017-03-09", "09.03.2017", "03/09/2017", "9 Mar 2017", "Mar 9, 2017")


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_dates_in_lo(tmp_path, profile, spelling):
    planted = {"date": Secret("20170309", "date")}
    file = ct(StudyDate="20170309").having(
        e("SeriesDescription", f"control of {spelling}"),
        e("StudyDescription", spelling),
        e("ProtocolName", f"thorax {spelling}"),
        E(0x00091001, "LO", spelling),
        e("BodyPartExamined", spelling[:16]),
    )
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks(planted) == []
    for keyword in ("SeriesDescription", "StudyDescription", "ProtocolName", "BodyPartExamined"):
        assert not re.search("03|09|Mar|MAR", str(taken.dataset.get(keyword, ""))), (
            "a day and month without year"
        )


def test_a_date_as_a_serial_number(tmp_path, profile):
    """A profile that keeps the device holds a device back that is called like the day of the study."""
    file = ct(StudyDate="20170309").having(e("DeviceSerialNumber", "2017-03-09"))
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks({"date": Secret("20170309", "date")}) == []


def test_epoch_seconds(tmp_path, profile):
    seconds = int(datetime(2017, 3, 9, 10, 15, tzinfo=timezone.utc).timestamp())  # noqa: UP017 - 3.11's own
    planted = {"seconds": Secret(str(seconds)), "milliseconds": Secret(f"{seconds}123")}
    file = mr(StudyDate="20170309").having(
        e("SeriesDescription", f"seq {seconds}"),
        e("StudyID", str(seconds)),
        e("ImageComments", f"{seconds}123"),
        E(0x00190010, "LO", "GEMS_SERS_01"),
        E(0x00191014, "SL", (seconds,)),
        E(0x00191015, "IS", str(seconds)),
        E(0x00191016, "DS", f"{seconds}123"),
    )
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks(planted) == []
    assert taken.only


@pytest.mark.parametrize(
    "value",
    [
        "2017",
        "201703",
        "20170309",
        "2017030910",
        "20170309101500.123456+0100",
        "20170309\\201704",
        "2017.03.09",
    ],
)
def test_partial_zoned_multiple_and_dotted_dates(tmp_path, profile, value):
    file = ct().having(
        e("AcquisitionDateTime", value),
        e("FrameReferenceDateTime", value),
        e("StudyDate", value.split("\\")[0][:10]),
        e("ScheduledProcedureStepStartDateTime", value),
    )
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks({"date": Secret("20170309", "date")}) == []
    for data in taken.released:
        assert b"201703" not in data
        assert b"2017.03" not in data


@pytest.mark.parametrize("time", ["240000", "24:00", "235960", "101500.999999", "10", ""])
def test_midnight_at_the_end_of_the_day_and_leap_seconds(tmp_path, profile, time):
    file = ct(StudyTime=time).having(
        e("AcquisitionDateTime", "20170309" + time.replace(":", "")),
        e("SeriesTime", time),
        e("ContentTime", time),
    )
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks({"date": Secret("20170309", "date")}) == []
    assert len(taken.released) + len(taken.reasons) == 1


@pytest.mark.parametrize("day", ["20160229", "20000229", "19000229", "20170230", "20171301", "20170000"])
def test_leap_days_and_days_that_are_none(tmp_path, profile, day):
    file = ct(StudyDate=day, PatientBirthDate=day).having(e("SeriesDate", day), e("AcquisitionDate", day))
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks({"date": Secret(day)}) == []
    assert taken.only


@pytest.mark.parametrize("year", ["1850", "9999", "0001", "1899", "2200"])
def test_the_years_1850_and_9999(tmp_path, profile, year):
    day = f"{year}0704"
    file = ct(StudyDate=day, PatientBirthDate=day).having(e("AcquisitionDateTime", day + "1200"))
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks({"date": Secret(day)}) == []
    assert len(taken.released) + len(taken.reasons) == 1
    for data in taken.released:
        assert day.encode() not in data


def test_one_patient_with_two_ids(tmp_path, profile):
    plant = Plant()
    others = [[e("PatientID", plant.number("sequence")), e("IssuerOfPatientID", plant.text("issuer"))]]
    files = [
        ct(PatientID=plant.number(f"own {n}"), SOPInstanceUID=f"1.2.3.{n}").having(
            e("OtherPatientIDs", "\\".join(plant.number(f"other {n} {m}") for m in range(2))),
            e("OtherPatientIDsSequence", others),
            e("ImagePositionPatient", f"0\\0\\{n}"),
        )
        for n in range(2)
    ]
    taken = take(tmp_path, *files, profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert len(taken.released) == 2


def test_two_patients_with_one_id(tmp_path, profile):
    """The issuer keeps them apart; without one they are one subject, and neither's name comes along."""
    plant = Plant()
    number = plant.number("shared id")
    files = [
        ct(PatientID=number, PatientName=plant.name(f"name {n}"), SOPInstanceUID=f"1.2.3.{n}").having(
            e("IssuerOfPatientID", f"HOSPITAL{n}"), e("ImagePositionPatient", f"0\\0\\{n}")
        )
        for n in range(2)
    ]
    taken = take(tmp_path, *files, profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert len({record.patient_key for record in taken.result.records}) == 2


def test_age_095y(tmp_path, profile):
    taken = take(tmp_path, ct(PatientAge="095Y", PatientBirthDate="19240101"), profile=profile)
    assert str(taken.dataset.get("PatientAge", "")) in ("", "090Y")
    assert b"095Y" not in taken.only


@pytest.mark.parametrize("birth", ["19220103", "19000101", "18990101"])
def test_an_age_over_89_that_follows_from_dates_only(tmp_path, profile, birth):
    taken = take(tmp_path, ct(PatientBirthDate=birth, StudyDate="20190417"), profile=profile)
    dataset = taken.dataset
    assert str(dataset.get("PatientAge", "")) in ("", "090Y")
    born, seen = str(dataset.get("PatientBirthDate", "")), str(dataset.get("StudyDate", ""))
    if born and seen:  # moved alike, two dates give the age away
        assert (date.fromisoformat(seen) - date.fromisoformat(born)).days < 90 * 365.25


def test_identifiers_as_numbers_in_kept_numeric_attributes(tmp_path, profile):
    """The patient's own number where a number belongs: held back or dropped, not passed through."""
    for keyword in (
        "InstanceNumber", "AcquisitionNumber", "SliceLocation", "WindowCenter", "TableHeight", "KVP", "SliceThickness",
        "RescaleIntercept", "ExposureTime", "ReconstructionDiameter", "ImagesInAcquisition",
    ):  # fmt: skip
        file = ct(PatientID="MRN88213947").having(e(keyword, "88213947"))
        taken = take(tmp_path / keyword, file, profile=profile)
        assert taken.leaks({keyword: "88213947"}) == []
